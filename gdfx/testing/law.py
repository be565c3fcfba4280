"""A law: one sentence that holds of an optimizer, and how to try it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy

from gdfx.core.words import either, sentence
from gdfx.testing.draw import is_double
from gdfx.testing.subject import Subject
from gdfx.testing.versions import enable_x64

Cases = SearchStrategy[Any] | Sequence[Any]
CasesOf = Callable[[Subject], Cases]
Need = Callable[[Subject], str | None]
Body = Callable[[Subject, Any], None]

Grade = Literal["contract", "courtesy"]
GRADES: tuple[Grade, ...] = get_args(Grade)


class BrokenLawError(AssertionError):
    """A law does not hold; the message says what was seen."""


@dataclass(frozen=True, eq=False)
class Law:
    """One law, and its check. `law` makes it of a function."""

    name: str
    """As in ``jit-equals-eager``."""

    kind: str
    """What it is about: gdfx's are of ``plumbing``, ``types``, ``nesting``, ``devices``,
    ``numbers``, ``derivatives``, ``symmetry``, ``matrix`` and ``fidelity``."""

    grade: Grade
    """``contract``: what optax asks of every optimizer so that it can be composed, and what is
    declared of this one; ``courtesy``: what an optimizer may do beyond that, and gdfx's do."""

    claim: str
    """What it asserts, in one sentence."""

    why: str
    """What goes wrong where it does not hold."""

    cases: Cases | CasesOf
    """What it is tried on: a list that is gone through, in which a strategy stands for cases drawn
    from it; where that hangs on the optimizer, a function of it."""

    needs: tuple[Need, ...]
    """Each returns None, or why the law says nothing about this optimizer."""

    body: Body
    """Raises `BrokenLawError` unless the law holds in a case."""

    def __post_init__(self) -> None:
        """Refuse what could not be reported."""
        if self.grade not in GRADES:
            grades = either([repr(grade) for grade in GRADES])
            raise ValueError(f"the grade of law {self.name} must be {grades}, got {self.grade!r}")
        if not self.claim:
            raise ValueError(
                f"law {self.name} needs a docstring: what it claims and, after an empty line, why"
            )

    def __str__(self) -> str:
        return self.name

    def applies(self, subject: Subject) -> str | None:
        """None, or the reason why the law says nothing about this optimizer."""
        return next((reason for need in self.needs if (reason := need(subject))), None)

    def cases_for(self, subject: Subject) -> Sequence[Any]:
        """What it is tried on for this optimizer: cases, and strategies to draw more from."""
        cases = self.cases(subject) if callable(self.cases) else self.cases
        return [cases] if isinstance(cases, SearchStrategy) else cases

    def check(self, subject: Subject, case: Any) -> None:
        """Raise `BrokenLawError` unless the law holds in this case."""
        with enable_x64(is_double(case)), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                self.body(subject, case)
            except (BrokenLawError, HypothesisException):
                raise
            except Exception as error:  # whatever a stranger's optimizer raises
                raise BrokenLawError(f"it raises {sentence(error)}") from error


def law(kind: str, grade: Grade, cases: Cases | CasesOf, *needs: Need) -> Callable[[Body], Law]:
    """Make a law of a function, which is given an optimizer under test and a case.

    Its name is the law's, with hyphens; its docstring is what the law claims and, after an empty
    line, what goes wrong where it does not hold. The law is tried where it is handed to `check` or
    `conformance`; nothing is registered.

    Args:
      kind: what the law is about, in a word of your own.
      grade: ``contract`` or ``courtesy``.
      cases: what it is tried on: a strategy of hypothesis, or a list of cases and strategies.
      *needs: functions of the optimizer under test, which return None, or why the law says nothing
        about it.

    >>> import gdfx, numpy as np
    >>> from gdfx.testing import LAWS, BrokenLawError, check, law, runs
    >>> @law("mine", "contract", runs(steps=2))
    ... def small_updates(subject, run):
    ...     '''No update is larger than 1.
    ...
    ...     Larger ones throw my parameters away.
    ...     '''
    ...     for u in subject.replay(run).updates:
    ...         if np.abs(u).max() > 1:
    ...             raise BrokenLawError(f"the gradients {run.gradients} give the update {u}")
    >>> report = check(lambda: gdfx.adam(0.1), laws=[LAWS["bad-trees-refused"], small_updates])
    >>> print(*report.verdicts, sep=", ")
    bad-trees-refused: kept, small-updates: kept
    """

    def declare(body: Body) -> Law:
        claim, _, why = (body.__doc__ or "").partition("\n\n")
        claim, why = (" ".join(text.split()) for text in (claim, why))
        return Law(body.__name__.replace("_", "-"), kind, grade, claim, why, cases, needs, body)

    return declare
