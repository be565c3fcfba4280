"""COCOB: each coordinate bets a part of what it has won.

Francesco Orabona, Tatiana Tommasi, "Training Deep Networks without Learning Rates Through Coin
Betting", NeurIPS 2017, arXiv:1705.07795, Algorithm 2.
"""

from typing import Any

import jax.numpy as jnp
import optax
import optax.contrib
from jax.typing import ArrayLike

from gdfx.core.arguments import NOT_NEGATIVE, checked
from gdfx.core.descend import chain, decayed, uphill
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, divisor, saturate, start_value


@checked(alpha=NOT_NEGATIVE)
def cocob(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    alpha: ArrayLike = 100.0,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """COCOB: from the start W₀ as far as the wealth that was won allows.

    ::

        (1) L ← max(L, |g|)               G ← G + |g|
        (2) R ← max(R − g (W − W₀), 0)    θ ← θ − g
        (3) W ← W₀ + θ/L · (L + R) / max(G + L, α L)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule, by which gradients are multiplied; the method
        has none, and a constant other than 0 changes nothing but beside ε.
      alpha: α ≥ 0: the first steps are at most 1/α long.
      eps: ε ≥ 0, L at the start.
      weight_decay: λ, a number ≥ 0 or a schedule; λ W is added to g.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters, gradients and state of each other, and by ``update`` without
        the parameters.

    Differs: the state of optax shares W₀ with the parameters, which cannot be donated with it; here
    it is a copy. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1705.07795, Algorithm 2.

    Purpose: training without a learning rate (abstract of arXiv:1705.07795).

    See also: `gdfx.adagrad`.
    """

    def init(p):
        g = accumulator(p)
        return start_value(p), g, accumulator(p, eps), g, g

    def rule(g, start, theta, largest, total, reward, *, p):
        g = saturate(g)
        largest, total = jnp.maximum(largest, abs(g)), total + abs(g)  # (1)
        reward, theta = jnp.maximum(reward - g * (p - start), 0), theta - g  # (2)
        bet = theta / divisor(largest)
        bet *= (largest + reward) / divisor(jnp.maximum(total + largest, alpha * largest))
        return start - p + bet, start, theta, largest, total, reward  # (3)

    coins = per_leaf(optax.contrib.COCOBState, init, rule, real=True)
    return chain(decayed(weight_decay, mask), uphill(learning_rate), coins)
