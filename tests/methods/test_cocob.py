"""COCOB, whose authors' code is for TensorFlow: the paper decides."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdfx


def cocob(w, gradients, alpha, eps):
    """Algorithm 2 of arXiv:1705.07795 in float64, on one array, in its notation."""
    start, scale = w.copy(), np.full_like(w, eps)
    total, reward, theta = (np.zeros_like(w) for _ in range(3))
    for g in -gradients:  # the paper's are negative subgradients
        scale = np.maximum(scale, np.abs(g))
        total += np.abs(g)
        reward = np.maximum(reward + (w - start) * g, 0)
        theta += g
        w = start + theta / (scale * np.maximum(total + scale, alpha * scale)) * (scale + reward)
        yield w


def test_the_equations_are_the_papers(x64):
    rng = np.random.default_rng(0)
    gradients, w = rng.normal(size=(200, 5)), rng.normal(size=5)
    gradients[:3, 0] = 0
    tx, params = gdfx.cocob(alpha=20.0, eps=1e-3), jnp.asarray(w)
    state, update = tx.init(params), jax.jit(tx.update)
    for g, expected in zip(gradients, cocob(w, gradients, 20.0, 1e-3), strict=True):
        updates, state = update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, expected, rtol=1e-12, atol=1e-14)


def test_the_start_is_a_copy_of_the_parameters():
    """So that both can be donated: in optax they are one array."""
    tx, params = gdfx.cocob(), jnp.ones(3)
    step = jax.jit(lambda p, s, g: tx.update(g, s, p), donate_argnums=(0, 1))
    updates, state = step(params, tx.init(params), jnp.ones(3))
    assert jnp.isfinite(updates).all()
    assert jnp.isfinite(state[-1].init_particles).all()
