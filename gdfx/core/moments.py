"""Running moments and the numerics around them: the one place that knows them.

Bias correction, epsilon, accumulator dtypes and safe roots live here, so
that a method inherits numerics that hold in every dtype, at a zero gradient, and under
differentiation.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.precision import as_array, is_double, narrow, wide


def accumulator(
    p: ArrayLike | jax.ShapeDtypeStruct,
    fill: ArrayLike = 0.0,
    dtype: DTypeLike | None = None,
    *,
    real: bool = False,
    copies: int | None = None,
) -> jax.Array:
    """An array of the parameter's shape, sharding and memory kind, filled with one value.

    Args:
      p: the parameter, of any shape and any floating or complex dtype, or its shape alone
        (`jax.ShapeDtypeStruct`).
      fill: the value of every element.
      dtype: a real dtype; the default is the precision of ``p``, but at least float32.
        Where ``p`` is complex, a floating dtype stands for the complex one of its precision.
      real: for sums of squares, which are real where ``p`` is complex.
      copies: as many of them along a first axis, for a history of gradients, say.
    """
    p = p if isinstance(p, jax.ShapeDtypeStruct) else as_array(p)
    kind: Any = dtype or (jnp.float64 if is_double(p.dtype) else jnp.float32)
    if not real and jnp.iscomplexobj(p) and jnp.issubdtype(kind, jnp.floating):
        kind = wide(jnp.complex64, double=is_double(kind))
    one = filled(p, fill, kind)
    return one if copies is None else jnp.broadcast_to(one, (copies, *one.shape))


def start_value(p: ArrayLike | jax.ShapeDtypeStruct, dtype: DTypeLike | None = None) -> jax.Array:
    """The parameter itself, for what a run is measured from, or where an average of it begins.

    Args:
      p: the parameter, or its shape alone, which gives zeros.
      dtype: a floating or complex dtype; the default is that of `accumulator`.
    """
    if isinstance(p, jax.ShapeDtypeStruct):
        return filled(p, 0, dtype or wide(p.dtype))
    p = as_array(p)
    return narrow(p, dtype or wide(p.dtype))


def filled(p: Any, fill: ArrayLike, dtype: Any) -> jax.Array:
    """An array like ``p``, in shape, sharding and memory kind, of one value and another dtype."""
    if not isinstance(p, Tracer):
        return jnp.full_like(p, fill, dtype=dtype)
    # Under jit a constant has no sharding; this one takes p's, and the compiler drops p.
    space = getattr(jax.typeof(p), "memory_space", None)
    elsewhere = space is not None and space != jax.memory.Space.Device
    p = jax.device_put(p, jax.memory.Space.Device) if elsewhere else p
    like = (p if jnp.issubdtype(dtype, jnp.complexfloating) else p.real).astype(dtype)
    found = jnp.where(False, like, jnp.full_like(like, fill))
    return jax.device_put(found, space) if elsewhere else found


# Outside jit a word of several operations is one call, compiled once for each shape and dtype,
# whichever method asks; inside, it is traced once.
_one_call = functools.partial(jax.jit, inline=True)


def ema(m: jax.Array, x: jax.Array, b: ArrayLike) -> jax.Array:
    """The exponential moving average  m ← b m + (1 − b) x."""
    return x * (1 - b) + m * b


def abs_sq(x: jax.Array) -> jax.Array:
    """|x|², which is real; its derivative at a complex zero is finite too."""
    if jnp.iscomplexobj(x):
        return x.real * x.real + x.imag * x.imag
    return x * x


@_one_call
def saturate(g: jax.Array) -> jax.Array:
    """``g`` held to the largest magnitude whose square can be summed 2³¹ times; Inf is NaN.

    That is 2⁴⁸ = 2.8e14 in float32 and 2⁴⁹⁶ = 2e149 in float64. Methods use this and not the
    gradient itself, so that no finite gradient makes a state overflow: its coordinate would
    stand still for ever after. A gradient that is Inf or NaN never passes silently.
    """
    if jnp.iscomplexobj(g):
        return jax.lax.complex(saturate(g.real), saturate(g.imag))
    limit = 2.0 ** (jnp.finfo(g.dtype).maxexp // 2 - 16)
    if g.ndim > 1 and g.size < 512:
        # The compiler unrolls such short loops in loops, and a clamp in them takes it twice as
        # long. What ends in a choice gets a buffer of its own, what ends in a minus sign none.
        return -jax.lax.select(abs(g) < limit, -g, jax.lax.sign(g) * -limit + 0 * g)
    low, high = jnp.asarray(-limit, g.dtype), jnp.asarray(limit, g.dtype)
    return jax.lax.clamp(low, inf_as_nan(g), high)


def inf_as_nan(g: jax.Array) -> jax.Array:
    """``g``, NaN where it is Inf: all that is left of `saturate` where nothing can overflow."""
    return g + (g - g)


def one_minus_power(b: ArrayLike, t: ArrayLike) -> jax.Array:
    """1 − bᵗ for b in [0, 1) and t = 1, 2, ...: what a moving average from 0 has reached.

    It is −expm1(t log b), which keeps its relative error at a few units in the last place
    where b is near 1; forming bᵗ first costs up to 1e-3 in float32.
    """
    t = jnp.asarray(t, jnp.result_type(float))
    if isinstance(b, int | float | np.number):
        return -jnp.expm1(-t * minus_log(b))
    return _one_minus_power(jnp.asarray(b, t.dtype), t)


def corrected_rate(eta: jax.Array, t: jax.Array, b1: ArrayLike, b2: ArrayLike) -> jax.Array:
    """η √(1 − β₂ᵗ) / (1 − β₁ᵗ): Adam's corrections for the start of m and v, in the rate."""
    return eta * sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t)


