"""What is done to a direction once it is found: masks, lengths and decay that look at the weights.

Each is a link of a chain, `gdfx.per_leaf` on u and W, or makes one of a direction::

    direction = optax.chain(gdfx.cautious(gdfx.scale_by_adam()), gdfx.match_rms(0.2))
    tx = gdfx.descend(direction, 1e-3, weight_decay=0.1)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike

from gdfx.core import arguments, check, moments
from gdfx.core.arguments import NOT_NEGATIVE, POSITIVE, Number, checked
from gdfx.core.descend import chain, downhill, rate, refuse_optimizer
from gdfx.core.inner import in_float32
from gdfx.core.lift import per_leaf
from gdfx.core.moments import root, sum_sq
from gdfx.core.precision import as_array, dtype_of, narrow, widen
from gdfx.core.trees import Gradients

SHARE = Number("in (0, 1]", lambda x: 0 < x <= 1)


@checked(floor=SHARE)
def cautious(
    direction: optax.GradientTransformation, floor: ArrayLike = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """Keep of a direction what goes the gradient's way, and make the rest 0.

    ::

        (1) k = [u g > 0]                 one where u and g have the same sign, else zero
        (2) u ← u k / max(mean(k), floor)

    Args:
      direction: such as `gdfx.scale_by_adam`, without learning rate and weight decay.
      floor: the least share of kept numbers by which (2) divides, in (0, 1].

    Returns:
      A direction, whose state is that of the one inside.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` for trees that do not
        belong together.

    Differs: complex numbers are kept where Re(u g̅) > 0.

    Reference: arXiv:2411.16085, Algorithm 1; (2) as in the authors' C-AdamW.

    See also: `gdfx.add_cautious_weight_decay`.

    >>> import gdfx, jax.numpy as jnp
    >>> tx = gdfx.descend(gdfx.cautious(gdfx.scale_by_momentum(0.9)), 0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> _, state = tx.update(jnp.array([1.0, 1.0]), state)
    >>> print(tx.update(jnp.array([1.0, -0.1]), state)[0])
    [-0.38 -0.  ]
    """
    refuse_optimizer("cautious", direction, "would all be masked")
    tx = in_float32(direction)

    def kept(u: jax.Array, g: jax.Array) -> jax.Array:
        agree = (u * g.conj()).real > 0 if jnp.iscomplexobj(g) else u * g > 0
        k = agree | jnp.isnan(u * g)  # (1), and what is NaN is seen
        share = jnp.sum(k, dtype=u.real.dtype) / max(u.size, 1)
        return jnp.where(k, u, 0) / jnp.maximum(share, floor)  # (2)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        gradients = Gradients("cautious", updates)
        found, state = tx.update(updates, state, params, **extra_args)

        def step(i: int, g: Any, u: Any) -> list[jax.Array]:
            del i
            return [narrow(kept(widen(as_array(u)), widen(as_array(g))), dtype_of(g))]

        (kept_updates,) = gradients.each(step, [gradients.beside("updates", found)], [])
        return kept_updates, state

    return optax.GradientTransformationExtraArgs(tx.init, update)


@checked(rms=POSITIVE)
def match_rms(rms: ArrayLike = 0.2) -> optax.GradientTransformationExtraArgs:
    """Give each array of a direction one root mean square:  u ← rms u / √mean(u²).

    Args:
      rms: the root mean square, > 0; AdamW's steps have about 0.2 (arXiv:2502.16982, section 2.2).

    Raises:
      TypeError, ValueError: for an argument out of range, and by ``update`` for what is no tree of
        updates.

    See also: `gdfx.floor_update`, which only lengthens.

    >>> import gdfx, jax.numpy as jnp
    >>> tx = gdfx.match_rms(0.2)
    >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0])
    [0.16970564 0.22627418]
    """

    def rule(u):
        return rms * u / moments.rms(u)

    return per_leaf(optax.EmptyState, lambda p: (), rule)


@checked(ratio=NOT_NEGATIVE)
def floor_update(ratio: ArrayLike = 0.35) -> optax.GradientTransformationExtraArgs:
    """Lengthen the update of an array that is short beside the array.

    ::

        u ← u max(1, ratio ‖W‖ / ‖u‖)

    Args:
      ratio: the least ‖u‖/‖W‖, ≥ 0. An update of zero stays zero.

    Raises:
      TypeError, ValueError: for an argument out of range, and by ``update`` without the parameters.

    Reference: the "u/w floor" of the records of github.com/KellerJordan/modded-nanogpt, track 3.

    See also: `gdfx.hyperball`, which holds ‖W‖.

    >>> import gdfx, jax.numpy as jnp
    >>> tx, w = gdfx.floor_update(0.5), jnp.array([3.0, 4.0])
    >>> print(tx.update(jnp.array([0.0, 1.0]), tx.init(w), w)[0])
    [0.  2.5]
    """

    def rule(u, *, p):
        return u * jnp.maximum(1, ratio * root(sum_sq(p)) / root(sum_sq(u)))

    return per_leaf(optax.EmptyState, lambda p: (), rule)


class StepsState(NamedTuple):
    """A state that counts steps, for schedules."""

    count: Any


@checked
def add_cautious_weight_decay(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Weight decay where it goes the direction's way:  u ← u + λ W [u W ≥ 0].

    Args:
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: which leaves decay: a tree of bools, or a function from the parameters to one; None:
        all of them.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters.

    Differs: complex weights decay where Re(u W̅) ≥ 0.

    Reference: arXiv:2510.12402, Algorithm 1.

    See also: `gdfx.cautious`; `gdfx.corrected_decay`.

    >>> import gdfx, jax.numpy as jnp
    >>> tx, w = gdfx.add_cautious_weight_decay(0.1), jnp.array([1.0, -1.0])
    >>> print(tx.update(jnp.array([1.0, 1.0]), tx.init(w), w)[0])
    [1.1 1. ]
    """

    def scalars(t):
        return {"decay": rate(weight_decay, t)}

    def rule(u, *, p, decay):
        along = (u * p.conj()).real if jnp.iscomplexobj(p) else u * p
        return u + jnp.where(along >= 0, decay * p, 0)

    tx = per_leaf(StepsState, lambda p: (), rule, scalars=scalars)
    return tx if mask is None else optax.masked(tx, arguments.mask(mask))


@checked(peak=POSITIVE)
def corrected_decay(
    weight_decay: ArrayLike, learning_rate: optax.Schedule, peak: ArrayLike
) -> optax.Schedule:
    """Weight decay that falls with the learning rate:  λₜ = λ ηₜ / η_max, a schedule.

    Decoupled weight decay takes ηₜ λₜ W. Where a norm follows a layer, the ratio of ‖g‖ to ‖W‖
    then stays where it was while the rate falls, and does not rise at the end of a run.

    Args:
      weight_decay: λ ≥ 0, that of the peak.
      learning_rate: η, a schedule.
      peak: η_max > 0, the largest learning rate of the run.

    Raises:
      TypeError, ValueError: for arguments out of range.

    Reference: arXiv:2506.02285 (AdamC).

    See also: `gdfx.descend`; `optax.warmup_cosine_decay_schedule`.

    >>> import gdfx, optax
    >>> schedule = optax.linear_schedule(0.1, 0.0, 10)
    >>> decay = gdfx.corrected_decay(0.5, schedule, peak=0.1)
    >>> tx = gdfx.adamw(schedule, weight_decay=decay)
    >>> print(decay(0), decay(5))
    0.5 0.25
    """
    if not callable(learning_rate):
        raise TypeError(
            "corrected_decay: learning_rate must be a schedule, got "
            f"{arguments.describe(learning_rate)}; a constant one needs no correction"
        )
    schedule: Callable[[Any], Any] = arguments.schedule(learning_rate)
    return lambda count: weight_decay * schedule(count) / peak


@checked
def hyperball(
    direction: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Walk along a direction on a sphere: each array keeps its length.

    ::

        (1) R = ‖W‖
        (2) W' = W − η R u / ‖u‖
        (3) W ← R W' / ‖W'‖

    Args:
      direction: such as `gdfx.scale_by_muon` (MuonH) or `gdfx.scale_by_adam` (AdamH).
      learning_rate: η, a number ≥ 0 or a schedule: about the angle of a step, in radians.
      mask: which leaves stay on their sphere: a tree of bools, or a function from the parameters
        to one; the others take  W ← W − η u. None: all of them. Norms, biases and whatever
        starts at zero belong to another optimizer, as by `optax.partition`.

    Returns:
      A whole optimizer, without weight decay, which a sphere has no use for.

    Raises:
      TypeError, ValueError: for arguments out of range; by ``init`` for an array of zeros, which
        cannot leave its sphere, with its path; and by ``update`` without the parameters.

    Differs: R is the length of the step before, not that of the start, which are equal but for
    rounding: it needs no state.

    Reference: Wen et al., "Fantastic Pretraining Optimizers and Where to Find Them 2.1: Hyperball
    Optimization"; MuonH in the records of github.com/KellerJordan/modded-nanogpt, track 3.

    See also: `gdfx.floor_update`; `gdfx.fromage`.

    >>> import gdfx, jax.numpy as jnp
    >>> tx, w = gdfx.hyperball(gdfx.scale_by_sign(), 0.1), jnp.array([[3.0, 4.0]])
    >>> state = tx.init(w)
    >>> updates, state = tx.update(jnp.array([[1.0, 0.0]]), state, w)
    >>> print(jnp.linalg.norm(w + updates).round(4))
    5.0
    """
    refuse_optimizer("hyperball", direction, "would climb")

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(u, *, p, eta):
        length = root(sum_sq(p))  # (1)
        w = p - eta * length * (u / root(sum_sq(u)))  # (2)
        return length * (w / root(sum_sq(w))) - p  # (3)

    ball = per_leaf(StepsState, lambda p: (), rule, scalars=scalars)
    if mask is not None:
        on_ball = arguments.mask(mask)

        def groups(params: optax.Params) -> Any:
            chosen = on_ball(params) if callable(on_ball) else on_ball
            return jax.tree.map(lambda keep: "ball" if keep else "plain", chosen)

        ball = optax.partition({"ball": ball, "plain": downhill(learning_rate)}, groups)
    tx = chain(direction, ball)

    def init(params: optax.Params) -> optax.OptState:
        chosen = params if mask is None else _where(arguments.mask(mask), params)
        for path, p in jax.tree_util.tree_leaves_with_path(chosen):
            known = isinstance(p, jax.Array | np.ndarray) and not isinstance(p, Tracer)
            if known and p.size and not np.asarray(abs(p)).any():
                raise ValueError(
                    f"hyperball: parameter {check.at(path)} is zero, and would stay so; leave it "
                    "to another optimizer by a mask, or start it elsewhere"
                )
        return tx.init(params)

    return optax.GradientTransformationExtraArgs(init, tx.update)


def _where(mask: Any, params: optax.Params) -> Any:
    """The parameters that a mask names; None for others."""
    chosen = mask(params) if callable(mask) else mask
    return jax.tree.map(lambda keep, p: p if keep else None, chosen, params)
