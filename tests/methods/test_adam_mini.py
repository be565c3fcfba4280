"""Adam-mini's blocks: which they are, as its axes say, and what is said where there are none."""

import jax.numpy as jnp
import numpy as np
import pytest

import gdfx
from gdfx import MatrixAxes


def first_moments(params, matrices, heads=None):
    """Of each leaf v / (1 − β₂) after one step."""
    rng = np.random.default_rng(0)
    g = {name: rng.normal(size=x.shape) for name, x in params.items()}
    tx = gdfx.scale_by_adam_mini(b2=0.75, matrices=matrices, heads=heads, verbose=False)
    gradients = {name: jnp.asarray(x, "float32") for name, x in g.items()}
    _, state = tx.update(gradients, tx.init(params))
    held = {}
    for group in state.inner_states.values():
        nu = group.inner_state.nu
        held |= {name: np.float64(x) / 0.25 for name, x in nu.items() if hasattr(x, "shape")}
    return g, held


def test_a_row_a_head_or_a_leaf_has_one_second_moment():
    params = {
        "dense": jnp.zeros((4, 3)),
        "query": jnp.zeros((4, 2, 3)),  # (inputs, heads, outputs)
        "fused": jnp.zeros((4, 6)),  # two heads of three outputs
        "scale": jnp.zeros(5),
        "scalar": jnp.zeros(()),
    }
    matrices = {
        "dense": MatrixAxes(),
        "query": MatrixAxes(inputs=0, outputs=2, batch=1),
        "fused": MatrixAxes(blocks={1: 2}),
        "scale": None,
        "scalar": None,
    }
    g, v = first_moments(params, matrices, lambda path, x: "query" in path or "fused" in path)
    sq = {name: x**2 for name, x in g.items()}
    np.testing.assert_allclose(v["dense"], sq["dense"].mean(0), rtol=1e-5)
    np.testing.assert_allclose(v["query"], sq["query"].mean((0, 2)), rtol=1e-5)
    halves = sq["fused"].reshape(4, 2, 3)
    np.testing.assert_allclose(v["fused"], halves.mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(v["scale"], sq["scale"].mean(), rtol=1e-5)
    np.testing.assert_allclose(v["scalar"], sq["scalar"], rtol=1e-5)


def test_what_has_one_second_moment_for_want_of_axes_is_printed(capsys):
    params = {"kernel": jnp.zeros((2, 3)), "conv": jnp.zeros((2, 3, 4)), "bias": jnp.zeros(3)}
    gdfx.adam_mini(0.1, matrices="2d").init(params)
    assert capsys.readouterr().out == (
        "adam_mini: ['conv'] of shape (2, 3, 4) has one second moment, for want of axes in "
        "matrices\n"
    )
    gdfx.adam_mini(0.1, matrices="2d", verbose=False).init(params)
    assert capsys.readouterr().out == ""


def test_heads_that_are_no_matrices_are_refused():
    tx = gdfx.adam_mini(0.1, matrices="2d", heads=lambda path, x: True)
    with pytest.raises(ValueError, match="heads") as seen:
        tx.init({"bias": jnp.zeros(3)})
    assert str(seen.value) == (
        "adam_mini: heads names ['bias'], which is no matrix by the given matrices"
    )
