"""LaProp: Adam in the other order, first divided and then averaged.

Liu Ziyin, Zhikang T. Wang, Masahito Ueda, "LaProp: Separating Momentum and Adaptivity in Adam",
2020, arXiv:2002.04839, Algorithm 1.
"""

from typing import Any

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrections, ema, root, saturate


@checked
def scale_by_laprop(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-15,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The running mean of gradients, each divided by the running root mean square of its time.

    ::

        (1) v ← β₂ v + (1 − β₂) |g|²
        (2) d = g / (√(v / (1 − β₂ᵗ)) + ε)
        (3) m ← β₁ m + (1 − β₁) d
        (4) u = m / (1 − β₁ᵗ)

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2002.04839, Algorithm 1.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True)

    def scalars(t):
        return corrections(t, b1, b2)

    def rule(g, m, v, *, c1, c2):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(g)
        v = ema(v, abs_sq(g), b2)  # (1)
        m = ema(m, g / root(v / c2, outside=eps), b1)  # (2), (3)
        return m / c1, m, v  # (4)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked
def laprop(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-15,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LaProp: `scale_by_laprop`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule; the authors take 4e-4.
      b1, b2, eps, mu_dtype: as in `scale_by_laprop`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_laprop`, and by ``update`` without the parameters.

    Differs: the authors' code has η inside m, which is the same while η is constant. It takes
    λ W from the weight after the step, not multiplied by η.

    Purpose: any β₁ beside any β₂: in Adam m/√v is unbounded where v forgets faster than m
    (arXiv:2002.04839).

    Reference: arXiv:2002.04839, Algorithm 1.

    See also: `gdfx.adamw`; `gdfx.adopt`, which divides by the mean square of the steps before.
    """
    direction = scale_by_laprop(b1, b2, eps, mu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
