"""The figures of a comparison: speed, profiles, learning-rate curves, losses."""

import textwrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdfx.lab.comparison import Results, tuning_median
from gdfx.lab.plot import STYLE, WIDTH, scale_of, strokes
from gdfx.lab.results import median


@rc_context(STYLE)
def figures(results: Results) -> dict[str, Figure]:
    """All of them, by name."""
    return {"speed": speed(results), "rates": rates(results), "losses": losses(results)}


def speed(results: Results) -> Figure:
    """Each method's speed with its interval, tuned and not, beside the performance profiles."""
    methods, styles = results.methods, _styles(results)
    figure = Figure(figsize=(WIDTH, max(4.2, 1.8 + 0.45 * len(methods))))
    _head(figure, "Speed to AdamW's targets, and how often each is near the fastest")
    bars, profiles = figure.subplots(1, 2, width_ratios=[1.1, 1])
    for y, (method, style) in enumerate(zip(methods, styles, strict=True)):
        for found, marker, shift in (
            (results.speed[method], "o", -0.12), (results.untuned_speed[method], "D", 0.16)
        ):  # fmt: skip
            fill = style["color"] if marker == "o" else "white"
            bars.plot([found.low, found.high], [y + shift] * 2, color=style["color"], linewidth=2)
            bars.plot(
                found.value, y + shift, marker, color=style["color"], markerfacecolor=fill,
                clip_on=False,
            )  # fmt: skip
    bars.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    bars.set(title="speed (filled: tuned, hollow: untuned)", xlabel="times as fast as tuned AdamW")
    bars.set(yticks=range(len(methods)), yticklabels=methods, xlim=(0, None))
    bars.invert_yaxis()
    bars.grid(visible=True, axis="x")
    factors = np.geomspace(1, 10, 200)
    for method, style in zip(methods, styles, strict=True):
        share = results.profile(method, factors)
        profiles.plot(factors, share, label=method, drawstyle="steps-post", **style)
    profiles.set(xscale="log", xlabel="factor of the fewest median steps", ylim=(-0.03, 1.03))
    profiles.set(title="share of problems solved within", xticks=[1, 2, 5, 10])
    profiles.set_xticklabels(["1", "2", "5", "10"])
    profiles.minorticks_off()
    profiles.grid(visible=True)
    profiles.legend(frameon=False, loc="lower right")
    protocol = results.protocol
    _foot(
        figure,
        f"Interquartile means over problems and {protocol.seeds} fresh seeds, bars: 95 % "
        f"stratified bootstrap intervals; a miss counts as 0. Each method had "
        f"{protocol.trials} trials of its learning rate on {protocol.tuning_seeds} other seeds; "
        f"{protocol.schedule}.",
    )
    return figure


def rates(results: Results) -> Figure:
    """Of each problem the final loss against the learning rate of each trial."""
    figure, panels = _panels(results, "Tuning: final loss against learning rate")
    for (name, field), ax in zip(results.fields.items(), panels, strict=False):
        cells = [results.cells[method][name] for method in results.methods]
        finals = np.concatenate([cell.tuning.ravel() for cell in cells])
        scale = scale_of(np.array([field.start_loss]), finals)
        ax.set(xscale="log", yscale=scale.name, title=name, xlabel="learning rate")
        for cell, style in zip(cells, _styles(results), strict=True):
            order = np.argsort(cell.rates)
            middle = scale.clipped(tuning_median(cell)[order])
            ax.plot(cell.rates[order], middle, marker=".", **style)
            if cell.tuned is not None:
                best = cell.rates[order] == cell.tuned.settings["learning_rate"]
                ax.plot(cell.rates[order][best][:1], middle[best][:1], "o", color=style["color"])
        ax.axhline(field.start_loss, color="0.6", linewidth=0.8, zorder=0)
        ax.grid(visible=True)
    seeds = results.protocol.tuning_seeds
    _foot(
        figure,
        f"Median of {seeds} tuning seeds; large dot: the trial that was taken, its worst seed ends "
        "lowest; grey line: the start; at the upper edge: still higher, or diverged.",
    )
    return figure


def losses(results: Results) -> Figure:
    """Of each problem the loss against the step, and the target."""
    figure, panels = _panels(results, "Fresh seeds: loss against step")
    for (name, field), ax in zip(results.fields.items(), panels, strict=False):
        runs = [results.cells[method][name].tuned for method in results.methods]
        drawn = [one.loss for one in runs if one is not None]
        scale = scale_of(drawn[0][:, 0], np.concatenate([loss.ravel() for loss in drawn]))
        ax.set(yscale=scale.name, title=name, xlabel="step", xlim=(0, field.steps[-1]))
        for one, style in zip(runs, _styles(results), strict=True):
            if one is not None:
                middle = scale.clipped(median(one.loss))
                ax.plot(field.steps, middle, **style)
                low, high = (scale.clipped(np.quantile(one.loss, q, axis=0)) for q in (0.25, 0.75))
                ax.fill_between(field.steps, low, high, color=style["color"], alpha=0.2)
        ax.axhline(field.target, color="black", linewidth=0.8, linestyle=":", zorder=0)
        ax.grid(visible=True)
    _foot(figure, "Line: median of the seeds; band: quartiles; dotted: the target.")
    return figure


def _panels(results: Results, title: str) -> tuple[Figure, list[Axes]]:
    count = len(results.fields)
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 1.4 + 2.7 * rows))
    _head(figure, title)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in panels[count:]:
        ax.remove()
    handles = [
        panels[0].plot([], [], label=method, **style)[0]
        for method, style in zip(results.methods, _styles(results), strict=True)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure, panels


def _styles(results: Results) -> list[dict[str, Any]]:
    return strokes(results.methods)


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)


def _foot(figure: Figure, text: str) -> None:
    figure.supxlabel(textwrap.fill(text, 150), x=0.01, ha="left", fontsize=8.5, color="0.3")
