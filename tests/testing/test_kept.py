"""Every method of the catalog, and every wrapper, keeps the laws that apply to it."""

import functools
import inspect
import itertools
from collections import defaultdict
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
}
"""What the wrappers are put around."""

MESH = jax.make_mesh((8,), ("x",))

WRAPPERS = {
    "skip_nonfinite": (
        gdfx.skip_nonfinite,
        {"after_nan": "recovers", "needs_params": False, "translates": True},
    ),
    "compensated": (
        gdfx.compensated,
        {"after_nan": "nan", "needs_params": True, "elementwise": True},
    ),
    "averaged": (gdfx.averaged, {"needs_params": True, "translates": True, "elementwise": True}),
    "queued": (
        lambda tx: gdfx.averaged(tx, last=2),
        {"needs_params": True, "translates": True, "elementwise": True},
    ),
    "stochastic_rounding": (
        lambda tx, axis_name=None: gdfx.stochastic_rounding(tx, jax.random.key(0), axis_name),
        {"needs_params": True, "random": True},
    ),
    "quantized": (gdfx.quantized, {"needs_params": False, "translates": True}),
    "sharded": (
        lambda tx: gdfx.sharded(tx, MESH, "x"),
        {"needs_params": False, "translates": True, "elementwise": True},
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


def schedule_freed(learning_rate=0.1):
    return gdfx.schedule_free(gdfx.adam(learning_rate), learning_rate)


def looked_ahead(learning_rate=0.1):
    return gdfx.ema_nesterov(gdfx.adam(learning_rate), 0.5)


def slow_lifted(learning_rate=0.1):
    return optax.chain(gdfx.grokfast_ema(), gdfx.adam(learning_rate))


def window_lifted(learning_rate=0.1):
    return optax.chain(gdfx.grokfast_ma(3, warmup=False), gdfx.adam(learning_rate))


def tuned(learning_rate=0.1):
    return gdfx.mechanic(gdfx.adam(learning_rate))


def coded(learning_rate=0.1):
    return gdfx.quantized(gdfx.adam(learning_rate), min_size=0)


def coded_at_random(learning_rate=0.1):
    return gdfx.quantized(gdfx.adam(learning_rate), min_size=0, key=jax.random.key(0))


def in_parts(learning_rate=0.1):
    return gdfx.sharded(gdfx.adam(learning_rate), MESH, "x", min_size=0, uneven="whole")


ADAM = Traits(descends=True, odd=True, scale="invariant", after_nan="nan")
COMPOSED = {
    make.__name__: (functools.partial(make, learning_rate=0.1), replace(ADAM, **more))
    for make, more in (
        (cautious, {"elementwise": False, "translates": True, "needs_params": False}),
        (matched, {"elementwise": False, "translates": True, "needs_params": False}),
        (floored, {"elementwise": False, "needs_params": True}),
        (schedule_freed, {"elementwise": True, "translates": True, "needs_params": True}),
        (looked_ahead, {"elementwise": True, "translates": True, "needs_params": False}),
        (in_parts, {"elementwise": True, "translates": True, "needs_params": False}),
        (coded, {"odd": False, "translates": True, "needs_params": False}),
        (coded_at_random, {"odd": None, "scale": None, "needs_params": False, "random": True}),
        (tuned, {"elementwise": False, "translates": None, "needs_params": True}),
        (cautiously_decayed, {"elementwise": True, "needs_params": True, "odd": None}),
        (slow_lifted, {"elementwise": True, "translates": True, "needs_params": False}),
        (window_lifted, {"elementwise": True, "translates": True, "needs_params": False}),
    )
}
"""Directions with something before or after them, and wrappers that make another optimizer."""


OPTIMIZERS = {str(case): case for case in VARIANTS if case.factory is case.method.factory}
SUBJECTS = (
    {name: made(case) for name, case in OPTIMIZERS.items()}
    | {f"{wrapper}({inner})": wrapped(wrapper, inner) for wrapper in WRAPPERS for inner in INNER}
    | COMPOSED
)
WHOLE = {str(case) for case in READY_MADE} | {f"{wrapper}(adam)" for wrapper in WRAPPERS}


def lifted_alike():
    """Of each ready-made optimizer one whose equations are lifted as its are.

    It is the first of its sort that has something to hold, or else the first.
    """
    sorts = defaultdict(dict)
    for case in READY_MADE:
        of, size = case.method, case.method.state_bytes
        way = of.reach, of.random, of.needs_value, 0 < size < 1
        sorts[way][str(case)] = size
    return {
        name: next((one for one, size in sort.items() if size), name)
        for sort in sorts.values()
        for name in sort
    }


FIRST = lifted_alike() | {f"{wrapper}(sgd)": f"{wrapper}(adam)" for wrapper in WRAPPERS}
FIRST |= dict.fromkeys(("matched", "floored", "cautiously_decayed"), "cautious")
FIRST |= {"coded_at_random": "coded", "looked_ahead": "averaged(adam)"}
FIRST |= dict.fromkeys(("queued(sgd)", "queued(adam)"), "averaged(adam)")
FIRST["noisy_sgd"] = "stochastic_rounding(adam)"


PLUMBING = {"plumbing", "nesting", "devices"}
"""The kinds of law that are about how an optimizer is run."""


FORMS = {str(case): case.method.form for case in READY_MADE if case.method.form}
"""Of what each method of a dialect is a form."""


def left_to(name, law, laws):
    """Which other optimizer has tried it for this one, where the budget is small.

    How an optimizer is run is the lift's, whatever the equations; and another source's form has the
    roots and quotients whose derivatives are hard.
    """
    of = FIRST if law.kind in PLUMBING else FORMS if law.kind == "derivatives" else {}
    other = of.get(name, name)
    return other if laws != "full" and other != name else None


def is_asked(name, law):
    """Every optimizer is put to all laws.

    A flag changes equations, and not what is general to them; for a wrapper around another
    optimizer, the contract is what the wrapper could break.
    """
    flagged = name in OPTIMIZERS and law.kind not in {*PLUMBING, "types", "derivatives"}
    return name in WHOLE or flagged or (name not in OPTIMIZERS and law.grade == "contract")


ROWS = [
    pytest.param(name, law, id=f"{name}-{law}")
    for name in SUBJECTS
    for law in LAWS.values()
    if is_asked(name, law)
]


KEPT_AT_ONCE = 5
"""How many optimizers share what JAX keeps, 0.1 to 0.3 GB for each, before it is let go."""


@functools.lru_cache(maxsize=1)
def subject(name):
    """One for all laws, so that they share what is compiled."""
    if not next(asked_for) % KEPT_AT_ONCE:
        jax.clear_caches()
    make, traits = SUBJECTS[name]
    return Subject(make, traits)


asked_for = itertools.count()


@pytest.mark.parametrize(("name", "law"), ROWS)
def test_law(name, law, pytestconfig):
    laws = pytestconfig.getoption("--laws")
    other = left_to(name, law, laws)
    if other is not None:
        pytest.skip(f"tried on {other}, which stands for it; on all with --laws=full")
    budget = BUDGETS[laws]
    found = judge(law, subject(name), seed=0, budget=budget)
    if found.outcome == "not applicable":
        pytest.skip(found.reason)
    assert found.outcome == "kept", str(found)
