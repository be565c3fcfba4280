"""Print the tables of docs/conventions.md: optax's form and the textbook's, side by side.

Run it with `python docs/scripts/conventions.py`.
"""
# ruff: noqa: D103

from typing import Any

import jax
import jax.numpy as jnp
import optax

import gdfx
from gdfx import textbook

STEPS = 200


def steps_along(tx: Any, g: float, steps: int) -> jax.Array:
    """The lengths of the steps along a constant gradient."""

    def step(state, _):
        update, state = tx.update(jnp.asarray(g), state)
        return state, -update

    return jax.lax.scan(step, tx.init(jnp.asarray(0.0)), length=steps)[1]


def valley(tx: Any) -> tuple[jax.Array, jax.Array]:
    """Points and losses on x²/20 + y² from (-7, 2)."""

    def loss(w):
        return w[0] ** 2 / 20 + w[1] ** 2

    def step(carry, _):
        w, state = carry
        update, state = tx.update(jax.grad(loss)(w), state, w)
        w = optax.apply_updates(w, update)
        return (w, state), (w, loss(w))

    start = jnp.asarray([-7.0, 2.0])
    return jax.lax.scan(step, (start, tx.init(start)), length=STEPS)[1]


def row(*cells: Any) -> None:
    shown = (c if isinstance(c, str) else f"{float(c):.2g}" for c in cells)
    print(f"| {' | '.join(shown)} |")


def head(*cells: str) -> None:
    row(*cells)
    row(*["---"] * len(cells))


def momentum_under_schedules() -> None:
    schedules = {
        "constant 0.1": 0.1,
        "cosine from 0.1 to 0": optax.cosine_decay_schedule(0.1, STEPS),
        "0.1, from step 100 on 0.001": optax.piecewise_constant_schedule(0.1, {100: 0.01}),
    }
    head("schedule", "farthest apart", "loss, rate outside", "loss, rate inside")
    for name, schedule in schedules.items():
        outside, inside = valley(gdfx.momentum(schedule)), valley(textbook.momentum(schedule))
        apart = jnp.linalg.norm(outside[0] - inside[0], axis=1).max()
        row(name, f"{apart:.4f}", outside[1][-1], inside[1][-1])
    print()


def momentum_after_drop() -> None:
    """The rate falls from 1 to 0.01 once the velocity has reached its limit, along g = 1."""
    drop = optax.piecewise_constant_schedule(1.0, {STEPS: 0.01})
    shown = {"before": -1, "1st after": 0, "2nd": 1, "10th": 9, "30th": 29, "60th": 59}
    head("step", *shown)
    for name, tx in ("outside", gdfx.momentum(drop)), ("inside", textbook.momentum(drop)):
        lengths = steps_along(tx, 1.0, STEPS + 60)
        row(f"length, rate {name}", *(lengths[STEPS + i] for i in shown.values()))
    print()


def adagrad_start() -> None:
    head("g", "1st step, h₀ = 0.1", "1st step, h₀ = 0", "within 10 % from step")
    for g in 1.0, 0.1, 0.01:
        optax_form = steps_along(gdfx.adagrad(1.0), g, 10_000)
        textbook_form = steps_along(textbook.adagrad(1.0), g, 10_000)
        close = jnp.argmax(optax_form >= 0.9 * textbook_form) + 1
        row(f"{g:g}", optax_form[0], textbook_form[0], f"{int(close):,}")
    print()


def adam_epsilon() -> None:
    head("g", "ε outside: steps 1, 10, 100", "ε inside: steps 1, 10, 100", "inside, step 10,000")
    for g in 1.0, 1e-2, 1e-3, 1e-4, 1e-5:
        outside, inside = (
            steps_along(tx, g, 10_000) for tx in (gdfx.adam(1.0), textbook.adam(1.0))
        )
        row(
            f"{g:g}",
            *(", ".join(f"{a[i]:.2g}" for i in (0, 9, 99)) for a in (outside, inside)),
            inside[-1],
        )
    print()


if __name__ == "__main__":
    momentum_under_schedules()
    momentum_after_drop()
    adagrad_start()
    adam_epsilon()
