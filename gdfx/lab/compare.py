"""The comparison: every method tuned equally, then judged on fresh seeds."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdfx import files
from gdfx.lab import comparison, report, verdict
from gdfx.lab.comparison import REFERENCE, Cell, Field, Protocol, Results, Runs
from gdfx.lab.journal import Journal
from gdfx.lab.outcome import KeptOutcome, drawn
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import (
    Contender,
    Methods,
    check_counts,
    contenders,
    find_problem,
    find_problems,
)
from gdfx.lab.results import HELD_OUT, Run, best_trial
from gdfx.lab.run import Progress, Start, prepare, quiet
from gdfx.lab.space import Space, Span, Trial
from gdfx.lab.space import trials as sampled
from gdfx.lab.sweep import TUNING_SEED
from gdfx.lab.tables import Page
from gdfx.lab.trials import MEMORY, RATE, enter_trials, run_trials
from gdfx.lookup import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBLEMS = (
    "quadratic:noise=0.01",
    "matrix:noise=0.01",
    "breast_cancer",
    "diabetes",
    "digits",
    "autoencoder",
    "mnist_logistic",
)
QUICK = ("matrix:noise=0.01", "breast_cancer", "digits", "autoencoder")
SPACE: Space = {RATE: Span(1e-4, 10)}
"""What is searched of every method: its learning rate; all else is left at its defaults."""

UNTUNED = 1e-3
"""The learning rate of a method whose factory has none of its own, before any tuning."""

FIGURES = ("speed", "rates", "losses")
PAGE = "compare.html"

SHARE = 0.75
"""The reference must reach the target in this share of its steps."""


@dataclass(frozen=True, repr=False)
class Comparison(KeptOutcome):
    """The results of a comparison."""

    results: Results
    journal: Journal | None = None

    def table(self) -> Page:
        """The verdict in words, and the tables that it stands on."""
        return verdict.page_of(self.results)

    def figures(self) -> "dict[str, Figure]":
        """Speed with its intervals, profiles, learning-rate curves and losses."""
        from gdfx.lab import plot_compare

        return plot_compare.figures(self.results)

    def save(
        self,
        out: str | Path,
        *,
        force: bool = False,
        dark: bool = False,
        svg: bool = False,
        page: bool = False,
        verdict: str = "",
    ) -> list[Path]:
        """As `gdfx.lab.Race.save`; the page is ``compare.html``, and its slider is the target's.

        On top of the page stands a ``verdict``, by default a sentence on each method.
        """
        contents = drawn(self.figures(), dark=dark, svg=svg)
        if page:
            from gdfx.lab import page_compare

            contents[PAGE] = page_compare.page(self.results, dark=dark, verdict=verdict)
        return self._write(out, contents, force=force)

    def record(self) -> dict[str, Any]:
        """All that was measured, from which `load` makes this again."""
        return {**report.made_with(), **comparison.to_json(self.results)}


def compare(
    methods: Methods,
    problems: Any = None,
    *,
    trials: int = 20,
    tuning_seeds: int = 3,
    seeds: int = 10,
    steps: int | None = None,
    spaces: Mapping[str, Space] | None = None,
    quick: bool = False,
    add_to: Comparison | None = None,
    keep: str | Path | None = None,
    force: bool = False,
    memory: float = MEMORY,
    progress: Progress = quiet,
) -> Comparison:
    """Compare methods with AdamW, all tuned equally.

    Each method has as many quasi-random trials on each problem, over a space that is fixed before.
    The trial whose worst tuning seed ends lowest is then run on fresh seeds, beside the method with
    its defaults. The target of a problem is the loss that the tuned AdamW has, in the median of its
    tuning seeds, after three quarters of its steps; a run that does not reach it counts as
    infinitely slow.

    Args:
      methods: as in `gdfx.lab.sweep`; AdamW is always among them.
      problems: as in `gdfx.lab.race`; by default seven that all the methods can run on, four where
        it is to be quick.
      trials: how many settings of each method are tried on each problem.
      tuning_seeds: on how many seeds each.
      seeds: how many fresh ones the best trial is run on.
      steps: of each run; by default each problem's own number.
      spaces: by a method's label, hyperparameters and ranges that are searched beside or instead of
        the learning rate from 1e-4 to 10.
      quick: whether fewer problems are taken.
      add_to: a stored comparison, to which methods are added at equal terms: its problems, numbers
        and targets hold.
      keep, force, memory: as in `gdfx.lab.sweep`.
      progress: called after every measurement.

    Raises:
      RequestError: as in `gdfx.lab.sweep`, and for a space of a method that is not compared.
    """
    check_counts(seed=0, trials=trials, tuning_seeds=tuning_seeds, seeds=seeds, steps=steps)
    asked = {contender.label: contender for contender in contenders(methods)}
    if not asked:
        raise RequestError("no method to compare")
    for contender in asked.values():
        if contender.given is not None or contender.ready:
            raise RequestError(
                f"a comparison tunes rates itself: give {contender.label} as a name or a factory, "
                "without a rate"
            )
    if add_to is not None:
        if problems is not None or steps is not None or quick:
            raise RequestError(
                "a stored comparison has its own problems and numbers of steps: leave them out"
            )
        asked = {label: c for label, c in asked.items() if label not in add_to.results.cells}
        if not asked:
            raise RequestError("the stored comparison has these methods already")
    strange = next((label for label in spaces or {} if label not in asked), None)
    if strange is not None:
        raise RequestError(f"a space is given for {strange}, which is not compared")
    if add_to is None:
        protocol = Protocol(trials, tuning_seeds, seeds)
        asked = {c.label: c for c in contenders(REFERENCE)} | asked
        fields = _chosen(list(asked.values()), problems, quick)
        lengths = {name: steps or problem.steps for name, problem in fields.items()}
    else:
        protocol = add_to.results.protocol
        known = add_to.results.fields
        fields = _again(known)
        lengths = {name: int(known[name].steps[-1]) for name in fields}
    searched = {label: {**SPACE, **(spaces or {}).get(label, {})} for label in asked}
    plans = {label: sampled(space, protocol.trials) for label, space in searched.items()}
    for label, contender in asked.items():  # every mistake is found before the first run
        for problem in fields.values():
            enter_trials(contender, problem, plans[label])
    plan = {
        **report.made_with(),
        "problems": {name: [p.title, lengths[name]] for name, p in fields.items()},
        "protocol": vars(protocol),
        "trials": plans,
    }
    journal = Journal(None if keep is None else Path(keep), plan, force=force)

    clock = time.perf_counter()
    found: dict[str, Field] = {}
    cells: dict[str, dict[str, Cell]] = {label: {} for label in asked}
    for name, problem in fields.items():
        one = _Work(problem, lengths[name], protocol, journal, memory, progress)
        tuned = {label: one.tune(c, plans[label]) for label, c in asked.items()}
        if add_to is None:
            found[name] = _field(one.fresh, tuned[REFERENCE][0])
        for label, contender in asked.items():
            cells[label][name] = one.cell(contender, searched[label], plans[label], *tuned[label])
    seconds = time.perf_counter() - clock
    results = Results(protocol, found, cells, seconds)
    if add_to is not None:
        before = add_to.results
        results = replace(before, cells={**before.cells, **cells}, seconds=before.seconds + seconds)
    return Comparison(results, journal)


def load(folder: str | Path) -> Comparison:
    """A stored comparison again.

    Raises:
      RequestError: for a folder that holds none, a newer one, or a damaged one.
    """
    return Comparison(comparison.from_json(files.stored(Path(folder)), str(folder)))


def _chosen(asked: Iterable[Contender], problems: Any, quick: bool) -> dict[str, Problem]:
    """The problems that were asked for, or those of the usual that all methods can run on."""
    if problems is not None:
        return find_problems(problems)
    usual = find_problems(QUICK if quick else PROBLEMS)
    return {name: p for name, p in usual.items() if all(_runs(c, p) for c in asked)}


def _runs(contender: Contender, problem: Problem) -> bool:
    try:
        contender.factory(problem)
    except RequestError:
        return False
    return True


def _again(fields: Mapping[str, Field]) -> dict[str, Problem]:
    """The problems of a stored comparison, where they are the lab's still."""
    usual = {**find_problems(PROBLEMS), **find_problems(QUICK)}
    found: dict[str, Problem] = {}
    for name, field in fields.items():
        problem = usual.get(name)
        if problem is None:
            problem = find_problem(name)
        if problem.title != field.title:
            raise RequestError(
                f"{name} has other settings in the stored comparison, {field.title}, than here, "
                f"{problem.title}; begin a comparison of its own"
            )
        found[name] = problem
    return found


