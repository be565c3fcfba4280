"""The textbook forms against a literal transcription of the textbook's equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import train

import gdfx
from gdfx import textbook

# The transcription: one loop a method, in NumPy and float64. dL_dW(W, t) is the gradient,
# eta(t) the learning rate, both of step t = 0, 1, ...; the path of W comes back.


def numpy_sgd(W, dL_dW, steps, eta):  # noqa: N803
    path = [W]
    for t in range(steps):
        W = W - eta(t) * dL_dW(W, t)  # noqa: N806
        path.append(W)
    return np.array(path)


def numpy_momentum(W, dL_dW, steps, eta, alpha=0.9):  # noqa: N803
    path, v = [W], np.zeros_like(W)
    for t in range(steps):
        v = alpha * v - eta(t) * dL_dW(W, t)
        W = W + v  # noqa: N806
        path.append(W)
    return np.array(path)


def numpy_adagrad(W, dL_dW, steps, eta, eps=1e-7):  # noqa: N803
    path, h = [W], np.zeros_like(W)
    for t in range(steps):
        g = dL_dW(W, t)
        h = h + g * g
        W = W - eta(t) * g / np.sqrt(h + eps)  # noqa: N806
        path.append(W)
    return np.array(path)


def numpy_adam(W, dL_dW, steps, eta, b1=0.9, b2=0.999, eps=1e-8):  # noqa: N803
    path, m, v = [W], np.zeros_like(W), np.zeros_like(W)
    for t in range(steps):
        g = dL_dW(W, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        correction = np.sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1))
        W = W - eta(t) / np.sqrt(v + eps) * correction * m  # noqa: N806
        path.append(W)
    return np.array(path)


PAIRS = {
    "sgd": (textbook.sgd, numpy_sgd, {}, {}),
    "momentum": (textbook.momentum, numpy_momentum, {}, {}),
    "momentum, long": (textbook.momentum, numpy_momentum, {"decay": 0.99}, {"alpha": 0.99}),
    "adagrad": (textbook.adagrad, numpy_adagrad, {}, {}),
    "adagrad, large eps": (textbook.adagrad, numpy_adagrad, {"eps": 0.1}, {"eps": 0.1}),
    "adam": (textbook.adam, numpy_adam, {}, {}),
    "adam, other": (textbook.adam, numpy_adam, *[{"b1": 0.5, "b2": 0.9, "eps": 0.1}] * 2),
}
RATES = {"constant": 0.1, "schedule": optax.cosine_decay_schedule(0.3, 40, alpha=0.1)}
STEPS = 50
START = np.array([1.0, -2.0, 0.5])
GRADIENTS = np.random.default_rng(0).normal(size=(STEPS, 3)) * [1.0, 1e-3, 1e3]

both_rates = pytest.mark.parametrize("rate", RATES.values(), ids=RATES)


def at_step(rate):
    return (lambda t: float(rate(t))) if callable(rate) else (lambda _: rate)


def updates(tx):
    """What the optimizer adds to W in each step, and where W ends."""
    end, _, updates = jax.jit(functools.partial(train, tx))(
        jnp.asarray(START), jnp.asarray(GRADIENTS)
    )
    return updates, end


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@both_rates
def test_equations(pair, rate, x64):
    ours, transcribed, our_arguments, arguments = pair
    path = transcribed(START, lambda _, t: GRADIENTS[t], STEPS, at_step(rate), **arguments)
    found, end = updates(ours(rate, **our_arguments))
    # Differences of the path have lost the digits that W has before them.
    np.testing.assert_allclose(found, np.diff(path, axis=0), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(end, path[-1], rtol=1e-12)


VALLEY = {  # the rate, and where 30 steps end on x^2 / 20 + y^2 from (-7, 2)
    "sgd": (0.95, (-0.350393, 0.084782)),
    "momentum": (0.1, (0.896414, 0.088086)),
    "adagrad": (1.5, (-0.120162, 2e-17)),
    "adam": (0.3, (0.136006, 0.318245)),
}


@pytest.mark.parametrize("name", VALLEY)
def test_valley(name, x64):
    ours, transcribed, _, _ = PAIRS[name]
    rate, end = VALLEY[name]
    tx = ours(rate)

    def step(carry, _):
        w, state = carry
        update, state = tx.update(w * jnp.array([0.1, 2.0]), state, w)
        w = w + update
        return (w, state), w

    start = jnp.array([-7.0, 2.0])
    _, path = jax.lax.scan(step, (start, tx.init(start)), length=30)
    expected = transcribed(np.array([-7.0, 2.0]), lambda w, _: w * [0.1, 2.0], 30, lambda _: rate)
    np.testing.assert_allclose(path, expected[1:], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(expected[-1], end, atol=5e-7)


REACHED = {  # by these arguments of optax, to the last digits of float64
    "sgd": (textbook.sgd, optax.sgd, 0),
    "momentum at a constant rate": (
        lambda rate: textbook.momentum(0.1),
        lambda rate: optax.sgd(0.1, 0.9),
        1e-13,
    ),
    "momentum": (
        textbook.momentum,
        lambda rate: optax.chain(optax.scale_by_learning_rate(rate), optax.trace(0.9)),
        0,
    ),
    "adagrad": (textbook.adagrad, lambda rate: optax.adagrad(rate, 0.0, 1e-7), 1e-14),
}


@pytest.mark.parametrize("row", REACHED.values(), ids=REACHED)
@both_rates
def test_optax_reaches(row, rate, x64):
    ours, theirs, tolerance = row
    found, expected = updates(ours(rate))[0], updates(theirs(rate))[0]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * 1e-3)


def test_momentum_under_a_schedule_is_not_optaxs(x64):
    """The velocity keeps the rate at which it was gathered."""
    halved = optax.piecewise_constant_schedule(0.1, {2: 0.0})  # 0 from the third step on
    inside, outside = (updates(m(halved))[0] for m in (textbook.momentum, gdfx.momentum))
    np.testing.assert_allclose(inside[:2], outside[:2], rtol=1e-14)
    np.testing.assert_allclose(inside[2], 0.9 * inside[1], rtol=1e-14)
    assert not outside[2].any()
