"""The figures. Nothing here computes what the results do not hold already."""

import io
import textwrap
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from scipy.optimize import isotonic_regression

from gdfx.catalog import METHODS
from gdfx.lab.problems import Landscape, has_surface
from gdfx.lab.resolve import hyperparameters
from gdfx.lab.results import Grid, Heat, Run, median, quartiles

DPI = 160
WIDTH = 10.0  # inches, so 1,600 pixels

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "0.5",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.color": "0.9",
    "xtick.color": "0.3",
    "ytick.color": "0.3",
}

# Paul Tol's vibrant and bright schemes, which the colour-blind can tell apart.
_COLOURS = ("#0077bb", "#ee7733", "#009988", "#aa3377", "#cc3311", "#33bbee", "#666666")
_STROKES = ("-", "--", ":", "-.")
_OWN = dict(zip((n for n, m in METHODS.items() if m.form is None), cycle(_COLOURS), strict=False))


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def heat(heat: Heat) -> Figure:
    """The picture of all runs on one problem."""
    return landscape(heat, heat.problem) if has_surface(heat.problem) else curves(heat)


def strokes(names: Sequence[str]) -> list[dict[str, Any]]:
    """A colour and a line style for each method, no two alike.

    A method of the catalog has the same colour in every figure, and a dialect's form of it
    the same colour again; the line style tells them apart. Others take the colours left.
    """
    bases = [METHODS[name].form or name if name in METHODS else None for name in names]
    own = {_OWN[base] for base in bases if base}
    others = cycle([colour for colour in _COLOURS if colour not in own] or _COLOURS)
    colours = [_OWN[base] if base else next(others) for base in bases]
    return [
        {"color": colour, "linestyle": _STROKES[colours[:i].count(colour) % len(_STROKES)]}
        for i, colour in enumerate(colours)
    ]


