"""Polyak's step size: as long as the loss is above its minimum.

Boris Polyak, "Introduction to Optimization", 1987, section 5.3; Nicolas Loizou, Sharan Vaswani,
Issam Laradji, Simon Lacoste-Julien, "Stochastic Polyak Step-size for SGD: An Adaptive Learning
Rate for Fast Convergence", AISTATS 2021, arXiv:2002.10542, equation (3).
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import ANY, POSITIVE, RATE, Choice, checked
from gdfx.core.descend import chain
from gdfx.core.lift import per_leaf
from gdfx.core.moments import divisor, sum_sq
from gdfx.methods.coordinate.sgd import sgd

_ARGUMENTS = {
    "f_min": ANY,
    "max_learning_rate": POSITIVE,
    "variant": Choice("sps", "sps+"),
}


@checked(**_ARGUMENTS)
def scale_by_polyak(
    f_min: ArrayLike = 0.0,
    max_learning_rate: ArrayLike = 1.0,
    eps: ArrayLike = 0.0,
    variant: str = "sps",
) -> optax.GradientTransformationExtraArgs:
    """Scale the gradient by the step that would reach the minimum along a straight line.

    ::

        (1) f = loss − f_min              with variant "sps+":  max(loss − f_min, 0)
        (2) η = min(f / (Σ|g|² + ε), η_max)
        (3) u = η g

    The sum is over all leaves. ``update`` must be given the loss: ``value=loss``.

    Args:
      f_min: the least loss there can be.
      max_learning_rate: η_max > 0.
      eps: ε ≥ 0.
      variant: "sps", or "sps+" for losses that may fall below ``f_min``.

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters and gradients of each other, and by ``update`` without the loss.

    Differs: optax stands still where Σ|g|² + ε is below 2e-16; this goes on, η_max long. Where
    the loss is below ``f_min``, |η| is at most η_max too. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶)
    count as that in the sum.

    Reference: arXiv:2002.10542, equation (3), c = 1; "sps+" from arXiv:2406.04142.
    """

    def measure(g):
        return {"sq": sum_sq(g)}

    def scalars(value, sq):
        f = value - f_min
        f = jnp.maximum(f, 0) if variant == "sps+" else f  # (1)
        return {"eta": f / divisor(jnp.maximum(sq + eps, abs(f) / max_learning_rate))}  # (2)

    def rule(g, *, eta):
        return eta * g  # (3)

    return per_leaf(optax.EmptyState, lambda p: (), rule, scalars=scalars, measure=measure)


@checked(**_ARGUMENTS, scaling=RATE)
def polyak_sgd(
    max_learning_rate: ArrayLike = 1.0,
    scaling: optax.ScalarOrSchedule = 1.0,
    f_min: ArrayLike = 0.0,
    eps: ArrayLike = 0.0,
    variant: str = "sps",
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with Polyak's step size: `scale_by_polyak` of s g, then  W ← W − u.

    Args:
      max_learning_rate, f_min, eps, variant: as in `scale_by_polyak`.
      scaling: s, a number ≥ 0 or a schedule.

    Raises:
      ValueError: also by ``update`` without the loss.

    Differs: the paper has s = 1. With another s the sum in (2) is that of |s g|², as in optax.

    Purpose: losses whose least value is known, such as 0 where every example can be fit; the rate
    then follows from the loss (arXiv:2002.10542).

    See also: `gdfx.sgd`.
    """
    polyak = scale_by_polyak(f_min, max_learning_rate, eps, variant)
    return chain(sgd(scaling), polyak)
