"""Draw docs/img/compared.png and write the tables of docs/choosing.md from a stored comparison.

The page has the command that made it. Run this with `python docs/scripts/compared.py FOLDER`, where
that command wrote its results; it takes some seconds.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from gdfx import METHODS
from gdfx.core.words import number
from gdfx.lab import plot
from gdfx.lab.compare import load
from gdfx.lab.comparison import REFERENCE, Interval, Results, tuning_median
from gdfx.lab.results import median

PAGE = Path(__file__).parents[1] / "choosing.md"
FILE = PAGE.parent / "img" / "compared.png"
DECADES = 5  # of learning rates, from 1e-4 to 10
KINDS = dict(
    zip(
        ("plain", "adaptive", "sign", "layer-wise", "factored", "matrix"),
        ("#666666", "#0077bb", "#ee7733", "#009988", "#aa3377", "#cc3311"),
        strict=True,
    )
)


def medians(results: Results, method: str) -> np.ndarray:
    """How many times as fast as tuned AdamW the median seed is, by problem; 0: it misses."""
    return np.array([np.median(scores) for scores in results.scores(method)])


def decades(results: Results, method: str) -> float:
    """Of how many decades of rates the median ends at the target or below, mean of the problems."""
    cells, fields = results.cells[method], results.fields.values()
    shares = [(tuning_median(cells[field.name]) <= field.target).mean() for field in fields]
    return DECADES * float(np.mean(shares))


def draw(results: Results, order: Sequence[str]) -> Figure:
    """A row for each method: its speed with the interval, and its speed on each problem."""
    figure = Figure(figsize=(plot.WIDTH, 1.6 + 0.19 * len(order)))
    figure.suptitle("Speed to AdamW's targets", x=0.01, ha="left", fontsize=12)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    speeds(left, results, order)
    by_problem(right, results, order)
    handles = [
        Line2D([], [], color=colour, marker="o", label=kind) for kind, colour in KINDS.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=6, frameon=False, fontsize=9)
    return figure


def speeds(ax: Axes, results: Results, order: Sequence[str]) -> None:
    """The intervals, tuned and not."""
    for y, method in enumerate(order):
        colour = KINDS[METHODS[method].kind]
        tuned, untuned = results.speed[method], results.untuned_speed[method]
        ax.plot([tuned.low, tuned.high], [y, y], color=colour, linewidth=2)
        ax.plot(tuned.value, y, "o", color=colour, markersize=5)
        ax.plot(
            untuned.value, y, "D", color=colour, markersize=4, markerfacecolor="white", zorder=1
        )
    ax.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(
        title="over all problems: ● tuned, ◇ untuned", xlabel="times as fast as tuned AdamW",
        yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.4, -0.6),
        xlim=(-0.03, None),
    )  # fmt: skip
    ax.grid(visible=True, axis="x")


def by_problem(ax: Axes, results: Results, order: Sequence[str]) -> None:
    """The median seed's speed on each problem, a number on a colour."""
    shown = np.stack([medians(results, method) for method in order])
    colours = colormaps["PuOr"].with_extremes(bad="0.93")
    ax.imshow(np.ma.masked_equal(shown, 0), aspect="auto", cmap=colours, norm=LogNorm(1 / 4, 4))
    for (y, x), value in np.ndenumerate(shown):
        ax.text(
            x, y, f"{value:.2f}" if value else "misses", ha="center", va="center", fontsize=8,
            color="white" if abs(np.log(max(value, 1e-9))) > np.log(2.6) and value else "0.2",
        )  # fmt: skip
    names = [name.replace("-noise-0.01", "").replace("_", "\n") for name in results.fields]
    ax.set_xticks(range(len(names)), names)
    ax.set(title="the median seed on each problem", yticks=[], ylim=(len(order) - 0.4, -0.6))
    ax.spines[:].set_visible(False)


def interval(found: Interval) -> str:
    """As in ``1.02 (0.97 to 1.08)``."""
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def names(methods: Iterable[str]) -> str:
    """As in ```adam`, `sgd```."""
    return ", ".join(f"`{method}`" for method in methods) or "none"


