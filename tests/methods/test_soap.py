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


def rotation(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


@pytest.mark.parametrize("first", ["skip", "step"])
def test_rotated_gradients_give_rotated_updates(first, x64):
    g, a, b = gradients(8, 4, 4), rotation(4, 1), rotation(4, 2)
    tx = soap(every=1, first=first, eps=1e-3)  # a first gradient is diagonal but for rounding
    plain, _ = run(tx, g)
    turned, _ = run(tx, a @ g @ b.T)
    np.testing.assert_allclose(turned, a @ np.array(plain) @ b.T, atol=1e-9)


def test_a_refresh_moves_v_with_its_columns(x64):
    """Bases that stand in the wrong order are put right, with v and the updates as they were."""
    g, order = gradients(7, 4, 4), np.array([2, 0, 3, 1])
    tx = soap(every=3)
    _, state = run(tx, g[:3])
    mixed = state._replace(
        left_basis=state.left_basis[:, order],
        right_basis=state.right_basis[:, order],
        nu=state.nu[order][:, order],
    )
    expected, end = run(tx, g[3:], state)
    found, other = run(tx, g[3:], mixed)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(other.nu, end.nu, atol=1e-12)


def test_the_first_gradient_makes_the_bases_alone_or_is_stepped_with(x64):
    g = gradients(1, 4, 4)
    (skipped,), state = run(soap(), g)
    assert not any(np.any(x) for x in (skipped, state.mu, state.nu))
    (stepped,), _ = run(soap(first="step", eps=1e-6), g)
    u, _, vt = np.linalg.svd(g[0])  # g is diagonal in its own bases, and Adam's first step a sign
    np.testing.assert_allclose(stepped, u @ vt, atol=1e-4)


def test_an_axis_that_is_too_long_has_no_basis_and_none_is_adam(x64):
    g = gradients(4, 3, 5)
    tx = soap(max_precond_dim=3, every=2)
    state = tx.init(g[0])
    assert (state.left.shape, state.right.shape, state.right_basis.shape) == (
        (3, 3),
        (0, 0),
        (0, 0),
    )
    found, _ = run(soap(max_precond_dim=0, first="step", eps=0.0), g)
    expected, _ = run(gdfx.scale_by_adam(0.95, 0.95, eps=0.0), g)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_between_two_refreshes_a_stored_state_goes_on_bitwise():
    g = np.float32(gradients(9, 3, 5))
    tx = soap(every=4)
    whole, _ = run(tx, g)
    _, state = run(tx, g[:6])
    later, _ = run(tx, g[6:], jax.tree.map(lambda x: jnp.asarray(np.array(x)), state))
    np.testing.assert_array_equal(later, whole[6:])


def test_a_state_can_be_donated():
    g = np.float32(gradients(4, 3, 3))
    tx = soap(every=2)
    expected, _ = run(tx, g)
    update, state = jax.jit(tx.update, donate_argnums=1), tx.init(g[0])
    for x, u in zip(g, expected, strict=True):
        found, state = update(jnp.asarray(x), state)
        np.testing.assert_allclose(found, u, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_matrices_of_one_row_or_column_and_of_zeros(shape):
    tx = soap(every=2, eps=0.0)
    g = np.float32(gradients(6, *shape))
    found, state = run(tx, np.concatenate([0 * g, g, 0 * g]))
    np.testing.assert_array_equal(found[:6], 0)
    assert np.isfinite(found).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert (abs(np.array(found[7:12])).max((1, 2)) > 0).all()


@pytest.mark.parametrize("bad", [0, 2])
def test_nan_in_one_matrix_stays_in_it_and_does_not_pass_in_silence(bad):
    g = np.float32(gradients(6, 2, 3, 3))
    tx = soap(every=2, matrices=lambda path, x: MatrixAxes(2, 1, 0))
    expected, _ = run(tx, g)
    spoiled = g.copy()
    spoiled[bad, 0, 1, 1] = np.nan
    found, _ = run(tx, spoiled)
    np.testing.assert_array_equal(np.array(found)[:, 1], np.array(expected)[:, 1])
    assert np.isnan(np.array(found)[bad:, 0]).all()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_no_finite_gradient_breaks_it(size):
    found, state = run(soap(every=2), np.float32(size * gradients(5, 3, 4)))
    assert np.isfinite(found).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_copies_are_as_they_are_alone_and_spread_takes_turns(x64):
    g = gradients(7, 2, 4, 4)
    together = soap(every=3, matrices=lambda path, x: MatrixAxes(2, 1, 0))
    found, _ = run(together, g)
    for k in range(2):
        alone, _ = run(soap(every=3), g[:, k])
        np.testing.assert_allclose(np.array(found)[:, k], alone, rtol=1e-10)
    spread = soap(every=3, spread=True, matrices=lambda path, x: MatrixAxes(2, 1, 0))
    state, update, turned = spread.init(g[0]), jax.jit(spread.update), []
    for x in g:
        old = state.left_basis
        _, state = update(jnp.asarray(x), state)
        turned.append((np.asarray(state.left_basis) != old).any((1, 2)).tolist())
    assert turned[0] == [True, True]  # the first bases
    assert np.array(turned[1:]).sum(0).tolist() == [2, 2]
    assert max(map(sum, turned[1:])) == 1


def test_soap_muon_is_orthogonal():
    found, _ = run(soap(orthogonalize="exact"), np.float32(gradients(3, 3, 5)))
    plain, _ = run(soap(), np.float32(gradients(3, 3, 5)))
    u, _, vt = np.linalg.svd(plain[2], full_matrices=False)
    np.testing.assert_allclose(found[2], 0.2 * 5**0.5 * u @ vt, atol=1e-4)


def test_derivatives_are_finite_where_eigenvalues_are_equal():
    g = jnp.stack([jnp.eye(3), 2 * jnp.eye(3), jnp.zeros((3, 3)), jnp.ones((3, 3))])

    def total(g, b2):
        tx = soap(b2=b2, every=1)
        state, found = tx.init(g[0]), 0.0
        for x in g:
            u, state = tx.update(x, state)
            found += jnp.sum(u * jnp.arange(9.0).reshape(3, 3))
        return found

    for d in jax.jit(jax.grad(total, argnums=(0, 1)))(g, 0.9):
        assert np.isfinite(d).all()
