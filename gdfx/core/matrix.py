"""From equations on one matrix to a transformation of trees.

A matrix method is a `per_leaf` method on stacks: matrices of equal shape, out of whatever leaves,
lie stacked in one array, and the rule is mapped over it. This file stacks and unstacks; all else
is `core/lift.py`'s.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from gdfx.core import check
from gdfx.core.arguments import method_name
from gdfx.core.axes import Placement
from gdfx.core.layouts import Matrices, resolved
from gdfx.core.lift import Init, Lift, Rule, Scalars
from gdfx.core.moments import filled
from gdfx.core.parts import constrained
from gdfx.core.precision import as_array, dtype_of, is_double
from gdfx.core.trees import Gradients, columns, parted
from gdfx.core.versions import auto_axes, reshard
from gdfx.core.whole import Numbers


def per_matrix(
    State: type[Any],  # noqa: N803
    init: Init,
    rule: Rule,
    *,
    matrices: Matrices = None,
    scalars: Scalars | None = None,
    numbers: Numbers | None = None,
    key: ArrayLike | None = None,
    every: int = 1,
    after: int = 0,
    spread: bool = False,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Turn a rule on one matrix into an optax transformation of trees.

    ::

        def init(p):                            # one matrix: rows = outputs, columns = inputs
            return accumulator(p)

        def rule(g, m):
            m = 0.9 * m + g
            return m / jnp.linalg.norm(m, axis=1, keepdims=True), m     # each row on its own

        tx = per_matrix(State, init, rule, matrices="flax")

    State, ``init``, ``rule``, ``scalars``, ``numbers`` and ``key`` are as in `per_leaf`; what a
    rule asks for by keyword it gets, except for ``path``: ``t``, ``p``, ``value``, ``key``, what
    ``scalars`` returned, and

    - ``due``: whether this step is one for costly work, a bool for `when`.

    The rule is mapped over all matrices of equal shape and dtype, out of all leaves, in one call.
    Where there are several devices, one leaf may be spread over them otherwise than the next, which
    nobody knows before the program is compiled; so there each leaf has a call of its own, unless
    ``over`` is given.

    Args:
      State: as in `per_leaf`. In the state, an accumulator of the matrix's own shape, all of one
        value at the start, lies as the parameter does, with its shape and sharding. Any other has
        the copies' axes before its own; where blocks differ in size there is a list of them.
      init: ``init(p)`` of one matrix, of which it is told shape and dtype: ``p`` is a
        `jax.ShapeDtypeStruct`.
      rule: ``rule(g, *accumulators, *, names)`` on one matrix.
      matrices: which leaves are matrices, along which axes: the name of a `layout`, a function of
        (path, array) that returns `MatrixAxes` or None, or a tree (prefix) of those. It must find
        a matrix in every leaf that it is given.
      scalars: numbers that a step needs once, by name.
      numbers: fields of the state that are one array for the whole tree.
      key: the random key of the first step.
      every: how often costly work is due: each time that so many steps are done.
      after: the steps that are not counted, at the beginning of the run.
      spread: take turns: of the matrices of one shape, each does its costly work in another
        step, one in ``every`` at a time, so that no step is slow.
      over: a mesh axis over which each stack is spread, as in ``NamedSharding(mesh,
        PartitionSpec("data"))``, so that every device works on its share of the matrices, each
        whole: those that a rule asks for by `shared`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      TypeError, ValueError: as `per_leaf`, and for leaves that are no matrices or whose axes
        cannot be known, with the path.
    """
    turns = _Turns(every, after, spread)
    lift = _MatrixLift(State, init, rule, scalars, numbers or {}, key, matrices, turns, over)
    return optax.GradientTransformationExtraArgs(lift.init, lift.update)


def when(due: Any, work: Callable[..., Any], *old: Any) -> Any:
    """What ``work(*old)`` returns where it is due, else ``old``: of equal shapes and dtypes.

    Outside `jax.jit`, the choice is Python's, and nothing is compiled.
    """
    if not isinstance(due, Tracer):
        return work(*old) if due else old
    return lax.cond(due, lambda *xs: tuple(work(*xs)), lambda *xs: xs, *old)


def shared(x: jax.Array, over: NamedSharding | None) -> jax.Array:
    """The matrix whole on one device, another one for each of those that work at the same time.

    What it was made of, and whoever else uses it, stays where it is: one exchange for each array
    that is shared. A matrix that is alone of its shape is whole on every device.
    """

    def dealt(xs: jax.Array, over: NamedSharding) -> jax.Array:
        axis = over.spec[0] if len(xs) > 1 else None
        # Of two constraints in a row the compiler takes the second for all who use the array.
        apart = lax.optimization_barrier(_undivided(xs, over))
        return constrained(apart, over.mesh, PartitionSpec(axis, None, None))

    return _placed(dealt, x, over)


