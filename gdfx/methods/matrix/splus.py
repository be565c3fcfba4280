"""SPlus: steps of equal size along all eigenvectors of Shampoo's factors.

Kevin Frans, Sergey Levine, Pieter Abbeel, "A Stable Whitening Optimizer for Efficient Neural
Network Training", 2025, arXiv:2506.07254; the authors' code, github.com/kvfrans/splus.
"""

from typing import NamedTuple

import jax
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core import spectral
from gdfx.core.arguments import checked
from gdfx.core.descend import chain, decayed, downhill
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, shared, when, with_otherwise
from gdfx.core.moments import accumulator, ema, saturate
from gdfx.methods.coordinate.sign import signum


class ScaleBySplusState(NamedTuple):
    """The state of `scale_by_splus`."""

    count: jax.Array
    """How many steps were done."""

    mu: optax.Params
    """m, of the parameter's shape, in its own axes."""

    left: optax.Params
    """L, of shape (rows, rows); (0, 0) where there are too many."""

    right: optax.Params
    """R, of shape (columns, columns), or (0, 0)."""

    left_basis: optax.Params
    """Q_L, of L's shape."""

    right_basis: optax.Params
    """Q_R, of R's shape."""


@checked
def scale_by_splus(
    b1: ArrayLike = 0.9, b2: ArrayLike = 0.999, *,
    every: int = 100, spread: bool = False, max_precond_dim: int = 10_000,
    matrices: Matrices = None, mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """The signs of the mean gradient along the eigenvectors of the means of g gᵀ and gᵀ g.

    ::

        (1) m ← β₁ m + (1 − β₁) g
        (2) u = Q_L sign(Q_Lᵀ m Q_R) Q_Rᵀ
        (3) L ← β₂ L + (1 − β₂) g gᵀ                R ← β₂ R + (1 − β₂) gᵀ g
        (4) in the first step and every few:  Q ← the eigenvectors, of L and of R

    Rows are outputs, columns are inputs. Q begins as the identity, so the first u is sign(g).

    Args:
      b1: β₁ in [0, 1).
      b2: β₂ in [0, 1).
      every: (4) is done in each step that is a multiple of this.
      spread: take turns in (4): of the matrices of one shape one in ``every`` each step, so that
        no step is slow.
      max_precond_dim: an axis that is longer has no basis: Q is the identity there.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m; L, R, Q_L and Q_R have at least float32.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: what of Q_Lᵀ m Q_R is nothing but rounding has the sign 0, where the authors' code
    steps as far along it as along anything else. They add 1e-30 to the diagonals of L and R, which
    changes no eigenvector.

    Reference: arXiv:2506.07254; github.com/kvfrans/splus.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), *spectral.factors(p, max_precond_dim)

    def rule(g, m, left, right, *bases, t, due):
        g = saturate(g)
        m = ema(m, g, b1)  # (1)
        g, along = shared(g, over), shared(m, over)
        signs = spectral.signs(spectral.in_bases(along, *bases))
        u = spectral.in_bases(signs, *(q.T for q in bases))  # (2)
        factors = jax.lax.stop_gradient(spectral.grams(g, left, right, b2, 1 - b2))  # (3)
        bases = when(due | (t == 1), lambda *_: spectral.eigenbases(*factors), *bases)  # (4)
        return u, m, *factors, *bases

    return per_matrix(
        ScaleBySplusState, init, rule, matrices=matrices, every=every, spread=spread, over=over
    )


@checked
def splus(
    learning_rate: optax.ScalarOrSchedule, b1: ArrayLike = 0.9, b2: ArrayLike = 0.999,
    weight_decay: optax.ScalarOrSchedule = 0.01, *,
    every: int = 100, spread: bool = False, max_precond_dim: int = 10_000,
    matrices: Matrices = None, otherwise: optax.GradientTransformation | None = None,
    mu_dtype: DTypeLike | None = None, over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """SPlus: `scale_by_splus` with weight decay, both by a matrix's shape.

    ::

        W ← W − η s (u + λ W)           s = 2 / (rows + columns)

    s is 0.001 where an axis is longer than ``max_precond_dim``. The authors evaluate a running mean
    of the weights, that of ``gdfx.averaged(gdfx.splus(...), decay=0.999)``.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number; about Adam's times twice the width, such as 0.2.
      b1: β₁ in [0, 1).
      b2: β₂ in [0, 1).
      weight_decay: λ, a number ≥ 0 or a schedule.
      every, spread, max_precond_dim: as in `scale_by_splus`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for `gdfx.signum` with β₁ and 0.001 η.
      mu_dtype, over: as in `scale_by_splus`.

    Raises:
      TypeError, ValueError: as in `scale_by_splus`, for a bad learning rate or weight decay, and by
        ``init`` for leaves whose axes cannot be known.

    Differs: as `scale_by_splus`. The authors' code decays the weight after the step,
    W ← (1 − η s λ)(W − η s u),  and with s = 0.001 what is no matrix, too.

    Purpose: Shampoo's steps with bases that are a hundred steps old, without its divergence
    (abstract of arXiv:2506.07254).

    Reference: arXiv:2506.07254; github.com/kvfrans/splus.

    See also: `gdfx.soap`, which scales along the same bases by a running mean of squares;
    `gdfx.averaged` and `gdfx.eval_params`.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.array([[2.0, 1.0], [1.0, 2.0]])) ** 2)
    >>> tx, w = gdfx.splus(1.0, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(4):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    5.000
    2.515
    1.025
    0.515
    """
    direction = scale_by_splus(
        b1, b2, every=every, spread=spread, max_precond_dim=max_precond_dim, matrices=matrices,
        mu_dtype=mu_dtype, over=over,
    )  # fmt: skip

    def by_shape(u):
        return u * (2 / sum(u.shape) if max(u.shape) <= max_precond_dim else 0.001)

    scale = per_matrix(optax.EmptyState, lambda p: (), by_shape, matrices=matrices)
    tx = chain(direction, decayed(weight_decay), scale, downhill(learning_rate))
    rest = otherwise or chain(signum(learning_rate, b1), optax.scale(0.001))
    return with_otherwise("splus", tx, rest, matrices)
