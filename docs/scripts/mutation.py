"""Change gdfx/core and gdfx/methods in small ways, one at a time, and see whether a test notices.

    pip install cosmic-ray
    python docs/scripts/mutation.py

It works on clones of the last commit, takes about an hour on two cores, and writes
docs/mutation.md. What it found is kept in .mutation/: a second call goes on where the first one
was stopped, or, if only tests have changed since, tries the survivors again. The workers take
orders from whoever reaches their ports: run it where nobody else does.
"""
# ruff: noqa: D103

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "mutation.md"
CONFIG = ROOT / "docs" / "scripts" / "mutation.toml"
KEPT = ROOT / ".mutation"
MUTATED = ("gdfx/core", "gdfx/methods")

EQUIVALENT = {
    r"\+ .*strict=False": "The lengths have been compared before; `strict` is a second check.",
    r"\+ .*shape.* (>|<=) \(\)": "No shape is less than (), so `>` is `!=` and `<=` is `==`.",
    r"\+ .*bits (< 31|> 33)": "Floating dtypes have 4, 8, 16, 32 or 64 bits.",
    r"\+ .*value.dtype <= bool": "No other dtype can be cast to bool.",
    r"\+ .*x.dtype <= dtype": "What it is rounded to is never wider than x.",
    r"\+ .*maxexp / 2": "The largest exponent, 128 or 1024, is even.",
    r"\+ .*x - \(g - g\)": "g - g is 0 or NaN: at most the sign of a zero is another.",
    r"\+ .*if b != 0": "b is not negative.",
    r"- @functools.cache": "The cache saves time; the function gives the same each time.",
}
"""Why a survivor computes the same as the code does, by what is found in its diff."""

INTRO = """# Mutation testing

Do the tests notice a mistake? [cosmic-ray](https://cosmic-ray.readthedocs.io) makes one at a
time in `gdfx/core` and `gdfx/methods`: it changes an operator, a number or a comparison, negates a
condition, or drops a decorator or a loop. Of {all} such mutants the fast part of the tests
kills **{killed} ({share:.1f} %)**. {rest}

Not tried are bit operations, which floating point numbers do not have, so that any call would
notice; `|` in type annotations; and `is` for `==`.

```shell
pip install cosmic-ray
python docs/scripts/mutation.py
```

writes this page in about an hour on two cores, in an environment with `pip install -e ".[dev]"`.
`docs/scripts/mutation.toml` says what is changed and which tests run. It is not part of the
continuous integration.

| module | mutants | killed | survived |
|---|--:|--:|--:|
"""


class Mutant(NamedTuple):
    """One change, and whether a test noticed."""

    module: str
    line: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    survived: bool

    @property
    def why(self) -> str | None:
        """The reason why no test can notice, if it is known."""
        return next((EQUIVALENT[x] for x in EQUIVALENT if re.search(x, self.diff)), None)

    @property
    def diff(self) -> str:
        """The lines that go and those that come."""
        lines = [*(f"- {x}" for x in self.before), *(f"+ {x}" for x in self.after)]
        return "\n".join(line for line in lines if line.strip("+- "))


def results_file() -> Path:
    """The file of results for the code as it is committed."""
    subprocess.run(["git", "diff", "--exit-code", "HEAD", *MUTATED], check=True, cwd=ROOT)
    trees = [f"HEAD:{folder}" for folder in MUTATED]
    names = subprocess.check_output(["git", "rev-parse", *trees], cwd=ROOT, text=True)
    KEPT.mkdir(exist_ok=True)
    return KEPT / f"{'-'.join(name[:8] for name in names.split())}.sqlite"


def prepare(file: Path) -> None:
    if not file.exists():
        call("cosmic-ray", "init", CONFIG, file)
    call("cr-filter-operators", file, CONFIG)
    with sqlite3.connect(file) as results:
        results.execute(
            "DELETE FROM work_results WHERE test_outcome IS NOT 'KILLED' "
            "AND worker_outcome IS NOT 'SKIPPED'"
        )


def call(*command: str | Path) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env=environment())


def environment(**more: str) -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": programs} | more


@contextmanager
def workers() -> Iterator[None]:
    """One for each URL of the configuration, in a clone of its own."""
    distributor = tomllib.loads(CONFIG.read_text())["cosmic-ray"]["distributor"]
    places = [urlsplit(url) for url in distributor["http"]["worker-urls"]]
    if any(map(answers, places)):
        raise SystemExit(f"another process listens where {CONFIG} wants the workers")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as clones:
        command = ["cr-http-workers", CONFIG, ROOT]
        process = subprocess.Popen(command, env=environment(TMPDIR=clones), process_group=0)
        try:
            while not all(map(answers, places)):
                time.sleep(0.5)
                if process.poll() is not None:
                    raise SystemExit("the workers did not start")
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def answers(place: SplitResult) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((place.hostname, place.port)) == 0


def mutants(file: Path) -> list[Mutant]:
    found: list[Mutant] = []
    with use_db(str(file), WorkDB.Mode.open) as database:
        for item, result in database.completed_work_items:
            if result.worker_outcome == WorkerOutcome.SKIPPED:
                continue
            if result.worker_outcome != WorkerOutcome.NORMAL:
                raise SystemExit(f"a worker failed; run this again: {result.output}")
            (mutation,) = item.mutations
            lines = [x for x in (result.diff or "").splitlines() if x[:3] not in ("---", "+++")]
            before, after = (
                tuple(x[1:].strip() for x in lines if x[:1] == sign) for sign in ("-", "+")
            )
            survived = result.test_outcome == TestOutcome.SURVIVED
            module, line = str(mutation.module_path), mutation.start_pos[0]
            found.append(Mutant(module, line, before, after, survived))
    return sorted(found)


def page(found: list[Mutant]) -> str:
    survivors = [mutant for mutant in found if mutant.survived]
    killed = len(found) - len(survivors)
    unexplained = [mutant for mutant in survivors if mutant.why is None]
    rest = (
        "No test can notice the others: they compute the same numbers."
        if not unexplained
        else f"Not yet explained of the others: {len(unexplained)}."
    )
    lines = [
        INTRO.format(all=len(found), killed=killed, share=100 * killed / len(found), rest=rest)
    ]
    every, alive = (Counter(m.module for m in ms) for ms in (found, survivors))
    for module, n in every.items():
        lines.append(f"| `{module}` | {n} | {n - alive[module]} | {alive[module]} |\n")
    lines += ["\n## The survivors\n"]
    for module in alive:
        lines += [f"\n### {module}\n"]
        for mutant in (m for m in survivors if m.module == module):
            why = mutant.why or "**Not yet explained.**"
            lines += [f"\n{why}\n\n```diff\n{mutant.diff}\n```\n"]
    return "".join(lines)


def main() -> None:
    file = results_file()
    prepare(file)
    with workers():
        call("cosmic-ray", "baseline", CONFIG)
        call("cosmic-ray", "exec", CONFIG, file)
    PAGE.write_text(page(mutants(file)))


if __name__ == "__main__":
    main()
