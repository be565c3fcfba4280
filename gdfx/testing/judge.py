"""Try laws on an optimizer: in a report, as a test of pytest, or one law on one case."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import hypothesis
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from gdfx.core.words import nearest
from gdfx.testing.catalog import LAWS
from gdfx.testing.law import BrokenLawError, Law
from gdfx.testing.report import Report, Verdict
from gdfx.testing.reproduction import name_of, reproduction
from gdfx.testing.subject import Make, Subject
from gdfx.testing.traits import Traits

BUDGET = 25
"""On how many drawn cases each law is tried, wherever laws are tried."""

Waivers = Mapping[str, str]
"""By the name of a law, the reason why it is no fault that it is broken."""


def check(
    make: Make,
    laws: Iterable[str | Law] | None = None,
    traits: Traits | None = None,
    *,
    waive: Waivers | None = None,
    seed: int = 0,
    budget: int = BUDGET,
    progress: Callable[[Law], None] | None = None,
) -> Report:
    """Try laws on an optimizer.

    Args:
      make: makes the optimizer: ``functools.partial`` of a factory, as in ``partial(optax.adam,
        learning_rate=1e-3)``, or a function without arguments. Laws about hyperparameters need
        the first form, for they change them; and only by its factory is an optimizer of gdfx or
        optax known.
      laws: names from `LAWS`, or laws of your own, which `law` makes; by default all of `LAWS`.
      traits: what is declared of the optimizer, beside what is known of gdfx's own methods and of
        optax's. Laws that need a trait of which nothing is said are not applicable.
      waive: by the name of a law, the reason why it may be broken. It is tried all the same, and
        the report says where a waiver is not needed.
      seed: the same seed tries the same cases.
      budget: how many cases each law is tried on, where they are drawn.
      progress: called with each law before it is tried.

    Returns:
      A `Report`.

    Raises:
      TypeError: where no optax transformation comes out; and whatever ``make`` raises.
      ValueError: for a law that there is not, and a waiver without a reason.

    >>> import gdfx.testing, optax
    >>> from functools import partial
    >>> report = gdfx.testing.check(
    ...     partial(optax.adam, learning_rate=0.1), laws=["bad-arguments-refused"]
    ... )
    >>> print(*report.broken)
    bad-arguments-refused: broken: learning_rate=-1.0 is accepted
    """
    subject = Subject(make, traits)
    _ = subject.tx  # an error here is the caller's; in a law it counts against the optimizer
    asked = find(laws)
    waivers = reasons(waive, asked)
    verdicts: list[Verdict] = []
    for law in asked:
        if progress is not None:
            progress(law)
        waiver = waivers.get(law.name, "")
        verdicts.append(judge(law, subject, seed=seed, budget=budget, waiver=waiver))
    return Report(name_of(make), tuple(verdicts), subject.is_ready_made)


def find(laws: Iterable[str | Law] | None) -> Sequence[Law]:
    """Laws by their names, each once; None: all, the contract first.

    Raises:
      ValueError: for a law that there is not, for two of one name, and for none.
    """
    if laws is None:
        return tuple(LAWS.values())
    found: dict[str, Law] = {}
    for name in laws:
        if isinstance(name, str) and name not in LAWS:
            raise ValueError(_unknown(name, LAWS))
        law = LAWS[name] if isinstance(name, str) else name
        if found.setdefault(law.name, law) is not law:
            raise ValueError(f"two laws are called {law.name!r}")
    if not found:
        raise ValueError("no law is asked for")
    return tuple(found.values())


def reasons(waive: Waivers | None, laws: Iterable[Law]) -> Waivers:
    """The waivers, each with its reason.

    Raises:
      ValueError: for a law that there is not, and for a waiver without a reason.
    """
    known = {*LAWS, *(law.name for law in laws)}
    for name, reason in (waive or {}).items():
        if name not in known:
            raise ValueError(_unknown(name, sorted(known)))
        if not reason.strip():
            raise ValueError(f"a waiver needs a reason: say why {name} may be broken")
    return waive or {}


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"there is no law {name!r}; {nearest(name, known, otherwise='gdfx laws lists them')}"


def judge(law: Law, subject: Subject, *, seed: int, budget: int, waiver: str = "") -> Verdict:
    """Try one law."""
    reason = law.applies(subject)
    if reason is not None:
        return Verdict(law, "not applicable", reason, waiver=waiver)
    failure = _failure(law, subject, seed, budget)
    if failure is None:
        return Verdict(law, "kept", waiver=waiver)
    case, error = failure
    outcome = "waived" if waiver else "broken"
    return Verdict(law, outcome, str(error), reproduction(law, subject, case), waiver)


def retry(law: str | Law, make: Make, case: Any, traits: Traits | None = None) -> None:
    """Try one law on one case: raise `BrokenLawError` unless it holds.

    Raises:
      ValueError: for a law that there is not, or that does not apply.
    """
    (found,), subject = find([law]), Subject(make, traits)
    reason = found.applies(subject)
    if reason is not None:
        raise ValueError(f"{found.name} does not apply: {reason}")
    found.check(subject, case)


def conformance(
    make: Make,
    laws: Iterable[str | Law] | None = None,
    traits: Traits | None = None,
    *,
    waive: Waivers | None = None,
    strict: bool = False,
    seed: int = 0,
    budget: int = BUDGET,
) -> Callable[..., None]:
    """Make a test for pytest, which has one case for each law.

    The arguments are those of `check`. A broken contract fails. A broken courtesy is skipped with
    what was seen, unless ``strict``; a law that is not applicable is skipped with its reason. A
    waived law that is broken is an expected failure; one that is kept gives a warning, that its
    waiver is not needed. ``pytest -rsx`` prints the reasons. Where no law is applicable, all fail.

        test_mine = gdfx.testing.conformance(partial(my.optimizer, 1e-3))

    Some laws are about several devices. They are skipped unless JAX has them; in ``conftest.py``,
    ``jax.config.update("jax_num_cpu_devices", 8)`` makes eight of one.
    """
    import pytest

    subject, asked = Subject(make, traits), find(laws)
    waivers = reasons(waive, asked)

    @pytest.mark.parametrize("law", asked, ids=str)
    def test(law: Law) -> None:
        waiver = waivers.get(law.name, "")
        verdict = judge(law, subject, seed=seed, budget=budget, waiver=waiver)
        if verdict.outcome == "not applicable":
            if all(other.applies(subject) for other in asked):
                pytest.fail(f"no law applies: {law.name}: {verdict.reason}", pytrace=False)
            pytest.skip(verdict.reason)
        if verdict.outcome == "waived":
            pytest.xfail(f"waived: {waiver}: {verdict.reason}")
        if verdict.outcome == "broken" and law.grade == "courtesy" and not strict:
            pytest.skip(f"a courtesy that it lacks: {law.name}: {verdict.reason}")
        if verdict.outcome == "broken":
            text = f"{verdict.reason}\n\n{law.claim} {law.why}\n\n{verdict.code}"
            pytest.fail(text, pytrace=False)
        if waiver:
            warnings.warn(f"the waiver of {law.name} is not needed: it is kept", stacklevel=1)

    return test


def _failure(
    law: Law, subject: Subject, seed: int, budget: int
) -> tuple[Any, BrokenLawError] | None:
    """A case in which a law is broken, and how; of drawn ones, the smallest."""
    seen: list[tuple[Any, BrokenLawError]] = []

    def attempt(case: Any) -> None:
        try:
            law.check(subject, case)
        except BrokenLawError as error:
            seen.append((case, error))
            raise

    draw = hypothesis.settings(
        max_examples=budget,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list[Any](hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    for case in law.cases_for(subject):
        run: Callable[[], None] = functools.partial(attempt, case)
        if isinstance(case, SearchStrategy):
            run = hypothesis.seed(seed)(draw(hypothesis.given(case)(attempt)))  # pyright: ignore
        try:
            run()
        except (BrokenLawError, Flaky):  # flaky: broken at first and kept when tried again
            return seen[-1]
    return None
