"""MARS in its matrix form: the corrected gradient's running mean, made orthogonal.

Huizhuo Yuan, Yifeng Liu, Shuang Wu, Xun Zhou, Quanquan Gu, "MARS: Unleashing the Power of Variance
Reduction for Training Large Models", 2024, arXiv:2411.10438, Algorithm 4.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import NOT_NEGATIVE, Flag, checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, shared, with_otherwise
from gdfx.core.moments import accumulator, ema, saturate
from gdfx.core.previous import corrected_gradient, with_previous
from gdfx.core.spectral import Orthogonalize, Scale, orthogonal_factor, shape_factor
from gdfx.methods.coordinate.adam import adamw

_ARGUMENTS = {"gamma": NOT_NEGATIVE, "from_zero": Flag()}


class MarsShampooState(NamedTuple):
    """What is kept from step to step."""

    count: Any
    last: Any  # g', the gradient to compare with
    mu: Any  # m


@checked(**_ARGUMENTS)
def scale_by_mars_shampoo(
    b1: ArrayLike = 0.95,
    gamma: ArrayLike = 0.025,
    scale: Scale | None = "jordan",
    *,
    from_zero: bool = True,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The orthogonal factor of the running mean of a matrix's corrected gradient.

    ::

        (1) c = g + γ β₁/(1 − β₁) (g − g')
        (2) c ← c / max(1, ‖c‖)           ‖c‖ of the whole matrix
        (3) m ← β₁ m + (1 − β₁) c
        (4) u = s · U Vᵀ                  of  m = U Σ Vᵀ,  found nearly, by iteration

    g' is that of `scale_by_mars`; ``update`` takes ``previous``, as there.

    Args:
      b1: β₁ in [0, 1), the memory of m.
      gamma: γ ≥ 0, how much of the correction; 0 for none.
      scale: s, by name, as in `scale_by_muon`; None for 1.
      from_zero: as in `scale_by_mars`.
      orthogonalize, steps, compute_dtype, mu_dtype, over: as in `scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: the authors add ε to the norm by which m is divided, and iterate in bfloat16. Gradients
    beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2411.10438, Algorithm 4; AGI-Arena/MARS.
    """

    def init(p):
        return accumulator(p), accumulator(p, dtype=mu_dtype)

    def rule(g, last, m):
        g = saturate(g)
        m = ema(m, corrected_gradient(g, last, b1, gamma), b1)  # (1), (2), (3)
        u = orthogonal_factor(shared(m, over), orthogonalize, steps, compute_dtype)
        return shape_factor(scale, *g.shape) * u, g, m  # (4)

    def from_itself(g, last, m, *, t):
        return rule(g, jnp.where(t == 1, saturate(g), last), m)

    exact = per_matrix(MarsShampooState, init, rule, matrices=matrices, over=over)
    usual = exact
    if not from_zero:
        usual = per_matrix(MarsShampooState, init, from_itself, matrices=matrices, over=over)
    return with_previous("scale_by_mars_shampoo", MarsShampooState, usual, exact)


@checked(**_ARGUMENTS)
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
    """MARS-Shampoo: `scale_by_mars_shampoo`, then  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, gamma, scale, from_zero: as in `scale_by_mars_shampoo`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the matrices to decay: a tree of bools, or a function from params to one.
      orthogonalize, steps, compute_dtype, mu_dtype, over: as in `scale_by_mars_shampoo`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for ``gdfx.adamw(learning_rate, b1=0.9,
        b2=0.95, weight_decay=weight_decay)``.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_mars_shampoo`, and by ``init`` for leaves whose
        axes cannot be known.

    Differs: the authors' AdamW has a weight decay of 0.1, whatever λ is.

    Purpose: the corrected gradient for a method of matrices (arXiv:2411.10438); in spite of its
    name it keeps no statistics, as Shampoo does.

    Reference: arXiv:2411.10438, Algorithm 4.

    See also: `gdfx.mars`; `gdfx.muon`.
    """
    direction = scale_by_mars_shampoo(
        b1,
        gamma,
        scale,
        from_zero=from_zero,
        orthogonalize=orthogonalize,
        steps=steps,
        matrices=matrices,
        compute_dtype=compute_dtype,
        mu_dtype=mu_dtype,
        over=over,
    )
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
    rest = otherwise or adamw(learning_rate, 0.9, 0.95, weight_decay=weight_decay)
    return with_otherwise("mars_shampoo", tx, rest, matrices)
