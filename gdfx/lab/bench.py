"""gdfx beside optax: time of a step, of tracing and compiling one, and of use without jit.

The two run in one process and take turns, and what is compared is the ratio of each pair of
runs: on a shared machine that is what can be trusted, not the seconds.
"""

import contextlib
import functools
import gc
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.text import Text

from gdfx.catalog import METHODS, Method
from gdfx.core.inner import extended
from gdfx.core.spectral import orthogonal_factor
from gdfx.lab.compilations import counted_compilations
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import DEFAULT_METHODS, Contender, Rate, contenders, find_problem
from gdfx.lab.sweep import sweep
from gdfx.lab.tables import Column, Columns, Page, Shown, page
from gdfx.lab.trees import array, perceptron, transformer
from gdfx.lookup import RequestError, find_method, load

RATE = 1e-3
Factory = Callable[..., optax.GradientTransformation]
Times = dict[str, float]  # seconds, by what took them
Runner = Callable[[], Times]
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A tree, and how often what is measured on it."""

    tree: Any  # of `jax.ShapeDtypeStruct`
    pairs: int
    repeats: int = 1  # in one timed run

    def params(self) -> Any:
        """The tree full of ones."""
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape), self.tree)

    def grads(self) -> Any:
        """The tree full of random numbers."""
        rng = np.random.default_rng(0)
        return jax.tree.map(
            lambda leaf: jnp.array(rng.standard_normal(leaf.shape, np.float32)), self.tree
        )

    def __str__(self) -> str:
        leaves = jax.tree.leaves(self.tree)
        elements = f"{sum(leaf.size for leaf in leaves):.0e}".replace("e+0", "e")
        return f"{len(leaves)} {'leaf' if len(leaves) == 1 else 'leaves'}, {elements}"


@dataclass(frozen=True)
class Suite:
    """What is measured on which trees."""

    step: tuple[Case, ...] = ()
    """One step: update and `optax.apply_updates`, jitted, with donated parameters and state."""

    matrices: tuple[Case, ...] = ()
    """One step, of methods that look at matrices: beside their products alone, too."""

    compiling: tuple[Case, ...] = ()
    """To trace, to lower and to compile that step."""

    eager: tuple[Case, ...] = ()
    """Without jit: an update, and a new optimizer with its init and first update."""


FULL = Suite(
    matrices=(
        Case([array(256, 256)] * 24, pairs=15),
        Case([array(512, 512)] * 12, pairs=11),
        Case(transformer((128, 9)), pairs=11),
    ),
    step=(
        Case(array(100_000), pairs=41, repeats=100),
        Case(array(10_000_000), pairs=31, repeats=2),
        Case(transformer((128, 9)), pairs=41, repeats=10),
    ),
    # Stages of several widths make for many shapes, and gdfx traces each by itself.
    compiling=(
        Case(transformer((32, 1), (48, 2), (64, 2), (96, 1)), pairs=7),
        Case(transformer((32, 3), (48, 6), (64, 6), (96, 3)), pairs=5),
        Case(transformer((32, 10), (48, 21), (64, 21), (96, 10)), pairs=3),
    ),
    eager=(Case(perceptron(784, 100, 100, 100, 100, 10), pairs=21, repeats=20),),
)
QUICK = Suite(
    matrices=(Case([array(128, 128)] * 24, pairs=9),),
    step=(
        Case(array(100_000), pairs=9, repeats=20),
        Case(transformer((32, 9)), pairs=9, repeats=10),
    ),
    compiling=(Case(transformer((32, 1), (48, 2), (64, 2), (96, 1)), pairs=2),),
    eager=(Case(perceptron(784, 100, 100, 100, 100, 10), pairs=3, repeats=5),),
)


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


@dataclass(frozen=True, repr=False)
class Bench(Shown):
    """All comparisons of a run."""

    rows: tuple[Row, ...]

    def table(self) -> Page:
        """Ratios below 1: gdfx is faster."""
        quartiles = [tuple(map(ratio, row.quartiles)) for row in self.rows]
        return page(
            f"gdfx / optax {optax.__version__} on {jax.default_backend()}, jax {jax.__version__}",
            Columns(
                [
                    Column("method", [row.method for row in self.rows]),
                    Column("tree, elements", [row.case for row in self.rows]),
                    Column("what", [row.what for row in self.rows]),
                ],
                [
                    Column("gdfx", [seconds(row.gdfx) for row in self.rows]),
                    Column("optax", [seconds(row.optax) for row in self.rows]),
                    Column("ratio", [median for _, median, _ in quartiles]),
                    Column("quartiles", [f"{low} {high}" for low, _, high in quartiles]),
                ],
                gap=1,
            ),
            Text(),
            note="Ratio: median of the pairs of runs; below 1, gdfx is faster.\n"
            "First eager: a new optimizer, its init and first update.\n"
            "Step / products: beside the matrix products of orthogonalization alone.",
        )


def bench(
    methods: Sequence[str] = DEFAULT_METHODS,
    suite: Suite = FULL,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Bench:
    """Measure methods against the optax optimizers that they match.

    Args:
      methods: names of the catalog that match one.
      suite: what to measure, and how often.
      on_row: is called with each result as soon as it is there.

    Raises:
      RequestError: for a name that the catalog has not, or a method that matches no optimizer.
    """
    records = [find_matching(name) for name in dict.fromkeys(methods)]
    rows: list[Row] = []
    with frozen():
        for record in records:
            for row in _rows(record, suite):
                rows.append(row)
                on_row(row)
    return Bench(tuple(rows))


@dataclass(frozen=True, repr=False)
class SweepBench(Shown):
    """A sweep, and the same runs in a Python loop of jitted steps."""

    rows: tuple[tuple[str, str, float, int, float, int], ...]
    """Method, problem, and seconds and compiled programs of both."""

    rates: int
    seeds: int

    def table(self) -> Page:
        """Ratios above 1: the sweep is faster."""
        return page(
            f"{self.rates} learning rates × {self.seeds} seeds on {jax.default_backend()}, "
            f"jax {jax.__version__}",
            Columns(
                [
                    Column("method", [row[0] for row in self.rows]),
                    Column("problem", [row[1] for row in self.rows]),
                ],
                [
                    Column("loop", [seconds(row[2]) for row in self.rows]),
                    Column("compiled", [str(row[3]) for row in self.rows]),
                    Column("sweep", [seconds(row[4]) for row in self.rows]),
                    Column("compiled", [str(row[5]) for row in self.rows]),
                    Column("ratio", [ratio(row[2] / row[4]) for row in self.rows]),
                ],
            ),
            Text(),
            note="Loop: for each rate an optimizer and a jitted step, for each seed a Python loop "
            "over the steps. Ratio: loop / sweep, all compiling included. Compiled: programs.",
        )


def bench_sweep(
    methods: Sequence[str] = DEFAULT_METHODS,
    problems: Sequence[str] = ("quadratic:noise=0.01", "breast_cancer"),
    *,
    rates: int = 32,
    seeds: int = 5,
    on_row: Callable[[str], None] = lambda row: None,
) -> SweepBench:
    """Measure sweeps of learning rates against the same runs in a Python loop.

    Args:
      methods: as in `gdfx.lab.sweep`.
      problems: names, as in `gdfx.lab.sweep`.
      rates: how many learning rates, from 1e-4 to 1.
      seeds: how many runs of each.
      on_row: is called with what is measured next.

    Raises:
      RequestError: as in `gdfx.lab.sweep`.
    """
    rows: list[tuple[str, str, float, int, float, int]] = []
    tried = np.geomspace(1e-4, 1, rates).tolist()
    for name in problems:
        problem = find_problem(name)
        sweep("sgd", problem, rates=tried[:1], seeds=seeds, steps=1)  # what is compiled once
        for contender in contenders(list(methods)):
            on_row(f"{contender.label} {name}")
            start = time.perf_counter()
            with counted_compilations() as count:
                sweep(contender.name, problem, rates=tried, seeds=seeds)
            swept, programs = time.perf_counter() - start, count()
            start = time.perf_counter()
            with counted_compilations() as count:
                _looped(contender, problem, tried, range(seeds))
            looped = time.perf_counter() - start
            rows.append((contender.label, problem.name, looped, count(), swept, programs))
    return SweepBench(tuple(rows), rates, seeds)


def _looped(
    contender: Contender, problem: Problem, rates: Sequence[float], seeds: Sequence[int]
) -> None:
    """The runs of a sweep as one writes them by hand."""
    data, measure = problem.data(), jax.jit(problem.measure)
    for rate in rates:
        tx = extended(contender.at(problem, Rate(rate, "given")).optimizer)
        step = jax.jit(functools.partial(_one_step, problem, tx))
        for seed in seeds:
            params = problem.start(seed)
            state = tx.init(params)
            for i, batch in enumerate(problem.batches(seed, problem.steps)):
                if i % problem.every == 0:
                    jax.block_until_ready(measure(params, data))
                params, state = step(params, state, data, batch)
            jax.block_until_ready(measure(params, data))


def _one_step(problem: Problem, tx: Any, params: Any, state: Any, data: Any, batch: Any) -> Any:
    value, grads = jax.value_and_grad(problem.loss)(params, data, batch)
    updates, state = tx.update(grads, state, params, value=value)
    return optax.apply_updates(params, updates), state


@contextlib.contextmanager
def frozen() -> Generator[None]:
    """What there is now is left out of collections, so that the one before each run is short."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def find_matching(name: str) -> Method:
    """The method of a name that has another optimizer to be measured beside.

    Raises:
      RequestError: if there is none.
    """
    record = find_method(name)
    if not _is_measured(record):
        those = ", ".join(name for name, method in METHODS.items() if _is_measured(method))
        raise RequestError(f"{name} matches no optax optimizer to be measured beside; {those} do")
    return record


