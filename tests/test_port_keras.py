"""A run of Keras goes on here, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from recordings import keras_run

import gdfx
from gdfx.port import Leaf, from_arrays, from_keras, to_keras

NAMES = [("dense", "kernel"), Leaf("conv", axes=(3, 2, 1, 0)), ("bias",)]


def named(label):
    """A convolution as another framework has it, but for sums over its last axes."""
    return [NAMES[0], ("conv",), NAMES[2]] if label == "Adafactor" else NAMES


def laid(label, arrays):
    conv = (2, 3, 2, 3) if label == "Adafactor" else (3, 2, 3, 2)
    blank = {"dense": {"kernel": np.zeros((6, 4))}, "conv": np.zeros(conv), "bias": np.zeros(5)}
    return from_arrays([arrays[n] for n in keras_run.SHAPES], blank, names=named(label))


def schedule(count):
    return keras_run.FIRST * keras_run.factor(1.0 * count)


@pytest.mark.parametrize("label", keras_run.RUNS)
def test_a_run_of_keras_goes_on(label, x64):
    config, variables, recorded = keras_run.taken_over(label)
    params = laid(label, recorded["before"])
    options = {"names": named(label), "config": config, "optimizer": label.split()[0]}
    falling = {"learning_rate": schedule} if label in keras_run.FALLS else {}
    tx, state = from_keras(variables, params, **options, **falling)
    each = {name: keras_run.gradients(name)[keras_run.BEFORE :] for name in keras_run.SHAPES}
    gradients = [laid(label, {n: g[t] for n, g in each.items()}) for t in range(keras_run.AFTER)]

    @jax.jit
    def run(params, state, gradients):
        def step(carry, g):
            updates, state = tx.update(g, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        return lax.scan(step, (params, state), gradients)

    (_, last), path = run(params, state, jax.tree.map(lambda *xs: jnp.stack(xs), *gradients))
    found = {
        "next": jax.tree.map(lambda x: x[0], path),
        "after": jax.tree.map(lambda x: x[-1], path),
    }
    if recorded["average"]:
        found["average"] = gdfx.eval_params(last, found["after"])
    for when, ours in found.items():
        expected = laid(label, recorded[when])
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            off = np.max(abs(x - y)) / np.max(abs(y))
            assert off < 1e-12, f"{when}: off by {off:.1e} of the largest parameter"

    back = to_keras((optax.EmptyState(), state), params, **options)
    stored = [variables[str(i)] for i in range(len(variables))]
    for ours, theirs in zip(back, stored, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)


CONFIG = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": None}
CONFIG = CONFIG | {"clipnorm": None, "clipvalue": None, "global_clipnorm": None, "name": "sgd"}
PARAMS = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}
VARIABLES = {
    "sgd/iteration": 7,
    "sgd/learning_rate": 0.1,
    "sgd/w_momentum": np.ones((2, 3)),
    "sgd/b_momentum": np.ones(3),
}


def given(config=None, variables=None, **options):
    """A call that differs in this from a right one."""
    call = {"names": ["w", "b"], "optimizer": "SGD", "config": {**CONFIG, **(config or {})}}
    return from_keras(variables or VARIABLES, PARAMS, **call | options)


WRONG = [
    ({"optimizer": "SDG"}, "optimizer is unknown: SDG; did you mean SGD?"),
    ({"config": {"beta": 1.0}}, "config has 'beta', which SGD has not"),
    ({"optimizer": "Adagrad"}, "config has 'momentum', which Adagrad has not"),
    ({"config": {"use_ema": True}}, "config has no 'ema_momentum', which use_ema needs"),
    ({"config": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 5}}, "config has "
     "ema_overwrite_frequency=5, by which Keras sets the weights to their average every so many "
     "steps; nothing here does that: go on with None"),
    ({"config": {"gradient_accumulation_steps": 4}}, "SGD has 6 variables of these 2 parameters, "
     "got 4"),
    ({"config": {"learning_rate": {"class_name": "CosineDecay"}}}, "SGD has 3 variables of these 2 "
     "parameters, got 4"),
    ({"config": {"momentum": 0.0}}, "SGD has 2 variables of these 2 parameters, got 4"),
    ({"variables": dict(sorted(VARIABLES.items()))}, "variables['sgd/b_momentum'] stands where "
     "iteration must; give them in the order of optimizer.variables"),
    ({"names": ["b", "w"]}, "variables['sgd/w_momentum'], momentum, has shape (2, 3), but ['b'] "
     "asks for (3,)"),
    ({"variables": [7, 0.1, np.ones((3, 2)), np.ones(3)]}, "variables[2], momentum, has shape "
     "(3, 2), but ['w'] asks for (2, 3); if it is transposed, say Leaf(..., axes=(1, 0))"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_does_not_fit_is_named(options, words):
    with pytest.raises((TypeError, ValueError)) as error:
        given(**options)
    assert str(error.value) == f"port.from_keras: {words}"


def test_a_schedule_of_keras_must_be_said():
    config = {"learning_rate": {"class_name": "CosineDecay"}}
    variables = [7, np.ones((2, 3)), np.ones(3)]
    with pytest.raises(ValueError, match="the learning rate is a schedule in Keras; say it as one"):
        given(config, variables)
    _, state = given(config, variables, learning_rate=optax.cosine_decay_schedule(0.1, 9))
    assert state.count == 7
