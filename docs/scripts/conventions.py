"""Print the tables of docs/conventions.md: optax's form, the textbook's, PyTorch's, Keras's.

Run it with `python docs/scripts/conventions.py`.
"""
# ruff: noqa: D103

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdfx
from gdfx import keras, textbook, torch

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


def end(tx: Any, gradients: jax.Array) -> jax.Array:
    """How far the gradients carry the parameters."""
    start = jnp.asarray(np.random.default_rng(1).normal(size=gradients.shape[1:]), jnp.float32)

    def step(carry, g):
        w, state = carry
        update, state = tx.update(g, state, w)
        return (optax.apply_updates(w, update), state), None

    return jax.lax.scan(step, (start, tx.init(start)), gradients)[0][0] - start


FALLING = optax.cosine_decay_schedule(0.1, 100)


def torch_drift() -> None:
    rows = [
        (
            *("`SGD`, momentum 0.9, cosine schedule", torch.SGD(FALLING, 0.9)),
            *("rate inside the buffer", textbook.momentum(FALLING, 0.9)),
        ),
        (
            *("`SGD`, momentum and dampening 0.9", torch.SGD(0.1, 0.9, 0.9)),
            *("no dampening", gdfx.momentum(0.1, 0.9)),
        ),
        (
            *("", torch.SGD(0.1, 0.9, 0.9)),
            *("first gradient damped too", optax.chain(optax.scale(0.1), gdfx.momentum(0.1, 0.9))),
        ),
        ("`Adagrad`", torch.Adagrad(), "h from 0.1, ε inside the root", gdfx.adagrad(0.01)),
        ("`Adagrad`, lr_decay 0.01", torch.Adagrad(0.01, 0.01), "no lr_decay", torch.Adagrad()),
        ("`RMSprop`", torch.RMSprop(), "mean over ten steps, ε inside", gdfx.rmsprop(0.01)),
        ("", torch.RMSprop(), "ε inside the root", gdfx.rmsprop(0.01, 0.99)),
        (
            *("`RMSprop`, momentum 0.9, cosine schedule", torch.RMSprop(FALLING, momentum=0.9)),
            "rate inside the buffer",
            gdfx.rmsprop(FALLING, 0.99, eps_in_sqrt=False, momentum=0.9),
        ),
        ("`Adadelta`", torch.Adadelta(), "`gdfx.adadelta`", gdfx.adadelta(1.0)),
        ("`Adam`", torch.Adam(), "`gdfx.adam`", gdfx.adam(1e-3)),
        ("", torch.Adam(), "ε inside the root", textbook.adam(1e-3)),
        (
            *("`Adam`, weight_decay 0.1", torch.Adam(weight_decay=0.1)),
            *("decoupled decay", torch.AdamW(weight_decay=0.1)),
        ),
        (
            *("`Adam`, amsgrad", torch.Adam(amsgrad=True)),
            *("maximum of the corrected v", gdfx.amsgrad(1e-3)),
        ),
        ("`AdamW`", torch.AdamW(), "optax's default λ, 1e-4", gdfx.adamw(1e-3)),
        ("`NAdam`", torch.NAdam(), "β₁ for every μ", gdfx.nadam(2e-3)),
        ("", torch.NAdam(), "Keras's momentum_decay, 1", torch.NAdam(momentum_decay=1.0)),
        (
            *("`RAdam`, eps 1e-4", torch.RAdam(eps=1e-4)),
            *("ε after the correction", gdfx.radam(1e-3, eps=1e-4)),
        ),
        ("`Adamax`", torch.Adamax(), "`gdfx.adamax`", gdfx.adamax(2e-3)),
        ("`ASGD`, lambd 0.01", torch.ASGD(lambd=0.01), "SGD", gdfx.sgd(0.01)),
        ("`Rprop`", torch.Rprop(), "`gdfx.rprop`", gdfx.rprop(0.01)),
        ("`Adafactor`", torch.Adafactor(), "optax's", gdfx.adafactor(0.01)),
        (
            *("`Muon`", torch.Muon(), "Moonlight's scale"),
            gdfx.muon(1e-3, weight_decay=0.1, matrices=outputs_first),
        ),
    ]
    drift("PyTorch's", rows)


