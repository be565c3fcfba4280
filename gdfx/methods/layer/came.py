"""CAME: Adafactor's two vectors, and two more for how far its steps can be trusted.

Yang Luo, Xiaozhe Ren, Zangwei Zheng, Zhuo Jiang, Xin Jiang, Yang You, "CAME: Confidence-guided
Adaptive Memory Efficient Optimization", ACL 2023, arXiv:2307.02047, Algorithm 2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import NOT_NEGATIVE, POSITIVE, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, divisor, ema, rms, root, saturate

_ARGUMENTS = {"eps_res": NOT_NEGATIVE, "clip_threshold": POSITIVE}


class CameState(NamedTuple):
    """The running means; of what is factored nu holds nothing, of all else rows and columns."""

    mu: Any  # m
    nu: Any  # v, of vectors
    row: Any  # R
    col: Any  # C
    res_row: Any  # R'
    res_col: Any  # C'


@checked(**_ARGUMENTS)
def scale_by_came(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: ArrayLike = 0.9999,
    eps: ArrayLike = 1e-30,
    eps_res: ArrayLike = 1e-16,
    clip_threshold: ArrayLike = 1.0,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide a factored step's running mean by the size of what departs from it.

    ::

        (1) R ← β₂ R + (1 − β₂) mean(|g|² + ε over columns)
            C ← β₂ C + (1 − β₂) mean(|g|² + ε over rows)
        (2) d = g / √(R Cᵀ / mean(R))
        (3) d ← d / max(1, rms(d) / threshold)
        (4) m ← β₁ m + (1 − β₁) d
        (5) R' ← β₃ R' + (1 − β₃) mean(|d − m|² + ε' over columns)
            C' ← β₃ C' + (1 − β₃) mean(|d − m|² + ε' over rows)
        (6) u = m / √(R' C'ᵀ / mean(R'))
        of arrays of one axis or none
        (2) v ← β₂ v + (1 − β₂) (|g|² + ε)    d = g / √v
        (6) u = m

    Rows and columns are the last two axes of an array; the others are copies.

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of R, C and v.
      b3: β₃ in [0, 1), the memory of R' and C'.
      eps: ε ≥ 0, in the unit of |g|².
      eps_res: ε' ≥ 0, in the unit of d².
      clip_threshold: the largest root mean square of d, > 0.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: nothing is corrected for its start at 0, as in the authors' code: d is then held by
    (3), and in the first step |u| is about (1 − β₁)/β₁ / √(1 − β₃), 11 by default. Gradients beyond
    2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2307.02047, Algorithm 2; came-pytorch 0.1.3.
    """

    def init(p):
        m, v = accumulator(p, dtype=mu_dtype), accumulator(p, real=True)
        nothing = accumulator(jax.ShapeDtypeStruct((1,), v.dtype))
        if not _is_factored(p):
            return m, v, nothing, nothing, nothing, nothing
        return m, nothing, v.mean(-1), v.mean(-2), v.mean(-1), v.mean(-2)

    def rule(g, m, v, row, col, res_row, res_col):
        g = saturate(g)
        sq = abs_sq(g) + eps
        if _is_factored(g):
            row, col = ema(row, sq.mean(-1), b2), ema(col, sq.mean(-2), b2)  # (1)
            d = _divided(g, row, col)  # (2)
        else:
            v = ema(v, sq, b2)
            d = g / root(v)  # (2)
        d = d / jnp.maximum(1, rms(d) / clip_threshold)  # (3)
        m = ema(m, d, b1)  # (4)
        if not _is_factored(g):
            return m, m, v, row, col, res_row, res_col  # (6)
        res = abs_sq(d - m) + eps_res
        res_row, res_col = ema(res_row, res.mean(-1), b3), ema(res_col, res.mean(-2), b3)  # (5)
        return _divided(m, res_row, res_col), m, v, row, col, res_row, res_col  # (6)

    return per_leaf(CameState, init, rule)


def _is_factored(x: Any) -> bool:
    return x.ndim > 1 and x.size > 0


def _divided(x: jax.Array, row: jax.Array, col: jax.Array) -> jax.Array:
    """X / √(R Cᵀ / mean(R))."""
    by_row = root(row / divisor(row.mean(-1, keepdims=True)))
    return x / by_row[..., None] / root(col)[..., None, :]


@checked(**_ARGUMENTS)
def came(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: ArrayLike = 0.9999,
    eps: ArrayLike = 1e-30,
    eps_res: ArrayLike = 1e-16,
    clip_threshold: ArrayLike = 1.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """CAME: `scale_by_came`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, b3, eps, eps_res, clip_threshold, mu_dtype: as in `scale_by_came`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_came`, and by ``update`` without the parameters.

    Purpose: Adam's speed with little more than momentum for a state, in the training of large
    language models (abstract of arXiv:2307.02047).

    Reference: arXiv:2307.02047, Algorithm 2.

    See also: `gdfx.adafactor`; `gdfx.sm3`.
    """
    direction = scale_by_came(b1, b2, b3, eps, eps_res, clip_threshold, mu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
