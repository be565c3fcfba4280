"""SOAP: Adam in the eigenbasis of Shampoo's factors.

Nikhil Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024, arXiv:2409.11321,
Algorithm 3; the authors' code, github.com/nikhilvyas/SOAP.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core import spectral
from gdfx.core.arguments import DECAY, Choice, Coefficients, Optional, checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, shared, when, with_otherwise
from gdfx.core.moments import abs_sq, accumulator, corrections, ema, root, saturate
from gdfx.methods.coordinate.adam import adamw

_CHECKS: Any = {"b3": Optional(DECAY), "first": Choice("skip", "step")}


class ScaleBySoapState(NamedTuple):
    """The state of `scale_by_soap`."""

    count: jax.Array
    """How many steps were done."""

    mu: optax.Params
    """m, of the parameter's shape, in its own axes."""

    nu: optax.Params
    """v, of the parameter's shape, along the axes of the bases."""

    left: optax.Params
    """L, of shape (rows, rows); (0, 0) where there are too many."""

    right: optax.Params
    """R, of shape (columns, columns), or (0, 0)."""

    left_basis: optax.Params
    """Q_L, of L's shape."""

    right_basis: optax.Params
    """Q_R, of R's shape."""


@checked(orthogonalize=Optional(Coefficients()), **_CHECKS)
def scale_by_soap(
    b1: ArrayLike = 0.95, b2: ArrayLike = 0.95, eps: ArrayLike = 1e-8, *,
    b3: ArrayLike | None = None, every: int = 10, spread: bool = False,
    first: Literal["skip", "step"] = "skip", max_precond_dim: int = 10_000,
    orthogonalize: spectral.Orthogonalize | None = None, matrices: Matrices = None,
    mu_dtype: DTypeLike | None = None, over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """Adam's direction along the eigenvectors of the running means of g gᵀ and gᵀ g.

    ::

        (1) m ← β₁ m + (1 − β₁) g
        (2) g' = Q_Lᵀ g Q_R                         m' = Q_Lᵀ m Q_R
        (3) v ← β₂ v + (1 − β₂) g'²
        (4) u' = (m' / c₁) / ((√v + ε) / √c₂)       c = 1 − βᵗ
        (5) u = Q_L u' Q_Rᵀ                         orthogonalize: s times its orthogonal factor
        (6) L ← β₃ L + (1 − β₃) g gᵀ                R ← β₃ R + (1 − β₃) gᵀ g
        (7) every few steps, for both:
            order the columns of Q, and v with them, by Qᵀ L Q's diagonal, the largest first
            Q ← the orthogonal factor of  L Q,  by QR

    Rows are outputs, columns are inputs. The first gradient alone makes L and R, and their
    eigenvectors are the first Q_L and Q_R; t counts the steps after it.

    Args:
      b1: β₁ in [0, 1).
      b2: β₂ in [0, 1).
      eps: ε ≥ 0.
      b3: β₃ in [0, 1), of L and R; None for β₂.
      every: (7) is done in each step t that is a multiple of this.
      spread: take turns in (7): of the matrices of one shape one in ``every`` each step, so that
        no step is slow.
      first: ``"skip"``: the first gradient makes the bases and moves nothing, as in the authors'
        code; ``"step"``: it makes them and is stepped with, and t counts all steps. It is
        diagonal in its own bases but for rounding, and ε must be far above that.
      max_precond_dim: an axis that is longer has no basis: Q is the identity there.
      orthogonalize: None, or how the orthogonal factor in (5) is found, as in
        `gdfx.scale_by_muon`: SOAP-Muon; s = 0.2 √max(rows, columns).
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m; v, L, R, Q_L and Q_R have at least float32.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: m is kept in the parameter's axes, as in the paper; the authors' code keeps m' and
    turns it whenever Q turns, which is the same up to rounding. A convolution's kernel is one
    matrix by its axes, where the code has a basis for each axis. The derivatives of u take Q_L
    and Q_R for constants: those of eigenvectors are infinite where eigenvalues are equal.

    Reference: arXiv:2409.11321, Algorithm 3; github.com/nikhilvyas/SOAP.
    """
    skipped = int(first == "skip")
    decay = b2 if b3 is None else b3

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p), *spectral.factors(p, max_precond_dim)

    def scalars(t):
        return corrections(jnp.maximum(t - skipped, 1), b1, b2)

    def rule(g, m, v, left, right, *bases, t, c1, c2, due):
        g = saturate(g)
        m = jnp.where(t > skipped, ema(m, g, b1), m)  # (1)
        g, along = shared(g, over), shared(m, over)
        factors = jax.lax.stop_gradient(spectral.grams(g, left, right, decay, 1 - decay))  # (6)
        bases = when(t == 1, lambda *_: spectral.eigenbases(*factors), *bases)
        g = g * (t > skipped)  # NaN stays
        v = ema(v, abs_sq(spectral.in_bases(g, *bases)), b2)  # (2), (3)
        u = spectral.in_bases(along, *bases) / root(v, 0.0, eps) * (jnp.sqrt(c2) / c1)  # (4)
        u = spectral.in_bases(u, *(q.T for q in bases))  # (5)
        if orthogonalize is not None:
            u = 0.2 * max(u.shape) ** 0.5 * spectral.orthogonal_factor(u, orthogonalize)
        v, *bases = when(due, lambda *old: spectral.turned_bases(*factors, *old), v, *bases)  # (7)
        return u, m, v, *factors, *bases

    return per_matrix(
        ScaleBySoapState, init, rule, scalars=scalars, matrices=matrices, every=every,
        after=skipped, spread=spread, over=over,
    )  # fmt: skip


