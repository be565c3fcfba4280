"""Which parts of a step treat each element by itself: a region of arithmetic for each leaf.

XLA keeps numbers, sums, conditionals, random numbers and whatever else looks beyond one element.
It computes them from what the step is given, never from what a pass writes; so a pass waits for
XLA, and XLA for no pass.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdfx.onepass.loop import DTYPES, OPERATIONS, Literal, Loop, Operation
from gdfx.onepass.program import Constant, Equation, Operand, Program, Value

SAME = frozenset({"copy", "copy_p", "stop_gradient", "pvary", "pcast", "broadcast_in_dim"})
"""What gives each element as it is; a broadcast that of a single number."""

ARITHMETIC = OPERATIONS - {"copy"} | {"add_any", "square", "integer_pow"}
"""Of which a loop is made; the last become sums and products."""

_POWERS = range(-8, 9)  # which integer_pow becomes multiplications


@dataclass(frozen=True)
class Region:
    """Arithmetic on arrays of one shape; what is read and written, in the order of its loop."""

    loop: Loop
    scalars: tuple[Value, ...]
    arrays: tuple[Value, ...]
    results: tuple[Value, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each array."""
        return self.results[0].shape


def regions(program: Program) -> list[Region]:
    """The regions of a program: results that share an array or arithmetic are in one."""
    wanted = (v for v in dict.fromkeys(program.wanted) if isinstance(v, Value))
    slices = [_slice(v) for v in wanted if why_not(v) is None]
    return [_region(group) for group in _joined(slices)]


def why_not(wanted: Operand) -> str | None:
    """Why a result of the step is in no region; None if it is in one."""
    if isinstance(wanted, Constant) or wanted.size == 1:
        return "one element"
    if wanted.size == 0:
        return "no element"
    if wanted.source is None:
        return "it does not change"
    if wanted.aval.weak_type:
        return "its dtype is weak"
    if _dtype(wanted) not in DTYPES:
        return f"a pass has no {wanted.aval.dtype}"
    if not _is_elementwise(wanted.source, wanted.shape):
        return f"a pass has no {wanted.source.name}"
    return None


def _is_elementwise(equation: Equation, shape: tuple[int, ...]) -> bool:
    """Whether an element of the result needs the operands' element of that place only."""
    if len(equation.results) != 1 or equation.results[0].shape != shape:
        return False
    if equation.name == "broadcast_in_dim":
        return equation.operands[0].size == 1 and len(equation.operands) == 1
    if equation.name not in ARITHMETIC | SAME:
        return False
    if not all(u.shape == shape or u.size == 1 for u in equation.operands):
        return False
    dtypes = [_dtype(u) for u in (*equation.operands, *equation.results)]
    return DTYPES.issuperset(dtypes) and _is_known(equation, dtypes)


def _is_known(equation: Equation, dtypes: Sequence[str]) -> bool:
    """Whether a loop has the primitive in this form."""
    match equation.name:
        case "integer_pow":
            return equation.parameters["y"] in _POWERS and _is_float(dtypes[0])
        case "select_n":
            return dtypes[0] == "bool" and len(equation.operands) == 3
        case "bitcast_convert_type":
            return jnp.dtype(dtypes[0]).itemsize == jnp.dtype(dtypes[1]).itemsize
        case "reduce_precision":
            return dtypes[0] in ("float32", "float64")
        case "div" | "sqrt" | "rsqrt":
            return _is_float(dtypes[0])
        case "add" | "add_any" | "sub" | "mul" | "square" | "max" | "min" | "clamp":
            return dtypes[0] != "bool"
        case "convert_element_type":
            return equation.parameters.get("sharding") is None
        case _:
            return True


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def _dtype(operand: Operand) -> str:
    return _name(operand.aval.dtype if isinstance(operand, Value) else operand.dtype)


_name = functools.cache(str)  # of a dtype, which NumPy makes anew each time


@dataclass
class _Slice:
    """What a result is made of, back to the program's inputs and what XLA computes."""

    results: list[Value]
    equations: dict[Equation, None] = field(default_factory=dict)
    arrays: dict[Value, None] = field(default_factory=dict)


