"""What README.md and docs/ say is so: their code runs, their tables are what scripts print."""

import re
import runpy
from pathlib import Path

import pytest

import gdfx

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = {"numerics.md": "numerics.py", "conventions.md": "conventions.py"}
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path):
    names = {"__name__": page.stem}
    for block in CODE.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), names)


def test_the_page_on_own_methods_shows_the_example():
    shown = CODE.search((ROOT / "docs" / "custom-method.md").read_text())[1].strip()
    assert (
        f"shows this part.\n{shown}\n\n\n# Up to here.\n"
        in (ROOT / "examples" / "own_method.py").read_text()
    )


@pytest.mark.parametrize("page", TABLES)
def test_tables_are_what_the_script_prints(page: str, capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(ROOT / "docs" / "scripts" / TABLES[page]), run_name="__main__")
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    shown = (ROOT / "docs" / page).read_text().splitlines()
    assert [line for line in printed if line not in shown] == []


def test_readme_names_every_method():
    readme = (ROOT / "README.md").read_text()
    rows = (f"| `{m.name}` | {m.equation} |" for m in gdfx.METHODS.values())
    assert [row for row in rows if row not in readme] == []


def test_readme_repeats_what_the_pages_count():
    readme = " ".join((ROOT / "README.md").read_text().split())
    row = r"\| \[{}\]\(.*\) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| \d+ \|"
    conformance = (ROOT / "docs" / "conformance.md").read_text()
    (ours,), (theirs,) = (re.findall(row.format(name), conformance) for name in ("gdfx", "optax"))
    methods, kept, broken, courtesies, lacking = ours
    assert (methods, broken, lacking) == (str(len(gdfx.METHODS)), "0", "0")
    assert f"keep all {int(kept) + int(courtesies)}, counted" in readme
    optimizers, kept, broken, courtesies, lacking = theirs
    assert (
        f"{optimizers} optimizers keep {kept} of the contract and break {broken}, and of the "
        f"courtesies they have {courtesies} and lack {lacking} (" in readme
    )
    mutation = " ".join((ROOT / "docs" / "mutation.md").read_text().split())
    counts = (
        r"Of (\d+) such mutants the fast part of the tests kills \*\*(\d+) \(.* %\)\*\*\. No test"
    )
    ((mutants, killed),) = re.findall(counts, mutation)
    rest = int(mutants) - int(killed)
    assert (
        f"of {mutants} small ones, made one at a time, they noticed {killed}; the other {rest} "
        in readme
    )