def returned(x: jax.Array, over: NamedSharding | None) -> jax.Array:
    """The matrix back from its device, for what is not worth an exchange of all that it meets."""
    return _placed(_undivided, x, over)


def _placed(
    place: Callable[[jax.Array, NamedSharding], jax.Array], x: jax.Array, over: NamedSharding | None
) -> jax.Array:
    """A matrix, out of a stack that is placed so by the compiler."""
    if over is None or not isinstance(x, Tracer):
        return x
    one = jax.custom_batching.custom_vmap(lambda x: x)
    one.def_vmap(lambda size, batched, xs: (place(xs, over), True))
    return one(x)


def _undivided(xs: jax.Array, over: NamedSharding) -> jax.Array:
    """A stack of which every device has all matrices, or its part of each."""
    free = [PartitionSpec.UNCONSTRAINED] * (xs.ndim - 1)
    return constrained(xs, over.mesh, PartitionSpec(None, *free))


def with_otherwise(
    method: str,
    tx: optax.GradientTransformation,
    otherwise: optax.GradientTransformation,
    matrices: Matrices,
) -> optax.GradientTransformationExtraArgs:
    """One optimizer for the leaves that are matrices, another one for all others."""

    def groups(params: optax.Params) -> Any:
        found = resolved(method, matrices, params)
        names = ["otherwise" if place is None else "matrices" for place in found]
        return jax.tree.structure(params).unflatten(names)

    return parted(method, {"matrices": tx, "otherwise": otherwise}, groups)


@dataclass(frozen=True)
class _Spot:
    """Where one stack of a leaf stands among all stacks of its kind."""

    group: int
    first: int
    lead: tuple[int, ...]

    @property
    def copies(self) -> int:
        return math.prod(self.lead)


class _Stacks:
    """How the matrices of many leaves are stacked: equal shapes and dtypes together."""

    def __init__(self, places: Sequence[Placement], kinds: Sequence[Any]):
        self.places = places
        groups: dict[Any, int] = {}
        copies: list[int] = []
        self.spots: list[list[_Spot]] = []
        for place, kind in zip(places, kinds, strict=True):
            spots: list[_Spot] = []
            for lead, *matrix in place.sizes():
                group = groups.setdefault((*matrix, kind), len(copies))
                if group == len(copies):
                    copies.append(0)
                spots.append(_Spot(group, copies[group], lead))
                copies[group] += spots[-1].copies
            self.spots.append(spots)
        self.shapes = [(n, *key[:2]) for key, n in zip(groups, copies, strict=True)]

    def stacked(self, pieces: Sequence[Sequence[Any]]) -> list[Any]:
        """Stacks, each of one group, of what the leaves have for each of their spots."""
        found: list[list[Any]] = [[] for _ in self.shapes]
        for spots, row in zip(self.spots, pieces, strict=True):
            for spot, tree in zip(spots, row, strict=True):
                flat = jax.tree.map(lambda x, s=spot: _flat(x, s), tree)
                found[spot.group].append(flat)
        return [jax.tree.map(_concatenated, *parts) for parts in found]

    def unstacked(self, stacks: Sequence[Any]) -> list[list[Any]]:
        """What each leaf has for each of its spots."""
        return [
            [jax.tree.map(lambda x, s=spot: _cut(x, s), stacks[spot.group]) for spot in spots]
            for spots in self.spots
        ]

    def matrices(self, leaves: Sequence[Any]) -> list[Any]:
        """Stacks of the leaves' matrices."""
        pairs = zip(self.places, leaves, strict=True)
        return self.stacked([place.matrices(as_array(x)) for place, x in pairs])

    def leaves(self, stacks: Sequence[Any]) -> list[Any]:
        """The leaves whose matrices these are."""
        pairs = zip(self.places, self.unstacked(stacks), strict=True)
        return [place.leaf(pieces) for place, pieces in pairs]


def _flat(x: jax.Array, spot: _Spot) -> jax.Array:
    x = as_array(x)
    return x.reshape(spot.copies, *x.shape[len(spot.lead) :])


def _cut(x: jax.Array, spot: _Spot) -> jax.Array:
    return x[spot.first : spot.first + spot.copies].reshape(*spot.lead, *x.shape[1:])


def _concatenated(*parts: jax.Array) -> jax.Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


