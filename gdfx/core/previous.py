"""A second tree of gradients, which a caller may give in place of the last one in the state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core import check
from gdfx.core.moments import root, saturate, sum_sq
from gdfx.core.precision import as_array, dtype_of, narrow, widen
from gdfx.core.trees import Gradients, by_path


def with_previous(
    method: str,
    State: type[Any],  # noqa: N803
    usual: optax.GradientTransformationExtraArgs,
    exact: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """One transformation; where ``update`` is given ``previous``, the other one on that.

    Args:
      method: its name, for errors.
      State: the class of both their states, with a field ``last``.
      usual: what is done without.
      exact: what is done where the state's ``last`` is the tree that was given.
    """

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        previous: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        if previous is None:
            return usual.update(updates, state, params, **extra_args)
        check.state_kind(method, state, State)
        state = state._replace(last=_beside(method, updates, previous, state.last))
        return exact.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(exact.init, update)


def corrected_gradient(g: jax.Array, last: jax.Array, b1: ArrayLike, gamma: ArrayLike) -> jax.Array:
    """A gradient corrected by its change since the last one, and held to a length of 1.

    ::

        c = g + γ β₁/(1 − β₁) (g − g')          c / max(1, ‖c‖)
    """
    c = g + gamma * b1 / (1 - b1) * (g - last)
    return c / jnp.maximum(1, root(sum_sq(c)))


def _beside(method: str, updates: Any, previous: Any, last: Any) -> Any:
    """The previous gradients where there are some now, in the dtypes of the last ones."""
    gradients = Gradients(method, by_path(method, "previous", previous, updates))
    pairs = zip(gradients.leaves, gradients.beside("state's last", last), strict=True)
    return gradients.tree(
        [
            old if x is None else narrow(saturate(widen(as_array(x))), dtype_of(old))
            for x, old in pairs
        ]
    )
