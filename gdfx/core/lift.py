"""From equations on one array to a transformation of trees.

This is where trees are walked and steps are counted. A method file hands it two
functions on one array and a state class; what comes back drops into optax.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from gdfx.core import check
from gdfx.core.arguments import method_name
from gdfx.core.precision import as_array, in_precision, is_double, is_inexact, narrow
from gdfx.core.trees import Gradients, columns

Init = Callable[[Any], Any]
"""``init(p)``: the accumulators of one parameter at the start."""

Rule = Callable[..., Any]
"""``rule(g, *accumulators, *, names...)``: the update of one array, and its new accumulators."""

Scalars = Callable[..., Mapping[str, Any]]
"""``scalars(names...)``: numbers that a step needs once, by name."""


def per_leaf(
    State: type[Any],  # noqa: N803
    init: Init,
    rule: Rule,
    *,
    scalars: Scalars | None = None,
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
    - ``path``: where the array stands in the tree, as in ``"['layers'][0]['w']"``;
    - every name that ``scalars`` returned.

    One with a default value is given where it is there to be given.

    Args:
      State: a NamedTuple class, or a dataclass that JAX knows as a tree. A field ``count`` is
        the number of steps done (int32 scalar); every other field is a tree like the
        parameters', and holds one accumulator of each leaf.
      init: ``init(p)`` returns the accumulators of one parameter at the start, in the order
        of the fields (or the array itself where there is one field), of any shapes. Their
        dtypes stay what they are here for the whole run; make them with
        `gdfx.core.moments.accumulator`. ``p`` may be a `jax.ShapeDtypeStruct`.
      rule: ``rule(g, *accumulators, *, names)`` returns the update u of g's shape and the new
        accumulators. Floating and complex arrays arrive in at least float32, in double
        precision where one of them has it; u goes back in the gradient's dtype, the
        accumulators in their own. Whole numbers, bools and random keys stay what they are.
      scalars: asks by name too, for ``t`` and ``value``, and returns a dict of numbers that a
        step needs once and not once a leaf, such as a bias correction or the rate of a
        schedule. They arrive in the precision of the other arrays; whole numbers stay whole.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Further keyword arguments of ``update``
      are accepted and ignored. ``None`` leaves and nodes without children pass through; where
      a gradient is None and the parameter is not, the parameter stays and so does its state.

    Raises:
      TypeError, ValueError: for a rule and a state that do not fit together; by ``init`` and
        ``update``, before any computation, for trees, shapes, dtypes and states that do not
        belong together, with the path of the leaf.
    """
    name = method_name(rule)
    fields = _fields(name, State)
    counts = "count" in fields
    fields = [field for field in fields if field != "count"]
    wanted, demanded = _asked(name, rule, fields)
    wanted_once, demanded_once = ([], []) if scalars is None else _words(scalars)
    if scalars is None:
        check.words_known(f"{name}: the rule", demanded, _GIVEN)
    check.words_known(f"{name}: scalars", demanded_once, _GIVEN_ONCE)
    if "t" in (*demanded, *demanded_once) and not counts:
        raise ValueError(f"{name}: t is the step's number; give {State.__name__} a field count")

    def init_leaf(p: Any) -> list[Any]:
        row = _as_list(init(p))
        if len(row) != len(fields) or any(a is None for a in row):
            got = "None" if any(a is None for a in row) else len(row)
            raise ValueError(f"{name}: init must return {_spelled(fields)}, got {got}")
        return row

    def init_tree(params: optax.Params) -> Any:
        check.parameters(name, params)
        leaves, tree = jax.tree.flatten(params)
        rows = map(_Owner(leaves).own, map(init_leaf, leaves))
        accumulators = map(tree.unflatten, columns(rows, len(fields)))
        count = {"count": jnp.zeros((), jnp.int32)} if counts else {}
        state = State(**count, **dict(zip(fields, accumulators, strict=True)))
        if jax.tree_util.all_leaves([state]):
            raise TypeError(
                f"{name}: JAX does not know {State.__name__} as a tree; make it a NamedTuple, or "
                "register it with jax.tree_util.register_dataclass"
            )
        return state

    def step(given: dict[str, Any], path: str | None, *row: Any) -> list[Any]:
        old = [as_array(x) for x in row]
        arrays = (*old, given["p"]) if "p" in given else old
        double = any(is_double(x.dtype) for x in arrays if is_inexact(x))
        asked: dict[str, Any] = {
            word: in_precision(as_array(x), double=double) for word, x in given.items()
        }
        if path is not None:
            asked["path"] = path
        new = _applied(name, rule, [in_precision(x, double=double) for x in old], asked)
        if len(new) != len(old):
            returned = f"the update and {_spelled(fields)}"
            raise ValueError(f"{name}: the rule must return {returned}, got {len(new)} in all")
        return [_kept(name, *pair) for pair in zip(["update", *fields], old, new, strict=True)]

    # One trace for all leaves of equal shapes and dtypes: tracing, not compiling, is what a tree
    # of a thousand leaves waits for.
    traced_step = jax.jit(step, static_argnums=1)

    known: dict[tuple[int, ...], list[Any]] = {}

    def fresh(shape: tuple[int, ...]) -> list[Any]:
        if shape not in known:
            known[shape] = jax.eval_shape(init_leaf, jax.ShapeDtypeStruct(shape, jnp.float32))
        return known[shape]

    def update_tree(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        gradients = Gradients(name, updates)
        check.state_kind(name, state, State)
        if "p" in demanded:
            check.params_given(name, params)
        beside = [None] * len(gradients.leaves) if params is None else gradients.parameters(params)
        held = gradients.accumulators({f: getattr(state, f) for f in fields}, fresh)

        known_now: dict[str, Any] = {}
        count: dict[str, Any] = {}
        if counts:
            check.count(name, state.count)
            count["count"] = as_array(optax.safe_increment(as_array(state.count)))
            known_now["t"] = count["count"].astype(jnp.int32)
        if "value" in (*demanded, *demanded_once):
            check.value_given(name, extra_args)
        if extra_args.get("value") is not None:
            known_now["value"] = extra_args["value"]
        if scalars is not None:
            once = {word: known_now[word] for word in wanted_once if word in known_now}
            known_now |= _named(name, scalars(**once))
            check.words_known(f"{name}: the rule", demanded, dict.fromkeys([*_GIVEN, *known_now]))
        given = {word: known_now[word] for word in wanted if word in known_now}

        # Outside jit nobody has asked to compile.
        arrays = itertools.chain(given.values(), gradients.leaves, *held)
        do = traced_step if any(isinstance(x, Tracer) for x in arrays) else step

        owner = _Owner(gradients.leaves)

        def step_at(i: int, g: Any, p: Any, *row: Any) -> list[Any]:
            here = {"p": as_array(p)} if "p" in wanted and p is not None else {}
            new = do(given | here, gradients.path(i) if "path" in wanted else None, g, *row)
            return owner.own(new)

        u, *new = gradients.each(step_at, [beside], held)
        return u, State(**count, **dict(zip(fields, new, strict=True)))

    return optax.GradientTransformationExtraArgs(init_tree, update_tree)


_GIVEN = ("t", "p", "value", "path")
_GIVEN_ONCE = ("t", "value")


def _fields(name: str, State: type[Any]) -> list[str]:  # noqa: N803
    """The names of a state's fields."""
    if hasattr(State, "_fields"):
        return list(State._fields)
    if dataclasses.is_dataclass(State):
        return [field.name for field in dataclasses.fields(State)]
    raise TypeError(f"{name}: the state must be a NamedTuple class, got {State!r}")


def _asked(name: str, rule: Rule, fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """What a rule asks for by keyword, and what of it has no default.

    Refuse a rule that cannot take the gradient and the fields by position.
    """
    parameters = list(inspect.signature(rule).parameters.values())
    by_position = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, _EITHER)]
    variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    if len(by_position) != 1 + len(fields) and not variadic:
        raise TypeError(
            f"{name}: the rule must take ({', '.join(['g', *fields])}) by position, the gradient "
            "and the state's fields, and all else by keyword, after a *; it takes "
            f"({', '.join(by_position)})"
        )
    return _words(rule, inspect.Parameter.KEYWORD_ONLY)


