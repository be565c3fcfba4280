"""What tables, records and notebooks show."""

import base64
import io
import json
import re
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from matplotlib.image import imread

import gdfx
from gdfx.lab import PROBLEMS, problem, race, report, sweep
from gdfx.lab.race import Race
from gdfx.lab.tables import Column, Columns


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ([[3, 2, 2, 0.01], [3, 2, 2, 0.05], [3, 2, 2, 0.02]], ("0.02", "0.01 … 0.05", " 5 ")),
        ([[3, 2, 2, 0.09], [3, 2, 2, 0.5], [3, 2, 2, 0.4]], ("0.09 … 0.5", "not reached")),
        ([[3, 2, 2, 0.02], [3, 2, 2, np.nan], [3, 2, 2, 1]], ("0.02 … diverged", "not reached")),
        ([[3, 2, 2, np.inf]] * 3, (" diverged", "diverged … diverged", "not reached")),
    ],
)
def test_the_table_tells_medians_ranges_and_misses(made_up, shown, loss, words):
    text = shown(report.table(made_up(loss=loss)))
    for word in words:
        assert word in text


def test_the_tables_fit_80_columns_and_hold_every_column(mnist_race, valley_race, shown):
    text = shown(mnist_race.table())
    assert max(map(len, text.splitlines())) <= 80
    heads = [line.split("  ") for line in text.splitlines() if line.startswith("method")]
    assert [[head.strip() for head in line if head] for line in heads] == [
        ["method", "final loss", "steps to 0.1", "accuracy, %", "seconds", "state bytes"]
    ]
    settings = [run.entry.settings for run in mnist_race.results["mnist"].runs.values()]
    for word in ("5 steps, 3 seeds", " 8.0", *settings):
        assert word in text
    assert PROBLEMS["mnist"].rates.note in " ".join(text.split())
    valley = shown(valley_race.table())
    assert "ccuracy" not in valley
    assert "highest of the seeds" not in valley  # there is one


