"""The sweep: its numbers, the best rate, its table and its record."""

import json
from dataclasses import replace

import numpy as np
import optax
import pytest

from gdfx.lab import RequestError, race, sweep
from gdfx.lab.problems import VALLEY
from gdfx.lab.resolve import Rate
from gdfx.lab.sweep import TUNING_SEED


@pytest.fixture(scope="module")
def of_losses(mnist_race):
    """A sweep with made-up final losses, (rates, seeds), by method; every run begins at 2."""
    run = mnist_race.results["mnist"].runs["sgd"]
    made = sweep("sgd", "valley", rates=[0.1], steps=1)

    def make(**losses):
        runs = {
            name: tuple(
                replace(run, curves={"loss": np.array([[2.0, final] for final in row])})
                for row in rows
            )
            for name, rows in losses.items()
        }
        (rows, *_) = losses.values()
        rates = tuple(0.1 * (i + 1) for i in range(len(rows)))
        return replace(made, seeds=tuple(range(len(rows[0]))), rates=rates, runs=runs)

    return make


def nan_at_small_rates(learning_rate):
    return optax.scale(-learning_rate if learning_rate > 0.05 else np.nan)


def always_nan(learning_rate):
    return optax.scale(np.nan)


@pytest.fixture(scope="module")
def with_failures():
    methods = {"late": nan_at_small_rates, "adam": "adam", "lost": always_nan}
    return sweep(methods, "valley", rates=(0.01, 0.1, 0.3, 100.0), steps=12)


def test_a_sweep_takes_other_seeds_than_a_race(shown):
    found = sweep(["sgd", "textbook.adam"], "valley", rates=(5.0, 0.1, 0.5), steps=12)
    assert found.seeds[0] == TUNING_SEED
    assert found.rates == (0.1, 0.5, 5.0)
    losses = found.losses["sgd"]
    assert losses.shape == (3, 1)
    assert found.best["sgd"] == 0.5
    assert found.runs["sgd"][1].entry.rate == Rate(0.5, "given")
    for i, rate in enumerate(found.rates):
        alone = race([f"sgd={rate}"], ["valley"], steps=12).results["valley"].runs["sgd"]
        np.testing.assert_array_equal(losses[i], alone.final_loss)
    text = shown(found.table())
    assert "textbook.adam" in text
    assert "seed" not in text  # there is one


@pytest.mark.parametrize(
    ("losses", "best", "remark"),
    [
        ([[0.3, 0.3, 0.3], [0.1, 0.1, 0.9], [0.0, 0.0, np.nan]], 0.1, "best at the lowest rate"),
        ([[1, 1, 1], [0.3, 0.3, 0.3], [0.1, 0.1, 0.9]], 0.2, None),
        ([[1, 1, 1], [0.3, 0.3, 0.3], [0.1, 0.1, 0.2]], 0.3, "best at the highest rate"),
        ([[np.nan] * 3, [np.inf] * 3], None, "diverged at every rate"),
        ([[1, 1, 2.0], [0, 1, np.nan]], None, "no rate brings every seed below its start"),
        ([[3, 3, 3], [1e30, 4, 2.1]], None, "no rate brings every seed below its start"),
    ],
)
def test_the_best_rate_is_the_one_whose_worst_seed_ends_lowest(of_losses, losses, best, remark):
    found = of_losses(sgd=losses)
    assert found.best["sgd"] == (None if best is None else pytest.approx(best))
    assert found.remarks.get("sgd", "None").startswith(str(remark))


def test_one_rate_alone_is_at_no_edge(of_losses):
    assert of_losses(sgd=[[1.0]]).remarks == {}


def test_the_best_is_marked_by_a_sign_and_failures_by_words(with_failures, shown):
    assert with_failures.best == {"late": 0.3, "adam": 0.3, "lost": None}
    lines = [line.split() for line in shown(with_failures.table()).splitlines()]
    rows = {line[0]: line[1:] for line in lines if len(line) > 3}
    assert rows["0.01"][0] == rows["0.01"][-1] == "diverged"
    marked = {rate: row.count("*") for rate, row in rows.items() if "*" in row}
    assert marked == {"0.3": 2}
    text = shown(with_failures.table())
    assert "\n* the best rate: it ends lowest.\nlost: diverged at every rate.\n" in text


def test_a_table_too_wide_is_split_between_methods_and_nothing_is_cut(of_losses, shown):
    names = [f"my_package:a_factory_named_{i}" for i in range(8)]
    found = of_losses(**{name: [[0.123], [0.0456]] for name in names})
    for width in (60, 80):
        text = shown(found.table(), width)
        assert max(map(len, text.splitlines())) <= width
        heads = [line.split() for line in text.splitlines() if line.startswith("learning rate")]
        assert [name for _, _, *some in heads for name in some] == names
        assert len(heads) == (8 if width == 60 else 4)
        assert text.count("0.0456 *") == 8
        assert "…" not in text


def test_the_record_knows_what_failed(with_failures, tmp_path):
    record = json.loads(json.dumps(with_failures.record(), allow_nan=False))
    assert record["best"]["lost"] is None
    assert record["remarks"] == {"lost": "diverged at every rate"}
    assert record["final_loss"]["lost"] == [[None]] * 4
    written = with_failures.save(tmp_path / "new")
    assert [path.name for path in written] == ["sweep-valley.png", "results.json"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": []}, "no method to sweep"),
        ({"rates": []}, "no learning rate to try"),
        ({"rates": [0.1, 0]}, "a sweep tries learning rates above 0, got 0"),
        ({"methods": "adam=0.1"}, "a sweep tries rates itself: write adam without one"),
        ({"methods": ("adam", 0.1)}, "a sweep tries rates itself: write adam without one"),
        (
            {"methods": optax.adam(0.1)},
            "optimizer 1 is made already, with a learning rate of its own: a sweep takes names, "
            "and factories such as optax.adam",
        ),
        (
            {"methods": {"mine": lambda: optax.adam(0.1)}},
            "mine is made already, with a learning rate of its own: a sweep takes names, and "
            "factories such as optax.adam",
        ),
    ],
)
def test_impossible_sweeps_are_refused(arguments, sentence):
    with pytest.raises(RequestError) as refusal:
        sweep(**{"problem": "valley", **arguments})
    assert str(refusal.value) == sentence


def test_methods_and_a_problem_of_ones_own():
    found = sweep({"mine": optax.lion, "sgd": "sgd"}, VALLEY, rates=[0.1], steps=2)
    assert list(found.losses) == ["mine", "sgd"]
    assert found.runs["mine"][0].entry.name == "optax:lion"
