"""What is done to a direction once it is found, beside the equations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx

RNG = np.random.default_rng(0)
W = {"w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4)}
GRADIENTS = [{"w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4)} for _ in range(5)]


@pytest.fixture(autouse=True)
def in_double_precision(x64):
    """Equations are compared to the digits of float64."""


def run(tx, params=W):
    state, found = tx.init(params), []
    update = jax.jit(tx.update)
    for g in GRADIENTS:
        u, state = update(g, state, params)
        params = optax.apply_updates(params, u)
        found.append(params)
    return found


def replayed(step, params=W):
    """Each leaf by ``step(w, g, m, t)``, which returns the new w; m is momentum 0.9."""
    found, momenta = [], jax.tree.map(np.zeros_like, params)
    for t, g in enumerate(GRADIENTS):
        momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, g)
        params = {k: step(params[k], g[k], momenta[k], t) for k in params}
        found.append(params)
    return found


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found, expected)


MOMENTUM = gdfx.scale_by_momentum(0.9)


@pytest.mark.parametrize("floor", [1e-3, 0.9])
def test_cautious(floor):
    def step(w, g, m, t):
        k = (m * g > 0).astype(float)
        return w - 0.1 * m * k / max(k.mean(), floor)

    tx = gdfx.descend(gdfx.cautious(MOMENTUM, floor), 0.1)
    close(run(tx), replayed(step))
    assert any((np.sign(g["w"]) != np.sign(GRADIENTS[0]["w"])).any() for g in GRADIENTS)


def test_cautious_shows_what_is_not_a_number():
    tx = gdfx.cautious(MOMENTUM)
    u, _ = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
    np.testing.assert_array_equal(np.isnan(u), [False, True])


def test_match_rms():
    def step(w, g, m, t):
        return w - 0.1 * 0.3 * m / np.sqrt((m**2).mean())

    close(run(gdfx.descend(optax.chain(MOMENTUM, gdfx.match_rms(0.3)), 0.1)), replayed(step))


def test_floor_update():
    def step(w, g, m, t):
        return w - 0.1 * m * max(1, 2 * np.linalg.norm(w) / np.linalg.norm(m))

    tx = gdfx.descend(optax.chain(MOMENTUM, gdfx.floor_update(2.0)), 0.1)
    close(run(tx), replayed(step))
    zero = gdfx.floor_update(2.0)
    u, _ = zero.update(jnp.zeros(2), zero.init(jnp.ones(2)), jnp.ones(2))
    np.testing.assert_array_equal(u, [0, 0])


def test_cautious_weight_decay_on_a_schedule_and_a_mask():
    def step(w, g, m, t):
        decay = 0.5 / (1 + t) if w.ndim == 2 else 0
        return w - 0.1 * (m + decay * w * (m * w >= 0))

    link = gdfx.add_cautious_weight_decay(lambda t: 0.5 / (1 + t), {"w": True, "b": False})
    close(run(gdfx.descend(optax.chain(MOMENTUM, link), 0.1)), replayed(step))


def test_corrected_decay():
    def step(w, g, m, t):
        eta = 0.1 / (1 + t)
        return w - eta * (m + 0.5 * eta / 0.1 * w)

    def schedule(count):
        return 0.1 / (1 + count)

    decay = gdfx.corrected_decay(0.5, schedule, peak=0.1)
    close(run(gdfx.descend(MOMENTUM, schedule, weight_decay=decay)), replayed(step))


def test_hyperball():
    def step(w, g, m, t):
        eta = 0.1 / (1 + t)
        if w.ndim == 1:
            return w - eta * m
        length = np.linalg.norm(w)
        w = w - eta * length * m / np.linalg.norm(m)
        return length * w / np.linalg.norm(w)

    tx = gdfx.hyperball(MOMENTUM, lambda t: 0.1 / (1 + t), {"w": True, "b": False})
    found = run(tx)
    close(found, replayed(step))
    for params in found:
        np.testing.assert_allclose(np.linalg.norm(params["w"]), np.linalg.norm(W["w"]), rtol=1e-12)


def test_muon_on_a_sphere():
    """Without a gradient W stays, bit for bit but for rounding, and no NaN comes of it."""
    tx = gdfx.hyperball(gdfx.scale_by_muon(matrices="2d"), 0.1)
    w = jnp.asarray(W["w"])
    u, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
    np.testing.assert_allclose(u, np.zeros((3, 4)), atol=1e-15)


SENTENCES = [
    (
        lambda: gdfx.cautious(gdfx.adam(0.1)),
        ValueError,
        "cautious: direction goes down already, as a whole optimizer does, and would all be "
        "masked; give a direction such as gdfx.scale_by_adam(), or use the optimizer as it is",
    ),
    (
        lambda: gdfx.hyperball(gdfx.adam(0.1), 0.1),
        ValueError,
        "hyperball: direction goes down already, as a whole optimizer does, and would climb; give "
        "a direction such as gdfx.scale_by_adam(), or use the optimizer as it is",
    ),
    (
        lambda: gdfx.hyperball(MOMENTUM, 0.1).init({"w": jnp.ones(2), "b": [jnp.zeros(2)]}),
        ValueError,
        "hyperball: parameter ['b'][0] is zero, and would stay so; leave it to another optimizer "
        "by a mask, or start it elsewhere",
    ),
    (
        lambda: gdfx.corrected_decay(0.1, 0.1, 0.1),
        TypeError,
        "corrected_decay: learning_rate must be a schedule, got 0.1; a constant one needs no "
        "correction",
    ),
    (
        lambda: gdfx.cautious(MOMENTUM, 0.0),
        ValueError,
        "cautious: floor must be a number in (0, 1], got 0.0",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), SENTENCES)
def test_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == sentence
