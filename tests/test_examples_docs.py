"""What README.md and docs/ say is so: code runs, commands exist, links lead somewhere."""

import ast
import functools
import importlib.util
import inspect
import pydoc
import re
import runpy
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import gdfx

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted(DOCS.rglob("*.md"))
TABLES = {"numerics.md": "numerics.py", "conventions.md": "conventions.py"}
CONTINUES = "# Continues the block above.\n"
OPTIONAL = {"equinox", "flax", "haiku", "orbax"}  # what recipes may import besides


class Block(NamedTuple):
    """A block of code on a page."""

    page: Path
    line: int
    code: str


def blocks(page, language):
    """The blocks of a page, by the line where each begins."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text[: match.start()].count("\n") + 2, match[1]) for match in found]


def programs(page):
    """The Python blocks of a page, those that continue others behind these."""
    found = []
    for block in blocks(page, "python"):
        if block.code.startswith(CONTINUES):
            found[-1].append(block)
        else:
            found.append([block])
    return found


def named(program):
    return f"{program[0].page.relative_to(ROOT)}:{program[0].line}"


def imported(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def announced(code):
    """What each ``print(...)`` is said to print, in a comment behind it."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("program", [p for page in PAGES for p in programs(page)], ids=named)
def test_python_blocks_run(program, capsys, monkeypatch, tmp_path):
    """Each block alone, or behind those that it says it continues."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": program[0].page.stem}
    for block in program:
        for package in OPTIONAL & set(imported(block.code)):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        # As many empty lines before it as it has before it on the page.
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, str(block.page), "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        if announced(block.code):
            assert printed == announced(block.code), f"{block.page}:{block.line}"


COMMANDS = [
    (block, line)
    for page in PAGES
    for block in blocks(page, "shell")
    for line in block.code.splitlines()
]


@pytest.mark.parametrize(
    ("block", "line"), [c for c in COMMANDS if "gdfx" in shlex.split(c[1], comments=True)]
)
def test_commands_exist(block, line):
    """Each of them is parsed, options and all, but not run."""
    app = pytest.importorskip("gdfx.cli.app").app
    typer = pytest.importorskip("typer")
    group = typer.main.get_command(app)
    words = shlex.split(line, comments=True)
    name, *arguments = words[words.index("gdfx") + 1 :]
    group.commands[name].make_context(name, arguments)


def test_what_pip_installs_is_in_the_checkout_or_on_the_index():
    """gdfx itself is on no index: only paths are right."""
    lines = [
        (page.name, line)
        for page in PAGES
        for line in page.read_text().splitlines()
        if re.search(r"pip install.*\bgdfx\[", line) or re.search(r"pip install [\"']?gdfx", line)
    ]
    assert lines == []


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """On a code host as on the site: every file is there, and every heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@functools.cache
def reference():
    """The script that writes pages from the catalog and the docstrings."""
    return runpy.run_path(str(DOCS / "scripts" / "reference.py"))


def test_written_pages_are_what_the_catalog_and_the_docstrings_say():
    made = reference()["pages"]()
    stale = [path for path, text in made.items() if (ROOT / path).read_text() != text]
    assert stale == [], "run python docs/scripts/reference.py"
    there = {str(path.relative_to(ROOT)) for path in (DOCS / "methods").iterdir()}
    assert there == {path for path in made if path.startswith("docs/methods/")}


@pytest.mark.parametrize("method", gdfx.METHODS.values(), ids=lambda method: method.name)
def test_docstrings_have_what_the_pages_show(method):
    doc = reference()["parse"](method.factory)
    assert doc.arguments().keys() == inspect.signature(method.factory).parameters.keys()
    assert "See also" in doc.sections
    assert method.form or "Purpose" in doc.sections
    if method.direction is not None:
        said = reference()["parse"](method.direction).arguments()
        apart = {k for k, text in doc.arguments().items() if text.startswith("as in")}
        ours = {k: text for k, text in doc.arguments().items() if k in said.keys() - apart}
        assert {k: text for k, text in ours.items() if text != said[k]}.keys() <= {"learning_rate"}


def named_in(page):
    return sorted(set(re.findall(r"`(gdfx(?:\.\w+)+)", prose(page))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_on_pages_exist(page):
    assert [name for name in named_in(page) if pydoc.locate(name) is None] == []


@pytest.mark.parametrize("page", TABLES)
def test_tables_are_what_the_script_prints(page: str, capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(DOCS / "scripts" / TABLES[page]), run_name="__main__")
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    shown = (DOCS / page).read_text().splitlines()
    assert [line for line in printed if line not in shown] == []


def test_the_page_on_own_methods_shows_the_example():
    shown = blocks(DOCS / "custom-method.md", "python")[0].code.strip()
    assert (
        f"shows this part.\n{shown}\n\n\n# Up to here.\n"
        in (ROOT / "examples" / "own_method.py").read_text()
    )


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"].partition(":")[0], citation["version"]) == ("gdfx", gdfx.__version__)
