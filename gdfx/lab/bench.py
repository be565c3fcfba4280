"""gdfx beside optax: time of a step, and of tracing and compiling one.

The two run in one process and take turns, and what is compared is the ratio of each pair of
runs: on a shared machine that is what can be trusted, not the seconds.
"""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gdfx.catalog import METHODS

RATE = 1e-3
T = TypeVar("T")
Factory = Callable[..., optax.GradientTransformation]


@dataclass(frozen=True)
class Case:
    """A tree of float32 leaves, and how often what is measured on it."""

    leaves: int
    elements: int
    steps: int  # in one timed run; 0: time the compilation, not the step
    pairs: int

    def params(self) -> list[jax.Array]:
        """Leaves of (nearly) equal size: seven shapes, as a network has a few."""
        sizes = itertools.islice(itertools.cycle(range(7)), self.leaves)
        return [jnp.ones(self.elements + size) for size in sizes]

    def __str__(self) -> str:
        large = self.elements >= 1e5
        elements = f"{self.elements:.0e}".replace("e+0", "e") if large else str(self.elements)
        return f"{self.leaves} × {elements}"


STEP = (Case(1, 100_000, 100, 41), Case(1, 10_000_000, 2, 31), Case(100, 1_000, 20, 41))
COMPILE = (Case(100, 8, 0, 7), Case(1_000, 8, 0, 3))


@dataclass(frozen=True)
class Row:
    """One comparison."""

    method: str
    case: str
    what: str
    gdfx: float  # median seconds
    optax: float
    ratios: tuple[float, ...]  # gdfx / optax, a pair of neighbouring runs each

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the ratios."""
        low, median, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, median, high


@dataclass(frozen=True)
class Bench:
    """All comparisons of a run."""

    rows: tuple[Row, ...]

    def table(self) -> Table:
        """Ratios below 1: gdfx is faster."""
        table = Table(
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            title=f"gdfx / optax {optax.__version__} on {jax.default_backend()}, "
            f"jax {jax.__version__}: median ratio",
            caption="below 1: gdfx is faster",
        )
        for column in ("method", "leaves × size", "what"):
            table.add_column(column, no_wrap=True)
        for column in ("gdfx", "optax", "ratio", "quartiles"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            low, median, high = row.quartiles
            times = (_seconds(row.gdfx), _seconds(row.optax))
            spread = f"{low:.2f} {high:.2f}"
            table.add_row(row.method, row.case, row.what, *times, f"{median:.2f}", spread)
        return table


def bench(
    methods: Sequence[str] = ("sgd", "momentum", "adagrad", "adam"),
    step: Sequence[Case] = STEP,
    compiling: Sequence[Case] = COMPILE,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Bench:
    """Measure methods against the optax optimizers that they match.

    Args:
      methods: names of the catalog that match one.
      step: cases for the time of one step: update and `optax.apply_updates`, jitted, with
        donated parameters and state.
      compiling: cases for the time to trace, lower and compile that step.
      on_row: is called with each result as soon as it is there.
    """
    rows: list[Row] = []
    for name in methods:
        contenders = METHODS[name].factory, METHODS[name].reference
        found = itertools.chain(
            *(_step_rows(name, contenders, case) for case in step),
            *(_compile_rows(name, contenders, case) for case in compiling),
        )
        for row in found:
            rows.append(row)
            on_row(row)
    return Bench(tuple(rows))


def _step_rows(name: str, contenders: Sequence[Factory], case: Case) -> Iterator[Row]:
    grads = [jax.random.normal(jax.random.key(i), p.shape) for i, p in enumerate(case.params())]

    def runner(factory: Factory) -> Callable[[], float]:
        tx = factory(RATE)
        step = _jitted_step(tx)
        carry = (case.params(), tx.init(case.params()))

        def run() -> float:
            nonlocal carry
            start = time.perf_counter()
            for _ in range(case.steps):
                carry = step(*carry, grads)
            jax.block_until_ready(carry)
            return (time.perf_counter() - start) / case.steps

        run()  # compiles
        return run

    pairs = _pairs([runner(factory) for factory in contenders], case.pairs)
    yield _row(name, case, "step", pairs)


def _compile_rows(name: str, contenders: Sequence[Factory], case: Case) -> Iterator[Row]:
    params = case.params()

    def runner(factory: Factory) -> Callable[[], tuple[float, float, float]]:
        def run() -> tuple[float, float, float]:
            tx = factory(RATE)  # made anew, so that nothing of it has been traced yet
            state = tx.init(params)
            start = time.perf_counter()
            traced = _jitted_step(tx).trace(params, state, params)
            after_trace = time.perf_counter()
            lowered = traced.lower()
            after_lower = time.perf_counter()
            lowered.compile()
            end = time.perf_counter()
            return after_trace - start, after_lower - after_trace, end - after_lower

        return run

    pairs = _pairs([runner(factory) for factory in contenders], case.pairs)
    for k, what in enumerate(("trace", "lower", "compile")):
        yield _row(name, case, what, [(a[k], b[k]) for a, b in pairs])
    yield _row(name, case, "all three", [(sum(a), sum(b)) for a, b in pairs])


def _jitted_step(tx: optax.GradientTransformation) -> Any:
    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def _pairs(runners: Sequence[Callable[[], T]], n: int) -> list[tuple[T, T]]:
    """Run both n times, and let each go first in turn; a first pair warms up."""
    first, second = map(_undisturbed, runners)
    first()
    second()
    pairs: list[tuple[T, T]] = []
    for i in range(n):
        if i % 2:
            a, b = first(), second()
        else:
            b, a = second(), first()
        pairs.append((a, b))
    return pairs


def _undisturbed(run: Callable[[], T]) -> Callable[[], T]:
    """As `timeit` does: what one run leaves to collect is not collected in the other's time."""

    def between_collections() -> T:
        gc.collect()
        gc.disable()
        try:
            return run()
        finally:
            gc.enable()

    return between_collections


def _row(name: str, case: Case, what: str, pairs: Sequence[tuple[float, float]]) -> Row:
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(name, str(case), what, ours, theirs, tuple(a / b for a, b in pairs))


def _seconds(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.0f} µs"
