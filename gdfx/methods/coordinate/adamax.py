"""AdaMax: Adam with the largest gradient in place of the root mean square.

Diederik Kingma, Jimmy Ba, "Adam: A Method for Stochastic Optimization", 2015,
arXiv:1412.6980, Algorithm 2.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, divisor, ema, magnitude, one_minus_power, saturate


@checked
def scale_by_adamax(
    b1: ArrayLike = 0.9, b2: ArrayLike = 0.999, eps: ArrayLike = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Divide the running mean of the gradient by a maximum of its past that fades.

    ::

        (1) m ← β₁ m + (1 − β₁) g         m = 0 at the start
        (2) v ← max(β₂ v, |g| + ε)        v = 0 at the start
        (3) u = m / (1 − β₁ᵗ) / v

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1): by how much the maximum fades in each step.
      eps: ε ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper has no ε; it is optax's and PyTorch's. Gradients beyond 2⁴⁸ (float64:
    2⁴⁹⁶) count as that.

    Reference: arXiv:1412.6980, Algorithm 2.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        return {"c1": one_minus_power(b1, t)}

    def rule(g, m, v, *, c1):  # 1 − β₁ᵗ
        g = saturate(g)
        m = ema(m, g, b1)  # (1)
        v = jnp.maximum(b2 * v, magnitude(g) + eps)  # (2)
        return m / c1 / divisor(v), m, v  # (3)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked
def adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """AdaMax: `scale_by_adamax`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps: as in `scale_by_adamax`.

    Purpose: Adam with a bound on every step that is as simple as |u| ≤ 1 once m is an average
    (section 7.1 of arXiv:1412.6980).

    See also: `gdfx.adam`; `gdfx.adamaxw`, with weight decay.
    """
    return with_rate(scale_by_adamax(b1, b2, eps), learning_rate)


@checked
def adamaxw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaMax with decoupled weight decay: `scale_by_adamax`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps: as in `scale_by_adamax`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Reference: arXiv:1412.6980, Algorithm 2; the decay as in arXiv:1711.05101.

    Purpose: AdaMax with weight decay that does not pass through its division.

    See also: `gdfx.adamax`; `gdfx.adamw`.
    """
    direction = scale_by_adamax(b1, b2, eps)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
