"""What no law of the kit says of the optax contract, on one transformation of each kind."""

import functools
from inspect import signature

import chex
import jax
import jax.export
import jax.numpy as jnp
import optax
import pytest
from cases import DTYPES, SAMPLE, at, avals, train, tree

from gdfx.core.inner import demands

STEPS = 4

every_case = pytest.mark.parametrize("case", SAMPLE, ids=str)


@pytest.fixture(scope="module")
def params():
    return tree()


@pytest.fixture(scope="module")
def gradients():
    return [tree(seed=i + 1) for i in range(STEPS)]


@functools.cache
def plain(case):
    """The run that every other way of running must reproduce."""
    return in_one_scan(case.tx, tree(), [tree(seed=i + 1) for i in range(STEPS)])


def in_one_scan(tx, params, gradients):
    """Parameters and state at the end, and the updates of each step."""
    found, state, updates = jax.jit(functools.partial(train, tx))(params, stack(gradients))
    return found, state, [at(updates, i) for i in range(len(gradients))]


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def close(a, b):
    # Another grouping of the same operations may round each of them once more; parameters are
    # sums of steps of about 1, which may cancel.
    chex.assert_trees_all_close(a, b, rtol=2e-6, atol=1e-6)


# How it is run.


@every_case
def test_gradient_through_training(case, x64):
    tx, start = case.tx, {"w": jnp.array([1.0, -2.0, 0.5])}

    @jax.jit
    def final_loss(params):
        def loss(p):
            return jnp.sum(jnp.sqrt(1 + p["w"] ** 2))

        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return loss(params)

    jax.test_util.check_grads(final_loss, (start,), order=1, eps=1e-5, rtol=1e-6)


# What it is run on.


@pytest.mark.parametrize("case", [c for c in SAMPLE if "params" in demands(c.tx)], ids=str)
def test_parameters_that_are_needed_are_asked_for(case, params):
    with pytest.raises(ValueError, match="needs the parameters"):
        jax.eval_shape(case.tx.update, params, jax.eval_shape(case.tx.init, params))


@every_case
def test_accumulators_have_32_bits_at_least(case, x64):
    params = {dtype: jax.ShapeDtypeStruct((2,), dtype) for dtype in DTYPES}
    for leaf in jax.tree.leaves(jax.eval_shape(case.tx.init, params)):
        assert leaf.dtype == jnp.int32 or jnp.finfo(leaf.dtype).bits >= 32


@every_case
def test_complex_gradients_of_real_parameters_are_refused(case):
    p, g = jax.ShapeDtypeStruct((2,), "float32"), jax.ShapeDtypeStruct((2,), "complex64")
    with pytest.raises(TypeError, match="take the real part of the gradient"):
        jax.eval_shape(case.tx.update, g, jax.eval_shape(case.tx.init, p), p)


@every_case
def test_accumulators_take_the_dtype_that_is_asked_for(case):
    dtypes = [name for name in signature(case.factory).parameters if name.endswith("_dtype")]
    names = [name for name in dtypes if name != "compute_dtype"]  # which no state is held in
    p = jnp.ones((2, 2))
    state = case.make(**dict.fromkeys(names, "bfloat16")).init(p)
    half = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
    assert len(half) == len(names)
    for name in names:
        tx = case.make(**{name: "float16"})
        state = tx.init(p)
        assert sum(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(state)) == 1
        assert avals(jax.eval_shape(tx.update, p, state, p)[1]) == avals(state)


@every_case
def test_masked_in_part(case, params, gradients):
    tx = optax.masked(case.tx, {"w": True, "layers": False})
    _, _, updates = in_one_scan(tx, params, gradients)
    for found, expected, g in zip(updates, plain(case)[2], gradients, strict=True):
        close(found["w"], expected["w"])
        chex.assert_trees_all_equal(found["layers"], g["layers"])


@every_case
def test_apply_if_finite_steps_over_a_broken_gradient(case, params, gradients):
    broken = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), gradients[0])
    tx = optax.apply_if_finite(case.tx, 2)
    found, _, updates = in_one_scan(tx, params, [gradients[0], broken, *gradients[1:]])
    close((found, [updates[0], *updates[2:]]), plain(case)[::2])


# Where it is stored.


@every_case
def test_donated_buffers_are_used(case, gradients):
    tx, params = case.tx, tree()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    params, state = old = params, jax.jit(tx.init)(params)
    for g in gradients:
        params, state = step(params, state, g)
    assert all(x.is_deleted() for x in jax.tree.leaves(old) if x.size)
    close((params, state), plain(case)[:2])
