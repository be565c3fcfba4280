"""Averages: each is the explicit one, wherever it sits, and whatever the parameters are held in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal

import gdfx

STEPS = 60


def weights_of_an_ema(n, b):
    w = b ** np.arange(n)[::-1]
    return w / w.sum()


def weights_from_the_first(n, b):
    w = (1 - b) * b ** np.arange(n)[::-1]
    return np.append(b ** (n - 1), w[1:])


def weights_of_a_polynomial(n, gamma):
    """The product of (1 − cᵢ) over those that follow, times c."""
    c = (1 + gamma) / (np.arange(1, n + 1) + gamma)
    return c * np.append(np.cumprod((1 - c)[:0:-1])[::-1], 1.0)


def last(n, k):
    w = np.zeros(n)
    w[-k:] = 1 / min(k, n)
    return w


KINDS = {
    "mean": ({}, lambda n: np.full(n, 1 / n)),
    "tail": ({"start": 20}, lambda n: last(n, n - 19)),
    "every": ({"start": 2, "every": 3}, lambda n: (np.arange(1, n + 1) % 3 == 2) / ((n + 1) // 3)),
    "ema": ({"decay": 0.9}, lambda n: weights_of_an_ema(n, 0.9)),
    "long ema": ({"decay": 0.9999}, lambda n: weights_of_an_ema(n, 0.9999)),
    "no memory": ({"decay": 0.0}, lambda n: last(n, 1)),
    "ema from the first": (
        {"decay": 0.9, "debias": False},
        lambda n: weights_from_the_first(n, 0.9),
    ),
    "polynomial": ({"gamma": 8.0}, lambda n: weights_of_a_polynomial(n, 8.0)),
    "queue": ({"last": 5}, lambda n: last(n, 5)),
    "long queue": ({"last": 100}, lambda n: np.full(n, 1 / n)),
    "queue of some": (
        {"last": 4, "start": 3, "every": 2},
        lambda n: np.isin(np.arange(1, n + 1), [53, 55, 57, 59]) / 4,
    ),
}


def start(dtype=None):
    rng = np.random.default_rng(0)
    return {"a": jnp.asarray(rng.normal(size=3), dtype), "b": jnp.asarray(rng.normal(), dtype)}


def trajectory(tx, params, steps=STEPS, noise=1.0):
    """The parameters after each step, and the last state."""

    @jax.jit
    def run(params, key):
        def step(carry, key):
            params, state = carry
            g = jax.tree.map(
                lambda p: 0.3 + noise * jax.random.normal(key, p.shape, p.dtype), params
            )
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        keys = jax.random.split(key, steps)
        return jax.lax.scan(step, (params, tx.init(params)), keys)

    (params, state), walk = run(params, jax.random.key(1))
    return params, state, jax.tree.map(lambda x: np.asarray(x, np.float64), walk)


@functools.cache
def all_of(base, dtype, steps=STEPS, noise=1.0):
    """The parameters at the end, what each kind of average says of one run, and the run."""
    links = [gdfx.averaged(optax.identity(), **options) for options, _ in KINDS.values()]
    tx = optax.chain(BASES[base], *links)
    params, (_, *states), walk = trajectory(tx, start(dtype), steps, noise)
    return (
        params,
        {k: gdfx.eval_params(s, params) for k, s in zip(KINDS, states, strict=True)},
        walk,
    )


BASES = {
    "adam": gdfx.adam(0.1),
    "sgd": gdfx.sgd(0.1),
    "compensated": gdfx.compensated(gdfx.sgd(1e-3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_average_is_the_explicit_one(kind, x64):
    _, found, walk = all_of("adam", "float64")
    for name, x in walk.items():
        expected = np.tensordot(KINDS[kind][1](STEPS), x, 1)
        np.testing.assert_allclose(found[kind][name], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_start_and_after_one_step_it_is_the_parameters(kind):
    tx = gdfx.averaged(gdfx.sgd(0.1), **KINDS[kind][0])
    params = start()
    assert_trees_all_equal(gdfx.eval_params(tx.init(params), params), params)
    params, found, _ = all_of("sgd", "float32", steps=1)
    assert_trees_all_equal(found[kind], params)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_gradients_move_it_as_the_closed_form_says(kind, x64):
    """W = w − η g s after step s: the mean of s with the weights."""
    _, found, _ = all_of("sgd", "float64", noise=0.0)
    mean = KINDS[kind][1](STEPS) @ np.arange(1, STEPS + 1)
    for name, p in start("float64").items():
        np.testing.assert_allclose(found[kind][name], p - 0.1 * 0.3 * mean, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_average_of_bfloat16_parameters_is_that_of_their_numbers(kind):
    """It is rounded once, at the end."""
    _, found, walk = all_of("compensated", "bfloat16")
    for name, x in found[kind].items():
        exact = np.tensordot(KINDS[kind][1](STEPS), walk[name], 1)
        assert x.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(x, np.float64), exact, rtol=2.0**-8)


BETAS = (0.9, 0.5, 0.0)


@pytest.mark.parametrize("b1", BETAS)
def test_schedule_free_is_walk_and_mean(b1, x64):
    """z by its own steps, x as the explicit mean of all z, y between them."""
    rate, decay = 0.2, 0.05
    tx = gdfx.schedule_free_sgd(rate, b1, decay, warmup_steps=5, r=1.0)
    rng = np.random.default_rng(3)
    y = z = rng.normal(size=4)
    state, given, points, weights = tx.init(jnp.asarray(y)), jnp.asarray(y), [], []
    for t in range(1, 41):
        g = rng.normal(size=4)
        updates, state = tx.update(jnp.asarray(g), state, given)
        given = optax.apply_updates(given, updates)
        gamma = rate * min(1, t / 5)
        z = z - gamma * (g + decay * y)
        points, weights = [*points, z], [*weights, t * gamma**2]
        x = np.average(points, axis=0, weights=weights)
        y = (1 - b1) * z + b1 * x
        np.testing.assert_allclose(given, y, rtol=1e-12)
        np.testing.assert_allclose(gdfx.eval_params(state, given), x, rtol=1e-12)


def test_gradients_are_taken_ahead_of_the_walk_along_its_mean_step(x64):
    """As the record's code: x and m held, the parameters moved ahead before each gradient."""
    rate, b, gamma = 0.1, 0.5, 0.9

    def lookahead(count):  # by steps done: none in the first and in the last
        return jnp.where((count > 2) & (count < 15), 0.3 * (1 - 1.0 * count / 20), 0.0)

    tx = gdfx.ema_nesterov(gdfx.momentum(rate, b), lookahead, gamma)
    x = np.random.default_rng(4).normal(size=3)
    given, trace, m = jnp.asarray(x), np.zeros(3), np.zeros(3)
    state = tx.init(given)
    for t in range(20):
        y = x + float(lookahead(t)) * m
        np.testing.assert_allclose(given, y, rtol=1e-12)
        g = np.sin(3 * y)
        trace = g + b * trace
        before, x = x, y - rate * trace
        m = gamma * m + (1 - gamma) * (x - before)
        updates, state = tx.update(jnp.sin(3 * given), state, given)
        given = optax.apply_updates(given, updates)
        np.testing.assert_allclose(gdfx.eval_params(state, given), x, rtol=1e-12)


