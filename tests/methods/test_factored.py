"""Accumulators of other shapes than the parameter's: Adafactor's vectors, SM3's axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdfx

SHAPES = [(), (5,), (1, 5), (5, 1), (3, 4), (2, 3, 4), (0, 3), (0,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("least", [0, 1, 2])
def test_adafactor_takes_every_shape(shape, least):
    tx = gdfx.scale_by_factored_rms(min_dim_size_to_factor=least)
    g = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    state = tx.init(g)
    for _ in range(2):
        u, state = jax.jit(tx.update)(g, state, g)
    assert u.shape == shape
    assert jnp.isfinite(u).all()
    factored = len(shape) > 1 and sorted(shape)[-2] >= least and g.size > 0
    assert (state.v.shape != shape or shape == (1,)) is factored
    if len(shape) == 2 and factored:
        rows, columns = state.v_row, state.v_col
        assert sorted([rows.size, columns.size]) == sorted(shape)
        sq = np.square(np.float64(g)) + 1e-30
        bound = np.outer(sq.mean(1), sq.mean(0)) / sq.mean()
        np.testing.assert_allclose(u, g / np.sqrt(bound), rtol=1e-5)


def test_of_three_axes_the_two_longest_are_rows_and_columns():
    tx = gdfx.scale_by_factored_rms(min_dim_size_to_factor=1)
    state = tx.init(jnp.ones((5, 2, 7)))
    assert (state.v_row.shape, state.v_col.shape) == ((5, 2), (2, 7))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sm3_bounds_the_sum_of_squares(shape):
    """Algorithm SM3-II: the bound is tight for vectors, and never below the sum."""
    tx = gdfx.scale_by_sm3(b1=0.0, eps=0.0)
    gradients = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    state = tx.init(jnp.zeros(shape))
    assert [h.shape for h in state.mu] == [(n,) for n in shape] or shape == ()
    for g in gradients:
        u, state = jax.jit(tx.update)(g, state)
    total = np.square(np.float64(gradients)).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.square(np.float64(gradients[-1]) / np.float64(u))
    if len(shape) < 2:
        np.testing.assert_allclose(bound, total, rtol=1e-5)
    assert (bound >= total * (1 - 1e-5)).all()
    for axis, h in enumerate(state.mu):
        others = tuple(i for i in range(len(shape)) if i != axis)
        largest = bound.max(others, initial=0) if len(shape) > 1 else bound
        np.testing.assert_allclose(h, largest, rtol=1e-5)
