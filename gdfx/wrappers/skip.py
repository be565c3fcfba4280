"""Guard a run against steps that are not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from gdfx.core import check
from gdfx.core.arguments import checked
from gdfx.core.inner import extended
from gdfx.core.precision import is_inexact


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`."""

    consecutive: jax.Array  # steps that were not finite since the last finite one, int32
    total: jax.Array  # steps that were not finite so far, int32
    inner_state: Any  # of the guarded transformation


@checked
def skip_nonfinite(
    tx: optax.GradientTransformation, max_consecutive: int = 10
) -> optax.GradientTransformationExtraArgs:
    """Leave parameters and state as they are where a step would not be finite.

    A step is skipped if a gradient or an update is NaN or Inf, or if a number in the state
    would turn from finite to NaN or Inf. The updates are then −0, the one number that leaves
    every parameter bitwise as it is, and the state of ``tx`` stays.

    Args:
      tx: the transformation to guard, usually the whole chain. Inside `jax.shard_map` each
        shard decides by its own numbers, so ``tx`` must not communicate with other shards there.
      max_consecutive: how many steps in a row may be skipped, a whole number ≥ 0. The next one
        is let through, NaN and all, so that the failure is seen.

    Raises:
      TypeError, ValueError: for a ``max_consecutive`` that is not a whole number ≥ 0.

    Differs: `optax.apply_if_finite` looks at the gradients alone, so an Inf that the optimizer
    itself makes goes through; and it adds +0, which turns −0 into +0.

    See also: `optax.clip_by_global_norm`, for gradients that are large but finite.

    >>> import gdfx, jax.numpy as jnp
    >>> tx = gdfx.skip_nonfinite(gdfx.adam(0.1))
    >>> w = jnp.array([1.0, 2.0])
    >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(w), w)
    >>> print(w + updates, state.total)
    [1. 2.] 1
    """
    tx = extended(tx)

    def init(params: optax.Params) -> SkipNonfiniteState:
        none, none_yet = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        return SkipNonfiniteState(none, none_yet, tx.init(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SkipNonfiniteState]:
        check.state_kind("skip_nonfinite", state, SkipNonfiniteState)

        def take() -> tuple[optax.Updates, optax.OptState]:
            return tx.update(updates, state.inner_state, params, **extra_args)

        new_updates, new_inner = take()

        def skip() -> tuple[optax.Updates, optax.OptState]:
            old = jax.tree.map(_in_dtype_of, state.inner_state, new_inner)
            return jax.tree.map(lambda u: -jnp.zeros_like(u), new_updates), old

        finite = _all(
            *map(_finite, jax.tree.leaves((updates, new_updates))),
            *jax.tree.map(_stays_finite, *map(jax.tree.leaves, (state.inner_state, new_inner))),
        )
        taken = finite | (state.consecutive >= max_consecutive)
        if isinstance(taken, Tracer):
            # Computed again where it is needed: compiled, that costs less than to hold both the
            # new and the old state in memory, of which most steps need one.
            new_updates, new_inner = jax.lax.cond(taken, take, skip)
        elif not taken:
            new_updates, new_inner = skip()
        return new_updates, SkipNonfiniteState(
            jnp.where(finite, 0, optax.safe_increment(state.consecutive)),
            jnp.where(finite, state.total, optax.safe_increment(state.total)),
            new_inner,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _in_dtype_of(old: Any, new: Any) -> Any:
    return old if old.dtype == new.dtype else old.astype(new.dtype)


def _finite(x: Any) -> jax.Array | None:
    return jnp.isfinite(x) if is_inexact(x) else None


def _stays_finite(old: Any, new: Any) -> jax.Array | None:
    """Some states hold Inf on purpose, such as the best loss so far at the start."""
    return jnp.isfinite(new) | ~jnp.isfinite(old) if is_inexact(new) else None


def _all(*arrays: jax.Array | None) -> jax.Array:
    """Whether all is True; what is of one shape and layout is looked at in one pass."""
    alike: dict[Any, jax.Array] = {}
    for x in arrays:
        if x is not None:
            kind = jax.typeof(x)
            alike[kind] = alike[kind] & x if kind in alike else x
    return jnp.all(jnp.array([jnp.all(x) for x in alike.values()], bool))
