"""One pass beside the plain optax step, PyTorch's fused optimizer, and the memory itself.

All run in one process and take turns; what is compared is the ratio to the plain step's run of the
same round.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.text import Text

from gdfx import one_pass
from gdfx.catalog import Method
from gdfx.lab.bench import (
    RATE,
    Case,
    donatable,
    find_matching,
    frozen,
    ratio,
    rounds,
    seconds,
    stepping,
    theirs,
)
from gdfx.lab.tables import Column, Columns, Page, Shown, page
from gdfx.lab.torches import torch_step
from gdfx.lab.trees import array, transformer

Make = Callable[[float], optax.GradientTransformation]
Timed = Callable[[], float]

FUSED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "optax.adam": ("torch.optim:Adam", {}),
    "optax.adamw": ("torch.optim:AdamW", {"weight_decay": 1e-4}),
    "optax.adagrad": ("torch.optim:Adagrad", {}),
    "optax.sgd, momentum": ("torch.optim:SGD", {"momentum": 0.9}),
}
"""PyTorch's fused optimizers, and what makes them do the same work."""


@dataclass(frozen=True)
class Contest:
    """An optimizer on a tree."""

    name: str
    make: Make
    case: Case


@dataclass(frozen=True)
class Passes:
    """What is measured."""

    steps: tuple[Contest, ...]
    """A jitted step, with donated parameters and state."""

    compiling: tuple[Contest, ...]
    """To trace, to lower and to compile one, machine code and its trial included."""


@dataclass(frozen=True)
class PassRow:
    """One comparison."""

    name: str
    case: str
    what: str
    plain: float  # median seconds of the plain optax step
    passes: tuple[float, ...]  # one pass / plain, round by round
    torch: tuple[float, ...] = ()  # PyTorch / plain
    bandwidth: float | None = None  # bytes a second of one pass, if it moves each array once
    memory: float | None = None  # those of an array that is changed in place


@dataclass(frozen=True, repr=False)
class PassBench(Shown):
    """All comparisons of a run."""

    rows: tuple[PassRow, ...]

    def table(self) -> Page:
        """Ratios below 1: faster than the plain step."""
        numbers = [
            Column("plain", [seconds(row.plain) for row in self.rows]),
            Column("one pass", [_median(row.passes) for row in self.rows]),
            Column("torch", [_median(row.torch) for row in self.rows]),
            Column("GB/s", [_gigabytes(row.bandwidth) for row in self.rows]),
            Column("memory", [_gigabytes(row.memory) for row in self.rows]),
        ]
        names = [
            Column("optimizer", [row.name for row in self.rows]),
            Column("tree, elements", [row.case for row in self.rows]),
            Column("what", [row.what for row in self.rows]),
        ]
        return page(
            f"one pass / plain step, optax {optax.__version__}, jax {jax.__version__}",
            Columns(names, [c for c in numbers if any(c.cells)], gap=1),
            Text(),
            note="One pass, torch: the median of the ratios to the plain step; below 1, faster.\n"
            "GB/s: of one pass; memory: of one array that is changed in place.",
        )


def clipped(rate: float) -> optax.GradientTransformation:
    """Norm, schedule and decay: three numbers and one pass."""
    schedule = optax.cosine_decay_schedule(rate, 10_000)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))


def contests(names: Sequence[str], cases: Iterable[Case]) -> tuple[Contest, ...]:
    """The optimizers elsewhere that methods of the catalog are measured beside, on each tree.

    Raises:
      RequestError: for a name that the catalog has not, or that has none.
    """
    found = [find_matching(name) for name in dict.fromkeys(names)]
    return tuple(Contest(_called(one), theirs(one), case) for case in cases for one in found)


def _called(record: Method) -> str:
    """``optax.adam``; ``optax.sgd, momentum`` where that is its name here alone."""
    name = record.matches or record.beside or record.name
    return name if name.endswith(f".{record.name}") else f"{name}, {record.name}"


_1E5 = Case(array(100_000), pairs=41, repeats=100)
_1E6 = Case(array(1_000_000), pairs=31, repeats=20)
_1E7 = Case(array(10_000_000), pairs=21, repeats=2)
_1E8 = Case(array(100_000_000), pairs=7)
_NETWORKS = Case(transformer((304, 9)), pairs=21), Case(transformer((1072, 9)), pairs=7)
_MANY = Case([array(500)] * 1_000, pairs=15, repeats=3)
_COMPILED = (
    Case([array(8 + i, 16) for i in range(100)], pairs=3),
    Case([array(8 + i, 16) for i in range(1_000)], pairs=1),
    Case([array(16, 16)] * 100, pairs=3),
    Case([array(16, 16)] * 1_000, pairs=1),
)


