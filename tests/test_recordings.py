"""Methods against what their authors' code, or another reference, did on the same gradients.

`tests/recordings/` has what was recorded, and the scripts that recorded it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from recordings.replay import BLOCKS, KEPT, gradients, parameters, recorded

import gdfx
from gdfx import MatrixAxes

LR = 0.02

AXES = {
    "['copies']": MatrixAxes(inputs=2, outputs=1, batch=0),
    "['blocks']": MatrixAxes(inputs=1, outputs=0, blocks={0: BLOCKS}),
}


def matrices(path: str, x: Any) -> MatrixAxes | None:
    """(outputs, inputs), as the references have them."""
    return None if np.ndim(x) < 2 else AXES.get(path, MatrixAxes(inputs=1, outputs=0))


def rmnp(learning_rate: float, decay: float = 0.95, **kwargs: Any) -> Any:
    return gdfx.scion(learning_rate, decay, "rmnp", 1.0, **kwargs)


class Row(NamedTuple):
    """A recording, and the call that must do the same."""

    file: str
    label: str
    make: Any
    arguments: dict[str, Any]
    tolerance: float = 1e-10  # of the largest parameter

    def __str__(self) -> str:
        return f"{self.file}-{self.label}"


SIGNS = 2e-8
"""AdaMuon's authors add 1e-7 to the norm of a matrix of signs, which is no larger than √size."""

JORDAN = {"scale": "jordan", "weight_decay": 0.1}

ROWS = [
    Row("muon", "torch", gdfx.muon, JORDAN),
    Row("muon", "match_rms_adamw", gdfx.muon, {"decay": 0.8}),
    Row("muon", "no_nesterov", gdfx.muon, JORDAN | {"nesterov": False}),
    Row("muon", "coefficients", gdfx.muon, JORDAN | {"orthogonalize": (2, -1.5, 0.5), "steps": 12}),
    Row("muon", "jordan", gdfx.muon, {"scale": "jordan", "weight_decay": 0.01}),
    Row("normuon", "default", gdfx.normuon, {"scale": "jordan"}),
    Row("normuon", "decays", gdfx.normuon, JORDAN | {"decay": 0.8, "b2": 0.5}),
    Row("adamuon", "default", gdfx.adamuon, {"eps": 1e-12, "weight_decay": 0.01}, SIGNS),
    Row(
        "adamuon",
        "no_nesterov",
        gdfx.adamuon,
        {"eps": 1e-12, "decay": 0.8, "nesterov": False, "weight_decay": 0.1},
        SIGNS,
    ),
    Row("scion", "spectral", gdfx.scion, {}),
    Row("scion", "unconstrained", gdfx.scion, {"radius": 3.0, "weight_decay": 0.0}),
    Row("scion", "sign", gdfx.scion, {"norm": "sign", "radius": 3000.0}),
    Row("scion", "row", gdfx.scion, {"norm": "row", "radius": 2.0}),
    Row("scion", "column", gdfx.scion, {"norm": "column", "radius": 2.0}),
    Row("scion_vectors", "rms", gdfx.scion, {"radius": 1.0}),
    Row("rmnp", "default", rmnp, {"nesterov": True, "weight_decay": 0.1}),
    Row("polargrad", "default", gdfx.polargrad, {"weight_decay": 0.1}),
    Row("polargrad", "polar_first", gdfx.polargrad, {"polar_first": True}),
    Row("polargrad", "quintic", gdfx.polargrad, {"decay": 0.8, "orthogonalize": "quintic"}),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_parameters_are_the_reference_s(row, x64):
    expected = recorded(row.file, row.label)
    tx = row.make(LR, matrices=matrices, **row.arguments)
    params = {name: jnp.asarray(parameters(name)) for name in expected}

    @jax.jit
    def run(params, gradients):
        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return lax.scan(step, (params, tx.init(params)), gradients)[1]

    found = run(params, {name: jnp.asarray(gradients(name)) for name in expected})
    for name, theirs in expected.items():
        ours = np.asarray(found[name])[np.subtract(KEPT, 1)]
        off = np.max(abs(ours - theirs)) / np.max(abs(theirs))
        assert off < row.tolerance, f"{name}: off by {off:.1e} of the largest parameter"
