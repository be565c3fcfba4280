"""Shampoo: the gradient between inverse roots of the sums of its outer products.

Vineet Gupta, Tomer Koren and Yoram Singer, "Shampoo: Preconditioned Stochastic Tensor
Optimization", 2018, arXiv:1802.09568, Algorithm 1; Hao-Jun Michael Shi et al., "A Distributed
Data-Parallel PyTorch Implementation of the Distributed Shampoo Optimizer", 2023, arXiv:2309.06497,
Algorithm 1; github.com/facebookresearch/optimizers.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import DECAY, POSITIVE, Choice, Optional, checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, returned, shared, when, with_otherwise
from gdfx.core.moments import accumulator, ema, one_minus_power, root, saturate, sum_sq
from gdfx.core.spectral import factors, grams, in_bases, inverse_roots, normalized
from gdfx.methods.coordinate.adam import adamw

Graft = Literal["adam", "rmsprop", "sgd"]

_CHECKS: Any = {"b2": Optional(DECAY), "graft": Optional(Choice("adam", "rmsprop", "sgd"))}


class ScaleByShampooState(NamedTuple):
    """The state of `scale_by_shampoo`."""

    count: jax.Array
    """How many steps were done."""

    mu: optax.Params
    """m, of the parameter's shape."""

    nu: optax.Params
    """v, of the parameter's shape; empty where the step is not grafted from it."""

    left: optax.Params
    """L, of shape (rows, rows); (0, 0) where there are too many."""

    right: optax.Params
    """R, of shape (columns, columns), or (0, 0)."""

    left_root: optax.Params
    """L's inverse root, of L's shape; the identity at the start."""

    right_root: optax.Params
    """R's."""


