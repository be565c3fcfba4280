"""D-Adaptation: SGD and AdamW whose rate is a bound on how far the solution is.

Aaron Defazio, Konstantin Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023,
arXiv:2301.07733, Algorithms 4 and 5; the authors' package dadaptation 3.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import POSITIVE, Number, Optional, checked
from gdfx.core.descend import rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrected_rate,
    ema,
    inner_product,
    magnitude,
    ratio,
    root,
    saturate,
    sqrt,
    start_value,
    sum_sq,
)

_ARGUMENTS = {"d0": POSITIVE, "growth_rate": Optional(Number("> 1", lambda x: x > 1))}


class DAdaptSGDState(NamedTuple):
    """State of `dadapt_sgd`."""

    count: Any  # steps done, int32
    d: Any  # the estimate of how far it is
    numerator: Any  # of the estimate
    g0: Any  # the norm of the first gradient that is not zero
    s: Any  # the sum of the steps
    p0: Any  # the parameters at the start


class DAdaptAdamWState(NamedTuple):
    """State of `dadapt_adamw`."""

    count: Any  # steps done, int32
    d: Any  # the estimate of how far it is
    numerator: Any  # of the estimate
    mu: Any  # m: running mean of the steps before the division
    nu: Any  # v: running mean of |g|²
    s: Any  # running mean of the steps before the division, of another memory


def _grown(d: jax.Array, found: jax.Array, growth_rate: ArrayLike | None) -> jax.Array:
    """The new d: the estimate where that is larger, by as much as d may grow."""
    return jnp.maximum(d, found if growth_rate is None else jnp.minimum(found, growth_rate * d))


@checked(**_ARGUMENTS)
def dadapt_sgd(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    decay: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    d0: ArrayLike = 1e-6,
    growth_rate: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """SGD with a rate d that is found: a lower bound on how far the solution is.

    ::

        (1) η = γ d / ‖g₀‖                g₀: the first gradient that is not zero
        (2) g ← g + λ W
        (3) n ← n + η Σ g s               s ← s + η g
        (4) d ← max(d, min(2 n / ‖s‖, growth d))
        (5) W ← α W + (1 − α) (W₀ − s)

    Sums and norms are over all leaves that have a gradient. With `optax.tree.get(state, "d")`, or
    `optax.tree_utils.tree_get` in older versions, d is read from the state.

    Args:
      learning_rate: γ, a number ≥ 0, or a schedule: a function from the number of steps done so far
        (0 at the first) to such a number. Leave it at 1, or let it fall from there.
      decay: α in [0, 1), the momentum.
      weight_decay: λ, a number ≥ 0 or a schedule, for all leaves; it is part of the gradient.
      d0: d at the start, > 0, which should be below what is right.
      growth_rate: > 1, by how much d may grow in a step; None: without bounds.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: the authors divide by the norm of the very first gradient, and are NaN for ever where
    that is zero. ‖s‖² is summed up from its parts, so that s is passed once. Gradients beyond
    2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Purpose: SGD without a learning rate to tune (abstract of arXiv:2301.07733).

    Reference: arXiv:2301.07733, Algorithm 4; the authors' dadapt_sgd.py.

    See also: `gdfx.dadapt_adamw`; `gdfx.dog`.
    """

    def init(p):
        return accumulator(p), start_value(p)

    def measure(g, s, p0, *, p, t):
        del p0
        raw = saturate(g)
        g = raw + rate(weight_decay, t) * p  # (2)
        along = inner_product(g, s)
        return {"raw": sum_sq(raw), "sq": sum_sq(g), "along": along, "size": sum_sq(s)}

    def scalars(t, d, numerator, g0, raw, sq, along, size):
        g0 = jnp.where(g0 > 0, g0, sqrt(raw))
        eta = ratio(rate(learning_rate, t) * d, g0)  # (1)
        numerator = numerator + eta * along  # (3)
        step = eta * sqrt(sq)
        length = sqrt(size + 2 * eta * along + step * step)  # ‖s + η g‖
        d = _grown(d, ratio(2 * numerator, length), growth_rate)  # (4)
        new = {"d": d, "numerator": numerator, "g0": g0}
        return new | {"eta": eta, "shrink": rate(weight_decay, t)}

    def rule(g, s, p0, *, p, eta, shrink):
        s = s + eta * (saturate(g) + shrink * p)  # (2), (3)
        return (1 - decay) * ((p0 - p) - s), s, p0  # (5)

    numbers = {"d": 1.0 * d0, "numerator": 0.0, "g0": 0.0}
    return per_leaf(DAdaptSGDState, init, rule, scalars=scalars, measure=measure, numbers=numbers)


@checked(**_ARGUMENTS)
def dadapt_adamw(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    d0: ArrayLike = 1e-6,
    growth_rate: ArrayLike | None = None,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """AdamW with a rate d that is found: a lower bound on how far the solution is.

    ::

        (1) η = γ d
            with bias correction  η = γ d √(1 − β₂ᵗ) / (1 − β₁ᵗ)
        (2) n ← √β₂ n + (1 − √β₂) η Σ g s / (√v + ε)
        (3) m ← β₁ m + (1 − β₁) η g       v ← β₂ v + (1 − β₂) |g|²
            s ← √β₂ s + (1 − √β₂) η g
        (4) d ← max(d, min(n / ((1 − √β₂) Σ|s|), growth d))
        (5) W ← W − m / (√v + ε) − η λ W

    The sums are over all leaves that have a gradient. With `optax.tree.get(state, "d")`, or
    `optax.tree_utils.tree_get` in older versions, d is read from the state.

    Args:
      learning_rate: γ, a number ≥ 0, or a schedule: a function from the number of steps done so far
        (0 at the first) to such a number. Leave it at 1, or let it fall from there.
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v and, as √β₂, of n and s.
      eps: ε ≥ 0, outside the root.
      weight_decay: λ, a number ≥ 0 or a schedule, for all leaves.
      d0: d at the start, > 0, which should be below what is right.
      growth_rate: > 1, by how much d may grow in a step; None: without bounds.
      bias_correction: whether (1) makes up for the start of m and v at 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: weight decay is the authors' ``decouple=True``; their default is
    ``optax.chain(optax.add_decayed_weights(λ), gdfx.dadapt_adamw())``. Where all gradients so far
    were zero, they leave the step out. optax.contrib.dadapt_adamw always corrects the bias, and is
    NaN for ever after a first gradient of zero. Its parameters are these with ``bias_correction``
    to 1e-14, over 240 steps in float64; without, nothing is alike after 50. Its state has other
    names. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Purpose: AdamW without a learning rate to tune (abstract of arXiv:2301.07733).

    Reference: arXiv:2301.07733, Algorithm 5; the authors' dadapt_adam.py.

    See also: `gdfx.prodigy`, whose d grows sooner; `gdfx.adamw`.
    """
    b3 = b2**0.5

    def eta_of(d: jax.Array, t: jax.Array) -> jax.Array:
        eta = d * rate(learning_rate, t)
        return corrected_rate(eta, t, b1, b2) if bias_correction else eta  # (1)

    def init(p):
        return accumulator(p), accumulator(p, real=True), accumulator(p)

    def measure(g, mu, nu, s, *, d, t):
        del mu
        g = saturate(g)
        along = inner_product(g, s / root(nu, 0.0, eps))
        return {"along": along, "size": jnp.sum(magnitude(ema(s, eta_of(d, t) * g, b3)))}

    def scalars(t, d, numerator, along, size):
        eta = eta_of(d, t)
        numerator = ema(numerator, eta * along, b3)  # (2)
        d = _grown(d, ratio(numerator, (1 - b3) * size), growth_rate)  # (4)
        new = {"d": d, "numerator": numerator}
        return new | {"eta": eta, "shrink": eta * rate(weight_decay, t)}

    def rule(g, mu, nu, s, *, p, eta, shrink):
        g = saturate(g)
        mu, nu, s = ema(mu, eta * g, b1), ema(nu, abs_sq(g), b2), ema(s, eta * g, b3)  # (3)
        return -mu / root(nu, 0.0, eps) - shrink * p, mu, nu, s  # (5)

    numbers = {"d": 1.0 * d0, "numerator": 0.0}
    return per_leaf(DAdaptAdamWState, init, rule, scalars=scalars, measure=measure, numbers=numbers)
