"""What an older optax cannot do yet, done as the newest does it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class WeightDecaySchedule(NamedTuple):
    """The state of the same name in optax."""

    count: Any


def add_decayed_weights(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None
) -> optax.GradientTransformation:
    """`optax.add_decayed_weights`, which takes a schedule since optax 0.2.6."""
    link = optax.add_decayed_weights(weight_decay)
    if not callable(weight_decay) or jax.tree.leaves(jax.eval_shape(link.init, {})):
        return optax.add_decayed_weights(weight_decay, mask)

    def init(params: Any) -> WeightDecaySchedule:
        del params
        return WeightDecaySchedule(jnp.zeros([], jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, WeightDecaySchedule]:
        now: Any = weight_decay(state.count)
        link = optax.add_decayed_weights(now)
        updates, _ = link.update(updates, optax.EmptyState(), params)
        return updates, WeightDecaySchedule(optax.safe_increment(state.count))

    tx = optax.GradientTransformation(init, update)
    return tx if mask is None else optax.masked(tx, mask)
