"""The watch: what it measures, that it changes nothing, and what it holds."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import gdfx
from gdfx.wrappers.watch import MEASURES

PARAMS = {"a": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "b": jnp.array([1.0, 2.0, 2.0])}


def gradient(t):
    """Another one each step, with a zero."""
    return jax.tree.map(lambda p: jnp.cos(t * (p + 1)) * (p != 2), PARAMS)


def run(tx, steps, step=None):
    step = step or tx.update
    params, state = PARAMS, tx.init(PARAMS)
    seen = []
    for t in range(steps):
        g = gradient(t + 1.0)
        updates, state = step(g, state, params)
        seen.append((g, updates, params))
        params = optax.apply_updates(params, updates)
    return seen, state, params


@pytest.mark.parametrize("jitted", [False, True])
def test_what_is_measured_is_what_numpy_says(jitted):
    tx = gdfx.watch(gdfx.adam(0.1), every=1, keep=9)
    seen, state, _ = run(tx, 4, jax.jit(tx.update) if jitted else None)
    found = gdfx.watched(state, PARAMS)
    assert found.steps.tolist() == [1, 2, 3, 4]
    assert found.paths == ["['a']", "['b']"]
    for t, (g, u, p) in enumerate(seen):
        for i, name in enumerate("ab"):
            norms = [np.linalg.norm(np.ravel(x[name])) for x in (g, u, p)]
            expected = {
                "gradient_norm": norms[0],
                "update_norm": norms[1],
                "ratio": norms[1] / norms[2],
                "gradient_zeros": np.mean(np.asarray(g[name]) == 0),
                "update_zeros": np.mean(np.asarray(u[name]) == 0),
                "gradient_nonfinite": 0,
                "update_nonfinite": 0,
            }
            for measure in MEASURES:
                got = found[measure][t, i]
                assert got == pytest.approx(expected[measure], rel=1e-5), measure
    ends = found.accumulators["[0].mu['b']"][-1]
    mu = state.inner_state[0].mu["b"]
    np.testing.assert_allclose(ends, [mu.min(), mu.max()])


@pytest.mark.parametrize("make", [gdfx.adamw, optax.adam, gdfx.lamb, partial(gdfx.sgd)])
@pytest.mark.parametrize("jitted", [False, True])
def test_the_run_is_bitwise_the_same(make, jitted):
    plain, watching = make(0.1), gdfx.watch(make(0.1), every=2, keep=3)
    wrap = jax.jit if jitted else (lambda f: f)
    _, state, end = run(plain, 7, wrap(plain.update))
    _, watched, same = run(watching, 7, wrap(watching.update))
    for a, b in zip(
        jax.tree.leaves((end, state)), jax.tree.leaves((same, watched.inner_state)), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_some_steps_are_measured_and_the_last_of_them_held():
    tx = gdfx.watch(gdfx.sgd(0.1), every=3, keep=4)
    _, state, _ = run(tx, 20, jax.jit(tx.update))
    assert gdfx.watched(state, PARAMS).steps.tolist() == [10, 13, 16, 19]
    every = gdfx.watch(gdfx.sgd(0.1), every=1, keep=20)
    _, whole, _ = run(every, 20, jax.jit(every.update))
    kept = gdfx.watched(whole, PARAMS)["gradient_norm"][np.array([10, 13, 16, 19]) - 1]
    np.testing.assert_array_equal(gdfx.watched(state, PARAMS)["gradient_norm"], kept)
    sizes = [[x.shape for x in jax.tree.leaves(s)] for s in (state, tx.init(PARAMS))]
    assert sizes[0] == sizes[1]


def test_what_is_not_finite_is_counted_and_large_norms_do_not_overflow():
    tx = gdfx.watch(gdfx.sgd(1.0), every=1)
    w = {"w": jnp.ones(4)}
    g = {"w": jnp.array([jnp.nan, jnp.inf, 0.0, 1.0])}
    _, state = tx.update(g, tx.init(w), w)
    _, state = tx.update({"w": jnp.full(4, 1e30)}, state, w)
    found = gdfx.watched(state, w)
    np.testing.assert_allclose(found["gradient_nonfinite"][:, 0], [0.5, 0])
    np.testing.assert_allclose(found["gradient_zeros"][:, 0], [0.25, 0])
    np.testing.assert_allclose(found["gradient_norm"][1, 0], 2e30)
    assert np.isnan(found["gradient_norm"][0, 0])


def test_without_parameters_there_is_no_ratio():
    tx = gdfx.watch(optax.sgd(0.1), every=1)
    _, state = tx.update(PARAMS, tx.init(PARAMS))
    assert np.isnan(gdfx.watched(state, PARAMS)["ratio"]).all()
    np.testing.assert_allclose(gdfx.watched(state, PARAMS)["update_norm"], [[0.5, 0.3]], rtol=1e-6)


def test_it_is_read_inside_a_chain_a_scan_and_a_map():
    tx = optax.chain(optax.clip_by_global_norm(1.0), gdfx.watch(gdfx.adam(0.1), every=2, keep=5))

    def many(scale):
        def step(state, t):
            g = jax.tree.map(lambda x: scale * x, gradient(t))
            return tx.update(g, state, PARAMS)[1], None

        return jax.lax.scan(step, tx.init(PARAMS), jnp.arange(1.0, 9.0))[0]

    states = jax.jit(jax.vmap(many))(jnp.array([1.0, 2.0]))
    for i in range(2):
        found = gdfx.watched(jax.tree.map(lambda x, i=i: x[i], states), PARAMS)
        assert found.steps.tolist() == [1, 3, 5, 7]
        assert np.isfinite(found["gradient_norm"]).all()


def test_leaves_that_are_spread_over_devices_are_measured_whole():
    mesh = Mesh(np.array(jax.devices()), ("x",))
    params = {"w": jax.device_put(jnp.arange(16.0), NamedSharding(mesh, P("x")))}
    tx = gdfx.watch(gdfx.adam(0.1), every=1)
    _, state = jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)
    expected = np.linalg.norm(np.arange(16.0))
    assert gdfx.watched(state, params)["gradient_norm"][0, 0] == pytest.approx(expected, rel=1e-6)


def test_gaps_in_a_tree_pass_through():
    tx = gdfx.watch(gdfx.adam(0.1), every=1)
    params = {"a": PARAMS["a"], "n": None, "z": PARAMS["b"]}
    gradient = {"a": None, "n": None, "z": PARAMS["b"]}
    updates, state = tx.update(gradient, tx.init(params), params)
    assert updates["a"] is None
    found = gdfx.watched(state, params)
    assert found.paths == ["['a']", "['z']"]
    assert np.isnan(found["gradient_norm"][0, 0])
    assert found["gradient_norm"][0, 1] == pytest.approx(3)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: gdfx.watch(gdfx.sgd(0.1), every=0),
         "watch: every must be a whole number >= 1, got 0"),
        (lambda: gdfx.watch(gdfx.sgd(0.1), keep=0.5),
         "watch: keep must be a whole number >= 1, got 0.5"),
        (lambda: gdfx.watch(3), "watch: tx must be an optax.GradientTransformation, got 3"),
        (lambda: gdfx.watch(gdfx.sgd(0.1)).update(PARAMS, gdfx.adam(0.1).init(PARAMS)),
         "watch: the state must be the WatchState that this method's init returned, got tuple"),
        (lambda: gdfx.watch(gdfx.sgd(0.1)).update(
            jnp.ones(1), gdfx.watch(gdfx.sgd(0.1)).init(PARAMS)),
         "watch: the state is of 2 parameters, and there are gradients of 1; pass what its own "
         "init returned for them"),
        (lambda: gdfx.watched(gdfx.watch(gdfx.sgd(0.1)).init(PARAMS), {}),
         "watched: the parameters have 0 leaves, and 2 were watched"),
        (lambda: gdfx.watched(gdfx.adam(0.1).init(PARAMS), PARAMS),
         "watched: the state of one gdfx.watch is read, and none is in this one"),
        (lambda: gdfx.watched([gdfx.watch(gdfx.sgd(0.1)).init(PARAMS)] * 2, PARAMS),
         "watched: the state of one gdfx.watch is read, and 2 are in this one"),
        (lambda: gdfx.watched(gdfx.watch(gdfx.sgd(0.1)).init(PARAMS), PARAMS)["norm"],
         f"there is no measure 'norm'; there are {', '.join(MEASURES)}"),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(act, sentence):
    with pytest.raises((TypeError, ValueError, KeyError), match=re.escape(sentence)):
        act()
