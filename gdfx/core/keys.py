"""Random keys in a state: as plain numbers, which every program stores, casts and donates.

A new-style key (`jax.random.key`) is no array to flax's msgpack, equinox's serialisation or
`optax.tree.cast`. So a state holds a key's bits, uint32, and the optimizer remembers of which kind
they are.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_OLD_STYLE: dict[tuple[int, ...], str] = {(2,): "threefry2x32", (4,): "rbg"}


def _is_new_style(key: Any) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def kind(key: ArrayLike) -> Any:
    """What makes random numbers of the key's bits, as `jax.random.wrap_key_data` takes it."""
    key = jnp.asarray(key)
    return jax.random.key_impl(key) if _is_new_style(key) else _OLD_STYLE[key.shape]


def stored(key: ArrayLike) -> jax.Array:
    """The key's bits, in an array of their own: the caller's key outlives a donated state."""
    key = jnp.asarray(key)
    return jnp.array(jax.random.key_data(key) if _is_new_style(key) else key, copy=True)


def drawn(data: jax.Array, kind: Any) -> tuple[jax.Array, jax.Array]:
    """The bits of the next step's key, in the same dtype, and the key of this step."""
    if data.dtype.itemsize < 4:
        raise TypeError(
            f"the state's key must be uint32, got {data.dtype}, which holds too few of its bits; "
            "leave it out where a state is cast"
        )
    key = jax.random.wrap_key_data(data.astype(jnp.uint32), impl=kind)
    following, now = jax.random.split(key)
    return jax.random.key_data(following).astype(data.dtype), now
