"""The page of a comparison: choose a problem and methods, drag the target."""

from typing import Any

import numpy as np

from gdfx.lab.comparison import Cell, Field, Interval, Results, Runs
from gdfx.lab.page import axis, fill, looks, short
from gdfx.lab.plot import scale_of
from gdfx.lab.verdict import limits, sentences

TARGETS = 60
"""So many stops has the slider of the target, besides the protocol's own."""


def page(results: Results, *, dark: bool = False, verdict: str = "") -> bytes:
    """The page as the content of a file.

    Args:
      results: a comparison, be it a stored one.
      dark: whether it opens dark; otherwise as the reader's browser prefers.
      verdict: what stands on top; by default a sentence on each method.
    """
    methods = [
        {
            "label": method,
            **style,
            "tuned": _interval(results.speed[method]),
            "untuned": _interval(results.untuned_speed[method]),
        }
        for method, style in zip(results.methods, looks(results.methods), strict=True)
    ]
    return fill(
        "compare.html",
        {
            "dark": dark,
            "says": [verdict] if verdict else sentences(results),
            "limits": limits(results),
            "trials": results.protocol.trials,
            "seeds": results.protocol.seeds,
            "methods": methods,
            "problems": [_problem(results, field) for field in results.fields.values()],
        },
    )


def _problem(results: Results, field: Field) -> dict[str, Any]:
    cells = [results.cells[method][field.name] for method in results.methods]
    runs = [r for cell in cells for r in (cell.tuned, cell.untuned) if r is not None]
    losses = np.concatenate([r.loss.ravel() for r in runs])
    starts = np.array([field.start_loss])
    tuning = np.concatenate([cell.tuning.ravel() for cell in cells])
    targets = _targets(field, losses)
    return {
        "name": field.name,
        "title": field.title,
        "loss": field.loss_name,
        "start": short(starts)[0],
        "steps": field.steps.tolist(),
        "targets": targets,
        "own": targets.index(field.target),
        "axis": axis(scale_of(starts, losses), field.start_loss, losses),
        "tuning_axis": axis(scale_of(starts, tuning), field.start_loss, tuning),
        "cells": [_cell(cell) for cell in cells],
    }


def _targets(field: Field, losses: np.ndarray) -> list[float]:
    """From the start down to the lowest loss of any run, and the protocol's target in its place."""
    low, high = float(losses[np.isfinite(losses)].min()), field.start_loss
    low = max(low, high * 1e-6) if high > 0 else low
    spaced = np.geomspace if low > 0 else np.linspace
    others = {float(f"{x:.3g}") for x in spaced(high, low, TARGETS)}
    return sorted({*others, field.target}, reverse=True)


def _cell(cell: Cell) -> dict[str, Any]:
    order = np.argsort(cell.rates)
    return {
        "rates": short(cell.rates[order]),
        "tuning": short(cell.tuning[order]),
        "taken": None if cell.tuned is None else cell.tuned.settings["learning_rate"],
        "tuned": None if cell.tuned is None else _runs(cell.tuned),
        "untuned": _runs(cell.untuned),
    }


def _runs(runs: Runs) -> dict[str, Any]:
    """All seeds; nine digits tell any two float32 apart, so that a target is met where it was."""
    return {"rate": runs.settings["learning_rate"], "loss": short(runs.loss, 9)}


def _interval(found: Interval) -> list[float]:
    return short(np.array([found.low, found.value, found.high]))
