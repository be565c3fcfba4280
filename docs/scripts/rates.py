"""Find the learning rates that the lab's problems propose, and write them to gdfx/lab/rates.py.

Each method is swept as `gdfx sweep` does it: over half decades from 1e-4 to 1 on MNIST, over ten
rates a decade from 0.01 to 10 in the valley. Where the best rate is the lowest or the highest that
was tried, a decade is added there, until it is not. Run it with
`python docs/scripts/rates.py PROBLEM [METHOD ...]`, without methods for all of them. In the valley
that takes four minutes, on MNIST three quarters of an hour.
"""

import sys
from dataclasses import replace
from pathlib import Path

from gdfx import METHODS, lab
from gdfx.lab import rates
from gdfx.lab.sweep import HALF_DECADES

FILE = Path(rates.__file__)
DIGITS = {"valley": (1, 1.3, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8), "mnist": (1, 3)}
"""Of the rates in each decade."""


DOCSTRING = '"""Of each method, by the problem\'s name; None: the loss fell at no rate."""'


def decade(problem: str, start: float) -> list[float]:
    """The rates from a power of ten to the next."""
    return [float(f"{digits * start:.2g}") for digits in (*DIGITS[problem], 10)]


GRIDS = {
    "valley": sorted({x for start in (0.01, 0.1, 1) for x in decade("valley", start)}),
    "mnist": list(HALF_DECADES),
}


def swept(method: str, problem: str) -> lab.Sweep:
    """The sweep of one method, with as many decades as it takes."""
    found = lab.sweep(method, problem, rates=GRIDS[problem])
    for _ in range(4):
        best = found.best[method]
        if best is None or best not in (found.rates[0], found.rates[-1]):
            return found
        start = best / 10 if best == found.rates[0] else best
        new = [rate for rate in decade(problem, start) if rate not in found.rates]
        more = lab.sweep(method, problem, rates=new)
        runs = {
            run.entry.rate.value: run
            for one in (found, more)
            for run in one.runs[method]
            if run.entry.rate
        }
        tried = tuple(sorted(runs))
        found = replace(found, rates=tried, runs={method: tuple(runs[rate] for rate in tried)})
    raise SystemExit(f"{method} on {problem}: the best rate is still at the edge: {found.rates}")


def text(tables: dict[str, dict[str, float | None]]) -> str:
    """The module."""
    lines = [
        '"""The best learning rates of sweeps, as docs/scripts/rates.py found and wrote them."""',
        "",
        "SWEPT: dict[str, dict[str, float | None]] = {",
    ]
    for problem, table in tables.items():
        known = [f'        "{name}": {table[name]!r},' for name in METHODS if name in table]
        lines += [f'    "{problem}": {{', *known, "    },"]
    return "\n".join((*lines, "}", DOCSTRING, ""))


if __name__ == "__main__":
    problem, *asked = sys.argv[1:]
    for method in asked or [name for name, method in METHODS.items() if not method.form]:
        found = swept(method, problem)
        print(found, flush=True)
        rates.SWEPT[problem][method] = found.best[method]
        FILE.write_text(text(rates.SWEPT))
