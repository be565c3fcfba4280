"""What a comparison found: plain records with their statistics, from which all else is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gdfx.lab.results import nan_last
from gdfx.lookup import RequestError

FORMAT = 1
KIND = "comparison"
RESAMPLES = 2000
REFERENCE = "adamw"


@dataclass(frozen=True)
class Runs:
    """The runs of one method on one problem with one setting, on fresh seeds."""

    settings: dict[str, float]
    """All hyperparameters, the learning rate among them."""

    loss: np.ndarray
    """(seeds, points)."""

    held_out: np.ndarray | None
    """The accuracy, or else the test loss, at the end, (seeds,)."""

    seconds: float
    """Of one seed, without compiling, beside the others of its chunk."""

    state_bytes: float
    """To each parameter."""

    def steps_to(self, target: float, steps: np.ndarray) -> np.ndarray:
        """The first measured step with a loss at or below the target, inf for none, (seeds,)."""
        reached = self.loss <= target
        return np.where(reached.any(1), steps[reached.argmax(1)], np.inf)


@dataclass(frozen=True)
class Cell:
    """One method on one problem."""

    space: dict[str, str]
    """What was searched, in words, by hyperparameter."""

    trials: list[dict[str, float]]
    tuning: np.ndarray
    """The final loss of each trial on the tuning seeds, (trials, seeds)."""

    tuned: Runs | None
    """None where no trial brings every tuning seed below its start."""

    untuned: Runs
    note: str = ""

    @property
    def rates(self) -> np.ndarray:
        """The learning rate of each trial."""
        return np.array([trial["learning_rate"] for trial in self.trials])


@dataclass(frozen=True)
class Field:
    """A problem, as far as tables and figures need it."""

    name: str
    title: str
    loss_name: str
    held_out: str | None
    steps: np.ndarray
    """How many steps were done at each measurement."""

    start_loss: float
    target: float
    """Set by the tuned reference."""


@dataclass(frozen=True)
class Protocol:
    """What is the same for all methods, fixed before any of them runs."""

    trials: int
    tuning_seeds: int
    seeds: int
    schedule: str = "constant learning rate"


@dataclass(frozen=True)
class Interval:
    """An estimate, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """All methods on all problems."""

    protocol: Protocol
    fields: dict[str, Field]
    cells: dict[str, dict[str, Cell]]
    """By method, by problem."""

    seconds: float
    """What it all took, with compiling."""

    @property
    def methods(self) -> list[str]:
        """The labels, the reference first."""
        return list(self.cells)

    def steps_to(self, method: str, problem: str, *, tuned: bool = True) -> np.ndarray:
        """Steps to the target, inf for a miss, (seeds,)."""
        field, cell = self.fields[problem], self.cells[method][problem]
        runs = cell.tuned if tuned else cell.untuned
        if runs is None:
            return np.full(len(cell.untuned.loss), np.inf)
        return runs.steps_to(field.target, field.steps)

    def scores(self, method: str, *, tuned: bool = True) -> list[np.ndarray]:
        """By problem, how many times as fast as the tuned reference each seed is; 0 for a miss."""
        found: list[np.ndarray] = []
        for problem in self.fields:
            reference = float(np.median(self.steps_to(REFERENCE, problem)))
            steps = self.steps_to(method, problem, tuned=tuned)
            if np.isinf(reference):  # the tuned reference missed its own target: count hits alone
                reference = float(self.fields[problem].steps[-1])
            found.append(reference / np.maximum(steps, 1))
        return found

    @cached_property
    def speed(self) -> dict[str, Interval]:
        """The interquartile mean of the scores of each tuned method."""
        return {method: stratified(self.scores(method)) for method in self.methods}

    @cached_property
    def untuned_speed(self) -> dict[str, Interval]:
        """The same of each method with its defaults."""
        return {method: stratified(self.scores(method, tuned=False)) for method in self.methods}

    @cached_property
    def gain(self) -> dict[str, Interval]:
        """How much the interquartile mean of each method is above the reference's."""
        reference = self.scores(REFERENCE)
        return {
            method: stratified(self.scores(method), reference)
            for method in self.methods
            if method != REFERENCE
        }

    def misses(self, method: str) -> tuple[int, int]:
        """How many of the tuned runs miss the target, and of how many."""
        steps = np.concatenate([self.steps_to(method, problem) for problem in self.fields])
        return int(np.isinf(steps).sum()), len(steps)

    def ratios(self, method: str) -> np.ndarray:
        """Of each problem the median steps to the target by the fewest of all methods; inf."""
        found: list[float] = []
        for problem in self.fields:
            medians = {m: float(np.median(self.steps_to(m, problem))) for m in self.methods}
            best = min(medians.values())
            found.append(medians[method] / max(best, 1) if np.isfinite(best) else np.inf)
        return np.array(found)

    def profile(self, method: str, factors: np.ndarray) -> np.ndarray:
        """The share of problems solved within each factor of the fewest steps."""
        return (self.ratios(method)[:, None] <= factors).mean(0)


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of the middle half."""
    from scipy.stats import trim_mean  # slow to import

    return trim_mean(values, 0.25, axis=axis)


def stratified(
    strata: Sequence[np.ndarray], less: Sequence[np.ndarray] = (), *, resamples: int = RESAMPLES
) -> Interval:
    """The interquartile mean over all strata, with its stratified bootstrap interval.

    Seeds are drawn anew within each problem, so that every problem keeps its weight (Agarwal et
    al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021).

    Args:
      strata: by problem, the score of each seed.
      less: strata whose interquartile mean is taken off.
      resamples: how often to draw.
    """
    n = len(strata)

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        found = interquartile_mean(np.concatenate(samples[:n], axis), axis)
        if len(samples) > n:
            found = found - interquartile_mean(np.concatenate(samples[n:], axis), axis)
        return found

    data = (*strata, *less)
    value = float(statistic(*data))
    if all(len(set(sample.tolist())) == 1 for sample in data):
        return Interval(value, value, value)
    from scipy.stats import bootstrap  # slow to import

    found = bootstrap(
        data, statistic, n_resamples=resamples, method="percentile", vectorized=True, rng=0
    )
    low, high = found.confidence_interval
    return Interval(value, float(low), float(high))


# To a file and back.


def to_json(results: Results) -> dict[str, Any]:
    """As JSON takes it; what is not finite is None."""
    protocol = results.protocol
    return {
        "kind": KIND,
        "format": FORMAT,
        "protocol": {
            "trials": protocol.trials,
            "tuning_seeds": protocol.tuning_seeds,
            "seeds": protocol.seeds,
            "schedule": protocol.schedule,
        },
        "seconds": results.seconds,
        "problems": {
            name: {
                "title": field.title,
                "loss_name": field.loss_name,
                "held_out": field.held_out,
                "measured_steps": field.steps.tolist(),
                "start_loss": field.start_loss,
                "target": field.target,
            }
            for name, field in results.fields.items()
        },
        "methods": {
            method: {name: _cell_to_json(cell) for name, cell in cells.items()}
            for method, cells in results.cells.items()
        },
    }


def _cell_to_json(cell: Cell) -> dict[str, Any]:
    return {
        "space": cell.space,
        "trials": cell.trials,
        "tuning": _finite(cell.tuning),
        "tuned": None if cell.tuned is None else _runs_to_json(cell.tuned),
        "untuned": _runs_to_json(cell.untuned),
        "note": cell.note,
    }


def _runs_to_json(runs: Runs) -> dict[str, Any]:
    return {
        "settings": runs.settings,
        "loss": _finite(runs.loss),
        "held_out": None if runs.held_out is None else _finite(runs.held_out),
        "seconds": runs.seconds,
        "state_bytes": runs.state_bytes,
    }


def _finite(values: np.ndarray) -> list[Any]:
    nulls = values.astype(object)
    nulls[~np.isfinite(values)] = None
    return nulls.tolist()


def from_json(record: Mapping[str, Any], where: str) -> Results:
    """The results again.

    Args:
      record: what `to_json` returned.
      where: what to call it in an error.

    Raises:
      RequestError: for a record of another kind, of a newer format, or that is damaged.
    """
    if record.get("kind") != KIND:
        raise RequestError(f"{where} holds no comparison, as gdfx compare writes it")
    try:
        if record["format"] > FORMAT:
            raise RequestError(f"{where} was written by a newer gdfx")
        fields = {
            name: Field(
                name,
                one["title"],
                one["loss_name"],
                one["held_out"],
                np.array(one["measured_steps"]),
                one["start_loss"],
                one["target"],
            )
            for name, one in record["problems"].items()
        }
        cells = {
            method: {name: _cell_from_json(cell) for name, cell in some.items()}
            for method, some in record["methods"].items()
        }
        return Results(Protocol(**record["protocol"]), fields, cells, record["seconds"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"{where} is damaged: it holds a comparison, but not all of it"
        ) from error


def _cell_from_json(cell: Mapping[str, Any]) -> Cell:
    return Cell(
        cell["space"],
        cell["trials"],
        np.array(cell["tuning"], float),
        None if cell["tuned"] is None else _runs_from_json(cell["tuned"]),
        _runs_from_json(cell["untuned"]),
        cell["note"],
    )


def _runs_from_json(runs: Mapping[str, Any]) -> Runs:
    held_out = runs["held_out"]
    return Runs(
        runs["settings"],
        np.array(runs["loss"], float),
        None if held_out is None else np.array(held_out, float),
        runs["seconds"],
        runs["state_bytes"],
    )


def tuning_median(cell: Cell) -> np.ndarray:
    """The median over the tuning seeds of each trial's final loss, NaN as infinite."""
    return np.median(nan_last(cell.tuning), axis=1)