class _MatrixLift:
    """A rule on one matrix, and what it becomes on trees."""

    def __init__(
        self,
        State: type[Any],  # noqa: N803
        init: Init,
        rule: Rule,
        scalars: Scalars | None,
        numbers: Numbers,
        key: ArrayLike | None,
        matrices: Matrices,
        turns: "_Turns",
        over: NamedSharding | None,
    ):
        self.name, self.State, self.matrices, self._init = method_name(rule), State, matrices, init
        self.over = over
        mapped = _mapped(rule, turns, over)
        self.lift = Lift(State, _for_all(init), mapped, scalars, None, numbers, key, real=True)
        self.alike = self._filled_like_the_matrix()

    def _filled_like_the_matrix(self) -> dict[str, Any]:
        """The fields whose accumulators have the matrix's own shape, each with its start value."""
        with jax.ensure_compile_time_eval():
            row = self._init(cast(Any, jax.ShapeDtypeStruct((2, 3), jnp.float32)))
            row = list(row) if isinstance(row, list | tuple) else [row]
            pairs = zip(self.lift.fields, row, strict=False)  # Lift says where these do not fit
            matrices = {
                field: np.asarray(a) for field, a in pairs if getattr(a, "shape", None) == (2, 3)
            }
        return {field: a[0, 0] for field, a in matrices.items() if (a == a[0, 0]).all()}

    def _places(self, tree: Any) -> list[Placement]:
        found = resolved(self.name, self.matrices, tree)
        for (path, _), place in zip(jax.tree_util.tree_leaves_with_path(tree), found, strict=True):
            if place is None:
                raise ValueError(
                    f"{self.name}: {check.at(path)} is no matrix by the given matrices; leave it "
                    "to another transformation, by optax.masked or optax.partition"
                )
        return cast(list[Placement], found)

    def init(self, params: optax.Params) -> Any:
        """The state at the start."""
        check.parameters(self.name, params)
        check.real(self.name, "parameter", params)
        leaves, structure = jax.tree.flatten(params)
        rows = map(self._start, self._places(params), leaves)
        double = any(is_double(dtype_of(p)) for p in leaves)
        trees = map(structure.unflatten, columns(rows, len(self.lift.fields)))
        return self._state(self.lift.whole.start(double=double), trees)

    def _start(self, place: Placement, p: Any) -> list[Any]:
        """The accumulators of a leaf at the start."""
        stacks = _Stacks([place], [None])
        shapes = [jax.ShapeDtypeStruct(x, dtype_of(p)) for x in stacks.shapes]
        held = zip(*map(self.lift.start, shapes), strict=True)
        row = dict(zip(self.lift.fields, held, strict=True))
        return [
            filled(p, self.alike[field], parts[0].dtype)
            if field in self.alike
            else self._column(field, stacks, parts)[0]
            for field, parts in row.items()
        ]

    def _fresh(self, place: Placement) -> list[Any]:
        """The shapes of the accumulators that a leaf has at the start."""
        return jax.eval_shape(
            lambda p: self._start(place, p), jax.ShapeDtypeStruct(place.shape, jnp.float32)
        )

    def _columns(self, stacks: _Stacks, state: Any) -> dict[str, list[Any]]:
        """What each leaf holds of each field, out of a state of stacks."""
        return {f: self._column(f, stacks, getattr(state, f)) for f in self.lift.fields}

    def _state(self, others: Mapping[str, Any], trees: Iterable[Any]) -> Any:
        """A state of these trees, and of what it holds once for the whole tree."""
        return self.State(**others, **dict(zip(self.lift.fields, trees, strict=True)))

    def _others(self, state: Any) -> dict[str, Any]:
        return {field: getattr(state, field) for field in self.lift.others}

    def _column(self, field: str, stacks: _Stacks, held: Sequence[Any]) -> list[Any]:
        """What each leaf holds of a field."""
        if field in self.alike:
            return stacks.leaves(held)
        return [pieces[0] if len(pieces) == 1 else pieces for pieces in stacks.unstacked(held)]

    def _stacked(self, field: str, stacks: _Stacks, column: Sequence[Any]) -> list[Any]:
        """`_column`'s inverse."""
        if field in self.alike:
            return stacks.matrices(column)
        pairs = zip(stacks.places, column, strict=True)
        return stacks.stacked([[a] if len(p.sizes()) == 1 else a for p, a in pairs])

    def update(
        self,
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        """One step, and the state after it."""
        gradients = Gradients(self.name, updates)
        check.real(self.name, "gradient", updates)
        check.state_kind(self.name, state, self.State)
        if self.lift.demands("p"):
            check.params_given(self.name, params)
        given = [i for i, g in enumerate(gradients.leaves) if g is not None]
        place_of = dict(zip(given, self._places(updates), strict=True))
        moved = [i for i in given if np.size(gradients.leaves[i])]
        held = gradients.accumulators(
            {f: getattr(state, f) for f in self.lift.fields},
            lambda i: self._fresh(place_of[i]),
        )
        leaves = [as_array(gradients.leaves[i]) for i in moved]
        rows = [[column[i] for i in moved] for column in held]
        beside = None
        if params is not None:
            column = gradients.parameters(params)
            beside = [as_array(column[i]) for i in moved]
        others = self._others(state)
        step = functools.partial(self._step, [place_of[i] for i in moved])
        run = _sharded_by_compiler(step, (leaves, rows, others))
        u, rows, others = run(leaves, rows, others, beside, extra_args.get("value"))

        def tree(old: Sequence[Any], column: Sequence[Any]) -> Any:
            found = list(old)
            for i, x in zip(moved, column, strict=True):
                found[i] = x
            return gradients.tree(found)

        return tree(gradients.leaves, u), self._state(others, map(tree, held, rows))

    def _step(
        self,
        places: Sequence[Placement],
        leaves: Sequence[Any],
        rows: Sequence[Sequence[Any]],
        others: Any,
        beside: Sequence[Any] | None,
        value: Any,
    ) -> tuple[Any, Any, Any]:
        """One step on leaves and on what is held of each."""
        kinds = enumerate(zip(leaves, beside or leaves, *rows, strict=True))
        alone = self.over is None and jax.device_count() > 1
        stacks = _Stacks(places, [(_dtypes(*row), i * alone) for i, row in kinds])
        fields = zip(self.lift.fields, rows, strict=True)
        trees = [self._stacked(field, stacks, column) for field, column in fields]
        params = None if beside is None else stacks.matrices(beside)
        state = self._state(others, trees)
        u, state = self.lift.update(stacks.matrices(leaves), state, params, value=value)
        new = list(self._columns(stacks, state).values())
        rows = jax.tree.map(_laid_out, new, list(map(list, rows)))
        return list(map(_laid_out, stacks.leaves(cast(Any, u)), leaves)), rows, self._others(state)


def _laid_out(x: jax.Array, like: jax.Array) -> jax.Array:
    """``x``, which the compiler then spreads over devices as another array is."""
    return jnp.where(False, like.astype(x.dtype), x) if isinstance(x, Tracer) else x


def _dtypes(*row: Any) -> Any:
    """What leaves must have in common to be stacked, beside the shape of their matrices."""
    return tuple(str(x.dtype) for x in jax.tree.leaves(row))


def _sharded_by_compiler(step: Callable[..., Any], like: Any) -> Callable[..., Any]:
    """The function, inside which the compiler shards as it likes; its results are sharded as given.

    Where a mesh has explicit axes, a product of a matrix that is sharded in both of its axes is an
    error of types, and `jax.sharding.auto_axes` is the way round it.
    """
    types = {
        name: kind
        for x in jax.tree.leaves(like)
        for name, kind in _axis_types(jax.typeof(x).sharding)
    }
    explicit = tuple(name for name, kind in types.items() if kind == AxisType.Explicit)
    if not explicit:
        return step
    known = [x for x in jax.tree.leaves(like) if not jax.typeof(x).sharding.mesh.empty]
    whole = NamedSharding(jax.typeof(known[0]).sharding.mesh, PartitionSpec())

    def sharding(x: Any) -> NamedSharding:
        found = jax.typeof(x).sharding
        return whole if found.mesh.empty else found

    def on_mesh(x: Any) -> Any:  # what was made outside of it, a count say, is on every device
        if not jax.typeof(x).sharding.mesh.empty:
            return x
        if isinstance(known[0], Tracer):
            return reshard(x, whole)
        return jax.device_put(x, NamedSharding(known[0].sharding.mesh, PartitionSpec()))

    run = auto_axes(step, axes=explicit, out_sharding=jax.tree.map(sharding, like))
    return lambda *args: run(*jax.tree.map(on_mesh, args))


def _axis_types(sharding: NamedSharding) -> Iterable[tuple[str, AxisType]]:
    return zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True)


