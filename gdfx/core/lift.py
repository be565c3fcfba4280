"""From equations on one array to a transformation of trees.

This is where trees are walked and steps are counted. A method file hands it functions on one array
and a state class; what comes back drops into optax.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike

from gdfx.core import check
from gdfx.core.arguments import describe, method_name
from gdfx.core.asking import Asking, by_keyword, by_name, positional
from gdfx.core.precision import (
    as_array,
    dtype_of,
    in_precision,
    is_double,
    is_inexact,
    narrow,
    widen,
)
from gdfx.core.trees import Gradients, columns
from gdfx.core.whole import Numbers, Whole

Row = jax.Array | Sequence[jax.Array | Sequence[jax.Array]]
"""Arrays, or lists of them, that belong to one leaf; one array alone need not be in a list."""

Init = Callable[[jax.Array], Row]
"""``init(p)``: the accumulators of one parameter at the start."""

Rule = Callable[..., Row]
"""``rule(g, *accumulators, *, names...)``: the update of one array, and its new accumulators."""

Scalars = Callable[..., Mapping[str, ArrayLike]]
"""``scalars(names...)``: numbers that a step needs once, by name."""

Measure = Callable[..., Mapping[str, ArrayLike]]
"""``measure(g, *accumulators, *, names...)``: numbers of one array, by name, to be summed up."""


def per_leaf(
    State: type[Any],  # noqa: N803
    init: Init,
    rule: Rule,
    *,
    scalars: Scalars | None = None,
    measure: Measure | None = None,
    numbers: Numbers | None = None,
    key: ArrayLike | None = None,
    real: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Turn a rule on one array into an optax transformation of trees.

    ::

        def scalars(t):                         # once a step
            return {"c": 1 - b**t}

        def rule(g, m, *, c):                   # one array; accumulators as the state's fields
            m = b * m + (1 - b) * g
            return m / c, m

    What a rule asks for by keyword it gets:

    - ``t``: the number of this step, int32, 1 at the first; the state must have a ``count``;
    - ``p``: the parameter; ``update`` then demands the parameters;
    - ``value``: the loss; ``update`` then demands it, as ``value=...``;
    - ``key``: a random key, another one for each leaf and step; the state must have a ``key``;
    - ``path``: where the array stands in the tree, as in ``"['layers'][0]['w']"``;
    - every name that ``scalars`` or ``measure`` returned, and that of each of the ``numbers``.

    One with a default value is given where it is there to be given.

    Where leaves depend on each other, ``measure`` says what to sum up over the tree. This divides
    the gradients by the norm of the whole tree::

        def measure(g):                         # one array
            return {"sq": jnp.sum(g * g)}

        def scalars(sq):                        # once a step; sq is the sum over the tree
            return {"norm": jnp.sqrt(sq)}

        def rule(g, *, norm):
            return g / norm

    Args:
      State: a NamedTuple class, or a dataclass that JAX knows as a tree. A field ``count``
        (or ``t``) is the number of steps done (int32 scalar), a field ``key`` the bits of the next
        step's random key, and those named in ``numbers`` are one array each for the whole tree;
        every other field is a tree like the parameters', and holds one accumulator of each leaf.
      init: ``init(p)`` returns the accumulators of one parameter at the start, in the order
        of the fields (or the array itself where there is one field), of any shapes; where there
        are several fields, one accumulator may be a list of arrays, as of one for each axis. Their
        dtypes stay what they are here for the whole run; make them with
        `gdfx.core.moments.accumulator`. ``p`` may be a `jax.ShapeDtypeStruct`.
      rule: ``rule(g, *accumulators, *, names)`` returns the update u of g's shape and the new
        accumulators. Floating and complex arrays arrive in at least float32, in double
        precision where one of them has it; u goes back in the gradient's dtype, the
        accumulators in their own. Whole numbers, bools and random keys stay what they are.
      scalars: asks by name too, for ``t``, ``value``, the sums of ``measure`` and the
        ``numbers``, and returns a dict of numbers that a step needs once and not once a leaf,
        such as a bias correction or the rate of a schedule. They arrive in the precision of the
        other arrays; whole numbers stay whole. What it returns under a name of ``numbers`` is
        kept in the state.
      measure: ``measure(g, *accumulators, *, names)``, of the accumulators as they were, or of
        the first few, returns a dict of real numbers. Each is summed over all leaves, in their
        order, in at least float32. It asks as a rule does, for what is known before ``scalars``.
        Arrays spread over devices by `jax.jit` are summed whole; inside `jax.shard_map` a sum is
        that of the shard.
      numbers: fields of the state that are one array for the whole tree, each with its value at
        the start: a Python float, or a list of them, is held in float32 (float64 if a parameter
        is), other values in their own dtype. They stay as they are until ``scalars`` returns new
        ones.
      key: the random key of the first step, where the state has a field ``key``. It makes the
        same numbers wherever the arrays lie.
      real: refuse complex parameters and gradients, for rules that make no sense of them.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Further keyword arguments of ``update``
      are accepted and ignored. ``None`` leaves and nodes without children pass through; where
      a gradient is None and the parameter is not, the parameter stays and so does its state.

    Raises:
      TypeError, ValueError: for functions and a state that do not fit together; by ``init`` and
        ``update``, before any computation, for trees, shapes, dtypes and states that do not
        belong together, with the path of the leaf.
    """
    lift = Lift(State, init, rule, scalars, measure, numbers or {}, key, real=real)
    return optax.GradientTransformationExtraArgs(lift.init, lift.update)


