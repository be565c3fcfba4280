"""The race as a function: its numbers, its tables, its JSON."""

import io
import json
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

import gdfx
from gdfx.lab import PROBLEMS, RequestError, race, report, sweep
from gdfx.lab.problems import VALLEY
from gdfx.lab.race import Race
from gdfx.lab.report import results
from gdfx.lab.resolve import Entry, enter, hyperparameters
from gdfx.lab.run import prepare, run
from gdfx.lab.sweep import TUNING_SEED, Sweep


def shown(renderable, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def sgd(w, g, t, memory):
    return w - 0.95 * g


def momentum(w, g, t, memory):
    memory["v"] = 0.9 * memory.get("v", 0) - 0.1 * g
    return w + memory["v"]


def adagrad(w, g, t, memory):
    memory["h"] = memory.get("h", 0) + g * g
    return w - 1.5 * g / np.sqrt(memory["h"] + 1e-7)


def adam(w, g, t, memory):
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g * g
    correction = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return w - 0.3 / np.sqrt(memory["v"] + 1e-8) * correction * memory["m"]


TRANSCRIBED = {
    "textbook.sgd": (sgd, (-0.350393, 0.084782)),
    "textbook.momentum": (momentum, (0.896414, 0.088086)),
    "textbook.adagrad": (adagrad, (-0.120162, 0.0)),
    "textbook.adam": (adam, (0.136006, 0.318245)),
}


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_the_paths_on_the_valley_are_the_textbooks(valley_race, name):
    step, end = TRANSCRIBED[name]
    w, memory, path = np.array([-7.0, 2.0]), {}, [(-7.0, 2.0)]
    for t in range(1, 31):
        w = step(w, np.array([w[0] / 10, 2 * w[1]]), t, memory)
        path.append(w)
    np.testing.assert_allclose(path[-1], end, atol=1e-6)
    heat = valley_race.heats["valley"]
    curves = heat.runs[heat.labels.index(name)].curves
    # Single precision over thirty steps; the values are of order one.
    got = np.stack([curves["x"][0], curves["y"][0]], 1)
    np.testing.assert_allclose(got, path, atol=2e-5)
    np.testing.assert_allclose(curves["loss"][0], got[:, 0] ** 2 / 20 + got[:, 1] ** 2, rtol=1e-5)


def test_the_curves_of_each_seed_begin_at_the_start_and_end_at_the_last_step(mnist_race):
    heat = mnist_race.heats["mnist"]
    assert heat.seeds == (11, 12, 13)
    for one in heat.runs:
        np.testing.assert_array_equal(one.steps, [0, 2, 4, 5])
        assert {name: c.shape for name, c in one.curves.items()} == dict.fromkeys(
            ("loss", "accuracy"), (3, 4)
        )
        assert np.isfinite(one.curves["loss"]).all()
        assert ((one.curves["accuracy"] >= 0) & (one.curves["accuracy"] <= 1)).all()


def test_all_methods_start_at_the_same_loss_seed_by_seed(mnist_race):
    first, second = (one.curves["loss"][:, 0] for one in mnist_race.heats["mnist"].runs)
    np.testing.assert_array_equal(first, second)
    assert len(set(first)) == 3


def test_a_run_is_the_plain_loop_over_the_problems_batches(tiny, mnist_race):
    seed, data = 12, tiny.data()
    params, tx = tiny.start(seed), optax.adam(tiny.rates["adam"])
    state, grad = tx.init(params), jax.jit(jax.grad(tiny.loss))
    for batch in tiny.batches(seed, 5):
        updates, state = tx.update(grad(params, data, batch), state)
        params = optax.apply_updates(params, updates)
    heat = mnist_race.heats["mnist"]
    adams = heat.runs[heat.labels.index("adam")]
    assert adams.final_loss[1] == pytest.approx(float(tiny.measure(params, data)["loss"]), rel=1e-4)


def test_the_same_seed_gives_the_same_numbers_alone_or_among_others(tiny, mnist_race):
    again = race(["adam"], [tiny], steps=5, seeds=3, seed=11).heats["mnist"].runs[0]
    before = mnist_race.heats["mnist"].runs[1]
    for name, curve in before.curves.items():
        np.testing.assert_array_equal(again.curves[name], curve)


def test_the_optimizer_is_given_parameters_and_loss():
    def greedy(learning_rate):
        def update(updates, state, params, *, value, **extra):
            return jax.tree.map(lambda p: -learning_rate * value * p, params), value

        return optax.GradientTransformationExtraArgs(lambda params: np.float32(0), update)

    entry = Entry("greedy", greedy(0.5), {"learning_rate": 0.5}, None)
    one = run(prepare(VALLEY, 1, [0]), entry)
    assert one.curves["x"][0, 1] == pytest.approx(-7 + 7 * 0.5 * 6.45)


def test_state_bytes_are_those_of_the_state(mnist_race, tiny):
    states = {"sgd": 0, "adam": 2 * 4}
    n = sum(p.size for p in jax.tree.leaves(tiny.start(0)))
    for one in mnist_race.heats["mnist"].runs:
        count = 4 if states[one.entry.name] else 0
        assert one.state_bytes == pytest.approx(states[one.entry.name] + count / n, rel=1e-9)


def with_curves(heat, **curves):
    """The heat's first run, with other numbers."""
    changed = {name: np.array(curve, float) for name, curve in curves.items()}
    return replace(heat, runs=(replace(heat.runs[0], curves=heat.runs[0].curves | changed),))


def test_steps_to_the_target_are_the_first_at_or_below_it(mnist_race):
    loss = [[3, 0.1, 2, 0.05], [3, 2, 2, 2], [3, 2, np.nan, 0.01]]
    one = with_curves(mnist_race.heats["mnist"], loss=loss).runs[0]
    np.testing.assert_array_equal(one.steps_to(0.1), [2, np.inf, 5])


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ([[3, 2, 2, 0.01], [3, 2, 2, 0.05], [3, 2, 2, 0.02]], ("0.02", "0.01 … 0.05", " 5 ")),
        ([[3, 2, 2, 0.09], [3, 2, 2, 0.5], [3, 2, 2, 0.4]], ("0.09 … 0.5", "reached")),
        ([[3, 2, 2, 0.02], [3, 2, 2, np.nan], [3, 2, 2, 1]], ("0.02 … diverged", "reached")),
        ([[3, 2, 2, np.inf]] * 3, (" diverged", "diverged … diverged", "reached")),
    ],
)
def test_the_table_tells_medians_ranges_and_misses(mnist_race, loss, words):
    text = shown(Race({"mnist": with_curves(mnist_race.heats["mnist"], loss=loss)}).table(), 120)
    for word in words:
        assert word in text


