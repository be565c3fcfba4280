"""Race, sweep and bench: what they print, write and return, mistakes and interruptions included."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len

import gdfx
from gdfx.cli import lab
from gdfx.cli.app import app
from gdfx.lab import PROBLEMS, Race, counts, lowbit, passes, trials
from gdfx.lab.bench import Case, Suite
from gdfx.lab.passes import Passes, contests
from gdfx.lab.resolve import DEFAULT_METHODS
from gdfx.lab.trees import array


def race_valley(invoke, *arguments):
    return invoke("race", "--problem", "valley", "--steps", "3", *arguments)


def test_a_race_prints_a_table_and_writes_figure_and_results(invoke, tmp_path):
    result = race_valley(
        invoke, "-m", "sgd", "-m", "optax:lion=1e-4", "--out", "here/there", "--page"
    )
    assert result.exit_code == 0, result.output
    out = tmp_path / "here/there"
    names = sorted(path.name for path in out.iterdir())
    assert names == ["race.html", "results.json", "valley.png"]
    assert '"label":"optax:lion"' in (out / "race.html").read_text()
    assert (out / "valley.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((out / "results.json").read_text())["problems"]["valley"]
    assert list(found["methods"]) == ["sgd", "optax:lion"]
    assert found["methods"]["optax:lion"]["learning_rate"]["value"] == 1e-4
    for word in ("sgd", "optax:lion", "η=0.95", "η=0.0001 (given)", "here/there/valley.png"):
        assert word in result.output
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80


def test_one_method_at_several_rates(invoke):
    result = race_valley(invoke, "-m", "sgd=0.1", "-m", "sgd=0.5", "-m", "sgd=0.5")
    found = json.loads(Path("race/results.json").read_text())["problems"]["valley"]
    assert list(found["methods"]) == ["sgd=0.1", "sgd=0.5"]
    assert result.exit_code == 0


MINE = """
import optax
from gdfx import lab

def halved(learning_rate, decay=0.5):
    return optax.chain(optax.scale(decay), optax.sgd(learning_rate))

def wrong(learning_rate):
    return learning_rate

def broken(learning_rate):
    raise KeyError('oh')

def late(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: 1 / 0)

def lost(learning_rate):
    return optax.scale(float('nan'))

number = 3

def loss(w):
    return (w**2).sum()

bowl = lab.problem(loss, [3.0, 4.0, 5.0], name='bowl', steps=2)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the current folder."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("mine", "bad"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("mine")
def test_a_factory_of_ones_own(invoke, refused):
    assert race_valley(invoke, "-m", "mine:halved=0.1").exit_code == 0
    found = json.loads(Path("race/results.json").read_text())["problems"]["valley"]
    assert found["methods"]["mine:halved"]["hyperparameters"] == {"decay": 0.5}
    for method, sentence in {
        "mine:wrong=1": "mine:wrong(1) returned float, which is no optax.GradientTransformation",
        "mine:broken=1": "mine:broken(1) raises KeyError: 'oh'",
        "mine:late=1": "mine:late does not run on valley: ZeroDivisionError: division by zero",
        "mine:number=1": "mine:number is not a function that makes an optimizer",
        "bad:f=1": "bad:f: cannot import bad: "
        "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    }.items():
        refused(("race", "-p", "valley", "-m", method, "--out", "other"), sentence)
    assert not Path("other").exists()


@pytest.mark.usefixtures("mine")
def test_a_problem_of_ones_own_with_a_rate_for_each_problem(invoke, refused):
    rates = "adam=bowl:0.5,valley:0.2"
    result = invoke("race", "-p", "mine:bowl", "-p", "valley", "-m", rates, "--steps", "2")
    assert result.exit_code == 0, result.output
    found = json.loads(Path("race/results.json").read_text())
    assert list(found["files"]) == ["bowl.png", "valley.png"]
    rates = {
        name: problem["methods"]["adam"]["learning_rate"]["value"]
        for name, problem in found["problems"].items()
    }
    assert rates == {"bowl": 0.5, "valley": 0.2}
    assert found["problems"]["bowl"]["methods"]["adam"]["curves"]["loss"][0][0] == 50
    assert invoke("sweep", "-p", "mine:bowl", "-m", "sgd").exit_code == 0
    refused(
        ("race", "-p", "mine:number", "-m", "sgd", "--force"),
        "mine:number is no problem, it has no name; gdfx.lab.Problem says what a problem has, and "
        "gdfx.lab.problem makes one from a loss and a start",
    )


ELSEWHERE = "(any other optimizer: module:factory, as in optax:lion)"
NO_PROBLEM = "(any other problem: module:problem, as in my_module:my_problem)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["-m", "adagradd"],
            "unknown method 'adagradd'; did you mean adagrad, madgrad or keras.Adagrad? "
            + ELSEWHERE,
        ),
        (["-m", "SGD"], f"unknown method 'SGD'; did you mean sgd or amsgrad? {ELSEWHERE}"),
        (
            ["-m", "zzz"],
            f"unknown method 'zzz'; gdfx list has them all {ELSEWHERE}",
        ),
        (["-p", "vally"], f"unknown problem 'vally'; did you mean valley? {NO_PROBLEM}"),
        (["-p", "cifar"], f"unknown problem 'cifar'; there are {', '.join(PROBLEMS)} {NO_PROBLEM}"),
        (["-p", "valley:"], "'valley:': settings are NAME=VALUE, as in valley:noise=0.0"),
        (["-m", "adam=abc"], "adam=abc: the learning rate must be a number"),
        (["-m", "adam="], "adam=: the learning rate must be a number"),
        (
            ["-m", "adam=vally:0.1"],
            "adam has a learning rate for an unknown problem 'vally'; did you mean valley?",
        ),
        (
            ["-m", "adam=valley:0.1,0.2"],
            "adam=valley:0.1,0.2: '0.2' is not PROBLEM:RATE, as in valley:0.3",
        ),
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
def test_a_mistake_gets_one_sentence_and_status_2(refused, arguments, sentence):
    refused(("race", *(["-p", "valley"] * ("-p" not in arguments)), *arguments), sentence)
    assert list(Path().iterdir()) == []


