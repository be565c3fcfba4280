"""NovoGrad: one second moment for each layer, and momentum of the normalized gradients.

Boris Ginsburg, Patrice Castonguay, Oleksii Hrinchuk, Oleksii Kuchaiev, Vitaly Lavrukhin, Ryan
Leary, Jason Li, Huyen Nguyen, Yang Zhang, Jonathan Cohen, "Stochastic Gradient Methods with
Layer-wise Adaptive Moments for Training of Deep Networks", 2019, arXiv:1905.11286, Algorithm 1.
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import NOT_NEGATIVE, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, ema, root, saturate, sum_sq

_ARGUMENTS = {"weight_decay": NOT_NEGATIVE}


@checked(**_ARGUMENTS)
def scale_by_novograd(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.25,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient of a layer by the running size of the whole, and add momentum.

    ::

        (1) v ← β₂ v + (1 − β₂) Σ|g|²     in the first step v = Σ|g|²; one number for each leaf
        (2) m ← β₁ m + g / (√(v + ε_root) + ε) + λ W
        (3) u = m

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      weight_decay: λ ≥ 0, a number.
      mu_dtype: dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters, gradients and state of each other, and by ``update`` without
        the parameters.

    Differs: ε_root is optax's. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1905.11286, Algorithm 1.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True).sum()

    def rule(g, m, v, *, t, p):
        total = sum_sq(g)
        v = jnp.where(t == 1, total, ema(v, total, b2))  # (1)
        m = b1 * m + saturate(g) / root(v, eps_root, eps) + weight_decay * p  # (2)
        return m, m, v  # (3)

    return per_leaf(optax.ScaleByNovogradState, init, rule)


@checked(**_ARGUMENTS)
def novograd(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.25,
    eps: ArrayLike = 1e-6,
    eps_root: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """NovoGrad: `scale_by_novograd`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, weight_decay: as in `scale_by_novograd`.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Purpose: large batches and long steps without warm-up, at half of Adam's state
    (arXiv:1905.11286).

    See also: `gdfx.lamb`; `gdfx.adam`.
    """
    return with_rate(scale_by_novograd(b1, b2, eps, eps_root, weight_decay), learning_rate)
