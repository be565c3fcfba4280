"""Laws on whether an optimizer is the one whose name it has."""

from typing import Any

from hypothesis import strategies as st

from gdfx.testing.draw import Run, hyperparameters, moderate, moderate_or_zero, runs
from gdfx.testing.law import declares, law, same, tunable
from gdfx.testing.subject import Subject, replay

NAMES = "the update | the reference's"


@law(runs(tree="nested", dtypes=("float64",), sizes=moderate_or_zero, steps=4),
     declares("reference", Any))  # fmt: skip
def equals_its_reference(subject: Subject, run: Run) -> None:
    """In float64 its updates are those of the declared reference, to 1e-9.

    Two formulas with one name train two different models.
    """
    found, expected = subject.replay(run), replay(subject.reference, run)
    same(found.updates, expected.updates, NAMES, rtol=1e-9)


def _at_other_hyperparameters(subject: Subject) -> st.SearchStrategy[Any]:
    run = runs(dtypes=("float64",), sizes=moderate, steps=2)
    return st.tuples(run, hyperparameters(subject.numbers))


@law(_at_other_hyperparameters, declares("reference", Any), tunable)
def hyperparameters_as_in_reference(subject: Subject, case: tuple[Run, dict[str, float]]) -> None:
    """With other hyperparameters too, its updates in float64 are the reference's, to 1e-9.

    Formulas that agree at the defaults may part beside them.
    """
    run, values = case
    assert subject.traits.reference is not None  # the law needs it
    found, expected = (
        replay(make(**values), run) for make in (subject.make, subject.traits.reference)
    )
    given = ", ".join(f"{name}={x:g}" for name, x in values.items())
    same(found.updates, expected.updates, f"with {given}, {NAMES}", rtol=1e-9)
