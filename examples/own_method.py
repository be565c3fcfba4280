"""Your own method in a few lines: steps along the sign of a running mean, raced against Adam.

Run it with `python examples/own_method.py`. In `examples/`, `gdfx check own_method:sign_momentum`
tries it on the laws, and `gdfx race -m adam -m own_method:sign_momentum=3e-4 -p mnist` is the same
race.
"""

# docs/custom-method.md shows this part.
from typing import Any, NamedTuple

import jax.numpy as jnp

import gdfx
from gdfx.core.arguments import checked
from gdfx.core.moments import accumulator, ema


class SignState(NamedTuple):
    mu: Any  # m, shapes of W


@checked
def sign_momentum(learning_rate, b1=0.9):
    """Step along the sign of a running mean of the gradient.

    ::

        (1) m ← β₁ m + (1 − β₁) g         m = 0 at the start
        (2) W ← W − η sign(m)
    """

    def init(p):
        return accumulator(p)

    def rule(g, m):
        m = ema(m, g, b1)  # (1)
        return jnp.sign(m), m  # (2)

    return gdfx.descend(gdfx.per_leaf(SignState, init, rule), learning_rate)


# Up to here.


if __name__ == "__main__":
    from gdfx import lab

    methods = {"adam": 1e-3, "sign_momentum": (sign_momentum, 3e-4)}
    print(lab.race(methods, "mnist", steps=150, seeds=2))
