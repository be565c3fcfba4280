"""Adafactor: a second moment in rows and columns, for a fraction of Adam's memory.

Noam Shazeer, Mitchell Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
ICML 2018, arXiv:1804.04235, Algorithms 4 and 5.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import Count, DType, Flag, Number, Optional, checked
from gdfx.core.descend import chain, decayed, uphill
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, divisor, ema, rms, root, saturate
from gdfx.methods.coordinate.running_mean import running_mean

_RATE = Optional(Number(">= 0", lambda x: x >= 0, schedule=True))
_NOT_NEGATIVE = Number(">= 0", lambda x: x >= 0)
_OFFSET = Number("finite", lambda x: True)


@checked(
    decay_rate=_NOT_NEGATIVE,
    step_offset=_OFFSET,
    min_dim_size_to_factor=Count(),
    epsilon=_NOT_NEGATIVE,
)
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: ArrayLike = 0.8,
    step_offset: ArrayLike = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: ArrayLike = 1e-30,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by a root mean square that is kept as the product of two vectors.

    ::

        (1) α = (t − offset)^−decay_rate                α = 1 in the first step: nothing is kept
        (2) R ← (1 − α) R + α mean(|g|² + ε over columns)
            C ← (1 − α) C + α mean(|g|² + ε over rows)
        (3) u = g / √(R Cᵀ / mean(R))
        of what is not factored
        (2) v ← (1 − α) v + α (|g|² + ε)
        (3) u = g / √v

    Rows and columns are the two longest axes of an array; the others are copies.

    Args:
      factored: False keeps the whole of v.
      decay_rate: how fast α falls, ≥ 0.
      step_offset: the steps that were done before; α is that of step t − offset.
      min_dim_size_to_factor: an array is factored where its two longest axes are at least this.
      epsilon: ε ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper factors every matrix; optax, and this, the two longest axes of an array of
    two or more, both of at least 128. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1804.04235, Algorithm 4; α from section 7.2.
    """

    def axes(x: Any) -> tuple[int, int] | None:
        """The two longest axes, the longest last; None where nothing is factored."""
        if not factored or x.ndim < 2 or not x.size:
            return None
        *_, second, first = map(int, np.argsort(x.shape))
        return (second, first) if x.shape[second] >= min_dim_size_to_factor else None

    def init(p):
        v = accumulator(p, real=True)
        nothing = accumulator(jax.ShapeDtypeStruct((1,), v.dtype))
        if (pair := axes(p)) is None:
            return nothing, nothing, v
        columns, rows = pair
        return v.mean(rows), v.mean(columns), nothing

    def scalars(t):
        steps = jnp.maximum(t - step_offset, 1).astype(jnp.result_type(float))
        return {"alpha": 1 / jnp.power(steps, decay_rate)}  # (1)

    def rule(g, r, c, v, *, alpha):
        g = saturate(g)
        sq = abs_sq(g) + epsilon
        if (pair := axes(g)) is None:
            v = ema(v, sq, 1 - alpha)  # (2)
            return g / root(v), r, c, v  # (3)
        columns, rows = pair
        r, c = ema(r, sq.mean(rows), 1 - alpha), ema(c, sq.mean(columns), 1 - alpha)  # (2)
        mean = r.mean(columns - (columns > rows), keepdims=True)
        by_row = jnp.expand_dims(root(r / divisor(mean)), rows)
        return g / by_row / jnp.expand_dims(root(c), columns), r, c, v  # (3)

    return per_leaf(optax.FactoredState, init, rule, scalars=scalars)


@checked(threshold=Number("> 0", lambda x: x > 0))
def clip_by_block_rms(threshold: ArrayLike) -> optax.GradientTransformationExtraArgs:
    """Shorten each array of updates to a root mean square:  u = g / max(1, rms(g) / threshold).

    Args:
      threshold: the largest root mean square, > 0.

    Differs: nothing from optax but finite derivatives where g = 0.

    Reference: arXiv:1804.04235, section 6.
    """

    def rule(g):
        return g / jnp.maximum(1, rms(g) / threshold)

    return per_leaf(optax.EmptyState, lambda p: (), rule)


@checked(min_scale=_NOT_NEGATIVE)
def scale_by_param_block_rms(
    min_scale: ArrayLike = 1e-3,
) -> optax.GradientTransformationExtraArgs:
    """Scale each array of updates by its parameter's size:  u = g max(rms(W), min_scale).

    Args:
      min_scale: the least size, ≥ 0.

    Differs: nothing from optax but finite derivatives where W = 0.

    Reference: arXiv:1804.04235, section 8.
    """

    def rule(g, *, p):
        return g * jnp.maximum(rms(p), min_scale)

    return per_leaf(optax.EmptyState, lambda p: (), rule)


@checked(
    learning_rate=_RATE,
    min_dim_size_to_factor=Count(),
    decay_rate=_NOT_NEGATIVE,
    decay_offset=_OFFSET,
    multiply_by_parameter_scale=Flag(),
    clipping_threshold=Optional(Number("> 0", lambda x: x > 0)),
    momentum=Optional(Number("in [0, 1)", lambda x: 0 <= x < 1, near_one=True)),
    dtype_momentum=DType(),
    weight_decay_rate=_RATE,
)
def adafactor(
    learning_rate: optax.ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: ArrayLike = 0.8,
    decay_offset: ArrayLike = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: ArrayLike | None = 1.0,
    momentum: ArrayLike | None = None,
    dtype_momentum: DTypeLike = jnp.float32,
    weight_decay_rate: optax.ScalarOrSchedule | None = None,
    eps: ArrayLike = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adafactor, as optax composes it.

    ::

        (1) u                             as in `scale_by_factored_rms`
        (2) u ← u / max(1, rms(u) / d)    if ``clipping_threshold`` d is given
        (3) u ← η max(rms(W), 1e-3) u     each factor if asked for
        (4) u ← μ m + (1 − μ) u = m       if ``momentum`` μ is given
        (5) W ← W − (u + λ W)             λ if ``weight_decay_rate`` is given

    Args:
      learning_rate: η, a number ≥ 0 or a schedule, or None for 1.
      min_dim_size_to_factor, decay_rate, factored: as in `scale_by_factored_rms`.
      decay_offset: its ``step_offset``.
      multiply_by_parameter_scale: whether steps are as large as the array that they move.
      clipping_threshold: d > 0, or None.
      momentum: μ in [0, 1), or None.
      dtype_momentum: dtype of m.
      weight_decay_rate: λ, a number ≥ 0 or a schedule, or None. It is not multiplied by η.
      eps: ε ≥ 0.
      weight_decay_mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: the paper's η is min(1e-2, 1/√t). T5 and Hugging Face factor the last two axes of
    any size and multiply λ by η; PyTorch adds no ε to |g|² and has η min(η, 1/√t).

    Reference: arXiv:1804.04235, Algorithms 4 and 5.
    """
    links: list[optax.GradientTransformation] = [
        scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)
    ]
    if clipping_threshold is not None:
        links.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        links.append(uphill(learning_rate))
    if multiply_by_parameter_scale:
        links.append(scale_by_param_block_rms())
    if momentum is not None:
        links.append(running_mean(momentum, dtype_momentum))
    if weight_decay_rate is not None:
        links.append(decayed(weight_decay_rate, weight_decay_mask))
    return chain(*links, optax.scale(-1.0))
