"""Draw docs/img/valley-all.png: each method in the valley, at the best rate of its sweep.

Methods of matrices are left out: a point in the plane is none. Run it with
`python docs/scripts/valley.py`; it takes half a minute. The rates are those of
gdfx/lab/rates.py.
"""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from gdfx import METHODS, lab
from gdfx.core.words import number
from gdfx.lab import plot
from gdfx.lab.problems import VALLEY
from gdfx.lab.rates import SWEPT
from gdfx.lab.results import Run

FILE = Path(__file__).parents[1] / "img" / "valley-all.png"
COLUMNS = 5
X, Y = (-8.0, 6.0), (-3.2, 3.2)


def panel(ax: Axes, name: str, run: Run, rate: float, colour: str) -> None:
    """One method's path, and in words how far it comes."""
    x, y = np.meshgrid(np.linspace(*X, 200), np.linspace(*Y, 120))
    levels = VALLEY.levels or ()
    ax.contour(x, y, VALLEY.surface(x, y), levels, colors="0.85", linewidths=0.6)
    ax.plot(run.curves["x"][0], run.curves["y"][0], ".-", color=colour, linewidth=0.9, markersize=4)
    ax.plot(*VALLEY.minimum, "k+", markersize=8)
    ax.set(xlim=X, ylim=Y, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    steps = run.steps_to(VALLEY.target)[0]
    reached = f"{steps:g} steps to {VALLEY.target}"
    if not np.isfinite(steps):
        reached = f"{run.final_loss[0]:.2g} after {VALLEY.steps} steps"
    ax.set_title(name, color=colour, weight="bold", fontsize=8.5, pad=14).set_in_layout(False)
    ax.annotate(
        f"η = {number(rate)}: {reached}",
        (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=8,
        color="0.3",
    ).set_in_layout(False)  # fmt: skip


if __name__ == "__main__":
    shown = [name for name, method in METHODS.items() if method.reach != "matrix"]
    rates = {name: rate for name in shown if (rate := SWEPT["valley"].get(name)) is not None}
    runs = lab.race(rates, VALLEY).results["valley"].runs
    with rc_context(plot.STYLE):
        rows = -(-len(runs) // COLUMNS)
        figure = Figure(figsize=(plot.WIDTH, 0.5 + 1.3 * rows))
        figure.suptitle(
            f"{VALLEY.title}, {VALLEY.steps} steps, each method at the best of its swept rates",
            x=0.01, ha="left", fontsize=12,
        )  # fmt: skip
        figure.get_layout_engine().set(h_pad=0.1, hspace=0.06)
        colours = [style["color"] for style in plot.strokes(list(runs))]
        for i, ((name, run), colour) in enumerate(zip(runs.items(), colours, strict=True)):
            panel(figure.add_subplot(rows, COLUMNS, i + 1), name, run, rates[name], colour)
        figure.savefig(FILE, dpi=plot.DPI)
    image = Image.open(FILE).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(FILE, optimize=True)
