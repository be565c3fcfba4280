"""Write docs/conformance.md: the methods of gdfx and optax against every law.

Run it with `python docs/scripts/conformance.py`; it takes some minutes.
"""
# ruff: noqa: D103

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 8)

import optax  # noqa: E402
from rich.console import Console  # noqa: E402

import gdfx  # noqa: E402
import gdfx.testing as kit  # noqa: E402
from gdfx.testing.traits import OPTAX  # noqa: E402

PAGE = Path(__file__).parent.parent / "conformance.md"
MARKS = {"kept": "✓", "broken": "**✗**", "not applicable": "·"}
BUDGET = 10

INTRO = """# Conformance

Every method of gdfx, and {count} optimizers of optax {optax}, against the {laws} laws of
`gdfx.testing`. {ours} {theirs}

✓ the law held in all cases that were tried; ✗ a counterexample was found, and is below;
· the law says nothing about this optimizer: the method does not have what the law speaks of, or
nothing is declared about it. A law is tried on a few dozen cases, so ✓ is no proof. All
arguments but the learning rate, 0.1, are at their defaults. Not every law is one that optax
sets out to keep: it widens no accumulator unasked, for instance, and leaves the checking of
arguments to its caller. Of optax, `noisy_sgd`, which is random, and `lbfgs` and
`polyak_sgd`, which ask for the loss, are left out.

Check an optimizer of your own:

```python
from functools import partial
import gdfx.testing, optax

print(gdfx.testing.check(partial(optax.adam, learning_rate=1e-3)))
```

The page is written by `python docs/scripts/conformance.py` (jax {jax}).
"""


def totals(reports: list[kit.Report], whose: str) -> str:
    kept, broken, silent = (
        sum(len(getattr(report, outcome)) for report in reports)
        for outcome in ("kept", "broken", "not_applicable")
    )
    return f"{whose} keep {kept} times a law and break {broken}; {silent} do not apply."


def table(reports: list[kit.Report], laws: list[kit.Law]) -> list[str]:
    names = [report.name.partition(".")[2] for report in reports]
    lines = [f"| law | {' | '.join(names)} |", f"|---|{':-:|' * len(names)}"]
    for outcome in ("kept", "broken", "not applicable"):
        counts = (sum(v.outcome == outcome for v in report.verdicts) for report in reports)
        lines.append(f"| *{outcome}* | {' | '.join(map(str, counts))} |")
    for law in laws:
        marks = (MARKS[report[law.name].outcome] for report in reports)
        lines.append(f"| [{law.name}](#{law.name}) | {' | '.join(marks)} |")
    return lines


def about(law: kit.Law, reports: list[kit.Report]) -> list[str]:
    lines = [f"### {law.name}", "", f"{law.claim} {law.why}", ""]
    broken = [(report.name, report[law.name]) for report in reports]
    broken = [f"- `{name}`: {v.words}" for name, v in broken if v.outcome == "broken"]
    return [*lines, *broken, ""]


def main() -> None:
    console = Console(stderr=True)
    entries: list[tuple[str, Any, kit.Traits | None]] = [
        *((f"gdfx.{name}", method.factory, None) for name, method in gdfx.METHODS.items()),
        *((f"optax.{name}", getattr(optax, name), OPTAX[name]) for name in sorted(OPTAX)),
    ]
    reports: list[kit.Report] = []
    for name, factory, traits in entries:
        make = partial(factory, learning_rate=0.1)
        reports.append(replace(kit.check(make, traits=traits, budget=BUDGET), name=name))
        jax.clear_caches()
        console.print(f"{reports[-1].name}: {reports[-1].totals}")
    ours, theirs = reports[: len(gdfx.METHODS)], reports[len(gdfx.METHODS) :]
    laws = [verdict.law for verdict in reports[0].verdicts]
    page = [
        INTRO.format(
            count=len(theirs),
            optax=optax.__version__,
            jax=jax.__version__,
            laws=len(laws),
            ours=totals(ours, f"The {len(ours)} methods of gdfx"),
            theirs=totals(theirs, "Those of optax"),
        ),
        "## gdfx",
        "",
        *table(ours, laws),
        "",
        "## optax",
        "",
        *table(theirs, laws),
        "",
        "## The laws, and where they are broken",
        "",
    ]
    for law in laws:
        page += about(law, reports)
    PAGE.write_text("\n".join(page).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main())
