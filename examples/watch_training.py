"""A network that learns badly, and the watch that says which layer is at fault.

The third layer's biases begin at -10, so that its neurons say 0 to everything and pass no gradient
back. The loss alone shows that something is wrong; the watch shows where.

Run it with `python examples/watch_training.py`; it writes `watch.png`, which needs matplotlib.
"""

from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdfx
from gdfx import lab

SIZES = (20, 32, 32, 32, 1)
rng = np.random.default_rng(0)
x = rng.normal(size=(256, SIZES[0])).astype(np.float32)
y = np.sin(x.sum(1))

params = {
    f"layer_{i}": {
        "kernel": jnp.asarray(rng.normal(0, (2 / a) ** 0.5, (a, b)), jnp.float32),
        "bias": jnp.full(b, -10.0 if i == 3 else 0.0),
    }
    for i, (a, b) in enumerate(pairwise(SIZES), start=1)
}


def loss(params: Any, x: Any, y: Any) -> jax.Array:
    *hidden, last = params.values()
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return (((x @ last["kernel"] + last["bias"])[:, 0] - y) ** 2).mean()


tx = gdfx.watch(gdfx.adam(1e-3), every=5, keep=40)
state = tx.init(params)


@jax.jit
def step(params: Any, state: Any) -> Any:
    updates, state = tx.update(jax.grad(loss)(params, x, y), state, params)
    return optax.apply_updates(params, updates), state


for _ in range(100):
    params, state = step(params, state)

found = gdfx.watched(state, params)
zeros = dict(zip(found.paths, found["gradient_zeros"].mean(0), strict=True))
print("share of zeros in the gradient, mean of", len(found.steps), "steps")
for path, share in zeros.items():
    print(f"  {path:24} {share:4.0%}")
reached = [path for path, share in zeros.items() if share < 1]
print("\nA gradient reaches", ", ".join(reached), "alone.")
print("The kernel beside it has none, so what comes out of layer_3 is 0: its biases are at fault.")
assert reached == ["['layer_4']['bias']"]

figure = lab.plot_watch(state, params, "gradient_norm")
figure.savefig(Path(gettempdir()) / "watch.png", dpi=120)
print("Drawn:", Path(gettempdir()) / "watch.png")
