"""What is peculiar to Rprop: optax returns each step one step late."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx

ARGUMENTS = {"eta_minus": 0.4, "eta_plus": 1.3, "min_step_size": 0.02, "max_step_size": 0.5}


def rprop(gradients, rate, eta_minus, eta_plus, min_step_size, max_step_size):
    """iRprop− of Igel and Hüsken 2000, a coordinate at a time."""
    steps = np.full(gradients[0].shape, rate)
    last = np.zeros_like(gradients[0])
    for gradient in gradients:
        g = gradient.copy()
        for i in range(g.size):
            if last[i] * g[i] > 0:
                steps[i] = min(steps[i] * eta_plus, max_step_size)
            elif last[i] * g[i] < 0:
                steps[i] = max(steps[i] * eta_minus, min_step_size)
                g[i] = 0.0
        yield -np.sign(g) * steps
        last = g


def replayed(tx, gradients):
    state, updates = tx.init(jnp.zeros(5)), []
    for g in gradients:
        u, state = tx.update(jnp.asarray(g), state)
        updates.append(np.asarray(u))
    return updates


def test_the_equations_are_the_papers(x64):
    gradients = np.random.default_rng(0).normal(0.5, 1.0, size=(60, 5))
    found = replayed(gdfx.rprop(0.1, **ARGUMENTS), gradients)
    np.testing.assert_allclose(found, list(rprop(gradients, 0.1, **ARGUMENTS)), rtol=1e-12)
    assert {0.02, 0.5} <= set(np.abs(found).ravel().round(12))  # both bounds are met


def test_tiny_gradients_have_signs_too():
    """The product of two of them, as others form it, is 0 in float32."""
    tx = gdfx.rprop(0.1)
    first, second = replayed(tx, np.full((2, 5), 1e-30, np.float32))
    np.testing.assert_allclose(second, 1.2 * first, rtol=1e-6)


def test_optax_returns_each_step_one_step_late(x64):
    gradients = np.random.default_rng(1).normal(size=(3, 5))
    first, *_ = replayed(gdfx.rprop(0.1, **ARGUMENTS), gradients)
    late = replayed(optax.rprop(0.1, **ARGUMENTS), gradients)
    np.testing.assert_array_equal(late[0], np.zeros(5))
    turned = gradients[1] * gradients[0] < 0  # where optax leaves the step out
    np.testing.assert_allclose(late[1], np.where(turned, 0, first), rtol=1e-12)


@pytest.mark.parametrize("method", [gdfx.rprop, gdfx.sm3])
def test_complex_numbers_are_refused(method):
    tx = method(0.1)
    with pytest.raises(TypeError) as error:
        tx.init({"w": jnp.ones(2, jnp.complex64)})
    assert str(error.value) == (
        f"scale_by_{method.__name__}: parameter ['w'] is complex64, but must be real; wrap the "
        "optimizer in optax.contrib.split_real_and_imaginary"
    )
    wrapped = optax.contrib.split_real_and_imaginary(tx)
    z = jnp.array([3 + 4j])
    updates, _ = wrapped.update(z, wrapped.init(z))
    assert updates.dtype == jnp.complex64
    assert abs(complex(updates[0])) > 0
