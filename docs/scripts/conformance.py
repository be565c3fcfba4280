"""Write docs/conformance.md: the methods of gdfx and optax against every law.

Run it with `python docs/scripts/conformance.py`; it takes some minutes. Names of optimizers after
it, as in `gdfx.adam optax.adam`, restrict it to these, and print the page.
"""
# ruff: noqa: D103

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 8)

import optax  # noqa: E402
import optax.contrib  # noqa: E402
from rich.console import Console  # noqa: E402

import gdfx  # noqa: E402
import gdfx.testing as kit  # noqa: E402
from gdfx.testing.law import GRADES  # noqa: E402
from gdfx.testing.traits import CONTRIB, OPTAX  # noqa: E402

PAGE = Path(__file__).parent.parent / "conformance.md"

INTRO = """# Conformance

A *law* is a statement that holds for a well-behaved optimizer. This page tries the {laws} laws of
`gdfx.testing` on every optimizer of optax {optax} that is not deprecated, on {contrib} of
`optax.contrib`, and on gdfx's methods of the same names as optax's own, with their textbook forms.
All other methods of gdfx are held to the same laws by its tests. Laws have two grades:

- **contract** ({contract} laws): what optax documents, tests or relies on, so that optimizers can
  be composed: in `jit`, `scan` and `cond`, in `chain`, `masked` and `MultiSteps`, from a
  checkpoint, with arguments that are meant for others. It also holds an optimizer to its *traits*,
  which are what is claimed of it, such as that the opposite gradient gives the opposite update. Of
  optax's optimizers, the traits say no more than their formulas do.
- **courtesy** ({courtesy} laws): what gdfx adds. Arguments and trees that make no sense are
  refused, states stay sharded, sums are kept in float32, low precision and derivatives are right.
  That optax's optimizers lack some is no fault of theirs: optax widens no accumulator unasked, for
  instance, and leaves it to the caller to check arguments.

| | optimizers | contract kept | broken | courtesies kept | lacking | not applicable |
|---|--:|--:|--:|--:|--:|--:|
{totals}

- ✓ the law held in all cases that were tried. These are a few dozen, so ✓ is no proof.
- **✗** the contract is broken; – a courtesy is lacking. A counterexample was found, and is below.
- · the law does not apply: the method does not have what the law is about, or no trait says.

All arguments but the learning rate, 0.1, are at their defaults. Optimizers that ask for a loss are
given 1 at the parameters and a straight line from there, which is hard on the line search of
`lbfgs`. `optax.contrib.sophia` and `dpsgd`, which ask for more than gradients, are left out.

Check an optimizer of your own (in a checkout, `pip install ".[lab,testing]"`):

```python
from functools import partial
import gdfx.testing, optax

print(gdfx.testing.check(partial(optax.sgd, learning_rate=0.1)))
```

The traits of gdfx's and optax's methods are known. Declare those of another optimizer, and the
laws on sign, order, scale and the like are tried, too:

```python
# Continues the block above.
traits = gdfx.testing.Traits(elementwise=True, odd=True, descends=True)
print(gdfx.testing.check(lambda: optax.sgd(0.1), laws=["sign", "permutation"], traits=traits))
```

The page is written by `python docs/scripts/conformance.py` (jax {jax}).
"""


def totals(group: str, reports: list[kit.Report]) -> str:
    counts = [len(reports)]
    for grade in GRADES:
        parts = [report.of(grade) for report in reports]
        counts += [sum(len(x.kept) for x in parts), sum(len(x.broken) for x in parts)]
    counts.append(sum(len(report.not_applicable) for report in reports))
    return f"| [{group}](#{group.replace('.', '')}) | {' | '.join(map(str, counts))} |"


def table(group: str, reports: list[kit.Report], laws: Sequence[kit.Law]) -> list[str]:
    names = [report.name.removeprefix(f"{group}.") for report in reports]
    lines = [f"| law | {' | '.join(names)} |", f"|---|{':-:|' * len(names)}"]
    for grade in GRADES:
        parts = [report.of(grade) for report in reports]
        for outcome in ("kept", "broken", "not_applicable"):
            counts = (str(len(getattr(part, outcome))) for part in parts)
            lines.append(f"| *{grade}: {outcome.replace('_', ' ')}* | {' | '.join(counts)} |")
        for law in laws:
            if law.grade == grade:
                marks = (mark(report[law.name]) for report in reports)
                lines.append(f"| [{law.name}](#{law.name}) | {' | '.join(marks)} |")
    return lines


def mark(verdict: kit.Verdict) -> str:
    return verdict.mark.replace("✗", "**✗**")


def about(law: kit.Law, reports: list[kit.Report]) -> list[str]:
    lines = [f"### {law.name}", "", f"*{law.grade}.* {law.claim} {law.why}", ""]
    broken = [(report.name, report[law.name]) for report in reports]
    broken = [f"- `{name}`: {v.reason}" for name, v in broken if v.outcome == "broken"]
    return [*lines, *broken, ""]


def has_namesake(method: gdfx.catalog.Method) -> bool:
    """Whether optax itself has the method, outside `optax.contrib`, or it is a textbook form."""
    own = method.dialect == "textbook" or hasattr(optax, method.name)
    return own or ((method.matches or "").startswith("optax.") and "contrib" not in method.matches)


def factories() -> list[tuple[str, dict[str, Callable[..., Any]]]]:
    return [
        ("gdfx", {name: m.maker for name, m in gdfx.METHODS.items() if has_namesake(m)}),
        ("optax", {name: getattr(optax, name) for name in sorted(OPTAX)}),
        ("optax.contrib", {name: getattr(optax.contrib, name) for name in sorted(CONTRIB)}),
    ]


def report(name: str, factory: Callable[..., Any]) -> kit.Report:
    takes_rate = "learning_rate" in inspect.signature(factory).parameters
    rate = {"learning_rate": 0.1} if takes_rate else {}
    asks = next((m.asks for m in gdfx.METHODS.values() if m.factory is factory), {})
    found = replace(kit.check(partial(factory, **rate, **asks)), name=name)
    jax.clear_caches()
    return found


def main(*wanted: str) -> None:
    console = Console(stderr=True)
    groups: dict[str, list[kit.Report]] = {}
    for group, members in factories():
        groups[group] = []
        for name, factory in members.items():
            if wanted and f"{group}.{name}" not in wanted:
                continue
            groups[group].append(report(f"{group}.{name}", factory))
            console.print(f"{group}.{name}: {groups[group][-1].totals}")
    laws = tuple(kit.LAWS.values())
    page = [
        INTRO.format(
            contrib=len(groups["optax.contrib"]),
            optax=optax.__version__,
            jax=jax.__version__,
            laws=len(laws),
            **{grade: sum(law.grade == grade for law in laws) for grade in GRADES},
            totals="\n".join(totals(*group) for group in groups.items()),
        )
    ]
    for group, reports in groups.items():
        page += [f"## {group}", "", *table(group, reports, laws), ""]
    page += ["## The laws, and where they are broken", ""]
    reports = [report for group in groups.values() for report in group]
    for law in laws:
        page += about(law, reports)
    text = "\n".join(page).rstrip() + "\n"
    if wanted:
        print(text)
    else:
        PAGE.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
