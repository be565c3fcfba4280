"""The command line: what it prints, writes and returns, mistakes and interruptions included."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

import gdfx
import gdfx.__main__
from gdfx import files
from gdfx.cli import lab
from gdfx.lab.bench import Case, Suite
from gdfx.lab.trees import array


def race_valley(invoke, *arguments):
    return invoke("race", "--problem", "valley", "--steps", "3", *arguments)


def test_a_race_prints_a_table_and_writes_figure_and_results(invoke, tmp_path):
    result = race_valley(invoke, "-m", "sgd", "-m", "optax:lion=1e-4", "--out", "here/there")
    assert result.exit_code == 0, result.output
    out = tmp_path / "here/there"
    assert sorted(path.name for path in out.iterdir()) == ["results.json", "valley.png"]
    assert (out / "valley.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((out / "results.json").read_text())["problems"]["valley"]
    assert list(found["methods"]) == ["sgd", "optax:lion"]
    assert found["methods"]["optax:lion"]["hyperparameters"]["learning_rate"] == 1e-4
    for word in ("sgd", "optax:lion", "η=0.95", "η=0.0001", "here/there/valley.png"):
        assert word in result.output
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80


def test_one_method_at_several_rates(invoke):
    result = race_valley(invoke, "-m", "sgd=0.1", "-m", "sgd=0.5", "-m", "sgd=0.5")
    found = json.loads(Path("race/results.json").read_text())["problems"]["valley"]
    assert list(found["methods"]) == ["sgd=0.1", "sgd=0.5"]
    assert result.exit_code == 0


def test_a_factory_of_ones_own(invoke, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import optax\n"
        "def halved(learning_rate, decay=0.5):\n"
        "    return optax.chain(optax.scale(decay), optax.sgd(learning_rate))\n"
        "def wrong(learning_rate):\n    return learning_rate\n"
        "def broken(learning_rate):\n    raise KeyError('oh')\n"
        "def late(learning_rate):\n"
        "    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: 1 / 0)\n"
        "number = 3\n"
    )
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert race_valley(invoke, "-m", "mine:halved=0.1").exit_code == 0
    found = json.loads(Path("race/results.json").read_text())["problems"]["valley"]
    assert found["methods"]["mine:halved"]["hyperparameters"] == {
        "learning_rate": 0.1,
        "decay": 0.5,
    }
    for method, sentence in {
        "mine:wrong=1": "mine:wrong(1) returned float, which is no optax.GradientTransformation",
        "mine:broken=1": "mine:broken(1) raises KeyError: 'oh'",
        "mine:late=1": "mine:late does not run on valley: ZeroDivisionError: division by zero",
        "mine:number=1": "mine:number is not a function that makes an optimizer",
        "bad:f=1": "bad:f: cannot import bad: "
        "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    }.items():
        refused(race_valley(invoke, "-m", method), sentence)


def refused(result, sentence):
    assert (result.exit_code, result.stderr) == (2, f"gdfx: {sentence}\n")
    assert result.stdout == ""


INTERRUPTED = "gdfx: interrupted; no file was left half-written\n"
ELSEWHERE = "(any other optimizer: module:factory, as in optax:lion)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-m", "adm"], f"unknown method 'adm'; did you mean adam or adamw? {ELSEWHERE}"),
        (["-m", "Adam"], f"unknown method 'Adam'; did you mean adam or adamw? {ELSEWHERE}"),
        (
            ["-m", "zzz"],
            f"unknown method 'zzz'; there are {', '.join(gdfx.METHODS)} {ELSEWHERE}",
        ),
        (["-p", "vally"], "unknown problem 'vally'; did you mean valley?"),
        (["-p", "cifar"], "unknown problem 'cifar'; there are valley, mnist"),
        (["-m", "adam=abc"], "adam=abc: the learning rate must be a number"),
        (["-m", "adam="], "adam=: the learning rate must be a number"),
        (
            ["-m", "adam=-1"],
            "adam: learning_rate must be a number >= 0 or a schedule, got -1.0",
        ),
        (
            ["-m", "adam=nan"],
            "adam: learning_rate must be a number >= 0 or a schedule, got nan",
        ),
        (
            ["-m", "optax:lion=-1"],
            "optax:lion: learning_rate must be a number >= 0 or a schedule, got -1.0",
        ),
        (
            ["-m", "optax:lion"],
            "valley knows no learning rate for optax:lion: give one, as in optax:lion=0.001",
        ),
        (
            ["-m", "optax:lino=1"],
            "optax:lino: optax has no 'lino'; did you mean lion?",
        ),
        (
            ["-m", "optix:lion=1"],
            "optix:lion: cannot import optix: ModuleNotFoundError: No module named 'optix'",
        ),
        (["-m", ":lion=1"], "':lion' is not module:factory, as in optax:lion"),
        (
            ["-m", "optax:apply_updates=1"],
            "optax:apply_updates(1) raises TypeError: "
            "apply_updates() missing 1 required positional argument: 'updates'",
        ),
        (["--steps", "0"], "steps must be a whole number of at least 1, got 0"),
        (["--seeds", "0"], "seeds must be a whole number of at least 1, got 0"),
        (["--seed", "-1"], "seed must be a whole number of at least 0, got -1"),
        (["--out", "/dev/null/x"], "cannot write to /dev/null/x: Not a directory"),
        (["--out", "/dev/null"], "cannot write to /dev/null: File exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_sentence_and_status_2(invoke, arguments, sentence):
    refused(invoke("race", *(["-p", "valley"] * ("-p" not in arguments)), *arguments), sentence)
    assert not list(Path().rglob("*.png"))


def test_an_unknown_option_is_a_usage_error(invoke):
    result = invoke("race", "--stepz", "3")
    assert result.exit_code == 2
    assert "--stepz" in result.stderr


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = files.write(tmp_path / "a.json", b"old")

    def half(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(KeyboardInterrupt):
            files.write(path, b"new content")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupted_save_prints_one_line_and_leaves_no_partial_file(invoke, monkeypatch):
    write, done = Path.write_bytes, []

    def second_time_half(self, data):
        if done:
            write(self, data[:10])
            raise KeyboardInterrupt
        done.append(self)
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", second_time_half)
    result = race_valley(invoke, "-m", "sgd")
    assert result.exit_code == 130
    assert result.stderr == INTERRUPTED
    assert [path.name for path in Path("race").iterdir()] == ["valley.png"]


def gdfx_process(*arguments, **options):
    # A shell's background jobs ignore Ctrl-C, and what they start inherits that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from gdfx.__main__ import main; main()"
    )
    return subprocess.Popen(
        # As the installed script does; -P leaves the current folder out of the path.
        [sys.executable, "-P", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80", "PYTHONWARNINGS": "error"},
        **options,
    )


def test_a_real_process_races_a_module_of_the_current_folder(tmp_path):
    (tmp_path / "mine.py").write_text("from optax import lion\n")
    arguments = ("race", "-p", "valley", "-m", "mine:lion=0.1", "--steps", "2")
    with gdfx_process(*arguments, cwd=tmp_path) as process:
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "mine:lion" in stdout
    assert (tmp_path / "race/valley.png").exists()


def test_a_real_process_is_interrupted(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def sleep(learning_rate):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    arguments = ("race", "-p", "valley", "-m", "slow:sleep=1")
    with gdfx_process(*arguments, cwd=tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr == INTERRUPTED
    assert not list((tmp_path / "race").iterdir())


def test_bench_measures_the_methods_asked_for(invoke, monkeypatch):
    monkeypatch.setattr(lab, "FULL", Suite(step=(Case(array(2), pairs=2),)))
    monkeypatch.setattr(lab, "QUICK", Suite(step=(Case(array(3), pairs=2),)))
    for arguments, methods, case in (
        ((), ["sgd", "momentum", "adagrad", "adam"], "1 leaf, 2e0"),
        (("-m", "adamw", "--method", "sgd", "--quick"), ["adamw", "sgd"], "1 leaf, 3e0"),
    ):
        result = invoke("bench", *arguments)
        assert result.exit_code == 0, result.output
        rows = [line for line in result.stdout.splitlines() if case in line]
        assert [row.split()[0] for row in rows] == methods
        assert max(map(cell_len, result.stdout.splitlines())) <= 80


def test_bench_refuses_what_matches_nothing(invoke):
    sentence = (
        "textbook.adam matches no optax optimizer to be measured beside; "
        "sgd, momentum, adagrad, adam, adamw, textbook.sgd do"
    )
    refused(invoke("bench", "-m", "textbook.adam"), sentence)