def test_schedule_free_in_bfloat16_follows_the_float32_one_under_compensation():
    tx = gdfx.compensated(gdfx.schedule_free_sgd(2e-3))
    w = start(jnp.bfloat16)
    params, state, _ = trajectory(tx, w, steps=1000, noise=0.0)
    z = jax.tree.map(lambda p: np.asarray(p, np.float64), w)
    for name, x in gdfx.eval_params(state, params).items():
        expected = z[name] - 2e-3 * 0.3 * np.arange(1, 1001).mean()
        np.testing.assert_allclose(np.asarray(x, np.float64), expected, atol=2.0**-8)


def test_the_weight_sum_of_bfloat16_parameters_goes_on():
    """optax's stands still at about 300."""
    for make in (gdfx.schedule_free_sgd, optax.contrib.schedule_free_sgd):
        _, state, _ = trajectory(make(1.0), start(jnp.bfloat16), steps=1000)
        assert (float(state.weight_sum) == 1000) == (make is gdfx.schedule_free_sgd)


def test_the_first_step_of_a_warm_up_moves():
    """By η / warmup; optax's does not."""
    w = jnp.zeros(2)
    for tx, moved in (
        (gdfx.schedule_free_sgd(1.0, warmup_steps=10), -0.1),
        (optax.contrib.schedule_free_sgd(1.0, warmup_steps=10), 0.0),
    ):
        updates, _ = tx.update(jnp.ones(2), tx.init(w), w)
        np.testing.assert_allclose(updates, moved, rtol=1e-6)


def steps_of(tx, steps=3):
    """A short run, not compiled: the parameters after each step, and the last state."""
    params, walk = start(), []
    state = tx.init(params)
    for i in range(steps):
        updates, state = tx.update(jax.tree.map(lambda p, i=i: 0.3 * i - p, params), state, params)
        params = optax.apply_updates(params, updates)
        walk.append(params)
    return params, state, jax.tree.map(lambda *x: np.stack(x), *walk)


