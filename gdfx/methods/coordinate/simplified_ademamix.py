"""Simplified AdEMAMix: one long memory of the gradient, and the gradient itself beside it.

Depen Morwani, Nikhil Vyas, Hanlin Zhang, Sham Kakade, "Connections between Schedule-Free
Optimizers, AdEMAMix, and Accelerated SGD Variants", 2025, arXiv:2502.02431;
github.com/DepenM/Simplified-AdEMAMix.
"""

from typing import Any

import optax
import optax.contrib
from jax.typing import ArrayLike

from gdfx.core.arguments import DECAY, RATE, Count, Optional, checked
from gdfx.core.descend import rate, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    ema,
    new_share,
    one_minus_power,
    risen,
    root,
    saturate,
)

_ARGUMENTS = {"alpha": RATE, "min_b1": DECAY, "b1_warmup": Optional(Count(1))}


@checked(**_ARGUMENTS)
def scale_by_simplified_ademamix(
    b1: ArrayLike = 0.99,
    b2: ArrayLike = 0.95,
    alpha: optax.ScalarOrSchedule = 0.0,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    *,
    min_b1: ArrayLike = 0.9,
    b1_warmup: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide a sum of gradients, and the last one α times more, by their root mean square.

    ::

        (1) m ← β₁ m + g                  v ← β₂ v + (1 − β₂) |g|²
        (2) v̂ = v / (1 − β₂ᵗ)
        (3) u = (m + α g) / (√(v̂ + ε_root) + ε)
        with a warm-up over T steps
        (4) β₁ begins at β_min, and its half-life rises in a straight line:
            1/log β₁ₜ = (1 − t/T)/log β_min + (t/T)/log β₁

    Args:
      b1: β₁ in [0, 1), the memory of m, which is a sum and up to 1 / (1 − β₁) times a mean.
      b2: β₂ in [0, 1), the memory of v.
      alpha: α ≥ 0, how many times g counts beside m, or a schedule, from the number of steps done.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      min_b1: β_min in [0, 1), where the warm-up begins.
      b1_warmup: T of (4), a whole number; None: β₁ as it is given.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the authors' code adds 1e-8 to β in (4). optax has no warm-up. Gradients beyond 2⁴⁸
    (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2502.02431; DepenM/Simplified-AdEMAMix.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        memory = b1 if b1_warmup is None else 1 - new_share(min_b1, b1, risen(t, b1_warmup))  # (4)
        return {"c2": one_minus_power(b2, t), "memory": memory, "mix": rate(alpha, t)}

    def rule(g, m, v, *, memory, mix, c2):  # β₁, α, 1 − β₂ᵗ
        g = saturate(g)
        m, v = memory * m + g, ema(v, abs_sq(g), b2)  # (1)
        return (m + mix * g) / root(v / c2, eps_root, eps), m, v  # (2), (3)

    return per_leaf(optax.contrib.ScaleBySimplifiedAdEMAMixState, init, rule, scalars=scalars)


@checked(**_ARGUMENTS)
def simplified_ademamix(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.99,
    b2: ArrayLike = 0.95,
    alpha: optax.ScalarOrSchedule = 0.0,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    min_b1: ArrayLike = 0.9,
    b1_warmup: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Simplified AdEMAMix: `scale_by_simplified_ademamix`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule: as m is a sum, about 1 − β₁ times Adam's.
      b1, b2, alpha, eps, eps_root, min_b1, b1_warmup: as in `scale_by_simplified_ademamix`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_simplified_ademamix`, and by ``update`` without
        the parameters.

    Purpose: what AdEMAMix does, with Adam's state and without warm-ups (arXiv:2502.02431).

    Reference: arXiv:2502.02431; DepenM/Simplified-AdEMAMix.

    See also: `gdfx.ademamix`; `gdfx.adamw`.
    """
    direction = scale_by_simplified_ademamix(
        b1, b2, alpha, eps, eps_root, min_b1=min_b1, b1_warmup=b1_warmup
    )
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