def keras_drift() -> None:
    rows = [
        (
            *("`SGD`, momentum 0.9, cosine schedule", keras.SGD(FALLING, 0.9)),
            *("rate outside the buffer", gdfx.momentum(FALLING, 0.9)),
        ),
        (
            *("", keras.SGD(FALLING, 0.9)),
            *("`gdfx.textbook.momentum`", textbook.momentum(FALLING, 0.9)),
        ),
        ("`RMSprop`", keras.RMSprop(), "optax's ε, 1e-8", gdfx.rmsprop(1e-3)),
        ("", keras.RMSprop(), "PyTorch's α and ε", torch.RMSprop(1e-3)),
        ("`Adagrad`", keras.Adagrad(), "`gdfx.adagrad`", gdfx.adagrad(1e-3)),
        ("", keras.Adagrad(), "h from 0, ε outside the root", torch.Adagrad(1e-3)),
        ("`Adadelta`", keras.Adadelta(), "optax's ρ and ε", gdfx.adadelta(1e-3)),
        ("`Adam`", keras.Adam(), "ε after the correction", gdfx.adam(1e-3, eps=1e-7)),
        ("`Adam`, epsilon 1e-4", keras.Adam(epsilon=1e-4), "the same", gdfx.adam(1e-3, eps=1e-4)),
        (
            *("`Adam`, amsgrad", keras.Adam(amsgrad=True)),
            *("maximum of the corrected v", gdfx.amsgrad(1e-3, eps=1e-7)),
        ),
        (
            *("`Adam`, weight_decay 0.1", keras.Adam(weight_decay=0.1)),
            *("decay in the gradient", torch.Adam(eps=1e-7, weight_decay=0.1)),
        ),
        ("`AdamW`", keras.AdamW(), "optax's default λ, 1e-4", gdfx.adamw(1e-3)),
        ("`Adamax`", keras.Adamax(), "ε inside the maximum", gdfx.adamax(1e-3, eps=1e-7)),
        ("`Nadam`", keras.Nadam(), "β₁ for every μ", gdfx.nadam(1e-3, eps=1e-7)),
        ("", keras.Nadam(), "PyTorch's momentum_decay, 4e-3", torch.NAdam(1e-3, eps=1e-7)),
        ("`Ftrl`, learning_rate 0.1", keras.Ftrl(0.1), "AdaGrad", gdfx.adagrad(0.1)),
        ("`Lion`", keras.Lion(), "optax's default λ, 1e-3", gdfx.lion(1e-3)),
        ("`Adafactor`", keras.Adafactor(), "optax's", gdfx.adafactor(1e-3)),
        ("", keras.Adafactor(), "PyTorch's", torch.Adafactor(1e-3)),
        (
            *("`Lamb`, weight_decay 0.1", keras.Lamb(weight_decay=0.1)),
            *("decay as part of u", gdfx.lamb(1e-3, eps=1e-7, weight_decay=0.1)),
        ),
    ]
    drift("Keras's", rows)


def drift(whose: str, rows: list[Any]) -> None:
    """Runs along the same 100 gradients, of another size in each row of a matrix."""
    rng = np.random.default_rng(0)
    sizes = np.logspace(-3, 0, 8)[:, None]
    gradients = jnp.asarray((rng.normal(size=(100, 8, 4)) + 0.3) * sizes, jnp.float32)
    head(whose, "what is taken for it", "drift")
    for name, theirs, what, other in rows:
        there = end(theirs, gradients)
        off = 100 * float(jnp.linalg.norm(end(other, gradients) - there) / jnp.linalg.norm(there))
        row(name, what, "none" if off < 1e-3 else f"{off:.0f} %" if off > 10 else f"{off:.2g} %")
    print()


def outputs_first(path: str, x: Any) -> gdfx.MatrixAxes:
    return gdfx.MatrixAxes(inputs=1, outputs=0)


if __name__ == "__main__":
    momentum_under_schedules()
    momentum_after_drop()
    adagrad_start()
    adam_epsilon()
    torch_drift()
    keras_drift()