MASK = {"a": True, "b": False}
LABELS = {"a": "one", "b": "two"}

DEEP = {
    "chain": lambda tx: optax.chain(optax.clip(1e9), tx),
    "masked": lambda tx: optax.masked(tx, {"a": True, "b": True}),
    "partition": lambda tx: optax.partition({"one": tx}, {"a": "one", "b": "one"}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "skip_nonfinite": gdfx.skip_nonfinite,
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 2),
    "compensated": gdfx.compensated,
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(lambda x: optax.chain(tx))(0.0),
    "all": lambda tx: gdfx.skip_nonfinite(DEEP["masked"](DEEP["compensated"](DEEP["chain"](tx)))),
}


@pytest.mark.parametrize("make", [gdfx.averaged, lambda tx: gdfx.schedule_free(tx, 0.1)],
                         ids=["averaged", "schedule_free"])  # fmt: skip
@pytest.mark.parametrize("wrapper", DEEP)
def test_it_is_found_however_deep_it_sits(wrapper, make):
    tx = make(gdfx.sgd(0.1))
    params, state, _ = steps_of(tx)
    expected = gdfx.eval_params(state, params)
    params, state, _ = steps_of(DEEP[wrapper](tx))
    found = gdfx.eval_params(state, params)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for name, x in found.items():
        assert abs(x - params[name]).max() > 1e-3
        np.testing.assert_allclose(x, expected[name], rtol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.masked(tx, MASK),
        lambda tx: optax.partition({"one": tx, "two": gdfx.sgd(0.1)}, LABELS),
        lambda tx: optax.partition({"one": tx, "two": optax.set_to_zero()}, LABELS),
    ],
    ids=["masked", "partition", "frozen"],
)
def test_what_is_left_out_of_it_is_returned_as_it_is(wrap):
    params, state, walk = steps_of(wrap(gdfx.averaged(gdfx.sgd(0.1))))
    found = gdfx.eval_params(state, params)
    assert_trees_all_equal(found["b"], params["b"])
    np.testing.assert_allclose(found["a"], walk["a"].mean(0), rtol=1e-6)


def test_two_averages_share_a_partition():
    parts = {"one": gdfx.averaged(gdfx.sgd(0.1)), "two": gdfx.schedule_free_sgd(0.1, 0.0)}
    params, state, walk = steps_of(optax.partition(parts, LABELS))
    for name, x in gdfx.eval_params(state, params).items():
        np.testing.assert_allclose(x, walk[name].mean(0), rtol=1e-6)


def test_a_model_that_is_handed_over_whole():
    """Where gradients are None, models hold functions, whole numbers and frozen arrays."""
    model = {"w": jnp.ones(2), "frozen": jnp.ones(3), "activation": jax.nn.relu, "width": 2}
    weights = {"w": model["w"], "frozen": model["frozen"], "activation": None, "width": None}
    for tx in (gdfx.averaged(gdfx.sgd(1.0)), gdfx.averaged(gdfx.sgd(1.0), last=2)):
        state, now = tx.init(weights), dict(model)
        for _ in range(2):
            g = {"w": jnp.ones(2), "frozen": None, "activation": None, "width": None}
            updates, state = tx.update(g, state, now)
            now["w"] = now["w"] + updates["w"]
        found = gdfx.eval_params(state, now)
        assert (found["activation"], found["width"]) == (jax.nn.relu, 2)
        np.testing.assert_allclose(found["w"], -0.5)
        np.testing.assert_allclose(found["frozen"], 1.0)


