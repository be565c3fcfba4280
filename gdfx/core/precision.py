"""Which precision arithmetic runs in: at least float32, whatever the arrays are stored in."""

from typing import Any

import jax
import jax.numpy as jnp

from gdfx.core.check import is_inexact


def is_double(dtype: Any) -> bool:
    """Whether a floating or complex dtype has double precision."""
    return jnp.finfo(dtype).bits > 32


def widen(x: jax.Array, *, double: bool = False) -> jax.Array:
    """``x`` in at least single (or in double) precision; a real array stays real."""
    double = double or is_double(x.dtype)
    if jnp.iscomplexobj(x):
        return _cast(x, jnp.complex128 if double else jnp.complex64)
    return _cast(x, jnp.float64 if double else jnp.float32)


def rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """``x`` rounded to a dtype, in its own: XLA may leave out a cast to it and back."""
    if x.dtype == dtype:
        return x
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, info.nexp, info.nmant)


def widen_tree(tree: Any) -> Any:
    """Every leaf widened; what is no floating or complex number stays, for others to refuse."""
    return jax.tree.map(lambda x: widen(jnp.asarray(x)) if is_inexact(x) else x, tree)


def narrow(x: jax.Array, dtype: Any) -> jax.Array:
    """``x`` in the given dtype; where that is real, the real part."""
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        x = x.real
    return _cast(x, dtype)


def narrow_tree(tree: Any, like: Any) -> Any:
    """Every leaf in the dtype of its counterpart."""
    return jax.tree.map(lambda x, y: narrow(x, jnp.result_type(y)), tree, like)


def _cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x if x.dtype == dtype else x.astype(dtype)  # astype traces even where it is void
