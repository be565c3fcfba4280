"""Muon: momentum whose matrix is made orthogonal.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
github.com/KellerJordan/Muon; Jingyuan Liu et al., "Muon is Scalable for LLM Training", 2025,
arXiv:2502.16982, Algorithm 2.
"""

import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, shared, with_otherwise
from gdfx.core.moments import accumulator, ema, saturate
from gdfx.core.spectral import Orthogonalize, Scale, orthogonal_factor, shape_factor
from gdfx.methods.coordinate.adam import adamw


@checked
def scale_by_muon(
    decay: ArrayLike = 0.95,
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
    """The orthogonal factor of the running mean of a matrix's gradient.

    ::

        (1) m ← β m + (1 − β) g
        (2) d = m               with Nesterov's momentum  d = β m + (1 − β) g
        (3) u = s · U Vᵀ        of  d = U Σ Vᵀ,  found nearly, by iteration
            moonlight           s = 0.2 √max(rows, columns): a mean square of 0.2²
            jordan              s = √max(1, rows / columns)
            spectral            s = √(rows / columns)

    Rows are outputs, columns are inputs.

    Args:
      decay: β in [0, 1).
      scale: s, by name; None for 1. Moonlight's is the same whichever axis is which, and its
        steps are of AdamW's size.
      nesterov: look one step ahead in (2).
      orthogonalize: how U Vᵀ is found: ``"quintic"``, five steps of a polynomial that leaves the
        singular values within 0.7 and 1.2; ``"polar_express"``, whose steps differ and come
        nearer; ``"exact"``, by the singular value decomposition, on a CPU half as dear again as the
        others and on accelerators far dearer; or coefficients (a, b, c), one triple or one a step.
      steps: of the iteration.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      compute_dtype: the dtype of the iteration's products, such as bfloat16; the norm before it
        is taken in at least float32.
      mu_dtype: the dtype of m.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: Moonlight's m ← β m + g is 1 / (1 − β) times this, and U Vᵀ is the same. The
    authors add 1e-7 to the norm by which d is divided, which changes the step where ‖d‖ is near
    that; here d is divided by its norm, and a zero matrix stays zero. optax.contrib.muon
    divides m and g by bias corrections of different steps, which turns the direction: by 10 % in
    the second step. The products are of d's dtype, at least float32; the authors' bfloat16.

    Reference: Jordan et al. 2024; arXiv:2502.16982, Algorithm 2.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype)

    def rule(g, m):
        g = saturate(g)
        m = ema(m, g, decay)  # (1)
        d = ema(m, g, decay) if nesterov else m  # (2)
        u = orthogonal_factor(shared(d, over), orthogonalize, steps, compute_dtype)
        return shape_factor(scale, *g.shape) * u, m  # (3)

    return per_matrix(optax.TraceState, init, rule, matrices=matrices, over=over)


@checked
def muon(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.95,
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
    """Muon: `scale_by_muon` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      decay: β in [0, 1).
      scale: s, by name; None for 1. Moonlight's is the same whichever axis is which, and its
        steps are of AdamW's size.
      weight_decay: λ, a number ≥ 0 or a schedule; the authors take 0, Moonlight 0.1.
      nesterov: look one step ahead in (2).
      orthogonalize, steps: as in `scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for ``gdfx.adamw(learning_rate, b1=0.9,
        b2=0.95, weight_decay=weight_decay)``, as Moonlight has it. With another ``scale``, whose
        steps are not of AdamW's size, give one with a learning rate of its own.
      compute_dtype, mu_dtype, over: as in `scale_by_muon`.

    Raises:
      TypeError, ValueError: as in `scale_by_muon`, for a bad learning rate or weight decay, and by
        ``init`` for leaves whose axes cannot be known.

    Purpose: the hidden matrices of a network, whose updates then use all directions alike
    (Jordan et al. 2024).

    Reference: arXiv:2502.16982, Algorithm 2; Jordan et al. 2024.

    See also: `gdfx.layout`; `gdfx.per_matrix`, for methods of one's own.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(params):
    ...     return jnp.sum((params["w"] - jnp.eye(2)) ** 2) + jnp.sum(params["b"] ** 2)
    >>> tx = gdfx.muon(0.5, matrices="2d")
    >>> params = {"w": jnp.zeros((2, 2)), "b": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(params), state, params)
    ...     params = optax.apply_updates(params, updates)
    ...     print(f"{loss(params):.3f}")
    1.922
    0.945
    0.801
    """
    direction = scale_by_muon(
        decay,
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
    return with_otherwise("muon", tx, rest, matrices)
