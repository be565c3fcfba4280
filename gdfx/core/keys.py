"""Random keys in a state: as plain numbers, which every program stores, casts and donates.

A new-style key (`jax.random.key`) is no array to flax's msgpack, equinox's serialisation or
`optax.tree.cast`. So a state holds a key's bits, as uint16: a state that is cast to float32 as a
whole keeps them. The optimizer remembers of which kind they are.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

_OLD_STYLE: dict[tuple[int, ...], str] = {(2,): "threefry2x32", (4,): "rbg"}


def _is_new_style(key: Any) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def kind(key: ArrayLike) -> Any:
    """What makes random numbers of the key's bits, as `jax.random.wrap_key_data` takes it."""
    key = jnp.asarray(key)
    return jax.random.key_impl(key) if _is_new_style(key) else _OLD_STYLE[key.shape]


def stored(key: ArrayLike) -> np.ndarray | jax.Array:
    """The key's bits, on no device and in no mesh, unless the key is traced."""
    key = jnp.asarray(key)
    bits = _halves(jax.random.key_data(key) if _is_new_style(key) else key)
    return bits if isinstance(bits, Tracer) else np.asarray(bits)


def drawn(data: jax.Array, kind: Any) -> tuple[jax.Array, jax.Array]:
    """The bits of the next step's key, in the same dtype, and the key of this step."""
    if data.dtype != jnp.uint16 and data.dtype.itemsize < 4:
        raise TypeError(
            f"the state's key must be uint16, got {data.dtype}, which holds too few of its bits; "
            "leave it out where a state is cast"
        )
    pairs = data.astype(jnp.uint16).reshape(-1, 2)
    key = jax.random.wrap_key_data(jax.lax.bitcast_convert_type(pairs, jnp.uint32), impl=kind)
    following, now = jax.random.split(key)
    return _halves(jax.random.key_data(following)).astype(data.dtype), now


def _halves(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)