def _for_all(init: Init) -> Init:
    """``init`` of a stack of equal matrices, by its shape."""

    @functools.wraps(init)
    def of_stack(p: Any) -> Any:
        copies, *matrix = p.shape
        row = init(cast(Any, jax.ShapeDtypeStruct(tuple(matrix), p.dtype)))
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (copies, *jnp.shape(a))), row)

    return of_stack


class _Turns(NamedTuple):
    """When costly work is due."""

    every: int
    after: int
    spread: bool

    def due(self, t: Any, turn: int = 0) -> Any:
        """Whether it is due in step t for those who have this turn."""
        return (t > self.after) & ((t - self.after + turn) % self.every == 0)


def _mapped(rule: Rule, turns: _Turns, over: NamedSharding | None) -> Rule:
    """The rule on each matrix of a stack."""
    parameters = inspect.signature(rule).parameters.values()
    asked = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
    if any(p.name == "path" for p in asked):
        raise TypeError(
            f"{method_name(rule)}: the rule asks for path, but is mapped over the matrices of many "
            "leaves; give each kind of leaf an optimizer of its own, by optax.partition"
        )
    waits = any(p.name == "due" for p in asked)
    own = [p for p in asked if p.name != "due"]
    names = [p.name for p in own]
    added = [n for n in ("t", "path") if waits and n not in names]

    @functools.wraps(rule)
    def on_stack(*row: Any, **given: Any) -> Any:
        wanted = given if not waits else {n: x for n, x in given.items() if n not in added}
        each = {n: wanted.pop(n) for n in ("p", "key") if n in wanted}
        copies = row[0].shape[0]
        if "key" in each:
            each["key"] = jax.random.split(each["key"], copies)

        def on_one(some: Any, due: Any) -> Any:
            row, named = some
            return rule(*row, **named, **wanted, **({"due": due} if waits else {}))

        if not waits:
            return _over_copies(lambda some: on_one(some, None), (row, each), over)
        if not turns.spread:
            due = turns.due(given["t"])
            return _over_copies(lambda some: on_one(some, due), (row, each), over)
        first = int(given["path"].strip("[]"))  # stacks are a list: each begins one turn later
        parts: list[Any] = []
        for turn in range(min(turns.every, copies)):
            due = turns.due(given["t"], first + turn)
            some = jax.tree.map(lambda x, k=turn: x[k :: turns.every], (row, each))
            parts.append(_over_copies(lambda s, d=due: on_one(s, d), some, over))
        return jax.tree.map(lambda *xs: _interleaved(xs, copies), *parts)

    kept = [p for p in parameters if p.kind != p.KEYWORD_ONLY]
    more = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in added]
    last = [p for p in kept if p.kind == p.VAR_KEYWORD]
    kept = [p for p in kept if p.kind != p.VAR_KEYWORD]
    on_stack.__signature__ = inspect.Signature([*kept, *own, *more, *last])  # pyright: ignore
    return on_stack


