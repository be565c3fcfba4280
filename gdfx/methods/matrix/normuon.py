"""NorMuon: Muon whose rows are made of equal length, on the average of steps.

Zichong Li et al., "NorMuon: Making Muon more efficient and scalable", 2025, arXiv:2510.05491,
Algorithm 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, returned, shared, with_otherwise
from gdfx.core.moments import accumulator, ema, root, saturate, sum_sq
from gdfx.core.spectral import Orthogonalize, Scale, orthogonal_factor, shape_factor
from gdfx.methods.coordinate.adam import adamw


class ScaleByNormuonState(NamedTuple):
    """The state of `scale_by_normuon`."""

    trace: optax.Params
    """m, of the parameter's shape."""

    rows: optax.Params
    """v, one number for each row of a matrix."""


@checked
def scale_by_normuon(
    decay: ArrayLike = 0.95,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-10,
    scale: Scale | None = "moonlight",
    *,
    nesterov: bool = True,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon's direction, each row divided by its running root mean square.

    ::

        (1) m ← β m + (1 − β) g
        (2) d = m               with Nesterov's momentum  d = β m + (1 − β) g
        (3) o = U Vᵀ            of  d = U Σ Vᵀ,  found nearly, by iteration
        (4) v ← β₂ v + (1 − β₂) mean(o² over columns)
        (5) n = o / (√v + ε)
        (6) u = s ‖o‖ / ‖n‖ n   s by the shape, as in `gdfx.scale_by_muon`

    Rows are outputs, columns are inputs.

    Args:
      decay: β in [0, 1).
      b2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      eps: ε ≥ 0; o has a root mean square of at most 1.
      scale: s, by name; None for 1. Moonlight's steps are of AdamW's size.
      nesterov: look one step ahead in (2).
      orthogonalize, steps, compute_dtype, over: as in `gdfx.scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_muon`.

    Differs: the paper's step has a root mean square of 0.2, and so has Moonlight's s; the authors'
    code has s = √max(1, rows / columns). They add ε to ‖n‖ too; here a zero row stays zero.

    Reference: arXiv:2510.05491, Algorithm 1.
    """

    def init(p):
        rows = jax.ShapeDtypeStruct(p.shape[:1], p.dtype)
        return accumulator(p, dtype=mu_dtype), accumulator(rows)

    def rule(g, m, v):
        g = saturate(g)
        m = ema(m, g, decay)  # (1)
        d = ema(m, g, decay) if nesterov else m  # (2)
        d = shared(d, over)
        o = returned(orthogonal_factor(d, orthogonalize, steps, compute_dtype), over)  # (3)
        v = ema(v, jnp.mean(o * o, 1), b2)  # (4)
        n = o / root(v, 0.0, eps)[:, None]  # (5)
        length = root(sum_sq(o)) / root(sum_sq(n))
        return shape_factor(scale, *g.shape) * length * n, m, v  # (6)

    return per_matrix(ScaleByNormuonState, init, rule, matrices=matrices, over=over)


@checked
def normuon(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.95,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-10,
    scale: Scale | None = "moonlight",
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    nesterov: bool = True,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """NorMuon: `scale_by_normuon` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      decay: β in [0, 1).
      b2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      eps: ε ≥ 0; o has a root mean square of at most 1.
      scale: s, by name; None for 1. Moonlight's steps are of AdamW's size.
      weight_decay: λ, a number ≥ 0 or a schedule.
      nesterov: look one step ahead in (2).
      orthogonalize, steps, compute_dtype, over: as in `gdfx.scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves, as in `gdfx.muon`.
      mu_dtype: the dtype of m.

    Raises:
      TypeError, ValueError: as in `gdfx.muon`.

    Purpose: Muon whose neurons all move alike: after orthogonalization rows differ in length, and
    v evens that out for one number a row (abstract of arXiv:2510.05491).

    See also: `gdfx.muon`; `gdfx.adamuon`, with a second moment for each number.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.eye(2)) ** 2)
    >>> tx, w = gdfx.normuon(0.5, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    1.422
    0.943
    0.562
    """
    direction = scale_by_normuon(
        decay,
        b2,
        eps,
        scale,
        nesterov=nesterov,
        orthogonalize=orthogonalize,
        steps=steps,
        matrices=matrices,
        compute_dtype=compute_dtype,
        mu_dtype=mu_dtype,
        over=over,
    )
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    rest = otherwise or adamw(learning_rate, 0.9, 0.95, weight_decay=weight_decay)
    return with_otherwise("normuon", tx, rest, matrices)
