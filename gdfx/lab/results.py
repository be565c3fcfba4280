"""What races and sweeps find: plain records, which figures, tables and files are made from."""

from dataclasses import dataclass

import numpy as np

from gdfx.core.words import number
from gdfx.lab.problems import Problem
from gdfx.lab.resolve import Entry, default_rate


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
    def final_loss(self) -> np.ndarray:
        """The loss at the end, (seeds,)."""
        return self.curves["loss"][:, -1]

    def steps_to(self, target: float) -> np.ndarray:
        """The first measured step with a loss at or below the target, inf for none, (seeds,)."""
        reached = self.curves["loss"] <= target
        return np.where(reached.any(1), self.steps[reached.argmax(1)], np.inf)


@dataclass(frozen=True)
class Heat:
    """All methods on one problem."""

    problem: Problem
    seeds: tuple[int, ...]
    steps: int
    runs: tuple[Run, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The method of each run."""
        return tuple(run.entry.name for run in self.runs)

    @property
    def rates_note(self) -> str:
        """How the problem's rates were chosen, where a run has one of them."""
        entries = (run.entry for run in self.runs)
        some = any(entry.rate == default_rate(entry.name, self.problem) for entry in entries)
        return self.problem.rates_note if some else ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The method of each run, with its rate where a method runs more than once."""
        return tuple(
            f"{name}={number(run.entry.rate)}" if self.names.count(name) > 1 else name
            for run, name in zip(self.runs, self.names, strict=True)
        )


@dataclass(frozen=True)
class Grid:
    """Final losses on a grid of learning rates."""

    problem: Problem
    steps: int
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    losses: dict[str, np.ndarray]
    """The final loss of each method, (rates, seeds)."""

    @property
    def best(self) -> dict[str, float]:
        """The rate of each method whose worst seed ends lowest; NaN counts as infinite.

        By the median, a rate at the edge of stability may win that fails on the next seed.
        """
        return {
            name: self.rates[int(nan_last(loss).max(axis=1).argmin())]
            for name, loss in self.losses.items()
        }

    @property
    def note(self) -> str:
        """How it was done, on one line."""
        seeds = f"Line: median of {len(self.seeds)} seeds; band: quartiles; hairlines: each seed; "
        return (
            seeds * (len(self.seeds) > 1) + "large dot: lowest worst seed. "
            f"{self.steps} steps; the same rates for every method."
        )


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
