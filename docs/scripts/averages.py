"""Draw docs/img/rate-free.png and print the tables: estimates over steps, and what averages leave.

Linear regression on scikit-learn's diabetes data (442 patients, 10 features), mini-batches of 16,
as in docs/scripts/decay.py; the normal equations give the minimum and how far it is. Each rate is
the best of those tried, by the median over the seeds. `python docs/scripts/averages.py` runs it.
"""

import contextlib
from collections.abc import Callable
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

STEPS, SEEDS, BATCH = 1_000, 16, 16
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
COLORS = "#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00"

FINDERS = {
    "prodigy": gdfx.prodigy,
    "dadapt_adamw": gdfx.dadapt_adamw,
    "dadapt_sgd": gdfx.dadapt_sgd,
    "dog": gdfx.dog,
    "dowg": gdfx.dowg,
}

RUNS: dict[str, Callable[[float], Any]] = {
    "adam, constant": gdfx.adam,
    "adam, linear to 0": lambda rate: gdfx.adam(optax.linear_schedule(rate, 0.0, STEPS)),
    "adam, averaged(start=501)": lambda rate: gdfx.averaged(gdfx.adam(rate), start=501),
    "adam, averaged(decay=0.99)": lambda rate: gdfx.averaged(gdfx.adam(rate), decay=0.99),
    "schedule_free_adamw": gdfx.schedule_free_adamw,
    "schedule_free_sgd": gdfx.schedule_free_sgd,
}
FOUND: dict[str, Callable[[], Any]] = {
    "prodigy, constant": gdfx.prodigy,
    "prodigy, linear to 0": lambda: gdfx.prodigy(optax.linear_schedule(1.0, 0.0, STEPS)),
    "dadapt_adamw, linear to 0": lambda: gdfx.dadapt_adamw(optax.linear_schedule(1.0, 0.0, STEPS)),
    "dog, averaged(gamma=8)": lambda: gdfx.averaged(gdfx.dog(), gamma=8.0),
    "dowg, averaged(gamma=8)": lambda: gdfx.averaged(gdfx.dowg(), gamma=8.0),
}

x, y = (jnp.asarray(a, jnp.float32) for a in load_diabetes(return_X_y=True))
x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
bottom = jnp.linalg.lstsq(x, y)[0]


def loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Half the mean squared error."""
    return jnp.mean((x @ w - y) ** 2) / 2


def run(tx: Any, key: jax.Array, read: Callable[[Any, Any], Any]) -> Any:
    """What is read of the state and the parameters, after each step."""

    def step(carry: Any, key: jax.Array) -> Any:
        w, state = carry
        batch = jax.random.randint(key, (BATCH,), 0, len(y))
        updates, state = tx.update(jax.grad(loss)(w, x[batch], y[batch]), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), read(state, w)

    w = jnp.zeros(x.shape[1])
    return jax.lax.scan(step, (w, tx.init(w)), jax.random.split(key, STEPS))[1]


def evaluated(state: Any, w: jax.Array) -> jax.Array:
    """How far the weights to evaluate are above the minimum."""
    with contextlib.suppress(ValueError):  # where nothing averages
        w = gdfx.eval_params(state, w)
    return loss(w, x, y) - loss(bottom, x, y)


def quartiles(make: Callable[[], Any]) -> np.ndarray:
    """Of the losses at the end."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    last = jax.jit(jax.vmap(lambda key: run(make(), key, evaluated)[-1]))(keys)
    return np.quantile(last, [0.5, 0.25, 0.75])


def main() -> None:
    """Draw and print."""
    print("| optimizer | rate | loss above the minimum: median (quartiles) |\n| --- | --- | --- |")
    for name, with_rate in RUNS.items():
        tried = [(quartiles(lambda r=rate, w=with_rate: w(r)), rate) for rate in RATES]
        (middle, low, high), rate = min(tried, key=lambda found: found[0][0])
        print(f"| {name} | {rate:g} | {middle:.1e} ({low:.1e} to {high:.1e}) |", flush=True)
    for name, make in FOUND.items():
        middle, low, high = quartiles(make)
        print(f"| {name} | 1 | {middle:.1e} ({low:.1e} to {high:.1e}) |", flush=True)

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    key, steps = jax.random.key(0), np.arange(1, STEPS + 1)
    for color, (name, make) in zip(COLORS, FINDERS.items(), strict=True):
        tx = make()
        d = jax.jit(lambda key, tx=tx: run(tx, key, lambda state, _: state.d))(key)
        axes.plot(steps, d, color=color, label=name, linewidth=1.5)
    for far, words, place in (
        (jnp.linalg.norm(bottom), "‖W* − W₀‖", "bottom"),
        (jnp.max(abs(bottom)), "max |W* − W₀|", "top"),
    ):
        axes.axhline(float(far), color="#999999", linewidth=0.8, linestyle="dashed")
        axes.text(1.0, float(far), words, va=place, color="#666666", fontsize=8)
    axes.set(xlabel="step", ylabel="estimate d", xscale="log", yscale="log")
    axes.set_title("How far is it? Linear regression, batches of 16")
    figure.legend(loc="outside right center", frameon=False)
    path = Path(__file__).parents[1] / "img" / "rate-free.png"
    figure.savefig(path, dpi=130)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