def test_an_unknown_option_is_a_usage_error(invoke):
    result = invoke("race", "--stepz", "3")
    assert result.exit_code == 2
    assert "--stepz" in result.stderr


TAKEN = (
    "{0} holds the results of an earlier run: replace them with --force (in Python: force=True), "
    "or choose another folder with --out"
)


def no_run(*_, **__):
    raise AssertionError("it ran")


def test_a_second_run_is_refused_before_it_runs_or_replaces_the_first(invoke, refused, monkeypatch):
    assert race_valley(invoke, "-m", "sgd").exit_code == 0
    assert invoke("sweep", "-p", "valley", "-m", "sgd", "--rates", "0.1").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(lab, "race", no_run)
        patch.setattr(lab, "sweep", no_run)
        refused(("race", "-p", "mnist"), TAKEN.format("race"))
        refused(("sweep", "-p", "mnist"), TAKEN.format("sweep"))
        refused(("sweep", "-p", "mnist", "--out", "race"), TAKEN.format("race"))
        Path("race/sweep-mnist.png").write_bytes(b"mine")
        refused(
            ("sweep", "-p", "mnist", "--out", "race", "--force"),
            "race/sweep-mnist.png was not written by gdfx, or was changed since: move it, or "
            "choose another folder with --out",
        )
    again = invoke("sweep", "-p", "valley", "-m", "sgd", "--rates", "1", "--out", "race", "--force")
    assert again.exit_code == 0, again.output
    names = sorted(path.name for path in Path("race").iterdir())
    assert names == ["results.json", "sweep-mnist.png", "sweep-valley.png"]


