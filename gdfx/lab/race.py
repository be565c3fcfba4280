"""The race: several methods on several problems, from equal starts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Group

from gdfx.lab import files, plot, report
from gdfx.lab.problems import Problem
from gdfx.lab.resolve import RaceError, enter, find_problem
from gdfx.lab.run import Heat, prepare, run

METHODS = ("sgd", "momentum", "adagrad", "adam")

Progress = Callable[[str, str, int, int, float], None]
"""Called with problem, method, step, steps and the mean loss, after every measurement."""


def _quiet(problem: str, method: str, step: int, steps: int, loss: float) -> None:
    pass


@dataclass(frozen=True)
class Race:
    """The results of a race."""

    heats: dict[str, Heat]
    """By the problem's name."""

    def table(self) -> Group:
        """One table for each problem, for ``rich.print``."""
        return Group(*map(report.table, self.heats.values()))

    def figures(self) -> dict[str, Figure]:
        """One figure for each problem, by its name."""
        return {name: plot.heat(heat) for name, heat in self.heats.items()}

    def save(self, out: str | Path = "race") -> list[Path]:
        """Write each figure as PNG, and ``results.json`` with configuration and raw curves.

        Args:
          out: the folder, made if need be.

        Returns:
          The files written, each of them whole at any time.

        Raises:
          RaceError: where the folder cannot be written to.
        """
        folder = files.writable_folder(Path(out))
        content = {f"{name}.png": plot.png(figure) for name, figure in self.figures().items()}
        results = json.dumps(report.results(self.heats.values()), indent=1, allow_nan=False)
        content["results.json"] = results.encode()
        return [files.write(folder / name, data) for name, data in content.items()]


def race(
    methods: Sequence[str] = METHODS,
    problems: Sequence[str | Problem] = ("valley", "mnist"),
    *,
    steps: int | None = None,
    seeds: int = 5,
    seed: int = 0,
    progress: Progress = _quiet,
) -> Race:
    """Race methods against each other.

    At a given seed every method starts at the same parameters and reads the same batches in
    the same order; the same seed gives the same numbers again.

    Args:
      methods: ``NAME`` or ``NAME=RATE`` each; NAME is one of the catalog's (`gdfx.METHODS`) or
        ``module:factory`` of an optax-compatible optimizer, as in ``"optax:lion=1e-4"``. Without
        RATE, the problem's own for that method.
      problems: names, or problems of your own.
      steps: for all problems; by default each problem's own number.
      seeds: how many runs of each method, on problems where chance plays a part.
      seed: the first of them; the others follow it.
      progress: called after every measurement.

    Raises:
      RaceError: for unknown names, bad rates and optimizers that do not run.
    """
    check_counts(steps=steps, seeds=seeds, seed=seed)
    fields = [find_problem(problem) for problem in dict.fromkeys(problems)]
    # Every mistake is found before the first run.
    entries = [[enter(text, field) for text in dict.fromkeys(methods)] for field in fields]
    heats: dict[str, Heat] = {}
    for field, entered in zip(fields, entries, strict=True):
        length = steps or field.steps
        start = prepare(field, length, range(seed, seed + (seeds if field.seeded else 1)))
        runs = [
            run(start, entry, _named(progress, field.name, entry.name, length)) for entry in entered
        ]
        heats[field.name] = Heat(field, start.seeds, length, tuple(runs))
    return Race(heats)


def check_counts(*, steps: int | None, seeds: int, seed: int) -> None:
    """Refuse a race of no steps, no seeds, or seeds that are none."""
    for name, value, least in (("steps", steps, 1), ("seeds", seeds, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise RaceError(f"{name} must be at least {least}, got {value}")


def _named(
    progress: Progress, problem: str, method: str, steps: int
) -> Callable[[int, float], None]:
    return lambda step, loss: progress(problem, method, step, steps, loss)
