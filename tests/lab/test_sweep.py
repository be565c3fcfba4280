"""The sweep: its numbers, the best rate, its table and its record."""

import json
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from gdfx.lab import RequestError, Span, race, sweep
from gdfx.lab.compilations import counted_compilations
from gdfx.lab.problems import PROBLEMS, VALLEY
from gdfx.lab.resolve import Rate, contenders, enter
from gdfx.lab.run import prepare
from gdfx.lab.space import parse, trials
from gdfx.lab.sweep import TUNING_SEED
from gdfx.lab.trials import _chunk


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
        trials = tuple({"learning_rate": 0.1 * (i + 1)} for i in range(len(rows)))
        runs = {
            name: tuple(
                replace(run, entry=replace(run.entry, rate=Rate(trial["learning_rate"], "given")))
                for run, trial in zip(some, trials, strict=True)
            )
            for name, some in runs.items()
        }
        return replace(made, seeds=tuple(range(len(rows[0]))), trials=trials, runs=runs)

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
    assert found.values("learning_rate").tolist() == [0.1, 0.5, 5.0]
    losses = found.losses["sgd"]
    assert losses.shape == (3, 1)
    assert found.best["sgd"] == 0.5
    assert found.runs["sgd"][1].entry.rate == Rate(0.5, "given")
    for i, rate in enumerate(found.values("learning_rate")):
        alone = race([f"sgd={rate}"], ["valley"], steps=12).results["valley"].runs["sgd"]
        # The same steps, compiled otherwise.
        np.testing.assert_allclose(losses[i], alone.final_loss, rtol=1e-5)
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
    assert record["trials"] == [{"learning_rate": rate} for rate in (0.01, 0.1, 0.3, 100)]
    assert [run[0][-1] for run in record["loss"]["lost"]] == [None] * 4
    written = with_failures.save(tmp_path / "new")
    assert [path.name for path in written] == ["sweep-valley.png", "results.json"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": []}, "no method to sweep"),
        ({"rates": []}, "no learning rate to try"),
        (
            {"over": {"b1": [0.5]}, "methods": "sgd"},
            "sgd: there is no argument b1; there is learning_rate",
        ),
        (
            {"over": {"b1": [1.5]}, "methods": "adam"},
            "adam(0.3, b1=1.5) raises ValueError: adam: b1 must be a number in [0, 1), got 1.5",
        ),
        (
            {"rates": [0.1], "over": {"b1": Span(0.1, 0.9)}},
            "a sweep has values for all hyperparameters, or ranges for all",
        ),
        (
            {"rates": [0.1], "trials": 3},
            "a number of trials is for ranges; of values all are tried",
        ),
        ({"rates": [0.1], "over": {"learning_rate": [0.1]}}, "the learning rates are given twice"),
        (
            {"rates": Span(0.1, 1), "trials": 0},
            "trials must be a whole number of at least 1, got 0",
        ),
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


def test_the_runs_are_those_of_a_plain_loop():
    tiny = PROBLEMS["breast_cancer"]
    found = sweep("adam", tiny, over={"learning_rate": [1e-3, 1e-2], "b1": [0.5, 0.9]}, steps=3,
                  seeds=2, seed=11)  # fmt: skip
    assert found.notes == {}
    assert found.trials == tuple(
        {"learning_rate": rate, "b1": b1} for rate in (1e-3, 1e-2) for b1 in (0.5, 0.9)
    )
    data, gradient = tiny.data(), jax.jit(jax.grad(tiny.loss))
    for trial, run in zip(found.trials, found.runs["adam"], strict=True):
        tx = optax.adam(**trial)
        for i, seed in enumerate((11, 12)):
            params = tiny.start(seed)
            state = tx.init(params)
            for batch in tiny.batches(seed, 3):
                updates, state = tx.update(gradient(params, data, batch), state)
                params = optax.apply_updates(params, updates)
            end = tiny.measure(params, data)
            assert run.final_loss[i] == pytest.approx(float(end["loss"]), rel=1e-4)
        assert run.entry.settings.startswith(f"η={trial['learning_rate']} (given)")
        assert run.entry.hyperparameters["b1"] == trial["b1"]


def test_one_program_is_compiled_however_many_trials_and_chunks(monkeypatch):
    monkeypatch.setattr("gdfx.lab.trials.MOST", 16)
    sweep("adam", VALLEY, rates=[0.1], steps=4)  # what JAX itself compiles once
    counts = []
    for rates in ([0.1, 0.2], np.linspace(0.1, 0.9, 40)):
        with counted_compilations() as count:
            sweep("adam", VALLEY, rates=rates, steps=4)
        counts.append(count())
    assert counts == [3, 3]  # the measurement at the start, the states, the steps


def test_what_cannot_be_traced_is_compiled_for_each_trial_and_the_table_says_so(
    with_failures, shown
):
    assert list(with_failures.notes) == ["late"]
    note = with_failures.notes["late"]
    assert note.startswith("late cannot be traced with its settings (TracerBoolConversionError: ")
    assert note.endswith("), so each was compiled by itself")
    assert note in " ".join(shown(with_failures.table()).split())


def test_ranges_are_sampled_evenly_on_their_axes():
    spans = {"learning_rate": Span(1e-4, 1), "b1": Span(0.5, 0.9, log=False)}
    tried = trials(spans, 32)
    assert tried == trials(spans, 32)
    assert tried[:8] == trials(spans, 8)
    share = np.log10([trial["learning_rate"] for trial in tried]) / 4 + 1
    linear = (np.array([trial["b1"] for trial in tried]) - 0.5) / 0.4
    for shares in (share, linear):  # as many in each eighth
        np.testing.assert_array_equal(np.histogram(shares, 8, (0, 1))[0], 4)
    # And in each of 4 × 4 squares two, which no grid and no chance would do.
    assert (np.histogram2d(share, linear, 4, ((0, 1), (0, 1)))[0] == 2).all()


def test_a_space_is_read_from_texts():
    assert parse(["learning_rate=0.1,1", "b1=0.5:0.9:linear", "eps=1e-9:1"]) == {
        "learning_rate": [0.1, 1],
        "b1": Span(0.5, 0.9, log=False),
        "eps": Span(1e-9, 1),
    }


def test_several_hyperparameters_have_a_panel_and_a_column_each(shown):
    over = {"learning_rate": Span(0.1, 10), "b1": Span(0.5, 0.95, log=False)}
    found = sweep(["adam", "lion"], VALLEY, over=over, trials=6, steps=9)  # of one colour
    figure = found.figures()["sweep-valley"]
    names = [(ax.get_xlabel(), ax.get_xscale()) for ax in figure.axes]
    assert names == [("learning rate η", "log"), ("b1 β₁", "linear")]
    for ax, name in zip(figure.axes, over, strict=True):
        dots = [line for line in ax.lines if line.get_markersize() == 4]
        assert len({line.get_marker() for line in dots}) == 2
        for line, losses in zip(dots, found.losses.values(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), found.values(name))
            np.testing.assert_allclose(line.get_ydata(), losses[:, 0])
        best = [line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 9]
        assert best == [trial[name] for trial in found.best_trials.values()]
    (head,) = (line for line in shown(found.table()).splitlines() if "adam" in line.split())
    assert head.split() == ["learning", "rate", "b1", "adam", "lion"]


def stopped_after(trials):
    """A progress display that ends the sweep once so many trials are done."""

    def progress(problem, label, step, steps, loss):
        if step > trials * 3:
            raise KeyboardInterrupt

    return progress


def test_a_sweep_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("gdfx.lab.trials.MOST", 8)
    arguments = {"methods": ["sgd", "adam"], "problem": VALLEY, "steps": 3}
    arguments |= {"rates": np.linspace(0.1, 0.9, 20).round(3), "keep": tmp_path}
    whole = sweep(**arguments | {"keep": None})
    with pytest.raises(KeyboardInterrupt):
        sweep(**arguments, progress=stopped_after(8))
    kept = tmp_path / "unfinished.jsonl"
    assert len(kept.read_text().splitlines()) == 1 + 8
    # Killed while it wrote: half a line.
    kept.write_text(kept.read_text() + '["sgd/8", {"curv')
    steps = []
    found = sweep(**arguments, progress=lambda *told: steps.append(told[2]))
    assert steps[0] == 8 * 3
    for label, losses in whole.losses.items():
        np.testing.assert_array_equal(found.losses[label], losses)
    monkeypatch.setattr("gdfx.lab.trials._program", None)  # nothing is left to run
    again = sweep(**arguments)
    np.testing.assert_array_equal(again.losses["adam"], whole.losses["adam"])
    again.save(tmp_path)
    assert not kept.exists()


KEPT = "move it, choose another folder, or begin anew with --force (in Python: force=True)"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('"steps": 3', '"steps": 4'),
         "is of another run: its steps is another"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "was written by a newer gdfx"),
        (lambda text: "mine\n", "is no file of finished runs, or is damaged"),
        (lambda text: text.replace('["sgd/0"', '["sgd/0'),
         "is no file of finished runs, or is damaged"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_this_sweeps_is_left_as_it_is(tmp_path, change, sentence):
    def run(**more):
        return sweep("sgd", VALLEY, rates=[0.1], steps=3, keep=tmp_path, **more)

    run()
    kept = tmp_path / "unfinished.jsonl"
    kept.write_text(change(kept.read_text()))
    before = kept.read_text()
    with pytest.raises(RequestError) as refusal:
        run()
    assert str(refusal.value) == f"{kept} {sentence}; {KEPT}"
    assert kept.read_text() == before
    assert run(force=True).best == {"sgd": 0.1}


def test_chunks_fit_the_memory_and_the_devices(tiny):
    start = prepare(tiny, 2, range(5))
    (entry,) = enter(contenders("adam=0.1"), tiny)
    devices = len(jax.devices())
    sizes = [_chunk(start, entry, 100, memory) for memory in (1, 2**30, 2**40)]
    assert sizes[0] == devices
    assert sizes[0] <= sizes[1] <= sizes[2]
    assert sizes[2] >= 25
    assert all(size % devices == 0 for size in sizes)


def test_methods_and_a_problem_of_ones_own():
    found = sweep({"mine": optax.lion, "sgd": "sgd"}, VALLEY, rates=[0.1], steps=2)
    assert list(found.losses) == ["mine", "sgd"]
    assert found.runs["mine"][0].entry.name == "optax:lion"
