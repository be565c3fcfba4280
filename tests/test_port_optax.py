"""States between optax and gdfx: as they are where they are the same, else field by field."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from cases import READY_MADE

import gdfx
from gdfx.port import from_optax, to_optax

PARAMS = {"w": np.array([[0.5, -1.0], [2.0, 0.1]]), "b": np.array([1.0, -0.3])}
SAME = [case for case in READY_MADE if case.method.matches and case.method.form is None]

OTHER = {
    "prodigy": (gdfx.prodigy(bias_correction=True), optax.contrib.prodigy()),
    "dadapt_adamw": (gdfx.dadapt_adamw(bias_correction=True), optax.contrib.dadapt_adamw()),
    "dog": (gdfx.dog(), optax.contrib.dog()),
    "dog under a schedule": (
        gdfx.dog(optax.linear_schedule(1.0, 0.5, 9)),
        optax.contrib.dog(optax.linear_schedule(1.0, 0.5, 9)),
    ),
    "dowg": (gdfx.dowg(), optax.contrib.dowg()),
}


def start():
    return jax.tree.map(jnp.asarray, PARAMS)


def gradients(t):
    return jax.tree.map(lambda x: jnp.asarray(np.cos(x * (t + 1.0))), PARAMS)


def steps(tx, state, params, ts):
    for t in ts:
        updates, state = tx.update(gradients(t), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("case", SAME, ids=str)
def test_a_state_that_both_have_goes_over_as_it_is(case):
    ours, theirs = case.tx.init(start()), case.method.reference(0.1).init(start())
    assert from_optax(theirs, ours) is theirs
    assert to_optax(ours, theirs) is ours


@pytest.mark.parametrize("name", OTHER)
def test_a_run_goes_on_where_the_other_library_stood(name, x64):
    ours, theirs = OTHER[name]
    params, state = steps(theirs, theirs.init(start()), start(), range(3))
    found = from_optax(state, ours.init(start()))
    there, after = steps(theirs, state, params, range(3, 6))
    here, mine = steps(ours, found, params, range(3, 6))
    assert_close(here, there)
    if not name.startswith("dog"):
        assert_close(to_optax(mine, theirs.init(start())), after)


def nested(tx):
    """A method in all that may stand around it."""
    split = {
        "a": optax.masked(tx, lambda tree: jax.tree.map(lambda x: True, tree)),
        "b": optax.sgd(0.1),
    }
    inside = optax.named_chain(
        ("clip", optax.clip(1.0)), ("parts", optax.partition(split, {"w": "a", "b": "b"}))
    )
    made = optax.inject_hyperparams(lambda rate: optax.chain(inside, optax.scale(rate)))(rate=0.5)
    return optax.MultiSteps(made, 2)


def test_it_is_found_wherever_it_stands_and_all_else_stays(x64):
    ours, theirs = map(nested, OTHER["prodigy"])
    params, state = steps(theirs, theirs.init(start()), start(), range(3))
    found = from_optax(state)
    assert jax.tree.structure(found) == jax.tree.structure(ours.init(start()))
    assert found.mini_step is state.mini_step
    assert found.acc_grads["w"] is state.acc_grads["w"]
    rate = found.inner_opt_state.hyperparams["rate"]
    assert rate is state.inner_opt_state.hyperparams["rate"]
    here, mine = steps(ours, found, params, range(3, 6))
    assert_close(here, steps(theirs, state, params, range(3, 6))[0])
    back = to_optax(mine, theirs.init(start()))
    assert jax.tree.structure(back) == jax.tree.structure(state)


def test_noise_goes_on_from_the_same_key():
    ours, theirs = gdfx.noisy_sgd(0.1, key=3), optax.noisy_sgd(0.1, 0.01, 0.55, key=3)
    fresh = theirs.init(start())
    found = from_optax(fresh, ours.init(start()))
    np.testing.assert_array_equal(found[0].key, ours.init(start())[0].key)
    there = to_optax(found, fresh)
    assert there[0].rng_key.dtype == fresh[0].rng_key.dtype


def test_chains_may_differ_in_links_that_hold_nothing():
    ours = (optax.EmptyState(), gdfx.adam(0.1).init(start()), optax.EmptyState())
    theirs = (optax.adam(0.1).init(start()),)
    found = from_optax(theirs, ours)
    assert jax.tree.structure(found) == jax.tree.structure(ours)
    assert found[1] is theirs[0]


def wrong(what, *states):
    with pytest.raises((TypeError, ValueError)) as error:
        what(*states)
    return str(error.value).partition(": ")[2]


def test_what_does_not_fit_is_named():
    def fresh(tx):
        return tx.init(start())

    last = "cannot be made; give the fresh state of the same method, wrapped alike"
    muon = fresh(gdfx.muon(0.1, matrices="2d"))
    assert wrong(from_optax, fresh(optax.contrib.muon(0.1)), muon) == (
        "state.inner_states is a dict of adam and muon, of which a dict of matrices and otherwise "
        + last
    )
    adam = fresh(optax.adam(0.1))
    assert wrong(from_optax, adam, fresh(gdfx.rmsprop(0.1))) == (
        f"state[0] is optax's ScaleByAdamState, of which optax's ScaleByRmsState {last}"
    )
    other = optax.adam(0.1).init({"w": jnp.ones(3), "b": jnp.ones(2)})
    assert wrong(from_optax, other, fresh(gdfx.adam(0.1))) == (
        "state[0].mu['w'] has shape (3,), but a fresh state has (2, 2) there; the state is of "
        "other parameters"
    )
    dog = fresh(optax.contrib.dog())
    assert wrong(from_optax, dog) == (
        "what state becomes is not told by itself; say like, a fresh state of the optimizer that "
        "goes on"
    )
    assert wrong(to_optax, fresh(gdfx.dog()), dog).startswith(
        "state: a state of gdfx.dog has ε in its sum of squares"
    )
