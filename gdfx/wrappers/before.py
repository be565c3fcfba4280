"""What is done to gradients before a method sees them: Grokfast's filters.

Each is a link of a chain::

    tx = optax.chain(gdfx.grokfast_ema(), gdfx.adamw(1e-3))
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import DECAY, NOT_NEGATIVE, Choice, Count, Flag, checked
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, ema, saturate


class GrokfastEmaState(NamedTuple):
    """The slow part of the gradient."""

    count: Any
    mu: Any


class GrokfastMaState(NamedTuple):
    """The last gradients, and how many steps were done: step t wrote place (t − 1) mod window."""

    count: Any
    window: Any


@checked(alpha=DECAY, lamb=NOT_NEGATIVE)
def grokfast_ema(
    alpha: ArrayLike = 0.98, lamb: ArrayLike = 2.0
) -> optax.GradientTransformationExtraArgs:
    """Add to the gradient λ times its running mean, which lifts what changes slowly.

    ::

        (1) μ ← α μ + (1 − α) g           in the first step  μ = g
        (2) u = g + λ μ

    Args:
      alpha: α in [0, 1), the memory of μ.
      lamb: λ ≥ 0, how many times μ is added.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: Jaerin Lee, Bong Gyun Kang, Kihoon Kim, Kyoung Mu Lee, "Grokfast: Accelerated
    Grokking by Amplifying Slow Gradients", 2024, arXiv:2405.20233, Algorithm 2; ironjr/grokfast.

    See also: `gdfx.grokfast_ma`; `gdfx.ademamix`, whose slow mean is not divided with the rest.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx = optax.chain(gdfx.grokfast_ema(0.5, 2.0), gdfx.sgd(0.1))
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (1.0, -1.0):
    ...     updates, state = tx.update(jnp.full(1, g), state)
    ...     print(updates)
    [-0.3]
    [0.1]
    """

    def init(p):
        return accumulator(p)

    def rule(g, mu, *, t):
        g = saturate(g)
        mu = jnp.where(t == 1, g, ema(mu, g, alpha))  # (1)
        return g + lamb * mu, mu  # (2)

    return per_leaf(GrokfastEmaState, init, rule)


@checked(window_size=Count(1), lamb=NOT_NEGATIVE, filter_type=Choice("mean", "sum"), warmup=Flag())
def grokfast_ma(
    window_size: int = 100,
    lamb: ArrayLike = 5.0,
    filter_type: str = "mean",
    warmup: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Add to the gradient λ times the mean of the last ones.

    ::

        (1) a = mean of the last w gradients, of this step's too
        (2) u = g + λ a                   before there are w of them  u = g

    The state holds w gradients: `grokfast_ema` holds one.

    Args:
      window_size: w, how many gradients.
      lamb: λ ≥ 0, how many times a is added.
      filter_type: "mean", or "sum" for their sum.
      warmup: False: begin at once, with the mean of those that there are.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2405.20233, Algorithm 1; ironjr/grokfast.

    See also: `gdfx.grokfast_ema`.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx = optax.chain(gdfx.grokfast_ma(2, 1.0), gdfx.sgd(0.1))
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (1.0, 3.0):
    ...     updates, state = tx.update(jnp.full(1, g), state)
    ...     print(updates)
    [-0.1]
    [-0.5]
    """

    def init(p):
        return accumulator(p, copies=window_size)

    def rule(g, window, *, t):
        g = saturate(g)
        window = window.at[(t - 1) % window_size].set(g)
        there = jnp.minimum(t, window_size)
        slow = window.sum(0) if filter_type == "sum" else window.sum(0) / there  # (1)
        begun = there == window_size if warmup else True
        return jnp.where(begun, g + lamb * slow, g), window  # (2)

    return per_leaf(GrokfastMaState, init, rule)
