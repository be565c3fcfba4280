"""MoMo: what its recordings do not say."""

import jax.numpy as jnp
import numpy as np
import pytest

import gdfx


@pytest.mark.parametrize("make", [gdfx.momo, gdfx.momo_adam])
def test_weight_decay_may_be_a_schedule(make):
    w, g = jnp.array([3.0, -4.0]), jnp.array([1.0, 2.0])
    fixed = [make(0.1, weight_decay=x) for x in (0.5, 0.25)]
    changing = make(0.1, weight_decay=lambda t: jnp.where(t == 0, 0.5, 0.25))
    state = changing.init(w)
    for tx in fixed:
        expected, _ = tx.update(g, state, w, value=2.0)
        found, state = changing.update(g, state, w, value=2.0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
