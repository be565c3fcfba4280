"""A loop's arithmetic as LLVM text: explicit vectors, one operation after the other.

Each operation has the dtype that it has in the loop. A multiplication and the addition after it
may become one instruction with one rounding (``contract``), as XLA lets them. Numbers of 16 bits
are held in float32, and rounded after each operation that can leave their grid.
"""

import contextlib
import struct
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from gdfx.onepass.loop import Literal, Loop, Operation

MEMORY = {
    "bool": "i8",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "i8",
    "uint16": "i16",
    "uint32": "i32",
    "uint64": "i64",
    "bfloat16": "i16",
    "float16": "half",
    "float32": "float",
    "float64": "double",
}
"""The LLVM type of an element in memory."""

REGISTER = MEMORY | {"bool": "i1", "bfloat16": "float", "float16": "float"}
"""That of a value."""

_SUFFIX = {"half": "f16", "float": "f32", "double": "f64"}
BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "half": 16, "float": 32, "double": 64}
_MANTISSA = {"float": 23, "double": 52}


def is_float(dtype: str) -> bool:
    """Whether numbers of the dtype are floating."""
    return REGISTER[dtype] in ("float", "double")


@dataclass
class Body:
    """The text of one turn of a loop, on so many elements at once."""

    lanes: int
    tag: str  # in front of each name
    lines: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)  # what comes before the first turn
    declared: set[str] = field(default_factory=set)

    def new(self, expression: str) -> str:
        """The name of a new value."""
        name = f"%{self.tag}{len(self.lines) + len(self.ahead)}"
        self.lines.append(f"{name} = {expression}")
        return name

    @contextlib.contextmanager
    def once(self) -> Generator[None]:
        """What is written here is the same for all elements, and comes before the first turn."""
        turn, before = self.lines, self.ahead
        self.lines, self.ahead = before, turn
        try:
            yield
        finally:
            self.lines, self.ahead = turn, before

    def vector(self, kind: str) -> str:
        """The type of that many elements."""
        return f"<{self.lanes} x {kind}>"

    def splat(self, kind: str, constant: str) -> str:
        """A constant, so many times."""
        return "<" + ", ".join([f"{kind} {constant}"] * self.lanes) + ">"

    def number(self, kind: str, value: float) -> str:
        """A number, so many times."""
        return self.splat(kind, _constant(kind, value))

    def binary(self, instruction: str, kind: str, x: str, y: str) -> str:
        """An instruction on two operands of one type."""
        return self.new(f"{instruction} {self.vector(kind)} {x}, {y}")

    def convert(self, instruction: str, kind: str, x: str, to: str) -> str:
        """A conversion."""
        return self.new(f"{instruction} {self.vector(kind)} {x} to {self.vector(to)}")

    def choose(self, kind: str, condition: str, x: str, y: str) -> str:
        """``x`` where the condition holds, else ``y``."""
        v = self.vector(kind)
        return self.new(f"select {self.vector('i1')} {condition}, {v} {x}, {v} {y}")

    def call(self, intrinsic: str, kind: str, *operands: str) -> str:
        """An intrinsic function of operands and a result of one type."""
        v = self.vector(kind)
        name = f"@llvm.{intrinsic}.v{self.lanes}{_SUFFIX.get(kind, kind)}"
        self.declared.add(f"declare {v} {name}({', '.join([v] * len(operands))})")
        return self.new(f"call {v} {name}({', '.join(f'{v} {x}' for x in operands)})")

    def saturating(self, x: str, kind: str, to: str, *, signed: bool) -> str:
        """A floating number as a whole one: the nearest to 0, or the nearest there is; NaN as 0."""
        v, w = self.vector(kind), self.vector(to)
        suffix = f"v{self.lanes}{to}.v{self.lanes}{_SUFFIX[kind]}"
        name = f"@llvm.fpto{'s' if signed else 'u'}i.sat.{suffix}"
        self.declared.add(f"declare {w} {name}({v})")
        return self.new(f"call {w} {name}({v} {x})")


