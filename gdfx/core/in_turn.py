"""A step whose large inputs are made as late as it needs them, and whose results are used up soon.

A compiler may do first what a program names last: it would make all inputs at once, and hold them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax


def in_turn(
    step: Callable[[list[Any]], Any],
    shapes: Sequence[Any],
    make: Callable[[int, Any], Any],
    use: Callable[[int, Any], tuple[Any, Any]],
    results: Callable[[Any], Sequence[Any]],
) -> tuple[Any, list[Any]]:
    """The results of a step, of which some become something smaller as soon as they are there.

    Args:
      step: a function of a list of arrays.
      shapes: those arrays, as shapes.
      make: ``make(i, after)``, the i-th of them, to be made after something else, if not None.
      use: ``use(i, x)``, what the i-th of the large results becomes, and what tells that it has.
      results: the large results in what ``step`` returns, at least as many as arrays.

    Returns:
      What ``step`` returns, and what its large results have become.
    """
    closed, tree = jax.make_jaxpr(step, return_shape=True)(list(shapes))
    program = closed.jaxpr
    outputs, structure = jax.tree.flatten(tree)
    numbered = structure.unflatten(range(len(outputs)))
    large = {i: k for k, i in enumerate(results(numbered))}
    makers = {v: eqn for eqn in program.eqns for v in eqn.outvars}
    inputs = {v: i for i, v in enumerate(program.invars)}
    known = dict(zip(program.constvars, closed.consts, strict=True))
    needs = _needs(program)
    after = None

    def value(v: Any) -> Any:
        return v.val if _is_literal(v) else known[v]

    def demand(v: Any) -> None:
        """Make a value, and all that it is made of; without recursion, as programs are long."""
        waiting = [v]
        while waiting:
            v = waiting[-1]
            if _is_literal(v) or v in known:
                waiting.pop()
            elif v in inputs:
                known[v] = make(inputs[v], after)
            else:
                eqn = makers[v]
                missing = [u for u in eqn.invars if not _is_literal(u) and u not in known]
                waiting.extend(reversed(missing))
                if not missing:
                    known.update(zip(eqn.outvars, _done(eqn, map(value, eqn.invars)), strict=True))

    used: dict[int, Any] = {}
    for first in program.outvars:
        demand(first)
        made = {i for v, i in inputs.items() if v in known}
        finished = []
        for i, v in enumerate(program.outvars):
            if i in large and large[i] not in used and needs(v) <= made:
                demand(v)
                used[large[i]], last = use(large[i], value(v))
                finished.append(last)
        after = finished or after
    for eqn in program.eqns:
        if eqn.effects and not set(eqn.outvars) & known.keys():
            for v in eqn.invars:
                demand(v)
            _done(eqn, map(value, eqn.invars))
    whole = [None if i in large else value(v) for i, v in enumerate(program.outvars)]
    return structure.unflatten(whole), [used[k] for k in range(len(used))]


def _needs(program: Any) -> Callable[[Any], frozenset[int]]:
    """Of each value, which inputs it is made of."""
    found = {v: frozenset([i]) for i, v in enumerate(program.invars)}
    none = frozenset[int]()

    def of(v: Any) -> frozenset[int]:
        return none if _is_literal(v) else found.get(v, none)

    for eqn in program.eqns:
        found |= dict.fromkeys(eqn.outvars, none.union(*map(of, eqn.invars)))
    return of


def _done(eqn: Any, values: Any) -> Sequence[Any]:
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Before JAX 0.10 a pair, with the functions that the primitive calls.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    found = eqn.primitive.bind(*functions, *values, **params)
    return found if eqn.primitive.multiple_results else [found]


def _is_literal(v: Any) -> bool:
    """Whether it is a number in the program; `jax.extend` would say so, but is large."""
    return hasattr(v, "val")
