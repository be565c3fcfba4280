"""Adafactor: a second moment in rows and columns, for a fraction of Adam's memory.

Noam Shazeer, Mitchell Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
ICML 2018, arXiv:1804.04235, Algorithms 4 and 5.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import (
    ANY,
    DECAY,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    Count,
    DType,
    Flag,
    Optional,
    checked,
)
from gdfx.core.descend import chain, decayed, uphill
from gdfx.core.lift import per_leaf
from gdfx.core.moments import rms
from gdfx.methods.coordinate.running_mean import running_mean
from gdfx.methods.layer.factored_rms import scale_by_factored_rms


@checked(threshold=POSITIVE)
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


@checked(min_scale=NOT_NEGATIVE)
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
    learning_rate=Optional(RATE),
    min_dim_size_to_factor=Count(),
    decay_rate=NOT_NEGATIVE,
    decay_offset=ANY,
    multiply_by_parameter_scale=Flag(),
    clipping_threshold=Optional(POSITIVE),
    momentum=Optional(DECAY),
    dtype_momentum=DType(),
    weight_decay_rate=Optional(RATE),
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
      decay_offset: the steps that were done before, as ``step_offset`` there.
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

    Purpose: large models: of Adam's second moment only row and column means are kept
    (arXiv:1804.04235).

    See also: `gdfx.sm3`; `gdfx.adam`.
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
