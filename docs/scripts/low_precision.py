"""Train the race's network with bfloat16 weights, and print how far the remedies get.

Adam, 600 steps, five seeds; every row starts at the same weights and reads the same batches.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdfx
from gdfx import lab
from gdfx.lab.problems import MNIST

RATE = 1e-3


def rounded(rng: np.random.Generator) -> Any:
    """The same weights in bfloat16."""
    return jax.tree.map(lambda w: w.astype(jnp.bfloat16), MNIST.init(rng))


BFLOAT = replace(MNIST, init=rounded)

ROWS = (
    ("float32", "`adam`", MNIST, gdfx.adam(RATE)),
    ("bfloat16", "`adam`", BFLOAT, gdfx.adam(RATE)),
    ("bfloat16", "`compensated(adam)`", BFLOAT, gdfx.compensated(gdfx.adam(RATE))),
    (
        "bfloat16",
        "`stochastic_rounding(adam, key)`",
        BFLOAT,
        gdfx.stochastic_rounding(gdfx.adam(RATE), jax.random.key(0)),
    ),
    ("bfloat16", "`compensated(optax.adam)`", BFLOAT, gdfx.compensated(optax.adam(RATE))),
)

if __name__ == "__main__":
    print("| weights | optimizer | training loss, five seeds | test accuracy | bytes |")
    print("| --- | --- | --- | --- | --- |")
    for dtype, name, problem, optimizer in ROWS:
        result = lab.race({name: optimizer}, problem).results[problem.name].runs[name]
        loss, accuracy = result.final_loss, result.curves["accuracy"][:, -1]
        total = round(result.state_bytes) + jnp.dtype(dtype).itemsize
        print(
            f"| {dtype} | {name} | {loss.mean():.4f} ± {loss.std(ddof=1):.4f} "
            f"| {accuracy.mean():.3f} | {total} |",
            flush=True,
        )
