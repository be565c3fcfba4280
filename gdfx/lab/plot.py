"""The figures. Nothing here computes what the results do not hold already."""

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from scipy.optimize import isotonic_regression

from gdfx.catalog import METHODS
from gdfx.lab.protocol import Landscape, has_surface
from gdfx.lab.resolve import SYMBOLS
from gdfx.lab.results import HELD_OUT, Grid, Result, Run, median, nan_last, quartiles

DPI = 160
WIDTH = 10.0  # inches, so 1,600 pixels
LABEL = 20  # letters on a line of a label
LINE = 0.28  # inches of a figure's height for each line of the labels beside a chart

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
_MARKERS = dict(zip(_STROKES, "os^D", strict=True))
"""What tells dots of one colour apart where no line does."""

_OWN = dict(zip((n for n, m in METHODS.items() if m.form is None), cycle(_COLOURS), strict=False))


def image(figure: Figure, kind: str = "png") -> bytes:
    """The figure as the content of a PNG or SVG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI)
    return buffer.getvalue()


GROUND = 0.07
"""How bright the ground of a dark figure is."""

_COLOURED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def darken(figure: Figure) -> None:
    """Turn a figure to a dark ground: greys are turned over, colours get brighter."""
    # A figure and its axes answer for their patches; what one setter sets, another may show.
    parts = [x for x in figure.findobj() if not isinstance(x, Figure | Axes)]
    found = [
        (part, name, to_rgba_array(getattr(part, f"get_{name}")()))
        for part in parts
        for name in _COLOURED
        if hasattr(part, f"get_{name}")
    ]
    for part, name, colours in found:
        if len(colours):
            new = [brighter(colour) for colour in colours]
            getattr(part, f"set_{name}")(new if isinstance(part, Collection) else new[0])


def brighter(colour: np.ndarray) -> tuple[float, ...]:
    """What stands for a colour, red, green, blue and alpha, on a dark ground."""
    *rgb, alpha = map(float, colour)
    if max(rgb) - min(rgb) < 0.01:
        grey = GROUND + (1 - GROUND) * (1 - rgb[0])
        return (grey, grey, grey, alpha)
    return (*(x + 0.3 * (1 - x) for x in rgb), alpha)


def result(result: Result) -> Figure:
    """The picture of all runs on one problem."""
    if has_surface(result.problem):
        return landscape(result, result.problem)
    return curves(result)


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


class Map(NamedTuple):
    """The part of the plane to show, and the surface on it."""

    limits: Sequence[tuple[float, float]]
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    levels: Sequence[float]


@rc_context(STYLE)
def landscape(result: Result, problem: Landscape) -> Figure:
    """Each method's path on the map, on shared axes, and beside them loss against step.

    Where there are several seeds, the paths are those of the first.
    """
    runs = list(result.runs.values())
    columns = 1 if len(runs) <= 2 else 2
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(WIDTH, max(4.2, 1.2 + 2.1 * rows)))
    _head(figure, f"{problem.title}, {result.steps} steps")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[*[1.0] * columns, 1.05])

    terrain = map_of(problem, runs)
    panels: list[Axes] = []
    for i, (run, style) in enumerate(zip(runs, _styles(result), strict=True)):
        shared = panels[0] if panels else None
        cell = grid[i // columns, i % columns]
        panels.append(figure.add_subplot(cell, sharex=shared, sharey=shared))
        panels[-1].set(xlim=terrain.limits[0], ylim=terrain.limits[1], xlabel="x", ylabel="y")
        panels[-1].label_outer()
        _draw_path(panels[-1], terrain, minima_of(problem), run, style["color"])
    handles, names = panels[0].get_legend_handles_labels()
    dot = "a dot a step" if problem.every == 1 else f"a dot every {problem.every} steps"
    dot += f" of seed {result.seeds[0]}" * (len(result.seeds) > 1)
    heights = "heights above the lowest point, a factor of √10 apart"
    if problem.levels is not None:
        heights = ", ".join(f"{level:.2g}" for level in problem.levels)
    figure.legend(
        [*handles, Line2D([], [], color="0.4", marker="."), Line2D([], [], color="0.8")],
        [*names, dot, f"contours: {heights}"],
        loc="outside lower left", ncols=5, frameon=False, fontsize=9,
        title=textwrap.fill(result.rates_note, 150), title_fontsize=8.5, alignment="left",
    )  # fmt: skip

    ax = figure.add_subplot(grid[:, columns])
    ax.set(title="Loss after each step", xlabel="step", ylabel=problem.loss_name)
    _lines(ax, result, "loss")
    return figure


def _draw_path(ax: Axes, terrain: Map, minimum: np.ndarray | None, run: Run, colour: str) -> None:
    """Contours, a dot for each step, start, minimum and end; and where the path leaves."""
    path = _path(run)
    if len(terrain.levels):
        contours = terrain.x, terrain.y, terrain.z, terrain.levels
        ax.contour(*contours, colors="0.8", linewidths=0.7, linestyles="solid")
    size = 5 if len(path) < 100 else 2.5
    ax.plot(
        *path.T, linestyle="-", marker=".", color=colour, linewidth=1, markersize=size, zorder=3
    )
    marks = {"start": (path[:1], "o"), "minimum": (minimum, "+"), "end": (path[-1:], "D")}
    for name, (places, marker) in marks.items():
        if places is not None:
            ax.plot(
                *places.T, marker=marker, linestyle="none", label=name, zorder=4,
                markersize=7, markeredgecolor="black", markerfacecolor="white",
            )  # fmt: skip
    settings = textwrap.fill(run.entry.settings, 40)
    title = broken(run.entry.label, 20)
    ax.set_title(title, color=colour, weight="bold", pad=16 + 10 * settings.count("\n"))
    ax.annotate(
        settings, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        fontsize=8, color="0.3",
    )  # fmt: skip
    outside = np.flatnonzero(~_inside(path, terrain.limits))
    if outside.size:
        ax.annotate(
            f"off this map from step {run.steps[outside[0]]}", (0.98, 0.04),
            xycoords="axes fraction", ha="right", fontsize=9, weight="bold", color=colour, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


@rc_context(STYLE)
def curves(result: Result) -> Figure:
    """Loss and what was measured of held-out examples against step, with a band over the seeds."""
    names = ["loss", *filter(None, [result.held_out])]
    lines = sum(broken(label, LABEL).count("\n") + 2 for label in result.runs)
    figure = Figure(figsize=(WIDTH, max(5.0, 2.0 + 0.2 * lines)))
    _head(figure, result.problem.title)
    titles = {"loss": result.problem.loss_name} | HELD_OUT
    for i, name in enumerate(names):
        ax = figure.add_subplot(1, len(names), i + 1)
        ax.set(title=_begun(titles[name]), xlabel="step")
        _lines(ax, result, name)
    _foot(figure, _how(result))
    return figure


def _begun(text: str) -> str:
    """With a capital letter, unless it is a formula's."""
    return text[:1].upper() + text[1:] if text[1:2].isalpha() else text


