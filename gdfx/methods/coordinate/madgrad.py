"""MADGRAD: dual averaging with a cube root, and momentum.

Aaron Defazio, Samy Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged
Gradient Method for Stochastic Optimization", 2021, arXiv:2101.11075, Algorithm 1.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import DECAY, checked
from gdfx.core.descend import chain, decayed, rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, cbrt, saturate, start_value
from gdfx.core.versions import MadgradState


@checked(momentum=DECAY)
def madgrad(
    learning_rate: optax.ScalarOrSchedule,
    momentum: ArrayLike = 0.9,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    eps: ArrayLike = 1e-6,
) -> optax.GradientTransformationExtraArgs:
    """MADGRAD: from the start W₀ along all gradients, divided by a cube root of their squares.

    ::

        (1) λ = (η + ε) √t                0 where η = 0
        (2) s ← s + λ g                   v ← v + λ |g|²
        (3) z = W₀ − s / (∛v + ε)
        (4) W ← μ W + (1 − μ) z

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      momentum: μ in [0, 1).
      weight_decay: a number ≥ 0 or a schedule; that many times W is added to g. The paper advises
        less than for other methods, often 0.
      eps: ε ≥ 0, added to η and to the cube root.

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters, gradients and state of each other, and by ``update`` without
        the parameters.

    Differs: the paper has no ε in (1); it is in the authors' code and in optax, which has it at
    η = 0 too, and √t in float32. The state of optax shares W₀ with the parameters, which cannot be
    donated with it; here it is a copy. (4) is formed as a step from W, without the rounding of W
    itself. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2101.11075, Algorithm 1; madgrad 1.3.

    Purpose: Adam's speed and SGD's generalization, with sparse gradients too (abstract of
    arXiv:2101.11075).

    See also: `gdfx.adagrad`, with a square root; `gdfx.adam`.
    """

    def init(p):
        return accumulator(p, real=True), accumulator(p), start_value(p)

    def scalars(t):
        eta = rate(learning_rate, t)
        eta = jnp.where(jnp.asarray(eta) == 0, 0, eta + eps)
        return {"weight": eta * jnp.sqrt(t.astype(eta.dtype))}  # (1)

    def rule(g, v, s, start, *, p, weight):
        g = saturate(g)
        v, s = v + weight * abs_sq(g), s + weight * g  # (2)
        return (1 - momentum) * (start - p - s / (cbrt(v) + eps)), v, s, start  # (3), (4)

    dual: Any = per_leaf(MadgradState, init, rule, scalars=scalars)
    return chain(decayed(weight_decay), dual)
