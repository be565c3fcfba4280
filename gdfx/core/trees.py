"""A tree of gradients, and what other trees hold beside each of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import SequenceKey

from gdfx.core import check
from gdfx.core.check import at, kind_of
from gdfx.core.precision import dtype_of, is_inexact
from gdfx.core.words import listed


class Gradients:
    """The leaves of a tree of gradients, and what other trees hold beside them.

    Where a gradient is None, nothing moves: other trees may hold there whatever they like, such
    as a frozen array, or what is no array at all in a model that is handed over whole.
    """

    def __init__(self, method: str, updates: Any):
        """Refuse gradients that are no floating or complex arrays."""
        self.method = method
        self.leaves, self.structure = jax.tree.flatten(updates, is_leaf=_is_none)
        for i, g in enumerate(self.leaves):
            if g is not None and not is_inexact(g):
                raise TypeError(
                    f"{method}: gradient {self.path(i)} is {kind_of(g)}, but must be a floating "
                    "or complex array"
                )

    def path(self, i: int) -> str:
        """Where the i-th gradient stands; found only when it is needed."""
        return at(self._paths()[i])

    def tree(self, column: Sequence[Any]) -> Any:
        """What belongs to each gradient, as a tree like theirs."""
        return self.structure.unflatten(column)

    def each(
        self,
        step: Callable[..., Sequence[Any]],
        beside: Sequence[Sequence[Any]],
        kept: Sequence[Sequence[Any]],
    ) -> list[Any]:
        """Trees of updates and of what is kept, by a step on each gradient.

        ``step(i, g, *beside, *kept)`` returns the i-th update and the kept arrays anew. Where
        there is no gradient there is no update, and what is kept stays as it is.
        """
        rows = [
            (None, *old) if g is None else step(i, g, *others, *old)
            for i, (g, others, old) in enumerate(
                zip(self.leaves, self._rows(beside), self._rows(kept), strict=True)
            )
        ]
        return [self.tree(column) for column in columns(rows, 1 + len(kept))]

    def _rows(self, columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return list(zip(*columns, strict=True)) if columns else [()] * len(self.leaves)

    def beside(self, name: str, tree: Any) -> list[Any]:
        """What another tree holds beside each gradient; refuse one that does not fit."""
        found = self._up_to(name, tree)
        for g, x in zip(self.leaves, found, strict=True):
            if g is not None and not _is_leaf(x):
                raise self._differ(name, tree)
        return found

    def _up_to(self, name: str, tree: Any) -> list[Any]:
        """What another tree, which may go deeper, holds beside each gradient."""
        try:
            return self.structure.flatten_up_to(tree)
        except (ValueError, TypeError):
            raise self._differ(name, tree) from None

    def parameters(self, params: Any) -> list[Any]:
        """The parameters beside the gradients; refuse those that these are not gradients of."""
        found = self.beside("parameters", params)
        for i, (g, p) in enumerate(zip(self.leaves, found, strict=True)):
            if g is None:
                continue
            if np.shape(g) != np.shape(p):
                raise ValueError(
                    f"{self.method}: gradient {self.path(i)} has shape {np.shape(g)}, but its "
                    f"parameter has shape {np.shape(p)}; they must be equal"
                )
            if dtype_of(g) != dtype_of(p) and jnp.iscomplexobj(g) and not jnp.iscomplexobj(p):
                raise TypeError(
                    f"{self.method}: gradient {self.path(i)} is {kind_of(g)}, but its parameter is "
                    f"{kind_of(p)}; take the real part of the gradient"
                )
        return found

    def tree_of(self, params: Any) -> Any:
        """The parameters that have a gradient, None in place of the others; None if not given."""
        if params is None:
            return None
        return _where_moved(self.leaves, self.structure, self.parameters(params))

    def accumulators(
        self, fields: dict[str, Any], fresh: Callable[[int], Sequence[Any]]
    ) -> list[list[Any]]:
        """The accumulators of each field beside the gradients; refuse those of other parameters.

        ``fresh`` tells the shapes and dtypes that the i-th one's accumulators have at the start.
        """
        columns: list[list[Any]] = []
        for k, (field, tree) in enumerate(fields.items()):
            columns.append(self._up_to(f"state's {field}", tree))
            for i, (g, a) in enumerate(zip(self.leaves, columns[-1], strict=True)):
                usual = _is_leaf(a) and np.shape(a) == np.shape(g) and is_inexact(a)
                if g is None or usual:
                    continue
                right = fresh(i)[k]
                if jax.tree.structure(a) != jax.tree.structure(right):
                    raise self._differ(f"state's {field}", tree)
                for x, like in zip(jax.tree.leaves(a), jax.tree.leaves(right), strict=True):
                    self._check_accumulator(i, field, x, like)
        return columns

    def _check_accumulator(self, i: int, field: str, a: Any, right: Any) -> None:
        if np.shape(a) != right.shape:
            raise ValueError(
                f"{self.method}: gradient {self.path(i)} has shape {np.shape(self.leaves[i])}, but "
                f"its {field} in the state has shape {np.shape(a)}, not {right.shape}; the state "
                "was made for other parameters"
            )
        if is_inexact(right) and not is_inexact(a):
            raise TypeError(
                f"{self.method}: {field} {self.path(i)} in the state is {kind_of(a)}, but must be "
                "a floating or complex array"
            )

    def _paths(self) -> list[Any]:
        numbered = self.structure.unflatten(range(len(self.leaves)))
        return [path for path, _ in jax.tree_util.tree_leaves_with_path(numbered)]

    def _differ(self, name: str, tree: Any) -> ValueError:
        """What to say of a tree that does not fit: the first path that one of the two lacks."""
        others = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        own = list(zip(self._paths(), self.leaves, strict=True))
        for path in others:
            held = any(path == p or (g is None and path[: len(p)] == p) for p, g in own)
            if not held:
                words = f"the gradients lack {at(path)}, which the {name} have"
                return ValueError(f"{self.method}: {words}")
        for path, g in own:
            if g is not None and path not in others:
                words = f"the gradients have {at(path)}, which the {name} lack"
                return ValueError(f"{self.method}: {words}")
        return ValueError(
            f"{self.method}: the gradients and the {name} have the same leaves in different "
            f"containers: {self.structure} and {jax.tree.structure(tree)}"
        )


def fitting(
    method: str, tx: optax.GradientTransformationExtraArgs, kind: type[Any]
) -> optax.GradientTransformationExtraArgs:
    """The same transformation, whose states are of a kind; trees that do not fit are refused."""

    def init(params: optax.Params) -> optax.OptState:
        check.parameters(method, params)
        return tx.init(params)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        gradients = Gradients(method, updates)
        check.state_kind(method, state, kind)
        return tx.update(updates, state, gradients.tree_of(params), **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)


def parted(
    method: str,
    transforms: Mapping[str, optax.GradientTransformation],
    groups: Callable[[optax.Params], Any],
) -> optax.GradientTransformationExtraArgs:
    """`optax.partition`, which refuses trees and states that do not fit."""
    links: dict[Any, optax.GradientTransformation] = {**transforms}
    parts = optax.partition(links, groups)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        if state.inner_states.keys() != transforms.keys():
            raise TypeError(
                f"{method}: the state must be of the groups {listed(list(transforms))}, got "
                f"{listed(list(state.inner_states))}"
            )
        return parts.update(updates, state, params, **extra_args)

    return fitting(method, parts._replace(update=update), optax.transforms.PartitionState)


def by_path(method: str, name: str, tree: Any, like: Any) -> Any:
    """What a tree holds at the places of another one, which may have fewer, as inside a mask."""
    known = {at(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}

    def one(path: Any, y: Any) -> Any:
        x = known.get(at(path))
        if x is None or np.shape(x) != np.shape(y):
            held = "nothing" if x is None else f"shape {np.shape(x)}"
            raise ValueError(
                f"{method}: {name} must have an array like {at(path)}, of shape {np.shape(y)}; it "
                f"has {held} there"
            )
        return x

    return jax.tree_util.tree_map_with_path(one, like)


def standing(leaves: Iterable[tuple[Any, Any]], params: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Of what stands in a state for a parameter: its path, up to the field, and the parameter's.

    Its path ends as the parameter's does, behind the name of a field, and it has its shape.
    """
    shapes: dict[Any, set[Any]] = {}
    for path, p in jax.tree_util.tree_leaves_with_path(params):
        if is_inexact(p):
            shapes.setdefault(np.shape(p), set()).add(path)
    for path, x in leaves:
        for end in shapes.get(np.shape(x), ()):
            start = path[: len(path) - len(end)]
            if path[len(start) :] == end and not (start and isinstance(start[-1], SequenceKey)):
                yield path, start, end
                break


def with_gradients(updates: Any, params: Any) -> Any:
    """The parameters that have a gradient; others are None, as their gradients are.

    A tree that does not fit is returned as it is: who walks it will refuse it.
    """
    leaves, structure = jax.tree.flatten(updates, is_leaf=_is_none)
    try:
        return _where_moved(leaves, structure, structure.flatten_up_to(params))
    except (ValueError, TypeError):
        return params


def _where_moved(gradients: Sequence[Any], structure: Any, column: Sequence[Any]) -> Any:
    pairs = zip(gradients, column, strict=True)
    return structure.unflatten([None if g is None else x for g, x in pairs])


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Rows, one of each leaf, as columns; also where there are no rows."""
    return list(zip(*rows, strict=True)) or [()] * width


def _is_leaf(x: Any) -> bool:
    return isinstance(x, jax.Array) or jax.tree_util.all_leaves([x])


def _is_none(x: Any) -> bool:
    return x is None
