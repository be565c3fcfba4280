"""Muon beside AdamW on a small transformer of characters, in flax nnx and in equinox.

The text is Python's own reference, which the standard library ships for `help()`. Each method is
run at the same number of learning rates, all in one compiled program, and for as many steps; each
rate falls to zero. The tables show which leaves are matrices and how large.

Run it with `python examples/small_transformer.py`; it needs flax and equinox, and takes one or two
minutes on two cores.
"""

import time
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import gdfx

LAYERS, WIDTH, HEADS, CONTEXT = 2, 64, 4, 64
BATCH, STEPS, EVERY = 8, 160, 10
RATES = (3e-3, 1e-2, 3e-2, 1e-1)

text = "\n".join(topics[name] for name in sorted(topics))
letters = sorted(set(text))
codes = np.searchsorted(letters, list(text)).astype(np.int32)
split = len(codes) * 9 // 10
CAUSAL = jnp.tril(jnp.ones((CONTEXT, CONTEXT), bool))


def windows(codes: np.ndarray, n: int, seed: int) -> jax.Array:
    """Stretches of text, one character longer than the context: the next is to be told."""
    starts = np.random.default_rng(seed).integers(0, len(codes) - CONTEXT, n)
    return jnp.asarray(codes[starts[:, None] + np.arange(CONTEXT + 1)])


batches = windows(codes[:split], STEPS * BATCH, 0).reshape(STEPS, BATCH, CONTEXT + 1)
held_out = windows(codes[split:], 32, 1)


