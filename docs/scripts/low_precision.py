"""Train the race's network with weights and states of few bits, and print how far they get.

Adam, 600 steps, five seeds; every row starts at the same weights and reads the same batches. The
first table is about the remedies for bfloat16 weights, the second about the bytes a parameter.
"""

from collections.abc import Iterable
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
ADAM, KEY = gdfx.adam(RATE), jax.random.key(0)
BITS = {code: gdfx.quantized(gdfx.adam(RATE), code) for code in ("8bit", "4bit")}


def rounded(rng: np.random.Generator) -> Any:
    """The same weights in bfloat16."""
    return jax.tree.map(lambda w: w.astype(jnp.bfloat16), MNIST.init(rng))


BFLOAT = replace(MNIST, init=rounded)

REMEDIES = (
    ("float32", "`adam`", MNIST, ADAM),
    ("bfloat16", "`adam`", BFLOAT, ADAM),
    ("bfloat16", "`compensated(adam)`", BFLOAT, gdfx.compensated(ADAM)),
    ("bfloat16", "`stochastic_rounding(adam, key)`", BFLOAT, gdfx.stochastic_rounding(ADAM, KEY)),
    ("bfloat16", "`compensated(optax.adam)`", BFLOAT, gdfx.compensated(optax.adam(RATE))),
)
BYTES = (
    ("float32", "`adam`", MNIST, ADAM),
    ("bfloat16", "`stochastic_rounding(adam, key)`", BFLOAT, gdfx.stochastic_rounding(ADAM, KEY)),
    ("float32", '`quantized(adam, "8bit")`', MNIST, BITS["8bit"]),
    *(
        ("bfloat16", f'`{name}(quantized(adam, "{code}"){more})`', BFLOAT, wrap(BITS[code]))
        for code in BITS
        for name, more, wrap in (
            ("compensated", "", gdfx.compensated),
            ("stochastic_rounding", ", key", lambda tx: gdfx.stochastic_rounding(tx, KEY)),
        )
    ),
)


def table(rows: Iterable[tuple[str, str, Any, Any]]) -> None:
    """Train each row and print it."""
    print("| weights | optimizer | training loss, five seeds | test accuracy | bytes |")
    print("| --- | --- | --- | --- | --- |")
    for dtype, name, problem, optimizer in rows:
        result = lab.race({name: optimizer}, problem).results[problem.name].runs[name]
        loss, accuracy = result.final_loss, result.curves["accuracy"][:, -1]
        total = result.state_bytes + jnp.dtype(dtype).itemsize
        print(
            f"| {dtype} | {name} | {loss.mean():.4f} ± {loss.std(ddof=1):.4f} "
            f"| {accuracy.mean():.3f} | {total:.3g} |",
            flush=True,
        )


if __name__ == "__main__":
    table(REMEDIES)
    table(BYTES)
