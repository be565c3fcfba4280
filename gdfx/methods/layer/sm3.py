"""SM3: AdaGrad whose sums are kept for the axes of an array, not for its elements.

Rohan Anil, Vineet Gupta, Tomer Koren, Yoram Singer, "Memory-Efficient Adaptive Optimization",
NeurIPS 2019, arXiv:1901.11150, Algorithm SM3-II.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import DECAY, Number, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, ema, root, saturate


@checked(b2=Number("in [0, 1]", lambda x: 0 <= x <= 1, near_one=True))
def scale_by_sm3(
    b1: ArrayLike = 0.9, b2: ArrayLike = 1.0, eps: ArrayLike = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by the root of a bound on its sum of squares, and average the result.

    ::

        (1) a = min over axes of h        h: for each axis one number for each place along it
        (2) a ← β₂ a + (1 − β₂) g²        with β₂ = 1  a ← a + g²
        (3) h ← max of a over the other axes
        (4) m ← β₁ m + (1 − β₁) g / √(a + ε)
        (5) u = m

    A vector's h is a itself, so that it is AdaGrad's.

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1]; below 1 old gradients fade.
      eps: ε ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other, or are complex.

    Differs: β₂ is optax's, and its ε is 1e-8 where the authors have 1e-30. optax fails for a
    parameter that is one number. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1901.11150, Algorithm SM3-II; google-research/sm3.
    """
    fresh: Any = 1.0 if isinstance(b2, int | float) and b2 == 1 else 1 - b2

    def init(p):
        h = accumulator(p)
        return [largest(h, axis) for axis in axes(h)], h

    def rule(g, h, m):
        g = saturate(g)
        a: jax.Array = functools.reduce(jnp.minimum, map(along, axes(g), h, [g] * len(h)))  # (1)
        a = a * b2 + abs_sq(g) * fresh  # (2)
        m = ema(m, g / root(a, eps), b1)  # (4)
        return m, [largest(a, axis) for axis in axes(g)], m  # (3), (5)

    def axes(x: jax.Array) -> range:
        return range(max(x.ndim, 1))

    def largest(x: jax.Array, axis: int) -> jax.Array:
        """The largest number at each place along an axis, of numbers that are not negative."""
        return x.max([i for i in axes(x) if i != axis], initial=0) if x.ndim > 1 else x

    def along(axis: int, h: jax.Array, like: jax.Array) -> jax.Array:
        return jnp.expand_dims(h, [i for i in axes(like) if i != axis])

    return per_leaf(optax.ScaleBySM3State, init, rule, real=True)


@checked(momentum=DECAY)
def sm3(
    learning_rate: optax.ScalarOrSchedule, momentum: ArrayLike = 0.9
) -> optax.GradientTransformationExtraArgs:
    """SM3: `scale_by_sm3`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      momentum: β₁ of `scale_by_sm3`.

    Purpose: large models: AdaGrad with next to no second moment in memory (arXiv:1901.11150).

    See also: `gdfx.adagrad`; `gdfx.adafactor`.
    """
    return with_rate(scale_by_sm3(momentum), learning_rate)
