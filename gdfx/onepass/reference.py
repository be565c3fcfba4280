"""A loop in XLA, operation by operation, to hold machine code to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gdfx.onepass.loop import Literal, Loop, Operation

_OTHER_NAMES: Mapping[str, Callable[..., jax.Array]] = {
    "and": lax.bitwise_and,
    "or": lax.bitwise_or,
    "xor": lax.bitwise_xor,
    "not": lax.bitwise_not,
    "copy": lambda x: x,
}


def run(loop: Loop, scalars: Sequence[Any], arrays: Sequence[Any]) -> list[jax.Array]:
    """The results of a loop on arrays of one shape, in the trace that is running."""
    shape = np.shape(arrays[0])
    values = [jnp.broadcast_to(x, shape) for x in (*scalars, *arrays)]
    for operation in loop.operations:
        operands = [
            jnp.full(shape, number(u)) if isinstance(u, Literal) else values[u]
            for u in operation.operands
        ]
        values.append(_apply(operation, operands))
    return [values[i] for i in loop.results]


def number(literal: Literal) -> np.ndarray:
    """A literal as an array of one element."""
    dtype = jnp.dtype(literal.dtype)
    return np.frombuffer(literal.bits.to_bytes(dtype.itemsize, "little"), dtype)[0]


def _apply(operation: Operation, operands: Sequence[Any]) -> jax.Array:
    dtype = jnp.dtype(operation.dtype)
    match operation.name:
        case "convert_element_type":
            return lax.convert_element_type(operands[0], dtype)
        case "bitcast_convert_type":
            return lax.bitcast_convert_type(operands[0], dtype)
        case "reduce_precision" if operation.precision is not None:
            return lax.reduce_precision(operands[0], *operation.precision)
        case name:
            function = _OTHER_NAMES[name] if name in _OTHER_NAMES else getattr(lax, name)
            return function(*operands)
