"""Which precision arithmetic runs in: at least float32, whatever the arrays are stored in."""

from typing import Any

import jax
import jax.numpy as jnp


def is_double(dtype: Any) -> bool:
    """Whether a floating or complex dtype has double precision."""
    return jnp.finfo(dtype).bits > 32


def widen(x: jax.Array, *, double: bool = False) -> jax.Array:
    """``x`` in at least single (or in double) precision; a real array stays real."""
    double = double or is_double(x.dtype)
    if jnp.iscomplexobj(x):
        return _cast(x, jnp.complex128 if double else jnp.complex64)
    return _cast(x, jnp.float64 if double else jnp.float32)


def narrow(x: jax.Array, dtype: Any) -> jax.Array:
    """``x`` in the given dtype; where that is real, the real part."""
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        x = x.real
    return _cast(x, dtype)


def _cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x if x.dtype == dtype else x.astype(dtype)  # astype traces even where it is void
