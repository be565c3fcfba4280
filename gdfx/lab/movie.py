"""A race as a moving picture: paths and curves grow, and the step is written above."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter, writers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, TransformedBbox

from gdfx.lab import plot
from gdfx.lab.results import Result
from gdfx.lookup import RequestError

KINDS = ("gif", "mp4")
FRAMES = 60
"""So many pictures at most, besides the last, which stands."""

PER_SECOND = 12
STAND = 1.0
"""For so many seconds."""

DPI = 90


def check_kind(kind: str) -> None:
    """Refuse now what cannot be written later.

    Raises:
      RequestError: for another kind, and for MP4 where there is no ffmpeg.
    """
    if kind not in KINDS:
        raise RequestError(f"a movie is {' or '.join(KINDS)}, got {kind!r}")
    if kind == "mp4" and not writers.is_available("ffmpeg"):
        raise RequestError("an mp4 needs the program ffmpeg, which is not here; a gif does not")


def movie(result: Result, kind: str, *, dark: bool = False) -> bytes:
    """The figure of a race as a GIF or MP4, which grows step by step.

    Args:
      result: what is drawn.
      kind: ``"gif"`` or ``"mp4"``.
      dark: as in `gdfx.lab.Race.save`.

    Raises:
      RequestError: as `check_kind`.
    """
    check_kind(kind)
    figure = plot.result(result)
    if dark:
        plot.darken(figure)
    show = growing(figure, result)
    writer = (PillowWriter if kind == "gif" else FFMpegWriter)(fps=PER_SECOND)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"movie.{kind}"
        with writer.saving(figure, str(path), DPI):
            for i in frames(len(next(iter(result.runs.values())).steps)):
                show(i)
                writer.grab_frame(facecolor=figure.get_facecolor())
        return path.read_bytes()


def frames(points: int) -> list[int]:
    """Which measurements are shown, the first and the last among them; the last one stands."""
    moving = np.unique(np.linspace(0, points - 1, min(points, FRAMES)).round().astype(int))
    return [*moving.tolist(), *[points - 1] * round(STAND * PER_SECOND)]


def growing(figure: Figure, result: Result) -> Callable[[int], None]:
    """A function that shows a figure as it was at a measurement."""
    figure.draw_without_rendering()  # lays it out, once for all pictures
    figure.set_layout_engine("none")
    runs = list(result.runs.values())
    steps = runs[0].steps
    title = figure.get_suptitle()
    ends = {ax: end for ax in figure.axes for end in ax.lines if end.get_label() == "end"}
    paths = [(ax.lines[0], end, np.array(ax.lines[0].get_xydata())) for ax, end in ends.items()]
    curtains = [_curtain(ax) for ax in figure.axes if ax not in ends]

    def show(i: int) -> None:
        for line, end, points in paths:
            line.set_data(*points[: i + 1].T)
            end.set_data(*points[i : i + 1].T)
        for curtain in curtains:
            curtain.x1 = steps[i]
        figure.suptitle(f"{title}: step {steps[i]} of {steps[-1]}", x=0.01, ha="left", fontsize=12)

    return show


def _curtain(ax: Axes) -> Bbox:
    """What is drawn over the steps shows only inside of it."""
    curtain = Bbox([[0, 0], [0, 1]])
    for artist in (*ax.lines, *ax.collections):
        artist.set_clip_path(None)
        artist.set_clip_box(TransformedBbox(curtain, ax.get_xaxis_transform()))
    return curtain