@pytest.mark.usefixtures("mine")
def test_a_sweep_prints_a_table_marks_the_best_and_says_what_diverged(invoke):
    result = invoke(
        *("sweep", "-p", "valley", "-m", "mine:lost", "-m", "sgd"),
        *("--rates", "0.5,0.1,1e3", "--steps", "9"),
    )
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["learning", "rate", "mine:lost", "sgd"] in rows
    assert [row[:2] for row in rows if len(row) in (3, 4) and row[0][0].isdigit()] == [
        ["0.1", "diverged"], ["0.5", "diverged"], ["1000", "diverged"],
    ]  # fmt: skip
    (marked,) = (row for row in rows if row and row[-1] == "*")
    assert marked[:2] == ["0.5", "diverged"]
    assert "\nmine:lost: diverged at every rate.\n" in result.stdout
    assert result.stdout.endswith("\nWritten: sweep/sweep-valley.png, sweep/results.json\n")
    record = json.loads(Path("sweep/results.json").read_text())
    assert [trial["learning_rate"] for trial in record["trials"]] == [0.1, 0.5, 1000]
    assert record["best"] == {"mine:lost": None, "sgd": {"learning_rate": 0.5}}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-m", "sgd=0.1"], "a sweep tries rates itself: write sgd without one"),
        (
            ["--rates", "0.1,fast"],
            "'learning_rate=0.1,fast' is not NAME=VALUES, with numbers for values",
        ),
        (["--rates", "0,1"], "a sweep tries learning rates above 0, got 0.0"),
        (
            ["--rates", "inf"],
            "sgd: learning_rate must be a number >= 0 or a schedule, got inf",
        ),
        (["-p", "vally"], f"unknown problem 'vally'; did you mean valley? {NO_PROBLEM}"),
        (["--out", "/dev/null"], "cannot write to /dev/null: File exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_sweeps_mistake_gets_one_sentence_and_status_2(refused, arguments, sentence):
    refused(("sweep", *(["-p", "valley"] * ("-p" not in arguments)), *arguments), sentence)
    assert list(Path().iterdir()) == []


SMALL = ("--trials", "2", "--seeds", "2", "--steps", "10")


def test_a_comparison_is_stored_added_to_and_reported_again(invoke, refused):
    first = invoke("compare", "-m", "sgd", "-p", "breast_cancer", *SMALL)
    assert first.exit_code == 0, first.output
    assert max(map(cell_len, first.stdout.splitlines()[:-1])) <= 80
    assert first.stdout.startswith("adamw and sgd on 1 problem\n")
    written = [f"compare/{name}" for name in ("speed.png", "rates.png", "losses.png")]
    assert first.stdout.endswith(f"Written: {', '.join(written)}, compare/results.json\n")
    refused(("compare", "-m", "sgd"), TAKEN.format("compare"))
    added = invoke("compare", "-m", "lion", "--add", "--over", "lion:b1=0.5:0.9:linear")
    assert added.exit_code == 0, added.output
    assert "lion: learning_rate in 0.0001:10:log, b1 in 0.5:0.9:linear; all else" in " ".join(
        added.stdout.split()
    )
    before = Path("compare/results.json").read_text()
    Path("compare/speed.png").unlink()
    again = invoke("report", "compare")
    assert again.exit_code == 0, again.output
    assert again.stdout == added.stdout
    assert Path("compare/speed.png").exists()
    assert invoke("report", "compare", "--page").exit_code == 0
    assert "<title>gdfx compare</title>" in Path("compare/compare.html").read_text()
    after = json.loads(Path("compare/results.json").read_text())
    assert after["methods"] == json.loads(before)["methods"]
    refused(("report", "elsewhere"),
            "cannot read elsewhere/results.json: No such file or directory")  # fmt: skip
    refused(("compare", "--over", "lion=3", "--force"),
            "'lion=3' is not METHOD:NAME=RANGE, as in adam:b1=0.5:0.99:linear")  # fmt: skip


def test_an_interrupted_sweep_goes_on_where_it_stopped(invoke, monkeypatch):
    arguments = ("sweep", "-p", "valley", "-m", "sgd", "-m", "adam", "--rates", "0.1,0.2")
    run = trials.run_trials

    def interrupted(start, contender, *more, **options):
        if contender.label == "adam":
            raise KeyboardInterrupt
        return run(start, contender, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["gdfx.lab.sweep"], "run_trials", interrupted)
        stopped = invoke(*arguments)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr == (
        "gdfx: interrupted; what is finished is kept: the same command goes on from there\n"
    )
    assert [path.name for path in Path("sweep").iterdir()] == ["unfinished.jsonl"]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in Path("sweep").iterdir())
    assert names == ["results.json", "sweep-valley.png"]


