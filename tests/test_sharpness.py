"""Gradients of a point uphill: the authors' trajectories, and what must not leak."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recordings.replay import LONG, parameters, recorded, usual

import gdfx


@pytest.mark.parametrize(
    ("label", "around"),
    [
        ("sam", lambda f: gdfx.sam(f, rho=0.05)),
        ("asam", gdfx.asam),
        ("asam_far", lambda f: gdfx.asam(f, rho=2.0, eta=0.1)),
    ],
)
def test_the_trajectory_is_that_of_the_authors_code(label, around, x64):
    x, y = (jnp.asarray(usual("square")[i]) for i in range(2))
    gradient = around(jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2)))

    def step(w, _):
        w = w - 0.02 * gradient(w)[1]
        return w, w

    w = jnp.asarray(parameters("square"))
    found = jax.lax.scan(step, w, length=LONG[-1])[1][np.subtract(LONG, 1)]
    expected = recorded("sharpness", label)["square"]
    assert np.max(abs(found - expected)) / np.max(abs(expected)) < 1e-12


@pytest.mark.parametrize("around", [gdfx.sam, gdfx.asam])
def test_a_zero_gradient_moves_nothing_and_is_no_nan(around):
    gradient = jax.jit(around(jax.value_and_grad(lambda w: jnp.sum(w**2))))
    value, g = gradient(jnp.zeros(3))
    assert value == 0
    np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize("around", [gdfx.sam, gdfx.asam])
def test_at_no_distance_it_is_the_plain_gradient(around):
    plain = jax.value_and_grad(lambda w: jnp.sum(jnp.sin(w)))
    w = jnp.array([0.3, -1.0])
    for found, expected in zip(around(plain, rho=0.0)(w), plain(w), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_value_and_aux_are_those_at_the_parameters():
    def loss(w, batch, *, factor):
        return factor * jnp.sum(w * batch), {"w": w}

    w, batch = jnp.array([1.0, 2.0]), jnp.ones(2)
    gradient = gdfx.sam(jax.value_and_grad(loss, has_aux=True), rho=1.0)
    (value, aux), g = gradient(w, batch, factor=2.0)
    assert value == 6
    np.testing.assert_array_equal(aux["w"], w)
    np.testing.assert_array_equal(g, 2)


def test_what_has_no_gradient_stays():
    """A frozen array, or a function in a model that is handed over whole."""
    seen = []

    def value_and_grad(model):
        seen.append(model)
        return 0.0, {"w": 2 * model["w"], "frozen": None, "activation": None}

    model = {"w": jnp.array([3.0, 4.0]), "frozen": jnp.ones(2), "activation": jax.nn.relu}
    _, g = gdfx.sam(value_and_grad, rho=0.5)(model)
    np.testing.assert_allclose(seen[1]["w"], [3.3, 4.4], rtol=1e-6)
    assert seen[1]["frozen"] is model["frozen"]
    assert seen[1]["activation"] is jax.nn.relu
    np.testing.assert_allclose(g["w"], [6.6, 8.8], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_norm_is_taken_in_float32(dtype):
    """In float16 the sum of these squares is Inf, and in bfloat16 it is 1 % off."""
    w = jnp.full(1000, 100, dtype)
    seen = []

    def value_and_grad(w):
        seen.append(w)
        return 0.0, w

    gdfx.sam(value_and_grad, rho=1000.0)(w)
    assert seen[1].dtype == dtype
    np.testing.assert_allclose(np.float32(seen[1]), 100 + 1000**0.5, rtol=1e-2)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError) as seen:
        gdfx.sam(0.1)
    assert str(seen.value) == (
        "sam: value_and_grad must be a function that returns (value, gradients), as "
        "jax.value_and_grad makes one, got 0.1"
    )
