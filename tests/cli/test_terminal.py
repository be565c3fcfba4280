"""What the commands need, and what is said where it is missing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gdfx.__main__
from gdfx.cli import terminal
from gdfx.lookup import RequestError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ({"sklearn"}, "race needs scikit-learn, which is not installed"),
        (
            {"matplotlib", "mlxtend", "sklearn"},
            "race needs matplotlib, mlxtend and scikit-learn, which are not installed",
        ),
    ],
)
def test_all_missing_packages_are_named_at_once(monkeypatch, missing, sentence):
    monkeypatch.setattr(terminal, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(RequestError) as error:
        terminal.need("race", "lab")
    assert str(error.value) == f'{sentence}; in a checkout of gdfx: pip install -e ".[lab]"'
    terminal.need("check", "testing")


def test_what_commands_need_is_in_the_extras():
    for extra, packages in terminal.NEEDED.items():
        listed = {text.partition(">=")[0] for text in PROJECT["optional-dependencies"][extra]}
        assert listed >= packages.keys() | set(gdfx.__main__._NEEDED)
    assert "pytest>=8.4" in PROJECT["optional-dependencies"]["testing"]


def test_without_typer_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(gdfx.__main__, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        gdfx.__main__.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "gdfx: the command line needs rich and typer; "
        'in a checkout of gdfx: pip install -e ".[lab,testing]"\n'
    )


def without(packages, *arguments, cwd):
    """The command line in a process where these packages cannot be imported."""
    code = (
        "import importlib.util, sys\n"
        f"gone = {packages}\n"
        "sys.modules |= dict.fromkeys(gone)\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name in gone else find(name)\n"
        "from gdfx.__main__ import main\n"
        "main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, cwd=cwd, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("list",),
        ("show", "adam"),
        ("laws",),
        ("new", "mine"),
        ("check", "sgd", "--law", "sign"),
    ],
    ids=" ".join,
)
def test_these_need_nothing_of_the_lab(tmp_path, arguments):
    done = without(["matplotlib", "mlxtend", "sklearn"], *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [("check", "sgd"), ("laws",)], ids=" ".join)
def test_these_say_that_they_need_hypothesis(tmp_path, arguments):
    done = without(["hypothesis"], *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"gdfx: {arguments[0]} needs hypothesis, which is not installed; "
        'in a checkout of gdfx: pip install -e ".[testing]"\n'
    )


@pytest.mark.parametrize("arguments", [("list",), ("show", "adam"), ("show", "optax:adam")],
                         ids=" ".join)  # fmt: skip
def test_these_need_no_hypothesis(tmp_path, arguments):
    done = without(["hypothesis"], *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
