"""RAdam: Adam that waits with dividing until it has seen enough gradients.

Liyuan Liu, Haoming Jiang, Pengcheng He, Weizhu Chen, Xiaodong Liu, Jianfeng Gao, Jiawei Han, "On
the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020, arXiv:1908.03265, Algorithm 2.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import Number, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrected,
    corrections,
    ema,
    rectification,
    root,
    saturate,
)

_THRESHOLD = Number(">= 4", lambda x: x >= 4)


@checked(threshold=_THRESHOLD)
def scale_by_radam(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam, shortened while v̂ is uncertain, and undivided at first.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
            with Nesterov's momentum
            m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ)
        (3) ρ∞ = 2 / (1 − β₂) − 1         ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
        (4) r = √[(ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ)]
        (5) u = r m̂ / (√(v̂ + ε_root) + ε) if ρ ≥ threshold, else m̂

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      threshold: from which ρ on m̂ is divided, ≥ 4.
      nesterov: take one step of m ahead in (2).

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper divides where ρ > 4, the authors' code and optax where ρ ≥ 5, PyTorch
    where ρ > 5. The paper has no ε; optax adds it to √v̂, the authors and PyTorch to √v. ρ is
    formed without the difference in (3), which in float32 loses its digits where β₂ is near 1.
    Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1908.03265, Algorithm 2.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        r, divides = rectification(t, b2, threshold)  # (3), (4)
        return corrections(t, b1, b2, ahead=nesterov) | {"r": r, "divides": divides}

    def rule(g, m, v, *, c1, c2, r, divides, c1_ahead: Any = None):
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        m_hat, v_hat = corrected(m, g, b1, c1, c1_ahead), v / c2  # (2)
        return jnp.where(divides, r * m_hat / root(v_hat, eps_root, eps), m_hat), m, v  # (5)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked(threshold=_THRESHOLD)
def radam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RAdam: `scale_by_radam`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, threshold, nesterov: as in `scale_by_radam`.

    Purpose: an Adam that needs no warm-up of the learning rate: early in training its division is
    too uncertain to be used (arXiv:1908.03265).

    See also: `gdfx.adam`, with a schedule that warms up.
    """
    direction = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return with_rate(direction, learning_rate)
