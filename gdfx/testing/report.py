"""Try laws on an optimizer and report what was seen."""

import ast
import difflib
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from gdfx.testing.draw import code
from gdfx.testing.law import GRADES, KINDS, LAWS, BrokenLawError, Grade, Law, several_devices
from gdfx.testing.subject import Make, Subject
from gdfx.testing.traits import Traits

if TYPE_CHECKING:
    from rich.table import Table

BUDGET = 25


@dataclass(frozen=True)
class Verdict:
    """What one law says of one optimizer."""

    law: Law
    outcome: Literal["kept", "broken", "not applicable"]

    words: str = ""
    """The reason why it is not applicable; of a broken law, the smallest counterexample."""

    code: str = ""
    """Of a broken law: Python code that reproduces it."""

    def __str__(self) -> str:
        return f"{self.law.name}: {self.outcome}" + f": {self.words}" * bool(self.words)


@dataclass(frozen=True)
class Report:
    """What the laws say of one optimizer."""

    name: str
    verdicts: tuple[Verdict, ...]

    def _of(self, outcome: str) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == outcome)

    @property
    def kept(self) -> tuple[Verdict, ...]:
        """The laws that hold."""
        return self._of("kept")

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The laws that do not."""
        return self._of("broken")

    @property
    def not_applicable(self) -> tuple[Verdict, ...]:
        """The laws that were not tried."""
        return self._of("not applicable")

    def __getitem__(self, law: str) -> Verdict:
        """The verdict of the law of that name."""
        return {verdict.law.name: verdict for verdict in self.verdicts}[law]

    def _counts(self) -> dict[str, int]:
        return {
            "kept": len(self.kept),
            "broken": len(self.broken),
            "not_applicable": len(self.not_applicable),
        }

    def of(self, grade: Grade) -> "Report":
        """The part on the laws of one grade, ``contract`` or ``courtesy``."""
        found = (verdict for verdict in self.verdicts if verdict.law.grade == grade)
        return replace(self, verdicts=tuple(found))

    @property
    def totals(self) -> str:
        """How many of each, in words."""
        parts = (
            f"{grade} {len(part.kept)} kept, {len(part.broken)} broken"
            for grade in GRADES
            for part in [self.of(grade)]
        )
        return f"{'; '.join(parts)}; {len(self.not_applicable)} not applicable"

    def __str__(self) -> str:
        """The totals; of a broken contract the claim, what was seen and the code that shows it.

        Broken courtesies are listed, one a line.
        """
        blocks = [f"{self.name}: {self.totals}"]
        for verdict in self.of("contract").broken:
            blocks.append(f"{verdict}\n{verdict.law.claim}\n\n{verdict.code}")
        courtesies = self.of("courtesy").broken
        if courtesies:
            lines = (f"  {verdict.law.name}: {verdict.words}" for verdict in courtesies)
            blocks.append("\n".join(["courtesies that it lacks:", *lines]))
        return "\n\n".join(blocks)

    def summary(self, width: int = 80) -> str:
        """The totals, and each broken law on one line of this width; without claims and code."""
        lines = [self.name]
        for grade in GRADES:
            part = self.of(grade)
            lines.append(f"{grade}: {len(part.kept)} kept, {len(part.broken)} broken")
            for verdict in part.broken:
                line = f"  {verdict.law.name}: {verdict.words}"
                lines.append(line if len(line) <= width else f"{line[: width - 1]}…")
        return "\n".join([*lines, f"not applicable: {len(self.not_applicable)}"])

    def table(self) -> "Table":
        """One row a law, for `rich`."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"{self.name}: {self.totals}")
        for column in ("law", "grade", "", "what was seen"):
            table.add_column(column, overflow="fold")
        styles = {"kept": "green", "broken": "bold red", "not applicable": "dim"}
        for verdict in self.verdicts:
            style = styles[verdict.outcome]
            outcome = f"[{style}]{verdict.outcome}[/]"
            table.add_row(verdict.law.name, verdict.law.grade, outcome, escape(verdict.words))
        return table

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "optimizer": self.name,
            **self._counts(),
            **{grade: self.of(grade)._counts() for grade in GRADES},
            "laws": [
                {
                    "law": verdict.law.name,
                    "kind": verdict.law.kind,
                    "grade": verdict.law.grade,
                    "claim": verdict.law.claim,
                    "outcome": verdict.outcome,
                    "words": verdict.words,
                    "code": verdict.code,
                }
                for verdict in self.verdicts
            ],
        }


