"""Which precision arithmetic runs in: at least float32, whatever the arrays are stored in."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

_SINGLE = frozenset(map(jnp.dtype, ("float32", "complex64")))  # what most arrays are in


def dtype_of(leaf: Any) -> Any:
    """The dtype of an array, of its shape alone, or of a Python number; None of anything else."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    return jnp.result_type(type(leaf)) if isinstance(leaf, bool | int | float | complex) else None


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex array (or Python number)."""
    dtype = dtype_of(leaf)
    return dtype is not None and _is_inexact(dtype)


@functools.cache
def _is_inexact(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


@functools.cache
def bits(dtype: Any) -> int:
    """How many bits a real number has in a floating or complex dtype."""
    return jnp.finfo(dtype).bits


def is_double(dtype: Any) -> bool:
    """Whether a floating or complex dtype has double precision, and JAX allows it."""
    return bits(dtype) > 32 and jax.dtypes.canonicalize_dtype(dtype) == dtype


def allowed(leaf: Any) -> Any:
    """The dtype that JAX allows for a leaf: double precision is single where x64 is off."""
    return jax.dtypes.canonicalize_dtype(dtype_of(leaf))


def wide(dtype: Any, *, double: bool = False) -> Any:
    """The dtype of at least single (or of double) precision; a real one stays real."""
    double = double or is_double(dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jnp.dtype(jnp.complex128 if double else jnp.complex64)
    return jnp.dtype(jnp.float64 if double else jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """``x`` in at least single precision."""
    return x if x.dtype in _SINGLE else _cast(x, wide(x.dtype))


def in_precision(x: jax.Array, *, double: bool) -> jax.Array:
    """``x`` in single or in double precision; what is no floating or complex number stays."""
    if (x.dtype in _SINGLE and not double) or not is_inexact(x):
        return x
    single = jnp.complex64 if jnp.issubdtype(x.dtype, jnp.complexfloating) else jnp.float32
    return _cast(x, wide(single, double=double))


def rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """``x`` rounded to a dtype, in its own: XLA may leave out a cast to it and back."""
    if x.dtype == dtype or bits(x.dtype) <= bits(dtype):
        return x
    if jnp.iscomplexobj(x):
        real = jnp.finfo(dtype).dtype
        return jax.lax.complex(rounded(x.real, real), rounded(x.imag, real))
    info, own = jnp.finfo(dtype), jnp.finfo(x.dtype)
    near = jax.lax.reduce_precision(x, info.nexp, info.nmant)
    if info.nexp == own.nexp:
        return near
    # Below its smallest normal number a dtype of few exponents still has numbers, evenly spaced.
    spacing = jnp.asarray(info.smallest_subnormal, x.dtype)
    small = jnp.asarray(info.smallest_normal, x.dtype)
    return jnp.where(abs(x) < small, jnp.round(x / spacing) * spacing, near)


def widen_tree(tree: Any) -> Any:
    """Every leaf widened, shapes without numbers too; what is no such number stays."""
    return jax.tree.map(_widen_leaf, tree)


def _widen_leaf(x: Any) -> Any:
    if not is_inexact(x):
        return x
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, wide(x.dtype), sharding=x.sharding)
    return widen(as_array(x))


def as_array(x: Any) -> jax.Array:
    """``x`` as an array of JAX's, in a dtype that it allows: others may come from elsewhere."""
    if not isinstance(x, jax.Array):
        return jnp.asarray(x)
    if x.dtype in _SINGLE or not is_inexact(x):
        return x
    return _cast(x, allowed(x))


def narrow(x: jax.Array, dtype: Any) -> jax.Array:
    """``x`` in the given dtype, if JAX allows it; where that is real, the real part."""
    if x.dtype == dtype and dtype in _SINGLE:
        return x
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        x = x.real
    return _cast(x, jax.dtypes.canonicalize_dtype(dtype))


def narrow_tree(tree: Any, like: Any) -> Any:
    """Every leaf in the dtype of its counterpart."""
    return jax.tree.map(lambda x, y: narrow(x, dtype_of(y)), tree, like)


def _cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x if x.dtype == dtype else x.astype(dtype)  # astype traces even where it is void
