"""PSGD Kron: gradients whitened by a Kronecker product that is learned by gradient descent.

Xi-Lin Li, "Preconditioned stochastic gradient descent", 2015, arXiv:1512.04202, and "Stochastic
Hessian fittings with Lie groups", 2024, arXiv:2402.11858; Evan Walters' kron_torch,
github.com/evanatyourself/kron_torch.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import (
    POSITIVE,
    Choice,
    Count,
    Flag,
    Function,
    Key,
    Number,
    Optional,
    checked,
)
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, shared, when, with_otherwise
from gdfx.core.moments import accumulator, divisor, ema, one_minus_power, rms, saturate
from gdfx.core.spectral import HIGHEST, norm_bound
from gdfx.methods.coordinate.adam import adamw

MemorySaveMode = Literal["smart_one_diag", "one_diag", "all_diag"]
"""Which sides have a diagonal in place of a triangle."""

Draw = Callable[..., jax.Array]
"""``draw(key, shape, dtype)``: random numbers of mean 0 and variance 1."""

_ARGUMENTS: Any = {
    "preconditioner_update_probability": Optional(
        Number("in (0, 1]", lambda x: 0 < x <= 1, schedule=True)
    ),
    "max_size_triangular": Count(),
    "memory_save_mode": Optional(Choice("smart_one_diag", "one_diag", "all_diag")),
    "momentum_into_precond_update": Flag(),
    "precond_lr": Number("in (0, 1)", lambda x: 0 < x < 1),
    "precond_init_scale": POSITIVE,
    "key": Key(seeds=True),
    "draw": Function("a function of (key, shape, dtype), as jax.random.normal is"),
}

_DAMPING = float(np.finfo(np.float32).eps) ** 0.5


class ScaleByKronState(NamedTuple):
    """The state of `scale_by_kron`."""

    count: jax.Array
    """How many steps were done."""

    since: jax.Array
    """How many of them since Q last learned."""

    key: jax.Array
    """The bits of the next step's random key, uint16."""

    mu: optax.Params
    """m, of the parameter's shape."""

    left: optax.Params
    """Q_L, of shape (rows, rows), upper triangular; (rows,) where it is diagonal."""

    right: optax.Params
    """Q_R, of shape (columns, columns), or (columns,)."""


