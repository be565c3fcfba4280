"""The wrappers: guarding a run, and weights of low precision that move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal
from jax.sharding import NamedSharding, PartitionSpec

import gdfx

PARAMS = {"w": jnp.array([1.0, -0.0, 3.0]), "b": jnp.array(0.5)}
GOOD = {"w": jnp.array([0.1, -2.0, 3.0]), "b": jnp.array(-1.0)}
BAD = {"w": jnp.array([0.1, jnp.nan, 3.0]), "b": jnp.array(-1.0)}


def bits(tree):
    """Trees as integers: 0 and -0 differ."""
    return jax.tree.map(lambda x: np.asarray(x).view(f"i{x.dtype.itemsize}"), tree)


def stateful_overflow():
    """Finite gradients and updates, but a state that becomes Inf at the second step."""

    def update(updates, state, params=None):
        return updates, state * 1e15

    return optax.GradientTransformation(lambda params: jnp.float32(1e20), update)


def overflow():
    """An optimizer that makes Inf of finite gradients."""
    return optax.stateless(lambda updates, params: jax.tree.map(lambda g: g / 0.0, updates))


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_a_skipped_step_leaves_params_and_state_bitwise(mode):
    tx = gdfx.skip_nonfinite(optax.chain(optax.clip(1.0), gdfx.adamw(0.1)))
    update = jax.jit(tx.update) if mode == "jit" else tx.update
    _, state = update(GOOD, tx.init(PARAMS), PARAMS)
    updates, skipped = update(BAD, state, PARAMS)
    assert_trees_all_equal(bits(optax.apply_updates(PARAMS, updates)), bits(PARAMS))
    assert_trees_all_equal(bits(skipped.inner_state), bits(state.inner_state))
    assert (int(skipped.consecutive), int(skipped.total)) == (1, 1)


def test_a_run_with_bad_steps_is_the_run_without_them():
    guarded, plain = gdfx.skip_nonfinite(gdfx.adam(0.1)), gdfx.adam(0.1)

    @jax.jit
    def run(grads):
        def step(carry, g):
            params, state = carry
            updates, state = guarded.update(g, state, params)
            return (optax.apply_updates(params, updates), state), state.consecutive

        return jax.lax.scan(step, (PARAMS, guarded.init(PARAMS)), grads)

    sequence = [GOOD, BAD, BAD, GOOD, BAD, GOOD]
    (params, state), consecutive = run(jax.tree.map(lambda *g: jnp.stack(g), *sequence))
    expected, inner = PARAMS, plain.init(PARAMS)
    for _ in range(3):
        updates, inner = jax.jit(plain.update)(GOOD, inner, expected)
        expected = optax.apply_updates(expected, updates)
    assert_trees_all_equal(params, expected)
    assert_trees_all_equal(state.inner_state, inner)
    assert consecutive.tolist() == [0, 1, 2, 0, 1, 0]
    assert int(state.total) == 3


@pytest.mark.parametrize(
    ("inner", "steps"), [(overflow(), 1), (stateful_overflow(), 2)], ids=["updates", "state"]
)
def test_what_the_optimizer_makes_is_looked_at_too(inner, steps):
    tx = gdfx.skip_nonfinite(inner)
    state = tx.init(PARAMS)
    for _ in range(steps):
        updates, state = tx.update(GOOD, state, PARAMS)
    assert_trees_all_equal(bits(optax.apply_updates(PARAMS, updates)), bits(PARAMS))
    assert int(state.total) == 1


def test_optax_lets_the_optimizer_s_own_infinity_through():
    tx = optax.apply_if_finite(overflow(), 5)
    updates, _ = tx.update(GOOD, tx.init(PARAMS), PARAMS)
    assert not np.isfinite(updates["b"])


def test_infinity_that_a_state_holds_on_purpose_is_no_failure():
    tx = gdfx.skip_nonfinite(
        optax.chain(gdfx.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1))
    )
    state = tx.init(PARAMS)
    _, state = tx.update(GOOD, state, PARAMS, value=jnp.float32(1.0))
    assert int(state.total) == 0


def test_after_max_consecutive_the_failure_is_let_through():
    tx = gdfx.skip_nonfinite(gdfx.sgd(0.1), max_consecutive=2)
    state = tx.init(PARAMS)
    seen = []
    for _ in range(3):
        updates, state = tx.update(BAD, state, PARAMS)
        seen.append(bool(jnp.isnan(updates["w"][1])))
    assert seen == [False, False, True]
    assert (int(state.consecutive), int(state.total)) == (3, 3)


def test_masks_and_tree_map_params_see_through_the_guard():
    tx = gdfx.skip_nonfinite(optax.masked(gdfx.adam(0.1), {"w": True, "b": False}))
    updates, _ = tx.update(BAD, tx.init(PARAMS), PARAMS)
    assert_trees_all_equal(bits(optax.apply_updates(PARAMS, updates)), bits(PARAMS))
    tx = gdfx.skip_nonfinite(gdfx.adam(0.1))
    marked = optax.tree_map_params(tx, lambda _: "param", tx.init(PARAMS))
    assert marked.inner_state[0].mu == {"w": "param", "b": "param"}
    assert int(marked.total) == 0


def test_the_guard_keeps_shardings():
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    params = jax.device_put(jnp.ones(16), sharding)
    bad = jax.device_put(jnp.ones(16).at[3].set(jnp.nan), sharding)
    tx = gdfx.skip_nonfinite(gdfx.adam(0.1))
    updates, state = jax.jit(tx.update)(bad, tx.init(params), params)
    assert int(state.total) == 1
    assert state.inner_state[0].mu.sharding.is_equivalent_to(sharding, 1)
    assert updates.sharding.is_equivalent_to(sharding, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gdfx.skip_nonfinite(gdfx.adam(0.1), -1),
            "skip_nonfinite: max_consecutive must be a whole number >= 0, got -1",
        ),
        (
            lambda: gdfx.skip_nonfinite(gdfx.adam(0.1), 2.0),
            "skip_nonfinite: max_consecutive must be a whole number >= 0, got 2.0",
        ),
        (
            lambda: gdfx.skip_nonfinite(3),
            "skip_nonfinite: tx must be an optax.GradientTransformation, got 3",
        ),
        (
            lambda: gdfx.stochastic_rounding(gdfx.adam(0.1), 0),
            "stochastic_rounding: key must be a random key, such as jax.random.key(0), got 0",
        ),
        (
            lambda: gdfx.compensated(gdfx.sgd(0.1)).update(
                GOOD, gdfx.compensated(gdfx.sgd(0.1)).init(PARAMS)
            ),
            "compensated needs the parameters: call update(gradients, state, params), not "
            "update(gradients, state)",
        ),
        (
            lambda: gdfx.skip_nonfinite(gdfx.sgd(0.1)).update(GOOD, gdfx.sgd(0.1).init(PARAMS)),
            "skip_nonfinite: the state must be the SkipNonfiniteState that this method's init "
            "returned, got tuple",
        ),
    ],
)
def test_sentences(make, message):
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert str(error.value) == message


def train(tx, w, steps=1000):
    """Constant gradients of 1, jitted: the sum of the updates is known."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jnp.ones_like(w), state, w)
        return (optax.apply_updates(w, updates), state), w.dtype == updates.dtype

    (w, state), _ = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), None, length=steps))(w)
    return w, state


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("make", [gdfx.adam, optax.adam], ids=["gdfx", "optax"])
def test_compensation_keeps_the_sum_that_rounding_loses(make, dtype):
    w = jnp.ones(2, dtype)
    moved, state = train(gdfx.compensated(make(1e-3)), w)
    # 1 - 1000 * 1e-3 = 0; c has the digits of its dtype below those of W.
    ulp = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(moved, np.float64), 0.0, atol=ulp)
    assert moved.dtype == dtype
    assert state.compensation.dtype == dtype


