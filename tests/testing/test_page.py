"""docs/conformance.md and `gdfx check` say the same: one budget, one result."""

import json
import re
from functools import partial
from pathlib import Path

import optax
import pytest
from hypothesis.strategies import SearchStrategy
from typer.testing import CliRunner

from gdfx.cli.app import app
from gdfx.testing import LAWS
from gdfx.testing.subject import Subject

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
MARKS = {"✓": "kept", "**✗**": "broken", "–": "broken", "·": "not applicable"}


def on_the_page(group, name):
    """By law, what a column of the page says."""
    table = re.search(rf"^## {re.escape(group)}\n\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)[1]
    head, _, *rows = (line.strip("|").split("|") for line in table.splitlines())
    column = [cell.strip() for cell in head].index(name)
    found = {}
    for row in rows:
        law = re.match(r"\s*\[([\w-]+)\]", row[0])
        if law:
            found[law[1]] = MARKS[row[column].strip()]
    return found


def by_the_command(tmp_path, name, laws):
    file = tmp_path / "report.json"
    asked = (word for law in laws for word in ("--law", law))
    result = CliRunner().invoke(app, ["check", name, *asked, "--json", str(file)])
    assert result.exit_code in (0, 1), result.output
    return {row["law"]: row["outcome"] for row in json.loads(file.read_text())["laws"]}


ADAM = Subject(partial(optax.adam, learning_rate=0.1))
DRAWN = [
    law.name
    for law in LAWS.values()
    if any(isinstance(case, SearchStrategy) for case in law.cases_for(ADAM))
]
"""The laws whose verdict could hang on the budget; all would take long for every optimizer."""


@pytest.mark.parametrize(
    ("group", "name", "laws"),
    [
        ("gdfx", "sgd", list(LAWS)),
        ("optax", "sgd", list(LAWS)),
        ("optax", "adam", DRAWN),
    ],
    ids=["gdfx.sgd", "optax.sgd", "optax.adam, laws with drawn cases"],
)
def test_the_page_says_what_the_command_says(tmp_path, group, name, laws):
    page = on_the_page(group, name)
    assert set(page) == set(LAWS)
    command = name if group == "gdfx" else f"{group}:{name}"
    assert by_the_command(tmp_path, command, laws) == {law: page[law] for law in laws}
