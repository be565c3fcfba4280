"""Shampoo: against Meta's code and the equations in NumPy, and its laws."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx
from gdfx import MatrixAxes

RECORDED = np.load(Path(__file__).parents[1] / "recordings" / "shampoo.npz")
ABOUT = json.loads(str(RECORDED["about"]))
AXES = MatrixAxes(inputs=1, outputs=0)
OURS = {
    "betas": lambda b: {"b1": b[0], "b2": b[1]},
    "start": lambda n: {"start": n},
    "every": lambda n: {"every": n},
    "graft": lambda word: {"graft": "adam" if word == "adagrad" else word},
    "exponent": lambda e: {"exponent": e},
    "block": lambda n: {"matrices": lambda path, x: MatrixAxes(1, 0, blocks={0: 2, 1: 2})},
}
"""What the options of a run are called here; sums of squares are AdaGrad's with either word."""


def shampoo(**options):
    options.setdefault("matrices", lambda path, x: AXES)
    return gdfx.scale_by_shampoo(**options)


def gradients(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def run(tx, gradients, state=None):
    """The updates of all steps, compiled, and the state after the last."""
    state = tx.init(gradients[0]) if state is None else state
    update, found = jax.jit(tx.update), []
    for g in gradients:
        u, state = update(jnp.asarray(g), state)
        found.append(np.asarray(u))
    return found, state


@pytest.mark.parametrize("name", ABOUT["runs"])
def test_metas_updates(name, x64):
    """Distributed Shampoo in float64."""
    shape, options = ABOUT["runs"][name]
    ours = {"b1": 0.9, "b2": 0.99, "eps": 1e-6}
    for option, value in options.items():
        ours |= OURS[option](value)
    found, _ = run(shampoo(**ours), gradients(ABOUT["steps"], *shape))
    kept = [int(k.split("/u")[1]) for k in RECORDED if k.startswith(f"{name}/u")]
    assert len(kept) == 8
    for t in kept:
        downhill = -RECORDED[f"{name}/u{t}"]
        np.testing.assert_allclose(found[t - 1], downhill, rtol=1e-10, atol=1e-10, err_msg=f"{t}")
