"""Functions with a known minimum: in the plane, in any dimension, of a matrix."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdfx.lab.protocol import Rates, View
from gdfx.lab.settings import settings, swept

TEN_A_DECADE = "for each method the one of ten a decade that ends lowest"


@dataclass(frozen=True, eq=False)
class Function:
    """A function of one array; where there is noise, a seed draws that of each gradient.

    `gdfx.lab.Problem` says what its parts are.
    """

    name: str
    title: str
    function: Callable[[Any], Any]
    origin: Any
    """Where each run starts."""

    steps: int
    target: float
    rates: Rates
    noise: float = 0.0
    """σ ≥ 0: each number of a gradient has normal noise of that standard deviation."""

    every: int = 1
    loss_name: str = "f(x, y)"
    matrices: Any = None

    @property
    def seeded(self) -> bool:
        """Whether there is noise."""
        return self.noise > 0

    def data(self) -> Any:
        """Nothing."""
        return ()

    def start(self, seed: int) -> Any:
        """The same for every seed."""
        return np.array(self.origin, np.float32)

    def batches(self, seed: int, steps: int) -> np.ndarray:
        """The noise of each step; nothing where there is none."""
        if not self.noise:
            return np.zeros((steps, 0), np.float32)
        rng = np.random.default_rng((seed, 1))
        drawn = rng.standard_normal((steps, *np.shape(self.origin)), np.float32)
        return np.float32(self.noise) * drawn

    def loss(self, params: Any, data: Any, batch: jax.Array) -> jax.Array:
        """f(w), whose gradient has the noise."""
        height = self.function(params)
        if not self.noise:
            return height
        return height + (batch * (params - jax.lax.stop_gradient(params))).sum()

    def measure(self, params: Any, data: Any) -> dict[str, jax.Array]:
        """f(w), without noise."""
        return {"loss": self.function(params)}


@dataclass(frozen=True, eq=False)
class Plane(Function):
    """A function of a point (x, y): `gdfx.lab.Landscape` says what its parts are."""

    minimum: Any = None
    view: View | None = None
    levels: Sequence[float] | None = None

    def surface(self, x: Any, y: Any) -> Any:
        """The height f(x, y)."""
        return self.function((x, y))

    def measure(self, params: Any, data: Any) -> dict[str, jax.Array]:
        """The height and the place."""
        x, y = params
        return {"loss": self.surface(x, y), "x": x, "y": y}


def _rates(name: str, steps: int) -> Rates:
    return Rates(swept(name), note=TEN_A_DECADE, steps=steps)


def _title(text: str, noise: float) -> str:
    return text + f"; noise of {noise:g} on each gradient" * (noise > 0)


@settings
def valley(*, noise: float = 0.0) -> Plane:
    """A long valley, twenty times as steep across as along.

    ::

        f(x, y) = x²/20 + y²        from (−7, 2);  minimum 0 at (0, 0)

    Args:
      noise: σ ≥ 0, the standard deviation of the noise on each number of a gradient.

    Source: Saitoh, "Deep Learning from Scratch", 2016, chapter 6.1.
    """
    by_hand = {"sgd": 0.95, "momentum": 0.1, "adagrad": 1.5, "adam": 0.3, "adamw": 0.3}
    return Plane(
        name="valley",
        title=_title("f(x, y) = x²/20 + y² from (−7, 2)", noise),
        function=lambda w: w[0] ** 2 / 20 + w[1] ** 2,
        origin=(-7.0, 2.0),
        steps=30,
        target=0.1,
        rates=Rates(
            swept("valley") | by_hand,
            note="of sgd, momentum, adagrad, adam and adamw those of a textbook's figure, chosen "
            "by hand (Saitoh 2016, chapter 6.1); of others the one of ten a decade that ends "
            "lowest",
            steps=30,
        ),
        noise=noise,
        minimum=(0.0, 0.0),
        levels=tuple(10.0 ** (k / 2) for k in range(-4, 4)),
    )


@settings
def rosenbrock(*, noise: float = 0.0) -> Plane:
    """A narrow valley along a parabola: the way in is short, the way along it is long.

    ::

        f(x, y) = (1 − x)² + 100 (y − x²)²
        from (−1.2, 1);  minimum 0 at (1, 1)

    Args:
      noise: as in `valley`.

    Source: Rosenbrock, The Computer Journal 3 (1960), 175; Moré, Garbow and Hillstrom, ACM TOMS 7
    (1981), 17, problem 1.
    """
    return Plane(
        name="rosenbrock",
        title=_title("Rosenbrock's function (1 − x)² + 100 (y − x²)² from (−1.2, 1)", noise),
        function=lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
        origin=(-1.2, 1.0),
        steps=500,
        every=2,
        target=0.01,
        rates=_rates("rosenbrock", 500),
        noise=noise,
        minimum=(1.0, 1.0),
        view=((-1.8, 1.6), (-0.8, 2.2)),
    )


@settings
def beale(*, noise: float = 0.0) -> Plane:
    """Steep walls around a flat floor that falls slowly to the minimum.

    ::

        f(x, y) = Σ (cᵢ − x (1 − yⁱ))²,  c = 1.5, 2.25, 2.625
        from (1, 1);  minimum 0 at (3, 0.5)

    Args:
      noise: as in `valley`.

    Source: Moré, Garbow and Hillstrom, ACM TOMS 7 (1981), 17, problem 5.
    """

    def height(w: Any) -> Any:
        x, y = w
        return sum((c - x * (1 - y**i)) ** 2 for i, c in enumerate((1.5, 2.25, 2.625), start=1))

    return Plane(
        name="beale",
        title=_title("Beale's function, from (1, 1)", noise),
        function=height,
        origin=(1.0, 1.0),
        steps=200,
        target=0.01,
        rates=_rates("beale", 200),
        noise=noise,
        minimum=(3.0, 0.5),
        view=((-0.5, 4.5), (-1.5, 1.7)),
    )


@settings
def himmelblau(*, noise: float = 0.0) -> Plane:
    """Four minima of one height: small changes decide which of them a path finds.

    ::

        f(x, y) = (x² + y − 11)² + (x + y² − 7)²        from (0, 0)
        minimum 0, four times

    Args:
      noise: as in `valley`.

    Source: Himmelblau, "Applied Nonlinear Programming", 1972.
    """
    return Plane(
        name="himmelblau",
        title=_title("Himmelblau's function (x² + y − 11)² + (x + y² − 7)² from (0, 0)", noise),
        function=lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
        origin=(0.0, 0.0),
        steps=60,
        target=0.01,
        rates=_rates("himmelblau", 60),
        noise=noise,
        minimum=(
            (3.0, 2.0), (-2.805118, 3.131313), (-3.779310, -3.283186), (3.584428, -1.848127),
        ),
        view=((-5.0, 5.0), (-5.0, 5.0)),
    )  # fmt: skip


@settings
def styblinski_tang(*, noise: float = 0.0) -> Plane:
    """One hollow in each quadrant, the deepest one far on the left and below.

    ::

        f(x, y) = ½ Σ (w⁴ − 16 w² + 5 w) + 78.332331,  w = x, y
        from (0.5, −0.5);  minimum 0 at (−2.903534, −2.903534)

    Args:
      noise: as in `valley`.

    Differs: the constant lifts the minimum to 0.

    Source: Styblinski and Tang, Neural Networks 3 (1990), 467.
    """
    return Plane(
        name="styblinski_tang",
        title=_title("Styblinski and Tang's function, from (0.5, −0.5)", noise),
        function=lambda w: sum(w**4 - 16 * w**2 + 5 * w for w in w) / 2 + 78.332331,
        origin=(0.5, -0.5),
        steps=60,
        target=0.01,
        rates=_rates("styblinski_tang", 60),
        noise=noise,
        minimum=(-2.903534, -2.903534),
        view=((-5.0, 5.0), (-5.0, 5.0)),
    )


@settings
def rastrigin(*, noise: float = 0.0) -> Plane:
    """A bowl full of dents: a minimum near each pair of whole numbers, the lowest in the middle.

    ::

        f(x, y) = 20 + Σ (w² − 10 cos 2πw),  w = x, y
        from (−3.3, 2.4);  minimum 0 at (0, 0)

    Args:
      noise: as in `valley`.

    Source: Rastrigin 1974, as generalized by Mühlenbein, Schomisch and Born, Parallel Computing 17
    (1991), 619.
    """

    def height(w: Any) -> Any:
        return 20 + sum(w**2 - 10 * jnp.cos(2 * math.pi * w) for w in w)

    return Plane(
        name="rastrigin",
        title=_title("Rastrigin's function, from (−3.3, 2.4)", noise),
        function=height,
        origin=(-3.3, 2.4),
        steps=100,
        target=1.0,
        rates=_rates("rastrigin", 100),
        noise=noise,
        minimum=(0.0, 0.0),
        view=((-5.12, 5.12), (-5.12, 5.12)),
    )


@settings
def saddle(*, noise: float = 0.0) -> Plane:
    """Down a slope towards a saddle, beside whose ridge two hollows lie.

    ::

        f(x, y) = ½ x² + ¼ y⁴ − ½ y² + ¼        from (2, 0.001)
        minimum 0 at (0, ±1)

    Args:
      noise: as in `valley`.

    Differs: the constant ¼ lifts the minimum to 0.

    Source: Nesterov, "Introductory Lectures on Convex Optimization", 2004, example 1.2.2.
    """
    return Plane(
        name="saddle",
        title=_title("A saddle, ½ x² + ¼ y⁴ − ½ y² + ¼ from (2, 0.001)", noise),
        function=lambda w: w[0] ** 2 / 2 + w[1] ** 4 / 4 - w[1] ** 2 / 2 + 0.25,
        origin=(2.0, 1e-3),
        steps=60,
        target=0.01,
        rates=_rates("saddle", 60),
        noise=noise,
        minimum=((0.0, 1.0), (0.0, -1.0)),
        view=((-1.5, 2.3), (-1.6, 1.6)),
    )


def _rotation(rng: np.random.Generator, n: int) -> np.ndarray:
    """A rotation, drawn uniformly."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


