"""Scion: its balls, and which leaf gets which norm."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx
from gdfx import MatrixAxes


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def is_head(path, x):
    return MatrixAxes(inputs=0, outputs=1) if "head" in path else None


PARAMS = {"hidden": {"kernel": normal(4, 9), "bias": normal(9)}, "head": {"kernel": normal(9, 5)}}


def test_each_layer_has_its_norm_and_radius():
    last = gdfx.scion(0.1, norm="sign", radius=30.0, weight_decay=0.0, matrices=is_head)
    tx = gdfx.scion(
        0.1, radius=5.0, weight_decay=0.0, orthogonalize="exact", matrices="flax", otherwise=last
    )
    u, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    singular = np.linalg.svd(u["hidden"]["kernel"], compute_uv=False)
    np.testing.assert_allclose(singular, 0.1 * 5 * (9 / 4) ** 0.5, rtol=1e-5)
    np.testing.assert_allclose(abs(u["head"]["kernel"]), 0.1 * 30 / 9, rtol=1e-6)
    np.testing.assert_allclose(jnp.mean(u["hidden"]["bias"] ** 2) ** 0.5, 0.1 * 30, rtol=1e-6)


def test_a_head_that_nobody_speaks_of_is_asked_about():
    tx = gdfx.scion(0.1, matrices="flax")
    sentence = (
        "scion: ['head']['kernel'] of shape (9, 5) is no matrix by the given matrices, and nothing "
        "says its norm; give otherwise=, such as gdfx.scion(..., norm='sign', matrices=...)"
    )
    with pytest.raises(ValueError, match=re.escape(sentence) + "$"):
        tx.init(PARAMS)


def test_no_step_leaves_the_ball():
    """With λ = 1; with λ = 0 there is none."""
    g = {"w": normal(4, 4, seed=1), "b": normal(4, seed=2)}
    sizes = {}
    for weight_decay in (1.0, 0.0):
        tx = gdfx.scion(
            0.2, radius=2.0, weight_decay=weight_decay, orthogonalize="exact", matrices="2d"
        )
        params = jax.tree.map(jnp.zeros_like, g)
        state, update = tx.init(params), jax.jit(tx.update)
        for _ in range(40):
            u, state = update(g, state, params)
            params = jax.tree.map(jnp.add, params, u)
        sizes[weight_decay] = (
            float(jnp.linalg.norm(params["w"], 2)),
            float(jnp.mean(params["b"] ** 2) ** 0.5),
        )
    np.testing.assert_allclose(sizes[1.0], 2, rtol=1e-3)
    np.testing.assert_allclose(sizes[0.0], 0.2 * 2 * 40, rtol=1e-3)


def test_zero_rows_stay_zero():
    g = normal(3, 4).at[:, 1].set(0)  # the row of the second output
    tx = gdfx.scale_by_scion(norm="row", radius=1.0, matrices="2d")
    u, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(
        jnp.linalg.norm(u, axis=0), [3**-0.5, 0, 3**-0.5, 3**-0.5], rtol=1e-6
    )