def _words(function: Callable[..., Any], *kinds: Any) -> tuple[list[str], list[str]]:
    """The names of a function's parameters (of these kinds), and those without a default."""
    parameters = inspect.signature(function).parameters.values()
    found = [p for p in parameters if not kinds or p.kind in kinds]
    return [p.name for p in found], [p.name for p in found if p.default is p.empty]


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _named(name: str, numbers: Any) -> Mapping[str, Any]:
    if not isinstance(numbers, Mapping):
        raise TypeError(
            f"{name}: scalars must return a dict of numbers by name, got {type(numbers).__name__}"
        )
    return numbers


def _applied(
    name: str, rule: Rule, arrays: Sequence[jax.Array], asked: dict[str, Any]
) -> list[Any]:
    """What the rule returns, as a list."""
    try:
        return _as_list(rule(*arrays, **asked))
    except jax.errors.ConcretizationTypeError as error:
        raise TypeError(
            f"{name}: the rule asks for the value of a traced array, as if, while, float() and "
            "int() do; choose with jnp.where, and call jax.debug.print to see it"
        ) from error


def _kept(name: str, what: str, old: jax.Array, new: Any) -> jax.Array:
    """What a rule returned, in the shape and dtype that it must have."""
    if not isinstance(new, jax.Array):
        if not isinstance(new, int | float | complex | np.ndarray | np.generic):
            raise TypeError(f"{name}: the rule returned {type(new).__name__} for {what}")
        new = jnp.asarray(new)
    if new.shape != old.shape:
        raise ValueError(f"{name}: the rule returned {what} in shape {new.shape}, not {old.shape}")
    if is_inexact(old) and (what == "update" or not _loses_a_part(new, old)):
        return narrow(new, old.dtype)
    if new.dtype != old.dtype:
        raise TypeError(f"{name}: the rule returned {what} as {new.dtype}, not {old.dtype}")
    return new


def _loses_a_part(new: jax.Array, old: jax.Array) -> bool:
    return jnp.iscomplexobj(new) and not jnp.iscomplexobj(old)


class _Owner:
    """Makes arrays the state's own: a donated state must not take with it what is the caller's."""

    def __init__(self, taken: Iterable[Any]):
        self._taken = {id(x): x for x in taken}  # which keeps them, so that no id is used again

    def own(self, row: Iterable[Any]) -> list[jax.Array]:
        """The same arrays, but copies of those that somebody has already."""
        return [self._own(a) for a in row]

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
