"""Steps of methods for matrices, beside PyTorch's own and those of pytorch_optimizer.

What is refreshed every tenth step makes one step in ten a long one, so the longest is told too.
"""

import importlib
import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from rich.text import Text

from gdfx.catalog import METHODS
from gdfx.lab.bench import (
    RATE,
    Case,
    donatable,
    frozen,
    jitted_step,
    ratio,
    seconds,
    stepping,
    undisturbed,
)
from gdfx.lab.tables import Column, Columns, Page, Shown, page
from gdfx.lab.trees import array
from gdfx.lookup import RequestError, load

PERIOD = 10
"""Steps from one refresh to the next, of all that refresh something."""


@dataclass(frozen=True)
class Match:
    """An optimizer of ours, and the class that does the same work in PyTorch."""

    method: str
    arguments: Mapping[str, Any]
    theirs: str
    options: Mapping[str, Any]
    form: str = ""

    def __str__(self) -> str:
        return f"{self.method}, {self.form}" if self.form else self.method

    def make(self) -> optax.GradientTransformation:
        """Ours, for leaves that are all matrices."""
        return METHODS[self.method].factory(RATE, matrices="2d", **self.arguments)


_SOAP = "pytorch_optimizer:SOAP", {"precondition_frequency": PERIOD}
MATCHES = (
    Match("muon", {"weight_decay": 0.1}, "torch.optim:Muon", {"weight_decay": 0.1}),
    Match("soap", {"every": PERIOD}, *_SOAP),
    Match("soap", {"every": PERIOD, "spread": True}, *_SOAP, form="spread"),
    Match(
        "shampoo",
        {"every": PERIOD, "start": 1},
        "pytorch_optimizer:ScalableShampoo",
        {"preconditioning_compute_steps": PERIOD, "start_preconditioning_step": 1},
    ),
    Match(
        "kron",
        {"preconditioner_update_probability": 1 / PERIOD},
        "pytorch_optimizer:Kron",
        {"pre_conditioner_update_probability": 1 / PERIOD},
    ),
)

FULL = Case([array(256, 256)] * 24, pairs=4), Case([array(512, 512)] * 12, pairs=4)
QUICK = (Case([array(64, 64)] * 6, pairs=2),)


@dataclass(frozen=True)
class MatchRow:
    """Steps of both, by their place in the period: seconds, each the median of its turns."""

    name: str
    case: str
    gdfx: tuple[float, ...]
    torch: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class MatchBench(Shown):
    """All comparisons of a run."""

    rows: tuple[MatchRow, ...]

    def table(self) -> Page:
        """Ratios below 1: gdfx is faster."""
        middle = statistics.median
        return page(
            f"gdfx / PyTorch {importlib.metadata.version('torch')}, jax {jax.__version__}",
            Columns(
                [
                    Column("method", [row.name for row in self.rows]),
                    Column("tree, elements", [row.case for row in self.rows]),
                ],
                [
                    Column("gdfx", [seconds(middle(row.gdfx)) for row in self.rows]),
                    Column("longest", [_longest(row.gdfx) for row in self.rows]),
                    Column("torch", [seconds(middle(row.torch)) for row in self.rows]),
                    Column("longest", [_longest(row.torch) for row in self.rows]),
                    Column("ratio", [ratio(middle(r.gdfx) / middle(r.torch)) for r in self.rows]),
                ],
                gap=1,
            ),
            Text(),
            note=f"Of {PERIOD} steps from one refresh to the next, the middle one; longest: how "
            "much longer the longest is. Ratio: below 1, gdfx is faster.",
        )


def _longest(steps: Sequence[float]) -> str:
    return f"× {ratio(max(steps) / statistics.median(steps))}"


def bench_torch(
    methods: Sequence[str] = (),
    cases: Sequence[Case] = FULL,
    on_row: Callable[[MatchRow], None] = lambda row: None,
) -> MatchBench:
    """Measure steps of methods for matrices beside the same in PyTorch.

    Args:
      methods: names of `MATCHES`, all forms of each; by default all.
      cases: trees, and for how many periods of `PERIOD` steps each is measured.
      on_row: is called with each result as soon as it is there.

    Raises:
      RequestError: for a name that has no match, and where PyTorch or pytorch_optimizer is missing.
    """
    known = dict.fromkeys(match.method for match in MATCHES)
    if unknown := [name for name in methods if name not in known]:
        raise RequestError(
            f"{unknown[0]} has no match in PyTorch here; {', '.join(known)} have one"
        )
    for package in ("torch", "pytorch_optimizer"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"{package} is not installed: pip install torch pytorch_optimizer")
    rows: list[MatchRow] = []
    with frozen():
        for match in MATCHES:
            if methods and match.method not in methods:
                continue
            for case in cases:
                rows.append(_row(match, case))
                on_row(rows[-1])
    return MatchBench(tuple(rows))


def _row(match: Match, case: Case) -> MatchRow:
    both = [
        undisturbed(run)
        for run in (_ours(match, case), torch_step(match.theirs, match.options, case))
    ]
    for run in both:  # compiles, and is past what is done at the start alone
        for _ in range(PERIOD):
            run()
    turns = [[[run() for run in both] for _ in range(PERIOD)] for _ in range(case.pairs)]
    ours, theirs = np.median(turns, axis=0).T.tolist()
    return MatchRow(str(match), str(case), tuple(ours), tuple(theirs))


def _ours(match: Match, case: Case) -> Callable[[], float]:
    tx = match.make()
    return stepping(jitted_step(tx), donatable(tx, case), case)


def torch_step(theirs: str, options: Mapping[str, Any], case: Case) -> Callable[[], float]:
    """Seconds of a step of a class for PyTorch, on parameters and gradients of the same shapes.

    Args:
      theirs: a module and the class, as in ``torch.optim:Adam``.
      options: of the class, beside the learning rate.
      case: the tree.
    """
    torch: Any = importlib.import_module("torch")
    params = [torch.ones(x.shape, requires_grad=True) for x in jax.tree.leaves(case.tree)]
    for p, g in zip(params, jax.tree.leaves(case.grads()), strict=True):
        p.grad = torch.from_numpy(np.array(g))
    optimizer = load(theirs)(params, lr=RATE, **options)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(case.repeats):
            optimizer.step()
        return (time.perf_counter() - start) / case.repeats

    return run
