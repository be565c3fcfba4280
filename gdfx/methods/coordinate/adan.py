"""Adan: Adam with a mean of gradient differences, which is Nesterov's momentum made adaptive.

Xingyu Xie, Pan Zhou, Huan Li, Zhouchen Lin, Shuicheng Yan, "Adan: Adaptive Nesterov Momentum
Algorithm for Faster Optimizing Deep Models", 2022, arXiv:2208.06677, Algorithm 1.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrections, ema, one_minus_power, root, saturate


@checked
def scale_by_adan(
    b1: ArrayLike = 0.98,
    b2: ArrayLike = 0.92,
    b3: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Divide means of the gradient and of its differences by the size of their sum.

    ::

        (1) d = g − g'                    g': the last gradient; d = 0 in the first step
        (2) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) d
        (3) n ← β₃ n + (1 − β₃) |g + β₂ d|²
        (4) u = (m / (1 − β₁ᵗ) + β₂ v / (1 − β₂ᵗ)) / (√(n / (1 − β₃ᵗ) + ε_root) + ε)

    Args:
      b1, b2, b3: β₁, β₂, β₃ in [0, 1), the memories of m, v and n. The paper writes 1 − β for
        each.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: optax has 1 − β₂ in place of β₂ in (3) and (4); the paper, in its own notation, and
    the authors' code have what stands here. The corrections in (4) and ε_root are not in
    Algorithm 1; the former are in the authors' code. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶)
    count as that.

    Reference: arXiv:2208.06677, Algorithm 1; sail-sg/Adan.
    """

    def init(p):
        return accumulator(p), accumulator(p), accumulator(p, real=True), accumulator(p)

    def scalars(t):
        return corrections(t, b1, b2) | {"c3": one_minus_power(b3, t)}

    def rule(g, m, v, n, last, *, t, c1, c2, c3):  # 1 − β₁ᵗ, 1 − β₂ᵗ, 1 − β₃ᵗ
        g = saturate(g)
        d = jnp.where(t == 1, 0, g - last)  # (1)
        m, v = ema(m, g, b1), ema(v, d, b2)  # (2)
        n = ema(n, abs_sq(g + b2 * d), b3)  # (3)
        u = (m / c1 + b2 * v / c2) / root(n / c3, eps_root, eps)  # (4)
        return u, m, v, n, g

    return per_leaf(optax.ScaleByAdanState, init, rule, scalars=scalars)


@checked
def adan(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.98,
    b2: ArrayLike = 0.92,
    b3: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adan: `scale_by_adan`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, b3, eps, eps_root: as in `scale_by_adan`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: the paper divides W by 1 + η λ; this, as optax, subtracts η λ W. The default of
    ε_root is optax's.

    Reference: arXiv:2208.06677, Algorithm 1.

    Purpose: Nesterov's momentum for adaptive methods without a gradient at another point
    (arXiv:2208.06677).

    See also: `gdfx.nadam`; `gdfx.adamw`.
    """
    direction = scale_by_adan(b1, b2, b3, eps, eps_root)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