@rc_context(STYLE)
def landscape(heat: Heat, problem: Landscape) -> Figure:
    """Each method's path on the map, on shared axes, and beside them loss against step.

    Where there are several seeds, the paths are those of the first.
    """
    columns = 1 if len(heat.runs) <= 2 else 2
    rows = -(-len(heat.runs) // columns)
    figure = Figure(figsize=(WIDTH, max(4.2, 1.2 + 2.1 * rows)))
    figure.suptitle(f"{problem.title}, {heat.steps} steps", x=0.01, ha="left", fontsize=12)
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[*[1.0] * columns, 1.05])

    view = _view(problem, [_path(run) for run in heat.runs])
    panels: list[Axes] = []
    for i, (run, label) in enumerate(zip(heat.runs, heat.labels, strict=True)):
        shared = panels[0] if panels else None
        cell = grid[i // columns, i % columns]
        panels.append(figure.add_subplot(cell, sharex=shared, sharey=shared))
        panels[-1].set(xlim=view[0], ylim=view[1], xlabel="x", ylabel="y")
        panels[-1].label_outer()
        _draw_path(panels[-1], problem, run, label, strokes(heat.names)[i]["color"], view)
    handles, names = panels[0].get_legend_handles_labels()
    dot = "a dot a step" if problem.every == 1 else f"a dot every {problem.every} steps"
    dot += f" of seed {heat.seeds[0]}" * (len(heat.seeds) > 1)
    figure.legend(
        [*handles, Line2D([], [], color="0.4", marker="."), Line2D([], [], color="0.8")],
        [*names, dot, "contours: " + ", ".join(f"{level:.2g}" for level in problem.levels)],
        loc="outside lower left", ncols=5, frameon=False, fontsize=9,
        title=heat.rates_note, title_fontsize=8.5, alignment="left",
    )  # fmt: skip

    ax = figure.add_subplot(grid[:, columns])
    ax.set(title="Loss after each step", xlabel="step", ylabel=problem.loss_name)
    _lines(ax, heat, "loss")
    return figure


def _draw_path(
    ax: Axes,
    problem: Landscape,
    run: Run,
    label: str,
    colour: str,
    view: Sequence[tuple[float, float]],
) -> None:
    """Contours, a dot for each step, start, minimum and end; and where the path leaves."""
    path = _path(run)
    x, y = np.meshgrid(*(np.linspace(*limits, 200) for limits in view))
    ax.contour(x, y, problem.surface(x, y), problem.levels, colors="0.8", linewidths=0.7)
    ax.plot(*path.T, linestyle="-", marker=".", color=colour, linewidth=1, markersize=5, zorder=3)
    marks: tuple[tuple[str, Any, str], ...] = (
        ("start", path[0], "o"),
        ("minimum", problem.minimum, "+"),
        ("end", path[-1], "D"),
    )
    for name, (mark_x, mark_y), marker in marks:
        ax.plot(
            mark_x, mark_y, marker=marker, linestyle="none", label=name, zorder=4,
            markersize=7, markeredgecolor="black", markerfacecolor="white",
        )  # fmt: skip
    settings = textwrap.fill(_settings(run), 46)
    ax.set_title(label, color=colour, weight="bold", pad=16 + 10 * settings.count("\n"))
    ax.annotate(
        settings, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        fontsize=8, color="0.3",
    )  # fmt: skip
    outside = np.flatnonzero(~_inside(path, view))
    if outside.size:
        ax.annotate(
            f"off this map from step {run.steps[outside[0]]}", (0.98, 0.04),
            xycoords="axes fraction", ha="right", fontsize=9, weight="bold", color=colour, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


@rc_context(STYLE)
def curves(heat: Heat) -> Figure:
    """Loss and, where it was measured, accuracy against step, with a band over the seeds."""
    names = ["loss"] + ["accuracy"] * ("accuracy" in heat.runs[0].curves)
    figure = Figure(figsize=(WIDTH, 5.0))
    figure.suptitle(f"{heat.problem.title}", x=0.01, ha="left", fontsize=12)
    titles = {"loss": heat.problem.loss_name, "accuracy": "test accuracy"}
    for i, name in enumerate(names):
        ax = figure.add_subplot(1, len(names), i + 1)
        ax.set(title=titles[name].capitalize(), xlabel="step")
        _lines(ax, heat, name)
    figure.supxlabel(_caption(heat), x=0.01, ha="left", fontsize=8.5, color="0.3")
    return figure


@rc_context(STYLE)
def sweep(grid: Grid) -> Figure:
    """Final loss against learning rate: median, quartiles and all seeds, the best marked."""
    figure = Figure(figsize=(WIDTH, 5.0))
    figure.suptitle(grid.problem.title, x=0.01, ha="left", fontsize=12)
    ax = figure.add_subplot()
    loss_name = f"final {grid.problem.loss_name}"
    ax.set(xscale="log", yscale="log", xlabel="learning rate η", ylabel=loss_name)
    # At the smallest rate nothing diverges, so that its loss gives the scale.
    ceiling = 10 * max(float(loss[0].max()) for loss in grid.losses.values())
    names = list(grid.losses)
    for name, style in zip(names, strokes(names), strict=True):
        middle = np.minimum(median(grid.losses[name].T), ceiling)
        _seeds(ax, grid.rates, grid.losses[name].T, ceiling, style["color"])
        ax.plot(grid.rates, middle, marker=".", label=name, **style)
        best = grid.best[name]
        at = grid.rates.index(best)
        ax.plot(best, middle[at], "o", markersize=9, color=style["color"])
    ax.grid(visible=True)
    ax.legend(frameon=False)
    figure.supxlabel(
        f"{grid.note} At the upper edge: diverged.", x=0.01, ha="left", fontsize=8.5, color="0.3"
    )
    return figure


def _lines(ax: Axes, heat: Heat, name: str) -> None:
    """The curves of all runs: median and band over seeds, each labelled at its end."""
    ceiling = np.inf
    if name == "loss":
        ax.set_yscale("log")
        ceiling = 30 * float(heat.runs[0].curves["loss"][:, 0].max())
    ends: list[tuple[float, str, str]] = []
    styles = strokes(heat.names)
    for run, label, style in zip(heat.runs, heat.labels, styles, strict=True):
        middle = np.minimum(median(run.curves[name]), ceiling)
        if len(heat.seeds) > 1:
            _seeds(ax, run.steps, run.curves[name], ceiling, style["color"])
        ax.plot(run.steps, middle, linewidth=1.8, label=label, **style)
        gone = np.flatnonzero(middle >= ceiling)
        if gone.size:
            end = f"off this chart from step {run.steps[gone[0]]}"
            ax.plot(
                run.steps[gone[0]], ceiling, "^", color=style["color"], markersize=8, clip_on=False
            )
        else:
            end = f"{100 * middle[-1]:.1f} %" if name == "accuracy" else f"{middle[-1]:.3g}"
        ends.append((middle[-1], f"{label}  {end}", style["color"]))
    ax.grid(visible=True)
    ax.set_xlim(0, heat.steps)
    if name == "accuracy":
        lowest = min(value for value, _, _ in ends)
        bottom = max(0.0, np.floor(20 * lowest - 1) / 20)
        ax.set_ylim(bottom, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        if bottom:
            ax.set_title(f"{ax.get_title('left')} (axis from {100 * bottom:.0f} %)")
    else:
        ax.set_ylim(top=min(ax.get_ylim()[1], ceiling))
    _label_ends(ax, ends)


def _seeds(ax: Axes, x: Any, values: np.ndarray, ceiling: float, colour: str) -> None:
    """A band between the quartiles, and a hairline for each seed."""
    low, high = (np.minimum(row, ceiling) for row in quartiles(values))
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    every = np.where(np.isnan(values), ceiling, np.minimum(values, ceiling))
    segments = [np.column_stack([x, seed]) for seed in every]
    ax.add_collection(LineCollection(segments, colors=colour, linewidths=0.5, alpha=0.45))


def _label_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Texts right of the axes at the height of each curve's end, pushed apart where needed."""
    leader: Any = {"arrowstyle": "-", "linewidth": 0.7, "shrinkB": 0, "relpos": (0, 0.5)}
    to_fraction = ax.transScale + ax.transLimits
    heights = [float(to_fraction.transform((ax.get_xlim()[1], y))[1]) for y, _, _ in ends]
    for (_, text, colour), height, place in zip(ends, heights, spread(heights, 0.06), strict=True):
        ax.annotate(
            text, (1, height), (1.04, place), xycoords="axes fraction", va="center", fontsize=9,
            color=colour, weight="bold", annotation_clip=False,
            arrowprops={**leader, "color": colour},
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> np.ndarray:
    """Heights in [0, 1], moved as little as leaves them in their order and a gap apart."""
    order = np.argsort(heights, kind="stable")
    gaps = gap * np.arange(len(heights))
    fitted = isotonic_regression(np.take(heights, order) - gaps).x
    places = np.empty(len(heights))
    places[order] = np.clip(fitted, 0, max(0, 1 - gaps[-1])) + gaps
    return places


def _caption(heat: Heat) -> str:
    methods = (f"{a}: {_settings(b)}" for a, b in zip(heat.labels, heat.runs, strict=True))
    n = len(heat.seeds)
    seeds = (
        f"Line: median of {n} seeds; band: quartiles; hairlines: each seed."
        if n > 1
        else "One seed."
    )
    lines = (";  ".join(methods), f"{seeds} {heat.rates_note}")
    return "\n".join(textwrap.fill(line, 150) for line in lines)


def _settings(run: Run) -> str:
    return hyperparameters(run.entry.hyperparameters)


def _path(run: Run) -> np.ndarray:
    """The places, (points, 2), of the first seed."""
    return np.stack([run.curves["x"][0], run.curves["y"][0]], axis=1)


def _view(problem: Landscape, paths: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """The part of the plane to show: all that happens within 1.5 times the start's distance."""
    start, minimum = paths[0][0], np.array(problem.minimum)
    reach = 1.5 * np.maximum(np.abs(start - minimum), 1)
    points = np.clip(np.concatenate([*paths, [minimum]]), minimum - reach, minimum + reach)
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    size = high - low
    margin = 0.08 * np.where(size > 0, size, size.max() or 1)  # a flat side needs one, too
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def _inside(path: np.ndarray, view: Sequence[tuple[float, float]]) -> np.ndarray:
    low, high = np.transpose(view)
    return ((path >= low) & (path <= high)).all(1)