def test_a_skipped_step_counts_for_nothing():
    tx = gdfx.skip_nonfinite(gdfx.averaged(gdfx.sgd(1.0)))
    w = jnp.zeros(1)
    state = tx.init(w)
    for g in (-1.0, np.nan, -1.0):
        updates, state = tx.update(jnp.full(1, g), state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(gdfx.eval_params(state, w), 1.5)


def test_accumulated_gradients_count_once():
    tx = optax.MultiSteps(gdfx.averaged(gdfx.sgd(1.0)), 2)
    w = jnp.zeros(1)
    state = tx.init(w)
    for _ in range(5):  # two steps and a half
        updates, state = tx.update(-jnp.ones(1), state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(gdfx.eval_params(state, w), 1.5)


def test_optax_reads_our_schedule_free_and_we_read_optax_s(x64):
    ours, theirs = gdfx.schedule_free_sgd(0.3), optax.contrib.schedule_free_sgd(0.3)
    params, state, _ = trajectory(ours, start(), steps=200)
    mine = gdfx.eval_params(state, params)
    read = optax.contrib.schedule_free_eval_params(state, params)
    params, state, _ = trajectory(theirs, start(), steps=200)
    for name, x in gdfx.eval_params(state, params).items():
        np.testing.assert_allclose(x, mine[name], rtol=1e-12)
        np.testing.assert_allclose(read[name], mine[name], rtol=1e-12)


def test_a_run_of_optax_s_schedule_free_goes_on():
    theirs, ours = (
        optax.contrib.schedule_free(optax.sgd(0.3), 0.3),
        gdfx.schedule_free(gdfx.sgd(0.3), 0.3),
    )
    params, state, _ = steps_of(theirs)
    found, _ = ours.update(params, state, params)
    expected, _ = theirs.update(params, state, params)
    for name, u in found.items():
        np.testing.assert_allclose(u, expected[name], rtol=1e-5, atol=1e-6)


W = {"w": jnp.zeros(2)}
AVERAGED = gdfx.averaged(gdfx.sgd(0.1))
TWICE = gdfx.averaged(gdfx.averaged(gdfx.sgd(0.1), 0.9), 0.99)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gdfx.eval_params(gdfx.adam(0.1).init(W), W),
            "eval_params: nothing in the state averages; evaluate the parameters as they are, or "
            "put the optimizer in gdfx.averaged or gdfx.schedule_free",
        ),
        (
            lambda: gdfx.eval_params(TWICE.init(W), W),
            "eval_params: parameter ['w'] is averaged twice, at state[0][1] and at state[1]; "
            "choose by handing over that part of the state alone",
        ),
        (
            lambda: gdfx.eval_params(AVERAGED.init(W), {"v": jnp.zeros(2)}),
            "eval_params: the average at state[1] is of other parameters: "
            "PyTreeDef({'w': *}), not PyTreeDef({'v': *})",
        ),
        (
            lambda: gdfx.eval_params(AVERAGED.init(W), {"w": jnp.zeros(3)}),
            "eval_params: the average at state[1] holds an array of shape (2,) for a parameter of "
            "shape (3,); the state was made for other parameters",
        ),
        (
            lambda: gdfx.eval_params(AVERAGED.init(W), {"w": "names"}),
            "eval_params: the average at state[1] is of other parameters",
        ),
        (
            lambda: gdfx.averaged(gdfx.sgd(0.1), 0.9, last=3),
            "averaged: decay and last are different averages; give one of them, or put one "
            "averaged in the other",
        ),
        (
            lambda: gdfx.averaged(gdfx.sgd(0.1), gamma=8, debias=False),
            "averaged: debias is of a running mean; give decay as well",
        ),
        (
            lambda: gdfx.averaged(gdfx.sgd(0.1), 1.0),
            "averaged: decay must be None or a number in [0, 1), got 1.0",
        ),
        (
            lambda: AVERAGED.update(W, AVERAGED.init(W)),
            "averaged needs the parameters: call update(gradients, state, params), not "
            "update(gradients, state)",
        ),
        (
            lambda: gdfx.schedule_free(gdfx.sgd(0.1), 0.1, at="x"),
            "schedule_free: at must be 'y' or 'z', got 'x'",
        ),
        (
            lambda: gdfx.schedule_free_sgd(0.1).update(W, AVERAGED.init(W), W),
            "schedule_free: the state must be the ScheduleFreeState that this method's init "
            "returned, got tuple",
        ),
    ],
)
def test_sentences(call, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == message


def test_one_of_two_averages_is_chosen_by_its_part_of_the_state():
    params, state, walk = steps_of(TWICE)
    for part, b in ((state[0], 0.9), (state[1], 0.99)):
        found = gdfx.eval_params(part, params)
        expected = np.tensordot(weights_of_an_ema(3, b), walk["a"], 1)
        np.testing.assert_allclose(found["a"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("tx", "bytes_"),
    [
        (gdfx.averaged(gdfx.sgd(0.1)), 4),
        (gdfx.averaged(gdfx.sgd(0.1), last=3), 12),
        (gdfx.schedule_free_sgd(0.1), 4),
        (gdfx.schedule_free_adamw(0.1), 8),
        (gdfx.ema_nesterov(gdfx.sgd(0.1), 0.3), 4),
    ],
)
def test_bytes_for_each_parameter(tx, bytes_):
    p = jax.ShapeDtypeStruct((1000,), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(tx.init, p))
    assert sum(x.size * x.dtype.itemsize for x in leaves if x.size >= 1000) == bytes_ * 1000
