"""Train the race's network with bfloat16 weights, and print how far the remedies get.

Adam, 600 steps, five seeds; every row starts at the same weights and reads the same batches.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gdfx
from gdfx import lab
from gdfx.lab.problems import Mnist

RATE = 1e-3


@dataclass(frozen=True)
class BfloatMnist(Mnist):
    """The same network with weights in bfloat16."""

    def start(self, seed: int) -> Any:
        """The same weights, rounded."""
        return jax.tree.map(lambda w: w.astype(jnp.bfloat16), super().start(seed))


ROWS = (
    ("float32", "`adam`", Mnist(), gdfx.adam(RATE)),
    ("bfloat16", "`adam`", BfloatMnist(), gdfx.adam(RATE)),
    ("bfloat16", "`compensated(adam)`", BfloatMnist(), gdfx.compensated(gdfx.adam(RATE))),
    (
        "bfloat16",
        "`stochastic_rounding(adam, key)`",
        BfloatMnist(),
        gdfx.stochastic_rounding(gdfx.adam(RATE), jax.random.key(0)),
    ),
    ("bfloat16", "`compensated(optax.adam)`", BfloatMnist(), gdfx.compensated(optax.adam(RATE))),
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
