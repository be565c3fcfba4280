"""Methods that find their rate: what each of the catalog with an estimate d must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal

import gdfx
from gdfx.catalog import METHODS

STEPS = 50


def has_estimate(method):
    state = jax.eval_shape(method.maker(1.0).init, jax.ShapeDtypeStruct((2,), jnp.float32))
    return "d" in getattr(state, "_fields", ())


FINDERS = {name: method for name, method in METHODS.items() if has_estimate(method)}


def start():
    rng = np.random.default_rng(0)
    return {"w": jnp.asarray(rng.normal(size=(3, 2))), "b": jnp.asarray(rng.normal(size=3))}


def walk(tx, params, *, scale=1.0, late=0):
    """All parameters on the way to the bottom of a valley, and the last state.

    The first few gradients are zero.
    """
    rng = np.random.default_rng(1)
    noise = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=(STEPS, *p.shape))), params)
    still = jax.tree.map(lambda x: jnp.concatenate([jnp.zeros((late, *x.shape[1:])), x]), noise)
    on = jnp.arange(STEPS + late) >= late

    @jax.jit
    def run(params, still, scale):
        def step(carry, now):
            (n, on), (params, state) = now, carry
            g = jax.tree.map(lambda p, n: scale * on * (p - 4 + 0.3 * n), params, n)
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, tx.init(params)), (still, on))

    (_, state), params = run(params, still, scale)
    return params, state


def same(found, expected, rtol):
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=rtol, atol=rtol)


def test_they_are_found():
    assert set(FINDERS) >= {"prodigy", "dadapt_sgd", "dadapt_adamw", "dog", "ldog", "dowg"}


@pytest.mark.parametrize("name", FINDERS)
def test_a_loss_that_is_scaled_leaves_the_run_as_it_is(name, x64):
    tx = FINDERS[name].factory()
    (found, _), (expected, _) = (walk(tx, start(), scale=c) for c in (1e12, 1e9))
    same(found, expected, 1e-6)  # ε is 1e-8 of the gradients' size, or less


@pytest.mark.parametrize("name", FINDERS)
def test_zero_gradients_at_the_start_only_delay_it(name, x64):
    tx = FINDERS[name].factory()
    (late, _), (expected, _) = walk(tx, start(), late=3), walk(tx, start())
    same(jax.tree.map(lambda x: x[3:], late), expected, 1e-10)


def of_w(d):
    return d["w"] if isinstance(d, dict) else d


@pytest.mark.parametrize("name", FINDERS)
def test_what_is_frozen_or_masked_leaves_the_estimate_alone(name):
    tx, params = FINDERS[name].factory(), start()
    g = {name: 1.0 + p for name, p in params.items()}
    masked = optax.masked(tx, {"w": True, "b": False})
    states = tx.init(params), masked.init(params), tx.init({"w": params["w"]})
    for _ in range(3):
        frozen_updates, frozen = tx.update(g | {"b": None}, states[0], params)
        masked_updates, behind = masked.update(g, states[1], params)
        alone, expected = tx.update({"w": g["w"]}, states[2], {"w": params["w"]})
        states = frozen, behind, expected
        for updates, state in (frozen_updates, frozen), (masked_updates, behind.inner_state):
            assert_trees_all_equal(updates["w"], alone["w"])
            assert_trees_all_equal(of_w(state.d), of_w(expected.d))
        params = {"w": params["w"] + alone["w"], "b": params["b"]}


@pytest.mark.parametrize("name", FINDERS)
def test_the_estimate_is_read_by_its_name(name):
    tx = gdfx.skip_nonfinite(optax.chain(optax.clip_by_global_norm(1.0), FINDERS[name].factory()))
    found = optax.tree_utils.tree_get(tx.init(start()), "d")
    assert all(np.shape(x) == () for x in jax.tree.leaves(found))


def test_mechanic_s_scales_are_read_by_their_name():
    tx = optax.chain(gdfx.mechanic(gdfx.adam(1.0)))
    assert optax.tree_utils.tree_get(tx.init(start()), "s").shape == (6,)


GAPS = {
    "prodigy": (gdfx.prodigy(bias_correction=True), optax.contrib.prodigy()),
    "dadapt_adamw": (gdfx.dadapt_adamw(bias_correction=True), optax.contrib.dadapt_adamw()),
    "dog": (gdfx.dog(), optax.contrib.dog()),
    "dowg": (gdfx.dowg(), optax.contrib.dowg()),
}


@pytest.mark.parametrize("name", GAPS)
def test_from_a_gradient_that_is_not_zero_it_is_optax_s(name, x64):
    ours, theirs = GAPS[name]
    (found, _), (expected, _) = walk(ours, start()), walk(theirs, start())
    same(found, expected, 1e-10 if name != "dog" else 1e-7)