def test_without_a_remedy_a_bfloat16_weight_stays():
    w, _ = train(gdfx.adam(1e-3), jnp.ones(2, jnp.bfloat16))
    assert w.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_compensation_predicts_what_apply_updates_does(mode):
    tx = gdfx.compensated(gdfx.sgd(1.0))
    update = jax.jit(tx.update) if mode == "jit" else tx.update
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=64), jnp.bfloat16)
    state = tx.init(w)
    exact = np.asarray(w, np.float64)
    for _ in range(20):
        g = jnp.asarray(rng.normal(size=64) * 1e-3, jnp.bfloat16)
        updates, state = update(g, state, w)
        w = optax.apply_updates(w, updates)
        exact -= np.asarray(g, np.float64)
        kept = np.asarray(w, np.float64) + np.asarray(state.compensation, np.float64)
        # c is below half an ulp of W and has 8 digits: 2^-9 of that is lost in a step.
        np.testing.assert_allclose(kept, exact, atol=20 * 2.0**-16 * np.abs(exact).max())


@pytest.mark.parametrize("make", [gdfx.adam, optax.adam], ids=["gdfx", "optax"])
def test_stochastic_rounding_is_right_on_average(make):
    w, _ = train(
        gdfx.stochastic_rounding(make(1e-3), jax.random.key(0)), jnp.ones(4096, jnp.bfloat16)
    )
    # A step of 1e-3 is rounded to 0 or one ulp (at most 2^-7): its variance is at most
    # 1e-3 * 2^-7, so a mean over 4096 weights of 1000 steps has a deviation below 1.4e-3.
    assert abs(float(jnp.mean(w.astype(jnp.float32)))) < 5 * 1.4e-3


def test_stochastic_rounding_takes_a_neighbour():
    tx = gdfx.stochastic_rounding(optax.identity(), jax.random.key(1))
    w = jnp.ones(1000, jnp.bfloat16)
    updates, _ = tx.update(jnp.full(1000, 0.002, jnp.float32), tx.init(w), w)
    values, counts = np.unique(optax.apply_updates(w, updates), return_counts=True)
    assert values.tolist() == [1.0, 1.0078125]
    assert abs(counts[1] / 1000 - 0.002 / 2**-7) < 5 * np.sqrt(0.256 * 0.744 / 1000)


def test_the_key_decides():
    w = jnp.ones(64, jnp.bfloat16)
    runs = [
        train(gdfx.stochastic_rounding(gdfx.adam(1e-3), jax.random.key(seed)), w, 50)[0].tolist()
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    "wrap", [gdfx.compensated, lambda tx: gdfx.stochastic_rounding(tx, jax.random.key(0))]
)
def test_updates_keep_the_gradients_dtype_and_wide_ones_their_value(wrap):
    tx = wrap(gdfx.adam(1e-3))
    for dtype in (jnp.bfloat16, jnp.float32, jnp.complex64):
        w = jnp.ones(3, dtype)
        updates, _ = tx.update(w, tx.init(w), w)
        assert updates.dtype == dtype
        if dtype != jnp.bfloat16:
            np.testing.assert_allclose(updates, -1e-3, rtol=1e-6)
