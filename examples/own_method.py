"""Your own method in ten lines: steps along the sign of a running mean, raced against Adam.

Run it with `python examples/own_method.py`. The same race from the command line,
in `examples/`: `python -m gdfx race -m adam -m own_method:sign_momentum=3e-4 -p mnist`.
"""

# docs/custom-method.md shows this part.
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gdfx
from gdfx.core.moments import accumulator, ema


class SignState(NamedTuple):
    mu: Any  # m, shapes of W


def scale_by_sign(b1: float = 0.9) -> optax.GradientTransformationExtraArgs:
    def init(p: jax.Array):
        return accumulator(p)

    def rule(g: jax.Array, m: jax.Array):
        m = ema(m, g, b1)  # m ← β m + (1 − β) g
        return jnp.sign(m), m  # u = sign(m)

    return gdfx.per_leaf(SignState, init, rule)


def sign_momentum(learning_rate: optax.ScalarOrSchedule, b1: float = 0.9):
    return gdfx.descend(scale_by_sign(b1), learning_rate)  # W ← W − η u


# Up to here.


if __name__ == "__main__":
    from gdfx import lab

    methods = {"adam": 1e-3, "sign_momentum": (sign_momentum, 3e-4)}
    print(lab.race(methods, "mnist", steps=150, seeds=2))