@checked(**_ARGUMENTS)
def scale_by_kron(
    b1: ArrayLike = 0.9,
    *,
    preconditioner_update_probability: optax.ScalarOrSchedule | None = None,
    max_size_triangular: int = 8192,
    memory_save_mode: MemorySaveMode | None = None,
    momentum_into_precond_update: bool = True,
    precond_lr: ArrayLike = 0.1,
    precond_init_scale: ArrayLike = 1.0,
    key: ArrayLike = 0,
    draw: Draw = jax.random.normal,
    matrices: Matrices = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The mean gradient, whitened on both sides:  Q_Lᵀ Q_L m̂ Q_Rᵀ Q_R.

    ::

        (1) m ← β₁ m + (1 − β₁) g               m̂ = m / (1 − β₁ᵗ)
        (2) as often as p says, for Q = Q_L, and with A, B transposed for Q_R:
            x = m̂ + √ε mean(|m̂|) V              V ~ N(0, 1),  ε = 2⁻²³
            A = Q_L x Q_Rᵀ                      B = Q_L⁻ᵀ V Q_R⁻¹
            Q ← Q − μ triu(A Aᵀ − B Bᵀ) Q / ‖A Aᵀ + B Bᵀ‖
            diagonal Q: the diagonals alone, and for the norm the largest number
        (3) Q_L and Q_R are multiplied by c and 1/c, so that their largest numbers are equal
        (4) d = Q_Lᵀ Q_L m̂ Q_Rᵀ Q_R
        (5) u = d min(1, 1.1 / rms(d))

    The norm is a lower bound of the spectral norm, by one step of power iteration. Rows are
    outputs, columns are inputs.

    Args:
      b1: β₁ in [0, 1).
      preconditioner_update_probability: p in (0, 1], or a schedule: a function from the number of
        steps done so far (0 at the first) to p. (2) is done when 1 / p steps have passed since it
        was last done. None for  p = max(0.03, min(1, exp(−0.001 (steps − 500)))).
      max_size_triangular: a longer axis has a diagonal Q, and so has one of length 1.
      memory_save_mode: None; ``"one_diag"``: Q is diagonal for the longer axis, the columns if
        they are equal; ``"smart_one_diag"``: for the longer axis, if one is; ``"all_diag"``: for
        both.
      momentum_into_precond_update: whether x in (2) is of m̂; else it is of g.
      precond_lr: μ in (0, 1).
      precond_init_scale: s > 0; both Q are √s times the identity at first.
      key: the random key of V, as `jax.random.key(0)`, or its seed.
      draw: how V is drawn: a function of (key, shape, dtype). It is drawn in float32.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      mu_dtype: the dtype of m; both Q have at least float32.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        that are no matrices and for trees that do not belong together.

    Differs: kron_torch does (3) at random, once in 100 times; it changes no step but by rounding.
    It adds V to m̂ in place, so that the step is along x whenever (2) was done; here it is along
    m̂. Where all of x is 0 its Q grows by the factor 1 + μ each time, until it overflows; here Q
    stays. It adds 1e-12 to the rms, and solves for B in float32. A convolution's kernel is one
    matrix by its axes; kron_torch takes the last axis for the columns.

    Reference: arXiv:2402.11858, section on Kronecker products; kron_torch 0.3.3.
    """
    key = jax.random.key(key) if isinstance(key, int) else key
    given = preconditioner_update_probability
    chance = _annealed if given is None else given

    def init(p):
        diagonal = _diagonal(p.shape, max_size_triangular, memory_save_mode)
        start = jnp.sqrt(precond_init_scale)
        ones = [accumulator(jax.ShapeDtypeStruct((n,), p.dtype), start) for n in p.shape]
        sides = [q if flat else jnp.diag(q) for q, flat in zip(ones, diagonal, strict=True)]
        return accumulator(p, dtype=mu_dtype), *sides

    def scalars(t, since):
        since = since + 1
        learns = since >= 1 / (chance(t - 1) if callable(chance) else chance)
        since = jnp.where(learns, 0, since)
        return {"c": one_minus_power(b1, t), "learns": learns, "since": since}

    def rule(g, m, left, right, *, key, c, learns):
        g = saturate(g)
        m = ema(m, g, b1)  # (1)
        whole = shared(m, over)
        x = whole / c if momentum_into_precond_update else shared(g, over)

        def learned(left, right):
            v = draw(key, x.shape, jnp.float32).astype(x.dtype)
            noisy = x + _DAMPING * jnp.mean(abs(x)) * v
            a = _times(right, _times(left, noisy).T).T
            b = _solved(right, _solved(left, v).T).T
            size = divisor(jnp.maximum(jnp.max(abs(a)), jnp.max(abs(b))))
            a, b = a / size, b / size
            rate = precond_lr * jnp.any(x != 0)
            left, right = _nearer(left, a, b, rate), _nearer(right, a.T, b.T, rate)  # (2)
            ratio = jnp.sqrt(jnp.max(abs(right)) / jnp.max(abs(left)))
            return left * ratio, right / ratio  # (3)

        left, right = when(learns, learned, left, right)
        # Of m, not of m / c: the compiler makes one divisor of two, and that underflows at 0.
        three = whole, left, right
        sizes = [divisor(jnp.max(abs(y))) for y in three]
        y, q_left, q_right = (y / size for y, size in zip(three, sizes, strict=True))
        d = _times(q_left.T, _times(q_left, y))
        d = _times(q_right.T, _times(q_right, d.T)).T  # (4), but for its size, which may overflow
        size = sizes[0] / c * sizes[1] * sizes[2] * sizes[1] * sizes[2]
        return d * jnp.minimum(size, 1.1 / rms(d)), m, left, right  # (5)

    return per_matrix(
        ScaleByKronState, init, rule, scalars=scalars, numbers={"since": np.int32(0)}, key=key,
        matrices=matrices, over=over,
    )  # fmt: skip


def _annealed(steps: jax.Array) -> jax.Array:
    """The chance that Q learns: 1 for 500 steps, 0.03 from about step 4000 on."""
    return jnp.clip(jnp.exp(-0.001 * (steps - 500.0)), 0.03, 1.0)


def _diagonal(
    shape: tuple[int, ...], longest: int, mode: MemorySaveMode | None
) -> tuple[bool, bool]:
    """Whether Q is diagonal for the rows, and for the columns."""
    rows, columns = shape
    first = mode == "all_diag" or (mode is not None and rows > columns)
    second = mode == "all_diag" or (mode is not None and columns > rows)
    second = second or (mode == "one_diag" and rows == columns)
    return first or not 1 < rows <= longest, second or not 1 < columns <= longest


def _times(q: jax.Array, x: jax.Array) -> jax.Array:
    """Q X, of a matrix or of a diagonal."""
    return q[:, None] * x if q.ndim == 1 else jnp.matmul(q, x, precision=HIGHEST)


def _solved(q: jax.Array, x: jax.Array) -> jax.Array:
    """Q⁻ᵀ X, of an upper triangle or of a diagonal."""
    if q.ndim == 1:
        return x / q[:, None]
    return jax.scipy.linalg.solve_triangular(q, x, trans=1)


def _nearer(q: jax.Array, a: jax.Array, b: jax.Array, rate: ArrayLike) -> jax.Array:
    """Q after one step towards  A Aᵀ = B Bᵀ."""
    if q.ndim == 1:
        aa, bb = jnp.sum(a * a, 1), jnp.sum(b * b, 1)
        return q - rate * (aa - bb) / jnp.max(aa + bb) * q
    aa, bb = (jnp.matmul(x, x.T, precision=HIGHEST) for x in (a, b))
    return q - _times(jnp.triu(aa - bb) * (rate / norm_bound(aa + bb)), q)


@checked(**_ARGUMENTS)
def kron(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    preconditioner_update_probability: optax.ScalarOrSchedule | None = None,
    max_size_triangular: int = 8192,
    memory_save_mode: MemorySaveMode | None = None,
    momentum_into_precond_update: bool = True,
    precond_lr: ArrayLike = 0.1,
    precond_init_scale: ArrayLike = 1.0,
    key: ArrayLike = 0,
    draw: Draw = jax.random.normal,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    mu_dtype: DTypeLike | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PSGD Kron: `scale_by_kron` with weight decay,  W ← W − η (u + λ W), on matrices alone.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number. kron_torch takes 3e-4.
      b1: β₁ in [0, 1).
      weight_decay: λ, a number ≥ 0 or a schedule.
      preconditioner_update_probability, max_size_triangular: as in `scale_by_kron`.
      memory_save_mode, momentum_into_precond_update: as in `scale_by_kron`.
      precond_lr, precond_init_scale, key, draw: as in `scale_by_kron`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. Without it, a leaf of two axes or more is
        asked about.
      otherwise: the optimizer of all other leaves; None for ``gdfx.adamw(learning_rate, b1,
        weight_decay=0)``.
      mu_dtype, over: as in `scale_by_kron`.

    Raises:
      TypeError, ValueError: as in `scale_by_kron`, for a bad learning rate or weight decay, and by
        ``init`` for leaves whose axes cannot be known.

    Differs: kron_torch gives a vector a diagonal Q; here ``otherwise`` moves it. Neither decays
    vectors.

    Purpose: Shampoo's preconditioner without roots or eigenvectors: triangles that follow the
    gradient by products and triangular solves (arXiv:2402.11858).

    Reference: arXiv:2402.11858; kron_torch 0.3.3.

    See also: `gdfx.muon`, whose u is white too, from one momentum alone.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - jnp.array([[2.0, 1.0], [1.0, 2.0]])) ** 2)
    >>> tx, w = gdfx.kron(0.5, matrices="2d"), jnp.zeros((2, 2))
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.2f}")
    4.26
    0.97
    0.09
    """
    direction = scale_by_kron(
        b1,
        preconditioner_update_probability=preconditioner_update_probability,
        max_size_triangular=max_size_triangular,
        memory_save_mode=memory_save_mode,
        momentum_into_precond_update=momentum_into_precond_update,
        precond_lr=precond_lr,
        precond_init_scale=precond_init_scale,
        key=key,
        draw=draw,
        matrices=matrices,
        mu_dtype=mu_dtype,
        over=over,
    )
    tx = with_rate(direction, learning_rate, weight_decay=weight_decay)
    rest = otherwise or adamw(learning_rate, b1, weight_decay=0.0)
    return with_otherwise("kron", tx, rest, matrices)
