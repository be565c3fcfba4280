"""The race: several methods on several problems, from equal starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdfx.lab import report
from gdfx.lab.explore import explore_all
from gdfx.lab.outcome import Outcome, drawn
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    DEFAULT_PROBLEMS,
    Methods,
    check_counts,
    check_problems_of_rates,
    contenders,
    enter,
    find_problems,
)
from gdfx.lab.results import Result
from gdfx.lab.run import Progress, prepare, quiet, run
from gdfx.lab.tables import Page
from gdfx.lookup import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "race.html"


@dataclass(frozen=True, repr=False)
class Race(Outcome):
    """The results of a race."""

    results: dict[str, Result]
    """By the problem's name."""

    def table(self) -> Page:
        """One table for each problem, for ``rich.print``; a notebook shows it."""
        return Page(*map(report.table, self.results.values()))

    def figures(self) -> "dict[str, Figure]":
        """One figure for each problem, by its name."""
        from gdfx.lab import plot

        return {name: plot.result(result) for name, result in self.results.items()}

    def save(
        self,
        out: str | Path,
        *,
        force: bool = False,
        dark: bool = False,
        svg: bool = False,
        movie: str | None = None,
        page: bool = False,
    ) -> list[Path]:
        """Write each figure as PNG, and the record as ``results.json``.

        Args:
          out: the folder, made if need be.
          force: whether the results of an earlier run there are replaced, every file of them.
          dark: whether the figures are bright on a dark ground.
          svg: whether each figure is written as SVG, too.
          movie: ``"gif"`` or ``"mp4"`` for each figure as a movie, too; MP4 needs ffmpeg.
          page: whether all of it is written as a page to play with, ``race.html``, too: one file,
            which a browser opens from the disk. Its sliders of the learning rate move where the
            race was run with ``explore``.

        Returns:
          The files written.

        Raises:
          RequestError: where the folder cannot be written to, holds results already, or holds a
            file of somebody else's under one of the names, and where the movie cannot be made.
        """
        contents = drawn(self.figures(), dark=dark, svg=svg)
        if movie is not None:
            from gdfx.lab import movie as moving

            contents |= {
                f"{name}.{movie}": moving.movie(result, movie, dark=dark)
                for name, result in self.results.items()
            }
        if page:
            from gdfx.lab import page_race

            contents[PAGE] = page_race.page(list(self.results.values()), dark=dark)
        return self._write(out, contents, force=force)

    def record(self) -> dict[str, Any]:
        """All that was measured, and what it was measured with; what is not finite is None."""
        return report.record(self.results.values())


def race(
    methods: Methods = DEFAULT_METHODS,
    problems: str | Problem | Iterable[str | Problem] = DEFAULT_PROBLEMS,
    *,
    steps: int | None = None,
    seeds: int = 5,
    seed: int = 0,
    explore: bool = False,
    progress: Progress = quiet,
) -> Race:
    """Race methods against each other.

    At a given seed every method starts at the same parameters and reads the same batches in
    the same order; the same seed gives the same numbers again.

    Args:
      methods: one, or several in a list, or in a dict under the labels that they shall have. Each
        is a name of the catalog's (`gdfx.METHODS`), ``module:factory`` of an optax-compatible
        optimizer, as in ``"optax:lion"``, such a factory itself, as in ``optax.lion``, or an
        optimizer made already. A learning rate stands behind the name, ``"adam=0.1"``, or in a
        pair, ``(optax.lion, 1e-4)``; one for each problem is ``"adam=valley:0.3,mnist:0.001"``, or
        a dict in the pair. Without one, the problem's own for the method is taken, or the
        factory's.
      problems: one or several: names, with settings as in ``"rosenbrock:noise=0.1"``, or problems
        of your own, as `gdfx.lab.problem` makes them.
      steps: for all problems; by default each problem's own number.
      seeds: how many runs of each method, on problems where chance plays a part.
      seed: the first of them; the others follow it.
      explore: whether each method is also run at learning rates around its own, from a hundredth to
        ten times as high on a landscape and from a thirtieth to thirty times elsewhere, on the
        first seed. Its page shows them.
      progress: called after every measurement.

    Raises:
      RequestError: for unknown names, bad rates, and optimizers and problems that do not run.

    >>> import optax
    >>> from gdfx import lab
    >>> found = lab.race(
    ...     {"adam": 0.3, "lion": (optax.lion, 0.1), "ready": optax.sgd(0.5)}, "valley", steps=10
    ... )
    >>> list(found.results["valley"].runs)
    ['adam', 'lion', 'ready']
    """
    check_counts(steps=steps, seeds=seeds, seed=seed)
    asked = contenders(methods)
    if not asked:
        raise RequestError("no method to race")
    fields = find_problems(problems)
    if not fields:
        raise RequestError("no problem to race on")
    check_problems_of_rates(asked, fields)
    # Every mistake in a name or a rate is found before the first run.
    entered = {name: enter(asked, problem) for name, problem in fields.items()}
    results: dict[str, Result] = {}
    for name, problem in fields.items():
        length = steps or problem.steps
        start = prepare(problem, length, range(seed, seed + (seeds if problem.seeded else 1)))
        runs = {entry.label: run(start, entry, progress) for entry in entered[name]}
        around = explore_all(start, entered[name], progress) if explore else {}
        results[name] = Result(problem, start.seeds, length, runs, around)
    return Race(results)
