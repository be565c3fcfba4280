"""Which weights to evaluate: the last ones, an average of them, or Schedule-Free's.

Run it with `python examples/evaluate_average.py`. One noisy regression, one rate that never falls.
The last weights shake with the noise of the last batches; averages of them do not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import gdfx

STEPS, BATCH = 400, 8

truth = {"w": jnp.linspace(-1.0, 1.0, 16), "b": jnp.array(0.5)}
start = jax.tree.map(jnp.zeros_like, truth)


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def batch(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    here, there = jax.random.split(key)
    x = jax.random.normal(here, (size, 16))
    return x, x @ truth["w"] + truth["b"] + 0.5 * jax.random.normal(there, (size,))


@jax.jit
def error(params: Any) -> jax.Array:
    """The loss on many new examples, above that of the noise."""
    return loss(params, *batch(jax.random.key(1), 20_000)) - 0.25


def train(tx: optax.GradientTransformation) -> tuple[Any, Any]:
    """The last parameters, and the last state."""

    @jax.jit
    def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, state = carry
        grads = jax.grad(loss)(params, *batch(key, BATCH))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), STEPS)
    (params, state), _ = jax.lax.scan(step, (start, tx.init(start)), keys)
    return params, state


# 1. An average leaves the run as it is: the last weights are those without it.
last, _ = train(gdfx.adam(0.02))
print(f"1. the last weights                     {error(last):.4f}")
for name, tx in {
    "running mean, decay=0.98": gdfx.averaged(gdfx.adam(0.02), decay=0.98),
    "mean of the second half, start=201": gdfx.averaged(gdfx.adam(0.02), start=201),
    "polynomial, gamma=8": gdfx.averaged(gdfx.adam(0.02), gamma=8.0),
    "the last 20, every fifth, last=20": gdfx.averaged(gdfx.adam(0.02), last=20, every=5),
}.items():
    params, state = train(tx)
    print(f"   {name:36} {error(gdfx.eval_params(state, params)):.4f}")

# 2. Schedule-Free steers by its average: the parameters are a point between it and the walk.
params, state = train(gdfx.schedule_free_adamw(0.05, warmup_steps=20))
print(f"2. schedule_free_adamw, its parameters  {error(params):.4f}")
print(f"   its average                          {error(gdfx.eval_params(state, params)):.4f}")

# 3. However deep the average sits: clipped, guarded, and for one part of the model alone.
half = optax.partition(
    {"averaged": gdfx.averaged(gdfx.adam(0.02), start=201), "plain": gdfx.adam(0.02)},
    {"w": "averaged", "b": "plain"},
)
params, state = train(gdfx.skip_nonfinite(optax.chain(optax.clip_by_global_norm(10.0), half)))
evaluated = gdfx.eval_params(state, params)
print(f"3. w averaged, b as it is               {error(evaluated):.4f}")

# 4. Where nothing averages, it says so.
params, state = train(gdfx.adam(0.02))
try:
    gdfx.eval_params(state, params)
except ValueError as sentence:
    print(f"4. {sentence}")
