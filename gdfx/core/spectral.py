"""Words for matrices: orthogonal factors, roots and bases, in at least float32."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.moments import abs_sq, accumulator, divisor, root

HIGHEST = jax.lax.Precision.HIGHEST

Triple = tuple[float, float, float]

QUINTIC: tuple[Triple, ...] = ((3.4445, -4.7750, 2.0315),)
"""Keller Jordan's coefficients, the same in every step: singular values end within .7 and 1.2."""

POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Amsel et al. 2025, arXiv:2505.16932: best for five steps, for singular values down to 1e-3."""

Scale = Literal["moonlight", "jordan", "spectral"]
"""How a step is scaled by a matrix's shape: see `shape_factor`."""

Norm = Literal["spectral", "sign", "row", "column", "rms", "rmnp"]
"""The norm of a ball: see `farthest`."""

Orthogonalize = str | Sequence[float] | Sequence[Triple]
"""``"quintic"``, ``"polar_express"``, ``"exact"``, one triple of coefficients or one a step."""


def orthogonal_factor(
    x: jax.Array,
    how: Orthogonalize = "quintic",
    steps: int = 5,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """The orthogonal factor U Vᵀ of a matrix  x = U Σ Vᵀ, or near it.

    ::

        X ← x / ‖x‖                                 polar_express: / 1.02
        X ← a X + (b A + c A²) X,   A = X Xᵀ        each singular value σ → a σ + b σ³ + c σ⁵

    A zero matrix stays zero, and what is not finite makes the whole matrix NaN.

    Args:
      x: one matrix, of any shape.
      how: the coefficients: a word, one triple, or one a step; ``"exact"`` takes the singular
        value decomposition.
      steps: how many; where there are fewer triples, the last is used again.
      dtype: in which the products are formed, as bfloat16; the norm is taken in x's.
    """
    unit = normalized(x)
    if isinstance(how, str) and how == "exact":
        return _polar(unit.T).T if x.shape[0] > x.shape[1] else _polar(unit)
    return newton_schulz(
        unit / 1.02 if how == "polar_express" else unit, _triples(how, steps), dtype
    )


def newton_schulz(
    x: jax.Array, triples: Sequence[Triple], dtype: DTypeLike | None = None
) -> jax.Array:
    """Of a matrix of norm ≤ 1, a step  X ← a X + (b A + c A²) X,  A = X Xᵀ,  for each triple.

    Args:
      x: one matrix, of any shape; of a tall one A = Xᵀ X, which is smaller.
      triples: (a, b, c) of each step.
      dtype: in which the products are formed.
    """
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T, triples, dtype).T
    y = x.astype(dtype or x.dtype)
    # A loop, so that one step is compiled and not all of them: they are most of what Muon compiles.
    y, _ = jax.lax.scan(_quintic_step, y, jnp.asarray(triples, y.dtype))
    return y.astype(x.dtype)


def _quintic_step(x: jax.Array, triple: jax.Array) -> tuple[jax.Array, None]:
    a, b, c = triple
    gram = x @ x.T
    return (a * jnp.eye(len(x), dtype=x.dtype) + b * gram + c * (gram @ gram)) @ x, None


def shape_factor(scale: Scale | None, rows: int, columns: int) -> float:
    """How long a step of a matrix is made, by its shape.

    ``moonlight``: 0.2 √max(rows, columns); ``jordan``: √max(1, rows / columns); ``spectral``:
    √(rows / columns); None: 1.
    """
    if scale == "moonlight":
        return 0.2 * max(rows, columns) ** 0.5
    if scale == "jordan":
        return max(1.0, rows / columns) ** 0.5
    return (rows / columns) ** 0.5 if scale == "spectral" else 1.0


