"""DoG, L-DoG and DoWG: the distance from the start over the gradients.

Maor Ivgi, Oliver Hinder, Yair Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size
Schedule", ICML 2023, arXiv:2302.12022, equations (1) and (2); the authors' package dog-optimizer
1.0.3. Ahmed Khaled, Konstantin Mishchenko, Chi Jin, "DoWG Unleashed: An Efficient Universal
Parameter-Free Gradient Descent Method", NeurIPS 2023, arXiv:2305.16284, Algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import POSITIVE, Optional, checked, is_off
from gdfx.core.descend import rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, root, saturate, sqrt, start_value, sum_sq

_ARGUMENTS = {"reps_rel": POSITIVE, "init_eta": Optional(POSITIVE)}


class DistanceState(NamedTuple):
    """State of `dog` and `dowg`."""

    count: Any  # steps done, int32
    d: Any  # r: the largest distance from the start so far
    total: Any  # G: the sum of the squared gradients, in `dowg` times r²
    p0: Any  # the parameters at the start


class DistancesState(NamedTuple):
    """State of `ldog`, with numbers of each array."""

    count: Any  # steps done, int32
    d: Any  # r: the largest distance from the start so far
    total: Any  # G: the sum of the squared gradients
    p0: Any  # the parameters at the start


@checked(**_ARGUMENTS)
def dog(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    reps_rel: ArrayLike = 1e-6,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    init_eta: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """SGD whose rate is the distance from the start over the root of all squared gradients.

    ::

        (1) g ← g + λ W
        (2) r ← max(r, ‖W − W₀‖)          r = reps_rel (1 + ‖W₀‖) at the start
        (3) G ← G + ‖g‖²                  G = ε at the start
        (4) W ← W − γ r / √G g

    The norms are over all leaves that have a gradient. Evaluate an average of W:
    ``gdfx.averaged(gdfx.dog(), gamma=8)`` is the authors'. With `optax.tree.get(state, "d")`, or
    `optax.tree_utils.tree_get` in older versions, r is read from the state.

    Args:
      learning_rate: γ, a number ≥ 0, or a schedule: a function from the number of steps done so far
        (0 at the first) to such a number. Leave it at 1.
      reps_rel: > 0, how far the first step goes, as a part of 1 + ‖W₀‖; with batch normalization
        the authors take 1e-4.
      eps: ε ≥ 0, in the unit of |g|².
      weight_decay: λ, a number ≥ 0 or a schedule, for all leaves; it is part of the gradient.
      init_eta: > 0, the rate of the first step, in place of ``reps_rel``.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: with ``init_eta`` the authors' stands still for ever if the first gradient is zero;
    here the rate is that of the first step until something has moved. optax.contrib.dog's
    parameters are these to 1e-15, over 240 steps in float64; its state has the parameters at the
    start themselves, which therefore cannot be donated. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count
    as that.

    Purpose: SGD without a learning rate to tune (abstract of arXiv:2302.12022).

    Reference: arXiv:2302.12022, equations (1) and (2); the authors' dog.py.

    See also: `gdfx.ldog`, for each leaf by itself; `gdfx.dowg`; `gdfx.averaged`.
    """

    def measure(g, p0, *, p, t):
        g = _pulled(g, p, weight_decay, rate(weight_decay, t))  # (1)
        return {"sq": sum_sq(g), "far": sum_sq(_way(p, p0, t))}

    def scalars(t, d, total, sq, far):
        total = total + sq  # (3)
        d = _farthest(d, t, far, reps_rel, init_eta)  # (2)
        eta = _step_size(rate(learning_rate, t) * d / root(total), d, init_eta)
        return {"d": d, "total": total, "eta": eta, "shrink": rate(weight_decay, t)}

    def rule(g, p0, *, p, eta, shrink):
        return -eta * saturate(_pulled(g, p, weight_decay, shrink)), p0  # (4)

    numbers = {"d": 0.0, "total": 1.0 * eps}
    return per_leaf(
        DistanceState, start_value, rule, scalars=scalars, measure=measure, numbers=numbers
    )


def _farthest(
    d: Any, t: Any, far: Any, reps_rel: ArrayLike, init_eta: ArrayLike | None
) -> jax.Array:
    """(2): the largest distance so far; the first is a part of the parameters' size, or 0."""
    first = reps_rel * (1 + sqrt(far)) if init_eta is None else 0.0
    return jnp.where(t == 1, first, jnp.maximum(d, sqrt(far)))


def _way(p: jax.Array, p0: jax.Array, t: jax.Array) -> jax.Array:
    """W − W₀; in the first step, where that is 0 and the size is asked for, W₀ itself."""
    return p - (t > 1).astype(p0.dtype) * p0


