"""Lion: the sign of a mean of momentum and gradient.

Xiangning Chen, Chen Liang, Da Huang, Esteban Real, Kaiyuan Wang, Yao Liu, Hieu Pham, Xuanyi Dong,
Thang Luong, Cho-Jui Hsieh, Yifeng Lu, Quoc Le, "Symbolic Discovery of Optimization Algorithms",
NeurIPS 2023, arXiv:2302.06675, Algorithm 2.
"""

from typing import Any

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, ema, saturate, sign


@checked
def scale_by_lion(
    b1: ArrayLike = 0.9, b2: ArrayLike = 0.99, mu_dtype: DTypeLike | None = None
) -> optax.GradientTransformationExtraArgs:
    """Take the sign of a mean of momentum and gradient.

    ::

        (1) u = sign(β₁ m + (1 − β₁) g)   m = 0 at the start
        (2) m ← β₂ m + (1 − β₂) g

    Args:
      b1: β₁ in [0, 1), the part of momentum in u.
      b2: β₂ in [0, 1), the memory of m.
      mu_dtype: dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that, and Inf makes u NaN.

    Reference: arXiv:2302.06675, Algorithm 2.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype)

    def rule(g, m):
        g = saturate(g)
        return sign(ema(m, g, b1)), ema(m, g, b2)  # (1), (2)

    return per_leaf(optax.ScaleByLionState, init, rule)


@checked
def lion(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-3,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Lion: `scale_by_lion`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule; the paper advises a third to a tenth of
        AdamW's.
      b1, b2, mu_dtype: as in `scale_by_lion`.
      weight_decay: λ, a number ≥ 0 or a schedule; the paper advises three to ten times AdamW's.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Reference: arXiv:2302.06675, Algorithm 2.

    Purpose: half of Adam's state; found by a search over programs on image and language models
    (arXiv:2302.06675).

    See also: `gdfx.signum`; `gdfx.adamw`; `gdfx.cautious`, which leaves out what goes against the
    gradient.

    Cautious Lion (arXiv:2411.16085):

    >>> import gdfx, jax.numpy as jnp
    >>> tx = gdfx.descend(gdfx.cautious(gdfx.scale_by_lion()), 0.1, weight_decay=1e-3)
    >>> state = tx.init(jnp.zeros(2))
    >>> for g in (jnp.array([1.0, 1.0]), jnp.array([1.0, -0.05])):
    ...     updates, state = tx.update(g, state, jnp.zeros(2))
    ...     print(updates)
    [-0.1 -0.1]
    [-0.2 -0. ]
    """
    direction = scale_by_lion(b1, b2, mu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
