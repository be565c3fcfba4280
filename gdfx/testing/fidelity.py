"""The law on whether an optimizer is the one whose name it has."""

from typing import Any

from gdfx.testing.draw import Run, moderate_or_zero, runs
from gdfx.testing.law import declares, law, same
from gdfx.testing.subject import Subject, replay


@law(runs(tree="nested", dtypes=("float64",), sizes=moderate_or_zero, steps=4),
     declares("reference", Any))  # fmt: skip
def equals_its_reference(subject: Subject, run: Run) -> None:
    """In float64 its updates are those of the declared reference, to 1e-9.

    Two formulas with one name train two different models.
    """
    found, expected = subject.replay(run), replay(subject.reference, run)
    same(found.updates, expected.updates, "the update | the reference's", rtol=1e-9)
