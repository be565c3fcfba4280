"""Every method of the catalog, and every wrapper, keeps the laws that apply to it."""

import functools
import inspect
from dataclasses import replace

import jax
import optax
import pytest
from cases import READY_MADE, VARIANTS

import gdfx
from gdfx.testing import LAWS, Traits
from gdfx.testing.judge import BUDGET, judge
from gdfx.testing.subject import Subject

BUDGETS = {"quick": 3, "full": BUDGET}
"""On how many drawn cases each law is tried, beside those that it is always tried on."""

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
    "watch": (
        functools.partial(gdfx.watch, every=1, keep=3),
        {"needs_params": False, "translates": True},
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

    outer = replace(traits, descends=True, odd=True, **more, reference=reference)
    return functools.partial(make, learning_rate=0.1), outer


def made(case):
    """A transformation of the catalog, its arguments bound."""
    return functools.partial(case.factory, **case.arguments), None


def cautious(learning_rate=0.1):
    return gdfx.descend(gdfx.cautious(gdfx.scale_by_adam()), learning_rate)


def matched(learning_rate=0.1):
    return gdfx.descend(optax.chain(gdfx.scale_by_adam(), gdfx.match_rms()), learning_rate)


def floored(learning_rate=0.1):
    return gdfx.descend(optax.chain(gdfx.scale_by_adam(), gdfx.floor_update()), learning_rate)


def cautiously_decayed(learning_rate=0.1):
    link = gdfx.add_cautious_weight_decay(0.1)
    return gdfx.descend(optax.chain(gdfx.scale_by_adam(), link), learning_rate)


ADAM = Traits(descends=True, odd=True, scale="invariant", after_nan="nan")
COMPOSED = {
    make.__name__: (functools.partial(make, learning_rate=0.1), replace(ADAM, **more))
    for make, more in (
        (cautious, {"elementwise": False, "translates": True, "needs_params": False}),
        (matched, {"elementwise": False, "translates": True, "needs_params": False}),
        (floored, {"elementwise": False, "needs_params": True}),
        (cautiously_decayed, {"elementwise": True, "needs_params": True, "odd": None}),
    )
}
"""Directions with something after them."""


OPTIMIZERS = {str(case): case for case in VARIANTS if case.factory is case.method.factory}
SUBJECTS = (
    {name: made(case) for name, case in OPTIMIZERS.items()}
    | {f"{wrapper}({inner})": wrapped(wrapper, inner) for wrapper in WRAPPERS for inner in INNER}
    | COMPOSED
)
WHOLE = {str(case) for case in READY_MADE} | {f"{wrapper}(adam)" for wrapper in WRAPPERS}


MATRIX = [str(case) for case in READY_MADE if case.method.reach == "matrix"]
"""They share one lift, whose steps take long to compile."""


def is_left_out(name, law, laws):
    """Whether the first of those has tried it for the others, where the budget is small."""
    courtesy = law.kind == "plumbing" and law.grade == "courtesy"
    return laws != "full" and name in MATRIX[1:] and courtesy


def is_asked(name, law):
    """Every optimizer is put to all laws.

    A flag changes equations and no plumbing; and for a wrapper around another optimizer, the
    contract is what the wrapper could break.
    """
    flagged = name in OPTIMIZERS and law.kind != "plumbing"
    return name in WHOLE or flagged or (name not in OPTIMIZERS and law.grade == "contract")


ROWS = [
    pytest.param(name, law, id=f"{name}-{law}")
    for name in SUBJECTS
    for law in LAWS.values()
    if is_asked(name, law)
]


@functools.lru_cache(maxsize=1)
def subject(name):
    """One for all laws, so that they share what is compiled, which goes when the next one comes."""
    jax.clear_caches()
    make, traits = SUBJECTS[name]
    return Subject(make, traits)


@pytest.mark.parametrize(("name", "law"), ROWS)
def test_law(name, law, pytestconfig):
    laws = pytestconfig.getoption("--laws")
    if is_left_out(name, law, laws):
        pytest.skip(f"a courtesy of the plumbing, as {MATRIX[0]} has it; tried with --laws=full")
    budget = BUDGETS[laws]
    found = judge(law, subject(name), seed=0, budget=budget)
    if found.outcome == "not applicable":
        pytest.skip(found.reason)
    assert found.outcome == "kept", str(found)
