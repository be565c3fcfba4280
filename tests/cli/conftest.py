"""Commands run in this process, in a folder of their own, on a terminal of 80 columns."""

import pytest
from typer.testing import CliRunner

from gdfx.cli.app import app


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="gdfx")


@pytest.fixture
def refused(invoke):
    """A command is refused, with one sentence and status 2."""

    def check(arguments, sentence):
        result = invoke(*arguments)
        assert (result.exit_code, result.stderr) == (2, f"gdfx: {sentence}\n"), result.output
        assert result.stdout == ""

    return check
