"""The sweep: every method over one space of hyperparameters, fixed beforehand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdfx.lab import report
from gdfx.lab.journal import Journal
from gdfx.lab.outcome import KeptOutcome
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    Contender,
    Methods,
    Rate,
    check_counts,
    contenders,
    enter,
    find_problem,
)
from gdfx.lab.results import Grid
from gdfx.lab.run import Progress, prepare, quiet
from gdfx.lab.space import Axis, Space, Trial
from gdfx.lab.space import trials as sampled
from gdfx.lab.tables import Page
from gdfx.lab.trials import MEMORY, RATE, enter_trials, run_trials
from gdfx.lookup import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
TUNING_SEED = 1_000_000
"""The first seed of a sweep, far from those of a race: rates are not chosen on its seeds."""


@dataclass(frozen=True, repr=False)
class Sweep(KeptOutcome, Grid):
    """The results of a sweep."""

    journal: Journal | None = None
    """What was kept while it ran."""

    def table(self) -> Page:
        """The median final loss of every trial, for ``rich.print``; a notebook shows it."""
        return report.sweep_table(self)

    def figures(self) -> "dict[str, Figure]":
        """Final loss against hyperparameters, under ``sweep-`` and the problem's name."""
        from gdfx.lab import plot

        return {figure_name(self.problem): plot.sweep(self)}

    def record(self) -> dict[str, Any]:
        """All losses, and what they were measured with; what is not finite is None."""
        return report.sweep_record(self)


def figure_name(problem: Problem) -> str:
    """What the figure of a sweep on a problem is called."""
    return f"sweep-{problem.name}"


def sweep(
    methods: Methods = DEFAULT_METHODS,
    problem: str | Problem = "mnist",
    *,
    rates: Axis | None = None,
    over: Space | None = None,
    trials: int | None = None,
    steps: int | None = None,
    seeds: int = 5,
    seed: int = TUNING_SEED,
    keep: str | Path | None = None,
    force: bool = False,
    memory: float = MEMORY,
    progress: Progress = quiet,
) -> Sweep:
    """Run every method with the same settings of hyperparameters, and with the same seeds.

    All settings and seeds of a method run side by side in one compiled program, in chunks that fit
    the memory, spread over the devices where there are several. A method whose factory cannot be
    traced with its settings is compiled for each of them, and the result says so.

    Args:
      methods: as in `gdfx.lab.race`, but without rates: names and factories.
      problem: its name, with settings as in ``"quadratic:dimension=9"``, or a problem of your own.
      rates: the learning rates, the same for all methods: some numbers, or a `gdfx.lab.Span`. By
        default half decades from 1e-4 to 1; each problem's own where ``over`` is given.
      over: other hyperparameters by name, likewise. All combinations of numbers are tried; spans
        are sampled quasi-randomly, by Sobol's sequence.
      trials: how large that sample is; by default 20.
      steps: of each run; by default the problem's own number.
      seeds: how many runs of each method with each setting, where chance plays a part.
      seed: the first of them; the others follow it.
      keep: a folder for what is finished while the sweep runs. Called again with the same
        arguments, a sweep that was stopped goes on from there, until `Sweep.save` ends it.
      force: whether to begin anew, whatever is kept there.
      memory: about how many bytes the runs may take at once.
      progress: called after every measurement, with the steps of all trials of a method.

    Raises:
      RequestError: as in `gdfx.lab.race`, for methods that have a rate, for hyperparameters that
        there are not, for an empty space, and for a folder that keeps another sweep.

    >>> import optax
    >>> from gdfx import lab
    >>> found = lab.sweep({"adam": "adam", "lion": optax.lion}, "valley", rates=[0.03, 0.3, 3])
    >>> found.best
    {'adam': 0.3, 'lion': 0.3}
    >>> both = {"learning_rate": lab.Span(0.1, 10), "b1": lab.Span(0.5, 0.95, log=False)}
    >>> found = lab.sweep("adam", "valley", over=both, trials=8)
    >>> found.best_trials["adam"]
    {'learning_rate': 2.78, 'b1': 0.548}
    """
    check_counts(steps=steps, seeds=seeds, seed=seed, trials=trials)
    asked = contenders(methods)
    if not asked:
        raise RequestError("no method to sweep")
    space = dict(over or {})
    if rates is not None or not space:
        if RATE in space:
            raise RequestError("the learning rates are given twice")
        space = {RATE: HALF_DECADES if rates is None else rates} | space
    tried = sampled(space, trials)
    _check(asked, tried)
    field = find_problem(problem)
    for contender in asked:
        enter_trials(contender, field, tried)  # every mistake is found before the first run
    entries = enter(asked, field, Rate(tried[0][RATE], "given") if RATE in tried[0] else None)
    asked = [replace(c, label=e.label) for c, e in zip(asked, entries, strict=True)]
    length = steps or field.steps
    start = prepare(field, length, range(seed, seed + (seeds if field.seeded else 1)))
    plan = {
        **report.made_with(),
        "problem": {"name": field.name, "title": field.title},
        "steps": length,
        "seeds": start.seeds,
        "trials": tried,
        "methods": {
            c.label: [e.name, e.hyperparameters] for c, e in zip(asked, entries, strict=True)
        },
    }
    journal = Journal(None if keep is None else Path(keep), plan, force=force)
    found = {
        c.label: run_trials(start, c, tried, journal=journal, memory=memory, progress=progress)
        for c in asked
    }
    return Sweep(
        field,
        length,
        start.seeds,
        tuple(tried),
        {label: tuple(runs) for label, (runs, _) in found.items()},
        {label: note for label, (_, note) in found.items() if note},
        journal=journal,
    )


def _check(asked: Iterable[Contender], tried: Sequence[Trial]) -> None:
    """Refuse methods and rates that cannot be swept."""
    lowest = min((trial[RATE] for trial in tried if RATE in trial), default=1.0)
    if lowest <= 0:
        raise RequestError(f"a sweep tries learning rates above 0, got {lowest}")
    for contender in asked:
        if contender.given is not None and RATE in tried[0]:
            raise RequestError(f"a sweep tries rates itself: write {contender.label} without one")
        if contender.ready:
            raise RequestError(
                f"{contender.label} is made already, with a learning rate of its own: a sweep "
                "takes names, and factories such as optax.adam"
            )