def risen(steps: jax.Array, over: int, ahead: int = 0) -> jax.Array:
    """How far a warm-up over so many steps has come: a straight line from 0 to 1."""
    return jnp.minimum((steps.astype(jnp.result_type(float)) + ahead) / over, 1)


def new_share(first: ArrayLike, last: ArrayLike, part: ArrayLike) -> jax.Array:
    """1 − β of a memory whose half-life has gone a part of the way from one β to another.

    1 / log β = (1 − part) / log β_first + part / log β_last.
    """
    return -jnp.expm1(-1 / ((1 - part) / minus_log(first) + part / minus_log(last)))


def minus_log(b: ArrayLike) -> Any:
    """−log b for b in [0, 1), also near 1; of a Python number in double precision."""
    if isinstance(b, int | float | np.number):
        return -math.log(b) if b > 0 else math.inf
    return -jnp.log1p(jnp.asarray(b, jnp.result_type(float)) - 1)


@jax.custom_jvp
def _one_minus_power(b: jax.Array, t: jax.Array) -> jax.Array:
    return -jnp.expm1(-t * minus_log(b))


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals, tangents):
    b, t = primals
    db, _ = tangents  # t is a count: nothing is differentiated by it
    # The chain rule through log b gives 0 · ∞ at b = 0; −t bᵗ⁻¹ does not.
    return _one_minus_power(b, t), -t * jnp.power(b, t - 1) * db


def rectification(t: jax.Array, b2: ArrayLike, threshold: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """RAdam's r of step t, and whether it is sure enough to be used, that is ρ ≥ threshold ≥ 4.

    With  ρ∞ = 2 / (1 − β₂) − 1  and  ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)  it is
    r = √[(ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ)].
    """
    rho, rho_inf = _lengths(t, b2)
    sure = rho >= threshold
    # Where it is not, derivatives must be finite too.
    rho, rho_inf = jnp.where(sure, rho, 5.0), jnp.where(sure, rho_inf, 6.0)
    return sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)), sure