def run(results: Results) -> str:
    """The command, and the problems that it ran on."""
    rest = {name for name, method in METHODS.items() if not method.form} - {*results.methods}
    others = " ".join(f"-m {method}" for method in results.methods if method != REFERENCE)
    rows = (
        (f"`{name}`", field.title, f"{field.steps[-1]}", f"{field.loss_name} {field.target:.3g}")
        for name, field in results.fields.items()
    )
    return (
        f"{len(results.methods)} methods on {len(results.fields)} problems; the catalog's other "
        f"methods, {len(rest)} without the dialects' forms, were not run:\n\n"
        f"```shell\ngdfx compare --quick {others}\n```\n\n"
        + table("problem", "what it is", "steps", "target", rows=rows)
    )


def verdicts(results: Results) -> str:
    """Which methods the intervals set apart from the reference."""
    gain = results.gain
    apart = {
        "Faster": [method for method, found in gain.items() if found.low > 0],
        "No difference at this budget": [m for m, f in gain.items() if f.low <= 0 <= f.high],
        "Slower": [method for method, found in gain.items() if found.high < 0],
    }
    lines = [f"- *{what}*: {names(methods)}.\n" for what, methods in apart.items()]
    return "Beside the tuned AdamW, by the interval of the difference in speed:\n\n" + "".join(
        lines
    )


def numbers(results: Results, order: Sequence[str]) -> str:
    """A row for each method."""

    def row(method: str) -> Iterable[str]:
        cells = results.cells[method]
        missed, runs = results.misses(method)
        yield f"`{method}`"
        yield interval(results.speed[method])
        yield interval(results.untuned_speed[method])
        yield f"{missed} of {runs}"
        yield f"{decades(results, method):.1f}"
        yield ", ".join(
            "none" if cell.tuned is None else number(cell.tuned.settings["learning_rate"])
            for cell in cells.values()
        )
        yield ", ".join(held_out(results, method))

    head = "method", "speed", "untuned", "misses", "decades", "tuned rates", "held out"
    return table(*head, rows=map(row, order))


def held_out(results: Results, method: str) -> Iterable[str]:
    """What the method says of held-out examples in the end, by problem."""
    for name, field in results.fields.items():
        tuned = results.cells[method][name].tuned
        if field.held_out is not None:
            value = None if tuned is None or tuned.held_out is None else median(tuned.held_out)
            form = "{:.1%}" if field.held_out == "accuracy" else "{:.3g}"
            yield "–" if value is None else form.format(float(value))


def untuned(results: Results, order: Sequence[str]) -> str:
    """Which methods get somewhere with the rate that they have by default."""
    values = {method: results.untuned_speed[method].value for method in order}
    said = [f"`{method}` {value:.2f}" for method, value in values.items() if value > 0.005]
    others = f" Of the others it is: {', '.join(said)}." * bool(said)
    return (
        f"At the rates that they have by default, or 0.001, the speed of {len(order) - len(said)} "
        f"of {len(order)} methods is 0: most of their runs miss.{others}\n"
    )


def wide(results: Results, order: Sequence[str]) -> str:
    """How many decades of rates do, from the most to the fewest."""
    found = {method: decades(results, method) for method in order}
    ranked = sorted(found, key=lambda method: -found[method])
    return (
        "Of the five decades that were tried, the rates that end at the target or below are, in "
        f"the mean of the problems: {', '.join(f'`{m}` {found[m]:.1f}' for m in ranked)}.\n"
    )


def table(*head: str, rows: Iterable[Iterable[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def written(page: str, parts: Mapping[str, str]) -> str:
    """The page with its parts, each between two comments, made new."""
    for name, text in parts.items():
        begin, end = f"<!-- compared.py: {name} -->\n", "<!-- end -->\n"
        before, found, rest = page.partition(begin)
        if not found:
            raise SystemExit(f"{PAGE} has no part {name}: {begin.strip()}")
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    results = load(sys.argv[1]).results
    order = sorted(results.methods, key=lambda method: -results.speed[method].value)
    with rc_context(plot.STYLE):
        draw(results, order).savefig(FILE, dpi=plot.DPI)
    image = Image.open(FILE).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(FILE, optimize=True)
    parts = {
        "run": run(results),
        "numbers": numbers(results, order),
        "verdicts": verdicts(results),
        "untuned": untuned(results, order),
        "wide": wide(results, order),
    }
    PAGE.write_text(written(PAGE.read_text(), parts))
