"""Kron: against kron_torch, and what is peculiar to its triangles and its random vectors."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx
from gdfx import MatrixAxes
from gdfx.core.spectral import norm_bound

RECORDED = np.load(Path(__file__).parents[1] / "recordings" / "kron.npz")
ABOUT = json.loads(str(RECORDED["about"]))
AXES = MatrixAxes(inputs=1, outputs=0)


def matrices(path, x):
    return AXES


def kron(**options):
    return gdfx.scale_by_kron(matrices=matrices, **options)


def arrays(steps, *shape):
    """As the recording's."""
    rng = np.random.default_rng(0)
    sizes = np.outer(1.0 + np.arange(shape[0]), 2.0 ** -np.arange(shape[1]))
    fading = 20 * 10 ** (-3 * np.arange(steps) / steps)
    p = rng.normal(size=shape)
    g = rng.normal(size=(steps, *shape)) * sizes * fading[:, None, None]
    return p, g, rng.normal(size=(steps, *shape))


def annealed(most, least, decay, flat):
    return lambda steps: jnp.clip(most * jnp.exp(-decay * (steps - flat)), least, most)


@pytest.mark.parametrize("name", ABOUT["runs"])
def test_kron_torch(name, x64):
    """In float64, its random vectors given; it balances both Q at random steps, we in each."""
    shape, options = ABOUT["runs"][name]
    p, gradients, vectors = arrays(120, *shape)
    chance = options.get("preconditioner_update_probability")
    if isinstance(chance, list):
        options["preconditioner_update_probability"] = annealed(*chance)

    decay = options.pop("weight_decay", 0.0)

    def make(v):
        return kron(draw=lambda key, shape, dtype: v, **options)

    state = make(None).init(p)
    update = jax.jit(lambda g, v, state: make(v).update(g, state))
    kept = {int(k.split("/u")[1]): RECORDED[k] for k in RECORDED if k.startswith(f"{name}/u")}
    assert sorted(kept) == [1, 2, 3, 10, 60, 120]
    for t, (g, v) in enumerate(zip(gradients, vectors, strict=True), 1):
        u, state = update(g, v, state)
        if t in kept:
            downhill = -kept[t] - decay * p
            np.testing.assert_allclose(u, downhill, rtol=1e-10, atol=1e-10)


@jax.jit
def step(g, state, b1, precond_lr, chance):
    tx = kron(b1=b1, precond_lr=precond_lr, preconditioner_update_probability=chance)
    return tx.update(g, state)


def run(gradients, b1=0.9, precond_lr=0.1, chance=1.0):
    """The updates, and the states after each step; compiled once for all tests."""
    state, found = kron().init(jnp.zeros((3, 4))), []
    for g in gradients:
        u, state = step(jnp.asarray(g, jnp.float32), state, b1, precond_lr, chance)
        found.append((u, state))
    return found


@pytest.mark.parametrize(
    ("options", "shape", "left", "right"),
    [
        ({}, (4, 6), (4, 4), (6, 6)),
        ({}, (1, 6), (1,), (6, 6)),
        ({"max_size_triangular": 5}, (4, 6), (4, 4), (6,)),
        ({"memory_save_mode": "one_diag"}, (4, 6), (4, 4), (6,)),
        ({"memory_save_mode": "one_diag"}, (6, 4), (6,), (4, 4)),
        ({"memory_save_mode": "one_diag"}, (4, 4), (4, 4), (4,)),
        ({"memory_save_mode": "smart_one_diag"}, (4, 4), (4, 4), (4, 4)),
        ({"memory_save_mode": "smart_one_diag"}, (6, 4), (6,), (4, 4)),
        ({"memory_save_mode": "all_diag"}, (4, 4), (4,), (4,)),
    ],
)
def test_which_sides_are_diagonal(options, shape, left, right):
    state = kron(**options).init(jnp.zeros(shape))
    assert (state.left.shape, state.right.shape) == (left, right)


def test_rows_and_columns_of_all_sizes_become_white():
    """Of independent numbers of sizes r c, each row and each column of u is of size 1."""
    rng = np.random.default_rng(0)
    sizes = np.outer([30.0, 10.0, 1.0], [1.0, 3.0, 9.0, 27.0])
    g = rng.normal(size=(1000, 3, 4)) * sizes
    found = run(g, b1=0.0, precond_lr=0.05)
    u = np.array([u for u, _ in found[-400:]])
    np.testing.assert_allclose(np.sqrt((u**2).mean((0, 2))), 1, rtol=0.35)
    np.testing.assert_allclose(np.sqrt((u**2).mean((0, 1))), 1, rtol=0.35)


