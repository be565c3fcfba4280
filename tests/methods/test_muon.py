"""Muon: what is its own, where others are off, and what matrices meet in a model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx
from gdfx import MatrixAxes

NEARLY_EXACT = (2.0, -1.5, 0.5)
"""A polynomial that leads to 1, in some twenty steps."""


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def direction(**kwargs):
    kwargs = {"matrices": lambda *_: MatrixAxes(inputs=1, outputs=0)} | kwargs
    return gdfx.scale_by_muon(**kwargs)


def first(tx, g):
    return tx.update(g, tx.init(g), g)[0]


def relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def test_how_far_optax_s_direction_is_off(x64):
    """Its bias corrections of m and g, of different steps, turn what is made orthogonal."""
    theirs = optax.contrib.muon(1.0, ns_coeffs=NEARLY_EXACT, ns_steps=25, adam_b1=0.9)
    ours = gdfx.muon(
        1.0, scale="jordan", orthogonalize=NEARLY_EXACT, steps=25,
        matrices=lambda *_: MatrixAxes(inputs=0, outputs=1),
    )  # fmt: skip
    state, of_theirs, off = ours.init(normal(16, 16)), theirs.init(normal(16, 16)), []
    w = normal(16, 16)
    update, update_theirs = jax.jit(ours.update), jax.jit(theirs.update)
    for t in range(40):
        g = normal(16, 16, seed=t + 1)
        u, state = update(g, state, w)
        v, of_theirs = update_theirs(g, of_theirs, w)
        off.append(relative(v, u))
    assert off[0] < 1e-6
    assert 0.05 < off[1] < 0.15
    assert off[39] < 0.02


def test_the_moonlight_step_has_adamw_s_size_whatever_the_width():
    for shape in [(8, 64), (64, 64)]:
        u = first(direction(orthogonalize="exact"), normal(*shape))
        length = 0.2 * (max(shape) * min(shape)) ** 0.5
        np.testing.assert_allclose(jnp.linalg.norm(u), length, rtol=1e-5)


def test_the_factor_of_a_convolution_is_of_all_its_inputs():
    """The authors' code looks at the last two axes, which are the kernel's lines and columns."""
    conv = MatrixAxes(inputs=(0, 1, 2), outputs=3)
    g = normal(2, 2, 3, 48)
    u = first(direction(scale="jordan", orthogonalize="exact", matrices=lambda *_: conv), g)
    singular = np.linalg.svd(np.reshape(u, (12, 48)), compute_uv=False)
    np.testing.assert_allclose(singular, (48 / 12) ** 0.5, rtol=1e-5)


def test_the_factor_is_by_the_layout_and_not_by_the_array():
    """As (outputs, inputs), equinox's weights have the inverse ratio of flax's kernels."""
    g = normal(32, 2)
    of = {"flax": "kernel", "equinox": "weight"}
    size = {}
    for layout, name in of.items():
        tx = direction(scale="jordan", orthogonalize="exact", matrices=layout)
        u = first(tx, {"layer": {name: g}})
        size[layout] = float(jnp.linalg.norm(u["layer"][name], 2))
    np.testing.assert_allclose(size["equinox"], 4, rtol=1e-5)
    np.testing.assert_allclose(size["flax"], 1, rtol=1e-5)


def test_clipping_belongs_before():
    """Before, it changes nothing of one gradient; after, it makes steps short by the width."""
    g = {"w": 100 * normal(16, 16)}
    plain = first(direction(), g)["w"]
    clip = optax.clip_by_global_norm(1.0)
    np.testing.assert_allclose(
        first(optax.chain(clip, direction()), g)["w"], plain, rtol=1e-4, atol=1e-4
    )
    after = first(optax.chain(direction(), clip), g)["w"]
    np.testing.assert_allclose(jnp.linalg.norm(after), 1, rtol=1e-5)
    assert jnp.linalg.norm(plain) > 2


def test_bfloat16_products_are_near():
    g = normal(16, 24)
    u = first(direction(), g)
    low = first(direction(compute_dtype="bfloat16"), g)
    assert low.dtype == u.dtype
    assert 1e-4 < relative(low, u) < 0.1


@pytest.mark.parametrize("size", [1e-30, 1e10])
def test_gradients_of_any_size_give_the_same_step(size):
    g = normal(3, 4)
    tx = direction(orthogonalize="exact")
    np.testing.assert_allclose(first(tx, jnp.float32(size) * g), first(tx, g), rtol=1e-4)


def test_a_flax_model_s_kernels_are_matrices_and_nothing_else():
    nn = pytest.importorskip("flax.linen", reason="flax is not installed")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(8, (3, 3))(x)
            return nn.Dense(5)(nn.LayerNorm()(x.reshape(len(x), -1)))

    params = Net().init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    tx = gdfx.muon(0.1, otherwise=optax.sgd(0.0), matrices="flax")
    moved = first(tx, params)["params"]
    assert {k: {n: bool(x.any()) for n, x in v.items()} for k, v in moved.items()} == {
        "Conv_0": {"kernel": True, "bias": False},
        "Dense_0": {"kernel": True, "bias": False},
        "LayerNorm_0": {"scale": False, "bias": False},
    }