def check(
    make: Make,
    laws: Iterable[str | Law] | None = None,
    traits: Traits | None = None,
    *,
    seed: int = 0,
    budget: int = BUDGET,
    progress: Callable[[Law], None] | None = None,
) -> Report:
    """Try laws on an optimizer.

    Args:
      make: makes the optimizer: a function without arguments, or ``functools.partial`` of a
        factory, as in ``partial(optax.adam, learning_rate=1e-3)``. Laws about
        hyperparameters need the second form, for they change them.
      laws: names from `LAWS`; by default all.
      traits: what is declared of the optimizer. Laws that need a trait of which nothing is said
        are not applicable. By default what is known of gdfx's own methods and of optax's.
      seed: the same seed tries the same cases.
      budget: how many cases each law is tried on, where they are drawn.
      progress: called with each law before it is tried.

    Returns:
      A `Report`.

    Raises:
      TypeError: where no optax transformation comes out; and whatever ``make`` raises.
      ValueError: for a law that there is not.

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
    verdicts: list[Verdict] = []
    for law in find(laws):
        if progress is not None:
            progress(law)
        verdicts.append(judge(law, subject, seed=seed, budget=budget))
    return Report(name_of(make), tuple(verdicts))


def find(laws: Iterable[str | Law] | None) -> Sequence[Law]:
    """Laws by their names; None: all, the contract first."""
    if laws is None:
        return sorted(
            LAWS.values(), key=lambda law: (GRADES.index(law.grade), KINDS.index(law.kind))
        )
    laws = tuple(laws)
    unknown = next((law for law in laws if isinstance(law, str) and law not in LAWS), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, LAWS)
        known = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(LAWS)}"
        raise ValueError(f"there is no law {unknown!r}; {known}")
    return tuple(LAWS[law] if isinstance(law, str) else law for law in laws)


def judge(law: Law, subject: Subject, *, seed: int, budget: int) -> Verdict:
    """Try one law."""
    reason = law.applies(subject)
    if reason is not None:
        return Verdict(law, "not applicable", reason)
    failure = _failure(law, subject, seed, budget)
    if failure is None:
        return Verdict(law, "kept")
    case, error = failure
    return Verdict(law, "broken", str(error), _reproduction(law, subject, case))


def retry(law: str, make: Make, case: Any, traits: Traits | None = None) -> None:
    """Try one law on one case: raise `BrokenLawError` unless it holds.

    Raises:
      ValueError: for a law that there is not, or that does not apply.
    """
    (found,), subject = find([law]), Subject(make, traits)
    reason = found.applies(subject)
    if reason is not None:
        raise ValueError(f"{law} does not apply: {reason}")
    found.check(subject, case)


def conformance(
    make: Make,
    laws: Iterable[str | Law] | None = None,
    traits: Traits | None = None,
    *,
    strict: bool = False,
    seed: int = 0,
    budget: int = BUDGET,
) -> Callable[..., None]:
    """Make a test for pytest, which has one case for each law.

    The arguments are those of `check`. A broken contract fails. A broken courtesy is skipped with
    what was seen, unless ``strict``; and a law that is not applicable is skipped with its reason.
    ``pytest -rs`` prints the reasons.

        test_mine = gdfx.testing.conformance(lambda: my.optimizer(1e-3))
    """
    import pytest

    subject = Subject(make, traits)

    @pytest.mark.parametrize("law", find(laws), ids=str)
    def test(law: Law) -> None:
        verdict = judge(law, subject, seed=seed, budget=budget)
        if verdict.outcome == "not applicable":
            pytest.skip(verdict.words)
        if verdict.outcome == "broken" and law.grade == "courtesy" and not strict:
            pytest.skip(f"a courtesy that it lacks: {law.name}: {verdict.words}")
        if verdict.outcome == "broken":
            words = f"{verdict.words}\n\n{law.claim} {law.why}\n\n{verdict.code}"
            pytest.fail(words, pytrace=False)

    return test


def _failure(
    law: Law, subject: Subject, seed: int, budget: int
) -> tuple[Any, BrokenLawError] | None:
    """The smallest case in which a law is broken, and how."""
    seen: list[tuple[Any, BrokenLawError]] = []

    def attempt(case: Any) -> None:
        try:
            law.check(subject, case)
        except BrokenLawError as error:
            seen.append((case, error))
            raise

    cases = law.cases_for(subject)
    if isinstance(cases, SearchStrategy):
        attempt = hypothesis.seed(seed)(
            hypothesis.settings(
                max_examples=budget,
                database=None,
                deadline=None,
                derandomize=False,
                report_multiple_bugs=False,
                phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
                suppress_health_check=list[Any](hypothesis.HealthCheck),
                verbosity=hypothesis.Verbosity.quiet,
            )(hypothesis.given(cases)(attempt))
        )
        runs: Iterable[Callable[[], None]] = [attempt]  # pyright: ignore
    else:
        runs = [functools.partial(attempt, case) for case in cases]
    for run in runs:
        try:
            run()
        except (BrokenLawError, Flaky):  # flaky: broken at first and kept when tried again
            return seen[-1]
    return None


def _reproduction(law: Law, subject: Subject, case: Any) -> str:
    make, modules = "make", set[str]()
    path = public_path(subject.factory)
    if not all(map(_is_literal, subject.arguments.values())):
        path = None  # a function among them, say
    if path is not None:
        arguments = "".join(f", {name}={x!r}" for name, x in subject.arguments.items())
        make, modules = f"partial({path}{arguments})", {path.rpartition(".")[0]}
    declared, traits = subject.declared, ""
    if declared is not None:
        traits = ", traits" if declared.reference else f", {declared!r}"
    several = several_devices in law.needs
    lines = [
        *["from functools import partial"] * (path is not None),
        "",
        *["import jax"] * several,
        *(f"import {module}" for module in sorted(modules | {"numpy as np"})),
        f"from gdfx.testing import Run, {'Traits, ' * ('Traits(' in traits)}retry",
        "",
        *['jax.config.update("jax_num_cpu_devices", 8)  # before anything runs'] * several,
        *["# make: what makes the optimizer"] * (path is None),
        *["# traits: what was declared of it"] * (traits == ", traits"),
        f"retry({law.name!r}, {make}, {code(case)}{traits})",
    ]
    return "\n".join(lines).strip()


def _is_literal(x: Any) -> bool:
    try:
        ast.literal_eval(repr(x))
    except (ValueError, SyntaxError):
        return False
    return True


def name_of(make: Make) -> str:
    """How a report calls an optimizer."""
    factory = make.func if isinstance(make, functools.partial) else make
    return public_path(factory) or getattr(factory, "__qualname__", repr(factory))


def public_path(factory: Any) -> str | None:
    """The shortest path under which a module offers a factory, as in ``optax.adam``."""
    parts = getattr(factory, "__module__", "").split(".")
    name = getattr(factory, "__name__", "")
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if module in sys.modules and getattr(sys.modules[module], name, None) is factory:
            return f"{module}.{name}"
    return None
