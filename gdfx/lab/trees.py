"""Trees of parameters as networks have them: shapes, which the benchmark fills with numbers."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp


def array(*shape: int) -> jax.ShapeDtypeStruct:
    """A float32 leaf."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def perceptron(*sizes: int) -> list[Any]:
    """Fully connected layers, two leaves each."""
    return [_dense(inputs, outputs) for inputs, outputs in pairwise(sizes)]


def transformer(*stages: tuple[int, int]) -> dict[str, Any]:
    """A transformer in stages of (width, layers): 16 leaves a layer, four around them all.

    A kernel leads from each stage to the next; one stage alone is the usual transformer.
    """
    widths = [width for width, _ in stages]
    return {
        "embedding": array(1000, widths[0]),
        "positions": array(100, widths[0]),
        "stages": [[_layer(width) for _ in range(layers)] for width, layers in stages],
        "between": [array(*two) for two in pairwise(widths)],
        "norm": _norm(widths[-1]),
    }


def _layer(width: int) -> dict[str, Any]:
    return {
        "attention_norm": _norm(width),
        "attention": {name: _dense(width, width) for name in ("query", "key", "value", "out")},
        "mlp_norm": _norm(width),
        "mlp": {"up": _dense(width, 4 * width), "down": _dense(4 * width, width)},
    }


def _dense(inputs: int, outputs: int) -> dict[str, Any]:
    return {"kernel": array(inputs, outputs), "bias": array(outputs)}


def _norm(width: int) -> dict[str, Any]:
    return {"gain": array(width), "bias": array(width)}
