"""The running mean of what comes in: a link of methods, and none by itself."""

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, ema


@checked
def running_mean(
    decay: ArrayLike = 0.9, accumulator_dtype: DTypeLike | None = None
) -> optax.GradientTransformationExtraArgs:
    """Replace the gradient by its running mean.

    ::

        (1) m ← α m + (1 − α) g           m = 0 at the start
        (2) u = m

    It is ``optax.ema(decay, debias=False)``, whose state it keeps.

    Args:
      decay: α in [0, 1), the memory of m.
      accumulator_dtype: dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.
    """

    def init(p):
        return accumulator(p, dtype=accumulator_dtype)

    def rule(g, m):
        m = ema(m, g, decay)  # (1)
        return m, m  # (2)

    return per_leaf(optax.EmaState, init, rule)
