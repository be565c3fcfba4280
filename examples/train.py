"""Train a small network on images of handwritten digits: clipping, AdamW, a cosine schedule.

Run it with `python examples/train.py`; it needs scikit-learn, which ships the 1,797 images.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import gdfx

BATCH, EPOCHS = 64, 30

images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images, labels = (images[order] / 16.0).astype(np.float32), labels[order]
train_x, test_x = images[:1437], images[1437:]
train_y, test_y = labels[:1437], labels[1437:]


def init(key: jax.Array, *widths: int) -> list[dict[str, jax.Array]]:
    return [
        {"w": jax.random.normal(k, (i, o)) * jnp.sqrt(2 / i), "b": jnp.zeros(o)}
        for k, i, o in zip(jax.random.split(key, len(widths)), widths, widths[1:], strict=False)
    ]


def logits(params: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def loss(params: list[dict[str, jax.Array]], x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


steps = EPOCHS * (len(train_x) // BATCH)
schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, warmup_steps=50, decay_steps=steps)
tx = optax.chain(optax.clip_by_global_norm(1.0), gdfx.adamw(schedule, weight_decay=1e-2))


@jax.jit
def train_step(params: optax.Params, state: optax.OptState, x: jax.Array, y: jax.Array):
    value, grads = jax.value_and_grad(loss)(params, x, y)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value


params = init(jax.random.key(0), 64, 64, 64, 10)
state = tx.init(params)
rng = np.random.default_rng(1)
for epoch in range(1, EPOCHS + 1):
    losses: list[jax.Array] = []
    shuffled = rng.permutation(len(train_x))
    for batch in shuffled[: len(train_x) // BATCH * BATCH].reshape(-1, BATCH):
        params, state, value = train_step(params, state, train_x[batch], train_y[batch])
        losses.append(value)
    if epoch % 5 == 0:
        correct = logits(params, jnp.asarray(test_x)).argmax(-1) == test_y
        print(f"epoch {epoch:2}   loss {np.mean(losses):.4f}   test accuracy {correct.mean():.3f}")