def cross_entropy(logits: jax.Array, x: jax.Array) -> jax.Array:
    """In nats a character."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, x[:, 1:]).mean()


# In flax nnx. The layers lie stacked along axis 0 of each array.


class NnxBlock(nnx.Module):
    """Attention and a network of two layers, each beside a way around it."""

    def __init__(self, rngs: nnx.Rngs):
        self.norm_1 = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, decode=False, use_bias=False, rngs=rngs
        )
        self.norm_2 = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm_1(x), mask=CAUSAL)
        return x + self.down(jax.nn.gelu(self.up(self.norm_2(x))))


class NnxModel(nnx.Module):
    """A transformer."""

    def __init__(self, rngs: nnx.Rngs):
        stack = nnx.split_rngs(splits=LAYERS)(nnx.vmap(NnxBlock, in_axes=0, out_axes=0))
        self.embed = nnx.Embed(len(letters), WIDTH, rngs=rngs)
        self.embed_place = nnx.Embed(CONTEXT, WIDTH, rngs=rngs)
        self.layers = stack(rngs)
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, len(letters), use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        through = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        x = self.embed(x) + self.embed_place(jnp.arange(CONTEXT))
        return self.head(self.norm(through(x, self.layers)))


graph, nnx_params = nnx.split(NnxModel(nnx.Rngs(0)), nnx.Param)


def nnx_loss(params: Any, x: jax.Array) -> jax.Array:
    return cross_entropy(nnx.merge(graph, params)(x[:, :-1]), x)


# In equinox. The layers lie stacked, too.


class EqxBlock(eqx.Module):
    """Attention and a network of two layers, each beside a way around it."""

    norm_1: eqx.nn.RMSNorm
    attention: eqx.nn.MultiheadAttention
    norm_2: eqx.nn.RMSNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        a, b, c = jax.random.split(key, 3)
        self.norm_1 = eqx.nn.RMSNorm(WIDTH, use_bias=False)
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=a)
        self.norm_2 = eqx.nn.RMSNorm(WIDTH, use_bias=False)
        self.up = eqx.nn.Linear(WIDTH, 4 * WIDTH, use_bias=False, key=b)
        self.down = eqx.nn.Linear(4 * WIDTH, WIDTH, use_bias=False, key=c)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.vmap(self.norm_1)(x)
        x = x + self.attention(y, y, y, mask=CAUSAL)
        return x + jax.vmap(lambda y: self.down(jax.nn.gelu(self.up(self.norm_2(y)))))(x)


class EqxModel(eqx.Module):
    """A transformer."""

    embed: eqx.nn.Embedding
    embed_place: eqx.nn.Embedding
    layers: EqxBlock
    norm: eqx.nn.RMSNorm
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        a, b, c, d = jax.random.split(key, 4)
        small = eqx.nn.Embedding(weight=jax.random.normal(a, (len(letters), WIDTH)) / WIDTH**0.5)
        place = eqx.nn.Embedding(weight=jax.random.normal(b, (CONTEXT, WIDTH)) / WIDTH**0.5)
        self.embed, self.embed_place = small, place
        self.layers = eqx.filter_vmap(EqxBlock)(jax.random.split(c, LAYERS))
        self.norm = eqx.nn.RMSNorm(WIDTH, use_bias=False)
        self.head = eqx.nn.Linear(WIDTH, len(letters), use_bias=False, key=d)

    def __call__(self, x: jax.Array) -> jax.Array:
        arrays, rest = eqx.partition(self.layers, eqx.is_array)
        x = jax.vmap(self.embed)(x) + self.embed_place.weight
        x, _ = jax.lax.scan(lambda x, layer: (eqx.combine(layer, rest)(x), None), x, arrays)
        return jax.vmap(lambda y: self.head(self.norm(y)))(x)


eqx_params, eqx_rest = eqx.partition(EqxModel(jax.random.key(0)), eqx.is_inexact_array)


def eqx_loss(params: Any, x: jax.Array) -> jax.Array:
    return cross_entropy(jax.vmap(eqx.combine(params, eqx_rest))(x[:, :-1]), x)


# Training.

Make = Callable[[Any], optax.GradientTransformation]


def trained(make: Make, loss: Callable[..., jax.Array], params: Any) -> tuple[np.ndarray, float]:
    """The held-out loss at each rate, every few steps, and the seconds of a step at one rate."""

    def run(rate: jax.Array) -> jax.Array:
        tx = make(lambda t: rate * jnp.minimum(1, (t + 1) / 20) * (1 - t / STEPS))

        def step(carry: Any, x: jax.Array) -> tuple[Any, None]:
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, x), state, params)
            return (optax.apply_updates(params, updates), state), None

        def stretch(carry: Any, some: jax.Array) -> tuple[Any, jax.Array]:
            carry, _ = jax.lax.scan(step, carry, some)
            return carry, loss(carry[0], held_out)

        some = batches.reshape(-1, EVERY, *batches.shape[1:])
        return jax.lax.scan(stretch, (params, tx.init(params)), some)[1]

    compiled = jax.jit(lambda rates: jax.lax.map(run, rates)).lower(jnp.asarray(RATES)).compile()
    start = time.perf_counter()
    losses = np.asarray(compiled(jnp.asarray(RATES)))
    return losses, (time.perf_counter() - start) / (len(RATES) * STEPS)


def compared(name: str, loss: Callable[..., jax.Array], params: Any, matrices: Any) -> None:
    """The table of the matrices, and both methods at every rate."""
    print(f"{name}\n\n{gdfx.matrix_table(params, matrices)}\n")
    methods: dict[str, Make] = {
        "adamw": lambda rate: gdfx.adamw(rate, 0.9, 0.95, weight_decay=0.1),
        "muon": lambda rate: gdfx.muon(rate, weight_decay=0.1, matrices=matrices),
    }
    found = {label: trained(make, loss, params) for label, make in methods.items()}
    print("held-out loss after", STEPS, "steps, in nats a character")
    print(f"{'rate':8}" + "".join(f"{rate:>8.0e}" for rate in RATES) + "   ms a step")
    for label, (losses, seconds) in found.items():
        cells = "".join(f"{x:8.3f}" for x in losses[:, -1])
        print(f"{label:8}{cells}{1000 * seconds:12.0f}")
    at = {label: int(np.nanargmin(losses[:, -1])) for label, (losses, _) in found.items()}
    best = {label: losses[at[label]] for label, (losses, _) in found.items()}
    slow, fast = sorted(best, key=lambda label: best[label][-1], reverse=True)
    target = best[slow][-1]
    steps = EVERY * (1 + int(np.argmax(best[fast] <= target)))
    print(
        f"\nEach at its best rate: {slow} ends at {target:.3f} after {STEPS} steps; {fast} is "
        f"there after {steps}."
    )
    for label in best:
        if at[label] in (0, len(RATES) - 1):
            print(f"{label} is best at the last rate tried; one beyond may be better.")
    print()


compared("flax nnx", nnx_loss, nnx_params, gdfx.layout("flax", stacked=r"\['layers'\]"))
compared("equinox", eqx_loss, eqx_params, gdfx.layout("equinox", stacked=r"\.layers"))
