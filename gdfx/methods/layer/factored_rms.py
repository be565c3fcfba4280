"""A second moment that is kept as the product of two vectors: Adafactor's direction.

Noam Shazeer, Mitchell Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
ICML 2018, arXiv:1804.04235, Algorithm 4.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import ANY, NOT_NEGATIVE, Count, checked
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, divisor, ema, root, saturate


@checked(
    decay_rate=NOT_NEGATIVE,
    step_offset=ANY,
    min_dim_size_to_factor=Count(),
    epsilon=NOT_NEGATIVE,
)
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: ArrayLike = 0.8,
    step_offset: ArrayLike = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: ArrayLike = 1e-30,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by a root mean square that is kept as the product of two vectors.

    ::

        (1) α = (t − offset)^−decay_rate                α = 1 in the first step: nothing is kept
        (2) R ← (1 − α) R + α mean(|g|² + ε over columns)
            C ← (1 − α) C + α mean(|g|² + ε over rows)
        (3) u = g / √(R Cᵀ / mean(R))
        of what is not factored
        (2) v ← (1 − α) v + α (|g|² + ε)
        (3) u = g / √v

    Rows and columns are the two longest axes of an array; the others are copies.

    Args:
      factored: False keeps the whole of v.
      decay_rate: how fast α falls, ≥ 0.
      step_offset: the steps that were done before; α is that of step t − offset.
      min_dim_size_to_factor: an array is factored where its two longest axes are at least this.
      epsilon: ε ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper factors every matrix; optax, and this, the two longest axes of an array of
    two or more, both of at least 128. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1804.04235, Algorithm 4; α from section 7.2.
    """

    def axes(x: Any) -> tuple[int, int] | None:
        """The two longest axes, the longest last; None where nothing is factored."""
        if not factored or x.ndim < 2 or not x.size:
            return None
        *_, second, first = map(int, np.argsort(x.shape))
        return (second, first) if x.shape[second] >= min_dim_size_to_factor else None

    def init(p):
        v = accumulator(p, real=True)
        nothing = accumulator(jax.ShapeDtypeStruct((1,), v.dtype))
        if (pair := axes(p)) is None:
            return nothing, nothing, v
        columns, rows = pair
        return v.mean(rows), v.mean(columns), nothing

    def scalars(t):
        steps = jnp.maximum(t - step_offset, 1).astype(jnp.result_type(float))
        return {"alpha": 1 / jnp.power(steps, decay_rate)}  # (1)

    def rule(g, r, c, v, *, alpha):
        g = saturate(g)
        sq = abs_sq(g) + epsilon
        if (pair := axes(g)) is None:
            v = ema(v, sq, 1 - alpha)  # (2)
            return g / root(v), r, c, v  # (3)
        columns, rows = pair
        r, c = ema(r, sq.mean(rows), 1 - alpha), ema(c, sq.mean(columns), 1 - alpha)  # (2)
        mean = r.mean(columns - (columns > rows), keepdims=True)
        by_row = jnp.expand_dims(root(r / divisor(mean)), rows)
        return g / by_row / jnp.expand_dims(root(c), columns), r, c, v  # (3)

    return per_leaf(optax.FactoredState, init, rule, scalars=scalars)