def full(names: Sequence[str] = ()) -> Passes:
    """What is measured by default, or of the methods named."""
    every = (_1E5, _1E6, _1E7, _1E8, *_NETWORKS, _MANY)
    if names:
        return Passes(contests(names, every), contests(names, _COMPILED))
    return Passes(
        (
            *contests(["adam", "adamw"], every[:4]),
            *contests(["momentum", "rmsprop", "adagrad", "lion"], [_1E7]),
            Contest("clip, adamw", clipped, _1E7),
            *contests(["adam"], every[4:]),
        ),
        contests(["adam"], _COMPILED),
    )


def quick(names: Sequence[str] = ()) -> Passes:
    """Smaller trees, fewer runs."""
    names = names or ["adam"]
    cases = Case(array(100_000), pairs=9, repeats=20), Case(array(1_000_000), pairs=9, repeats=5)
    compiled = Case([array(8 + i, 16) for i in range(20)], pairs=2)
    return Passes(contests(names, cases), contests(names, [compiled]))


def bench_passes(what: Passes, on_row: Callable[[PassRow], None] = lambda row: None) -> PassBench:
    """Measure one pass.

    Args:
      what: to measure.
      on_row: is called with each result as soon as it is there.
    """
    rows: list[PassRow] = []
    with frozen():
        for row in _rows(what):
            rows.append(row)
            on_row(row)
    return PassBench(tuple(rows))


def _rows(what: Passes) -> Iterator[PassRow]:
    for contest in what.steps:
        ours = [_step(contest, way) for way in (_plain, one_pass)]
        runs = [*ours, *_torch(contest), _memory(contest)]
        plain, passes, *torch, memory = rounds(runs, contest.case.pairs)
        yield PassRow(
            contest.name,
            str(contest.case),
            "step",
            statistics.median(plain),
            _ratios(passes, plain),
            *(_ratios(each, plain) for each in torch),
            bandwidth=_moved(contest) / statistics.median(passes),
            memory=1 / statistics.median(memory),
        )
    for contest in what.compiling:
        runs = [_compile(contest, _plain), _compile(contest, one_pass)]
        plain, passes = rounds(runs, contest.case.pairs)
        ratios = _ratios(passes, plain)
        yield PassRow(contest.name, str(contest.case), "compile", statistics.median(plain), ratios)


def _plain(tx: optax.GradientTransformation) -> Any:
    update = optax.with_extra_args_support(tx).update

    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def _jitted(step: Any) -> Any:
    """With donated parameters and state, which are given in the order in which they come back."""

    def train(params: Any, state: Any, grads: Any) -> Any:
        return step(grads, state, params)

    return jax.jit(train, donate_argnums=(0, 1))


def _step(contest: Contest, way: Callable[..., Any]) -> Timed:
    tx = contest.make(RATE)
    return stepping(_jitted(way(tx)), donatable(tx, contest.case), contest.case)


def _memory(contest: Contest) -> Timed:
    """Seconds a byte, of an array as large as the parameters that is read and written in place."""
    case = contest.case
    size = sum(leaf.size for leaf in jax.tree.leaves(case.tree))
    x = jnp.ones(size)
    negate = jax.jit(jnp.negative, donate_argnums=0)

    def run() -> float:
        nonlocal x
        start = time.perf_counter()
        for _ in range(case.repeats):
            x = negate(x)
        jax.block_until_ready(x)
        return (time.perf_counter() - start) / case.repeats / (2 * x.nbytes)

    return run


def _moved(contest: Contest) -> int:
    """The bytes of a step that reads gradients, parameters and state, and writes the last two."""
    params = contest.case.tree
    state = jax.eval_shape(contest.make(RATE).init, params)
    params, state = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for tree in (params, state)
    )
    return 3 * params + 2 * state


def _torch(contest: Contest) -> Iterator[Timed]:
    """PyTorch's fused optimizer, if it has one and is installed."""
    if contest.name not in FUSED or importlib.util.find_spec("torch") is None:
        return
    theirs, options = FUSED[contest.name]
    yield torch_step(theirs, {"fused": True, **options}, contest.case)


def _compile(contest: Contest, way: Callable[..., Any]) -> Timed:
    params = contest.case.params()
    turn = 0

    def run() -> float:
        nonlocal turn
        turn += 1
        tx = contest.make(RATE * (1 + turn / 1024))  # a number that nothing has been compiled for
        state = tx.init(params)
        start = time.perf_counter()
        _jitted(way(tx)).lower(params, state, params).compile()
        return time.perf_counter() - start

    return run


def _ratios(times: Sequence[float], plain: Sequence[float]) -> tuple[float, ...]:
    return tuple(a / b for a, b in zip(times, plain, strict=True))


def _median(ratios: Sequence[float]) -> str:
    return ratio(statistics.median(ratios)) if ratios else ""


def _gigabytes(rate: float | None) -> str:
    return "" if rate is None else f"{rate / 1e9:.0f}"