def _slice(result: Value) -> _Slice:
    found, todo = _Slice([result]), [result]
    while todo:
        value = todo.pop()
        source = value.source
        if source is None or not _is_elementwise(source, result.shape):
            found.arrays[value] = None
        elif source not in found.equations:
            found.equations[source] = None
            todo += [u for u in source.operands if isinstance(u, Value) and u.size > 1]
    return found


def _joined(slices: Iterable[_Slice]) -> list[_Slice]:
    """Slices that have something in common, as one."""
    owner: dict[Any, _Slice] = {}
    groups: dict[int, _Slice] = {}
    for one in slices:
        parts = [*one.equations, *one.arrays]
        for other in {id(owner[part]): owner[part] for part in parts if part in owner}.values():
            one.results = other.results + one.results
            one.equations |= other.equations
            one.arrays |= other.arrays
            del groups[id(other)]
        groups[id(one)] = one
        owner.update(dict.fromkeys([*one.equations, *one.arrays], one))
    return list(groups.values())


def _region(group: _Slice) -> Region:
    equations = sorted(group.equations, key=lambda equation: equation.place)
    # In the order of their first use, which is the same for every leaf.
    used = dict.fromkeys(u for e in equations for u in e.operands if isinstance(u, Value))
    arrays = tuple(u for u in used if u in group.arrays)
    scalars = tuple(u for u in used if u.size == 1)
    build = _Build(scalars, arrays)
    for equation in equations:
        build.add(equation)
    results = tuple(sorted(group.results, key=lambda v: v.source.place if v.source else -1))
    return Region(build.loop(results), scalars, arrays, results)


class _Build:
    """A loop in the making."""

    def __init__(self, scalars: tuple[Value, ...], arrays: tuple[Value, ...]) -> None:
        self.given = tuple(map(_dtype, scalars)), tuple(map(_dtype, arrays))
        self.places: dict[Value, int | Literal] = {v: i for i, v in enumerate(scalars + arrays)}
        self.operations: list[Operation] = []

    def loop(self, results: Iterable[Value]) -> Loop:
        places = tuple(self.place(self.places[v], _dtype(v)) for v in results)
        return Loop(*self.given, tuple(self.operations), places)

    def place(self, operand: int | Literal, dtype: str) -> int:
        """A result's place; a literal has none, and is made a value."""
        return operand if isinstance(operand, int) else self.emit("copy", [operand], dtype)

    def emit(self, name: str, operands: Iterable[int | Literal], dtype: str, **more: Any) -> int:
        self.operations.append(Operation(name, tuple(operands), dtype, **more))
        return len(self.given[0]) + len(self.given[1]) + len(self.operations) - 1

    def add(self, equation: Equation) -> None:
        operands = [
            self.places[u] if isinstance(u, Value) else _literal(u) for u in equation.operands
        ]
        self.places[equation.results[0]] = self.value(equation, operands)

    def value(self, equation: Equation, operands: list[int | Literal]) -> int | Literal:
        dtype = _dtype(equation.results[0])
        match equation.name:
            case name if name in SAME:
                return operands[0]
            case "square":
                return self.emit("mul", operands * 2, dtype)
            case "integer_pow":
                return self.power(operands[0], equation.parameters["y"], dtype)
            case "add_any":
                return self.emit("add", operands, dtype)
            case "reduce_precision":
                p = equation.parameters
                bits = p["exponent_bits"], p["mantissa_bits"]
                return self.emit("reduce_precision", operands, dtype, precision=bits)
            case name:
                return self.emit(name, operands, dtype)

    def power(self, x: int | Literal, y: int, dtype: str) -> int | Literal:
        """X to a whole power, by squaring."""
        one = _literal(Constant(1, jnp.dtype(dtype)))
        if y < 0:
            return self.emit("div", [one, self.power(x, -y, dtype)], dtype)
        if y < 2:
            return x if y else one
        half = self.power(x, y // 2, dtype)
        square = self.emit("mul", [half, half], dtype)
        return self.emit("mul", [square, x], dtype) if y % 2 else square


def _literal(constant: Constant) -> Literal:
    bits = np.asarray(constant.value, constant.dtype).tobytes()
    return Literal(int.from_bytes(bits, "little"), str(constant.dtype))
