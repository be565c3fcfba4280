"""What is peculiar to AdaGrad."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdfx


def test_h_sums_squares_from_its_start_value():
    tx, g = gdfx.scale_by_adagrad(0.5, eps=0.25), jnp.float32(3.0)
    state = tx.init(g)
    for t in (1, 2, 3):
        u, state = tx.update(g, state)
        np.testing.assert_allclose(state.sum_of_squares, 0.5 + 9 * t)
        np.testing.assert_allclose(u, 3 / np.sqrt(0.5 + 9 * t + 0.25), rtol=1e-6)


def test_from_nothing_a_zero_gradient_stays_and_has_its_derivative():
    """optax's derivative is 0 there; the equation's is -η / √ε."""

    def update(tx):
        return lambda g: tx.update(g, tx.init(g))[0]

    ours, theirs = gdfx.adagrad(0.1, 0.0, 1e-4), optax.adagrad(0.1, 0.0, 1e-4)
    zero = jnp.float32(0.0)
    assert update(ours)(zero) == update(gdfx.adagrad(0.1, 0.0, 0.0))(zero) == 0
    np.testing.assert_allclose(jax.grad(update(ours))(zero), -10.0, rtol=1e-6)
    assert jax.grad(update(theirs))(zero) == 0


def test_squares_of_complex_gradients_are_summed_in_a_real_state():
    state = gdfx.scale_by_adagrad().init(jnp.ones(2, jnp.complex64))
    assert state.sum_of_squares.dtype == jnp.float32
