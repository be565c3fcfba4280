"""Guard a run against steps that are not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdfx.core import check


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`."""

    consecutive: jax.Array  # steps that were not finite since the last finite one, int32
    total: jax.Array  # steps that were not finite so far, int32
    inner_state: Any  # of the guarded transformation


@check.arguments
def skip_nonfinite(
    tx: optax.GradientTransformation, max_consecutive: int = 10
) -> optax.GradientTransformationExtraArgs:
    """Leave parameters and state as they are where a step would not be finite.

    A step is skipped if a gradient or an update is NaN or Inf, or if a number in the state
    would become so that was finite before. Its updates are then −0, the one number that
    leaves every parameter bitwise as it is, and the state of ``tx`` stays.

    Args:
      tx: the transformation to guard, usually the whole chain.
      max_consecutive: after so many skipped steps in a row the failure is let through, so
        that it is seen: the next one's updates and state are what ``tx`` made of them.

    Raises:
      TypeError, ValueError: for a ``max_consecutive`` that is not a whole number ≥ 0.

    Differs: `optax.apply_if_finite` looks at the gradients alone, so that Inf made by the
    optimizer itself goes through; and it adds +0, which turns −0 into +0.

    >>> import gdfx, jax.numpy as jnp
    >>> tx = gdfx.skip_nonfinite(gdfx.adam(0.1))
    >>> w = jnp.array([1.0, 2.0])
    >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(w), w)
    >>> print(w + updates, state.total)
    [1. 2.] 1
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: optax.Params) -> SkipNonfiniteState:
        none = jnp.zeros((), jnp.int32)
        return SkipNonfiniteState(none, none, tx.init(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SkipNonfiniteState]:
        check.state_kind("skip_nonfinite", state, SkipNonfiniteState)
        new_updates, new_inner = tx.update(updates, state.inner_state, params, **extra_args)
        finite = (
            _all_finite(updates)
            & _all_finite(new_updates)
            & _all_stay_finite(state.inner_state, new_inner)
        )
        taken = finite | (state.consecutive >= max_consecutive)

        def choose(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, old)

        return choose(new_updates, jax.tree.map(_nothing, new_updates)), SkipNonfiniteState(
            jnp.where(finite, 0, optax.safe_increment(state.consecutive)),
            jnp.where(finite, state.total, optax.safe_increment(state.total)),
            choose(new_inner, state.inner_state),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _nothing(u: Any) -> jax.Array:
    return -jnp.zeros_like(u)


def _all_finite(tree: Any) -> jax.Array:
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if check.is_inexact(x)]
    return jnp.all(jnp.array(leaves, bool))


def _all_stay_finite(old: Any, new: Any) -> jax.Array:
    """Some states hold Inf on purpose, such as the best loss so far at the start."""
    leaves = [
        jnp.all(jnp.isfinite(b) | ~jnp.isfinite(a))
        for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
        if check.is_inexact(b)
    ]
    return jnp.all(jnp.array(leaves, bool))