def farthest(
    x: jax.Array,
    norm: Norm,
    how: Orthogonalize = "quintic",
    steps: int = 5,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """The matrix of the unit ball of a norm that lies farthest along x: 0 at 0.

    ============ ====================================== ====================================
    ``spectral`` √(rows / columns) U Vᵀ                 of  x = U Σ Vᵀ
    ``sign``     sign(x) / columns
    ``row``      x / (‖row‖ √columns)                   each row on its own
    ``column``   x √rows / ‖column‖                     each column on its own
    ``rms``      x / √mean(x²)                          the whole
    ``rmnp``     √max(1, rows / columns) x / ‖row‖      each row on its own
    ============ ====================================== ====================================

    Args:
      x: one matrix, of any shape.
      norm: by name.
      how, steps, dtype: how U Vᵀ is found, as in `orthogonal_factor`.
    """
    rows, columns = x.shape
    if norm == "spectral":
        return shape_factor("spectral", rows, columns) * orthogonal_factor(x, how, steps, dtype)
    if norm == "sign":
        return jnp.sign(x) / columns
    if norm == "row":
        return normalized(x, 1) / columns**0.5
    if norm == "column":
        return normalized(x, 0) * rows**0.5
    if norm == "rms":
        return normalized(x) * x.size**0.5
    return shape_factor("jordan", rows, columns) * normalized(x, 1)


def _triples(how: Orthogonalize, steps: int) -> list[Triple]:
    named = {"quintic": QUINTIC, "polar_express": POLAR_EXPRESS}
    given: Any = named[how] if isinstance(how, str) else how
    triples = [given] if isinstance(given[0], int | float) else list(given)
    return [triples[min(i, len(triples) - 1)] for i in range(steps)]


def normalized(x: jax.Array, axis: int | None = None) -> jax.Array:
    """X / ‖x‖ of the whole, or along an axis, of numbers of any size: 0 at 0."""
    largest = jnp.max(abs(x), axis, keepdims=True, initial=0)
    # At 0 the divisor is 1, so that the derivative is finite and no product of it overflows.
    x = x / jnp.where(largest < jnp.finfo(x.dtype).smallest_normal, 1, largest)
    total = jnp.sum(abs_sq(x), axis, keepdims=True)
    return x / jnp.sqrt(jnp.where(total == 0, 1, total))


@jax.custom_jvp
def _polar(x: jax.Array) -> jax.Array:
    """U Vᵀ of a wide matrix of norm 1, without the directions that rounding has made."""
    u, s, vt = _decomposed(x)
    return (u * (s > 0)) @ vt


@_polar.defjvp
def _polar_jvp(primals, tangents):
    """Finite where singular values are equal, as the derivatives of U and V are not.

    Between two directions  d(U Vᵀ) = U (P − Pᵀ)ᵢⱼ / (σᵢ + σⱼ) Vᵀ,  P = Uᵀ dX V;  between one and
    the space that no direction spans, Pᵢⱼ / σᵢ.
    """
    (x,), (dx,) = primals, tangents
    u, s, vt = _decomposed(x)
    kept = (s > 0).astype(x.dtype)
    p = u.T @ dx @ vt.T
    both = kept[:, None] * kept
    sums = s[:, None] + s
    inside = jnp.where(sums > 0, (p - both * p.T) / divisor(sums), 0)
    beyond = u.T @ dx - p @ vt
    outside = beyond * jnp.where(s > 0, 1 / divisor(s), 0)[:, None]
    return (u * kept) @ vt, u @ (inside @ vt + outside)


def _decomposed(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, Σ and Vᵀ; what is rounding of Σ is 0."""
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    noise = max(x.shape) * jnp.finfo(x.dtype).eps * s[0]
    return u, jnp.where(s > noise, s, 0 * s), vt


def leading_vectors(x: jax.Array, rank: int) -> jax.Array:
    """The left singular vectors of the largest singular values, as columns.

    Of each the largest number is above 0. Where the singular value is rounding, it is 0.
    """
    u, s, _ = _decomposed(x)
    u, s = u[:, :rank], s[:rank]
    largest = jnp.take_along_axis(u, jnp.argmax(abs(u), axis=0)[None], axis=0)
    return jnp.where(s > 0, u * jnp.sign(largest), 0 * u)


def eigenbasis(c: jax.Array) -> jax.Array:
    """The eigenvectors of a symmetric matrix, those of the largest eigenvalues first."""
    _, q = jnp.linalg.eigh(c / divisor(jnp.max(abs(c), initial=0)))
    return q[:, ::-1]


def turned_basis(c: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A basis nearer to the eigenvectors of c: one step of power iteration, and QR.

    ::

        order = argsort(−diag(Qᵀ C Q))
        Q ← qr(C Q[:, order])

    Returns:
      The basis, and the order in which the columns of the old one stand in it.
    """
    cq = jnp.matmul(c / divisor(jnp.max(abs(c), initial=0)), q, precision=HIGHEST)
    order = jnp.argsort(-jnp.sum(q * cq, 0), stable=True)
    return jnp.linalg.qr(cq[:, order])[0], order


def outer(x: jax.Array) -> jax.Array:
    """X Xᵀ, to all digits of its dtype on accelerators too."""
    return jnp.matmul(x, x.T, precision=HIGHEST)


def factors(p: jax.ShapeDtypeStruct, longest: int) -> list[jax.Array]:
    """L and R at the start, and the identity for each; of shape (0, 0) for an axis too long."""
    sizes = [n if n <= longest else 0 for n in p.shape]
    empty = [accumulator(jax.ShapeDtypeStruct((n, n), p.dtype)) for n in sizes]
    return [*empty, *(jnp.eye(len(c), dtype=c.dtype) for c in empty)]


def grams(
    g: jax.Array, left: jax.Array, right: jax.Array, b: ArrayLike, new: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """The factors  b L + new · G Gᵀ  and  b R + new · Gᵀ G;  one of shape (0, 0) stays that."""
    left = left * b + outer(g) * new if left.size else left
    return left, right * b + outer(g.T) * new if right.size else right


def in_bases(x: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """Q_Lᵀ X Q_R;  a basis of shape (0, 0) leaves its side as it is."""
    x = left.T @ x if left.size else x
    return x @ right if right.size else x


def signs(x: jax.Array) -> jax.Array:
    """The sign of each number of a matrix; 0 of what is but the rounding of others."""
    noise = max(x.shape) * jnp.finfo(x.dtype).eps * jnp.max(abs(x), initial=0)
    return jnp.where(abs(x) > noise, jnp.sign(x), 0 * x)


def eigenbases(left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`eigenbasis` of each factor; that of shape (0, 0) has one of that shape."""
    return eigenbasis(left) if left.size else left, eigenbasis(right) if right.size else right


def turned_bases(
    left: jax.Array, right: jax.Array, v: jax.Array, q_left: jax.Array, q_right: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`turned_basis` of each factor, and first what is held along the bases, in their order."""
    if left.size:
        q_left, order = turned_basis(left, q_left)
        v = v[order]
    if right.size:
        q_right, order = turned_basis(right, q_right)
        v = v[:, order]
    return v, q_left, q_right


def inverse_root(c: jax.Array, exponent: ArrayLike, eps: ArrayLike) -> jax.Array:
    """C to the power −e, of a symmetric matrix whose eigenvalues λ are held above zero.

    ::

        λ ← λ − min(λ_min, 0) + ε               C^(−e) = Q λ^(−e) Qᵀ

    Args:
      c: a symmetric matrix with no eigenvalue below zero but by rounding.
      exponent: e > 0.
      eps: ε ≥ 0.
    """
    values, q = jnp.linalg.eigh(c)
    values = divisor(values - jnp.minimum(values[0], 0), eps)
    return jnp.matmul(q / values**exponent, q.T, precision=HIGHEST)


def norm_bound(c: jax.Array) -> jax.Array:
    """At most the norm of a symmetric matrix with no eigenvalue below zero, and near it.

    ::

        x = C's longest column                  ‖C x̂‖,   x̂ = C x / ‖C x‖

    It is at least as large as every number of C.
    """
    x = c[:, jnp.argmax(jnp.sum(c * c, 0))]
    x = jnp.matmul(x, c, precision=HIGHEST)
    x = jnp.matmul(c, x / root(jnp.sum(x * x)), precision=HIGHEST)
    return root(jnp.sum(x * x))


def inverse_roots(
    left: jax.Array, right: jax.Array, c: ArrayLike, exponent: ArrayLike | None, eps: ArrayLike
) -> tuple[jax.Array, ...]:
    """`inverse_root` of L / c and R / c, if not empty; None: e = 1 / (2 k), for k of them."""
    sides = max(bool(left.size) + bool(right.size), 1)
    e = 1 / (2 * sides) if exponent is None else exponent
    return tuple(inverse_root(x / c, e, eps) if x.size else x for x in (left, right))