def loop_body(loop: Loop, body: Body, scalars: Sequence[str], arrays: Sequence[str]) -> list[str]:
    """Write a turn of the loop, from and to values as they lie in memory; the results' names."""
    with body.once():
        values = [_loaded(body, *given) for given in zip(loop.scalars, scalars, strict=True)]
    values += [_loaded(body, *given) for given in zip(loop.arrays, arrays, strict=True)]
    inverses: dict[int | Literal, tuple[str, str]] = {}
    for operation in loop.operations:
        operands = [
            _literal(body, u) if isinstance(u, Literal) else values[u] for u in operation.operands
        ]
        divisor = operation.operands[1] if operation.name == "div" else None
        if isinstance(divisor, Literal) or (divisor is not None and divisor < len(scalars)):
            if divisor not in inverses:
                inverses[divisor] = _inverse(body, REGISTER[operation.dtype], operands[1])
            values.append(_divided(body, operation.dtype, operands[0], inverses[divisor]))
        else:
            kinds = [loop.dtype(u) for u in operation.operands]
            values.append(_apply(body, operation, operands, kinds))
    return [
        _stored(body, dtype, values[i]) for dtype, i in zip(loop.written, loop.results, strict=True)
    ]


def _inverse(body: Body, kind: str, x: str) -> tuple[str, str]:
    """Two factors in place of a divisor: their product is its inverse, and neither is subnormal.

    The processor divides slowly, and this is once for all elements. The inverse of the largest
    numbers, which is subnormal and so counts as 0, is made of 1/16 and sixteen times as much.
    """
    limit = 2.0 ** {"float": 126, "double": 1022}[kind]
    with body.once():
        size = body.call("fabs", kind, x)
        large = body.binary("fcmp ogt", kind, size, body.number(kind, limit))
        scale = body.choose(kind, large, body.number(kind, 1 / 16), body.number(kind, 1.0))
        small = body.binary("fmul", kind, x, scale)
        return scale, body.binary("fdiv", kind, body.number(kind, 1.0), small)


def _divided(body: Body, dtype: str, x: str, factors: tuple[str, str]) -> str:
    kind = REGISTER[dtype]
    scaled = body.binary("fmul", kind, x, factors[0])
    return _on_grid(body, dtype, body.binary(_FLOAT["mul"], kind, scaled, factors[1]))


def _constant(kind: str, value: float) -> str:
    if kind in _MANTISSA:
        return "0x" + struct.pack(">d", value).hex().upper()
    return str(int(value))


def _literal(body: Body, literal: Literal) -> str:
    kind = REGISTER[literal.dtype]
    if kind == "i1":
        return body.splat(kind, "true" if literal.bits else "false")
    if not is_float(literal.dtype):
        return body.splat(kind, str(literal.bits))
    # An LLVM constant is written in double precision, which holds each of the narrower ones.
    if literal.dtype == "bfloat16":
        value = struct.unpack("<f", struct.pack("<I", literal.bits << 16))[0]
    else:
        code, whole = {"float16": "eH", "float32": "fI", "float64": "dQ"}[literal.dtype]
        value = struct.unpack(f"<{code}", struct.pack(f"<{whole}", literal.bits))[0]
    return body.number(kind, value)


# Between memory and register.


def _loaded(body: Body, dtype: str, x: str) -> str:
    match dtype:
        case "bool":
            return body.binary("icmp ne", "i8", x, "zeroinitializer")
        case "float16":
            return body.convert("fpext", "half", x, "float")
        case "bfloat16":
            wide = body.convert("zext", "i16", x, "i32")
            high = body.binary("shl", "i32", wide, body.number("i32", 16))
            return body.convert("bitcast", "i32", high, "float")
        case _:
            return x


def _stored(body: Body, dtype: str, x: str) -> str:
    match dtype:
        case "bool":
            return body.convert("zext", "i1", x, "i8")
        case "float16":
            return body.convert("fptrunc", "float", x, "half")
        case "bfloat16":
            bits = body.convert("bitcast", "float", x, "i32")
            high = body.binary("lshr", "i32", bits, body.number("i32", 16))
            return body.convert("trunc", "i32", high, "i16")
        case _:
            return x


def _on_grid(body: Body, dtype: str, x: str) -> str:
    """A number rounded to the dtype, in its register."""
    match dtype:
        case "float16":
            half = body.convert("fptrunc", "float", x, "half")
            return body.convert("fpext", "half", half, "float")
        case "bfloat16":
            return _round_mantissa(body, "float", x, 7)
        case _:
            return x


