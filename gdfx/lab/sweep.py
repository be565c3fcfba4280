"""The learning-rate sweep: every method over one grid, fixed beforehand."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdfx.lab import report
from gdfx.lab.outcome import Outcome
from gdfx.lab.problems import Problem
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    Methods,
    Rate,
    check_counts,
    contenders,
    enter,
    find_problem,
)
from gdfx.lab.results import Grid
from gdfx.lab.run import Progress, prepare, quiet, run
from gdfx.lab.tables import Page
from gdfx.lookup import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
TUNING_SEED = 1_000_000
"""The first seed of a sweep, far from those of a race: rates are not chosen on its seeds."""


@dataclass(frozen=True, repr=False)
class Sweep(Outcome, Grid):
    """The results of a sweep."""

    def table(self) -> Page:
        """The median final loss at every rate, for ``rich.print``; a notebook shows it."""
        return report.sweep_table(self)

    def figures(self) -> "dict[str, Figure]":
        """Final loss against learning rate: one figure, under ``sweep-`` and the problem's name."""
        from gdfx.lab import plot

        return {figure_name(self.problem): plot.sweep(self)}

    def record(self) -> dict[str, Any]:
        """All final losses, and what they were measured with; what is not finite is None."""
        return report.sweep_record(self)


def figure_name(problem: Problem) -> str:
    """What the figure of a sweep on a problem is called."""
    return f"sweep-{problem.name}"


def sweep(
    methods: Methods = DEFAULT_METHODS,
    problem: str | Problem = "mnist",
    *,
    rates: Iterable[float] = HALF_DECADES,
    steps: int | None = None,
    seeds: int = 5,
    seed: int = TUNING_SEED,
    progress: Progress = quiet,
) -> Sweep:
    """Run every method at every rate, with the same seeds.

    Args:
      methods: as in `gdfx.lab.race`, but without rates: names and factories.
      problem: its name, or a problem of your own.
      rates: the grid, the same for all.
      steps: of each run; by default the problem's own number.
      seeds: how many runs of each method at each rate, where chance plays a part.
      seed: the first of them; the others follow it.
      progress: called after every measurement.

    Raises:
      RequestError: as in `gdfx.lab.race`, and for methods that have a rate.

    >>> import optax
    >>> from gdfx import lab
    >>> found = lab.sweep({"adam": "adam", "lion": optax.lion}, "valley", rates=[0.03, 0.3, 3])
    >>> found.best
    {'adam': 0.3, 'lion': 0.3}
    """
    check_counts(steps=steps, seeds=seeds, seed=seed)
    asked = contenders(methods)
    grid = tuple(sorted(set(rates)))
    if not asked:
        raise RequestError("no method to sweep")
    if not grid:
        raise RequestError("no learning rate to try")
    if grid[0] <= 0:
        raise RequestError(f"a sweep tries learning rates above 0, got {grid[0]}")
    for contender in asked:
        if contender.given is not None:
            raise RequestError(f"a sweep tries rates itself: write {contender.label} without one")
        if contender.ready:
            raise RequestError(
                f"{contender.label} is made already, with a learning rate of its own: a sweep "
                "takes names, and factories such as optax.adam"
            )
    field = find_problem(problem)
    entered = [enter(asked, field, Rate(rate, "given")) for rate in grid]
    length = steps or field.steps
    start = prepare(field, length, range(seed, seed + (seeds if field.seeded else 1)))
    runs = {
        entries[0].label: tuple(run(start, entry, progress) for entry in entries)
        for entries in zip(*entered, strict=True)
    }
    return Sweep(field, length, start.seeds, grid, runs)
