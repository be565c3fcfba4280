"""Yogi: Adam whose second moment changes by no more than a squared gradient.

Manzil Zaheer, Sashank Reddi, Devendra Sachan, Satyen Kale, Sanjiv Kumar, "Adaptive Methods for
Nonconvex Optimization", NeurIPS 2018, Algorithm 2.
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrections, ema, root, saturate


@checked
def scale_by_yogi(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-3,
    eps_root: ArrayLike = 0.0,
    initial_accumulator_value: ArrayLike = 1e-6,
) -> optax.GradientTransformationExtraArgs:
    """Adam, but v goes towards |g|² in steps of (1 − β₂) |g|².

    ::

        (1) m ← β₁ m + (1 − β₁) g
        (2) v ← v − (1 − β₂) sign(v − |g|²) |g|²
        (3) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
        (4) u = m̂ / (√(v̂ + ε_root) + ε)

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1): how slowly v follows.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      initial_accumulator_value: m and v at the start, ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: in the paper m starts at 0 and nothing is corrected; the start of m and v at 1e-6 and
    (3) are optax's. As m starts above 0, the first steps at a zero gradient are not zero.
    Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: Zaheer et al. 2018, Algorithm 2.
    """

    def init(p):
        start = initial_accumulator_value
        return accumulator(p, start), accumulator(p, start, real=True)

    def scalars(t):
        return corrections(t, b1, b2)

    def rule(g, m, v, *, c1, c2):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(g)
        m = ema(m, g, b1)  # (1)
        v = v - (1 - b2) * jnp.sign(v - abs_sq(g)) * abs_sq(g)  # (2)
        return m / c1 / root(v / c2, eps_root, eps), m, v  # (3), (4)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked
def yogi(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-3,
) -> optax.GradientTransformationExtraArgs:
    """Yogi: `scale_by_yogi`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps: as in `scale_by_yogi`.

    Purpose: an Adam whose rates cannot rise quickly when gradients become small (Zaheer et al.
    2018).

    See also: `gdfx.adam`; `gdfx.amsgrad`, whose rates never rise.
    """
    return with_rate(scale_by_yogi(b1, b2, eps), learning_rate)
