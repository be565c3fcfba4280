"""Words for matrices against NumPy in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import threadpoolctl

from gdfx.core import spectral
from gdfx.core.spectral import farthest, normalized, orthogonal_factor


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


def test_what_eigenvalues_are_made_of_keeps_all_its_digits():
    """On accelerators a product is rounded to few, if nothing is said."""
    x = jnp.ones((2, 3))
    c, q = jnp.eye(2), jnp.eye(2)
    for words in (
        lambda: spectral.grams(x, c, jnp.eye(3), 0.5, 0.5),
        lambda: spectral.turned_basis(c, q),
        lambda: spectral.inverse_root(c, 0.25, 1e-6),
        lambda: spectral.norm_bound(c),
    ):
        products = re.findall(r"dot_general\[(.*?)\]\s", str(jax.make_jaxpr(words)()), re.DOTALL)
        assert products
        assert all("Precision.HIGHEST" in options for options in products)


def test_decompositions_on_a_cpu_take_one_thread():
    """The threads of LAPACK fight with those of XLA: a QR of 256² took a second."""
    jnp.linalg.qr(jnp.eye(2))
    blas = [x for x in threadpoolctl.threadpool_info() if "scipy.libs" in x["filepath"]]
    assert [x["num_threads"] for x in blas] == [1]


SHAPES = [(5, 5), (3, 7), (7, 3), (1, 6), (6, 1)]

EXPRESS = np.array([
    [8.156554524902461, -22.48329292557795, 15.878769915207462],
    [4.042929935166739, -2.808917465908714, 0.5000178451051316],
    [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
    [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
    [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
])  # fmt: skip
"""As microsoft/dion and modded-nanogpt have them, for singular values below 1 / 1.02."""


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def singular_values(x):
    return np.linalg.svd(x, compute_uv=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_polar_express_takes_each_singular_value_through_five_polynomials(shape, x64):
    x = normal(shape)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.linalg.norm(x) / 1.02
    for a, b, c in EXPRESS:
        s = a * s + b * s**3 + c * s**5
    found = orthogonal_factor(jnp.asarray(x), "polar_express")
    np.testing.assert_allclose(found, (u * s) @ vt, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_exact_factor_is_that_of_numpy_s_decomposition(shape, x64):
    x = normal(shape)
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    found = orthogonal_factor(jnp.asarray(x), "exact")
    np.testing.assert_allclose(found, u @ vt, atol=1e-13)
    np.testing.assert_allclose(singular_values(found), 1, atol=1e-13)


def test_the_exact_factor_has_no_direction_that_rounding_made(x64):
    u, v = normalized(jnp.asarray(normal(4))), normalized(jnp.asarray(normal(6, 1)))
    x = 3 * jnp.outer(u, v)
    np.testing.assert_allclose(orthogonal_factor(x, "exact"), jnp.outer(u, v), atol=1e-13)


@pytest.mark.parametrize(
    ("how", "low", "high"), [("quintic", 0.68, 1.21), ("polar_express", 0.85, 1.15)]
)
def test_singular_values_end_in_a_band(how, low, high, x64):
    s = np.geomspace(1, 0.02, 40)
    basis = np.linalg.qr(normal((40, 40)))[0]
    found = orthogonal_factor(jnp.asarray(basis * s), how)
    assert low < singular_values(found).min() < singular_values(found).max() < high


@pytest.mark.parametrize("how", ["quintic", "polar_express", "exact"])
def test_the_factor_of_a_transpose_and_of_numbers_of_any_size(how, x64):
    x = jnp.asarray(normal((3, 7)))
    found = orthogonal_factor(x, how)
    np.testing.assert_array_equal(orthogonal_factor(x.T, how), found.T)
    for size in (1e-300, 1e300):
        np.testing.assert_allclose(orthogonal_factor(size * x, how), found, atol=1e-12)


@pytest.mark.parametrize("how", ["quintic", "polar_express", "exact"])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_a_zero_matrix_has_the_factor_zero_and_finite_derivatives(how, shape):
    zero = jnp.zeros(shape)
    np.testing.assert_array_equal(orthogonal_factor(zero, how), zero)
    assert jnp.isfinite(jax.jacobian(lambda x: orthogonal_factor(x, how))(zero)).all()
    bad = zero.at[0, 0].set(jnp.nan)
    assert jnp.isnan(orthogonal_factor(bad, how)).all()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (1, 3)])
@pytest.mark.parametrize("equal", [False, True], ids=["general", "equal singular values"])
def test_derivatives_of_the_exact_factor(shape, equal, x64):
    x, dx = normal(shape), normal(shape, 1)
    if equal:
        u, _, vt = np.linalg.svd(x, full_matrices=False)
        x = 2 * u @ vt

    def factor(x):
        return orthogonal_factor(jnp.asarray(x), "exact")

    _, found = jax.jvp(factor, (jnp.asarray(x),), (jnp.asarray(dx),))
    h = 1e-5
    expected = (factor(x + h * dx) - factor(x - h * dx)) / (2 * h)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_lengths_along_an_axis():
    x = jnp.array([[3e-30, 4e-30], [0, 0], [1e30, 0]], "float32")
    np.testing.assert_allclose(normalized(x, 1), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    np.testing.assert_allclose(normalized(x[:1]), [[0.6, 0.8]], rtol=1e-6)


NORMS = {
    "spectral": lambda x: singular_values(x).max() * (x.shape[1] / x.shape[0]) ** 0.5,
    "sign": lambda x: abs(x).max() * x.shape[1],
    "row": lambda x: np.linalg.norm(x, axis=1).max() * x.shape[1] ** 0.5,
    "column": lambda x: np.linalg.norm(x, axis=0).max() / x.shape[0] ** 0.5,
    "rms": lambda x: np.mean(np.square(x)) ** 0.5,
    "rmnp": lambda x: (
        np.linalg.norm(x, axis=1).max() / max(1, x.shape[0] / x.shape[1]) ** 0.5
    ),
}  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4), (4, 1)])
def test_the_farthest_matrix_of_a_ball(norm, shape, x64):
    """It lies on the ball, and none of the ball's others lies farther along x."""
    x = normal(shape)
    found = np.asarray(farthest(jnp.asarray(x), norm, "exact"))
    np.testing.assert_allclose(NORMS[norm](found), 1, rtol=1e-12)
    for seed in range(20):
        other = found + 0.3 * normal(shape, seed + 1)
        other = other / NORMS[norm](other)
        assert np.sum(x * other) <= np.sum(x * found) + 1e-12
    np.testing.assert_array_equal(farthest(jnp.zeros(shape), norm), np.zeros(shape))
