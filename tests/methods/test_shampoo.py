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
    "betas": lambda b: {"b1": b[0], "b2": None if b[1] == 1 else b[1]},
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


def power(c, e):
    values, q = np.linalg.eigh(c)
    return (q * (values - min(values[0], 0) + 1e-6) ** e) @ q.T


def test_the_paper_of_2018_in_numpy(x64):
    """arXiv:1802.09568, Algorithm 1, with ε I in the root."""
    g, left, right = gradients(30, 3, 5), 0, 0
    found, _ = run(shampoo(b1=0.0, b2=None, eps=1e-6, graft=None, every=1), g)
    for x, u in zip(g, found, strict=True):
        left, right = left + x @ x.T, right + x.T @ x
        np.testing.assert_allclose(u, power(left, -1 / 4) @ x @ power(right, -1 / 4), rtol=1e-7)


def test_one_side_has_an_exponent_of_a_half(x64):
    g = gradients(3, 3, 5)
    tx = shampoo(b1=0.0, b2=None, eps=1e-6, graft=None, every=1, max_precond_dim=4)
    assert tx.init(g[0]).right.shape == (0, 0)
    found, _ = run(tx, g)
    left = sum(x @ x.T for x in g)
    np.testing.assert_allclose(found[-1], power(left, -1 / 2) @ g[-1], rtol=1e-7)


def test_rotated_gradients_give_rotated_updates(x64):
    g = gradients(6, 4, 4)
    a, b = (np.linalg.qr(x)[0] for x in gradients(2, 4, 4, seed=1))
    tx = shampoo(every=2, graft="sgd", eps=1e-6)
    plain, _ = run(tx, g)
    turned, _ = run(tx, a @ g @ b.T)
    np.testing.assert_allclose(turned, a @ np.array(plain) @ b.T, atol=1e-9)


@pytest.mark.parametrize("graft", ["adam", "rmsprop", "sgd", None])
def test_no_finite_gradient_breaks_it_and_zero_gives_zero(graft):
    g = np.float32(gradients(3, 3, 4))
    tx = shampoo(every=2, graft=graft, eps=0.0, graft_eps=0.0)
    found, state = run(tx, np.concatenate([0 * g, 1e-30 * g, g, np.float32(1e30) * g]))
    np.testing.assert_array_equal(found[:3], 0)
    assert np.isfinite(found).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_nan_in_one_matrix_stays_in_it_and_does_not_pass_in_silence():
    g = np.float32(gradients(6, 2, 3, 3))
    tx = shampoo(every=2, matrices=lambda path, x: MatrixAxes(2, 1, 0))
    expected, _ = run(tx, g)
    spoiled = g.copy()
    spoiled[2, 0, 1, 1] = np.nan
    found, _ = run(tx, spoiled)
    np.testing.assert_array_equal(np.array(found)[:, 1], np.array(expected)[:, 1])
    assert np.isnan(np.array(found)[3:, 0]).all()


def test_between_two_refreshes_a_stored_state_goes_on_bitwise():
    g = np.float32(gradients(9, 3, 5))
    tx = shampoo(every=4)
    whole, _ = run(tx, g)
    _, state = run(tx, g[:6])
    later, _ = run(tx, g[6:], jax.tree.map(lambda x: jnp.asarray(np.array(x)), state))
    np.testing.assert_array_equal(later, whole[6:])