def _lengths(t: jax.Array, b2: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """ρ and ρ∞, without a difference of large numbers.

    With a = −log β₂ and L(y) = coth y − 1/y,  ρ∞ = L(a/2) + 2/a  and
    ρ = L(a/2) + t (1 − L(a t/2)).
    """
    a = jnp.asarray(minus_log(b2), jnp.result_type(float))
    t = t.astype(a.dtype)
    short, long = _langevin(a / 2), _langevin(a * t / 2)
    return short + t * (1 - long), short + 2 / a


def _langevin(y: jax.Array) -> jax.Array:
    """Coth y − 1/y for y ≥ 0, where it is small too."""
    small = y < 0.25
    x = jnp.where(small, y, 0.0)
    coefficients = (-1382 / 638512875, 2 / 93555, -1 / 4725, 2 / 945, -1 / 45, 1 / 3)
    series = x * jnp.polyval(jnp.asarray(coefficients), x * x)
    far = jnp.where(small, 1.0, y)
    return jnp.where(small, series, 1 / jnp.tanh(far) - 1 / far)


def corrections(
    t: jax.Array, b1: ArrayLike, b2: ArrayLike, *, ahead: bool = False
) -> dict[str, Any]:
    """1 − β₁ᵗ and 1 − β₂ᵗ, as ``c1`` and ``c2``; ``ahead``: 1 − β₁ᵗ⁺¹ too, as ``c1_ahead``."""
    more = {"c1_ahead": one_minus_power(b1, optax.safe_increment(t))} if ahead else {}
    return more | {"c1": one_minus_power(b1, t), "c2": one_minus_power(b2, t)}


def corrected(m: jax.Array, g: jax.Array, b: ArrayLike, c: Any, c_ahead: Any = None) -> jax.Array:
    """M / (1 − bᵗ);  with 1 − bᵗ⁺¹ Nesterov's  b m / (1 − bᵗ⁺¹) + (1 − b) g / (1 − bᵗ)."""
    return m / c if c_ahead is None else b * m / c_ahead + (1 - b) * g / c


def magnitude(x: jax.Array) -> jax.Array:
    """|x|, whose derivative at a complex zero is finite too."""
    return root(abs_sq(x)) if jnp.iscomplexobj(x) else abs(x)


def sign(x: jax.Array) -> jax.Array:
    """X / |x|, and 0 at 0; of a complex number that of the whole, not of its parts."""
    if not jnp.iscomplexobj(x):
        return jnp.sign(x)
    x = saturate(x)
    return x / root(abs_sq(x))


def divisor(x: jax.Array, eps: ArrayLike = 0.0) -> jax.Array:
    """X + ε for x, ε ≥ 0, held above zero as `root` is: 0 divided by it is 0."""
    tiny = float(jnp.finfo(x.dtype).smallest_normal)
    return x + (eps if isinstance(eps, int | float) and eps > tiny else eps + tiny)


def ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    """X / y, and 0 where y is 0, with a finite derivative there."""
    return jnp.where(y == 0, 0, x / jnp.where(y == 0, 1, y))


def sum_sq(x: jax.Array) -> jax.Array:
    """Σ|x|² over the whole array, of numbers that count as `saturate` holds them.

    The bound is on the square, which the compiler takes into the sum; of a clamp it would make an
    array. What is Inf is NaN here, too.
    """
    limit = 2.0 ** (2 * (jnp.finfo(x.dtype).maxexp // 2 - 16))
    # Not x − x, which `saturate` has too: what two loops use gets a buffer of its own.
    parts = [abs(x.real), abs(x.imag)] if jnp.iscomplexobj(x) else [abs(x)]
    wrong = sum(part - part for part in parts)
    return jnp.sum(jnp.minimum(abs_sq(x) + wrong, limit))


def cbrt(x: jax.Array) -> jax.Array:
    """∛x for x ≥ 0, held above zero, with finite derivatives: 0 divided by it is 0."""
    return jnp.cbrt(x + float(jnp.finfo(x.dtype).smallest_normal))


def inner_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Σ Re(x̄ y) over two whole arrays."""
    product = x.conj() * y if jnp.iscomplexobj(x) else x * y
    return jnp.sum(product.real)


def rms(x: jax.Array) -> jax.Array:
    """√(Σ|x|²/n) over the whole array, held above zero."""
    return root(sum_sq(x) / max(x.size, 1))


def root(x: jax.Array, inside: ArrayLike = 0.0, outside: ArrayLike = 0.0) -> jax.Array:
    """√(x + ε) + ε' for x, ε, ε' ≥ 0, held above zero: a divisor, finite derivatives and all.

    Unless ε or ε' is a Python number above zero, the smallest normal number (1e-38 in float32,
    2e-308 in float64) is added under the root, which changes no sum of a size worth telling
    from 0. So 0 divided by the root is 0.

    Args:
      x: an array.
      inside: ε, under the root.
      outside: ε', beside it.
    """
    tiny = float(jnp.finfo(x.dtype).smallest_normal)
    if not any(isinstance(eps, int | float) and eps > tiny for eps in (inside, outside)):
        inside = inside + tiny
    return _root(x, inside, outside)


@_one_call
def _root(x: jax.Array, inside: ArrayLike, outside: ArrayLike) -> jax.Array:
    return sqrt(x + inside) + outside


@jax.custom_jvp
def sqrt(x: jax.Array) -> jax.Array:
    """√x for x ≥ 0, 0 at 0, with a finite derivative there."""
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = sqrt(x)
    # The derivative at 0 is infinite, and 0 in the chain rule times that is NaN.
    return y, dx * (0.5 / (y + float(jnp.finfo(x.dtype).smallest_normal) ** 0.5))