def test_the_tables_fit_80_columns_and_hold_every_column(mnist_race, valley_race):
    text = shown(mnist_race.table())
    assert max(map(len, text.splitlines())) <= 80
    for whole in ("method", "settings", "final loss"):
        assert whole in text
        assert whole in shown(valley_race.table())
    for word in ("5 steps, 3 seeds", "steps to", "accuracy, %", "seconds", "η=", "β₂=0.999", "8.0"):
        assert word in text
    assert PROBLEMS["mnist"].rates_note in " ".join(text.split())
    assert "accuracy" not in shown(valley_race.table())


def test_the_json_holds_the_raw_curves_and_what_made_them(mnist_race, valley_race):
    found = json.loads(json.dumps(results(mnist_race.heats.values()), allow_nan=False))
    assert found["versions"]["gdfx"] == gdfx.__version__
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["optax"] == optax.__version__
    mnist = found["problems"]["mnist"]
    assert (mnist["seeds"], mnist["steps"]) == ([11, 12, 13], 5)
    assert mnist["rates_note"] == PROBLEMS["mnist"].rates_note
    for label, one in zip(mnist_race.heats["mnist"].labels, mnist["methods"], strict=True):
        assert label == one
    one = mnist["methods"]["adam"]
    assert one["hyperparameters"] == mnist_race.heats["mnist"].runs[1].entry.hyperparameters
    assert one["steps"] == [0, 2, 4, 5]
    np.testing.assert_array_equal(
        one["curves"]["loss"], mnist_race.heats["mnist"].runs[1].curves["loss"]
    )


def test_what_is_not_finite_is_null_in_the_json(mnist_race):
    heat = with_curves(mnist_race.heats["mnist"], loss=[[3, np.nan, np.inf, -np.inf]] * 3)
    found = json.loads(json.dumps(results([heat]), allow_nan=False))
    assert found["problems"]["mnist"]["methods"]["sgd"]["curves"]["loss"][0] == [
        3,
        None,
        None,
        None,
    ]


