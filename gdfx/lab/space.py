"""Which hyperparameters a sweep tries: values, or ranges that are sampled evenly."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdfx.core.words import number
from gdfx.lookup import RequestError

Trial = dict[str, float]
"""The hyperparameters of a run, by name."""


@dataclass(frozen=True)
class Span:
    """A range of a hyperparameter, evenly tried in its logarithm or in itself.

    >>> from gdfx import lab
    >>> lab.Span(1e-4, 1)
    Span(low=0.0001, high=1, log=True)
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        """Refuse a range that has nothing in it.

        Raises:
          RequestError: unless low < high, both finite, and above 0 in the logarithm.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise RequestError(f"a range needs low < high, got {self}")
        if self.log and self.low <= 0:
            raise RequestError(f"a logarithmic range is above 0, got {self}; :linear may be not")

    def at(self, share: float) -> float:
        """The value after a share of the range, of three digits."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = low + share * (high - low)
        return float(f"{math.exp(value) if self.log else value:.3g}")

    def __str__(self) -> str:
        return f"{number(self.low)}:{number(self.high)}:{'log' if self.log else 'linear'}"


Axis = Span | Iterable[float]
Space = Mapping[str, Axis]
"""By the name of a hyperparameter, its values, or the range that it is sampled from."""


def trials(space: Space, count: int | None) -> list[Trial]:
    """All combinations of the values, or a quasi-random sample of the ranges.

    Args:
      space: values for all hyperparameters, or ranges for all.
      count: how large the sample is; None for 20.

    Raises:
      RequestError: for a space with nothing in it, and for values beside ranges.
    """
    if not space:
        raise RequestError("no hyperparameter to sweep")
    spans = {name: axis for name, axis in space.items() if isinstance(axis, Span)}
    if not spans:
        if count is not None:
            raise RequestError("a number of trials is for ranges; of values all are tried")
        return _grid(space)
    if len(spans) < len(space):
        raise RequestError("a sweep has values for all hyperparameters, or ranges for all")
    count = 20 if count is None else count
    return [
        {name: span.at(share) for (name, span), share in zip(spans.items(), row, strict=True)}
        for row in _sobol(len(spans), count)
    ]


def _grid(space: Mapping[str, Any]) -> list[Trial]:
    values: list[list[float]] = []
    for name, axis in space.items():
        numbers = sorted(set(axis))
        if not numbers:
            raise RequestError(f"no {name.replace('_', ' ')} to try")
        values.append(numbers)
    return [dict(zip(space, row, strict=True)) for row in itertools.product(*values)]


def _sobol(dimensions: int, count: int) -> np.ndarray:
    """(count, dimensions) points of the unit cube, the same each time."""
    from scipy.stats.qmc import Sobol  # slow to import

    drawn = Sobol(dimensions, rng=0).random_base2(math.ceil(math.log2(count)))
    return drawn[:count]


def parse(texts: Iterable[str]) -> dict[str, Axis]:
    """A space, from ``NAME=VALUE,...``, ``NAME=LOW:HIGH`` or ``NAME=LOW:HIGH:linear`` each.

    Raises:
      RequestError: for a text of another form, and for a hyperparameter given twice.
    """
    space: dict[str, Axis] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"{text!r} is not NAME=VALUES, as in b1=0.8,0.9 or b1=0.8:0.99")
        if name in space:
            raise RequestError(f"{name} is given twice")
        low, colon, rest = values.partition(":")
        high, _, scale = rest.partition(":")
        if scale not in ("", "log", "linear"):
            raise RequestError(f"{text!r}: a range is LOW:HIGH, LOW:HIGH:log or LOW:HIGH:linear")
        try:
            if colon:
                space[name] = Span(float(low), float(high), log=scale != "linear")
            else:
                space[name] = [float(value) for value in values.split(",")]
        except ValueError as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(f"{text!r} is not NAME=VALUES, with numbers for values") from None
    return space
