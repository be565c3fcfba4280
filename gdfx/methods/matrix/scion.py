"""Scion: steps to the far side of a ball, in a norm of each layer's own.

Thomas Pethick, Wanyun Xie, Kimon Antonakopoulos, Zhenyu Zhu, Antonio Silveti-Falls, Volkan Cevher,
"Training Deep Learning Models with Norm-Constrained LMOs", 2025, arXiv:2502.07529;
github.com/LIONS-EPFL/scion.
"""

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core import check
from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices, resolved
from gdfx.core.lift import per_leaf
from gdfx.core.matrix import per_matrix, shared, with_otherwise
from gdfx.core.moments import accumulator, ema, saturate
from gdfx.core.spectral import Norm, Orthogonalize, farthest


@checked
def scale_by_scion(
    decay: ArrayLike = 0.9,
    norm: Norm = "spectral",
    radius: ArrayLike = 50.0,
    *,
    nesterov: bool = False,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The matrix of a ball, in some norm, that lies farthest along the mean gradient.

    ::

        (1) m ← β m + (1 − β) g
        (2) d = m               with Nesterov's momentum  d = β m + (1 − β) g
        (3) u = ρ argmax ⟨d, X⟩  over  ‖X‖ ≤ 1:

        spectral    √(rows / columns) U Vᵀ             of  d = U Σ Vᵀ;  hidden matrices
        sign        sign(d) / columns                  heads, tied embeddings
        row         d / (‖row‖ √columns)               each row on its own;  heads
        column      d √rows / ‖column‖                 each column on its own;  first layers
        rms         d / √mean(d²)                      the whole matrix;  biases
        rmnp        √max(1, rows / columns) d / ‖row‖  each row on its own;  hidden matrices

    Rows are outputs, columns are inputs.

    Args:
      decay: β in [0, 1); the authors write α = 1 − β.
      norm: of the leaves that ``matrices`` finds, by name; ``"rmnp"`` is the row normalization of
        arXiv:2603.20527, which has β = 0.95, Nesterov's momentum and ρ = 1.
      radius: ρ > 0; the authors' GPT has 50 for hidden matrices and 3000 for its head.
      nesterov: look one step ahead in (2).
      orthogonalize, steps: how U Vᵀ is found, as in `scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      compute_dtype: the dtype of the iteration's products, such as bfloat16.
      mu_dtype: the dtype of m.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: the authors add 1e-7 or 1e-8 to the norms by which d is divided; here a row, column or
    matrix that is zero stays zero, and any other has its full length. Their ``normalized=False``
    is another radius: times columns for sign, times √columns for row; their ``normalized=True`` of
    column divides it by columns. Their factor of a convolution of k × k places is
    √(outputs / inputs) / k²; here each place has inputs of its own, and it is
    √(outputs / inputs) / k.

    Reference: arXiv:2502.07529; the norms as in the authors' scion.py.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype)

    def rule(g, m):
        g = saturate(g)
        m = ema(m, g, decay)  # (1)
        d = shared(ema(m, g, decay) if nesterov else m, over)  # (2)
        return farthest(d, norm, orthogonalize, steps, compute_dtype) * radius, m  # (3)

    return per_matrix(optax.TraceState, init, rule, matrices=matrices, over=over)


@checked
def scion(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    norm: Norm = "spectral",
    radius: ArrayLike = 50.0,
    weight_decay: optax.ScalarOrSchedule = 1.0,
    *,
    nesterov: bool = False,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Scion: `scale_by_scion`, then  W ← W − η (u + λ W),  on matrices of one norm.

    With λ = 1 no W that starts in the ball of radius ρ leaves it, while η ≤ 1 (with the iteration's
    factor, by no more than the 1.2 that its singular values reach); with λ = 0 there is no ball,
    which is the authors' unconstrained form. A matrix of another norm has a `scion` of its own,
    as ``otherwise`` of the first::

        def heads(path, x):
            return gdfx.MatrixAxes(inputs=0, outputs=1) if "head" in path else None

        last = gdfx.scion(rate, norm="sign", radius=3000.0, matrices=heads)
        tx = gdfx.scion(rate, radius=50.0, matrices="flax", otherwise=last)

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number; 2⁻¹² for the radii above, in the paper's GPT.
      decay: β in [0, 1); the authors write α = 1 − β.
      norm: of the leaves that ``matrices`` finds, by name; ``"rmnp"`` is the row normalization of
        arXiv:2603.20527, which has β = 0.95, Nesterov's momentum and ρ = 1.
      radius: ρ > 0; the authors' GPT has 50 for hidden matrices and 3000 for its head.
      weight_decay: λ, a number ≥ 0 or a schedule.
      nesterov: look one step ahead in (2).
      orthogonalize, steps: as in `scale_by_scion`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for the norm rms on each leaf, with the
        same η, β, ρ and λ, as the authors have it for biases; a leaf of two axes, as heads and
        embeddings are, is then asked about.
      compute_dtype, mu_dtype, over: as in `scale_by_scion`.

    Raises:
      TypeError, ValueError: as in `scale_by_scion`, for a bad learning rate or weight decay, and
        by ``init`` for leaves whose axes cannot be known, and for a leaf of two axes that is no
        matrix, where ``otherwise`` is not given.

    Differs: as `scale_by_scion`. The authors draw new parameters on the ball; here parameters start
    where they are.

    Purpose: steps whose size is a layer's own, so that learning rates carry over to wider
    networks, from matrices to embeddings (arXiv:2502.07529).

    Reference: arXiv:2502.07529; for ``"rmnp"`` arXiv:2603.20527.

    See also: `gdfx.muon`; `gdfx.layout`.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(params):
    ...     return jnp.sum((params["w"] - jnp.eye(2)) ** 2) + jnp.sum(params["b"] ** 2)
    >>> tx = gdfx.scion(0.5, radius=2.0, matrices="2d")
    >>> params = {"w": jnp.zeros((2, 2)), "b": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(params), state, params)
    ...     params = optax.apply_updates(params, updates)
    ...     print(f"{loss(params):.3f}")
    0.523
    4.002
    2.045
    """
    direction = scale_by_scion(
        decay,
        norm,
        radius,
        nesterov=nesterov,
        orthogonalize=orthogonalize,
        steps=steps,
        matrices=matrices,
        compute_dtype=compute_dtype,
        mu_dtype=mu_dtype,
        over=over,
    )
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    if otherwise is not None:
        return with_otherwise("scion", tx, otherwise, matrices)
    vectors = _of_vectors(decay, radius, nesterov, mu_dtype)
    rest = with_rate(vectors, learning_rate, weight_decay=weight_decay)
    both = with_otherwise("scion", tx, rest, matrices)

    def init(params):
        _refuse_unnamed(matrices, params)
        return both.init(params)

    return both._replace(init=init)


def _refuse_unnamed(matrices: Matrices, params: optax.Params) -> None:
    """Refuse a leaf of two axes that is no matrix: a head or an embedding, whose norm is asked."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for (path, p), place in zip(leaves, resolved("scion", matrices, params), strict=True):
        if place is None and np.ndim(p) == 2:
            raise ValueError(
                f"scion: {check.at(path)} of shape {np.shape(p)} is no matrix by the given "
                "matrices, and nothing says its norm; give otherwise=, such as "
                "gdfx.scion(..., norm='sign', matrices=...)"
            )


def _of_vectors(decay, radius, nesterov, mu_dtype):
    """The same of leaves that are no matrices: each is one column."""

    def init(p):
        return accumulator(p, dtype=mu_dtype)

    def rule(g, m):
        g = saturate(g)
        m = ema(m, g, decay)
        d = ema(m, g, decay) if nesterov else m
        return radius * farthest(d.reshape(-1, 1), "rms").reshape(g.shape), m

    return per_leaf(optax.TraceState, init, rule)