def test_its_step_is_no_longer_than_eleven_tenths():
    g = 1e6 * np.random.default_rng(0).normal(size=(1, 3, 4))
    ((u, _),) = run(g)
    np.testing.assert_allclose(np.sqrt((np.asarray(u) ** 2).mean()), 1.1, rtol=1e-6)


def test_q_learns_every_1_over_p_steps():
    g = np.random.default_rng(0).normal(size=(9, 3, 4))
    found = run(g, chance=0.3)
    since = [int(state.since) for _, state in found]
    assert since == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    moved = [bool(np.any(found[t][1].left != found[t - 1][1].left)) for t in range(1, len(found))]
    assert moved == [False, False, True, False, False, False, True, False]


def test_by_default_it_learns_seldom_after_some_thousand_steps():
    state = kron().init(jnp.zeros((2, 2)))
    update = jax.jit(kron().update)
    g = jnp.ones((2, 2))
    for count, since, learns in [(0, 0, 1), (499, 0, 1), (1200, 0, 0), (1200, 2, 1), (9999, 32, 0)]:
        at = state._replace(count=jnp.int32(count), since=jnp.int32(since))
        assert int(update(g, at)[1].since) == (0 if learns else since + 1)


def test_q_stays_triangular_positive_and_balanced():
    g = np.random.default_rng(0).normal(size=(50, 3, 4)) * [[1e4], [1.0], [1e-4]]
    for _, state in run(g, precond_lr=0.9):
        for q in (state.left, state.right):
            np.testing.assert_array_equal(np.tril(q, -1), 0)
            assert (np.diag(q) > 0).all()
        np.testing.assert_allclose(abs(state.left).max(), abs(state.right).max(), rtol=1e-5)


def test_where_there_is_no_gradient_q_stays():
    """In kron_torch it grows by a tenth in each of these steps, until it overflows."""
    found = run(np.zeros((3, 3, 4)))
    for u, state in found:
        np.testing.assert_array_equal(u, 0)
        np.testing.assert_allclose(state.left, np.eye(3), rtol=1e-6)
        np.testing.assert_allclose(state.right, np.eye(4), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e38])
def test_no_size_of_gradients_overflows(size):
    """After small gradients Q is large; then a large gradient comes."""
    rng = np.random.default_rng(0)
    g = np.clip(size * rng.normal(size=(300, 3, 4)), -3e38, 3e38)
    g[-1] = 1e38
    for u, state in run(g, b1=0.0, precond_lr=0.5):
        assert all(np.isfinite(x).all() for x in (u, state.left, state.right))
    assert 0.5 < np.sqrt((np.asarray(u) ** 2).mean()) < 1.11


def test_a_seed_is_its_key_and_matrices_draw_apart():
    tree = {"v": jnp.ones((2, 2)), "w": jnp.ones((2, 2))}

    def after(key):
        tx = gdfx.scale_by_kron(key=key, matrices="2d")
        return tx.update(tree, tx.init(tree))[1].left

    a, b, c = after(3), after(jax.random.key(3)), after(4)
    np.testing.assert_array_equal(a["v"], b["v"])
    assert np.any(a["v"] != c["v"])
    assert np.any(a["v"] != a["w"])


def test_the_bound_of_the_norm():
    """One step of power iteration from the longest column; no number of the matrix is larger."""
    rng = np.random.default_rng(0)
    for spread in (1.0, 10.0, 1000.0):
        a = rng.normal(size=(6, 6)) * spread ** rng.normal(size=6)
        c = a @ a.T
        x = c @ c[:, np.argmax((c * c).sum(0))]
        expected = np.linalg.norm(c @ (x / np.linalg.norm(x)))
        found = norm_bound(jnp.asarray(c, jnp.float32))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert abs(c).max() <= expected <= np.linalg.norm(c, 2) * (1 + 1e-9)
    np.testing.assert_allclose(norm_bound(jnp.zeros((2, 2))), 0, atol=1e-18)
