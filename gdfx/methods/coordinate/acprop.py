"""ACProp: AdaBelief whose division is by the error of the steps before.

Juntang Zhuang, Yifan Ding, Tommy Tang, Nicha Dvornek, Sekhar Tatikonda, James Duncan, "Momentum
Centering and Asynchronous Update for Adaptive Gradient Methods", NeurIPS 2021, arXiv:2110.05454,
Algorithm 2.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, ema, one_minus_power, root, saturate


@checked
def scale_by_acprop(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    eps_root: ArrayLike = 1e-16,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by the running size of its error up to the step before.

    ::

        (1) u = g / (√(s / (1 − β₂ᵗ⁻¹)) + ε)     in the first step  u = g
        (2) m ← β₁ m + (1 − β₁) g                m = 0 at the start
        (3) s ← β₂ s + (1 − β₂) |g − m|² + ε_root

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of s.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, added to s in every step.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: optax takes the error from the m before this step, in (3), where the paper and the
    authors' code take the new one; as g − m is β₁ times that, its √s is 1/β₁ times this and its
    steps β₁ times these: 10 % shorter by default. Its first step is g / (1 + ε). The authors' code
    can also rectify as RAdam does. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2110.05454, Algorithm 2; juntang-zhuang/ACProp-Optimizer.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        return {"before": one_minus_power(b2, jnp.maximum(t - 1, 1))}

    def rule(g, m, s, *, t, before):  # 1 − β₂ᵗ⁻¹
        g = saturate(g)
        u = jnp.where(t == 1, g, g / root(s / before, outside=eps))  # (1)
        m = ema(m, g, b1)  # (2)
        return u, m, ema(s, abs_sq(g - m), b2) + eps_root  # (3)

    return per_leaf(optax.ScaleByBeliefState, init, rule, scalars=scalars)


@checked
def acprop(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    eps_root: ArrayLike = 1e-16,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """ACProp: `scale_by_acprop`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule. The first step is η g, whatever the size of g.
      b1, b2, eps, eps_root: as in `scale_by_acprop`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_acprop`, and by ``update`` without the parameters.

    Purpose: convergence under the weakest conditions, where the numerator and the divisor must not
    depend on the same noise (arXiv:2110.05454).

    Reference: arXiv:2110.05454, Algorithm 2.

    See also: `gdfx.adabelief`; `gdfx.adopt`, which divides by g² of the steps before.
    """
    direction = scale_by_acprop(b1, b2, eps, eps_root)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
