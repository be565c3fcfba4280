"""Laws on whether an optimizer is the one whose name it has."""

import functools
import inspect
from typing import Any

import numpy as np

from gdfx.testing.compare import same
from gdfx.testing.draw import HYPERPARAMETERS, Run, moderate_or_zero, runs, spelled
from gdfx.testing.law import law
from gdfx.testing.needs import at_other_hyperparameters, declares, tunable
from gdfx.testing.subject import Subject, replay

contract = functools.partial(law, "fidelity", "contract")
courtesy = functools.partial(law, "fidelity", "courtesy")

NAMES = "the update | the reference's"


@contract(runs(tree="nested", dtypes=("float64",), sizes=moderate_or_zero, steps=4),
     declares("reference", Any))  # fmt: skip
def equals_its_reference(subject: Subject, run: Run) -> None:
    """In float64 its updates are those of the declared reference, to 1e-9.

    Two formulas with one name train two different models.
    """
    found, expected = subject.by_operation(run), replay(subject.make_reference(), run)
    same(found.updates, expected.updates, NAMES, rtol=1e-9)


def _adjustable(subject: Subject) -> str | None:
    """The law needs a reference that hears hyperparameters."""
    try:
        names = subject.numbers.keys() & HYPERPARAMETERS.keys()
        inspect.signature(subject.traits.reference or subject.make).bind(**dict.fromkeys(names))
    except TypeError:
        return "the reference does not take its hyperparameters by name"
    return None


_TWO_STEPS = Run(
    np.array([1.0, -0.37, 2.6]), (np.array([1.0, -0.37, 7.3]), np.array([0.11, -2.6, -1.0]))
)


@contract(at_other_hyperparameters(_TWO_STEPS), declares("reference", Any), tunable, _adjustable)
def hyperparameters_as_in_reference(subject: Subject, case: tuple[Run, dict[str, float]]) -> None:
    """With other hyperparameters too, its updates in float64 are the reference's, to 1e-9.

    Formulas that agree at the defaults may part beside them.
    """
    run, values = case
    makes = (subject.make, subject.make_reference)
    found, expected = (replay(make(**values), run) for make in makes)
    same(found.updates, expected.updates, f"with {spelled(values)}, {NAMES}", rtol=1e-9)