def _round_mantissa(body: Body, kind: str, x: str, mantissa: int) -> str:
    """To the nearest number of a shorter mantissa, of two to the even one; NaN stays."""
    whole = f"i{BITS[kind]}"
    dropped = _MANTISSA[kind] - mantissa
    if dropped <= 0:
        return x
    bits = body.convert("bitcast", kind, x, whole)
    last = body.binary("lshr", whole, bits, body.number(whole, dropped))
    odd = body.binary("and", whole, last, body.number(whole, 1))
    up = body.binary("add", whole, bits, body.number(whole, (1 << (dropped - 1)) - 1))
    up = body.binary("add", whole, up, odd)
    kept = body.binary("and", whole, up, body.number(whole, -1 << dropped))
    near = body.convert("bitcast", whole, kept, kind)
    nan = body.number(kind, float("nan"))
    return body.choose(kind, body.binary("fcmp uno", kind, x, x), nan, near)


def _reduced(body: Body, kind: str, x: str, precision: tuple[int, int]) -> str:
    """`jax.lax.reduce_precision`: beyond the exponents Inf, below them 0."""
    exponent, mantissa = precision
    near = _round_mantissa(body, kind, x, mantissa)
    if exponent >= BITS[kind] - 1 - _MANTISSA[kind]:
        return near
    bias = 2 ** (exponent - 1) - 1
    size = body.call("fabs", kind, near)
    too_large = body.binary("fcmp oge", kind, size, body.number(kind, 2.0 ** (bias + 1)))
    too_small = body.binary("fcmp olt", kind, size, body.number(kind, 2.0 ** (1 - bias)))
    size = body.choose(kind, too_large, body.number(kind, float("inf")), size)
    size = body.choose(kind, too_small, "zeroinitializer", size)
    return body.call("copysign", kind, size, near)


# Operations. Each gets the names of its operands and their dtypes.

_FLOAT = {"add": "fadd contract", "sub": "fsub contract", "mul": "fmul contract", "div": "fdiv"}
_WHOLE = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")


def _apply(body: Body, operation: Operation, operands: list[str], dtypes: list[str]) -> str:
    dtype, kind = operation.dtype, REGISTER[operation.dtype]
    match operation.name:
        case "convert_element_type":
            return _converted(body, operands[0], dtypes[0], dtype)
        case "bitcast_convert_type":
            return _bitcast(body, operands[0], dtypes[0], dtype)
        case "select_n":
            condition, otherwise, then = operands
            return body.choose(kind, condition, then, otherwise)
        case "is_finite":
            of = REGISTER[dtypes[0]]
            size = body.call("fabs", of, operands[0])
            return body.binary("fcmp olt", of, size, body.number(of, float("inf")))
        case "copy":
            v = body.vector(kind)
            return body.new(f"bitcast {v} {operands[0]} to {v}")
        case name if name in _COMPARE:
            return _compared(body, name, operands, dtypes[0])
        case _ if is_float(dtype):
            return _floating(body, operation, operands)
        case _:
            return _whole(body, operation, operands)


def _floating(body: Body, operation: Operation, operands: list[str]) -> str:
    dtype, kind = operation.dtype, REGISTER[operation.dtype]
    x, *more = operands
    match operation.name:
        case "add" | "sub" | "mul" | "div" as name:
            return _on_grid(body, dtype, body.binary(_FLOAT[name], kind, x, *more))
        case "sqrt":
            return _on_grid(body, dtype, body.call("sqrt", kind, x))
        case "rsqrt":
            root = body.call("sqrt", kind, x)
            one = body.number(kind, 1.0)
            return _on_grid(body, dtype, body.binary("fdiv", kind, one, root))
        case "neg":
            return body.new(f"fneg {body.vector(kind)} {x}")
        case "abs":
            return body.call("fabs", kind, x)
        case "max":
            return body.call("maximum", kind, x, *more)
        case "min":
            return body.call("minimum", kind, x, *more)
        case "clamp":
            inside, high = more
            return body.call("minimum", kind, body.call("maximum", kind, x, inside), high)
        case "sign":
            return _sign(body, kind, x)
        case "reduce_precision" if operation.precision is not None:
            return _reduced(body, kind, x, operation.precision)
        case name:
            raise NotImplementedError(f"a pass has no {name} of {dtype}")


