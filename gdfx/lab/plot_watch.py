"""The figure of what `gdfx.watch` has measured: a heat map over leaves and steps."""

from typing import TYPE_CHECKING, Any

import numpy as np

from gdfx.lookup import RequestError
from gdfx.wrappers.watch import MEASURES, Watched, watched

if TYPE_CHECKING:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

TITLES = {
    "gradient_norm": "‖gradient‖",
    "update_norm": "‖update‖",
    "ratio": "‖update‖ / ‖parameters‖",
    "gradient_zeros": "share of zeros in the gradient",
    "gradient_nonfinite": "share of NaN and Inf in the gradient",
    "update_zeros": "share of zeros in the update",
    "update_nonfinite": "share of NaN and Inf in the update",
}
MISSING = "#cc3311"
"""Where a number is none, or is nought on a logarithmic scale."""


def plot_watch(state: Any, params: Any, measure: str = "ratio") -> "Figure":
    """Draw what `gdfx.watch` has measured: a row for each leaf, a column for each measured step.

    Norms and ratios are on a logarithmic scale, shares from 0 to 1. Red is what has no place on the
    scale: NaN, Inf, and where it is logarithmic 0.

    Args:
      state: an optimizer's state with that of one `gdfx.watch` in it.
      params: the parameters, whose paths name the rows.
      measure: one of those of `gdfx.watch`, such as ``"gradient_norm"``.

    Raises:
      RequestError: for another measure, and where nothing has been measured yet.
      ValueError: where no `gdfx.watch` is in the state.

    >>> import gdfx, jax.numpy as jnp
    >>> from gdfx import lab
    >>> tx = gdfx.watch(gdfx.sgd(0.1), every=1)
    >>> w = {"w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update(w, tx.init(w), w)
    >>> figure = lab.plot_watch(state, w)
    >>> figure.axes[0].get_title("left")
    '‖update‖ / ‖parameters‖'
    """
    if measure not in MEASURES:
        raise RequestError(f"there is no measure {measure!r}; there are {', '.join(MEASURES)}")
    found = watched(state, params)
    if not len(found.steps) or not found.paths:
        raise RequestError("nothing has been measured yet")
    from matplotlib import rc_context

    from gdfx.lab.plot import STYLE

    with rc_context(STYLE):
        return _drawn(found, measure)


def _drawn(found: Watched, measure: str) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from gdfx.lab.plot import WIDTH

    values = found[measure].T
    share = measure.endswith(("zeros", "nonfinite"))
    shown = np.ma.masked_invalid(values if share else np.where(values > 0, values, np.nan))
    figure = Figure(figsize=(WIDTH, min(30.0, 1.8 + 0.28 * len(found.paths))))
    ax = figure.add_subplot()
    colours = colormaps["viridis"].copy().with_extremes(bad=MISSING)
    image = ax.imshow(
        shown, aspect="auto", interpolation="nearest", cmap=colours,
        norm=Normalize(0, 1) if share else _log(shown),
    )  # fmt: skip
    ax.set(title=TITLES[measure], xlabel="step", yticks=range(len(found.paths)))
    ax.set_yticklabels(found.paths, fontsize=8, family="monospace")
    at = np.unique(np.linspace(0, len(found.steps) - 1, 8).round().astype(int))
    ax.set_xticks(at, [str(step) for step in found.steps[at]])
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=ax, pad=0.01)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if shown.mask.any():
        what = "NaN or Inf" if share else "0, NaN or Inf"
        figure.supxlabel(f"Red: {what}.", x=0.01, ha="left", fontsize=8.5, color="0.3")
    return figure


def _log(values: Any) -> "LogNorm":
    """A logarithmic scale over the values, over a decade at least."""
    from matplotlib.colors import LogNorm

    known = values.compressed()
    if not known.size:
        return LogNorm(0.1, 1)
    low, high = float(known.min()), float(known.max())
    return LogNorm(min(low, high / 10), high)
