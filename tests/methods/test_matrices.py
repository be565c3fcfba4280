"""What every method of matrices must bear: zeros, a bad leaf, odd shapes, leaves that are none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx

METHODS = [name for name, method in gdfx.METHODS.items() if method.kind == "matrix"]

SHAPES = {"wide": (2, 4), "tall": (4, 2), "row": (1, 4), "column": (4, 1), "empty": (0, 3)}
SHAPES |= {"bad": SHAPES["wide"]}


def gradients(t, **shapes):
    rng = np.random.default_rng(t)
    return {k: jnp.asarray(rng.normal(size=s), "float32") for k, s in shapes.items()}


@functools.cache
def compiled(method):
    """The optimizer without weight decay, and its step, compiled once for all tests."""
    tx = gdfx.METHODS[method].maker(0.1, weight_decay=0.0)
    return tx, jax.jit(tx.update)


def replay(method, gs):
    tx, update = compiled(method)
    params = jax.tree.map(jnp.ones_like, gs[0])
    state, found = tx.init(params), []
    for g in gs:
        u, state = update(g, state, params)
        found.append(u)
    return found


every = pytest.mark.parametrize("method", METHODS)


@every
def test_a_zero_gradient_moves_nothing(method):
    zero = jax.tree.map(jnp.zeros_like, gradients(0, **SHAPES))
    for u in replay(method, [zero, zero, zero]):
        for x in jax.tree.leaves(u):
            np.testing.assert_array_equal(x, 0)


@every
def test_a_nan_in_one_leaf_harms_no_other(method):
    """Nor one in another matrix of the same shape, which lies in the same stack."""
    good = [gradients(t, **SHAPES) for t in range(3)]
    bad = [g | {"bad": g["bad"].at[0, 0].set(jnp.nan)} for g in good]
    for u, v in zip(replay(method, good), replay(method, bad), strict=True):
        for name in SHAPES.keys() - {"bad"}:
            np.testing.assert_array_equal(u[name], v[name])
    assert jnp.isnan(v["bad"]).any()


@every
def test_leaves_that_are_none_pass_through(method):
    """None, as equinox's filters leave it, and the masked nodes of optax."""
    g = gradients(0, wide=(2, 4), row=(1, 4))
    tx, _ = compiled(method)
    with_none = {**g, "static": None, "masked": optax.MaskedNode()}
    u, _ = tx.update(with_none, tx.init(with_none), with_none)
    assert u["static"] is None
    assert u["masked"] == optax.MaskedNode()
    plain, _ = tx.update(g, tx.init(g), g)
    for name in g:
        np.testing.assert_array_equal(u[name], plain[name])