LONG = "a_package.a_module:a_factory_x"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_long_names_split_the_table_and_nothing_is_cut(mnist_race, shown, width):
    result = mnist_race.results["mnist"]
    names = [f"{LONG}{i}" for i in range(8)]
    run = replace(result.runs["adam"], entry=replace(result.runs["adam"].entry, label=LONG))
    text = shown(report.table(replace(result, runs=dict.fromkeys(names, run))), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace(" … ", "")
    heads = [line for line in text.splitlines() if line.startswith("method")]
    columns = ["final loss", "steps to 0.1", "accuracy, %", "seconds", "state bytes"]
    assert [name for head in heads for name in re.split(r" {2,}", head)[1:]] == columns
    if width > 40:  # where not even the name and one column fit, a name is folded
        for name in names:
            assert text.count(name) == len(heads)


def test_columns_keep_their_order_and_at_least_one_is_in_each_table(shown):
    columns = Columns([Column("n", ["1"])], [Column(x * 5, [x]) for x in "abcde"])
    heads = [line.split()[1:] for line in shown(columns, 15).splitlines() if line[:1] == "n"]
    assert heads == [["aaaaa", "bbbbb"], ["ccccc", "ddddd"], ["eeeee"]]
    heads = [line.split()[1:] for line in shown(columns, 8).splitlines() if line[:1] == "n"]
    assert heads == [["aaaaa"], ["bbbbb"], ["ccccc"], ["ddddd"], ["eeeee"]]


def test_labels_are_no_markup(shown):
    found = race({"[bold]mine[/bold]": "sgd"}, "valley", steps=1)
    assert shown(found.table()).count("[bold]mine[/bold]") == 2


def test_a_problem_without_a_target_has_no_column_for_it(shown):
    found = race("sgd=0.1", problem(lambda w: w.sum(), [1.0, 2.0, 3.0]), steps=1)
    assert "teps to" not in shown(found.table())
    record = found.record()["problems"]["problem"]
    assert record["target_loss"] is None
    assert record["methods"]["sgd"]["steps_to_target"] is None


NOTE = PROBLEMS["valley"].rates.note


@pytest.mark.parametrize(
    ("methods", "steps", "note"),
    [
        (["sgd=0.5", "textbook.adam"], 30, f"Default rates: {NOTE}."),
        (["sgd"], 2, f"Default rates: {NOTE}; chosen for 30 steps, not for 2."),
        # The default's value, but given.
        (["sgd=0.95", optax.sgd(0.1)], 30, ""),
    ],
)
def test_default_rates_are_said_to_be_that_and_for_how_many_steps(shown, methods, steps, note):
    result = race(methods, "valley", steps=steps).results["valley"]
    assert result.rates_note == note
    text = " ".join(shown(report.table(result)).split())
    assert (NOTE in text) is bool(note)
    assert note in text


def test_the_json_holds_the_raw_curves_and_what_made_them(mnist_race):
    found = json.loads(json.dumps(mnist_race.record(), allow_nan=False))
    assert found["versions"]["gdfx"] == gdfx.__version__
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["optax"] == optax.__version__
    mnist, problem = found["problems"]["mnist"], PROBLEMS["mnist"]
    assert (mnist["seeds"], mnist["steps"]) == ([11, 12, 13], 5)
    assert mnist["default_rates"] == {
        "by_method": problem.rates.by_method,
        "note": problem.rates.note,
        "chosen_for": 600,
    }
    assert list(mnist["methods"]) == ["sgd", "adam"]
    adam, run = mnist["methods"]["adam"], mnist_race.results["mnist"].runs["adam"]
    assert adam["name"] == "adam"
    assert adam["learning_rate"] == {"value": 0.001, "source": "default", "chosen_for": 600}
    assert adam["hyperparameters"] == {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
    assert adam["steps"] == [0, 2, 4, 5]
    np.testing.assert_array_equal(adam["curves"]["loss"], run.curves["loss"])


def test_the_json_knows_given_rates_and_ready_optimizers():
    found = race({"adam": 0.3, "ready": optax.sgd(0.1)}, "valley", steps=1).record()
    methods = found["problems"]["valley"]["methods"]
    given = {"value": 0.3, "source": "given", "chosen_for": None}
    assert methods["adam"]["learning_rate"] == given
    assert methods["ready"]["learning_rate"] is None


def test_what_is_not_finite_is_null_in_the_json(made_up):
    found = Race({"mnist": made_up(loss=[[3, np.nan, np.inf, -np.inf]] * 3)}).record()
    found = json.loads(json.dumps(found, allow_nan=False))
    assert found["problems"]["mnist"]["methods"]["sgd"]["curves"]["loss"][0] == [
        3, None, None, None,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(valley_race, mnist_race):
    both = Race(valley_race.results | mnist_race.results)
    return both, sweep(["sgd", "adam"], "valley", rates=[0.1, 0.5], steps=2)


def test_a_notebook_shows_tables_and_figures(outcomes):
    for outcome, figures in zip(outcomes, (2, 1), strict=True):
        bundle = outcome._repr_mimebundle_(include=None, exclude=None)
        html = bundle["text/html"]
        assert html.startswith("<pre")
        assert html.index("adam") < html.index("<img")
        images = re.findall(r'src="data:image/png;base64,([^"]*)">', html)
        assert len(images) == figures
        for image in images:
            assert imread(io.BytesIO(base64.b64decode(image))).shape[1] == 1600
        assert "adam" in bundle["text/plain"]


def test_a_table_shows_itself_in_a_notebook(outcomes):
    for outcome in outcomes:
        bundle = outcome.table()._repr_mimebundle_(include=None, exclude=None)
        assert "adam" in bundle["text/html"]
        assert "<img" not in bundle["text/html"]


def test_at_a_prompt_the_table_is_shown(outcomes, shown):
    for outcome in outcomes:
        assert repr(outcome) == shown(outcome.table()).rstrip()
