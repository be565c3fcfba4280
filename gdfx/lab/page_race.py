"""The page of a race: choose a problem and methods, drag the learning rates, step through."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gdfx.lab.page import axis, fill, looks, short
from gdfx.lab.plot import map_of, minima_of, scale_of
from gdfx.lab.protocol import Landscape, has_surface
from gdfx.lab.results import Result, Run

POINTS = 120
"""Along each side of a map."""

FAR = 20
"""A path ends so many times the size of the map away from it."""


def page(results: Sequence[Result], *, dark: bool = False) -> bytes:
    """The page as the content of a file.

    Args:
      results: a problem each, as `gdfx.lab.race` finds them.
      dark: whether it opens dark; otherwise as the reader's browser prefers.
    """
    return fill("race.html", {"dark": dark, "problems": [_problem(one) for one in results]})


def _problem(result: Result) -> dict[str, Any]:
    problem = result.problem
    tried = {label: result.around.get(label) or (run,) for label, run in result.runs.items()}
    every = [run for runs in tried.values() for run in runs]
    starts = np.concatenate([run.start_loss[:1] for run in every])
    losses = np.concatenate([run.curves["loss"][0] for run in every])
    scale = scale_of(starts, losses)
    terrain = _terrain(problem, list(result.runs.values())) if has_surface(problem) else None
    styles = looks([run.entry.name for run in result.runs.values()])
    return {
        "name": problem.name,
        "title": problem.title,
        "loss": problem.loss_name,
        "seed": result.seeds[0] if problem.seeded else None,
        "note": result.rates_note,
        "steps": every[0].steps.tolist(),
        "axis": axis(scale, float(starts.max()), losses),
        "map": terrain,
        "methods": [
            {
                "label": label,
                **style,
                "settings": result.runs[label].entry.settings,
                "rates": [_rate(run) for run in runs],
                "own": [_rate(run) for run in runs].index(_rate(result.runs[label])),
                "runs": [_run(run, terrain) for run in runs],
            }
            for (label, runs), style in zip(tried.items(), styles, strict=True)
        ],
    }


def _rate(run: Run) -> float | None:
    return run.entry.rate and run.entry.rate.value


def _terrain(problem: Landscape, runs: Sequence[Run]) -> dict[str, Any]:
    """The map; a contour is where ``level`` is a whole number."""
    terrain = map_of(problem, runs, POINTS)
    minima = minima_of(problem)
    return {
        "x": short(terrain.x[0]),
        "y": short(terrain.y[:, 0]),
        "level": short(_levels(terrain.z, np.array(terrain.levels)), 3),
        "levels": len(terrain.levels),
        "view": [list(limit) for limit in terrain.limits],
        "minima": [] if minima is None else short(minima),
    }


def _levels(z: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Which contour each point is on, with what lies between two: evenly in the logarithm."""
    if len(heights) < 2:
        return np.zeros_like(z)
    ground = min(float(np.nanmin(z)), heights[0] - 1e-3 * (heights[1] - heights[0]))
    marks = np.log(heights - ground)
    ends = (2 * marks[0] - marks[1], 2 * marks[-1] - marks[-2])
    depth = np.log(np.maximum(np.nan_to_num(z, nan=np.inf) - ground, np.finfo(float).tiny))
    return np.interp(depth, [ends[0], *marks, ends[1]], np.arange(-1, len(heights) + 1))


def _run(run: Run, terrain: dict[str, Any] | None) -> dict[str, Any]:
    """The first seed's curves."""
    found: dict[str, Any] = {"loss": short(run.curves["loss"][0])}
    if terrain is not None:
        path = np.stack([run.curves["x"][0], run.curves["y"][0]]).astype(float)
        low, high = np.transpose(terrain["view"])[:, :, None]
        path[:, (np.abs(path - (low + high) / 2) > FAR * (high - low)).any(0)] = np.nan
        found["x"], found["y"] = short(path)
    return found
