"""SPlus: against the authors' code, and what it makes of what is only rounding."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx
from gdfx import MatrixAxes

RECORDED = np.load(Path(__file__).parents[1] / "recordings" / "splus.npz")
ABOUT = json.loads(str(RECORDED["about"]))
RATE, DECAY, STEPS = 0.1, 0.01, ABOUT["steps"]
OURS = {"inverse_every": "every", "max_dim": "max_precond_dim"}
"""What the options of the authors' code are called here."""


def matrices(path, x):
    return MatrixAxes(inputs=1, outputs=0) if np.ndim(x) == 2 else None


def gradients(shape):
    return np.random.default_rng(0).normal(size=(STEPS, *shape))


@pytest.mark.parametrize("name", ABOUT["runs"])
def test_the_authors_weights(name, x64):
    """Their code in float64, from their bases of the first gradient on.

    They decay after the step: from zero on, and the same gradients, that is one decay more.
    """
    shape, options = ABOUT["runs"][name]
    given = {OURS.get(option, option): x for option, x in options.items()}
    tx = gdfx.splus(RATE, matrices=matrices, **given)
    update = jax.jit(tx.update)
    w = jnp.zeros(shape)
    state, expected = tx.init(w), {}
    longest = given.get("max_precond_dim", 10_000)
    whole = len(shape) == 2 and max(shape) <= longest
    s = 2 / sum(shape) if whole else 0.001
    once = 1 - RATE * s * given.get("weight_decay", DECAY)
    for t, g in enumerate(gradients(shape), 1):
        u, state = update(jnp.asarray(g), state, w)
        w = optax.apply_updates(w, u)
        if t == 1 and len(shape) == 2:
            state = _with_their_bases(state, name)
        expected[t] = once * w
    kept = [int(k.split("/w")[1]) for k in RECORDED if k.startswith(f"{name}/w")]
    assert len(kept) == 8
    for t in kept:
        np.testing.assert_allclose(RECORDED[f"{name}/w{t}"], expected[t], rtol=1e-10, atol=1e-13)


def _with_their_bases(state, name):
    """The signs of eigenvectors are LAPACK's, and so is what spans the null space."""
    inner = state.inner_states["matrices"].inner_state[0]
    theirs = {
        side: jnp.asarray(RECORDED[f"{name}/q{i}"])[:, ::-1]
        for i, side in enumerate(("left_basis", "right_basis"))
        if f"{name}/q{i}" in RECORDED
    }
    for side, q in theirs.items():
        rank = min(state_shape := getattr(inner, side).shape[0], *ABOUT["runs"][name][0])
        same = abs(getattr(inner, side)[:, :rank].T @ q[:, :rank])
        np.testing.assert_allclose(same, np.eye(rank), atol=1e-12)
        assert q.shape == (state_shape, state_shape)
    return optax.tree.set(state, **theirs)


def test_a_steady_gradient_is_followed_along_its_own_directions_alone():
    """Along all others it is nothing but rounding, whose sign would be a whole step."""
    g = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)), "float32")
    tx = gdfx.scale_by_splus(matrices="2d")
    _, state = tx.update(g, tx.init(g))
    u, _ = tx.update(g, state)
    left, _, right = np.linalg.svd(g)
    np.testing.assert_allclose(u, left @ right, atol=1e-5)


def test_the_first_step_is_of_signs_and_every_leaf_has_its_length(x64):
    params = {"w": jnp.ones((4, 6)), "long": jnp.ones((2, 9)), "b": jnp.ones(3)}
    g = jax.tree.map(lambda p: -2.0 * p, params)
    tx = gdfx.splus(0.5, weight_decay=0.0, max_precond_dim=8, matrices="2d")
    u, _ = tx.update(g, tx.init(params), params)
    expected = {"w": 0.5 * 2 / 10, "long": 0.5 * 0.001, "b": 0.5 * 0.001}
    for name, x in u.items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-12)