def _sign(body: Body, kind: str, x: str) -> str:
    """X / |x|; 0 where x is 0 (or subnormal, where the processor takes that for 0), NaN as NaN."""
    other = body.binary("fcmp one", kind, x, "zeroinitializer")
    size = body.choose(kind, other, body.number(kind, 1.0), "zeroinitializer")
    nan = body.binary("fcmp uno", kind, x, x)
    return body.choose(kind, nan, x, body.call("copysign", kind, size, x))


def _whole(body: Body, operation: Operation, operands: list[str]) -> str:
    kind = REGISTER[operation.dtype]
    sign = "u" if operation.dtype.startswith("u") else "s"
    x, *more = operands
    match operation.name:
        case name if name in _WHOLE:
            return body.binary(_WHOLE[name], kind, x, *more)
        case "not":
            return body.binary("xor", kind, x, body.splat(kind, "true" if kind == "i1" else "-1"))
        case "neg":
            return body.binary("sub", kind, "zeroinitializer", x)
        case "abs":
            negative = body.binary("icmp slt", kind, x, "zeroinitializer")
            return body.choose(kind, negative, body.binary("sub", kind, "zeroinitializer", x), x)
        case "max" | "min" as name:
            return body.call(f"{sign}{name}", kind, x, *more)
        case "clamp":
            inside, high = more
            return body.call(f"{sign}min", kind, body.call(f"{sign}max", kind, x, inside), high)
        case "sign" if sign == "s":
            above = body.call("smax", kind, x, body.number(kind, -1))
            return body.call("smin", kind, above, body.number(kind, 1))
        case "shift_left" | "shift_right_logical" as name:
            # By all bits or more it is 0, which LLVM leaves open.
            inside = body.binary("icmp ult", kind, more[0], body.number(kind, BITS[kind]))
            by = body.choose(kind, inside, more[0], "zeroinitializer")
            shifted = body.binary("shl" if name == "shift_left" else "lshr", kind, x, by)
            return body.choose(kind, inside, shifted, "zeroinitializer")
        case name:
            raise NotImplementedError(f"a pass has no {name} of {operation.dtype}")


def _compared(body: Body, name: str, operands: Iterable[str], dtype: str) -> str:
    kind = REGISTER[dtype]
    if is_float(dtype):
        instruction = f"fcmp {'une' if name == 'ne' else f'o{name}'}"
    elif name in ("eq", "ne"):
        instruction = f"icmp {name}"
    else:
        instruction = f"icmp {'s' if dtype.startswith('int') else 'u'}{name}"
    return body.binary(instruction, kind, *operands)


def _bitcast(body: Body, x: str, source: str, to: str) -> str:
    bits = _stored(body, source, x)
    return _loaded(body, to, body.convert("bitcast", MEMORY[source], bits, MEMORY[to]))


def _converted(body: Body, x: str, source: str, to: str) -> str:
    kind, new = REGISTER[source], REGISTER[to]
    if source == to:
        return x
    if is_float(source) and is_float(to):
        return _on_grid(body, to, _resized(body, x, kind, new, ("fpext", "fptrunc")))
    if is_float(to):
        signed = source.startswith("int")
        return _on_grid(body, to, body.convert("sitofp" if signed else "uitofp", kind, x, new))
    if to == "bool" and source == "bfloat16":  # XLA looks at the bits: a subnormal number is true
        bits = body.convert("bitcast", kind, x, "i32")
        size = body.binary("shl", "i32", bits, body.number("i32", 1))
        return body.binary("icmp ne", "i32", size, "zeroinitializer")
    if to == "bool":
        compare = "fcmp une" if is_float(source) else "icmp ne"
        return body.binary(compare, kind, x, "zeroinitializer")
    if is_float(source):
        return body.saturating(x, kind, new, signed=to.startswith("int"))
    return _resized(body, x, kind, new, ("sext" if source.startswith("int") else "zext", "trunc"))


def _resized(body: Body, x: str, kind: str, new: str, ways: tuple[str, str]) -> str:
    """The same number in a wider or a narrower type."""
    if kind == new:
        return x
    return body.convert(ways[BITS[new] < BITS[kind]], kind, x, new)
