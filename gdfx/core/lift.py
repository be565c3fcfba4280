"""From equations on one array to a transformation of trees.

This is the only code that walks trees and counts steps. A method file hands it two
functions on one array and a state class; what comes back drops into optax.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdfx.core import check
from gdfx.core.precision import is_double, narrow, widen


def per_leaf(
    State: type[Any],  # noqa: N803
    init: Callable[..., Any],
    rule: Callable[..., Any],
    *,
    scalars: Callable[[Any], Any] | None = None,
    with_params: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Turn a rule on one array into an optax transformation of trees.

    Args:
      State: a NamedTuple class. A field ``count`` is the number of steps done (int32
        scalar); every other field is a tree like the parameters', and holds one
        accumulator of each leaf.
      init: ``init(p)`` returns the accumulators of one parameter at the start: a tuple in
        the order of the fields (or the array itself where there is one field), of any
        shapes. Their dtypes stay what they are here for the whole run; make them with
        `gdfx.core.moments.accumulator`.
      rule: ``rule(t, g, *accumulators)`` returns ``(u, *accumulators)``: the update u of
        g's shape and the new accumulators. t is the number of this step, 1 at the first,
        int32 (None where the state has no ``count``). All arrays arrive in at least float32, in
        double precision where one of them has it; u goes back in the gradient's dtype,
        the accumulators in their own.
      scalars: ``scalars(t)`` returns what a step needs once and not once a leaf, such as a
        bias correction or the rate of a schedule: an array of shape (), or a tuple of them.
        The rule gets it in place of t, in the precision of the other arrays.
      with_params: the rule is ``rule(t, g, p, *accumulators)`` and `update` demands the
        parameters.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Further keyword arguments of ``update``
      are accepted and ignored. ``None`` leaves and nodes without children pass through.

    Raises:
      TypeError, ValueError: by ``init`` and ``update``, before any computation, for trees,
        shapes, dtypes and states that do not belong together, with the path of the leaf.
    """
    name = check.method_name(rule)
    fields = [field for field in State._fields if field != "count"]
    counts = "count" in State._fields
    if scalars is not None and not counts:
        raise ValueError(f"{name}: scalars need a step number: give {State.__name__} a count")

    def init_leaf(p: Any) -> tuple[Any, ...]:
        row = _as_tuple(init(p))
        check.width(name, "init", len(row), len(fields))
        return row

    def init_tree(params: optax.Params) -> Any:
        leaves, tree = jax.tree.flatten(params)
        count = {"count": jnp.zeros((), jnp.int32)} if counts else {}
        accumulators = _unzip(tree, map(init_leaf, leaves), len(fields))
        return State(**count, **dict(zip(fields, accumulators, strict=True)))

    # One trace for all leaves of equal shapes and dtypes: tracing, not compiling, is what
    # a tree of a thousand leaves waits for.
    @jax.jit
    def step(t: Any, g: jax.Array, *rest: jax.Array) -> tuple[jax.Array, ...]:
        double = any(is_double(x.dtype) for x in (g, *rest))
        g_wide, *rest_wide = (widen(x, double=double) for x in (g, *rest))
        if scalars is not None:
            t = jax.tree.map(lambda s: jnp.asarray(s, jnp.finfo(g_wide.dtype).dtype), t)
        new = _as_tuple(rule(t, g_wide, *rest_wide))
        old = (g, *rest[with_params:])
        check.width(name, "rule", len(new) - 1, len(fields))
        check.shapes_kept(name, ["update", *fields], old, new)
        return tuple(narrow(a, b.dtype) for a, b in zip(new, old, strict=True))

    @functools.cache
    def shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        like = jax.eval_shape(init_leaf, jax.ShapeDtypeStruct(shape, jnp.float32))
        return tuple(a.shape for a in like)

    def update_tree(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        del extra_args
        if with_params:
            check.params_given(name, params)
        if counts:
            check.count(name, state.count)
        accumulators = {field: getattr(state, field) for field in fields}
        check.accumulators(name, updates, accumulators, shapes)

        count = {"count": optax.safe_increment(state.count)} if counts else {}
        t = count.get("count")
        if scalars is not None:
            t = scalars(t)
        trees = [updates, *[params] * with_params, *accumulators.values()]
        rows = zip(*map(jax.tree.leaves, trees), strict=True)
        results = (step(t, *row) for row in rows)
        u, *new = _unzip(jax.tree.structure(updates), results, 1 + len(fields))
        return u, State(**count, **dict(zip(fields, new, strict=True)))

    return check.trees(name, optax.GradientTransformationExtraArgs(init_tree, update_tree), State)


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _unzip(tree: Any, rows: Iterable[tuple[Any, ...]], width: int) -> list[Any]:
    """Rows, one of each leaf, as trees, one of each column; also where there are no rows."""
    columns = list(zip(*rows, strict=True)) or [()] * width
    return [tree.unflatten(column) for column in columns]
