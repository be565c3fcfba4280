"""State of few bits beside state in float32: time of a step, and the memory that it needs.

All steps of a method run in one process and take turns; what is compared is the ratio to the one in
float32 of the same round. What a compiled step holds is told by XLA, and no clock.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from rich.text import Text

from gdfx.core.codes import BLOCK
from gdfx.lab.bench import (
    Case,
    Factory,
    donatable,
    frozen,
    jitted_step,
    made,
    ratio,
    rounds,
    seconds,
    stepping,
)
from gdfx.lab.tables import Column, Columns, Page, Shown, page
from gdfx.lab.trees import array, transformer
from gdfx.lookup import find_method
from gdfx.wrappers.quantized import quantized

CODES = tuple(BLOCK)

FULL = (
    Case([array(1_000_000)], pairs=21, repeats=5),
    Case([array(1_000_000)] * 8, pairs=15),
    Case(transformer((128, 9)), pairs=15, repeats=3),
)
QUICK = (Case([array(100_000)] * 2, pairs=9, repeats=10), Case([array(100_000)] * 8, pairs=9))


class Memory(NamedTuple):
    """Bytes for each parameter."""

    state: float
    """Of the state, between steps."""

    beside: float
    """Of what a compiled step holds beside what it is given and returns, at most."""

    most: float
    """Of all that is there at once: parameters, gradients, state, and that."""


@dataclass(frozen=True)
class CodedRow:
    """The step of a method whose state is held so."""

    method: str
    case: str
    code: str  # of `gdfx.quantized`; float32: without that
    step: float  # median seconds
    ratios: tuple[float, ...]  # to the step in float32, round by round
    memory: Memory


@dataclass(frozen=True, repr=False)
class CodedBench(Shown):
    """All rows of a run."""

    rows: tuple[CodedRow, ...]

    def table(self) -> Page:
        """Ratios above 1: slower than in float32."""
        return page(
            f"state of few bits on {jax.default_backend()}, jax {jax.__version__}",
            Columns(
                [
                    Column("method", [row.method for row in self.rows]),
                    Column("tree, elements", [row.case for row in self.rows]),
                    Column("state", [row.code for row in self.rows]),
                ],
                [
                    Column("step", [seconds(row.step) for row in self.rows]),
                    Column("ratio", [ratio(statistics.median(row.ratios)) for row in self.rows]),
                    *(
                        Column(f"{field} B", [f"{row.memory[i]:.2f}" for row in self.rows])
                        for i, field in enumerate(Memory._fields)
                    ),
                ],
                gap=1,
            ),
            Text(),
            note="Ratio: to the step in float32. B, bytes a parameter: the state's; those beside\n"
            "what a step is given and returns; the most at once, with parameters and gradients.",
        )


def bench_low_bit(
    methods: Sequence[str] = ("adam",),
    cases: Sequence[Case] = FULL,
    codes: Sequence[str] = CODES,
    on_row: Callable[[CodedRow], None] = lambda row: None,
) -> CodedBench:
    """Measure steps with state in codes beside the same in float32.

    Args:
      methods: names of the catalog.
      cases: trees, and how often a step of each is measured.
      codes: those of `gdfx.quantized`.
      on_row: is called with each result as soon as it is there.

    Raises:
      RequestError: for a name that the catalog has not.
    """
    rows: list[CodedRow] = []
    with frozen():
        for record in [find_method(name) for name in dict.fromkeys(methods)]:
            makers: dict[str, Factory] = {"float32": record.maker}
            makers |= {code: functools.partial(_coded, record.maker, code) for code in codes}
            for case in cases:
                steps = [_step(make, case) for make in makers.values()]
                times = rounds([run for run, _ in steps], case.pairs)
                for code, found, (_, memory) in zip(makers, times, steps, strict=True):
                    ratios = tuple(a / b for a, b in zip(found, times[0], strict=True))
                    middle = statistics.median(found)
                    rows.append(CodedRow(record.name, str(case), code, middle, ratios, memory))
                    on_row(rows[-1])
    return CodedBench(tuple(rows))


def _coded(make: Factory, code: str, rate: float) -> Any:
    return quantized(make(rate), code)


def _step(make: Factory, case: Case) -> tuple[Callable[[], float], Memory]:
    """What takes a step, and what that needs."""
    tx = made(make)
    carry = donatable(tx, case)
    step = jitted_step(tx).lower(*carry, case.grads()).compile()
    size = sum(leaf.size for leaf in jax.tree.leaves(case.tree))
    told: Any = step.memory_analysis()
    beside = told.temp_size_in_bytes
    given = told.argument_size_in_bytes + told.output_size_in_bytes - told.alias_size_in_bytes
    state = sum(x.nbytes for x in jax.tree.leaves(carry[1]))
    memory = Memory(state / size, beside / size, (given + beside) / size)
    return stepping(step, carry, case), memory
