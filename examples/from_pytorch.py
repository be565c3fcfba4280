"""A run of PyTorch goes on in JAX, in the middle of an epoch: in flax, and in equinox.

Run it with `python examples/from_pytorch.py`. PyTorch is not needed: what it handed over, weights
and optimizer, lies beside this file, with the losses of the steps that it went on to take itself.
`tests/recordings/torch_example.py` is the PyTorch side.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from gdfx.port import Leaf, from_arrays, from_torch

EPOCH, STEPS, HANDED_OVER = 16, 64, 24  # half of the second epoch is yet to come
RATE = 1e-2


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 8 × 8 with one channel, and whether they show a row, a column or a diagonal."""
    rng = np.random.default_rng(step % EPOCH)
    kinds, where = rng.integers(3, size=32), rng.integers(8, size=32)
    images = rng.normal(0.0, 0.4, size=(32, 8, 8))
    for image, kind, i in zip(images, kinds, where, strict=True):
        line = [image[i], image[:, i], np.einsum("ii->i", image)][kind]  # views
        line += 1.0
    return images.astype(np.float32), kinds


# What PyTorch handed over.

KEPT = np.load(Path(__file__).with_suffix(".npz"))
WEIGHTS = {key[8:]: KEPT[key] for key in KEPT.files if key.startswith("weights/")}
STATE_DICT: dict[str, Any] = {"state": {}, "param_groups": json.loads(str(KEPT["groups"]))}
for key in KEPT.files:
    if key.startswith("state/"):
        _, number, field = key.split("/")
        STATE_DICT["state"].setdefault(int(number), {})[field] = KEPT[key]


# lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
def schedule(count: Any) -> Any:
    return optax.cosine_decay_schedule(RATE, STEPS)(count)


def goes_on(params: Any, logits: Callable[[Any, Any], Any], names: dict[str, Any]) -> np.ndarray:
    """The losses from where PyTorch stopped."""
    params = from_arrays(WEIGHTS, params, names=names)
    tx, state = from_torch(STATE_DICT, params, names=names, optimizer="AdamW", lr=schedule)

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    losses: list[float] = []
    for t in range(HANDED_OVER, STEPS):
        params, state, value = step(params, state, *batch(t))
        losses.append(float(value))
    return np.asarray(losses)


# In flax: images have their channels last, kernels their outputs. The dense layer stands behind a
# flattened image, so its inputs lie in another order: 4 channels of 6 × 6, or 6 × 6 of 4 channels.


class InFlax(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.relu(linen.Conv(4, (3, 3), padding="VALID", name="conv")(x[..., None]))
        return linen.Dense(3, name="dense")(x.reshape(len(x), -1))


flax_model = InFlax()
flax_names: dict[str, Any] = {
    "conv.weight": Leaf("params", "conv", "kernel", axes=(2, 3, 1, 0)),
    "dense.weight": Leaf("params", "dense", "kernel", shape=(3, (4, 6, 6)), axes=(2, 3, 1, 0)),
    "conv.bias": ("params", "conv", "bias"),
    "dense.bias": ("params", "dense", "bias"),
}
in_flax = goes_on(
    flax_model.init(jax.random.key(0), jnp.zeros((1, 8, 8))), flax_model.apply, flax_names
)


# In equinox: weights lie as PyTorch's do, but for the bias of a convolution.


class InEquinox(eqx.Module):
    conv: eqx.nn.Conv2d
    dense: eqx.nn.Linear

    def __call__(self, x: Any) -> Any:
        return self.dense(jax.nn.relu(self.conv(x[None])).ravel())


keys = jax.random.split(jax.random.key(0))
equinox_model = InEquinox(eqx.nn.Conv2d(1, 4, 3, key=keys[0]), eqx.nn.Linear(144, 3, key=keys[1]))
trained, rest = eqx.partition(equinox_model, eqx.is_array)
equinox_names: dict[str, Any] = {
    "conv.weight": ("conv", "weight"),
    "dense.weight": ("dense", "weight"),
    "conv.bias": Leaf("conv", "bias", shape=(4,)),
    "dense.bias": ("dense", "bias"),
}
in_equinox = goes_on(
    trained, lambda params, x: jax.vmap(eqx.combine(params, rest))(x), equinox_names
)


before, after = KEPT["losses"][:HANDED_OVER], KEPT["losses"][HANDED_OVER:]
print("step   PyTorch    flax       equinox")
for t in (0, HANDED_OVER - 1):
    print(f"{t:4}   {before[t]:.6f}")
for t in range(0, len(after), 13):
    print(f"{HANDED_OVER + t:4}   {after[t]:.6f}   {in_flax[t]:.6f}   {in_equinox[t]:.6f}")
for name, losses in {"flax": in_flax, "equinox": in_equinox}.items():
    off = np.max(abs(losses - after) / after)
    assert off < 1e-3, f"{name} is off PyTorch's losses by {off:.1e}"
    print(f"{name}: at most {off:.0e} off PyTorch's losses, in float32")
