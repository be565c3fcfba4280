"""The race: several methods on several problems, from equal starts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Group

from gdfx import files
from gdfx.lab import plot, report
from gdfx.lab.problems import Problem
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    Entry,
    as_list,
    check_counts,
    enter,
    find_problem,
)
from gdfx.lab.results import Heat
from gdfx.lab.run import Progress, prepare, quiet, run
from gdfx.lookup import RequestError


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
          RequestError: where the folder cannot be written to.
        """
        folder = files.writable_folder(Path(out))
        content = {f"{name}.png": plot.png(figure) for name, figure in self.figures().items()}
        results = json.dumps(report.results(self.heats.values()), indent=1, allow_nan=False)
        content["results.json"] = results.encode()
        return [files.write(folder / name, data) for name, data in content.items()]


def race(
    methods: str | Sequence[str] = DEFAULT_METHODS,
    problems: str | Problem | Sequence[str | Problem] = ("valley", "mnist"),
    *,
    steps: int | None = None,
    seeds: int = 5,
    seed: int = 0,
    progress: Progress = quiet,
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
      RequestError: for unknown names, bad rates and optimizers that do not run.
    """
    check_counts(steps=steps, seeds=seeds, seed=seed)
    methods, problems = as_list(methods), as_list(problems)
    if not methods:
        raise RequestError("no method to race")
    if not problems:
        raise RequestError("no problem to race on")
    found = [find_problem(problem) for problem in problems]
    fields = {field.name: field for field in found}
    if any(fields[field.name] is not field for field in found):
        raise RequestError("two problems have the same name")
    # Every mistake in a name or a rate is found before the first run.
    entries = [_enter_all(methods, field) for field in fields.values()]
    heats: dict[str, Heat] = {}
    for field, entered in zip(fields.values(), entries, strict=True):
        length = steps or field.steps
        start = prepare(field, length, range(seed, seed + (seeds if field.seeded else 1)))
        runs = tuple(run(start, entry, progress) for entry in entered)
        heats[field.name] = Heat(field, start.seeds, length, runs)
    return Race(heats)


def _enter_all(methods: Sequence[str], problem: Problem) -> list[Entry]:
    """Each method once at each rate."""
    entries = [enter(text, problem) for text in methods]
    return list({(entry.name, entry.rate): entry for entry in entries}.values())
