"""What one pass does to each element: the boundary between JAX on one side and LLVM on the other.

It is plain data, so two leaves that go through the same arithmetic have equal loops, and share
machine code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_DTYPES = """
    bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 bfloat16 float16 float32 float64
"""
DTYPES = frozenset(_DTYPES.split())
"""What a loop reads, computes and writes."""

_OPERATIONS = """
    abs add and bitcast_convert_type clamp convert_element_type copy div eq ge gt is_finite le lt
    max min mul ne neg not or reduce_precision rsqrt select_n shift_left shift_right_logical sign
    sqrt sub xor
"""
OPERATIONS = frozenset(_OPERATIONS.split())
"""What it is made of, by the names that JAX gives them."""


@dataclass(frozen=True)
class Literal:
    """A number in the loop's code."""

    bits: int  # of the number in its dtype, as an unsigned whole number: so −0 is not 0
    dtype: str


@dataclass(frozen=True)
class Operation:
    """One operation of `jax.lax` on one element of each operand, rounded to ``dtype``."""

    name: str
    operands: tuple[int | Literal, ...]  # int: the place of a value, see `Loop`
    dtype: str
    precision: tuple[int, int] | None = None  # bits of exponent and mantissa: reduce_precision


@dataclass(frozen=True)
class Loop:
    """Values are counted through: first the scalars, then the arrays, then the operations."""

    scalars: tuple[str, ...]  # dtypes
    arrays: tuple[str, ...]
    operations: tuple[Operation, ...]
    results: tuple[int, ...]  # the places of the values that are written

    def dtype(self, operand: int | Literal) -> str:
        """The dtype of a value or a literal."""
        if isinstance(operand, Literal):
            return operand.dtype
        given = self.scalars + self.arrays
        return (
            given[operand] if operand < len(given) else self.operations[operand - len(given)].dtype
        )

    def depends(self, given: Sequence[bool]) -> list[bool]:
        """Which results depend on those of the scalars and arrays for which it says so."""
        flags = list(given)
        for operation in self.operations:
            flags.append(any(flags[u] for u in operation.operands if isinstance(u, int)))
        return [flags[i] for i in self.results]

    @property
    def written(self) -> tuple[str, ...]:
        """The dtypes of the results."""
        return tuple(map(self.dtype, self.results))