@checked(orthogonalize=Optional(Coefficients()), **_CHECKS)
def soap(
    learning_rate: optax.ScalarOrSchedule, b1: ArrayLike = 0.95, b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8, weight_decay: optax.ScalarOrSchedule = 0.01, *,
    b3: ArrayLike | None = None, every: int = 10, spread: bool = False,
    first: Literal["skip", "step"] = "skip", max_precond_dim: int = 10_000,
    orthogonalize: spectral.Orthogonalize | None = None, over: NamedSharding | None = None,
    matrices: Matrices = None, mu_dtype: DTypeLike | None = None,
    otherwise: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """SOAP: `scale_by_soap` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number. The authors take 3e-3.
      b1: β₁ in [0, 1).
      b2: β₂ in [0, 1).
      eps: ε ≥ 0.
      weight_decay: λ, a number ≥ 0 or a schedule.
      b3, every, spread, first, max_precond_dim: as in `scale_by_soap`.
      orthogonalize: as in `scale_by_soap`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for ``gdfx.adamw(learning_rate, b1, b2,
        eps, weight_decay=weight_decay)``.
      mu_dtype, over: as in `scale_by_soap`.

    Raises:
      TypeError, ValueError: as in `scale_by_soap`, for a bad learning rate or weight decay, and by
        ``init`` for leaves whose axes cannot be known.

    Differs: the authors' code decays the weight after the step,  W ← (1 − η λ)(W − η u);  here as
    in AdamW. It skips the decay too in the first step, and the first step of all other leaves.

    Purpose: Shampoo's few steps at Adam's ease of tuning: bases that are some steps old cost
    little, as v follows every gradient (abstract of arXiv:2409.11321).

    Reference: arXiv:2409.11321, Algorithm 3; github.com/nikhilvyas/SOAP.

    See also: `gdfx.shampoo`, which it comes from; `gdfx.adamw`, which it is where every axis is
    longer than ``max_precond_dim``.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.array([[2.0, 1.0], [1.0, 2.0]])) ** 2)
    >>> tx, w = gdfx.soap(0.5, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(4):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    10.000
    7.436
    4.228
    2.436
    """
    direction = scale_by_soap(
        b1, b2, eps, b3=b3, every=every, spread=spread, first=first,
        max_precond_dim=max_precond_dim, orthogonalize=orthogonalize, matrices=matrices,
        mu_dtype=mu_dtype, over=over,
    )  # fmt: skip
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    rest = otherwise or adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)
    return with_otherwise("soap", tx, rest, matrices)
