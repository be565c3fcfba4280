"""The comparison: its protocol, its statistics, its words, and what it keeps."""

import json
from dataclasses import replace

import numpy as np
import optax
import pytest

from gdfx.lab import RequestError, Span, compare, comparison, race, sweep, verdict
from gdfx.lab.compare import SPACE, load
from gdfx.lab.comparison import (
    Cell,
    Field,
    Protocol,
    Results,
    Runs,
    interquartile_mean,
    stratified,
)
from gdfx.lab.sweep import TUNING_SEED

# Statistics.


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean(np.array([9.0, 1, 2, 3, 4, 5, 6, -100])) == (2 + 3 + 4 + 5) / 4


def test_the_interval_is_as_wide_as_theory_says():
    """A quarter trimmed off each end of normal samples: variance 1.195 / n (Tukey)."""
    strata = [np.random.default_rng(i).normal(3, 2, 250) for i in range(4)]
    found = stratified(strata)
    assert found.low < 3 < found.high
    width = 2 * 1.96 * 2 * np.sqrt(1.195 / 1000)
    assert found.high - found.low == pytest.approx(width, rel=0.12)


def test_the_interval_covers_what_it_should():
    """In about 95 of 100 samples; a percentile interval of 40 numbers in somewhat fewer."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        found = stratified(list(rng.normal(0, 1, (4, 10))), resamples=400)
        hits += found.low < 0 < found.high
    assert 86 <= hits <= 100


def test_seeds_are_drawn_within_their_problem():
    strata = [np.full(10, 1.0), np.full(10, 2.0), np.full(10, 3.0), np.full(10, 4.0)]
    found = stratified(strata)
    assert (found.value, found.low, found.high) == (2.5, 2.5, 2.5)
    # One that varies a little among others that do not: no draw changes which problem is where.
    strata[1] = strata[1] + np.linspace(-0.1, 0.1, 10)
    found = stratified(strata)
    assert 2.4 < found.low < 2.5 < found.high < 2.6


# Made-up results.

STEPS = np.arange(0, 101, 10)


def runs(hits, rate=0.1, seeds=4):
    """Runs whose loss is below 1 from the step given on; None: never."""
    rows = [[5.0 if hit is None or step < hit else 0.5 for step in STEPS] for hit in hits]
    return Runs({"learning_rate": rate}, np.array(rows), np.full(seeds, 0.9), 2.0, 8.0)


def cell(*hits, rate=0.1):
    tuning = np.array([[3.0, 3.0], [0.5, 0.5], [np.nan, 9.0]])
    trials = [{"learning_rate": x} for x in (0.01, 0.1, 1.0)]
    return Cell({"learning_rate": "0.01:1:log"}, trials, tuning, runs(hits, rate), runs([None] * 4))


FIELDS = {
    name: Field(name, f"Problem {name}", "loss", "accuracy", STEPS, 5.0, 1.0) for name in "ab"
}


def made_up(**methods):
    cells = {
        name: {problem: cell(*hits) for problem, hits in zip("ab", some, strict=True)}
        for name, some in methods.items()
    }
    return Results(Protocol(3, 2, 4), FIELDS, cells, 90.0)


ADAMW = ([40, 40, 50, 50], [80, 80, 80, 80])


def test_a_score_is_the_references_steps_by_the_methods_and_a_miss_is_0():
    found = made_up(adamw=ADAMW, mine=([20, 30, 90, None], [40, 40, 40, 40]))
    np.testing.assert_array_equal(found.steps_to("mine", "a"), [20, 30, 90, np.inf])
    a, b = found.scores("mine")
    np.testing.assert_allclose(a, [45 / 20, 45 / 30, 45 / 90, 0])
    np.testing.assert_allclose(b, [2, 2, 2, 2])
    assert found.misses("mine") == (1, 8)
    # Sorted 0, 0.5, 1.5, 2, 2, 2, 2, 2.25: the middle four.
    assert found.speed["mine"].value == pytest.approx((1.5 + 2 + 2 + 2) / 4)
    assert found.untuned_speed["mine"].value == 0


def test_a_profile_is_the_share_of_problems_within_a_factor_of_the_fewest_steps():
    found = made_up(adamw=ADAMW, mine=([90] * 4, [40] * 4), lost=([None] * 4, [20] * 4))
    np.testing.assert_allclose(found.ratios("adamw"), [1, 4])
    np.testing.assert_allclose(found.ratios("mine"), [2, 2])
    np.testing.assert_allclose(found.ratios("lost"), [np.inf, 1])
    factors = np.array([1, 2, 3, 4, 100])
    np.testing.assert_allclose(found.profile("adamw", factors), [0.5, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(found.profile("mine", factors), [0, 1, 1, 1, 1])
    np.testing.assert_allclose(found.profile("lost", factors), [0.5] * 5)


@pytest.mark.parametrize(
    ("hits", "sentence"),
    [
        (
            ([20] * 4, [40] * 4),
            "mine is faster than adamw on these problems, 2.12 times as fast to its targets: their "
            "speeds differ by +1.12 ({:+.2f} … {:+.2f}).",
        ),
        (
            ([90] * 4, [100] * 4),
            "mine is slower than adamw on these problems, 0.65 times as fast to its targets: their "
            "speeds differ by -0.35 ({:+.2f} … {:+.2f}).",
        ),
        (
            ADAMW,
            "No difference between mine and adamw at this budget: their speeds differ by +0.00 "
            "({:+.2f} … {:+.2f}), which may be 0.",
        ),
        (
            ([30, None, None, None], [None] * 4),
            "mine is slower than adamw on these problems: it misses 7 of the 8 targets.",
        ),
        (([None] * 4, [None] * 4), "mine reaches none of adamw's targets at this budget."),
    ],
)
def test_the_verdict_is_in_words(hits, sentence):
    found = made_up(adamw=ADAMW, mine=hits)
    gain = found.gain["mine"]
    assert verdict.sentence(found, "mine") == sentence.format(gain.low, gain.high)


def test_a_reference_that_misses_its_own_targets_gets_a_word():
    found = made_up(adamw=([None] * 4, [None] * 4), mine=([20] * 4, [40] * 4))
    assert verdict.sentence(found, "mine") == (
        "mine is faster than adamw on these problems: it misses 0 of the 8 targets, and adamw "
        "nearly all."
    )


def test_what_it_cost_and_what_does_not_carry_over_is_said():
    found = made_up(adamw=ADAMW, mine=([20, 20, 20, None], [40] * 4))
    edge = replace(found.cells["mine"]["a"], tuned=runs([20, 20, 20, None], rate=1.0))
    found = replace(found, cells=found.cells | {"mine": found.cells["mine"] | {"a": edge}})
    assert verdict.limits(found) == [
        "Of the targets, mine misses 1 of 8; a miss counts as infinitely slow.",
        "The best rate of mine is at the edge of what was tried on a.",
        "It is about 2 problems of small size and a constant learning rate: rankings at this size "
        "do not carry over to larger models by themselves.",
        "It took 90 s: for each method and problem 3 trials on 2 seeds, then the best trial and "
        "the defaults on 4 fresh seeds.",
    ]


def test_a_method_that_never_falls_is_shown_without_a_tuned_run(shown):
    found = made_up(adamw=ADAMW, mine=([20] * 4, [40] * 4))
    lost = replace(found.cells["mine"]["a"], tuned=None)
    found = replace(found, cells=found.cells | {"mine": found.cells["mine"] | {"a": lost}})
    assert found.misses("mine") == (4, 8)
    text = shown(verdict.page_of(found))
    rows = [line.split() for line in text.splitlines() if line.startswith("mine ")]
    assert ["mine", "none", "missed", "missed", "diverged", "–"] in rows
    assert max(map(len, text.splitlines())) <= 80


# The protocol, in small.

OPTIONS = {"trials": 4, "tuning_seeds": 2, "seeds": 3, "steps": 20}


@pytest.fixture(scope="module")
def small():
    return compare({"sgd": "sgd", "lion": optax.lion}, "breast_cancer", **OPTIONS)


def test_the_reference_is_always_there_and_comes_first(small):
    assert small.results.methods == ["adamw", "sgd", "lion"]


def test_the_best_trial_is_that_of_a_sweep_and_is_run_on_fresh_seeds(small):
    found = sweep(
        {"sgd": "sgd"}, "breast_cancer", over=SPACE, trials=4, steps=20, seeds=2, seed=TUNING_SEED
    )
    cell = small.results.cells["sgd"]["breast_cancer"]
    assert cell.trials == list(found.trials)
    np.testing.assert_allclose(cell.tuning, found.losses["sgd"], rtol=1e-4)
    best = found.best["sgd"]
    assert cell.tuned.settings["learning_rate"] == best
    fresh = race(("sgd", best), "breast_cancer", steps=20, seeds=3).results["breast_cancer"]
    np.testing.assert_allclose(cell.tuned.loss, fresh.runs["sgd"].curves["loss"], rtol=1e-3)
    accuracy = fresh.runs["sgd"].curves["accuracy"][:, -1]
    np.testing.assert_allclose(cell.tuned.held_out, accuracy, atol=0.01)
    untuned = race(("sgd", 1e-3), "breast_cancer", steps=20, seeds=3).results["breast_cancer"]
    np.testing.assert_allclose(cell.untuned.loss, untuned.runs["sgd"].curves["loss"], rtol=1e-3)


def test_the_target_is_the_tuned_references_loss_after_three_quarters_of_its_steps(small):
    found = sweep("adamw", "breast_cancer", over=SPACE, trials=4, steps=20, seeds=2)
    curves = found.runs["adamw"][found.winners["adamw"]].curves["loss"]
    lowest = curves[:, small.results.fields["breast_cancer"].steps <= 15].min(1)
    assert small.results.fields["breast_cancer"].target == pytest.approx(np.median(lowest))


def test_a_stored_comparison_is_the_same_again(small, tmp_path, shown):
    small.save(tmp_path)
    again = load(tmp_path)
    assert shown(again.table()) == shown(small.table())
    assert again.record() == json.loads(json.dumps(small.record()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "losses.png", "rates.png", "results.json", "speed.png",
    ]  # fmt: skip


def test_a_method_added_later_is_compared_at_equal_terms(small, tmp_path):
    first = compare("sgd", "breast_cancer", **OPTIONS)
    first.save(tmp_path)
    both = compare({"lion": optax.lion, "sgd": "sgd"}, add_to=load(tmp_path))
    assert both.results.methods == ["adamw", "sgd", "lion"]
    for name in ("sgd", "lion"):
        one, other = (x.results.cells[name]["breast_cancer"] for x in (small, both))
        np.testing.assert_allclose(one.tuned.loss, other.tuned.loss, rtol=1e-6)
        assert one.trials == other.trials
    assert both.results.fields["breast_cancer"].target == (
        small.results.fields["breast_cancer"].target
    )


def test_the_figures_show_what_was_found(small):
    figures = small.figures()
    results = small.results
    bars, profiles = figures["speed"].axes
    assert [text.get_text() for text in bars.get_yticklabels()] == results.methods
    values = [line.get_xdata()[0] for line in bars.lines if line.get_marker() == "o"]
    assert values == [results.speed[method].value for method in results.methods]
    lines = {line.get_label(): line for line in profiles.lines}
    for method in results.methods:
        shares = results.profile(method, lines[method].get_xdata())
        np.testing.assert_array_equal(lines[method].get_ydata(), shares)
    (rates,) = figures["rates"].axes
    dots = {line.get_color(): line for line in rates.lines if line.get_marker() == "o"}
    best = {m: results.cells[m]["breast_cancer"].tuned.settings for m in results.methods}
    assert sorted(line.get_xdata()[0] for line in dots.values()) == sorted(
        settings["learning_rate"] for settings in best.values()
    )
    (losses,) = figures["losses"].axes
    target = results.fields["breast_cancer"].target
    assert [line.get_ydata()[0] for line in losses.lines if line.get_linestyle() == ":"][-1] == (
        target
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": []}, "no method to compare"),
        ({"methods": "adam=0.1"}, "a comparison tunes rates itself: give adam as a name or a "
         "factory, without a rate"),
        ({"methods": {"mine": optax.sgd(0.1)}}, "a comparison tunes rates itself: give mine as a "
         "name or a factory, without a rate"),
        ({"spaces": {"lion": {"b1": Span(0.1, 0.9)}}},
         "a space is given for lion, which is not compared"),
        ({"spaces": {"sgd": {"b1": Span(0.1, 0.9)}}},
         "sgd: there is no argument b1; there is learning_rate"),
        ({"methods": "muon", "problems": "quadratic"}, None),
        ({"trials": 0}, "trials must be a whole number of at least 1, got 0"),
    ],
)  # fmt: skip
def test_impossible_comparisons_are_refused(arguments, sentence):
    with pytest.raises(RequestError) as refusal:
        compare(**{"methods": "sgd", "problems": "breast_cancer", **arguments})
    assert str(refusal.value) == sentence or (
        sentence is None and str(refusal.value).startswith("muon is a method of matrices")
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": "lion", "problems": "digits"},
         "a stored comparison has its own problems and numbers of steps: leave them out"),
        ({"methods": "lion", "quick": True},
         "a stored comparison has its own problems and numbers of steps: leave them out"),
        ({"methods": "sgd"}, "the stored comparison has these methods already"),
    ],
)  # fmt: skip
def test_impossible_additions_are_refused(small, arguments, sentence):
    with pytest.raises(RequestError) as refusal:
        compare(**arguments, add_to=small)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "{0}/results.json is damaged: it is no JSON"),
        ("[]", "{0}/results.json is damaged: it is no record of results"),
        ("{}", "{0} holds no comparison, as gdfx compare writes it"),
        ('{"kind": "comparison", "format": 2}', "{0} was written by a newer gdfx"),
        ('{"kind": "comparison", "format": 1}',
         "{0} is damaged: it holds a comparison, but not all of it"),
        (None, "cannot read {0}/results.json: No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_no_stored_comparison_is_refused(tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(RequestError) as refusal:
        load(tmp_path)
    assert str(refusal.value) == sentence.format(tmp_path)


def test_a_record_is_json_and_back(small):
    text = json.dumps(comparison.to_json(small.results), allow_nan=False)
    again = comparison.from_json(json.loads(text), "here")
    assert json.dumps(comparison.to_json(again), allow_nan=False) == text
