"""What the laws say of an optimizer, in words, as a table and for JSON."""

import html
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from gdfx.core.words import listed
from gdfx.testing.law import GRADES, Grade, Law
from gdfx.testing.needs import ONE_DEVICE

if TYPE_CHECKING:
    from rich.table import Table

Outcome = Literal["kept", "broken", "waived", "not applicable"]


@dataclass(frozen=True)
class Verdict:
    """What one law says of one optimizer."""

    law: Law
    outcome: Outcome
    """``waived``: broken, but there is a reason why that is no fault."""

    reason: str = ""
    """Why it is not applicable; of a broken law, the smallest counterexample."""

    code: str = ""
    """Of a broken law: Python code that reproduces it."""

    waiver: str = ""
    """The reason that was given for waiving it, be it broken or not."""

    @property
    def mark(self) -> str:
        """One sign for it, as in tables; ✗ breaks the contract, – lacks a courtesy."""
        broken = "✗" if self.law.grade == "contract" else "–"
        return {"kept": "✓", "broken": broken, "waived": "w", "not applicable": "·"}[self.outcome]

    def __str__(self) -> str:
        return f"{self.law.name}: {self.outcome}" + f": {self.reason}" * bool(self.reason)


MARKS = "✓ kept  ✗ contract broken  – courtesy lacking  w waived  · not applicable"


