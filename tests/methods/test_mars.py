"""MARS: the exact form, whose second gradient the caller finds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx

G = np.random.default_rng(0).normal(size=(2, 6, 3))
GRADIENTS, PREVIOUS = G


def corrected(gradients, previous, b1, gamma):
    """Equations (3.1) and (3.2) of arXiv:2411.10438 in float64."""
    for g, other in zip(gradients, previous, strict=True):
        c = g + gamma * b1 / (1 - b1) * (g - other)
        yield c / max(1, np.linalg.norm(c))


def test_the_exact_form_takes_the_difference_on_one_batch(x64):
    tx = gdfx.scale_by_mars(0.9, 0.1)
    state = tx.init(jnp.zeros(3))
    expected = corrected(GRADIENTS, PREVIOUS, 0.9, 0.1)
    for g, other, c in zip(GRADIENTS, PREVIOUS, expected, strict=True):
        u, state = tx.update(jnp.asarray(g), state, previous=jnp.asarray(other))
        np.testing.assert_allclose(u, c, rtol=1e-12)


@pytest.mark.parametrize("from_zero", [True, False])
def test_the_first_step_compares_with_zero_or_with_itself(from_zero, x64):
    tx = gdfx.scale_by_mars(0.9, 0.1, from_zero=from_zero)
    state = tx.init(jnp.zeros(3))
    first = np.zeros(3) if from_zero else GRADIENTS[0]
    expected = corrected(GRADIENTS, [first, *GRADIENTS[:-1]], 0.9, 0.1)
    for g, c in zip(GRADIENTS, expected, strict=True):
        u, state = tx.update(jnp.asarray(g), state)
        np.testing.assert_allclose(u, c, rtol=1e-12)


def test_the_exact_form_works_on_a_part_of_the_parameters_in_one_compiled_step():
    """Inside a mask there are fewer gradients than the caller knows of."""
    params = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    g = {"a": jnp.asarray(GRADIENTS[0], "float32"), "b": jnp.ones(2)}
    previous = {"a": jnp.asarray(PREVIOUS[0], "float32"), "b": jnp.ones(2)}
    tx = optax.partition({"mars": gdfx.mars(0.1), "sgd": gdfx.sgd(0.1)}, {"a": "mars", "b": "sgd"})
    step = jax.jit(lambda g, s, p, q: tx.update(g, s, p, previous=q))
    found, state = step(g, tx.init(params), params, previous)
    alone = gdfx.mars(0.1)
    expected, _ = alone.update(g["a"], alone.init(params["a"]), params["a"], previous=previous["a"])
    np.testing.assert_allclose(found["a"], expected, rtol=1e-6)
    assert optax.tree.get(state, "last")["a"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("previous", "held"), [({"b": jnp.ones(2)}, "nothing"), ({"a": jnp.ones(2)}, "shape (2,)")]
)
def test_previous_gradients_of_another_tree_are_refused(previous, held):
    tx, g = gdfx.scale_by_mars(), {"a": jnp.ones(3)}
    with pytest.raises(ValueError, match="previous") as seen:
        tx.update(g, tx.init(g), previous=previous)
    assert str(seen.value) == (
        f"scale_by_mars: previous must have an array like ['a'], of shape (3,); it has {held} there"
    )


def test_a_gradient_of_none_keeps_what_there_was():
    tx, g = gdfx.scale_by_mars(), {"a": jnp.ones(3), "b": None}
    state = tx.init({"a": jnp.ones(3), "b": jnp.ones(2)})
    u, new = tx.update(g, state, previous={"a": jnp.ones(3), "b": jnp.ones(2)})
    assert u["b"] is None
    np.testing.assert_array_equal(new.last["b"], state.last["b"])
