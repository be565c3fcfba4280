"""ACProp: optax takes the error from the mean before the step, the paper from the one after."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gdfx


@pytest.mark.parametrize("b1", [0.5, 0.9])
def test_the_steps_of_optax_are_shorter_by_the_memory(b1, x64):
    """√s is 1/β₁ times as large there, so u is β₁ times; but for ε and the first step."""
    gradients = np.random.default_rng(0).normal(size=(50, 4))
    found = []
    for scale in (gdfx.scale_by_acprop, optax.contrib.scale_by_acprop):
        tx = scale(b1=b1, eps=0.0, eps_root=0.0)
        state, update, updates = tx.init(jnp.zeros(4)), jax.jit(tx.update), []
        for g in gradients:
            u, state = update(jnp.asarray(g), state)
            updates.append(u)
        found.append(np.stack(updates))
    np.testing.assert_allclose(found[1][1:], b1 * found[0][1:], rtol=1e-10)
