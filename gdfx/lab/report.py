"""The results in words and numbers: a table for the terminal, a record for a file."""

import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import jax
import numpy as np
import optax
from rich.table import Table
from rich.text import Text

import gdfx
from gdfx.core.words import number
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import Entry
from gdfx.lab.results import Grid, Result, Run, median, nan_last
from gdfx.lab.tables import Column, Columns, Page, page

BEST = "*"


def table(result: Result) -> Page:
    """One row for each method, and its settings below."""
    several, target = len(result.seeds) > 1, result.problem.target
    runs = list(result.runs.values())
    numbers = [Column("final loss", [_median_and_range(run.final_loss) for run in runs])]
    if target is not None:
        cells = [_steps_to(run.steps_to(target)) for run in runs]
        numbers.append(Column(f"steps to {target:g}", cells))
    held_out = result.held_out
    if held_out is not None:
        finals = [run.curves[held_out][:, -1] for run in runs]
        accuracy = held_out == "accuracy"
        cells = [(_percent if accuracy else _median_and_range)(final) for final in finals]
        numbers.append(Column("accuracy, %" if accuracy else "test loss", cells))
    seconds = [f"{run.run_seconds:.1f} + {run.compile_seconds:.1f}" for run in runs]
    numbers.append(Column("seconds", seconds))
    numbers.append(Column("state bytes", [f"{run.state_bytes:.1f}" for run in runs]))
    notes = (
        f"{_MEASURED[held_out]}: median, and lowest … highest of the seeds." * several,
        f"Steps to {target:g}: the first measured step with {result.problem.loss_name} at or "
        f"below it{', median of the seeds' * several}."
        if target is not None
        else "",
        f"Seconds: running{' all seeds' * several} + compiling.",
        "State bytes: per parameter.",
        result.rates_note,
    )
    return page(
        f"{result.problem.title}\n{_extent(result)}",
        Columns([Column("method", list(result.runs))], numbers),
        Text(),
        _settings([run.entry for run in runs]),
        Text(),
        note=" ".join(filter(None, notes)),
    )


_MEASURED = {None: "Loss", "test_loss": "Losses", "accuracy": "Loss and accuracy"}


def _extent(found: Result | Grid) -> str:
    """As in ``600 steps, 5 seeds``."""
    return f"{found.steps} steps" + f", {len(found.seeds)} seeds" * (len(found.seeds) > 1)


def _settings(entries: Sequence[Entry]) -> Table:
    lines = Table.grid("", "", padding=(0, 2, 0, 0))
    for column in lines.columns:
        column.overflow = "fold"  # nothing is cut
    for entry in entries:
        lines.add_row(Text(entry.label), Text(entry.settings))
    return lines


def _median_and_range(values: np.ndarray, form: str = ".3g", ends_form: str = ".2g") -> str:
    """The median over the seeds, and where there are several the lowest and the highest."""
    values = nan_last(values)
    middle = _number(float(np.median(values)), form)
    if len(values) == 1:
        return middle
    return f"{middle}\n{_number(values.min(), ends_form)} … {_number(values.max(), ends_form)}"


def _percent(shares: np.ndarray) -> str:
    return _median_and_range(100 * shares, ".1f", ".1f")


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else "diverged"


def _steps_to(steps: np.ndarray) -> str:
    """The median over the seeds; a miss counts as infinite."""
    median = float(np.median(steps))
    return f"{median:g}" if math.isfinite(median) else "not reached"


def sweep_table(grid: Grid) -> Page:
    """One row for each trial, one column for each method."""
    columns = [
        Column(label, [_marked(loss, i == best) for i, loss in enumerate(grid.losses[label])])
        for label, best in grid.winners.items()
    ]
    names = [
        Column(name.replace("_", " "), [number(value) for value in grid.values(name)])
        for name in grid.names
    ]
    several = len(grid.seeds) > 1
    what = "rate" if grid.names == ("learning_rate",) else "trial"
    return page(
        f"{grid.problem.title}\nfinal {grid.problem.loss_name}, {_extent(grid)}",
        Columns(names, columns),
        Text(),
        note="\n".join(
            (
                f"{'Median of the seeds. ' * several}{BEST} the best {what}: "
                f"{'its worst seed' if several else 'it'} ends lowest.",
                *(f"{label}: {remark}." for label, remark in grid.remarks.items()),
                *(f"{note}." for note in grid.notes.values()),
            )
        ),
    )


def _marked(losses: np.ndarray, best: bool) -> str:
    """The median final loss of a trial; numbers keep below each other, marked or not."""
    return f"{_number(float(median(losses)), '.3g')} {BEST if best else ' '}"


def record(results: Iterable[Result]) -> dict[str, Any]:
    """Everything that was measured, and what it was measured with, as JSON takes it.

    What is not finite is None there.
    """
    return {
        **made_with(),
        "problems": {result.problem.name: _result(result) for result in results},
    }


def sweep_record(grid: Grid) -> dict[str, Any]:
    """A sweep as JSON takes it."""
    return {
        **made_with(),
        "problem": grid.problem.name,
        **_problem(grid.problem, grid.steps, grid.seeds),
        "trials": list(grid.trials),
        "best": grid.best_trials,
        "remarks": grid.remarks,
        "notes": grid.notes,
        "measured_steps": next(iter(grid.runs.values()))[0].steps.tolist(),
        "loss": {
            label: [_finite(run.curves["loss"]) for run in runs]
            for label, runs in grid.runs.items()
        },
        "hyperparameters": {
            label: runs[0].entry.hyperparameters for label, runs in grid.runs.items()
        },
    }


def made_with() -> dict[str, Any]:
    """The versions and the device that results hang on."""
    return {
        "versions": {
            "gdfx": gdfx.__version__,
            "jax": jax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": jax.devices()[0].device_kind,
    }


def _problem(problem: Problem, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
    return {"title": problem.title, "steps": steps, "seeds": list(seeds)}


def _result(result: Result) -> dict[str, Any]:
    problem = result.problem
    return {
        **_problem(problem, result.steps, result.seeds),
        "target_loss": problem.target,
        "default_rates": {
            "by_method": dict(problem.rates.by_method),
            "note": problem.rates.note,
            "chosen_for": problem.rates.steps,
        },
        "methods": {label: _run(run, problem.target) for label, run in result.runs.items()},
    }


def _run(run: Run, target: float | None) -> dict[str, Any]:
    return {
        "name": run.entry.name,
        "learning_rate": None if run.entry.rate is None else asdict(run.entry.rate),
        "hyperparameters": run.entry.hyperparameters,
        "steps": run.steps.tolist(),
        "curves": {name: _finite(curve) for name, curve in run.curves.items()},
        "steps_to_target": None if target is None else _finite(run.steps_to(target)),
        "compile_seconds": run.compile_seconds,
        "run_seconds": run.run_seconds,
        "state_bytes_per_parameter": run.state_bytes,
    }


def _finite(values: np.ndarray) -> list[Any]:
    nulls = values.astype(object)
    nulls[~np.isfinite(values)] = None
    return nulls.tolist()
