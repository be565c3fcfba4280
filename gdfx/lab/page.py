"""A page in one file, which a browser opens from the disk: a template, its data, and plotly.js.

What a page shows is computed here and lies in it as JSON; its script only chooses and draws.
"""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgba
from plotly.offline import get_plotlyjs

from gdfx.lab.plot import Scale, brighter, strokes

_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}


def fill(template: str, data: dict[str, Any]) -> bytes:
    """The page that a template makes of some data.

    Args:
      template: its name in ``pages``; in it ``{{style}}``, ``{{plotly}}``, ``{{data}}`` and
        ``{{script}}``, what all pages share, are filled in.
      data: as JSON takes it; what is not finite must be None.
    """
    room = files("gdfx.lab") / "pages"
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    parts = {
        "style": (room / "page.css").read_text("utf-8"),
        "plotly": get_plotlyjs(),
        "data": text.replace("<", "\\u003c"),  # so that no text ends the element it lies in
        "script": (room / "page.js").read_text("utf-8"),
    }
    page = (room / template).read_text("utf-8")
    for name, part in parts.items():
        page = page.replace(f"{{{{{name}}}}}", part, 1)
    return page.encode()


def looks(names: Sequence[str]) -> list[dict[str, Any]]:
    """A colour on light and one on dark ground and a dash for each method, as in the figures."""
    return [
        {
            "colours": [
                stroke["color"],
                to_hex(brighter(np.array(to_rgba(stroke["color"])))[:3]),  # pyright: ignore[reportArgumentType]
            ],
            "dash": _DASHES[stroke["linestyle"]],
        }
        for stroke in strokes(names)
    ]


def axis(scale: Scale, start: float, losses: np.ndarray) -> dict[str, Any]:
    """Where losses are drawn: what is beyond the scale is at the edge.

    ``log`` and ``linear`` are the ranges of either axis, and ``log`` is None where a loss is
    negative.
    """
    room, ceiling = 0.04, float(scale.clipped(losses).max(initial=start))
    if scale.name == "linear":
        margin = room * ((ceiling - scale.floor) or 1)
        return {"log": None, "linear": [scale.floor - margin, ceiling + margin]}
    floor = max(scale.floor, ceiling * 1e-12)
    low, high = math.log10(floor), math.log10(ceiling)
    margin = room * ((high - low) or 1)
    return {"log": [low - margin, high + margin], "linear": [-room * start, (1 + room) * start]}


def short(values: np.ndarray, digits: int = 4) -> list[Any]:
    """Numbers for JSON, of some digits, in lists as deep as the array; None: not finite."""
    if np.ndim(values):
        return [short(row, digits) for row in values]
    return float(f"{values:.{digits}g}") if math.isfinite(values) else None  # pyright: ignore[reportReturnType]