@settings
def quadratic(*, dimension: int = 50, condition: float = 1000.0, noise: float = 0.0) -> Function:
    """A quadratic bowl whose axes lie along no coordinate.

    ::

        f(w) = ½ Σ λᵢ (qᵢᵀ (w − w*))²        from 0;  minimum 0 at w*

    q₁, q₂, … are a drawn rotation's columns, and λ falls evenly in its logarithm from 1 to
    1/condition. w* is drawn from a normal distribution of variance 1/dimension.

    Args:
      dimension: of w, a whole number ≥ 1.
      condition: the largest λ by the smallest, ≥ 1.
      noise: as in `valley`.

    Source: the standard example; Nocedal and Wright, "Numerical Optimization", 2006, section 3.3.
    """

    def height(w: Any) -> Any:
        scaled, lowest = _bowl(dimension, condition)
        return 0.5 * ((scaled @ (w - lowest)) ** 2).sum()

    return Function(
        name="quadratic",
        title=_title(
            f"A rotated quadratic in {dimension} dimensions, condition number {condition:g}", noise
        ),
        function=height,
        origin=np.zeros(dimension, np.float32),
        steps=200,
        every=2,
        target=0.001,
        rates=_rates("quadratic", 200),
        noise=noise,
        loss_name="f(w)",
    )


