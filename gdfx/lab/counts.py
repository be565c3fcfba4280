"""gdfx beside optax in numbers that are the same on every machine, however busy it is.

What a step costs is told by its compiled program: how many kernels it runs, and how many bytes they
read and write. What it costs to get there is told by the instructions that XLA made machine code
of, and by the calls that Python made before.
"""

import gc
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import optax
from rich.text import Text

from gdfx.lab.bench import Case, Factory, find_matching, jitted_step, made, ratio, theirs
from gdfx.lab.resolve import DEFAULT_METHODS
from gdfx.lab.tables import Column, Columns, Page, Shown, page
from gdfx.lab.trees import transformer

T = TypeVar("T")

FULL = Case(transformer((32, 1), (48, 2), (64, 2), (96, 1)), pairs=1)
QUICK = Case(transformer((32, 1)), pairs=1)


@dataclass(frozen=True)
class Counts:
    """What a step of one optimizer is made of."""

    calls: int
    """Calls of functions, Python's and those written in C, to trace it and to lower it."""

    instructions: int
    """Of the program after XLA's optimizations, those inside its kernels included."""

    kernels: int
    """What that program runs, one after the other or at once."""

    moved: int
    """Bytes that it reads and writes, as XLA counts them."""


@dataclass(frozen=True)
class CountRow:
    """A method beside the optimizer that it matches."""

    method: str
    gdfx: Counts
    optax: Counts


@dataclass(frozen=True, repr=False)
class CountBench(Shown):
    """All methods, on one tree."""

    case: str
    rows: tuple[CountRow, ...]

    def table(self) -> Page:
        """Ratios below 1: gdfx needs less."""
        return page(
            f"gdfx / optax {optax.__version__} on {jax.default_backend()}, jax {jax.__version__}: "
            f"a step, {self.case}",
            Columns(
                [Column("method", [row.method for row in self.rows])],
                [
                    Column(title, [_beside(row, field) for row in self.rows])
                    for title, field in (
                        ("calls", "calls"),
                        ("instructions", "instructions"),
                        ("kernels", "kernels"),
                        ("bytes moved", "moved"),
                    )
                ],
            ),
            Text(),
            note="Calls: of functions, to trace and lower. Instructions: what XLA compiles.\n"
            "Kernels: what a step runs. Below 1, gdfx needs less; no clock is read.",
        )


def bench_counts(
    methods: Sequence[str] = DEFAULT_METHODS,
    case: Case = FULL,
    on_row: Callable[[CountRow], None] = lambda row: None,
) -> CountBench:
    """Count what a step is made of, beside the optimizers that methods match.

    Args:
      methods: names of the catalog that match one.
      case: the tree.
      on_row: is called with each result as soon as it is there.

    Raises:
      RequestError: for a name that the catalog has not, or a method that matches no optimizer.
    """
    rows: list[CountRow] = []
    for record in [find_matching(name) for name in dict.fromkeys(methods)]:
        ours, other = (count(factory, case) for factory in (record.maker, theirs(record)))
        rows.append(CountRow(record.name, ours, other))
        on_row(rows[-1])
    return CountBench(str(case), tuple(rows))


def count(factory: Factory, case: Case) -> Counts:
    """What a step with an optimizer is made of, its parameters and state donated."""
    params = case.params()

    def lower() -> Any:
        tx = made(factory)  # anew, so that nothing of it has been traced yet
        state = tx.init(params)
        return _calls(lambda: jitted_step(tx).trace(params, state, params).lower())

    lower()  # what JAX keeps for all programs is there the second time
    calls, lowered = lower()
    compiled = lowered.compile()
    text = compiled.as_text()
    return Counts(calls, len(_INSTRUCTION.findall(text)), _kernels(text), _moved(compiled))


def moved(factory: Factory, case: Case) -> int:
    """How many bytes a step with an optimizer reads and writes, as XLA counts them."""
    params, tx = case.params(), made(factory)
    return _moved(jitted_step(tx).trace(params, tx.init(params), params).lower().compile())


def _calls(function: Callable[[], T]) -> tuple[int, T]:
    """How many calls a function makes, and what it returns."""
    found = 0

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # nor does a collection call anybody
    sys.setprofile(profile)
    try:
        result = function()
    finally:
        sys.setprofile(before)
        gc.enable()
    return found, result


_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*? ([\w\-]+)\(", re.MULTILINE)
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}


def _kernels(text: str) -> int:
    """How many instructions of a program run by themselves, and not inside another one."""
    inner = set(re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", text))
    found, outside = 0, False
    for line in text.splitlines():
        if computation := _COMPUTATION.match(line):
            outside = computation[1] not in inner
        elif outside and (instruction := _INSTRUCTION.match(line)):
            found += instruction[1] not in _FREE
    return found


def _moved(compiled: Any) -> int:
    analysis = compiled.cost_analysis()
    return int((analysis[0] if isinstance(analysis, list) else analysis)["bytes accessed"])


def _beside(row: CountRow, field: str) -> str:
    return ratio(getattr(row.gdfx, field) / getattr(row.optax, field))
