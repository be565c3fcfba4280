"""The results in words and numbers: a table for the terminal, a record for a file."""

import math
import platform
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

import gdfx
from gdfx.core.words import number
from gdfx.lab.resolve import hyperparameters
from gdfx.lab.results import Grid, Heat, median, nan_last


def table(heat: Heat) -> Group:
    """One row for each method."""
    several, target = len(heat.seeds) > 1, heat.problem.target
    accuracy = "accuracy" in heat.runs[0].curves
    rows = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    rows.add_column("method", style="bold", no_wrap=True)
    rows.add_column("settings", min_width=8)
    rows.add_column("final loss", justify="right", no_wrap=True)
    rows.add_column(f"steps to {target:g}", justify="right", max_width=8)
    if accuracy:
        rows.add_column("accuracy, %", justify="right", no_wrap=True)
    rows.add_column("seconds", justify="right", no_wrap=True)
    rows.add_column("state bytes", justify="right", max_width=5)
    for label, run in zip(heat.labels, heat.runs, strict=True):
        rows.add_row(
            label,
            hyperparameters(run.entry.hyperparameters),
            _median_and_range(run.final_loss),
            _steps_to(run.steps_to(target)),
            *([_percent(run.curves["accuracy"][:, -1])] if accuracy else []),
            f"{run.run_seconds:.1f} + {run.compile_seconds:.1f}",
            f"{run.state_bytes:.1f}",
        )
    note = [
        "Loss and accuracy: median, and lowest … highest of the seeds." * several,
        f"Steps to {target:g}: the first measured step with {heat.problem.loss_name} at or below "
        f"it{', median of the seeds' * several}.",
        f"Seconds: running{' all seeds' * several} + compiling.",
        "State bytes: per parameter.",
        heat.rates_note,
    ]
    title = f"{heat.problem.title}\n{heat.steps} steps" + f", {len(heat.seeds)} seeds" * several
    return _titled(title, rows, " ".join(filter(None, note)))


def _titled(title: str, rows: Table, note: str) -> Group:
    return Group(Text(title, "bold"), Text(), rows, Text(note, "dim"), Text())


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


def results(heats: Iterable[Heat]) -> dict[str, Any]:
    """Everything that was measured, and what it was measured with, as JSON takes it.

    What is not finite is null there.
    """
    return {**_made_with(), "problems": {heat.problem.name: _heat(heat) for heat in heats}}


def sweep_table(grid: Grid) -> Group:
    """One row for each rate, one column for each method."""
    rows = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    rows.add_column("learning rate", justify="right")
    for name in grid.losses:
        rows.add_column(name, justify="right")
    for i, rate in enumerate(grid.rates):
        cells = [
            Text(
                _number(float(median(loss[i])), ".3g"),
                "bold" if rate == grid.best[name] else "",
            )
            for name, loss in grid.losses.items()
        ]
        rows.add_row(number(rate), *cells)
    return _titled(
        f"{grid.problem.title}\nfinal {grid.problem.loss_name}, {grid.steps} steps",
        rows,
        f"Median of {len(grid.seeds)} seeds; " * (len(grid.seeds) > 1)
        + "bold: where the worst seed ends lowest.",
    )


def sweep_results(grid: Grid) -> dict[str, Any]:
    """A sweep as JSON takes it."""
    return {
        **_made_with(),
        "problem": grid.problem.name,
        "steps": grid.steps,
        "seeds": list(grid.seeds),
        "rates": list(grid.rates),
        "best": grid.best,
        "final_loss": {name: _finite(loss) for name, loss in grid.losses.items()},
    }


def _made_with() -> dict[str, Any]:
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


def _heat(heat: Heat) -> dict[str, Any]:
    return {
        "title": heat.problem.title,
        "steps": heat.steps,
        "seeds": list(heat.seeds),
        "target_loss": heat.problem.target,
        "rates_note": heat.problem.rates_note,
        "methods": {
            label: {
                "name": run.entry.name,
                "hyperparameters": run.entry.hyperparameters,
                "steps": run.steps.tolist(),
                "curves": {name: _finite(curve) for name, curve in run.curves.items()},
                "steps_to_target": _finite(run.steps_to(heat.problem.target)),
                "compile_seconds": run.compile_seconds,
                "run_seconds": run.run_seconds,
                "state_bytes_per_parameter": run.state_bytes,
            }
            for label, run in zip(heat.labels, heat.runs, strict=True)
        },
    }


def _finite(values: np.ndarray) -> list[Any]:
    nulls = values.astype(object)
    nulls[~np.isfinite(values)] = None
    return nulls.tolist()
