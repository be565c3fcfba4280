"""What laws need of an optimizer, or of the machine, to say something about it."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import jax

from gdfx.core.arguments import Number, rules
from gdfx.core.words import either
from gdfx.testing.draw import HYPERPARAMETERS, Run, hyperparameters
from gdfx.testing.law import CasesOf, Need
from gdfx.testing.subject import Subject


def declares(trait: str, value: Any = True) -> Need:
    """The law needs a trait."""

    def need(subject: Subject) -> str | None:
        declared = getattr(subject.traits, trait)
        if declared is None:
            return f"nothing is declared about the trait {trait}"
        return None if value in (Any, declared) else f"declared: {trait} = {declared}"

    return need


def takes(*names: str) -> Need:
    """The law needs arguments that it can change; without names: any number at all."""

    def need(subject: Subject) -> str | None:
        if names and not any(map(subject.takes_number, names)):
            return f"it takes no {either(names)}"
        if not names and not subject.numbers:
            return "it takes no floating point number"
        return None

    return need


def schedulable(subject: Subject) -> str | None:
    """The law needs a learning rate that may be a schedule, as far as the factory says."""
    rule = rules(subject.factory).get("learning_rate")
    number_alone = isinstance(rule, Number) and not rule.schedule
    return "its learning_rate is a number, and no schedule" if number_alone else None


def tunable(subject: Subject) -> str | None:
    """The law needs hyperparameters whose ranges are known."""
    known = subject.numbers.keys() & HYPERPARAMETERS.keys()
    return None if known else "it takes no number whose range is known"


def at_other_hyperparameters(run: Run) -> CasesOf:
    """The same run, with values from all over the ranges of the hyperparameters."""

    def cases(subject: Subject) -> Sequence[tuple[Run, dict[str, float]]]:
        return [(run, values) for values in hyperparameters(subject.numbers)]

    return cases


def deterministic(subject: Subject) -> str | None:
    """The law compares runs in two dtypes, and noise is another in each."""
    return "declared: random = True" if subject.traits.random else None


def installed(package: str) -> Need:
    """The law needs a package that gdfx itself does not."""

    def need(subject: Subject) -> str | None:
        del subject
        return None if find_spec(package) else f"{package} is not installed"

    return need


ONE_DEVICE = (
    'JAX sees one device; to have eight, call jax.config.update("jax_num_cpu_devices", 8) before '
    "JAX starts (with pytest, in conftest.py)"
)


def several_devices(subject: Subject) -> str | None:
    """The law needs more than one device."""
    del subject
    return None if jax.device_count() > 1 else ONE_DEVICE
