"""The learning-rate sweep: every method over one grid, fixed beforehand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Group

from gdfx import files
from gdfx.lab import plot, report
from gdfx.lab.problems import Problem
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    as_list,
    check_counts,
    enter_at,
    find_problem,
)
from gdfx.lab.results import Grid
from gdfx.lab.run import Progress, prepare, quiet, run
from gdfx.lookup import RequestError

HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
TUNING_SEED = 1_000_000
"""The first seed of a sweep, far from those of a race: rates are not chosen on its seeds."""


@dataclass(frozen=True)
class Sweep(Grid):
    """The results of a sweep."""

    def table(self) -> Group:
        """The median final loss at every rate, the lowest in bold, for ``rich.print``."""
        return report.sweep_table(self)

    def figure(self) -> Figure:
        """Final loss against learning rate."""
        return plot.sweep(self)

    def save(self, out: str | Path = "race") -> list[Path]:
        """Write the figure as PNG and all losses as JSON; see `gdfx.lab.Race.save`."""
        folder = files.writable_folder(Path(out))
        name = f"sweep-{self.problem.name}"
        results = json.dumps(report.sweep_results(self), indent=1, allow_nan=False)
        return [
            files.write(folder / f"{name}.png", plot.png(self.figure())),
            files.write(folder / f"{name}.json", results.encode()),
        ]


def sweep(
    methods: str | Sequence[str] = DEFAULT_METHODS,
    problem: str | Problem = "mnist",
    *,
    rates: Sequence[float] = HALF_DECADES,
    steps: int | None = None,
    seeds: int = 5,
    seed: int = TUNING_SEED,
    progress: Progress = quiet,
) -> Sweep:
    """Run every method at every rate, with the same seeds.

    Args:
      methods: names as in `gdfx.lab.race`, without a rate.
      problem: its name, or a problem of your own.
      rates: the grid, the same for all.
      steps, seeds, seed, progress: as in `gdfx.lab.race`.

    Raises:
      RequestError: as in `gdfx.lab.race`.
    """
    check_counts(steps=steps, seeds=seeds, seed=seed)
    methods = as_list(methods)
    if not methods:
        raise RequestError("no method to sweep")
    if not len(rates):
        raise RequestError("no learning rate to try")
    told = next((name for name in methods if "=" in name), None)
    if told is not None:
        raise RequestError(f"{told}: a sweep tries rates itself; write {told.partition('=')[0]}")
    field = find_problem(problem)
    grid = {name: [enter_at(name, rate) for rate in rates] for name in dict.fromkeys(methods)}
    length = steps or field.steps
    start = prepare(field, length, range(seed, seed + (seeds if field.seeded else 1)))
    losses = {
        name: np.stack([run(start, entry, progress).final_loss for entry in entries])
        for name, entries in grid.items()
    }
    return Sweep(field, length, start.seeds, tuple(rates), losses)
