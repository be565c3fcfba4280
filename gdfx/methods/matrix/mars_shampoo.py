"""MARS in its matrix form: the corrected gradient's running mean, made orthogonal.

Huizhuo Yuan, Yifeng Liu, Shuang Wu, Xun Zhou, Quanquan Gu, "MARS: Unleashing the Power of Variance
Reduction for Training Large Models", 2024, arXiv:2411.10438, Algorithm 4.
"""

from typing import Any

import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import NOT_NEGATIVE, Flag, checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import with_otherwise
from gdfx.core.spectral import Orthogonalize, Scale
from gdfx.methods.coordinate.adam import adamw
from gdfx.methods.layer.mars import scale_by_mars
from gdfx.methods.matrix.muon import scale_by_muon


@checked(gamma=NOT_NEGATIVE, from_zero=Flag())
def mars_shampoo(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.95,
    gamma: ArrayLike = 0.025,
    scale: Scale | None = "jordan",
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    from_zero: bool = True,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """MARS-Shampoo: `scale_by_mars`, then `scale_by_muon` without Nesterov's momentum.

    ::

        (1) c                             as in `scale_by_mars`
        (2) m ← β₁ m + (1 − β₁) c
        (3) W ← W − η (s U Vᵀ + λ W)      of  m = U Σ Vᵀ,  found nearly, by iteration

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1: β₁ in [0, 1), the memory of m.
      gamma: γ ≥ 0, how much of the correction; 0 for none.
      scale: s, by name, as in `scale_by_muon`; None for 1.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the matrices to decay: a tree of bools, or a function from params to one.
      from_zero: as in `scale_by_mars`.
      orthogonalize, steps, compute_dtype, mu_dtype, over: as in `scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those.
      otherwise: the optimizer of all other leaves; None for ``gdfx.adamw(learning_rate, b1=0.9,
        b2=0.95, weight_decay=weight_decay)``.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_mars` and `gdfx.scale_by_muon`.

    Differs: the authors add ε to the norm by which m is divided, and iterate in bfloat16; their
    AdamW has a weight decay of 0.1, whatever λ is.

    Purpose: the corrected gradient for a method of matrices (arXiv:2411.10438); in spite of its
    name it keeps no statistics, as Shampoo does.

    Reference: arXiv:2411.10438, Algorithm 4.

    See also: `gdfx.mars`; `gdfx.muon`.
    """
    muon = scale_by_muon(
        b1,
        scale,
        nesterov=False,
        orthogonalize=orthogonalize,
        steps=steps,
        matrices=matrices,
        compute_dtype=compute_dtype,
        mu_dtype=mu_dtype,
        over=over,
    )
    direction = optax.chain(scale_by_mars(b1, gamma, from_zero=from_zero), muon)
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
    rest = otherwise or adamw(learning_rate, 0.9, 0.95, weight_decay=weight_decay)
    return with_otherwise("mars_shampoo", tx, rest, matrices)
