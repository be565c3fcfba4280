"""Every method of the catalog, and every wrapper, keeps the laws that apply to it."""

import functools
import inspect
from dataclasses import replace

import jax
import optax
import pytest

import gdfx
from gdfx.catalog import METHODS
from gdfx.testing import LAWS, Traits
from gdfx.testing.judge import judge
from gdfx.testing.subject import Subject

INNER = {
    "sgd": (gdfx.sgd, Traits(scale="linear", after_nan="recovers", reference=optax.sgd)),
    "adam": (gdfx.adam, Traits(scale="invariant", after_nan="nan", reference=optax.adam)),
    "optax.adam": (optax.adam, Traits(scale="invariant", reference=optax.adam)),
}
"""What the wrappers are put around."""

WRAPPERS = {
    "skip_nonfinite": (
        gdfx.skip_nonfinite,
        {"after_nan": "recovers", "needs_params": False, "translates": True},
    ),
    "compensated": (
        gdfx.compensated,
        {"after_nan": "nan", "needs_params": True, "elementwise": True},
    ),
    "stochastic_rounding": (
        lambda tx, axis_name=None: gdfx.stochastic_rounding(tx, jax.random.key(0), axis_name),
        {"needs_params": True, "random": True},
    ),
}
"""Each with what it makes of the traits of what is inside."""


def wrapped(wrapper, inner):
    (wrap, more), (factory, traits) = WRAPPERS[wrapper], INNER[inner]

    if "axis_name" in inspect.signature(wrap).parameters:

        def make(learning_rate, axis_name=None):
            return wrap(factory(learning_rate), axis_name)
    else:

        def make(learning_rate):
            return wrap(factory(learning_rate))

    def reference(learning_rate=0.1):
        return traits.reference(learning_rate)

    return make, replace(traits, descends=True, odd=True, **more, reference=reference)


SUBJECTS = {name: (method.factory, None) for name, method in METHODS.items()} | {
    f"{wrapper}({inner})": wrapped(wrapper, inner) for wrapper in WRAPPERS for inner in INNER
}
WHOLE = ("adamw", *(f"{wrapper}(adam)" for wrapper in WRAPPERS))


def is_asked(name, law):
    """Some are put to all laws.

    For other methods, laws on plumbing are in test_contract.py; for a wrapper around another
    optimizer, the contract is what the wrapper could break.
    """
    return name in WHOLE or (law.kind != "plumbing" if name in METHODS else law.grade == "contract")


ROWS = [
    pytest.param(name, law, id=f"{name}-{law}")
    for name in SUBJECTS
    for law in LAWS.values()
    if is_asked(name, law)
]


@functools.cache
def subject(name):
    """One for all laws, so that they share what is compiled."""
    factory, traits = SUBJECTS[name]
    return Subject(functools.partial(factory, learning_rate=0.1), traits)


@pytest.mark.parametrize(("name", "law"), ROWS)
def test_law(name, law):
    found = judge(law, subject(name), seed=0, budget=5 if name in METHODS else 3)
    if found.outcome == "not applicable":
        pytest.skip(found.reason)
    assert found.outcome == "kept", str(found)
