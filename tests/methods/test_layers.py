"""Methods whose steps are as long as the layer: their lengths, and where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx

W, G = jnp.arange(1.0, 17.0), jnp.linspace(-1.0, 2.0, 16)


def norm(x):
    return float(np.linalg.norm(np.float64(x)))


def first_step(tx, w, g):
    return tx.update(g, tx.init(w), w)[0]


def test_steps_are_as_long_as_declared():
    np.testing.assert_allclose(norm(first_step(gdfx.lamb(0.1), W, G)), 0.1 * norm(W), rtol=1e-5)
    np.testing.assert_allclose(
        norm(first_step(gdfx.lars(0.1), W, G)), 0.1 * 0.001 * norm(W), rtol=1e-5
    )
    end = np.float64(W) + np.float64(first_step(gdfx.fromage(0.1), W, G))
    expected = (np.float64(W) - 0.1 * norm(W) / norm(G) * np.float64(G)) / np.sqrt(1.01)
    np.testing.assert_allclose(end, expected, rtol=1e-5)
    np.testing.assert_allclose(norm(first_step(gdfx.novograd(0.1), W, G)), 0.1, rtol=1e-5)


def test_fromage_keeps_its_digits_at_a_small_rate(x64):
    """1/√(1 + η²) − 1 is −5e-9 at η = 1e-4: in float32 it would be 0."""
    w = jnp.ones(3, "float32")
    with_decay = gdfx.fromage(jnp.float32(1e-4))
    u = first_step(with_decay, w, jnp.zeros(3, "float32"))
    np.testing.assert_allclose(u, -0.5e-8, rtol=1e-5)


# The whole tree.


def polyak(value, g, **arguments):
    tx = gdfx.polyak_sgd(**arguments)
    return tx.update(g, tx.init(g), value=value)[0]


def test_polyaks_step_reaches_the_minimum_of_a_cone():
    """f(w) = |w| over all leaves: one step from anywhere."""
    params = {"a": jnp.array([3.0, 0.0]), "b": [jnp.array([[4.0]])]}
    value, g = jax.value_and_grad(
        lambda p: jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(p)))
    )(params)
    u = polyak(value, g, max_learning_rate=10.0)
    for x, step in zip(jax.tree.leaves(params), jax.tree.leaves(u), strict=True):
        np.testing.assert_allclose(step, -x, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "arguments", "step"),
    [
        (jnp.bfloat16(0.5), {}, -0.25),
        (np.float64(0.5), {"f_min": 0.25}, -0.125),
        (100.0, {}, -1.0),
        (100.0, {"max_learning_rate": 7.0}, -7.0),
        (-1.0, {"variant": "sps+"}, 0.0),
        (-1.0, {}, 0.5),
        (jnp.inf, {}, np.nan),
        (jnp.nan, {}, np.nan),
    ],
)
def test_the_loss_may_be_any_number(value, arguments, step):
    for loss in (value, jnp.asarray(value)):
        u = polyak(loss, jnp.ones(2), **arguments)
        np.testing.assert_allclose(u, np.full(2, step), rtol=1e-6)
    jitted = jax.jit(lambda value: polyak(value, jnp.ones(2), **arguments))(value)
    np.testing.assert_allclose(jitted, u, rtol=1e-6)


def test_a_missing_loss_and_what_is_none():
    g = jnp.ones(2)
    tx = gdfx.polyak_sgd()
    for value, error, sentence in [
        (None, ValueError, "scale_by_polyak needs the loss: call update(gradients, state, params, "
         "value=loss)"),
        (jnp.ones(2), TypeError, "scale_by_polyak: value, the loss, must be one floating number, "
         "got an array of dtype float32 and shape (2,)"),
        ("low", TypeError, "scale_by_polyak: value, the loss, must be one floating number, got "
         "'low'"),
    ]:  # fmt: skip
        with pytest.raises(error) as seen:
            tx.update(g, tx.init(g), value=value)
        assert str(seen.value) == sentence


def test_a_zero_gradient_stands_still():
    for value in (0.0, 3.0):
        np.testing.assert_array_equal(polyak(value, jnp.zeros(2)), np.zeros(2))
    slope = jax.grad(lambda g: polyak(3.0, g).sum())(jnp.zeros(2))
    assert jnp.isfinite(slope).all()