class _Work:
    """All methods on one problem."""

    def __init__(
        self,
        problem: Problem,
        steps: int,
        protocol: Protocol,
        journal: Journal,
        memory: float,
        progress: Progress,
    ) -> None:
        self.problem, self.protocol = problem, protocol
        self.options: Any = {"journal": journal, "memory": memory, "progress": progress}
        tuning = range(TUNING_SEED, TUNING_SEED + protocol.tuning_seeds)
        self.tuning = prepare(problem, steps, tuning)
        self.fresh = prepare(problem, steps, range(protocol.seeds))

    def tune(self, contender: Contender, trials: list[Trial]) -> tuple[list[Run], str]:
        """The runs of all trials on the tuning seeds."""
        under = f"{self.problem.name}/tuning/"
        return run_trials(self.tuning, contender, trials, under=under, **self.options)

    def cell(
        self, contender: Contender, space: Space, trials: list[Trial], runs: list[Run], note: str
    ) -> Cell:
        """The best trial on fresh seeds, and the defaults beside it."""
        best = best_trial(runs)
        untuned = _untuned(contender, space)
        picked = [untuned] if best is None else [untuned, trials[best]]
        # Side by side, unless a setting that is searched has no default.
        together = len(set(map(tuple, picked))) == 1
        fresh = [
            run
            for i, some in enumerate([picked] if together else [[trial] for trial in picked])
            for run in run_trials(
                self.fresh,
                contender,
                some,
                under=f"{self.problem.name}/fresh{i}/",
                **self.options,
            )[0]
        ]
        return Cell(
            space={name: str(axis) for name, axis in space.items()},
            trials=trials,
            tuning=np.stack([run.final_loss for run in runs]),
            tuned=None if best is None else _kept(fresh[1], len(self.fresh.seeds)),
            untuned=_kept(fresh[0], len(self.fresh.seeds)),
            note=note,
        )


