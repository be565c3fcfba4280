"""PolarGrad: the orthogonal factor of momentum, as long as momentum's nuclear norm.

Tim Tsz-Kit Lau, Qi Long, Weijie Su, "PolarGrad: A Class of Matrix-Gradient Optimizers from a
Unifying Preconditioning Perspective", 2025, arXiv:2505.21799; the authors' code,
github.com/timlautk/polargrad.
"""

import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, returned, shared, with_otherwise
from gdfx.core.moments import accumulator, ema, saturate
from gdfx.core.spectral import Orthogonalize, orthogonal_factor
from gdfx.methods.coordinate.running_mean import running_mean


@checked
def scale_by_polargrad(
    decay: ArrayLike = 0.95,
    *,
    polar_first: bool = False,
    orthogonalize: Orthogonalize = "exact",
    steps: int = 5,
    matrices: Matrices = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The orthogonal factor of the mean gradient, times its nuclear norm.

    ::

        (1) m ← β m + (1 − β) g
        (2) u = ⟨m, o⟩ o        o = U Vᵀ  of  m = U Σ Vᵀ,  so that  ⟨m, o⟩ = Σσ
        with polar_first
        (1) m ← β m + (1 − β) o           o = U Vᵀ  of  g = U Σ Vᵀ
        (2) u = ⟨g, o⟩ m

    Args:
      decay: β in [0, 1).
      polar_first: take the factor of each gradient, and the mean of the factors.
      orthogonalize, steps, compute_dtype, over: as in `gdfx.scale_by_muon`; by default the
        factor is exact.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_muon`.

    Differs: the authors find the factor by two steps of QDWH; here it is that of the singular
    value decomposition, without the directions in which m is 0 but for rounding.

    Reference: arXiv:2505.21799; both orders as in the authors' polar_grad.py.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype)

    def factor(x):
        o = orthogonal_factor(shared(x, over), orthogonalize, steps, compute_dtype)
        return returned(o, over)

    def rule(g, m):
        g = saturate(g)
        if polar_first:
            o = factor(g)
            m = ema(m, o, decay)  # (1)
            return jnp.vdot(g, o) * m, m  # (2)
        m = ema(m, g, decay)  # (1)
        o = factor(m)
        return jnp.vdot(m, o) * o, m  # (2)

    return per_matrix(optax.TraceState, init, rule, matrices=matrices, over=over)


@checked
def polargrad(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.95,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    polar_first: bool = False,
    orthogonalize: Orthogonalize = "exact",
    steps: int = 5,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PolarGrad: `scale_by_polargrad` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      decay: β in [0, 1).
      weight_decay: λ, a number ≥ 0 or a schedule.
      polar_first: take the factor of each gradient, and the mean of the factors.
      orthogonalize, steps, compute_dtype, over: as in `gdfx.scale_by_muon`; by default the
        factor is exact.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for  W ← W − η (m + λ W): a vector is a
        matrix of one column, and its u is its m.
      mu_dtype: the dtype of m.

    Raises:
      TypeError, ValueError: as in `gdfx.muon`.

    Purpose: steps that shorten as the gradient does, which Muon's do not: near a minimum it
    comes to rest (arXiv:2505.21799).

    See also: `gdfx.muon`.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.eye(2)) ** 2)
    >>> tx, w = gdfx.polargrad(0.1, decay=0.5, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    1.280
    0.583
    0.182
    """
    direction = scale_by_polargrad(
        decay,
        polar_first=polar_first,
        orthogonalize=orthogonalize,
        steps=steps,
        matrices=matrices,
        compute_dtype=compute_dtype,
        mu_dtype=mu_dtype,
        over=over,
    )
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    mean = running_mean(decay, mu_dtype)
    rest = otherwise or with_rate(mean, learning_rate, weight_decay=weight_decay)
    return with_otherwise("polargrad", tx, rest, matrices)
