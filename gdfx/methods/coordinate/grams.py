"""Grams: as far as Adam goes, in the direction of the gradient.

Yang Cao, Xiaoyu Li, Zhao Song, "Grams: Gradient Descent with Adaptive Momentum Scaling", 2024,
arXiv:2412.17107, Algorithm 1.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrections,
    ema,
    magnitude,
    root,
    saturate,
    sign,
)


@checked
def scale_by_grams(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-6,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam's step with the sign of the gradient.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
        (3) u = sign(g) |m̂| / (√v̂ + ε)

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the authors' code adds ε to √v and not to √v̂, which in step t is as ε / √(1 − β₂ᵗ)
    here. Of complex numbers sign(g) is g / |g|. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as
    that.

    Reference: arXiv:2412.17107, Algorithm 1.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True)

    def scalars(t):
        return corrections(t, b1, b2)

    def rule(g, m, v, *, c1, c2):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        # Where all is 0 there is a derivative, which |m| itself has not.
        size = jnp.where((g == 0) & (m == 0), (1 - b1) * g, sign(g) * magnitude(m))
        return size / c1 / root(v / c2, outside=eps), m, v  # (2), (3)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked
def grams(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-6,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Grams: `scale_by_grams`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, mu_dtype: as in `scale_by_grams`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_grams`, and by ``update`` without the parameters.

    Purpose: momentum that says how far, while the gradient says where to, so that no step goes
    against it (abstract of arXiv:2412.17107).

    Reference: arXiv:2412.17107, Algorithm 1.

    See also: `gdfx.cautious`, which leaves out steps against the gradient instead.
    """
    direction = scale_by_grams(b1, b2, eps, mu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