# What a function may ask for, besides what scalars, measure and numbers name.
_OF_A_STEP = ("t", "value")
_OF_A_LEAF = ("p", "key", "path")


class Lift:
    """A rule, all that belongs to it, and what it becomes on trees."""

    def __init__(
        self,
        State: type[Any],  # noqa: N803
        init: Init,
        rule: Rule,
        scalars: Scalars | None,
        measure: Measure | None,
        numbers: Numbers,
        key: ArrayLike | None,
        *,
        real: bool,
    ):
        self.name, self.State, self._init, self.real = method_name(rule), State, init, real
        fields = _fields(self.name, State)
        self.whole = Whole(self.name, State.__name__, fields, numbers, key)
        self.fields = self.whole.trees
        self.others = [field for field in fields if field not in self.fields]
        row = ["g", *self.fields]
        self.rule = by_keyword(f"{self.name}: the rule", rule, row)
        self.measure = measure and by_keyword(f"{self.name}: measure", measure, row)
        self.scalars = scalars and by_name(f"{self.name}: scalars", scalars)
        self._check_what_is_taken(row)
        self._check_what_is_asked()

        # One trace for all leaves of equal shapes and dtypes: tracing, not compiling, is what a
        # tree of a thousand leaves waits for.
        self._traced_step = jax.jit(self._step, static_argnums=1)
        self._traced_measured = jax.jit(self._measured, static_argnums=1)
        self._fresh: dict[tuple[int, ...], list[Any]] = {}

    def _check_what_is_taken(self, row: Sequence[str]) -> None:
        """Refuse functions that cannot take the arrays of a leaf by position."""
        rule, measure = self.rule, self.measure
        if rule.takes != len(row):
            counter = next((field for field in row if field in ("step", "steps")), None)
            raise TypeError(
                f"{rule.who} must take ({', '.join(row)}) by position, the gradient and the "
                "state's fields, and all else by keyword, after a *; it takes "
                f"({', '.join(positional(rule.function))})"
                + f"; the field that counts steps is called count, not {counter}"
                * bool(counter)
            )
        if measure is not None and not 1 <= measure.takes <= len(row):
            raise TypeError(
                f"{measure.who} must take ({', '.join(row)}) or the first of them by position, "
                "and all else by keyword, after a *; it takes "
                f"({', '.join(positional(measure.function))})"
            )

    def _check_what_is_asked(self) -> None:
        """Refuse names that nothing has, as early as it can be known."""
        numbers = self.whole.numbers
        if self.measure is not None:
            self.measure.check([*_OF_A_STEP, *_OF_A_LEAF, *numbers])
        elif self.scalars is not None:
            self.scalars.check([*_OF_A_STEP, *numbers])
        else:
            self.rule.check([*_OF_A_STEP, *_OF_A_LEAF, *numbers])
        if self.demands("t") and not self.whole.counter:
            raise ValueError(
                f"{self.name}: t is the step's number; give {self.State.__name__} a field count"
            )
        if self.demands("key") and not self.whole.draws:
            raise ValueError(
                f"{self.name}: key is a random key; give {self.State.__name__} a field key, and "
                "per_leaf the first one, as in key=jax.random.key(0)"
            )

    def demands(self, name: str) -> bool:
        """Whether one of the functions cannot do without what has this name."""
        functions = (self.rule, self.measure, self.scalars)
        return any(name in asking.demanded for asking in functions if asking is not None)

    def init(self, params: optax.Params) -> Any:
        """The state at the start."""
        check.parameters(self.name, params)
        if self.real:
            check.real(self.name, "parameter", params)
        leaves, tree = jax.tree.flatten(params)
        rows = map(_Owner(leaves).own, map(self.start, leaves))
        trees = map(tree.unflatten, columns(rows, len(self.fields)))
        whole = self.whole.start(double=any(is_double(dtype_of(p)) for p in leaves))
        state = self.State(**whole, **dict(zip(self.fields, trees, strict=True)))
        if jax.tree_util.all_leaves([state]):
            raise TypeError(
                f"{self.name}: JAX does not know {self.State.__name__} as a tree; make it a "
                "NamedTuple, or register it with jax.tree_util.register_dataclass"
            )
        return state

    def start(self, p: Any) -> list[Any]:
        """The accumulators of one parameter at the start, as its ``init`` returns them."""
        row = _as_list(self._init(p))
        if len(row) != len(self.fields) or any(a is None for a in row):
            got = "None" if any(a is None for a in row) else len(row)
            raise ValueError(f"{self.name}: init must return {_spelled(self.fields)}, got {got}")
        return row

    def _fresh_row(self, shape: tuple[int, ...]) -> list[Any]:
        """The shapes of the accumulators that a parameter of this shape has at the start."""
        if shape not in self._fresh:
            p = jax.ShapeDtypeStruct(shape, jnp.float32)
            self._fresh[shape] = jax.eval_shape(self.start, p)
        return self._fresh[shape]

    def update(
        self,
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        """One step, and the state after it."""
        gradients = Gradients(self.name, updates)
        if self.real:
            check.real(self.name, "gradient", updates)
        check.state_kind(self.name, state, self.State)
        if self.demands("p"):
            check.params_given(self.name, params)
        value = extra_args.get("value")
        if self.demands("value"):
            check.value_given(self.name, value)
        nothing = [None] * len(gradients.leaves)
        beside = nothing if params is None else gradients.parameters(params)
        held = gradients.accumulators(
            {f: getattr(state, f) for f in self.fields},
            lambda i: self._fresh_row(np.shape(gradients.leaves[i])),
        )

        known, whole, key = self.whole.step(state)
        if value is not None:
            known["value"] = widen(as_array(value)) if is_inexact(value) else value
        step = _Step(gradients, beside, held, known, key)
        if any(g is not None for g in gradients.leaves):
            self._learn(step)

        # Outside jit nobody has asked to compile.
        do = self._traced_step if step.traced else self._step
        owner = _Owner([*gradients.leaves, *beside, *step.known.values()])

        def step_at(i: int, g: Any, p: Any, *row: Any) -> list[Any]:
            return owner.own(do(*step.given(self.rule, i, p), g, *row))

        u, *new = gradients.each(step_at, [beside], held)
        for number in self.whole.numbers:
            kept = _kept(f"{self.name}: scalars", number, whole[number], step.known[number])
            (whole[number],) = owner.own([kept])
        return u, self.State(**whole, **dict(zip(self.fields, new, strict=True)))

    def _learn(self, step: "_Step") -> None:
        """Add to what is known: the sums of ``measure``, then what ``scalars`` returns."""
        if self.measure is not None:
            do = self._traced_measured if step.traced else self._measured
            step.known |= _sums(do(*given, *row) for given, row in step.rows(self.measure))
        if self.scalars is not None:
            self.scalars.check([*_OF_A_STEP, *step.known])
            found = self.scalars(**self.scalars.choose(step.known))
            step.known |= _named(self.scalars, found)
        self.rule.check([*_OF_A_STEP, *_OF_A_LEAF, *step.known])

    def _step(self, given: dict[str, Any], path: str | None, *row: Any) -> list[Any]:
        old = jax.tree.map(as_array, list(row))
        new = _as_list(_applied(self.rule, given, path, old))
        if len(new) != len(old):
            returned = f"the update and {_spelled(self.fields)}"
            raise ValueError(f"{self.rule.who} must return {returned}, got {len(new)} in all")
        named = zip(["update", *self.fields], old, new, strict=True)
        return [_kept_all(self.rule.who, *one) for one in named]

    def _measured(self, given: dict[str, Any], path: str | None, *row: Any) -> dict[str, Any]:
        """The numbers of one leaf."""
        assert self.measure is not None  # else nobody asks
        numbers = _applied(self.measure, given, path, jax.tree.map(as_array, list(row)))
        numbers = _named(self.measure, numbers, taken=self.whole.numbers)
        return {name: _real(self.measure.who, name, x) for name, x in numbers.items()}


@dataclasses.dataclass
class _Step:
    """One step: the arrays of each leaf, and what is known of the whole."""

    gradients: Gradients
    beside: Sequence[Any]  # the parameters, or None
    held: Sequence[Sequence[Any]]  # a column for each field
    known: dict[str, Any]
    key: jax.Array | None

    @property
    def traced(self) -> bool:
        """Whether somebody compiles it."""
        arrays = itertools.chain(self.known.values(), self.gradients.leaves, *self.held)
        return any(isinstance(x, Tracer) for x in jax.tree.leaves(list(arrays)))

    def given(self, asking: Asking, i: int, p: Any) -> tuple[dict[str, Any], str | None]:
        """What a function on the i-th leaf asks for: arrays by name, and the path."""
        found = asking.choose(self.known)
        if "p" in asking.names and p is not None:
            found["p"] = as_array(p)
        if "key" in asking.names and self.key is not None:
            found["key"] = jax.random.fold_in(self.key, i)
        return found, self.gradients.path(i) if "path" in asking.names else None

    def rows(self, asking: Asking) -> Iterator[tuple[Any, Any]]:
        """Of each leaf that has a gradient: what is given to a function, and the arrays."""
        leaves = enumerate(zip(self.gradients.leaves, self.beside, *self.held, strict=True))
        for i, (g, p, *row) in leaves:
            if g is not None:
                yield self.given(asking, i, p), [g, *row][: asking.takes]


def _applied(asking: Asking, given: dict[str, Any], path: str | None, row: list[Any]) -> Any:
    """What a function returns of the arrays of one leaf, all in one precision."""
    arrays = jax.tree.leaves((row, given.get("p")))
    double = any(is_double(x.dtype) for x in arrays if is_inexact(x))
    row = jax.tree.map(lambda x: in_precision(x, double=double), row)
    asked: dict[str, Any] = {
        name: in_precision(as_array(x), double=double) for name, x in given.items()
    }
    if path is not None:
        asked["path"] = path
    return asking(*row, **asked)


def _fields(name: str, State: type[Any]) -> list[str]:  # noqa: N803
    """The names of a state's fields."""
    if hasattr(State, "_fields"):
        return list(State._fields)
    if dataclasses.is_dataclass(State):
        return [field.name for field in dataclasses.fields(State)]
    raise TypeError(f"{name}: the state must be a NamedTuple class, got {State!r}")


def _named(asking: Asking, numbers: Any, taken: Iterable[str] = ()) -> Mapping[str, Any]:
    """What a function returned as numbers by name; refuse names that mean something else."""
    if not isinstance(numbers, Mapping):
        raise TypeError(
            f"{asking.who} must return a dict of numbers by name, got {type(numbers).__name__}"
        )
    for name in (*_OF_A_STEP, *_OF_A_LEAF, *taken):
        if name in numbers:
            raise ValueError(f"{asking.who} returned {name}, a name that is taken; choose another")
    return numbers


def _real(who: str, name: str, x: Any) -> jax.Array:
    """One real number, in at least float32."""
    if np.shape(x) != () or jnp.iscomplexobj(x):
        raise ValueError(f"{who} returned {name} as {describe(x)}, not as one real number")
    double = hasattr(x, "dtype") and is_inexact(x) and is_double(x.dtype)
    return jnp.asarray(x, jnp.float64 if double else jnp.float32)


def _sums(rows: Iterable[Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
    """The sum of each number over the leaves that have it, in their order."""
    found: dict[str, list[jax.Array]] = {}
    for row in rows:
        for name, x in row.items():
            found.setdefault(name, []).append(x)
    return {name: jnp.sum(jnp.stack(numbers)) for name, numbers in found.items()}


def _kept_all(who: str, what: str, old: Any, new: Any) -> Any:
    """`_kept`, of an array or of all in a list of them."""
    if isinstance(old, jax.Array):
        return _kept(who, what, old, new)
    if jax.tree.structure(new) != jax.tree.structure(old):
        held = f"{jax.tree.structure(new)}, not {jax.tree.structure(old)}"
        raise ValueError(f"{who} returned {what} as {held}")
    return jax.tree.map(lambda a, b: _kept(who, what, a, b), old, new)


def _kept(who: str, what: str, old: jax.Array, new: Any) -> jax.Array:
    """What a function returned, in the shape and dtype that it must have."""
    if not isinstance(new, jax.Array):
        if not isinstance(new, int | float | complex | np.ndarray | np.generic):
            raise TypeError(f"{who} returned {type(new).__name__} for {what}")
        new = jnp.asarray(new)
    if new.shape != old.shape:
        raise ValueError(f"{who} returned {what} in shape {new.shape}, not {old.shape}")
    if is_inexact(old) and (what == "update" or not _loses_a_part(new, old)):
        return narrow(new, old.dtype)
    if new.dtype != old.dtype:
        raise TypeError(f"{who} returned {what} as {new.dtype}, not {old.dtype}")
    return new


def _loses_a_part(new: jax.Array, old: jax.Array) -> bool:
    return jnp.iscomplexobj(new) and not jnp.iscomplexobj(old)


class _Owner:
    """Makes arrays the state's own: a donated state must not take with it what is the caller's."""

    def __init__(self, taken: Iterable[Any]):
        self._taken = {id(x): x for x in taken}  # which keeps them, so that no id is used again

    def own(self, row: Sequence[Any]) -> list[Any]:
        """The same arrays, but copies of those that somebody has already."""
        return jax.tree.map(self._own, list(row))

    def _own(self, a: Any) -> jax.Array:
        if not isinstance(a, jax.Array) or a.weak_type or id(a) in self._taken:
            a = jnp.array(a, dtype=jnp.result_type(a), copy=True)
        self._taken[id(a)] = a
        return a


def _spelled(fields: Sequence[str]) -> str:
    """As in ``2 accumulators (mu, nu)``."""
    n = len(fields)
    return f"{n} accumulator{'s' * (n != 1)}" + f" ({', '.join(fields)})" * bool(n)


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]
