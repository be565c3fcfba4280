"""Draw docs/img/decay.png and print its table: six schedules, and what each leaves of the loss.

Linear regression on scikit-learn's diabetes data (442 patients, 10 features), mini-batches of
16, Adam. The targets are noisy, so the gradient of a mini-batch is not 0 at the minimum, which
the normal equations give. Run it with `python docs/scripts/decay.py`.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from PIL import Image
from sklearn.datasets import load_diabetes

import gdfx

STEPS, SEEDS, BATCH, RATE = 1_000, 16, 16, 0.1
SCHEDULES: dict[str, optax.Schedule] = {
    "constant": optax.constant_schedule(RATE),
    "a tenth at 500 and 750": optax.piecewise_constant_schedule(RATE, {500: 0.1, 750: 0.1}),
    "exponential": optax.exponential_decay(RATE, STEPS, 0.001),
    "linear": optax.linear_schedule(RATE, 0.0, STEPS),
    "cosine": optax.cosine_decay_schedule(RATE, STEPS),
    "warm-up, cosine": optax.warmup_cosine_decay_schedule(0.0, RATE, 100, STEPS),
}

x, y = (jnp.asarray(a, jnp.float32) for a in load_diabetes(return_X_y=True))
x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Half the mean squared error."""
    return jnp.mean((x @ w - y) ** 2) / 2


def run(tx: Any, key: jax.Array) -> jax.Array:
    """The loss on all data, after each step."""

    def step(carry, key):
        w, state = carry
        batch = jax.random.randint(key, (BATCH,), 0, len(y))
        updates, state = tx.update(jax.grad(loss)(w, x[batch], y[batch]), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), loss(w, x, y)

    w = jnp.zeros(x.shape[1])
    return jax.lax.scan(step, (w, tx.init(w)), jax.random.split(key, STEPS))[1]


def main() -> None:
    """Draw and print."""
    best = loss(jnp.linalg.lstsq(x, y)[0], x, y)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    steps = np.arange(STEPS)
    shown = steps[9::10]
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    colors = "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00"
    print("| schedule | loss above the minimum, step 1,000 |\n| --- | --- |")
    for color, (name, schedule) in zip(colors, SCHEDULES.items(), strict=True):
        above = jax.jit(jax.vmap(lambda key, s=schedule: run(gdfx.adam(s), key)))(keys) - best
        low, middle, high = np.quantile(above, [0.25, 0.5, 0.75], axis=0)
        left.plot(steps, [schedule(t) for t in steps], color=color, label=name)
        right.plot(shown + 1, middle[shown], color=color, label=name, linewidth=1.2)
        right.fill_between(shown + 1, low[shown], high[shown], color=color, alpha=0.15, linewidth=0)
        print(f"| {name} | {middle[-1]:.1e} |")
    left.set(xlabel="step", ylabel="learning rate η", title="Six schedules of optax")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    right.set(xlabel="step", ylabel="loss above the minimum", yscale="log", ylim=(3e-4, 0.4))
    right.set_title("Adam, linear regression, batches of 16")
    right.text(
        0.98, 0.98, f"median and quartiles of {SEEDS} seeds", ha="right", va="top",
        transform=right.transAxes, fontsize=8,
    )  # fmt: skip
    path = Path(__file__).parents[1] / "img" / "decay.png"
    figure.savefig(path, dpi=130)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