@dataclass(frozen=True)
class Report:
    """What the laws say of one optimizer."""

    name: str
    verdicts: tuple[Verdict, ...]

    ready_made: bool = False
    """Whether it is made by a function without arguments, so that laws could change none."""

    def _of(self, outcome: Outcome) -> tuple[Verdict, ...]:
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
    def waived(self) -> tuple[Verdict, ...]:
        """The laws that do not hold, but are waived with a reason."""
        return self._of("waived")

    @property
    def not_applicable(self) -> tuple[Verdict, ...]:
        """The laws that were not tried."""
        return self._of("not applicable")

    def __getitem__(self, law: str) -> Verdict:
        """The verdict of the law of that name."""
        return {verdict.law.name: verdict for verdict in self.verdicts}[law]

    def of(self, grade: Grade) -> "Report":
        """The part on the laws of one grade, ``contract`` or ``courtesy``."""
        found = (verdict for verdict in self.verdicts if verdict.law.grade == grade)
        return replace(self, verdicts=tuple(found))

    def failed(self, *, strict: bool = False) -> tuple[Verdict, ...]:
        """What counts against it: a broken contract; if strict, a broken courtesy too."""
        return self.broken if strict else self.of("contract").broken

    @property
    def totals(self) -> str:
        """How many of each, on one line."""
        parts = (
            f"{grade} {len(part.kept)} kept, {len(part.broken)} broken"
            for grade in GRADES
            for part in [self.of(grade)]
        )
        waived = f"; {len(self.waived)} waived" * bool(self.waived)
        return f"{'; '.join(parts)}{waived}; {len(self.not_applicable)} not applicable"

    @property
    def conclusion(self) -> str:
        """The verdict on all of it, in one sentence."""
        contract, courtesy = (self.of(grade) for grade in GRADES)
        clauses: list[str] = []
        if contract.broken:
            clauses.append(f"breaks the contract ({len(contract.broken)} of {contract._tried})")
        elif contract.is_applicable:
            clauses.append(f"keeps the contract ({contract._tried})")
        if courtesy.broken:
            clauses.append(f"lacks courtesies ({len(courtesy.broken)} of {courtesy._tried})")
        elif courtesy.is_applicable:
            clauses.append(f"has every courtesy ({courtesy._tried})")
        if not clauses:
            return f"{self.name}: no law applies, so nothing was judged"
        return f"{self.name} {' and '.join(clauses)}"

    @property
    def is_applicable(self) -> bool:
        """Whether any law was tried; where none was, nothing has been shown."""
        return len(self.not_applicable) < len(self.verdicts)

    @property
    def _tried(self) -> str:
        n = len(self.verdicts) - len(self.not_applicable)
        waived = f", {len(self.waived)} waived" * bool(self.waived)
        return f"{n} law{'s' * (n != 1)}{waived}"

    def text(self, *, strict: bool = False) -> str:
        """Everything worth saying; the verdict last.

        Args:
          strict: whether a broken courtesy is told at length, as a broken contract is.
        """
        blocks = [self.overview(strict=strict), *self.faults(strict=strict)]
        return "\n\n".join(blocks) + ("\n" if len(blocks) == 1 else "\n\n") + self.conclusion

    def overview(
        self,
        *,
        strict: bool = False,
        width: int | None = None,
        hint: str = "report.table() says why",
    ) -> str:
        """How many of each, and a line for what is lacking or waived.

        Args:
          strict: as in `text`: what is told at length elsewhere is left out here.
          width: where a line on a law is cut off; by default nowhere.
          hint: what to say beside the number of laws that are not applicable.
        """

        def entry(verdict: Verdict, seen: str) -> str:
            line = f"  {verdict.law.name}: {seen}"
            return line if width is None or len(line) <= width else f"{line[: width - 1]}…"

        lines = [self.name]
        failed = self.failed(strict=strict)
        for grade in GRADES:
            part = self.of(grade)
            lines.append(f"{grade}: {len(part.kept)} kept, {len(part.broken)} broken")
            lines += [entry(v, v.reason) for v in part.broken if v not in failed]
            lines += [entry(v, f"waived: {v.waiver}") for v in part.waived]
            lines += [entry(v, "kept; its waiver is not needed") for v in part.kept if v.waiver]
        n = len(self.not_applicable)
        lines.append(f"not applicable: {n}" + f" ({hint})" * bool(n))
        notes = (_folded(note, width or 80) for note in self._notes())
        return "\n".join([*lines, *notes])

    def faults(self, *, strict: bool = False) -> list[str]:
        """Of each law that counts against it: the claim, what was seen, code that shows it."""
        return [
            f"{v.mark} {v.law.name}\n  {v.law.claim}\n  Seen: {v.reason}\n\n{v.code}"
            for v in self.failed(strict=strict)
        ]

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """The same, for a notebook."""
        return f"<pre>{html.escape(self.text())}</pre>"

    def _notes(self) -> list[str]:
        """What would make more laws applicable."""
        notes: list[str] = []
        alone = [v.law.name for v in self.not_applicable if v.reason == ONE_DEVICE]
        if alone:
            notes.append(f"{listed(alone)}: {ONE_DEVICE}")
        if self.ready_made:
            notes.append(
                "made by a function without arguments: laws on hyperparameters do not apply, and "
                "its traits are not looked up; functools.partial(factory, ...) gives both"
            )
        return notes

    def table(self) -> "Table":
        """One row a law, for `rich`."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        styles = {"✓": "green", "✗": "bold red", "–": "yellow", "w": "yellow", "·": "dim"}
        for grade in GRADES:
            verdicts = self.of(grade).verdicts
            if verdicts:
                table.add_row("", Text(grade, "bold"), "")
            for verdict in verdicts:
                mark = Text(verdict.mark, styles[verdict.mark])
                seen = [verdict.reason] * bool(verdict.reason)
                if verdict.waiver:
                    needless = verdict.outcome == "kept"
                    seen.append(f"(waived{' needlessly' * needless}: {verdict.waiver})")
                table.add_row(mark, verdict.law.name, Text(" ".join(seen)))
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
                    "reason": verdict.reason,
                    "waiver": verdict.waiver,
                    "code": verdict.code,
                }
                for verdict in self.verdicts
            ],
        }

    def _counts(self) -> dict[str, int]:
        return {
            "kept": len(self.kept),
            "broken": len(self.broken),
            "waived": len(self.waived),
            "not_applicable": len(self.not_applicable),
        }


def _folded(note: str, width: int) -> str:
    """A note on lines of this width, indented; no name of a law is broken."""
    indent = "  "
    return textwrap.fill(
        note, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
