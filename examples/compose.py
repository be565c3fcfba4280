"""gdfx with optax's parts: clipping, a schedule, masks, two methods at once, accumulation.

Run it with `python examples/compose.py`. Each section changes one thing and shows it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import gdfx

params = {"w": jnp.full((2, 2), 2.0), "b": jnp.ones(2)}
grads = {"w": jnp.full((2, 2), 30.0), "b": jnp.full(2, 40.0)}


def run(tx: optax.GradientTransformation, steps: int, scale: float = 1.0) -> tuple[list[Any], Any]:
    """The updates of so many steps along one gradient, and the last state."""
    w, state, seen = params, tx.init(params), []
    for _ in range(steps):
        updates, state = jax.jit(tx.update)(jax.tree.map(lambda g: scale * g, grads), state, w)
        w = optax.apply_updates(w, updates)
        seen.append(updates)
    return seen, state


# 1. Clipping stands before the method: the gradient's norm is 82, the step's at most 0.1.
(updates,), _ = run(optax.chain(optax.clip_by_global_norm(1.0), gdfx.sgd(0.1)), 1)
print(
    f"1. norm of the gradient {optax.global_norm(grads):.1f}, step {optax.global_norm(updates):.3f}"
)

# 2. A schedule stands where the rate does.
seen, _ = run(gdfx.adam(optax.linear_schedule(0.1, 0.0, 4)), 5)
print("2. lengths of Adam's steps, rate falling to 0:", [f"{-u['b'][0]:.3f}" for u in seen])


# 3. Weight decay for matrices alone: biases and norms are usually spared.
def matrices(tree: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, tree)


(updates,), _ = run(gdfx.adamw(0.1, weight_decay=0.5, mask=matrices), 1, scale=0.0)
print(f"3. with gradient 0, w moves by {updates['w'][0, 0]:.2f}, b by {abs(updates['b'][0]):.2f}")

# 4. Two methods: Adam for matrices, plain SGD for the rest.
labels = {"w": "adam", "b": "sgd"}
(updates,), state = run(optax.partition({"adam": gdfx.adam(0.1), "sgd": gdfx.sgd(0.1)}, labels), 1)
print(f"4. w moves by {updates['w'][0, 0]:.2f} (Adam), b by {updates['b'][0]:.2f} (SGD)")

# 5. Accumulation: the method sees the mean of four gradients, every fourth step.
seen, _ = run(optax.MultiSteps(gdfx.momentum(0.1), 4).gradient_transformation(), 8)
print("5. b's updates over eight steps:", [f"{u['b'][0]:.1f}" for u in seen])

# 6. The current rate, read from the state, for a log.
injected = optax.inject_hyperparams(gdfx.adam)(optax.cosine_decay_schedule(0.1, 10))
_, state = run(injected, 6)
rate = state.hyperparams["learning_rate"]
print(f"6. rate of step 6: {rate:.3f}")
