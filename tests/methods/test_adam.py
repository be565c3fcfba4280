"""What is peculiar to Adam and AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import gdfx


def test_the_first_step_is_the_rate():
    g = jnp.array([1e-3, -5.0, 1e20, 0.0])
    updates, _ = gdfx.adam(0.1).update(g, gdfx.adam(0.1).init(g))
    np.testing.assert_allclose(updates, -0.1 * np.sign(g), rtol=2e-5)  # eps is 1e-5 of 1e-3


def test_eps_stands_outside_the_root_and_eps_root_inside():
    g = jnp.float32(2.0)
    for arguments, u in [({"eps": 2.0}, 2 / (2 + 2)), ({"eps_root": 12.0}, 2 / (4 + 1e-8))]:
        tx = gdfx.scale_by_adam(**arguments)
        np.testing.assert_allclose(tx.update(g, tx.init(g))[0], u, rtol=1e-6)


def test_squares_of_complex_gradients_have_a_real_mean():
    state = gdfx.scale_by_adam().init(jnp.ones(2, jnp.complex64))
    assert (state.mu.dtype, state.nu.dtype) == (jnp.complex64, jnp.float32)


def test_nu_stalls_only_where_bfloat16_is_asked_for():
    """(1 - b2) g^2 is lost once it is below 1/256 of v: so the docstring says."""

    def nu(**arguments):
        tx, g = gdfx.scale_by_adam(**arguments), jnp.ones((), jnp.bfloat16)

        def step(state, _):
            return tx.update(g, state)[1], None

        return float(jax.jit(lambda: lax.scan(step, tx.init(g), length=10_000)[0].nu)())

    assert nu(nu_dtype=jnp.bfloat16) < 0.6
    assert nu() > 0.999


def test_decay_is_decoupled():
    """Without gradients the weights shrink by 1 - η λ, whatever the moments say."""
    tx = gdfx.adamw(0.5, weight_decay=0.25, mask=lambda p: {"w": True, "b": False})
    params = {"w": jnp.float32(2.0), "b": jnp.float32(2.0)}
    zero = jax.tree.map(jnp.zeros_like, params)
    state = tx.init(params)
    for t in range(3):
        updates, state = tx.update(zero, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        assert float(params["w"]) == 2 * (1 - 0.125) ** (t + 1)
        assert float(params["b"]) == 2