@cache
def _bowl(dimension: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    """√Λ Qᵀ, and w*."""
    rng = np.random.default_rng(0)
    root = _root(rng, dimension, condition)
    return root, np.asarray(rng.standard_normal(dimension) / dimension**0.5, np.float32)


def _root(rng: np.random.Generator, n: int, condition: float) -> np.ndarray:
    """√Λ Qᵀ, the root of a matrix whose eigenvalues fall from 1 to 1/condition."""
    root = np.geomspace(1, condition**-0.5, n)[:, None] * _rotation(rng, n).T
    return np.asarray(root, np.float32)


SHAPE = (32, 48)
"""Of the matrix of `matrix`: outputs and inputs are told apart."""


@settings
def matrix(*, condition: float = 1000.0, noise: float = 0.0) -> Function:
    """Linear regression of a matrix, whose outputs and inputs both are ill-conditioned.

    ::

        f(W) = ½ ‖A (W − W*) Bᵀ‖²        W of shape (32, 48)
        from 0;  minimum 0 at W*

    A and B are roots of matrices whose eigenvalues fall evenly in their logarithm from 1 to
    1/condition, along axes of drawn rotations. So the gradient is mostly of a few directions, which
    no scaling of single numbers evens out; a method of matrices uses all of them alike.

    Args:
      condition: of A Aᵀ and of B Bᵀ, ≥ 1; that of f is its square.
      noise: as in `valley`.

    Source: the least-squares problem of Gupta, Koren and Singer, "Shampoo", 2018, in small.
    """

    def height(w: Any) -> Any:
        a, lowest, b = _regression(condition)
        return 0.5 * ((a @ (w - lowest) @ b.T) ** 2).sum()

    return Function(
        name="matrix",
        title=_title(
            f"½ ‖A (W − W*) Bᵀ‖² of a 32 × 48 matrix; A Aᵀ and B Bᵀ have condition number "
            f"{condition:g}",
            noise,
        ),
        function=height,
        origin=np.zeros(SHAPE, np.float32),
        steps=200,
        every=2,
        target=0.001,
        rates=_rates("matrix", 200),
        noise=noise,
        loss_name="f(W)",
        matrices="2d",
    )


@cache
def _regression(condition: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, W* and B."""
    rng = np.random.default_rng(0)
    rows, columns = SHAPE
    a, b = _root(rng, rows, condition), _root(rng, columns, condition)
    return a, np.asarray(rng.standard_normal(SHAPE) / columns**0.5, np.float32), b
