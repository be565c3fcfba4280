"""What races and sweeps find: plain records, which figures, tables and files are made from."""

from dataclasses import dataclass

import numpy as np

from gdfx.lab.problems import Problem
from gdfx.lab.resolve import Entry


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
    """Runs on a grid of learning rates."""

    problem: Problem
    steps: int
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    runs: dict[str, tuple[Run, ...]]
    """By the method's label, one run for each rate."""

    @property
    def losses(self) -> dict[str, np.ndarray]:
        """The final loss of each method, (rates, seeds)."""
        return {
            label: np.stack([run.final_loss for run in runs]) for label, runs in self.runs.items()
        }

    @property
    def best(self) -> dict[str, float | None]:
        """The rate of each method whose worst seed ends lowest; NaN counts as infinite.

        By the median, a rate at the edge of stability may win that fails on the next seed. None
        where no rate brings every seed below its start.
        """
        return {label: _best(self.rates, runs) for label, runs in self.runs.items()}

    @property
    def remarks(self) -> dict[str, str]:
        """What is to be said of methods without a best rate, or with one that may not be it."""
        remarks: dict[str, str] = {}
        for label, best in self.best.items():
            if not np.isfinite(self.losses[label]).any():
                remarks[label] = "diverged at every rate"
            elif best is None:
                it = "every seed" if len(self.seeds) > 1 else "it"
                remarks[label] = f"no rate brings {it} below its start"
            elif len(self.rates) > 1 and best == self.rates[0]:
                remarks[label] = "best at the lowest rate tried; a lower one may be better"
            elif len(self.rates) > 1 and best == self.rates[-1]:
                remarks[label] = "best at the highest rate tried; a higher one may be better"
        return remarks


def _best(rates: tuple[float, ...], runs: tuple[Run, ...]) -> float | None:
    worst = [
        float(nan_last(run.final_loss).max()) if (run.final_loss < run.start_loss).all() else np.inf
        for run in runs
    ]
    i = int(np.argmin(worst))
    return rates[i] if np.isfinite(worst[i]) else None


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
