"""Schedule-Free: an average steers the run, and no schedule need end it.

Aaron Defazio, Xingyu Yang, Harsh Mehta, Konstantin Mishchenko, Ahmed Khaled, Ashok Cutkosky, "The
Road Less Scheduled", 2024, arXiv:2405.15682, Algorithm 1 and equations (3) to (5); the authors'
package schedulefree 1.4.1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from optax.contrib import ScheduleFreeState

from gdfx.core import check
from gdfx.core.arguments import NOT_NEGATIVE, Choice, checked
from gdfx.core.averages import Reading, reading
from gdfx.core.descend import rate
from gdfx.core.inner import in_float32
from gdfx.core.lift import per_leaf
from gdfx.core.moments import ratio, start_value
from gdfx.core.precision import narrow_tree
from gdfx.core.trees import Gradients


class _Points(NamedTuple):
    """What a `ScheduleFreeState` holds beside the state of the optimizer inside."""

    b1: Any
    weight_sum: Any
    step_count: Any
    max_lr: Any
    z: Any


@checked(at=Choice("y", "z"), weight_lr_power=NOT_NEGATIVE, r=NOT_NEGATIVE)
def schedule_free(
    tx: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    weight_lr_power: ArrayLike = 2.0,
    *,
    r: ArrayLike = 0.0,
    at: str = "y",
) -> optax.GradientTransformationExtraArgs:
    """Walk with z, average to x, and take gradients at y between them.

    ::

        (1) u: the optimizer's update from the gradient at y
        (2) γ_max ← max(γ_max, γ)         w = tʳ γ_max^p        S ← S + w
        (3) c = w / S                     0 while S is 0
        (4) y ← y + c (z − y) + (1 − β (1 − c)) u
        (5) z ← z + u                     z = y at the start

    It is  x ← x + c (z − x)  with  y = β x + (1 − β) z,  without x. The parameters are y;
    `gdfx.eval_params` returns x, which is what to evaluate and to store.

    Args:
      tx: a whole optimizer, without momentum of its own: β is in its place.
      learning_rate: γ, that of ``tx``, for the weights in (2): a number ≥ 0 or a schedule, which
        may warm up and need not decay.
      b1: β in [0, 1), from gradients at z (0) to those at the average; longer runs want 0.95 or
        0.98.
      weight_lr_power: p ≥ 0: the larger, the less the steps of a warm-up count.
      r: ≥ 0: the larger, the more later steps count.
      at: the point that ``tx`` is given for its parameters, where it decays them, say: "y", or "z"
        as the authors' wrapper has it.

    Returns:
      A whole optimizer. It needs 4 bytes a parameter beside the state of ``tx``, and its state is
      optax's; z, S and γ_max are held in at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: optax forms x at every step, by dividing by β, and so needs β > 0. It asks the schedule
    of the weights one step ahead of the optimizer's, so that the first step of a warm-up moves
    nothing. It keeps S and γ_max in the lowest dtype of the parameters: in bfloat16 S stands still
    after 256 to 512 equal weights, and c with it. With β = 0 the parameters are z, and the state
    has x in the place of z.

    Reference: arXiv:2405.15682, equations (3) to (5); (2) as in schedulefree 1.4.1.

    See also: `gdfx.schedule_free_adamw`, `gdfx.schedule_free_sgd`; `gdfx.compensated`, around it,
    for parameters in low precision; `gdfx.averaged`, whose average steers nothing.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx = gdfx.schedule_free(gdfx.sgd(1.0), learning_rate=1.0)
    >>> w = jnp.array(0.0)
    >>> state = tx.init(w)
    >>> for _ in range(2):  # z: 3, 6
    ...     updates, state = tx.update(jnp.array(-3.0), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> print(w.round(4), gdfx.eval_params(state, w).round(4))  # x: (3 + 6) / 2
    4.65 4.5
    """
    inner = in_float32(tx)

    def scalars(weight_sum, max_lr, step_count):
        max_lr = jnp.maximum(max_lr, rate(learning_rate, step_count))
        w = jnp.asarray(step_count, max_lr.dtype) ** r * max_lr**weight_lr_power  # (2)
        weight_sum = weight_sum + w
        return {
            "c": ratio(w, weight_sum),  # (3)
            "b1": b1,
            "weight_sum": weight_sum,
            "max_lr": max_lr,
            "step_count": optax.safe_increment(step_count),
        }

    def rule(u, z, *, p, c, b1):
        p_is_z = b1 == 0
        x, z = z, jnp.where(p_is_z, p, z)  # of the two, the state has the one that p does not tell
        step = c * (z - p) + (1 - b1 * (1 - c)) * u  # (4)
        z = z + u  # (5)
        return step, jnp.where(p_is_z, x + c * (z - x), z)

    numbers = {"b1": 1.0 * b1, "weight_sum": 0.0, "step_count": np.int32(1), "max_lr": 0.0}
    points = per_leaf(_Points, start_value, rule, scalars=scalars, numbers=numbers)

    def init(params: optax.Params) -> ScheduleFreeState:
        own: Any = points.init(params)
        return ScheduleFreeState(**own._asdict(), base_optimizer_state=inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, ScheduleFreeState]:
        check.params_given("schedule_free", params)
        check.state_kind("schedule_free", state, ScheduleFreeState)
        gradients = Gradients("schedule_free", updates)
        point = gradients.tree_of(params if at == "y" else state.z)
        u, base = inner.update(updates, state.base_optimizer_state, point, **extra_args)
        own: Any = _Points(**{field: getattr(state, field) for field in _Points._fields})
        steps, own = points.update(u, own, params)
        after = ScheduleFreeState(**own._asdict(), base_optimizer_state=base)
        return narrow_tree(steps, updates), after

    return optax.GradientTransformationExtraArgs(init, update)


@reading.register
def _(state: ScheduleFreeState) -> Reading:
    def x(y: jax.Array, z: jax.Array) -> jax.Array:
        b1 = jnp.asarray(state.b1).astype(z.real.dtype)
        return jnp.where(b1 == 0, z, y + (1 - 1 / jnp.where(b1 == 0, 1, b1)) * (z - y))

    return Reading(state.z, x)
