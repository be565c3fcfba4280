"""What a problem is: a loss to descend, and what a race on it needs to know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

import jax
import numpy as np

View = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Rates:
    """Learning rates that a problem proposes, for methods that are entered without one."""

    by_method: Mapping[str, float] = field(default_factory=dict[str, float])

    note: str = ""
    """How they were chosen, as the rest of a sentence: "Default rates: ..."."""

    steps: int | None = None
    """For runs of how many steps they were chosen."""


class Problem(Protocol):
    """A loss to descend, and everything that a race on it needs to know.

    `gdfx.lab.problem` makes one from a loss and a start. A class of one's own can say more; it
    inherits nothing:

    >>> import jax, numpy as np
    >>> from gdfx import lab
    >>> class Line:
    ...     "y = 3 x − 1, to be found from batches of eight noisy points; the error is measured."
    ...     name, title, loss_name = "line", "A line through noisy points", "mean squared error"
    ...     steps, every, seeded, target, matrices = 50, 10, True, 0.05, None
    ...     rates = lab.Rates({"sgd": 0.1}, note="guessed", steps=50)
    ...
    ...     def data(self):
    ...         x, noise = np.random.default_rng(0).normal(size=(2, 100)).astype(np.float32)
    ...         return x, 3 * x - 1 + 0.1 * noise
    ...
    ...     def start(self, seed):
    ...         return {"slope": np.float32(0), "offset": np.float32(0)}
    ...
    ...     def batches(self, seed, steps):
    ...         return np.random.default_rng(seed).integers(100, size=(steps, 8))
    ...
    ...     def loss(self, params, data, batch):
    ...         x, y = data
    ...         error = params["slope"] * x[batch] + params["offset"] - y[batch]
    ...         return (error**2).mean()
    ...
    ...     def measure(self, params, data):
    ...         return {"loss": self.loss(params, data, np.arange(100))}
    >>> found = lab.race("sgd", Line(), seeds=2)
    >>> found.results["line"].runs["sgd"].final_loss.round(2)
    array([0.01, 0.01], dtype=float32)
    """

    @property
    def name(self) -> str:
        """Its key among results and its figure's name, of letters, digits, ``_``, ``-``, ``.``."""
        ...

    @property
    def title(self) -> str:
        """What it is, on one line."""
        ...

    @property
    def steps(self) -> int:
        """How many steps a run has, unless the caller says otherwise."""
        ...

    @property
    def every(self) -> int:
        """How many steps lie between two measurements."""
        ...

    @property
    def seeded(self) -> bool:
        """Whether the seed changes anything."""
        ...

    @property
    def target(self) -> float | None:
        """The loss for which the table says when it was reached; None for no such column."""
        ...

    @property
    def rates(self) -> Rates:
        """The learning rates of methods for which the caller gives none."""
        ...

    @property
    def matrices(self) -> Any:
        """Which leaves are matrices, as `gdfx.layout` says it, for methods that ask; None: none."""
        ...

    @property
    def loss_name(self) -> str:
        """What the measured loss is called on an axis."""
        ...

    def data(self) -> Any:
        """What all seeds share: a tree of arrays."""
        ...

    def start(self, seed: int) -> Any:
        """The parameters at the start."""
        ...

    def batches(self, seed: int, steps: int) -> np.ndarray:
        """What each step reads, along the first axis: numbers of any shape, indices say."""
        ...

    def loss(self, params: Any, data: Any, batch: jax.Array) -> jax.Array:
        """What a step differentiates."""
        ...

    def measure(self, params: Any, data: Any) -> dict[str, jax.Array]:
        """The scalars to record: ``"loss"``, and perhaps ``"test_loss"`` and ``"accuracy"``.

        The accuracy, or else the test loss, goes into tables and figures beside the loss.
        """
        ...


class Landscape(Problem, Protocol):
    """A problem whose parameters are a point (x, y): its figure is a map with each method's path.

    It draws what `measure` records as ``"x"`` and ``"y"`` beside the loss.
    """

    @property
    def minimum(self) -> Any:
        """The lowest point, (x, y), or several of one height, marked on the map; None: unknown."""
        ...

    @property
    def view(self) -> View | None:
        """The part of the plane to show, of x and of y; None for the one that suits the paths."""
        ...

    @property
    def levels(self) -> Sequence[float] | None:
        """The heights of the contours, rising; None for some that suit the map."""
        ...

    def surface(self, x: Any, y: Any) -> Any:
        """The height at (x, y), of arrays too."""
        ...


def has_surface(problem: Problem) -> TypeGuard[Landscape]:
    """Whether a problem is a `Landscape`: whether it has a ``surface``."""
    return hasattr(problem, "surface")
