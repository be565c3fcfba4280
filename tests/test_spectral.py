"""Words for matrices against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdfx.core import spectral


def symmetric(*values, seed=0):
    """A symmetric matrix with these eigenvalues, and its eigenvectors."""
    n = len(values)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    return jnp.asarray((q * np.array(values)) @ q.T), q


def test_an_eigenbasis_has_the_largest_eigenvalue_first(x64):
    c, q = symmetric(5.0, 3.0, 1.0, 0.5)
    np.testing.assert_allclose(abs(q.T @ spectral.eigenbasis(c)), np.eye(4), atol=1e-12)


def test_a_basis_turns_to_the_eigenvectors_and_tells_its_order(x64):
    c, q = symmetric(5.0, 3.0, 1.0, 0.5)
    mixed = np.array([2, 0, 3, 1])
    found, order = spectral.turned_basis(c, jnp.asarray(q[:, mixed]))
    np.testing.assert_array_equal(mixed[order], [0, 1, 2, 3])
    np.testing.assert_allclose(abs(q.T @ found), np.eye(4), atol=1e-12)
    start = np.linalg.qr(q + 0.1 * np.random.default_rng(1).normal(size=(4, 4)))[0]
    off = [np.max(abs(abs(q.T @ start) - np.eye(4)))]
    for _ in range(60):
        start, _ = spectral.turned_basis(c, jnp.asarray(start))
        off.append(np.max(abs(abs(q.T @ start) - np.eye(4))))
    assert off[0] > 1e-3 and off[-1] < 1e-12  # noqa: PT018


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_an_inverse_root_is_that_of_the_eigenvalues(exponent, x64):
    c, q = symmetric(5.0, 3.0, 1.0, 1e-3)
    expected = (q * (np.array([5.0, 3.0, 1.0, 1e-3]) + 1e-6) ** -exponent) @ q.T
    np.testing.assert_allclose(spectral.inverse_root(c, exponent, 1e-6), expected, rtol=1e-9)


def test_an_inverse_root_lifts_what_is_below_zero(x64):
    c, q = symmetric(4.0, 1.0, -1e-3)
    expected = (q * (np.array([4.0, 1.0, -1e-3]) + 1e-3 + 1e-2) ** -0.5) @ q.T
    np.testing.assert_allclose(spectral.inverse_root(c, 0.5, 1e-2), expected, rtol=1e-9)
    assert np.isfinite(spectral.inverse_root(jnp.zeros((3, 3)), 0.25, 0.0)).all()


def test_factors_bases_and_sides_that_have_none(x64):
    rng = np.random.default_rng(0)
    g, a, b = (jnp.asarray(rng.normal(size=s)) for s in ((2, 3), (2, 2), (3, 3)))
    none = jnp.zeros((0, 0))
    left, right = spectral.grams(g, a, b, 0.5, 2.0)
    np.testing.assert_allclose(left, 0.5 * a + 2 * g @ g.T, rtol=1e-12)
    np.testing.assert_allclose(right, 0.5 * b + 2 * g.T @ g, rtol=1e-12)
    np.testing.assert_allclose(spectral.in_bases(g, a, b), a.T @ g @ b, rtol=1e-12)
    np.testing.assert_allclose(spectral.in_bases(g, none, b), g @ b, rtol=1e-12)
    assert [x.shape for x in spectral.grams(g, none, b, 0.5, 2.0)] == [(0, 0), (3, 3)]
    p = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert [x.shape for x in spectral.factors(p, 2)] == [(2, 2), (0, 0), (2, 2), (0, 0)]
    roots = spectral.inverse_roots(a @ a.T, none, 2.0, None, 1e-6)
    np.testing.assert_allclose(roots[0], spectral.inverse_root(a @ a.T / 2, 0.5, 1e-6))
