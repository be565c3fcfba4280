"""Draw docs/img/no-schedule.png and print the table: schedules, averages and neither, on MNIST.

Each way of running AdamW has the best rate of a sweep over half decades, by the mean loss over five
seeds; what is shown are ten other seeds at that rate. `python docs/scripts/no_schedule.py` runs it.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optax
from PIL import Image

import gdfx
from gdfx import lab

PROBLEM = "mnist"
STEPS = lab.PROBLEMS[PROBLEM].steps
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = 10
COLORS = "#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7"


def scheduled(learning_rate: Any, schedule: Callable[[Any], Any]) -> Any:
    """AdamW with a rate that falls from the given one."""
    return gdfx.adamw(lambda count: learning_rate * schedule(count))


def averaged(learning_rate: Any, **how: Any) -> Any:
    """AdamW at a constant rate, with an average to be evaluated."""
    return gdfx.averaged(gdfx.adamw(learning_rate), **how)


WAYS: dict[str, Callable[..., Any]] = {
    "constant": gdfx.adamw,
    "linear to 0": functools.partial(scheduled, schedule=optax.linear_schedule(1.0, 0.0, STEPS)),
    "cosine": functools.partial(scheduled, schedule=optax.cosine_decay_schedule(1.0, STEPS)),
    "averaged, last half": functools.partial(averaged, start=STEPS // 2 + 1),
    "schedule_free_adamw": functools.partial(
        gdfx.schedule_free_adamw,
        weight_decay=1e-4,  # as the others
        warmup_steps=STEPS // 20,
    ),
}


def main() -> None:
    """Sweep, run, print, draw."""
    swept = lab.sweep(WAYS, PROBLEM, rates=RATES)
    chosen = {name: (WAYS[name], rate) for name, rate in swept.best.items()}
    print(swept.best, file=sys.stderr)
    missed = [name for name, (_, rate) in chosen.items() if rate in (None, RATES[0], RATES[-1])]
    if missed:
        raise SystemExit(f"the best rate is at the edge of those tried for {missed}")
    runs = {
        name: next(iter(lab.race({name: pair}, PROBLEM, seeds=SEEDS).results.values())).runs[name]
        for name, pair in chosen.items()
    }
    last = {name: run.curves["loss"][:, -1] for name, run in runs.items()}
    least = min(last, key=lambda name: last[name].mean())
    print("| AdamW | rate | training loss, mean ± deviation | test accuracy | beside the least |")
    print("| --- | --- | --- | --- | --- |")
    for name, run in runs.items():
        loss, accuracy = last[name], run.curves["accuracy"][:, -1]
        apart = loss - last[least]  # seed by seed: data and batches are the same
        error = 1.96 * apart.std(ddof=1) / SEEDS**0.5
        beside = "—" if name == least else f"{apart.mean():+.4f} ± {error:.4f}"
        print(
            f"| {name} | {chosen[name][1]:g} | {loss.mean():.4f} ± {loss.std(ddof=1):.4f} "
            f"| {accuracy.mean():.2%} | {beside} |"
        )

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for color, (name, run) in zip(COLORS, runs.items(), strict=True):
        low, middle, high = np.quantile(run.curves["loss"], [0.0, 0.5, 1.0], axis=0)
        label = f"{name}, η = {chosen[name][1]:g}"
        axes.plot(run.steps, middle, color=color, label=label, linewidth=1.5)
        axes.fill_between(run.steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set(xlabel="step", ylabel="training loss", yscale="log", xlim=(0, STEPS))
    figure.legend(loc="outside right center", frameon=False)
    path = Path(__file__).parents[1] / "img" / "no-schedule.png"
    figure.savefig(path, dpi=130)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
