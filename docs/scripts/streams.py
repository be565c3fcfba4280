"""Draw docs/img/one-pass.png: what a step of Adam reads and writes, in XLA and in one pass.

Run it with `python docs/scripts/streams.py`; it takes a second.
"""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

FILE = Path(__file__).parents[1] / "img" / "one-pass.png"
XLA = [("m ← …", "g m", "m"), ("v ← …", "g v", "v"), ("p ← …", "m v p", "p")]
PASS = [("m, v, p ← …", "g m v p", "m v p")]
READ, WRITE, LOOP = "#31688e", "#c4662d", "#e8e8e8"


def streams(ax: Axes, title: str, loops: list[tuple[str, str, str]]) -> None:
    """Loops below each other, each with an arrow for every array that it reads or writes."""
    rows = [max(len(read.split()), len(write.split())) for _, read, write in loops]
    count = sum(len(read.split()) + len(write.split()) for _, read, write in loops)
    y = 7.0 - (7.0 - sum(rows) - 0.5 * (len(rows) - 1)) / 2
    for (name, read, write), height in zip(loops, rows, strict=True):
        box = {"facecolor": LOOP, "edgecolor": "none", "zorder": 2}
        ax.add_patch(Rectangle((2.0, y - height + 0.1), 2.0, height - 0.2, **box))
        ax.text(3.0, y - height / 2, name, ha="center", va="center", zorder=3)
        for arrays, start, end, label, colour in (
            (read, 0.7, 2.0, 0.45, READ),
            (write, 4.0, 5.3, 5.55, WRITE),
        ):
            for i, array in enumerate(arrays.split()):
                at = y - height * (i + 0.5) / len(arrays.split())
                arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
                ax.annotate("", (end, at), (start, at), arrowprops=arrow)
                ax.text(label, at, array, color=colour, ha="center", va="center", weight="bold")
        y -= height + 0.5
    ax.set(xlim=(0, 6), ylim=(-0.3, 7.3), title=f"{title}: {count} streams")
    ax.axis("off")


def main() -> None:
    """Both side by side."""
    with rc_context({"font.size": 11}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        streams(left, "XLA, three loops", XLA)
        streams(right, "one pass", PASS)
        figure.savefig(FILE, dpi=120)


if __name__ == "__main__":
    main()