def test_hyperparameters_are_the_factorys_defaults_without_what_is_off():
    adam = enter("adam=0.25", VALLEY).hyperparameters
    assert adam == {"learning_rate": 0.25, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    assert hyperparameters(adam) == "η=0.25, β₁=0.9, β₂=0.999, ε=1e-8"
    lion = enter("optax:lion=1e-4", VALLEY).hyperparameters
    assert hyperparameters(lion) == "η=0.0001, β₁=0.9, β₂=0.99, λ=0.001"


@pytest.mark.parametrize("name", [n for n, m in gdfx.METHODS.items() if m.form])
def test_a_form_races_at_the_rate_of_its_method(name):
    for problem in PROBLEMS.values():
        assert enter(name, problem).rate == problem.rates[gdfx.METHODS[name].form]


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("name", gdfx.METHODS)
def test_every_method_of_the_catalog_has_a_rate_on_every_problem(name, problem):
    enter(name, problem)


def test_a_problem_of_ones_own():
    mine = replace(VALLEY, name="mine", origin=(1.0, 1.0))
    one = race(["sgd"], [mine], steps=2).heats["mine"].runs[0]
    assert one.curves["x"][0, 0] == 1


@pytest.mark.parametrize("name", ["lbfgs", "contrib.prodigy", "polyak_sgd"])
def test_optimizers_that_read_the_loss_or_its_function_run(name):
    one = race([f"optax:{name}=0.5"], ["valley"], steps=3).heats["valley"].runs[0]
    assert np.isfinite(one.final_loss).all()


def test_the_best_rate_is_the_one_whose_worst_seed_ends_lowest():
    losses = np.array([[0.3, 0.3, 0.3], [0.1, 0.1, 0.9], [0.0, 0.0, np.nan]])
    found = Sweep(PROBLEMS["mnist"], 1, (0, 1, 2), (0.1, 0.2, 0.3), {"sgd": losses})
    assert found.best == {"sgd": 0.1}


def test_a_sweep_takes_other_seeds_than_a_race():
    found = sweep(["sgd", "textbook.adam"], "valley", rates=(0.1, 0.5, 5.0), steps=12)
    assert found.seeds[0] == TUNING_SEED
    losses = found.losses["sgd"]
    assert losses.shape == (3, 1)
    assert found.best["sgd"] == 0.5
    for i, rate in enumerate(found.rates):
        alone = race([f"sgd={rate}"], ["valley"], steps=12).heats["valley"].runs[0]
        np.testing.assert_array_equal(losses[i], alone.final_loss)
    text = shown(found.table())
    assert "textbook.adam" in text
    assert "seeds" not in text  # there is one


def test_a_sweep_is_saved_whole(tmp_path):
    found = sweep(["sgd"], "valley", rates=(0.1, 1e6), steps=12)
    written = found.save(tmp_path / "new")
    assert [path.name for path in written] == ["sweep-valley.png", "sweep-valley.json"]
    record = json.loads(written[1].read_text())
    assert record["best"] == {"sgd": 0.1}
    assert record["final_loss"]["sgd"][1] == [None]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"methods": []}, "no method to race"),
        ({"problems": []}, "no problem to race on"),
    ],
)
def test_impossible_races_are_refused(arguments, sentence):
    with pytest.raises(RequestError, match=f"^{sentence}$"):
        race(**{"problems": ["valley"], **arguments})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": []}, "no method to sweep"),
        ({"rates": []}, "no learning rate to try"),
        ({"methods": "adam=0.1"}, "adam=0.1: a sweep tries rates itself; write adam"),
    ],
)
def test_impossible_sweeps_are_refused(arguments, sentence):
    with pytest.raises(RequestError, match=f"^{sentence}$"):
        sweep(**{"problem": "valley", **arguments})


def test_rates_of_ones_own_are_not_called_the_problems():
    note = PROBLEMS["valley"].rates_note
    for methods, expected in ((["sgd=0.5", "textbook.adam"], note), (["sgd=0.3"], "")):
        heat = race(methods, "valley", steps=2).heats["valley"]
        assert heat.rates_note == expected
        assert (note in " ".join(shown(report.table(heat)).split())) is bool(expected)


def test_a_method_and_a_problem_can_be_named_alone():
    for problem in ("valley", PROBLEMS["valley"]):
        assert race("sgd", problem, steps=2).heats["valley"].names == ("sgd",)
    assert list(sweep("sgd", "valley", rates=[0.1], steps=2).losses) == ["sgd"]


def test_runs_at_near_rates_have_names_of_their_own():
    heat = race(["sgd=0.12345678", "sgd=0.12345679"], "valley", steps=2).heats["valley"]
    assert heat.labels == ("sgd=0.12345678", "sgd=0.12345679")