def _how(result: Result) -> list[str]:
    """The settings of all methods, and what is drawn of the seeds."""
    n = len(result.seeds)
    seeds = f"Line: median of {n} seeds; band: quartiles; hairlines: each seed."
    return [
        ";  ".join(f"{label}: {run.entry.settings}" for label, run in result.runs.items()),
        f"{seeds if n > 1 else 'One seed.'} {result.rates_note}",
    ]


@rc_context(STYLE)
def sweep(grid: Grid) -> Figure:
    """Final loss against each hyperparameter: median and all seeds, the best trial marked.

    Of one hyperparameter the trials are joined, with a band between the quartiles of the seeds; of
    several, each has a panel with a dot for each trial.
    """
    alone = len(grid.names) == 1
    figure = Figure(figsize=(WIDTH, 5.0 if alone else 1.2 + 3.4 * -(-len(grid.names) // 2)))
    _head(figure, f"{grid.problem.title}, {grid.steps} steps")
    starts = np.concatenate([run.start_loss for runs in grid.runs.values() for run in runs])
    scale = scale_of(starts, np.concatenate([loss.ravel() for loss in grid.losses.values()]))
    styles = strokes([runs[0].entry.name for runs in grid.runs.values()])
    axes: list[Axes] = []
    for i, name in enumerate(grid.names):
        columns = 1 if alone else 2
        rows = -(-len(grid.names) // columns)
        ax = figure.add_subplot(rows, columns, i + 1, sharey=axes[0] if axes else None)
        axes.append(ax)
        values = grid.values(name)
        ax.set(xlabel=_axis_name(name), ylabel=f"final {grid.problem.loss_name}")
        ax.set_xscale("log" if is_log(values) else "linear")
        ax.set_yscale(scale.name)
        ax.label_outer()
        for (label, best), style in zip(grid.winners.items(), styles, strict=True):
            losses = grid.losses[label].T
            middle = scale.clipped(median(losses))
            if alone and len(grid.seeds) > 1:
                _seeds(ax, values, losses, scale, style["color"])
            nowhere = "" if best is not None else f"\n{textwrap.fill(grid.remarks[label], 24)}"
            marker = _MARKERS[style["linestyle"]]
            joined: dict[str, Any] = style | ({} if alone else {"linestyle": "none"})
            shown = broken(label, 24) + nowhere
            ax.plot(values, middle, marker=marker, markersize=4, label=shown, **joined)
            if best is not None:
                ax.plot(values[best], middle[best], marker, markersize=9, color=style["color"])
        ax.axhline(float(starts.mean()), color="0.6", linewidth=0.8, zorder=0)
        ax.annotate(
            "start", (1, float(starts.mean())), (-2, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", fontsize=8, color="0.4",
        )  # fmt: skip
        ax.grid(visible=True)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    n = len(grid.seeds)
    each = "Line: median" if alone else "Mark: a trial, the median"
    band = "; band: quartiles; hairlines: each seed" * alone
    seeds = f"{each} of {n} seeds{band}. " * (n > 1)
    what = "rate" if grid.names == ("learning_rate",) else "trial"
    best = f"Large mark: the best {what}, {'its worst seed' if n > 1 else 'it'} ends lowest"
    edge = " At the upper edge: still higher, or diverged." if scale.leaves_out else ""
    remarks = (f"{label}: {text}." for label, text in grid.remarks.items() if grid.best[label])
    _foot(figure, [f"{seeds}{best}. The same {what}s for every method.{edge}", " ".join(remarks)])
    return figure


def _axis_name(name: str) -> str:
    """As in ``learning rate η``."""
    symbol = {"learning_rate": "η", **SYMBOLS}.get(name, "")
    return f"{name.replace('_', ' ')} {symbol}".rstrip()


def is_log(values: np.ndarray) -> bool:
    """Whether values, all above 0, lie over a decade or more, as on a logarithmic axis."""
    return values.min() > 0 and values.max() >= 10 * values.min()


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(textwrap.fill(title, 105), x=0.01, ha="left", fontsize=12)


def _foot(figure: Figure, lines: Iterable[str]) -> None:
    text = "\n".join(textwrap.fill(line, 150) for line in lines if line)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5, color="0.3")


class Scale(NamedTuple):
    """An axis for losses: logarithmic where none is negative; what is beyond is at its edge."""

    name: str
    floor: float
    ceiling: float
    leaves_out: bool
    """Whether some losses are above the ceiling."""

    def clipped(self, losses: np.ndarray) -> np.ndarray:
        """The losses on the axis; NaN is infinite."""
        return np.clip(nan_last(losses), self.floor, self.ceiling)


def scale_of(starts: np.ndarray, losses: np.ndarray) -> Scale:
    """The scale for losses that begin at some: it does not hang on those that run away."""
    known = np.concatenate([starts, losses[np.isfinite(losses)]])
    lowest, start = float(known.min()), float(np.median(starts))
    if lowest < 0:
        name, floor, ceiling = "linear", lowest, start + 2 * (start - lowest or abs(start))
    else:
        start = float(starts.max()) or 1.0
        name, floor, ceiling = "log", float(known[known > 0].min(initial=start)), 30 * start
    return Scale(name, floor, ceiling, bool((nan_last(losses) > ceiling).any()))


def _lines(ax: Axes, result: Result, name: str) -> None:
    """The curves of all runs: median and band over seeds, each labelled at its end."""
    runs = list(result.runs.values())
    scale = Scale("linear", -np.inf, np.inf, leaves_out=False)
    if name != "accuracy":
        starts = np.concatenate([run.curves[name][:, 0] for run in runs])
        scale = scale_of(starts, np.concatenate([run.curves[name].ravel() for run in runs]))
        ax.set_yscale(scale.name)
    ends: list[tuple[float, str, str]] = []
    for run, style in zip(runs, _styles(result), strict=True):
        middle = scale.clipped(median(run.curves[name]))
        if len(result.seeds) > 1:
            _seeds(ax, run.steps, run.curves[name], scale, style["color"])
        ax.plot(run.steps, middle, linewidth=1.8, label=run.entry.label, **style)
        gone = np.flatnonzero(middle >= scale.ceiling)
        if gone.size:
            ax.plot(
                run.steps[gone[0]], scale.ceiling, "^", color=style["color"], markersize=8,
                clip_on=False,
            )  # fmt: skip
        left = middle[-1] >= scale.ceiling  # one that comes back has a value at the end
        off = f"off this chart from step {run.steps[gone[0]]}" if left else ""
        text = _end(run.entry.label, run.curves[name][:, -1], name, off)
        ends.append((middle[-1], text, style["color"]))
    ax.grid(visible=True)
    ax.set_xlim(0, result.steps)
    if name == "accuracy":
        lowest = min(value for value, _, _ in ends)
        bottom = max(0.0, np.floor(20 * lowest - 1) / 20)
        ax.set_ylim(bottom, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        if bottom:
            ax.set_title(f"{ax.get_title('left')} (axis from {100 * bottom:.0f} %)")
    else:
        ax.set_ylim(top=min(ax.get_ylim()[1], scale.ceiling))
    _label_ends(ax, ends)


def _end(label: str, final: np.ndarray, name: str, off: str) -> str:
    """A method with its last value, and what the median of the seeds hides: the worst of them."""
    form = (lambda x: f"{100 * x:.1f} %") if name == "accuracy" else (lambda x: f"{x:.3g}")
    lost = int((~np.isfinite(final)).sum())
    if lost == len(final) > 1:
        worst = "every seed diverged"
    elif lost:
        worst = f"{lost} of {len(final)} seeds diverged" * (len(final) > 1)
    else:
        worst = f"worst seed {form(final.min() if name == 'accuracy' else final.max())}"
    lines = [f"{broken(label, LABEL)}  {off or form(float(median(final)))}"]
    return "\n".join(lines + [worst] * (len(final) > 1))


def _seeds(ax: Axes, x: Any, values: np.ndarray, scale: Scale, colour: str) -> None:
    """A band between the quartiles, and a hairline for each seed."""
    low, high = (scale.clipped(row) for row in quartiles(values))
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    segments = [np.column_stack([x, scale.clipped(seed)]) for seed in values]
    ax.add_collection(LineCollection(segments, colors=colour, linewidths=0.5, alpha=0.45))


def _label_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Texts right of the axes at the height of each curve's end, pushed apart where needed."""
    leader: Any = {"arrowstyle": "-", "linewidth": 0.7, "shrinkB": 0, "relpos": (0, 0.5)}
    to_fraction = ax.transScale + ax.transLimits
    heights = [float(to_fraction.transform((ax.get_xlim()[1], y))[1]) for y, _, _ in ends]
    line = LINE * ax.figure.dpi / ax.figure.bbox.height
    gap = line * max(text.count("\n") + 1 for _, text, _ in ends)
    places = spread(heights, gap, edge=(gap - line) / 2)
    for (_, text, colour), height, place in zip(ends, heights, places, strict=True):
        ax.annotate(
            text, (1, height), (1.04, place), xycoords="axes fraction", va="center", fontsize=9,
            color=colour, weight="bold", annotation_clip=False,
            arrowprops={**leader, "color": colour},
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float, edge: float = 0) -> np.ndarray:
    """Heights, moved as little as leaves them in their order, a gap apart, and off 0 and 1."""
    order = np.argsort(heights, kind="stable")
    gaps = gap * np.arange(len(heights))
    fitted = isotonic_regression(np.take(heights, order) - gaps).x
    places = np.empty(len(heights))
    places[order] = np.clip(fitted, edge, max(edge, 1 - edge - gaps[-1])) + gaps
    return places


def broken(label: str, width: int) -> str:
    """A label on lines of about a width, broken after a sign such as ``:``, not in a word."""
    lines = [""]
    for part in re.findall(r"[^:._=,]*[:._=,]|[^:._=,]+", label):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _styles(result: Result) -> list[dict[str, Any]]:
    return strokes([run.entry.name for run in result.runs.values()])


def _path(run: Run) -> np.ndarray:
    """The places, (points, 2), of the first seed."""
    return np.stack([run.curves["x"][0], run.curves["y"][0]], axis=1)


def map_of(problem: Landscape, runs: Sequence[Run], points: int = 200) -> Map:
    """The surface where the paths are, at so many points along each side."""
    limits = _view(problem, runs)
    x, y = np.meshgrid(*(np.linspace(*limit, points) for limit in limits))
    z = np.asarray(problem.surface(x, y))
    levels = problem.levels
    if levels is None:
        low, high = np.nanmin(z), np.nanmax(np.where(np.isinf(z), np.nan, z))
        levels = (low + (high - low) * 10.0 ** (np.arange(-8, 0) / 2)) if low < high else ()
    return Map(limits, x, y, z, levels)


def minima_of(problem: Landscape) -> np.ndarray | None:
    """The lowest points, (n, 2)."""
    return None if problem.minimum is None else np.reshape(problem.minimum, (-1, 2))


def _view(problem: Landscape, runs: Sequence[Run]) -> Sequence[tuple[float, float]]:
    """The part of the plane to show: the problem's, or all that happens about the minimum.

    That is within 1.5 times the start's distance from the nearest minimum, or where none is known
    from the lowest point visited.
    """
    if problem.view is not None:
        return problem.view
    paths = np.concatenate([_path(run) for run in runs])
    losses = nan_last(np.concatenate([run.curves["loss"][0] for run in runs]))
    minima = minima_of(problem)
    if minima is None:
        minima = paths[losses.argmin()][None]
    minimum = minima[np.abs(minima - paths[0]).max(1).argmin()]
    reach = 1.5 * max(float(np.abs(paths[0] - minimum).max()), 1.0)
    points = np.clip(np.concatenate([paths, [minimum]]), minimum - reach, minimum + reach)
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    size = high - low
    margin = 0.08 * np.where(size > 0, size, size.max() or 1)  # a flat side needs one, too
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def _inside(path: np.ndarray, view: Sequence[tuple[float, float]]) -> np.ndarray:
    low, high = np.transpose(view)
    return ((path >= low) & (path <= high)).all(1)
