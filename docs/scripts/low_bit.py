"""Train two networks with states of few bits, and print how far the losses are apart.

Adam, ten seeds, on the race's network for MNIST and on a small transformer; each seed starts at the
same weights and reads the same batches in every row. The interval is that of the mean difference to
float32, over the seeds: 95 %, by Student's t. The transformer's leaves are small, so there all of
them are held in codes.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import gdfx
from gdfx import lab
from gdfx.lab.problems import MNIST, PROBLEMS

SEEDS = 10
T_975 = 2.262  # of Student's t, 9 degrees of freedom


def rows(rate: float, **options: Any) -> Mapping[str, Any]:
    """Adam, and Adam whose state is held in codes."""

    def coded(code: str, **more: Any) -> Any:
        return gdfx.quantized(gdfx.adam(rate), code, **options, **more)

    return {
        "`adam`": gdfx.adam(rate),
        '`quantized(adam, "8bit")`': coded("8bit"),
        '`quantized(adam, "4bit")`': coded("4bit"),
        '`quantized(adam, "4bit", key=...)`': coded("4bit", key=jax.random.key(0)),
        '`quantized(adam, "float8")`': coded("float8"),
    }


TABLES = (
    (MNIST, "accuracy", rows(1e-3)),
    (PROBLEMS["transformer"], "test_loss", rows(1e-2, min_size=0)),
)

if __name__ == "__main__":
    for problem, beside, optimizers in TABLES:
        names = "optimizer", "state, bytes", "training loss", "difference to float32, 95 %"
        print(f"| {' | '.join(names)} | {beside.replace('test_', 'held-out ')} |")
        print("| --- | --- | --- | --- | --- |")
        first = None
        for name, optimizer in optimizers.items():
            result = lab.race({name: optimizer}, problem, seeds=SEEDS).results[problem.name]
            run = result.runs[name]
            loss = run.final_loss
            first = loss if first is None else first
            apart = loss - first
            half = T_975 * np.std(apart, ddof=1) / np.sqrt(SEEDS)
            between = f"{apart.mean() - half:+.4f} to {apart.mean() + half:+.4f}" if half else "0"
            print(
                f"| {name} | {run.state_bytes:.2f} | {loss.mean():.4f} ± {loss.std(ddof=1):.4f} "
                f"| {between} | {run.curves[beside][:, -1].mean():.3f} |",
                flush=True,
            )
        print()
