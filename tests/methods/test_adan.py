"""What is peculiar to Adan: optax's is another method, so the paper decides."""

import jax.numpy as jnp
import numpy as np

import gdfx


def adan(gradients, b1, b2, b3, eps, eps_root):
    """Algorithm 1 of arXiv:2208.06677 in float64, with the corrections of the authors' code.

    In its notation: its β are 1 − β here.
    """
    p1, p2, p3 = 1 - b1, 1 - b2, 1 - b3
    m, v, n = (np.zeros_like(gradients[0]) for _ in range(3))
    last = gradients[0]
    for k, g in enumerate(gradients, start=1):
        m = (1 - p1) * m + p1 * g
        v = (1 - p2) * v + p2 * (g - last)
        n = (1 - p3) * n + p3 * (g + (1 - p2) * (g - last)) ** 2
        m_hat, v_hat, n_hat = m / (1 - b1**k), v / (1 - b2**k), n / (1 - b3**k)
        yield (m_hat + (1 - p2) * v_hat) / (np.sqrt(n_hat + eps_root) + eps)
        last = g


def test_the_equations_are_the_papers(x64):
    gradients = np.random.default_rng(0).normal(size=(20, 5))
    arguments = {"b1": 0.9, "b2": 0.7, "b3": 0.95, "eps": 1e-3, "eps_root": 1e-2}
    tx = gdfx.scale_by_adan(**arguments)
    state = tx.init(jnp.zeros(5))
    for g, expected in zip(gradients, adan(gradients, **arguments), strict=True):
        u, state = tx.update(jnp.asarray(g), state)
        np.testing.assert_allclose(u, expected, rtol=1e-12)


def test_decay_is_decoupled():
    tx, w = gdfx.adan(0.5, weight_decay=0.25), jnp.float32(2.0)
    updates, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
    assert float(updates) == -0.5 * 0.25 * 2
