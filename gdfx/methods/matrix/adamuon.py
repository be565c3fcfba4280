"""AdaMuon: Muon with a second moment of each number of the orthogonal factor.

Chongjie Si, Debing Zhang, Wei Shen, "AdaMuon: Adaptive Muon Optimizer", 2025, arXiv:2507.11005,
Algorithm 1.
"""

from typing import NamedTuple

import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, returned, shared, with_otherwise
from gdfx.core.moments import accumulator, ema, rms, root, saturate, sign
from gdfx.core.spectral import Orthogonalize, orthogonal_factor
from gdfx.methods.coordinate.adam import adamw


class ScaleByAdamuonState(NamedTuple):
    """The state of `scale_by_adamuon`."""

    trace: optax.Params
    """m, of the parameter's shape."""

    squares: optax.Params
    """v, of the parameter's shape."""


@checked
def scale_by_adamuon(
    decay: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8,
    *,
    nesterov: bool = True,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon's direction of signs, divided by its running root mean square.

    ::

        (1) m ← β m + (1 − β) g
        (2) d = m               with Nesterov's momentum  d = β m + (1 − β) g
        (3) o = U Vᵀ            of  sign(d) = U Σ Vᵀ,  found nearly, by iteration
        (4) v ← β v + (1 − β) o²
        (5) n = o / (√v + ε)
        (6) u = 0.2 n / rms(n)

    Args:
      decay: β in [0, 1), of both means.
      eps: ε ≥ 0; o has a root mean square of at most 1.
      nesterov: look one step ahead in (2).
      orthogonalize, steps, compute_dtype, over: as in `gdfx.scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m.
      nu_dtype: the dtype of v.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_muon`.

    Differs: the authors add 1e-8 to ‖n‖; here a zero matrix stays zero.

    Reference: arXiv:2507.11005, Algorithm 1.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, dtype=nu_dtype)

    def rule(g, m, v):
        g = saturate(g)
        m = ema(m, g, decay)  # (1)
        d = ema(m, g, decay) if nesterov else m  # (2)
        d = shared(sign(d), over)
        o = returned(orthogonal_factor(d, orthogonalize, steps, compute_dtype), over)  # (3)
        v = ema(v, o * o, decay)  # (4)
        n = o / root(v, 0.0, eps)  # (5)
        return 0.2 * n / rms(n), m, v  # (6)

    return per_matrix(ScaleByAdamuonState, init, rule, matrices=matrices, over=over)


@checked
def adamuon(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    nesterov: bool = True,
    orthogonalize: Orthogonalize = "quintic",
    steps: int = 5,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    compute_dtype: DTypeLike | None = None,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaMuon: `scale_by_adamuon` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      decay: β in [0, 1), of both means.
      eps: ε ≥ 0; o has a root mean square of at most 1.
      weight_decay: λ, a number ≥ 0 or a schedule.
      nesterov: look one step ahead in (2).
      orthogonalize, steps, compute_dtype, over: as in `gdfx.scale_by_muon`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves, as in `gdfx.muon`.
      mu_dtype: the dtype of m.
      nu_dtype: the dtype of v.

    Raises:
      TypeError, ValueError: as in `gdfx.muon`.

    Purpose: Muon with step sizes for each number, as Adam has them, and its steps of AdamW's size
    (abstract of arXiv:2507.11005).

    See also: `gdfx.muon`; `gdfx.normuon`, with a second moment for each row.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.eye(2)) ** 2)
    >>> tx, w = gdfx.adamuon(0.5, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    1.474
    1.029
    0.663
    """
    direction = scale_by_adamuon(
        decay,
        eps,
        nesterov=nesterov,
        orthogonalize=orthogonalize,
        steps=steps,
        matrices=matrices,
        compute_dtype=compute_dtype,
        mu_dtype=mu_dtype,
        nu_dtype=nu_dtype,
        over=over,
    )
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    rest = otherwise or adamw(learning_rate, 0.9, 0.95, weight_decay=weight_decay)
    return with_otherwise("adamuon", tx, rest, matrices)