def _untuned(contender: Contender, names: Iterable[str]) -> Trial:
    """The settings that a method has before any tuning, of the names that are searched."""
    own = {name: contender.default(name) for name in names}
    given = {name: value for name, value in own.items() if value is not None}
    return {RATE: UNTUNED} | given if RATE in own else given


def _kept(run: Run, seeds: int) -> Runs:
    held_out = next((name for name in HELD_OUT if name in run.curves), None)
    rate = {} if run.entry.rate is None else {RATE: run.entry.rate.value}
    return Runs(
        settings=rate | run.entry.hyperparameters,
        loss=run.curves["loss"],
        held_out=None if held_out is None else run.curves[held_out][:, -1],
        seconds=run.run_seconds / seeds,
        state_bytes=run.state_bytes,
    )


def _field(start: Start, reference: list[Run]) -> Field:
    """A problem, with the target that the tuned reference sets."""
    best = best_trial(reference)
    if best is None:
        raise RequestError(
            f"{start.problem.name}: no rate brings the loss of {REFERENCE} below its start, so "
            "that there is no target to compare by"
        )
    steps = np.array(start.marks)
    early = reference[best].curves["loss"][:, steps <= SHARE * steps[-1]]
    return Field(
        name=start.problem.name,
        title=start.problem.title,
        loss_name=start.problem.loss_name,
        held_out=next((name for name in HELD_OUT if name in start.measured), None),
        steps=steps,
        start_loss=float(start.measured["loss"].mean()),
        target=float(np.median(early.min(1))),
    )
