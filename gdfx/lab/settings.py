"""Problems that can be made in several ways: what their settings may be, and what is made."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gdfx.core.arguments import NOT_NEGATIVE, Argument, Count, Number, checked
from gdfx.core.words import listed, number
from gdfx.lab.protocol import Rates
from gdfx.lab.rates import SWEPT

Made = TypeVar("Made")

RULES: dict[str, Argument] = {
    "batch_size": Count(1),
    "condition": Number(">= 1", lambda x: x >= 1),
    "dimension": Count(1),
    "noise": NOT_NEGATIVE,
}
"""A setting means the same in every problem, so what it may be is said once."""


def settings(factory: Callable[..., Made]) -> Callable[..., Made]:
    """Decorate a problem's factory: what it is given is checked, and goes into the name.

    So ``rosenbrock(noise=0.1)`` is called ``rosenbrock-noise-0.1``, and says of its learning rates
    that they are those of other settings.
    """
    takes = inspect.signature(factory).parameters
    make = checked(**{name: RULES[name] for name in takes})(factory)

    @functools.wraps(make)
    def named(**given: Any) -> Made:
        problem: Any = make(**given)
        changed = {k: v for k, v in given.items() if v != takes[k].default}
        if not changed:
            return problem
        note = f"{problem.rates.note}; chosen for another {listed(list(changed))}"
        return replace(
            problem,
            name="-".join((problem.name, *(f"{k}-{number(v)}" for k, v in changed.items()))),
            rates=Rates(problem.rates.by_method, note, problem.rates.steps),
        )

    return named


def swept(problem: str) -> dict[str, float]:
    """The learning rates of the sweeps that found one, by method."""
    return {name: rate for name, rate in SWEPT.get(problem, {}).items() if rate is not None}
