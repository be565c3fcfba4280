"""AdaGrad: every coordinate has its own rate, which falls as its gradients add up.

John Duchi, Elad Hazan, Yoram Singer, "Adaptive Subgradient Methods for Online Learning
and Stochastic Optimization", 2011, JMLR 12, the diagonal method of Figure 1.
"""

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, root, saturate


@checked
def scale_by_adagrad(
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
    *,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by the root of the sum of all squared gradients.

    ::

        (1) h ← h + |g|²
        (2) u = g / √(h + ε)

    Args:
      initial_accumulator_value: h at the start, ≥ 0, in the unit of |g|². From 0, the first step
        of every coordinate has length η; more shortens the steps of coordinates with small
        gradients until their sum has outgrown it.
      eps: ε ≥ 0, added to h inside the root, in the unit of |g|².
      accumulator_dtype: the dtype of h, a real floating dtype; None: the parameter's, but at least
        float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        parameters, gradients and states that do not belong together.

    Differs: the paper starts at h = 0 and adds its δ to the root; h = 0.1 and ε under the
    root are optax's. optax sets u = 0 where h = 0; here (2) holds there too, and so do its
    derivatives. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as 2⁴⁸ (2⁴⁹⁶).

    Reference: Duchi et al. 2011, Figure 1, diagonal.

    See also: `gdfx.adagrad`, the whole optimizer.
    """

    def init(p):
        return accumulator(p, initial_accumulator_value, accumulator_dtype, real=True)

    def rule(g, h):
        g = saturate(g)
        h = h + abs_sq(g)  # (1)
        return g / root(h, eps), h  # (2)

    return per_leaf(optax.ScaleByRssState, init, rule)


@checked
def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
    *,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaGrad: `scale_by_adagrad`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      initial_accumulator_value: h at the start, ≥ 0, in the unit of |g|². From 0, the first step
        of every coordinate has length η; more shortens the steps of coordinates with small
        gradients until their sum has outgrown it.
      eps: ε ≥ 0, added to h inside the root, in the unit of |g|².
      accumulator_dtype: the dtype of h, a real floating dtype; None: the parameter's, but at least
        float32.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_adagrad`, and for a learning rate out of range.

    Purpose: sparse data. Rare coordinates keep long steps, which finds "very predictive but rarely
    seen features" (Duchi et al., abstract).

    See also: `gdfx.textbook.adagrad`, which starts at h = 0; `gdfx.adam`, whose sum of squares
    forgets.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.adagrad(1.0), jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    8.011
    4.187
    2.311
    """
    direction = scale_by_adagrad(
        initial_accumulator_value, eps, accumulator_dtype=accumulator_dtype
    )
    return with_rate(direction, learning_rate)
