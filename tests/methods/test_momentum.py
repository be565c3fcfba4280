"""What is peculiar to Momentum."""

import jax.numpy as jnp
import numpy as np
import pytest

import gdfx


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_constant_gradient_is_summed_geometrically(nesterov):
    tx, g = gdfx.scale_by_momentum(0.5, nesterov=nesterov), jnp.float32(1.0)
    state = tx.init(g)
    for t in range(1, 6):
        u, state = tx.update(g, state)
        ahead = t + nesterov  # Nesterov's update is the sum of one step more
        assert float(u) == (1 - 0.5**ahead) / (1 - 0.5)
        assert float(state.trace) == (1 - 0.5**t) / (1 - 0.5)


def test_at_a_constant_rate_the_textbook_moves_the_same_way():
    ours, book = gdfx.momentum(0.1, 0.8), gdfx.textbook.momentum(0.1, 0.8)
    states = [tx.init(jnp.zeros(3)) for tx in (ours, book)]
    for g in np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32):
        u, states[0] = ours.update(g, states[0])
        w, states[1] = book.update(g, states[1])
        np.testing.assert_allclose(u, w, rtol=1e-5, atol=1e-7)
