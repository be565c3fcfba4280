"""Train the race's network with states of few bits, and print how far the losses are apart.

Adam, 600 steps, ten seeds; each seed starts at the same weights and reads the same batches in every
row. The interval is that of the mean difference to float32, over the seeds: 95 %, by Student's t.
"""

import jax
import numpy as np

import gdfx
from gdfx import lab
from gdfx.lab.problems import MNIST

RATE, SEEDS = 1e-3, 10
T_975 = 2.262  # of Student's t, 9 degrees of freedom


def coded(code: str, **options: object) -> object:
    """Adam, whose state is held so."""
    return gdfx.quantized(gdfx.adam(RATE), code, **options)  # pyright: ignore[reportArgumentType]


ROWS = {
    "`adam`": gdfx.adam(RATE),
    '`quantized(adam, "8bit")`': coded("8bit"),
    '`quantized(adam, "4bit")`': coded("4bit"),
    '`quantized(adam, "4bit", key=...)`': coded("4bit", key=jax.random.key(0)),
    '`quantized(adam, "float8")`': coded("float8"),
}

if __name__ == "__main__":
    print("| optimizer | state, bytes | training loss | difference to float32, 95 % | accuracy |")
    print("| --- | --- | --- | --- | --- |")
    first = None
    for name, optimizer in ROWS.items():
        run = lab.race({name: optimizer}, MNIST, seeds=SEEDS).results[MNIST.name].runs[name]
        loss, accuracy = run.final_loss, run.curves["accuracy"][:, -1]
        first = loss if first is None else first
        apart = loss - first
        half = T_975 * np.std(apart, ddof=1) / np.sqrt(SEEDS)
        between = f"{apart.mean() - half:+.4f} to {apart.mean() + half:+.4f}" if half else "0"
        print(
            f"| {name} | {run.state_bytes:.2f} | {loss.mean():.4f} ± {loss.std(ddof=1):.4f} "
            f"| {between} | {accuracy.mean():.3f} |",
            flush=True,
        )