def _interleaved(parts: Sequence[jax.Array], copies: int) -> jax.Array:
    """What was dealt out in turns, in its old order."""
    return jnp.stack([parts[i % len(parts)][i // len(parts)] for i in range(copies)])


def _over_copies(one: Callable[[Any], Any], stack: Any, over: NamedSharding | None) -> Any:
    """A function of one matrix on each of a stack.

    On a CPU one after the other, as it has no use for larger products; elsewhere at once.
    """
    leaves = jax.tree.leaves(stack)
    traced = any(isinstance(x, Tracer) for x in leaves)

    def in_turn(stack: Any) -> Any:
        each = jax.jit(one) if traced else one  # traced once for all
        found = [each(jax.tree.map(lambda x, k=k: x[k], stack)) for k in range(len(leaves[0]))]
        return jax.tree.map(lambda *xs: jnp.stack(xs), *found)

    if traced and over is not None:
        return _dealt_out(one, stack, over)
    if not traced or len(leaves[0]) == 1:
        return in_turn(stack)
    return lax.platform_dependent(stack, cpu=in_turn, default=jax.vmap(one))


def _dealt_out(one: Callable[[Any], Any], stack: Any, over: NamedSharding) -> Any:
    """A function of one matrix on each of a stack, of which every device has its share."""
    copies = jax.tree.leaves(stack)[0].shape[0]
    axis = over.spec[0]
    names = axis if isinstance(axis, tuple) else (axis,)
    missing = -copies % math.prod(over.mesh.shape[name] for name in names) if copies > 1 else 0

    def filled_up(x: jax.Array) -> jax.Array:  # some of them twice, random keys too
        return x[np.arange(copies + missing) % copies] if missing else x

    # Else the compiler divides what is stacked, leaf by leaf, and moves every piece.
    stack = jax.tree.map(lambda x: _undivided(filled_up(x), over), stack)
    found = jax.vmap(one)(stack)
    return jax.tree.map(lambda x: _undivided(x, over)[:copies], found)
