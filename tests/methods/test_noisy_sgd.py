"""What is peculiar to noise: its size, and what it hangs on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx


def noise(key, tree, steps=1, gamma=0.5):
    tx = gdfx.scale_by_noise(0.04, gamma, key)
    state, found = tx.init(tree), []
    for _ in range(steps):
        u, state = tx.update(jax.tree.map(jnp.zeros_like, tree), state)
        found.append(jax.tree.map(lambda x: np.asarray(x, np.float64), u))
    return found


def test_its_variance_fades():
    found = noise(3, jnp.zeros(100_000), steps=4)
    sizes = [u.std() for u in found]
    expected = [np.sqrt(0.04 / t**0.5) for t in (1, 2, 3, 4)]
    np.testing.assert_allclose(sizes, expected, rtol=0.01)
    np.testing.assert_allclose([u.mean() for u in found], 0, atol=3e-3)


def test_a_seed_is_its_key():
    a, b = noise(3, jnp.zeros(8)), noise(jax.random.key(3), jnp.zeros(8))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, noise(4, jnp.zeros(8)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_dtype_changes_no_more_than_its_rounding(dtype, x64):
    plain, other = noise(0, jnp.zeros(100, "float32")), noise(0, jnp.zeros(100, dtype))
    np.testing.assert_allclose(other, plain, rtol=float(jnp.finfo(dtype).eps) + 1e-6)


def test_of_a_complex_number_both_parts_have_noise():
    tx = gdfx.scale_by_noise(1.0, 0.0)
    z = jnp.zeros(20_000, jnp.complex64)
    u, _ = tx.update(z, tx.init(z))
    np.testing.assert_allclose([u.real.std(), u.imag.std()], np.sqrt(0.5), rtol=0.02)
