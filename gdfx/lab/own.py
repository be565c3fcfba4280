"""A problem of one's own from a loss and a start."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gdfx.core.arguments import describe, is_function
from gdfx.lab.learned import epochs
from gdfx.lab.protocol import Problem, Rates, View
from gdfx.lookup import RequestError

Loss = Callable[..., Any]


def problem(
    loss: Loss,
    start: Any,
    *,
    data: Any = None,
    batch_size: int | None = None,
    name: str | None = None,
    title: str | None = None,
    steps: int = 100,
    every: int | None = None,
    target: float | None = None,
    rates: Mapping[str, float] | None = None,
    loss_name: str = "loss",
    minimum: Any = None,
    view: View | None = None,
    levels: Sequence[float] | None = None,
    matrices: Any = "2d",
) -> Problem:
    """A loss and a start as a problem for `gdfx.lab.race` and `gdfx.lab.sweep`.

    The command line knows it by its module: ``gdfx race -p my_module:banana -m adam=0.1``.

    Args:
      loss: ``loss(params)``, or ``loss(params, batch)`` where there is data; one real number. What
        a race draws is the loss of all the data.
      start: the parameters at the start, a tree of floating point arrays, or a function from the
        seed to them. A list of plain numbers is one array. If they are two numbers in all, the
        figure is a map with each method's path.
      data: a tree of arrays, with one row for each example.
      batch_size: how many examples a step reads, each epoch in a new order; None for all.
      name: its key among the results, and the name of its figure; by default the loss's name.
      title: what it is, on one line; by default the first line of the loss's docstring.
      steps: how many steps a run has, unless the race says otherwise.
      every: how many steps lie between two measurements; by default a hundredth of all.
      target: a loss for which the table says when it was reached.
      rates: the learning rate of each method that is entered without one.
      loss_name: what the loss is called on an axis.
      minimum: on a map, the lowest point (x, y), or several of one height, to be marked.
      view: on a map, what to show, ``((left, right), (bottom, top))``; by default what suits the
        paths.
      levels: on a map, the heights of the contours; by default some that suit it.
      matrices: which leaves are matrices, for methods that ask, as `gdfx.muon` takes it; by default
        every leaf of two axes is one, (inputs, outputs).

    Raises:
      RequestError: for data whose arrays have different numbers of rows, an impossible batch size,
        or a start that is no tree of floating point arrays.

    >>> from gdfx import lab
    >>> def rosenbrock(w):
    ...     "Rosenbrock's banana."
    ...     x, y = w
    ...     return (1 - x) ** 2 + 100 * (y - x**2) ** 2
    >>> banana = lab.problem(rosenbrock, [-1.5, 2.0], minimum=(1, 1), steps=200)
    >>> found = lab.race(["adam=0.1", "sgd=0.001"], banana)
    >>> list(found.figures())
    ['rosenbrock']

    With data, the loss takes a mini-batch of it:

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> def error(w, batch):
    ...     x, y = batch
    ...     return ((x @ w - y) ** 2).mean()
    >>> line = lab.problem(error, [0.0, 0.0, 0.0], data=(x, x @ [1, 2, 3]), batch_size=10)
    >>> found = lab.sweep(["sgd", "adam"], line, seeds=2)
    >>> found.best
    {'sgd': 0.3, 'adam': 0.1}
    """
    name = name or _name(loss)
    own = Own(
        function=loss,
        origin=start if is_function(start) else _parameters(start),
        examples=_examples(data, batch_size),
        batch_size=batch_size,
        name=name,
        title=title or (inspect.getdoc(loss) or name).partition("\n")[0].removesuffix("."),
        steps=steps,
        every=every or max(1, steps // 100),
        target=target,
        rates=Rates(rates or {}, note="the problem's own"),
        loss_name=loss_name,
        matrices=matrices,
    )
    flat, unravel = ravel_pytree(own.start(0))
    if flat.shape != (2,):
        return own
    return OwnLandscape(**vars(own), unravel=unravel, minimum=minimum, view=view, levels=levels)


@dataclass(frozen=True)
class Own:
    """What `problem` makes: `gdfx.lab.Problem` says what its parts are."""

    function: Loss
    origin: Any
    examples: Any
    batch_size: int | None
    name: str
    title: str
    steps: int
    every: int
    target: float | None
    rates: Rates
    loss_name: str
    matrices: Any

    @property
    def seeded(self) -> bool:
        """Whether the start or the batches are drawn."""
        return is_function(self.origin) or self.batch_size is not None

    def data(self) -> Any:
        """All examples."""
        return self.examples

    def start(self, seed: int) -> Any:
        """The parameters at the start."""
        return _parameters(self.origin(seed)) if is_function(self.origin) else self.origin

    def batches(self, seed: int, steps: int) -> np.ndarray:
        """Indices of examples, as many as a batch has."""
        if self.batch_size is None:
            return np.zeros((steps, 0), np.int32)
        rng = np.random.default_rng((seed, 1))
        return epochs(rng, len(jax.tree.leaves(self.examples)[0]), self.batch_size, steps)

    def loss(self, params: Any, data: Any, batch: jax.Array) -> Any:
        """The loss of a batch."""
        if self.batch_size is not None:
            data = jax.tree.map(lambda leaf: leaf[batch], data)
        return self.whole(params, data)

    def whole(self, params: Any, data: Any) -> Any:
        """The loss of all examples."""
        return self.function(params) if data is None else self.function(params, data)

    def measure(self, params: Any, data: Any) -> dict[str, Any]:
        """The loss of all examples."""
        return {"loss": self.whole(params, data)}


@dataclass(frozen=True)
class OwnLandscape(Own):
    """What `problem` makes of two parameters: `gdfx.lab.Landscape` says what its parts are."""

    minimum: Any
    view: View | None
    levels: Sequence[float] | None
    unravel: Callable[[Any], Any] = field(repr=False)

    def surface(self, x: Any, y: Any) -> Any:
        """The loss of all examples at (x, y)."""
        points = jnp.stack([jnp.ravel(x), jnp.ravel(y)], axis=1).astype(jnp.float32)
        heights = jax.vmap(lambda point: self.whole(self.unravel(point), self.examples))(points)
        return np.asarray(heights).reshape(np.shape(x))

    def measure(self, params: Any, data: Any) -> dict[str, Any]:
        """The loss of all examples, and the place."""
        (x, y), _ = ravel_pytree(params)
        return {"loss": self.whole(params, data), "x": x, "y": y}


def _name(loss: Loss) -> str:
    name = getattr(loss, "__name__", "")
    return name if name.isidentifier() else "problem"


def _parameters(start: Any) -> Any:
    """The tree with arrays for numbers; a list of plain numbers is one array."""
    if isinstance(start, list | tuple) and all(isinstance(x, int | float) for x in start):
        start = np.array(start, np.float32)
    leaves = jax.tree_util.tree_leaves_with_path(start)
    if not sum(np.size(leaf) for _, leaf in leaves):
        raise RequestError("a start has parameters, this one has none")
    for path, leaf in leaves:
        if not _is_float(leaf):
            where = f"start{jax.tree_util.keystr(path)}"
            raise RequestError(
                f"a start is a tree of floating point arrays, but {where} is {describe(leaf)}"
            )
    return jax.tree.map(jnp.asarray, start)


def _is_float(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return isinstance(leaf, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.inexact))


def _examples(data: Any, batch_size: int | None) -> Any:
    """The data as arrays with equally many rows, enough for a batch."""
    if data is None:
        if batch_size is not None:
            raise RequestError("batch_size is how much of the data a step reads; there is no data")
        return None
    arrays = jax.tree.map(jnp.asarray, data)
    rows = {len(leaf) if leaf.ndim else 0 for leaf in jax.tree.leaves(arrays)}
    if len(rows) != 1 or 0 in rows:
        raise RequestError(
            "data is a tree of arrays with a row for each example, equally many in each; "
            f"got shapes {', '.join(str(leaf.shape) for leaf in jax.tree.leaves(arrays))}"
        )
    (examples,) = rows
    if batch_size is not None and not 1 <= batch_size <= examples:
        raise RequestError(f"batch_size must be 1 to {examples}, the examples, got {batch_size!r}")
    return arrays
