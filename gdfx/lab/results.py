"""What races and sweeps find: plain records, which figures, tables and files are made from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import Entry
from gdfx.lab.space import Trial

HELD_OUT = {"accuracy": "test accuracy", "test_loss": "test loss"}
"""What a problem may measure of examples that no step reads, the most telling first."""


@dataclass(frozen=True)
class Run:
    """One method on one problem: the curves of all seeds."""

    entry: Entry
    steps: np.ndarray
    """How many steps were done at each measurement, (points,)."""

    curves: dict[str, np.ndarray]
    """The problem's measurements, each (seeds, points)."""

    compile_seconds: float
    run_seconds: float
    """All steps and measurements of all seeds, without tracing and compiling."""

    state_bytes: float
    """Bytes of optimizer state to each parameter (of one seed)."""

    @property
    def start_loss(self) -> np.ndarray:
        """The loss before the first step, (seeds,)."""
        return self.curves["loss"][:, 0]

    @property
    def final_loss(self) -> np.ndarray:
        """The loss at the end, (seeds,)."""
        return self.curves["loss"][:, -1]

    def steps_to(self, target: float) -> np.ndarray:
        """The first measured step with a loss at or below the target, inf for none, (seeds,)."""
        reached = self.curves["loss"] <= target
        return np.where(reached.any(1), self.steps[reached.argmax(1)], np.inf)


@dataclass(frozen=True)
class Result:
    """All methods on one problem."""

    problem: Problem
    seeds: tuple[int, ...]
    steps: int
    runs: dict[str, Run]
    """By the method's label: its name, with its rate where it runs at several."""

    around: dict[str, tuple[Run, ...]] = field(default_factory=dict[str, tuple[Run, ...]])
    """By the method's label, runs of the first seed at rates below, at and above its own, rising;
    of methods that were run so."""

    @property
    def held_out(self) -> str | None:
        """The first of `HELD_OUT` that every run has measured."""
        runs = self.runs.values()
        return next((name for name in HELD_OUT if all(name in r.curves for r in runs)), None)

    @property
    def rates_note(self) -> str:
        """How the problem's own rates were chosen, where a run has one of them."""
        rates = [run.entry.rate for run in self.runs.values()]
        defaults = [rate for rate in rates if rate and rate.source == "default"]
        note = self.problem.rates.note
        if not defaults or not note:
            return ""
        chosen_for = defaults[0].chosen_for
        if chosen_for in (None, self.steps):
            return f"Default rates: {note}."
        return f"Default rates: {note}; chosen for {chosen_for} steps, not for {self.steps}."


@dataclass(frozen=True)
class Grid:
    """Runs with several settings of hyperparameters, the same for every method."""

    problem: Problem
    steps: int
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    """The hyperparameters that are varied."""

    runs: dict[str, tuple[Run, ...]]
    """By the method's label, one run for each trial."""

    notes: dict[str, str] = field(default_factory=dict[str, str])
    """By the method's label, what is to be said of how it was run."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the hyperparameters that are varied."""
        return tuple(self.trials[0])

    def values(self, name: str) -> np.ndarray:
        """Of a hyperparameter in each trial."""
        return np.array([trial[name] for trial in self.trials])

    @property
    def losses(self) -> dict[str, np.ndarray]:
        """The final loss of each method, (trials, seeds)."""
        return {
            label: np.stack([run.final_loss for run in runs]) for label, runs in self.runs.items()
        }

    @property
    def winners(self) -> dict[str, int | None]:
        """Of each method the trial whose worst seed ends lowest; NaN counts as infinite.

        By the median, a rate at the edge of stability may win that fails on the next seed. None
        where no trial brings every seed below its start.
        """
        return {label: best_trial(runs) for label, runs in self.runs.items()}

    @property
    def best(self) -> dict[str, float | None]:
        """The learning rate of each method's best trial, None where there is none."""
        return {
            label: None if i is None else _rate(self.runs[label][i])
            for label, i in self.winners.items()
        }

    @property
    def best_trials(self) -> dict[str, Trial | None]:
        """Each method's best trial, None where there is none."""
        return {label: None if i is None else self.trials[i] for label, i in self.winners.items()}

    @property
    def remarks(self) -> dict[str, str]:
        """What is to be said of methods without a best trial, or with one that may not be it."""
        remarks: dict[str, str] = {}
        some = "rate" if self.names == ("learning_rate",) else "trial"
        for label, best in self.best_trials.items():
            if not np.isfinite(self.losses[label]).any():
                remarks[label] = f"diverged at every {some}"
            elif best is None:
                it = "every seed" if len(self.seeds) > 1 else "it"
                remarks[label] = f"no {some} brings {it} below its start"
            else:
                edges = [self._edge(name, value) for name, value in best.items()]
                if any(edges):
                    remarks[label] = "; ".join(filter(None, edges))
        return remarks

    def _edge(self, name: str, value: float) -> str:
        tried = self.values(name)
        ends = {tried.min(): ("lowest", "lower"), tried.max(): ("highest", "higher")}
        if len(ends) == 1 or value not in ends:
            return ""
        end, beyond = ends[value]
        what = "rate" if name == "learning_rate" else name
        return f"best at the {end} {what} tried; a {beyond} one may be better"


def _rate(run: Run) -> float | None:
    return run.entry.rate and run.entry.rate.value


def best_trial(runs: Sequence[Run]) -> int | None:
    """The run whose worst seed ends lowest, None where in each some seed ends above its start."""
    worst = [
        float(nan_last(run.final_loss).max()) if (run.final_loss < run.start_loss).all() else np.inf
        for run in runs
    ]
    i = int(np.argmin(worst))
    return i if np.isfinite(worst[i]) else None


def nan_last(values: np.ndarray) -> np.ndarray:
    """The values with NaN as infinite: a run that broke off ended worst."""
    return np.where(np.isnan(values), np.inf, values)


def median(values: np.ndarray) -> np.ndarray:
    """Over the seeds, the first axis; NaN counts as infinite."""
    return np.median(nan_last(values), axis=0)


def quartiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values between which the middle half of the seeds lies; NaN counts as infinite."""
    ordered = np.sort(nan_last(values), axis=0)
    k = (len(ordered) - 1) // 4
    return ordered[k], ordered[-1 - k]
