"""GaLore around other methods than Adam, and the directions that it leaves out."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx

RNG = np.random.default_rng(0)


def in_few_directions(g, rank):
    """The sign of the gradient's part in its first directions, and back."""
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    if g.shape[0] < g.shape[1]:
        p = u[:, :rank]
        return p @ np.sign(p.T @ g)
    p = vt[:rank].T
    return np.sign(g @ p) @ p.T


@pytest.mark.parametrize("base", [gdfx.scale_by_sign(), optax.scale_by_sign()])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_any_direction_may_stand_inside(base, shape, x64):
    tx = gdfx.scale_by_galore(2, base_optimizer=base, scale=0.5, matrices="2d")
    g = RNG.normal(size=shape)
    u, _ = tx.update(jnp.asarray(g), tx.init(jnp.zeros(shape)))
    # The rows of a kernel (inputs, outputs) are its columns.
    np.testing.assert_allclose(u.T, 0.5 * in_few_directions(g.T, 2), rtol=1e-9, atol=1e-12)


def test_what_is_no_matrix_is_moved_by_the_base():
    g = {"w": jnp.ones((2, 3)), "b": jnp.array([1.0, -2.0])}
    tx = gdfx.galore(0.1, base_optimizer=gdfx.scale_by_lion(), matrices="2d")
    u, _ = tx.update(g, tx.init(g), g)
    np.testing.assert_allclose(u["b"], [-0.1, 0.1], rtol=1e-6)


def test_a_direction_that_is_but_rounding_is_left_out():
    """Adam would make as long a step of it as of the others."""
    g = jnp.outer(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, -1.0, 0.5, 2.0]))
    tx = gdfx.galore(0.1, rank=3, matrices="2d")
    u, _ = tx.update(g, tx.init(g), g)
    assert np.linalg.matrix_rank(u, tol=1e-5) == 1


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (gdfx.adam(0.1), "galore: direction goes down already"),
        (gdfx.scale_by_trust_ratio(), "galore: base_optimizer needs the parameters"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        gdfx.galore(0.1, base_optimizer=base)
