"""AdaBelief: Adam that divides by how far the gradient is from its mean.

Juntang Zhuang, Tommy Tang, Yifan Ding, Sekhar Tatikonda, Nicha Dvornek, Xenophon Papademetris,
James Duncan, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients",
NeurIPS 2020, arXiv:2010.07468, Algorithm 2.
"""

from typing import Any

import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrected, corrections, ema, root, saturate


@checked
def scale_by_belief(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    eps_root: ArrayLike = 1e-16,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Divide the running mean of the gradient by the running size of its error.

    ::

        (1) m ← β₁ m + (1 − β₁) g         m = 0 at the start
        (2) s ← β₂ s + (1 − β₂) |g − m|² + ε_root
        (3) m̂ = m / (1 − β₁ᵗ)             ŝ = s / (1 − β₂ᵗ)
            with Nesterov's momentum
            m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ)
        (4) u = m̂ / (√ŝ + ε)

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of s.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, added to s in every step.
      nesterov: take one step of m ahead in (3).

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that. Nesterov's momentum, which the
    paper lacks, is optax's.

    Reference: arXiv:2010.07468, Algorithm 2.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        return corrections(t, b1, b2, ahead=nesterov)

    def rule(g, m, s, *, c1, c2, c1_ahead: Any = None):  # 1 − β₁ᵗ, 1 − β₂ᵗ, 1 − β₁ᵗ⁺¹
        g = saturate(g)
        m = ema(m, g, b1)  # (1)
        s = ema(s, abs_sq(g - m), b2) + eps_root  # (2)
        m_hat, s_hat = corrected(m, g, b1, c1, c1_ahead), s / c2  # (3)
        return m_hat / root(s_hat, outside=eps), m, s  # (4)

    return per_leaf(optax.ScaleByBeliefState, init, rule, scalars=scalars)


@checked
def adabelief(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    eps_root: ArrayLike = 1e-16,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """AdaBelief: `scale_by_belief`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, nesterov: as in `scale_by_belief`.

    Purpose: long steps where the gradient is as predicted, short ones where it is not
    (arXiv:2010.07468).

    See also: `gdfx.adam`, which divides by the size of the gradient itself.
    """
    return with_rate(scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov), learning_rate)
