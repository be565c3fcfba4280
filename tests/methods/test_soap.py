"""SOAP: against the authors' code, and the laws of its bases."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx
from gdfx import MatrixAxes

RECORDED = np.load(Path(__file__).parents[1] / "recordings" / "soap.npz")
ABOUT = json.loads(str(RECORDED["about"]))
AXES = MatrixAxes(inputs=1, outputs=0)
OURS = {
    "precondition_frequency": lambda n: {"every": n},
    "betas": lambda b: {"b1": b[0], "b2": b[1]},
    "shampoo_beta": lambda b: {"b3": b},
    "eps": lambda eps: {"eps": eps},
    "max_precond_dim": lambda n: {"max_precond_dim": n},
}
"""What the options of the authors' code are called here."""


def soap(**options):
    options.setdefault("matrices", lambda path, x: AXES)
    return gdfx.scale_by_soap(**options)


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
def test_the_authors_updates(name, x64):
    """Their code in float64, from their bases of the first gradient on."""
    shape, options = ABOUT["runs"][name]
    ours = {k: x for option, value in options.items() for k, x in OURS[option](value).items()}
    tx = soap(**ours)
    g = gradients(ABOUT["steps"], *shape)
    (first,), state = run(tx, g[:1])
    np.testing.assert_array_equal(first, 0)
    theirs = {
        side: jnp.asarray(RECORDED[f"{name}/q{i}"])
        for i, side in enumerate(("left_basis", "right_basis"))
        if f"{name}/q{i}" in RECORDED
    }
    for side, q in theirs.items():  # the signs are LAPACK's, and so is what spans the null space
        rank = min(shape)
        same = abs(getattr(state, side)[:, :rank].T @ q[:, :rank])
        np.testing.assert_allclose(same, np.eye(rank), atol=1e-12)
    later, _ = run(tx, g[1:], state._replace(**theirs))
    kept = [int(k.split("/u")[1]) for k in RECORDED if k.startswith(f"{name}/u")]
    assert len(kept) == 8
    for t in kept[1:]:
        downhill = -RECORDED[f"{name}/u{t}"]
        np.testing.assert_allclose(later[t - 2], downhill, rtol=1e-10, atol=1e-10)
