"""Sophia: its second call, in a loop and wherever the state stands."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recordings.replay import LONG, parameters, recorded, usual

import gdfx


def run(name, b2, **arguments):
    """As it was recorded: an estimate after every tenth step, of eight examples."""
    tx = gdfx.sophia(0.02, **arguments)
    p = jnp.asarray(parameters(name))
    state, kept = tx.init(p), []

    @jax.jit
    def step(p, state, g):
        updates, state = tx.update(g, state, p)
        return optax.apply_updates(p, updates), state

    for t, (g, sampled) in enumerate(zip(usual(name), usual(name)[::-1], strict=True), 1):
        p, state = step(p, state, jnp.asarray(g))
        if t % 10 == 0:
            state = gdfx.update_hessian(state, 8 * jnp.asarray(sampled) ** 2, b2=b2)
        if t in LONG:
            kept.append(p)
    return np.stack(kept)


@pytest.mark.parametrize(
    ("label", "b2", "arguments"),
    [
        ("default", 0.99, {"gamma": 0.04, "weight_decay": 0.1}),
        ("short", 0.9, {"b1": 0.8, "gamma": 0.3, "weight_decay": 0.0}),
    ],
)
def test_the_parameters_are_those_of_the_authors_code(label, b2, arguments, x64):
    for name, expected in recorded("sophia", label).items():
        found = run(name, b2, **arguments)
        assert np.max(abs(found - expected)) / np.max(abs(expected)) < 1e-12


def test_the_second_call_finds_the_state_where_it_stands():
    """In a chain, inside a partition, in bfloat16 as it was cast, compiled."""
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    tx = optax.chain(
        optax.clip(1.0),
        optax.partition(
            {"sophia": gdfx.sophia(0.1), "sgd": gdfx.sgd(0.1)}, {"a": "sophia", "b": "sgd"}
        ),
    )
    estimate = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.ones(2)}
    state = jax.jit(gdfx.update_hessian)(tx.init(params), estimate)
    np.testing.assert_allclose(optax.tree.get(state, "nu")["a"], 0.01 * estimate["a"], rtol=1e-6)
    again = gdfx.update_hessian(optax.tree_utils.tree_cast(state, jnp.bfloat16), estimate)
    assert optax.tree.get(again, "nu")["a"].dtype == jnp.bfloat16
    assert jax.tree.structure(again) == jax.tree.structure(state)


def test_an_infinite_estimate_is_seen():
    """As curvature it would hold its coordinate still for ever."""
    w = jnp.ones(3)
    state = gdfx.update_hessian(gdfx.sophia(0.1).init(w), jnp.array([1.0, jnp.inf, 1e38]))
    nu = optax.tree.get(state, "nu")
    assert np.isnan(nu).tolist() == [False, True, False]
    np.testing.assert_allclose(nu[2], 0.01 * 2.0**48, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "estimate", "sentence"),
    [
        (
            gdfx.adam,
            {"w": jnp.ones(2)},
            "update_hessian: there is no state of gdfx.sophia in tuple; give the state that its "
            "init or update returned",
        ),
        (
            gdfx.sophia,
            {"v": jnp.ones(2)},
            "update_hessian: estimate must have an array like ['w'], of shape (2,); it has nothing "
            "there",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, estimate, sentence):
    with pytest.raises(ValueError, match="update_hessian") as seen:
        gdfx.update_hessian(make(0.1).init({"w": jnp.ones(2)}), estimate)
    assert str(seen.value) == sentence
