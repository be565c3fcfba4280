"""Find the learning rates that the lab's problems propose, and write them to gdfx/lab/rates.py.

Each method is swept as `gdfx sweep` does it: over half decades from 1e-4 to 1 where seeds differ,
over ten rates a decade from 0.01 to 10 on functions, where they do not. Where the best rate is the
lowest or the highest that was tried, or there is none, decades are added there. Run it with
`python docs/scripts/rates.py PROBLEM [METHOD ...]`, without methods for all that the problem has
matrices for. On a function that takes two minutes, on MNIST three quarters of an hour.
"""

import sys
from dataclasses import replace
from pathlib import Path

from gdfx import METHODS, lab
from gdfx.lab import rates
from gdfx.lab.sweep import HALF_DECADES

FILE = Path(rates.__file__)
DOCSTRING = '"""Of each method, by the problem\'s name; None: the loss fell at no rate."""'


def decade(problem: lab.Problem, start: float) -> list[float]:
    """The rates from a power of ten to the next."""
    digits = (1, 3) if problem.seeded else (1, 1.3, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8)
    return [float(f"{x * start:.2g}") for x in (*digits, 10)]


def grid(problem: lab.Problem) -> list[float]:
    """The rates that are tried at first."""
    if problem.seeded:
        return list(HALF_DECADES)
    return sorted({x for start in (0.01, 0.1, 1) for x in decade(problem, start)})


def swept(method: str, problem: lab.Problem) -> lab.Sweep:
    """The sweep of one method, with as many decades as it takes."""
    found = lab.sweep(method, problem, rates=grid(problem))
    for _ in range(4):
        best, tried = found.best[method], found.values("learning_rate")
        if best is not None and best not in (tried[0], tried[-1]):
            return found
        start = tried[0] / 10 if best in (None, tried[0]) else best
        new = [rate for rate in decade(problem, start) if rate not in tried]
        more = lab.sweep(method, problem, rates=new)
        pairs = [
            pair
            for sweep in (found, more)
            for pair in zip(sweep.trials, sweep.runs[method], strict=True)
        ]
        pairs.sort(key=lambda pair: pair[0]["learning_rate"])
        trials, runs = zip(*pairs, strict=True)
        found = replace(found, trials=trials, runs={method: runs})
    if best is None:
        return found
    raise SystemExit(f"{method} on {problem.name}: the best rate is still at the edge: {tried}")


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
    name, *asked = sys.argv[1:]
    problem = lab.PROBLEMS[name]
    fit = [
        name
        for name, method in METHODS.items()
        if not method.form and (method.reach != "matrix" or problem.matrices is not None)
    ]
    for method in asked or fit:
        found = swept(method, problem)
        print(found, flush=True)
        rates.SWEPT.setdefault(name, {})[method] = found.best[method]
        FILE.write_text(text(rates.SWEPT))