def _is_measured(record: Method) -> bool:
    return bool(record.matches or record.beside)


def theirs(record: Method) -> Factory:
    """The optimizer elsewhere that a method is measured beside."""
    if record.beside is None:
        return record.reference
    module, _, name = record.beside.rpartition(".")
    return load(f"{module}:{name}")


def _products_alone(rate: float) -> optax.GradientTransformation:
    """Five steps of Newton and Schulz on each matrix, and nothing else."""
    del rate
    return optax.stateless(
        lambda g, params: jax.tree.map(lambda x: orthogonal_factor(x) if x.ndim == 2 else x, g)
    )


def _rows(record: Method, suite: Suite) -> Iterator[Row]:
    both = record.maker, theirs(record)
    of_matrices = record.reach == "matrix"
    for cases, sides, measure, name in (
        (suite.matrices if of_matrices else suite.step, both, _step, ""),
        (suite.matrices if of_matrices else (), (both[0], _products_alone), _step, "/ products"),
        (suite.compiling, both, _compile, ""),
        (suite.eager, both, _eager_update, ""),
        (suite.eager, both, _first_eager, ""),
    ):
        for case in cases:
            both_times = rounds([measure(factory, case) for factory in sides], case.pairs)
            for what in both_times[0][0]:
                ours, other = ([times[what] for times in found] for found in both_times)
                yield Row(
                    record.name,
                    str(case),
                    f"{what} {name}".rstrip(),
                    statistics.median(ours),
                    statistics.median(other),
                    tuple(a / b for a, b in zip(ours, other, strict=True)),
                )


