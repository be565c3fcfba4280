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
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.precision import as_array, is_double, wide


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
    return jax.lax.clamp(low, g + (g - g), high)


def one_minus_power(b: ArrayLike, t: ArrayLike) -> jax.Array:
    """1 − bᵗ for b in [0, 1) and t = 1, 2, ...: what a moving average from 0 has reached.

    It is −expm1(t log b), which keeps its relative error at a few units in the last place
    where b is near 1; forming bᵗ first costs up to 1e-3 in float32.
    """
    t = jnp.asarray(t, jnp.result_type(float))
    if isinstance(b, int | float | np.number):
        b = float(b)  # its logarithm is taken in double precision, whatever t is in
        return -jnp.expm1(t * (math.log(b) if b > 0 else -math.inf))
    return _one_minus_power(jnp.asarray(b, t.dtype), t)


@jax.custom_jvp
def _one_minus_power(b: jax.Array, t: jax.Array) -> jax.Array:
    return -jnp.expm1(t * jnp.log1p(b - 1))


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals, tangents):
    b, t = primals
    db, _ = tangents  # t is a count: nothing is differentiated by it
    # The chain rule through log b gives 0 · ∞ at b = 0; −t bᵗ⁻¹ does not.
    return _one_minus_power(b, t), -t * jnp.power(b, t - 1) * db


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
    return _sqrt(x + inside) + outside


@jax.custom_jvp
def _sqrt(x: jax.Array) -> jax.Array:
    return jnp.sqrt(x)


@_sqrt.defjvp
def _sqrt_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = _sqrt(x)
    # The derivative at 0 is infinite, and 0 in the chain rule times that is NaN.
    return y, dx * (0.5 / (y + float(jnp.finfo(x.dtype).smallest_normal) ** 0.5))