def test_other_hyperparameters_are_swept(invoke):
    result = invoke(
        *("sweep", "-p", "valley", "-m", "adam", "--rates", "0.1:10"),
        *("--over", "b1=0.5:0.9:linear", "--trials", "4", "--steps", "5"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(Path("sweep/results.json").read_text())["trials"]
    assert [list(trial) for trial in found] == [["learning_rate", "b1"]] * 4


def test_problems_are_listed_and_shown(invoke, refused):
    listed = invoke("problems").stdout
    assert max(map(cell_len, listed.splitlines())) <= 80
    assert [name for name in PROBLEMS if f"\n{name} " not in listed] == []
    one = invoke("problems", "quadratic:dimension=3").stdout
    assert max(map(cell_len, one.splitlines())) <= 80
    for words in ("f(w) = ½ Σ λᵢ", "condition  1000.0   a number >= 1", "Source: "):
        assert words in one
    refused(("problems", "vally"), f"unknown problem 'vally'; did you mean valley? {NO_PROBLEM}")


@pytest.mark.parametrize("command", ["race", "sweep", "bench"])
def test_the_help_speaks_the_users_language(invoke, command):
    text = " ".join(invoke(command, "--help").stdout.split())
    assert re.findall(r"<[^>]*>|\b(?:int|str|path|INTEGER|TEXT|PATH)\b", text) == []
    options = typer.main.get_command(app).commands[command].params
    assert [o.name for o in options if o.name != "help" and not (o.metavar or o.is_flag)] == []
    assert f"[default: {', '.join(DEFAULT_METHODS)}]" in text
    if command == "bench":
        assert "take about" in text
        assert "with --quick" in text
    else:
        assert "One of 'gdfx problems', with settings" in text


def test_an_interrupted_save_prints_one_line_and_leaves_nothing(invoke, monkeypatch, tmp_path):
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
    assert result.stderr == "gdfx: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_interrupted_while_it_prints_it_says_that_the_results_are_there(invoke, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Race, "table", interrupted)
    result = race_valley(invoke, "-m", "sgd")
    assert result.exit_code == 130
    assert result.stderr == "gdfx: interrupted; the results are written\n"
    assert Path("race/results.json").exists()


def test_an_interrupted_bench_says_that_nothing_is_shown(invoke, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "bench", interrupted)
    result = invoke("bench")
    assert result.exit_code == 130
    assert result.stderr == "gdfx: interrupted; nothing was written\n"


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
    (tmp_path / "mine.py").write_text(MINE)
    arguments = ("race", "-p", "mine:bowl", "-m", "mine:halved=0.1", "--steps", "2")
    with gdfx_process(*arguments, cwd=tmp_path) as process:
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "mine:halved" in stdout
    assert (tmp_path / "race/bowl.png").exists()


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
    assert stderr == "gdfx: interrupted; nothing was written\n"
    assert not (tmp_path / "race").exists()


@pytest.mark.parametrize("command", ["race", "sweep"])
def test_what_is_missing_is_told_at_once(refused, monkeypatch, command):
    monkeypatch.setattr("gdfx.cli.terminal.find_spec", lambda name: None)
    refused(
        (command, "-p", "valley"),
        f"{command} needs matplotlib, mlxtend, plotly and scikit-learn, which are not installed; "
        'in a checkout of gdfx: pip install -e ".[lab]"',
    )


def test_the_commands_are_there_without_what_only_figures_and_images_need():
    code = (
        "import sys; gone = ['matplotlib', 'mlxtend', 'plotly', 'sklearn'];"
        "sys.modules |= dict.fromkeys(gone); import gdfx.cli.app, gdfx.lab;"
        "print(gdfx.lab.race('sgd', 'valley', steps=1).results['valley'].steps)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("1\n", "")


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


def test_bench_of_one_pass(invoke, monkeypatch):
    case = Case(array(20), pairs=2)
    monkeypatch.setattr(passes, "quick", lambda names: Passes(contests(names, [case]), ()))
    result = invoke("bench", "--one-pass", "--quick", "-m", "lion")
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if "1 leaf, 2e1" in line]
    assert row.startswith("optax.lion")
    assert max(map(cell_len, result.stdout.splitlines())) <= 80


def test_bench_of_few_bits(invoke, monkeypatch):
    monkeypatch.setattr(lowbit, "QUICK", (Case([array(64, 64)], pairs=2),))
    result = invoke("bench", "--low-bit", "--quick", "-m", "momentum")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if "1 leaf, 4e3" in line]
    assert [(row[0], row[4]) for row in rows] == [
        ("momentum", code) for code in ("float32", *lowbit.CODES)
    ]
    assert [row[-3] for row in rows] == ["4.00", "1.02", "0.53", "1.02"]
    assert max(map(cell_len, result.stdout.splitlines())) <= 80


def test_bench_in_exact_numbers(invoke, monkeypatch):
    monkeypatch.setattr(counts, "QUICK", Case(array(20), pairs=1))
    result = invoke("bench", "--exact", "--quick", "-m", "sgd")
    assert result.exit_code == 0, result.output
    assert "1 leaf, 2e1" in result.stdout
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith("sgd")]
    assert row[2:] == ["1.00", "1.00", "1.00"]  # instructions, kernels, bytes
    assert max(map(cell_len, result.stdout.splitlines())) <= 80


def test_one_bench_at_a_time(refused):
    every = "--exact, --low-bit, --one-pass, --sweep and --torch"
    sentence = f"{every} are five benches; choose one"
    refused(("bench", "--exact", "--sweep"), sentence)


def test_bench_refuses_what_matches_nothing(refused):
    refused(
        ("bench", "-m", "textbook.adam"),
        "textbook.adam matches no optax optimizer to be measured beside; "
        + ", ".join(name for name, m in gdfx.METHODS.items() if m.matches or m.beside)
        + " do",
    )