def _step(factory: Factory, case: Case) -> Runner:
    tx = made(factory)
    run = stepping(jitted_step(tx), donatable(tx, case), case)
    run()  # compiles
    return lambda: {"step": run()}


def _compile(factory: Factory, case: Case) -> Runner:
    params = case.params()

    def run() -> Times:
        tx = made(factory)  # anew, so that nothing of it has been traced yet
        state = tx.init(params)
        start = time.perf_counter()
        traced = jitted_step(tx).trace(params, state, params)
        after_trace = time.perf_counter()
        lowered = traced.lower()
        after_lower = time.perf_counter()
        lowered.compile()
        end = time.perf_counter()
        return {
            "trace": after_trace - start,
            "lower": after_lower - after_trace,
            "compile": end - after_lower,
            "all three": end - start,
        }

    return run


def _eager_update(factory: Factory, case: Case) -> Runner:
    tx, params, grads = made(factory), case.params(), case.grads()
    state = tx.init(params)

    def run() -> Times:
        nonlocal state
        start = time.perf_counter()
        for _ in range(case.repeats):
            updates, state = tx.update(grads, state, params)
            jax.block_until_ready((updates, state))
        return {"eager update": (time.perf_counter() - start) / case.repeats}

    return run


def _first_eager(factory: Factory, case: Case) -> Runner:
    params, grads = case.params(), case.grads()

    def run() -> Times:
        start = time.perf_counter()
        tx = made(factory)
        jax.block_until_ready(tx.update(grads, tx.init(params), params))
        return {"first eager": time.perf_counter() - start}

    return run


def made(factory: Factory) -> optax.GradientTransformationExtraArgs:
    """The optimizer; it is given a loss, which those that need none ignore."""
    tx = extended(factory(RATE))
    return tx._replace(update=functools.partial(tx.update, value=1.0))


def jitted_step(tx: optax.GradientTransformation) -> Any:
    """Update and `optax.apply_updates`, with donated parameters and state."""

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def donatable(tx: optax.GradientTransformation, case: Case) -> tuple[Any, Any]:
    """Parameters and state, both to be donated: copies, since some states hold an array twice."""
    return case.params(), jax.tree.map(jnp.copy, tx.init(case.params()))


def stepping(
    step: Callable[..., tuple[Any, Any]], carry: tuple[Any, Any], case: Case
) -> Callable[[], float]:
    """Seconds of one step, over as many as the case repeats, from where the last run ended."""
    grads = case.grads()

    def run() -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(case.repeats):
            carry = step(*carry, grads)
        jax.block_until_ready(carry)
        return (time.perf_counter() - start) / case.repeats

    return run


def rounds(runs: Sequence[Callable[[], T]], count: int) -> list[list[T]]:
    """What each run returns: all run in every round, another one first; a first round warms up."""
    timed = [undisturbed(run) for run in runs]
    for run in timed:
        run()
    found: list[list[T]] = [[] for _ in timed]
    for i in range(count):
        for k in range(len(timed)):
            which = (i + k) % len(timed)
            found[which].append(timed[which]())
    return found


def undisturbed(run: Callable[[], T]) -> Callable[[], T]:
    """As `timeit` does: what one run leaves to collect is not collected in the other's time."""

    def between_collections() -> T:
        gc.collect()
        gc.disable()
        try:
            return run()
        finally:
            gc.enable()

    return between_collections


def seconds(seconds: float) -> str:
    """As in ``8.23 ms``."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def ratio(ratio: float) -> str:
    """As in ``0.61``."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
