"""Watch a run from inside: norms of gradients and updates, leaf by leaf."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer

from gdfx.core import check
from gdfx.core.arguments import Count, checked
from gdfx.core.inner import extended
from gdfx.core.precision import as_array, is_inexact, widen
from gdfx.core.trees import Gradients

MEASURES = (
    "gradient_norm",
    "update_norm",
    "ratio",
    "gradient_zeros",
    "gradient_nonfinite",
    "update_zeros",
    "update_nonfinite",
)
"""What is measured of a leaf, in the order in which it is held."""


class WatchState(NamedTuple):
    """State of `watch`."""

    count: jax.Array  # t, the number of steps, int32
    steps: jax.Array  # (keep,), the steps that were measured last, 0 for none, int32
    leaves: jax.Array  # (keep, leaves, 7), what was measured then
    accumulators: jax.Array  # (keep, arrays of the inner state, 2), lowest and highest number
    inner_state: Any  # of the watched optimizer


@checked(keep=Count(1))
def watch(
    tx: optax.GradientTransformation, every: int = 10, keep: int = 100
) -> optax.GradientTransformationExtraArgs:
    """Measure gradients, updates and state of an optimizer while it runs; the run stays the same.

    Of each leaf, in the steps 1, 1 + every, 1 + 2 every, …::

        ‖g‖                 gradient_norm
        ‖u‖                 update_norm
        ‖u‖ / ‖W‖           ratio, with W before the step; 0 where W is 0, NaN where it is not given
        shares of zeros     gradient_zeros, update_zeros
        shares of NaN, Inf  gradient_nonfinite, update_nonfinite

    and of each array of numbers in the inner state, after the step, the lowest and the highest
    number. The last measurements are held in the state, which so stays of one size; `watched` reads
    them from it at any time.

    Args:
      tx: the optimizer, gdfx's, optax's or any other; usually the whole chain.
      every: of how many steps one is measured, a whole number ≥ 1. The others cost a comparison.
      keep: how many measurements are held, a whole number ≥ 1; older ones are overwritten.

    Returns:
      An optimizer whose updates are bitwise those of ``tx``. Inside `jax.shard_map` each shard
      measures its own part; elsewhere leaves that are spread over devices are measured whole.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` for another's state.

    See also: `watched`; `gdfx.lab.plot_watch`, which draws it.

    >>> import gdfx, jax.numpy as jnp
    >>> tx = gdfx.watch(gdfx.sgd(0.1), every=1)
    >>> w = {"w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update({"w": jnp.array([0.0, 5.0])}, tx.init(w), w)
    >>> found = gdfx.watched(state, w)
    >>> print(found.paths, found["update_norm"], found["gradient_zeros"])
    ["['w']"] [[0.5]] [[0.5]]
    """
    tx = extended(tx)

    def init(params: optax.Params) -> WatchState:
        inner = tx.init(params)
        return WatchState(
            count=jnp.zeros((), jnp.int32),
            steps=jnp.zeros(keep, jnp.int32),
            leaves=_empty(keep, len(_leaves(params)), len(MEASURES)),
            accumulators=_empty(keep, len(_numbers(inner)), 2),
            inner_state=inner,
        )

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, WatchState]:
        check.state_kind("watch", state, WatchState)
        gradients = Gradients("watch", updates)
        weights = [None] * len(gradients.leaves)
        if params is not None:
            weights = gradients.parameters(params)
        if len(weights) != state.leaves.shape[1]:
            raise ValueError(
                f"watch: the state is of {state.leaves.shape[1]} parameters, and there are "
                f"gradients of {len(weights)}; pass what its own init returned for them"
            )
        updates, inner = tx.update(updates, state.inner_state, params, **extra_args)
        count = as_array(optax.safe_increment(state.count))
        done = as_array(state.count).astype(jnp.int32)  # a state that was cast has its count cast

        def measured() -> tuple[Any, Any, Any]:
            at = done // every % keep
            after = gradients.beside("updates", updates)
            rows = [_row(*leaf) for leaf in zip(gradients.leaves, after, weights, strict=True)]
            return (
                state.steps.at[at].set(count),
                _written(state.leaves, at, rows),
                _written(state.accumulators, at, [_extremes(x) for _, x in _numbers(inner)]),
            )

        def unmeasured() -> tuple[Any, Any, Any]:
            return state.steps, state.leaves, state.accumulators

        due = done % every == 0
        if isinstance(due, Tracer):
            steps, leaves, accumulators = lax.cond(due, measured, unmeasured)
        else:
            steps, leaves, accumulators = measured() if due else unmeasured()
        return updates, WatchState(count, steps, leaves, accumulators, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _empty(keep: int, count: int, width: int) -> jax.Array:
    return jnp.full((keep, count, width), jnp.nan, jnp.float32)


def _leaves(tree: Any) -> list[Any]:
    """All leaves; where a gradient may be missing, None is one."""
    return jax.tree.leaves(tree, is_leaf=lambda x: x is None)


def _measurable(x: Any) -> bool:
    return x is not None and is_inexact(x) and np.size(x) > 0


def _written(held: jax.Array, at: Any, rows: list[jax.Array]) -> jax.Array:
    return held.at[at].set(jnp.stack(rows)) if rows else held


def _row(g: Any, u: Any, w: Any) -> jax.Array:
    if not (_measurable(g) and _measurable(u)):
        return jnp.full(len(MEASURES), jnp.nan, jnp.float32)
    ratio: Any = jnp.nan
    if w is not None:
        length = _norm(w)
        ratio = jnp.where(length == 0, 0, _norm(u) / jnp.where(length == 0, 1, length))
    shares = (jnp.mean(test(x)) for x in (g, u) for test in (_is_zero, _is_nonfinite))
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in (_norm(g), _norm(u), ratio, *shares)])


def _is_zero(x: Any) -> Any:
    return x == 0


def _is_nonfinite(x: Any) -> Any:
    return ~jnp.isfinite(x)


def _norm(x: Any) -> jax.Array:
    """‖x‖, which overflows only where it is not representable; NaN and Inf stay."""
    size = jnp.abs(widen(x))
    largest = jnp.max(size)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(jnp.sum((size / scale) ** 2))


def _numbers(state: Any) -> list[tuple[Any, Any]]:
    """The arrays of a state that have extremes, each with its path; a cast leaves them the same."""
    pairs = jax.tree_util.tree_leaves_with_path(state)
    return [(path, x) for path, x in pairs if jnp.issubdtype(x.dtype, jnp.number) and x.size]


def _extremes(x: Any) -> jax.Array:
    size = jnp.abs(x) if jnp.iscomplexobj(x) else x
    return jnp.stack([jnp.min(size), jnp.max(size)]).astype(jnp.float32)


@dataclass(frozen=True)
class Watched:
    """What `watch` has measured, the oldest first."""

    steps: np.ndarray
    """Which steps were measured, (n,); the first is 1."""

    leaves: dict[str, np.ndarray]
    """By path, (n, 7), in the order of `MEASURES`."""

    accumulators: dict[str, np.ndarray]
    """By path in the inner state, (n, 2): the lowest and the highest number."""

    @property
    def paths(self) -> list[str]:
        """Of the leaves."""
        return list(self.leaves)

    def __getitem__(self, measure: str) -> np.ndarray:
        """One of `MEASURES` of all leaves, (n, leaves).

        Raises:
          KeyError: for another name, with those that there are.
        """
        if measure not in MEASURES:
            raise KeyError(f"there is no measure {measure!r}; there are {', '.join(MEASURES)}")
        at = MEASURES.index(measure)
        return np.stack([rows[:, at] for rows in self.leaves.values()], axis=1)


def watched(state: Any, params: optax.Params) -> Watched:
    """What `watch` has measured so far, read from the optimizer's state.

    Args:
      state: that of `watch`, or one that has it inside, as that of a chain.
      params: the parameters, whose paths name the leaves.

    Raises:
      ValueError: where no `watch` is in the state, or more than one, and for parameters that are
        not those watched.

    See also: `watch`.
    """
    found = [
        x
        for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, WatchState))
        if isinstance(x, WatchState)
    ]
    if len(found) != 1:
        raise ValueError(
            f"watched: the state of one gdfx.watch is read, and {len(found) or 'none'} "
            f"{'is' if len(found) < 2 else 'are'} in this one"
        )
    (watching,) = found
    count = watching.leaves.shape[1]
    if len(_leaves(params)) != count:
        raise ValueError(
            f"watched: the parameters have {len(_leaves(params))} leaves, and {count} were watched"
        )
    steps = np.asarray(watching.steps)
    order = np.argsort(steps)[np.count_nonzero(steps == 0) :]
    return Watched(
        steps[order],
        _by_path(params, np.asarray(watching.leaves)[order]),
        {
            check.at(path): np.asarray(watching.accumulators)[order][:, i]
            for i, (path, _) in enumerate(_numbers(watching.inner_state))
        },
    )


def _by_path(tree: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None)
    return {check.at(path): rows[:, i] for i, (path, x) in enumerate(pairs) if _measurable(x)}