def _pulled(g: jax.Array, p: jax.Array, weight_decay: Any, shrink: Any) -> jax.Array:
    """(1), where λ is ``shrink``; without decay g itself, and the parameters are not read."""
    return g if is_off(weight_decay) else saturate(g) + shrink * p


def _step_size(eta: jax.Array, d: jax.Array, init_eta: ArrayLike | None) -> jax.Array:
    """The rate in (4), or the one given until something has moved."""
    return eta if init_eta is None else jnp.where(d > 0, eta, init_eta)


@checked(**_ARGUMENTS)
def ldog(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    reps_rel: ArrayLike = 1e-6,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    init_eta: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """DoG on each array by itself.

    ::

        (1) g ← g + λ W
        (2) r ← max(r, ‖W − W₀‖)          r = reps_rel (1 + ‖W₀‖) at the start
        (3) G ← G + ‖g‖²                  G = ε at the start
        (4) W ← W − γ r / √G g

    r and G are numbers of each array. Evaluate an average of W, as with `dog`.

    Args:
      learning_rate, reps_rel, eps, weight_decay, init_eta: as in `dog`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: as `dog`, for each array: one whose first gradient is zero waits for its own.

    Purpose: DoG for models whose layers have gradients of different sizes (arXiv:2302.12022,
    section 4).

    Reference: arXiv:2302.12022, section 4; the authors' dog.py.

    See also: `gdfx.dog`; `gdfx.averaged`.
    """

    def init(p):
        number = jax.ShapeDtypeStruct((), p.dtype)
        return accumulator(number, real=True), accumulator(number, eps, real=True), start_value(p)

    def scalars(t):
        return {"gamma": rate(learning_rate, t), "shrink": rate(weight_decay, t)}

    def rule(g, d, total, p0, *, p, t, gamma, shrink):
        g = _pulled(g, p, weight_decay, shrink)  # (1)
        total = total + sum_sq(g)  # (3)
        d = _farthest(d, t, sum_sq(_way(p, p0, t)), reps_rel, init_eta)  # (2)
        eta = _step_size(gamma * d / root(total), d, init_eta)
        return -eta * saturate(g), d, total, p0  # (4)

    return per_leaf(DistancesState, init, rule, scalars=scalars)


@checked(d0=POSITIVE)
def dowg(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    d0: ArrayLike = 1e-2,
    eps: ArrayLike = 1e-4,
    weight_decay: optax.ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """SGD whose rate is the squared distance from the start over weighted gradients.

    ::

        (1) g ← g + λ W
        (2) r ← max(r, ‖W − W₀‖)          r = d₀ at the start
        (3) G ← G + r² ‖g‖²               G = 0 at the start
        (4) W ← W − γ r² / (√G + ε) g

    The norms are over all leaves that have a gradient. With `optax.tree.get(state, "d")`, or
    `optax.tree_utils.tree_get` in older versions, r is read from the state.

    Args:
      learning_rate: γ, a number ≥ 0, or a schedule: a function from the number of steps done so far
        (0 at the first) to such a number. Leave it at 1.
      d0: d₀ > 0, r at the start, which should be below what is right.
      eps: ε ≥ 0, beside √G.
      weight_decay: λ, a number ≥ 0 or a schedule, for all leaves; it is part of the gradient.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: the paper has no ε in (4). It and d₀ = √ε are optax.contrib.dowg's, whose parameters
    are these to 1e-15, over 240 steps in float64. The package dowg 0.3.1 clips each gradient at
    ±0.5 and is no reference. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Purpose: gradient descent without a learning rate to tune, as fast on smooth losses as on
    others (abstract of arXiv:2305.16284).

    Reference: arXiv:2305.16284, Algorithm 1.

    See also: `gdfx.dog`.
    """

    def measure(g, p0, *, p, t):
        g = _pulled(g, p, weight_decay, rate(weight_decay, t))  # (1)
        return {"sq": sum_sq(g), "far": sum_sq(p - p0)}

    def scalars(t, d, total, sq, far):
        d = jnp.maximum(d, sqrt(far))  # (2)
        total = total + (d * sqrt(sq)) ** 2  # (3)
        eta = rate(learning_rate, t) * d * d / root(total, 0.0, eps)
        return {"d": d, "total": total, "eta": eta, "shrink": rate(weight_decay, t)}

    def rule(g, p0, *, p, eta, shrink):
        return -eta * saturate(_pulled(g, p, weight_decay, shrink)), p0  # (4)

    numbers = {"d": 1.0 * d0, "total": 0.0}
    return per_leaf(
        DistanceState, start_value, rule, scalars=scalars, measure=measure, numbers=numbers
    )
