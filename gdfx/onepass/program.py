"""A traced step as one flat list of equations, and its values in XLA."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

# Calls that only wrap equations, and where those stand.
_WRAPPERS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
}


@dataclass(eq=False, slots=True)
class Value:
    """What an equation computes, or what the program is given."""

    aval: Any
    source: "Equation | None" = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.aval.shape

    @property
    def size(self) -> int:
        """How many elements."""
        return self.aval.size


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """A number in the program's text."""

    value: Any  # as JAX wrote it there
    dtype: Any

    shape = ()
    size = 1


Operand = Value | Constant


@dataclass(eq=False, slots=True)
class Equation:
    """One primitive, applied."""

    primitive: Any
    operands: list[Operand]
    parameters: dict[str, Any]
    context: Any
    place: int
    results: list[Value] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The primitive's."""
        return self.primitive.name


@dataclass(frozen=True)
class Program:
    """Calls that only wrap are gone, and equal numbers are computed once."""

    given: tuple[Value, ...]
    captured: tuple[tuple[Value, Any], ...]  # arrays that the traced function closes over
    wanted: tuple[Operand, ...]


def flat(closed: Any) -> Program:
    """The program of a `jax.make_jaxpr`."""
    return _Flattening().program(closed)


class _Flattening:
    def __init__(self) -> None:
        self.captured: dict[int, tuple[Value, Any]] = {}
        self.numbers: dict[Any, list[Value]] = {}  # results of equations on single numbers
        self.count = 0

    def program(self, closed: Any) -> Program:
        given = [Value(v.aval) for v in closed.jaxpr.invars]
        wanted = self.walk(closed.jaxpr, closed.consts, given)
        return Program(tuple(given), tuple(self.captured.values()), tuple(wanted))

    def capture(self, array: Any) -> Value:
        if id(array) not in self.captured:
            self.captured[id(array)] = Value(jax.typeof(array)), array
        return self.captured[id(array)][0]

    def walk(self, jaxpr: Any, consts: Iterable[Any], given: Sequence[Operand]) -> list[Operand]:
        env: dict[Any, Operand] = dict(zip(jaxpr.invars, given, strict=True))
        env.update(zip(jaxpr.constvars, map(self.capture, consts), strict=True))

        def read(atom: Any) -> Operand:
            return Constant(atom.val, atom.aval.dtype) if hasattr(atom, "val") else env[atom]

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            env.update(zip(eqn.outvars, self.apply(eqn, operands), strict=True))
        return [read(v) for v in jaxpr.outvars]

    def apply(self, eqn: Any, operands: list[Operand]) -> Sequence[Operand]:
        inner = eqn.params.get(_WRAPPERS.get(eqn.primitive.name, ""))
        if inner is not None and _only_wraps(eqn.params):
            closed = hasattr(inner, "consts")
            return self.walk(
                inner.jaxpr if closed else inner, inner.consts if closed else (), operands
            )
        key = _key(eqn, operands)
        if key is not None and key in self.numbers:
            return self.numbers[key]
        equation = Equation(eqn.primitive, operands, eqn.params, eqn.ctx, self.count)
        equation.results = [Value(v.aval, equation) for v in eqn.outvars]
        self.count += 1
        if key is not None:
            self.numbers[key] = equation.results
        return equation.results


def _only_wraps(parameters: dict[str, Any]) -> bool:
    """Whether a call, if it is `jax.jit`'s, says nothing of where its arrays lie."""
    shardings = (*parameters.get("in_shardings", ()), *parameters.get("out_shardings", ()))
    return all(type(s).__name__ == "UnspecifiedValue" for s in shardings)


def _key(eqn: Any, operands: Iterable[Operand]) -> Any:
    """What tells equations on single numbers apart; None for any other."""
    if any(v.aval.size != 1 for v in eqn.outvars) or eqn.effects:
        return None
    key = (
        eqn.primitive,
        tuple(map(_identity, operands)),
        tuple(sorted(eqn.params.items())),
        tuple(v.aval for v in eqn.outvars),
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _identity(operand: Operand) -> Any:
    if isinstance(operand, Value):
        return id(operand)
    value = np.asarray(operand.value, operand.dtype)
    return operand.dtype, value.shape, value.tobytes(), getattr(operand.value, "weak_type", None)


class Evaluation:
    """Values of a program in XLA, each computed once, when it is first asked for."""

    def __init__(self, program: Program, arguments: Iterable[Any]) -> None:
        self.known = dict(zip(program.given, arguments, strict=True)) | dict(program.captured)

    def __call__(self, operand: Operand) -> Any:
        """The value in the trace that is running."""
        if isinstance(operand, Constant):
            return operand.value
        for equation in self._needed(operand):
            self.known.update(zip(equation.results, self._apply(equation), strict=True))
        return self.known[operand]

    def _needed(self, value: Value) -> Iterator[Equation]:
        """The equations that lead to a value, in their order."""
        found: dict[Equation, None] = {}
        todo = [value]
        while todo:
            v = todo.pop()
            if v not in self.known and v.source is not None and v.source not in found:
                found[v.source] = None
                todo += [u for u in v.source.operands if isinstance(u, Value)]
        yield from sorted(found, key=lambda equation: equation.place)

    def _apply(self, equation: Equation) -> Sequence[Any]:
        operands = [
            u.value if isinstance(u, Constant) else self.known[u] for u in equation.operands
        ]
        found = equation.primitive.get_bind_params(equation.parameters)
        # Before JAX 0.10 a pair, with the functions that the primitive calls.
        functions, parameters = found if isinstance(found, tuple) else ((), found)
        with equation.context.manager:
            results = equation.primitive.bind(*functions, *operands, **parameters)
        return results if equation.primitive.multiple_results else [results]
