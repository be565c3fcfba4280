"""gdfx new: the file that it writes keeps the laws, lints and passes its own tests."""

import subprocess
import sys
from functools import partial

import pytest

from gdfx.testing import LAWS, check

NAMES = ["my_method", "Polyak2"]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_printed_with_the_commands_that_judge_it(invoke, name, tmp_path):
    result = invoke("new", name)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"Written: {name}.py. Change its rule; these judge it:",
        "",
        f"  gdfx check {name}:{name}",
        f"  pytest {name}.py",
        f"  gdfx race -m {name}:{name}=0.1 -m adam",
    ]
    text = (tmp_path / f"{name}.py").read_text()
    assert f"def {name}(" in text
    assert f"def scale_by_{name}(" in text
    assert f"test_{name} = conformance(" in text
    if name != "my_method":
        assert "my_method" not in text.lower()
        assert "mymethod" not in text.lower()


@pytest.mark.parametrize("name", NAMES)
def test_the_file_lints(invoke, name):
    invoke("new", name)
    assert run("-m", "ruff", "check", "--isolated", "--select", "E,F,I,UP,B", f"{name}.py")[0] == 0
    assert run("-m", "ruff", "format", "--isolated", "--check", f"{name}.py")[0] == 0


def test_the_file_keeps_every_law(invoke, monkeypatch, tmp_path):
    """As for `gdfx check` in the shell, which finds modules of the current folder."""
    invoke("new", "first_try")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("gdfx.testing.judge.check", partial(check, budget=3))
    result = invoke("check", "first_try:first_try", "--strict")
    assert result.exit_code == 0, result.output
    asked = sum(law.grade == "contract" for law in LAWS.values())
    of_others = {"equals-its-reference", "hyperparameters-as-in-reference", "average-of-what-stays"}
    of_others |= {law.name for law in LAWS.values() if law.kind == "matrix"}
    assert f"contract: {asked - len(of_others)} kept, 0 broken" in result.stdout


def test_the_file_passes_its_own_tests(invoke):
    invoke("new", "second_try")
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "scan or sharding or sign")
    code, said = run(*arguments, "-rs", "second_try.py")
    assert code == 0, said
    assert "2 passed, 1 skipped" in said
    assert 'jax.config.update("jax_num_cpu_devices", 8)' in said.replace("\n", " ")


def test_a_file_that_is_there_is_left_as_it_is(invoke, refused, tmp_path):
    (tmp_path / "mine.py").write_text("work of a week")
    refused(("new", "mine"), "mine.py is there already, and is left as it is; take another name")
    assert (tmp_path / "mine.py").read_text() == "work of a week"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my-method", "'my-method' cannot be a Python name; did you mean my_method?"),
        ("my_method.py", "'my_method.py' cannot be a Python name; did you mean my_method?"),
        ("2fast", "'2fast' cannot be a Python name; begin with a letter"),
        ("class", "class is a word of Python itself; take another name"),
        ("ema", "ema is a name that the file itself uses; take another name"),
        ("float", "float is a name that the file itself uses; take another name"),
        ("test_it", "pytest would take test_it for a test; take another name"),
    ],
)
def test_a_name_that_would_not_do_gets_its_sentence(refused, name, sentence, tmp_path):
    refused(("new", name), sentence)
    assert not list(tmp_path.iterdir())


def test_a_module_that_is_installed_is_not_hidden(invoke, tmp_path):
    result = invoke("new", "optax")
    assert result.exit_code == 2
    assert result.stderr.startswith("gdfx: there is a module optax already, ")
    assert result.stderr.endswith("; take another name\n")
    assert not list(tmp_path.iterdir())