@checked(exponent=Optional(POSITIVE), **_CHECKS)
def scale_by_shampoo(
    b1: ArrayLike = 0.9, b2: ArrayLike | None = 0.999, eps: ArrayLike = 1e-12, *,
    graft: Graft | None = "adam", graft_eps: ArrayLike = 1e-8, exponent: ArrayLike | None = None,
    every: int = 10, spread: bool = False, start: int | None = None, max_precond_dim: int = 10_000,
    matrices: Matrices = None, mu_dtype: DTypeLike | None = None, over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """The running mean of the gradient between inverse roots, with another method's length.

    ::

        (1) L ← β₂ L + (1 − β₂) g gᵀ                R ← β₂ R + (1 − β₂) gᵀ g
        (2) every few steps, for both, with c = 1 − β₂ᵗ:
            Q Λ Qᵀ = L / c
            L* = Q (Λ − min(λ_min, 0) + ε)^(−e) Qᵀ
        (3) m ← β₁ m + (1 − β₁) g                   m̂ = m / (1 − β₁ᵗ)
        (4) d = L* m̂ R*
        (5) v ← β₂ v + (1 − β₂) g²                  a = m̂ / (√(v / c) + ε')
        (6) u = ‖a‖ d / ‖d‖                         before step ``start``: u = a

    Without β₂ they are sums: L ← L + g gᵀ, R and v likewise, and c = 1. Rows are outputs,
    columns are inputs. e is 1/4, and 1/2 where one side alone has a factor.

    Args:
      b1: β₁ in [0, 1).
      b2: β₂ in [0, 1); None for sums, as in the paper of 2018.
      eps: ε ≥ 0, added to every eigenvalue.
      graft: whose length the step has: ``"adam"``, as above; ``"rmsprop"``: c = 1 in (5);
        ``"sgd"``: a = m̂; None: u = d.
      graft_eps: ε' ≥ 0.
      exponent: e > 0; None for 1 / (2 k), where k is how many sides have a factor.
      every: (2) is done in each step t that is a multiple of this, after ``start``.
      spread: take turns in (2): of the matrices of one shape one in ``every`` each step, so that
        no step is slow.
      start: the step in which (2) is done first, by all; None for ``every``.
      max_precond_dim: an axis that is longer has no factor: its root is the identity. To have
        a long axis in blocks, each with factors of its own, give ``matrices`` with
        `gdfx.MatrixAxes` that has ``blocks``.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m; all else has at least float32.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: the paper of 2018 begins its sums at ε I, has no m and grafts from nothing:
    ``b1=0, b2=None, graft=None, every=1`` is its, but for ε I in every root and not in the sum.
    Meta's code adds 1e-16 to ‖d‖, and after a failure of the decomposition tries it in float64;
    it lets v have a decay of its own, and takes a matrix of one row or column for a vector, with
    one factor and an e of 1/2. The derivatives of u take L* and R* for constants: those of
    eigenvectors are infinite where eigenvalues are equal.

    Reference: arXiv:1802.09568, Algorithm 1; arXiv:2309.06497, Algorithm 1;
    github.com/facebookresearch/optimizers.
    """
    begins = every if start is None else start
    kept, new = (1, 1) if b2 is None else (b2, 1 - b2)

    def init(p):
        squares = p if graft in ("adam", "rmsprop") else jax.ShapeDtypeStruct((0,), p.dtype)
        return accumulator(p, dtype=mu_dtype), accumulator(squares), *factors(p, max_precond_dim)

    def scalars(t):
        return {"c1": one_minus_power(b1, t), "c2": 1.0 if b2 is None else one_minus_power(b2, t)}

    def rule(g, m, v, left, right, *roots, t, c1, c2, due):
        g = saturate(g)
        m = ema(m, g, b1)  # (3)
        a = m / c1
        both = grams(shared(g, over), left, right, kept, new)  # (1)
        late = (due & (t > begins)) | (t == begins)
        roots = when(late, lambda *_: inverse_roots(*both, c2, exponent, eps), *roots)
        roots = jax.lax.stop_gradient(roots)  # (2)
        u = returned(in_bases(shared(a, over), *roots), over)  # (4)
        if v.size:
            v = kept * v + new * g * g  # (5)
            a = a / root(v / (c2 if graft == "adam" else 1), 0.0, graft_eps)
        if graft is not None:
            u = jnp.where(t < begins, a, root(sum_sq(a)) * normalized(u))  # (6)
        return u, m, v, *both, *roots

    return per_matrix(
        ScaleByShampooState, init, rule, scalars=scalars, matrices=matrices, every=every,
        spread=spread, over=over,
    )  # fmt: skip


@checked(exponent=Optional(POSITIVE), **_CHECKS)
def shampoo(
    learning_rate: optax.ScalarOrSchedule, b1: ArrayLike = 0.9, b2: ArrayLike | None = 0.999,
    eps: ArrayLike = 1e-12, weight_decay: optax.ScalarOrSchedule = 0.0, *,
    graft: Graft | None = "adam", graft_eps: ArrayLike = 1e-8, exponent: ArrayLike | None = None,
    every: int = 10, spread: bool = False, start: int | None = None,
    max_precond_dim: int = 10_000, matrices: Matrices = None, over: NamedSharding | None = None,
    otherwise: optax.GradientTransformation | None = None, mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """Shampoo: `scale_by_shampoo` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number; grafted from Adam, as large as Adam's.
      b1: β₁ in [0, 1).
      b2: β₂ in [0, 1); None for sums, as in the paper of 2018.
      eps: ε ≥ 0, added to every eigenvalue.
      weight_decay: λ, a number ≥ 0 or a schedule.
      graft, graft_eps, exponent: as in `scale_by_shampoo`.
      every, spread, start, max_precond_dim: as in `scale_by_shampoo`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for ``gdfx.adamw(learning_rate, b1,
        weight_decay=weight_decay)``.
      mu_dtype, over: as in `scale_by_shampoo`.

    Raises:
      TypeError, ValueError: as in `scale_by_shampoo`, for a bad learning rate or weight decay, and
        by ``init`` for leaves whose axes cannot be known.

    Purpose: a preconditioner for each axis of a matrix, near to full-matrix AdaGrad at a cost that
    is possible (Gupta et al. 2018); grafted, it takes the place of Adam with Adam's schedule
    (Shi et al. 2023).

    Reference: arXiv:1802.09568, Algorithm 1; arXiv:2309.06497, Algorithm 1.

    See also: `gdfx.soap`, which runs Adam in the factors' eigenbasis.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.array([[2.0, 1.0], [1.0, 2.0]])) ** 2)
    >>> tx, w = gdfx.shampoo(0.5, every=1, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    5.343
    2.524
    1.012
    """
    direction = scale_by_shampoo(
        b1, b2, eps, graft=graft, graft_eps=graft_eps, exponent=exponent, every=every,
        spread=spread, start=start, max_precond_dim=max_precond_dim, matrices=matrices,
        mu_dtype=mu_dtype, over=over,
    )  # fmt: skip
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    rest = otherwise or adamw(learning_rate, b1, weight_decay=weight_decay)
    return with_otherwise("shampoo", tx, rest, matrices)
