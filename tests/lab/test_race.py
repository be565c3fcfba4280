"""The race as a function: its numbers."""

import jax
import numpy as np
import optax
import pytest

import gdfx
from gdfx.lab import RequestError, landscapes, problem, race
from gdfx.lab.problems import VALLEY


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
    curves = valley_race.results["valley"].runs[name].curves
    # Single precision over thirty steps; the values are of order one.
    got = np.stack([curves["x"][0], curves["y"][0]], 1)
    np.testing.assert_allclose(got, path, atol=2e-5)
    np.testing.assert_allclose(curves["loss"][0], got[:, 0] ** 2 / 20 + got[:, 1] ** 2, rtol=1e-5)


def test_the_curves_of_each_seed_begin_at_the_start_and_end_at_the_last_step(mnist_race):
    result = mnist_race.results["mnist"]
    assert result.seeds == (11, 12, 13)
    for one in result.runs.values():
        np.testing.assert_array_equal(one.steps, [0, 2, 4, 5])
        assert {name: c.shape for name, c in one.curves.items()} == dict.fromkeys(
            ("loss", "test_loss", "accuracy"), (3, 4)
        )
        assert np.isfinite(one.curves["loss"]).all()
        assert ((one.curves["accuracy"] >= 0) & (one.curves["accuracy"] <= 1)).all()


def test_all_methods_start_at_the_same_loss_seed_by_seed(mnist_race):
    first, second = (one.start_loss for one in mnist_race.results["mnist"].runs.values())
    np.testing.assert_array_equal(first, second)
    assert len(set(first)) == 3


def test_a_run_is_the_plain_loop_over_the_problems_batches(tiny, mnist_race):
    seed, data = 12, tiny.data()
    params, tx = tiny.start(seed), optax.adam(tiny.rates.by_method["adam"])
    state, grad = tx.init(params), jax.jit(jax.grad(tiny.loss))
    for batch in tiny.batches(seed, 5):
        updates, state = tx.update(grad(params, data, batch), state)
        params = optax.apply_updates(params, updates)
    adams = mnist_race.results["mnist"].runs["adam"]
    assert adams.final_loss[1] == pytest.approx(float(tiny.measure(params, data)["loss"]), rel=1e-4)


def test_the_same_seed_gives_the_same_numbers_alone_or_among_others(tiny, mnist_race):
    again = race(["adam"], [tiny], steps=5, seeds=3, seed=11).results["mnist"].runs["adam"]
    before = mnist_race.results["mnist"].runs["adam"]
    for name, curve in before.curves.items():
        np.testing.assert_array_equal(again.curves[name], curve)


def test_muon_does_its_own_work_on_matrices_and_another_than_adamw():
    problem = landscapes.matrix(condition=4.0)
    found = race(["muon=0.02", "adamw=0.02"], problem, steps=6).results[problem.name].runs
    tx, w = gdfx.muon(0.02, matrices="2d"), problem.start(0)
    state, losses = tx.init(w), [problem.function(w)]
    for _ in range(6):
        updates, state = tx.update(jax.grad(problem.function)(w), state, w)
        # Every direction alike: the singular values of a step are near one number.
        values = np.linalg.svd(updates, compute_uv=False)
        assert values.max() < 2 * values.min()
        w = w + updates
        losses.append(problem.function(w))
    np.testing.assert_allclose(found["muon"].curves["loss"][0], losses[::2], rtol=1e-4)
    assert abs(found["adamw"].final_loss[0] / losses[-1] - 1) > 0.1


def test_the_optimizer_is_given_parameters_and_loss():
    def greedy(learning_rate):
        def update(updates, state, params, *, value, **extra):
            return jax.tree.map(lambda p: -learning_rate * value * p, params), value

        return optax.GradientTransformationExtraArgs(lambda params: np.float32(0), update)

    one = race({"greedy": greedy(0.5)}, "valley", steps=1).results["valley"].runs["greedy"]
    assert one.curves["x"][0, 1] == pytest.approx(-7 + 7 * 0.5 * 6.45)


def test_state_bytes_are_those_of_the_state(mnist_race, tiny):
    states = {"sgd": 0, "adam": 2 * 4}
    n = sum(p.size for p in jax.tree.leaves(tiny.start(0)))
    for name, one in mnist_race.results["mnist"].runs.items():
        count = 4 if states[name] else 0
        assert one.state_bytes == pytest.approx(states[name] + count / n, rel=1e-9)


def test_what_is_measured_is_what_is_to_be_evaluated():
    methods = {"walk": (gdfx.sgd, 0.5), "mean": (averaged_sgd, 0.5)}
    walk, mean = race(methods, "valley", steps=4).results["valley"].runs.values()
    for axis in "xy":
        steps = walk.curves[axis][0, 1:]
        expected = np.cumsum(steps) / np.arange(1, 5)
        np.testing.assert_allclose(mean.curves[axis][0, 1:], expected, rtol=1e-6)


def averaged_sgd(learning_rate):
    return gdfx.averaged(gdfx.sgd(learning_rate))


@pytest.mark.parametrize("name", ["lbfgs", "contrib.prodigy", "polyak_sgd"])
def test_optimizers_that_read_the_loss_or_its_function_run(name):
    one = race([f"optax:{name}=0.5"], ["valley"], steps=3).results["valley"].runs[f"optax:{name}"]
    assert np.isfinite(one.final_loss).all()


def test_steps_to_the_target_are_the_first_at_or_below_it(made_up):
    one = made_up(loss=[[3, 0.1, 2, 0.05], [3, 2, 2, 2], [3, 2, np.nan, 0.01]]).runs["sgd"]
    np.testing.assert_array_equal(one.steps_to(0.1), [2, np.inf, 5])


def raises(*_):
    raise KeyError("oh")


def scaled(factory):
    """An optimizer that fails while it is traced."""
    return optax.GradientTransformation(lambda params: (), factory)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"methods": []}, "no method to race"),
        ({"problems": []}, "no problem to race on"),
        (
            {"methods": {"mine": scaled(raises)}},
            "mine does not run on valley: KeyError: 'oh'",
        ),
        (
            {"problems": problem(raises, [1.0], name="bad")},
            "the problem bad does not run: KeyError: 'oh'",
        ),
        (
            {"problems": problem(lambda w: w, [1.0, 2.0, 3.0])},
            "problem: the loss must be one real number, got float32 of shape (3,)",
        ),
        (
            {"problems": problem(lambda w: (w > 0).any(), [1.0, 2.0, 3.0], name="bad")},
            "bad: the loss must be one real number, got bool of shape ()",
        ),
        (
            {"problems": problem(lambda w: w.sum() / 0, [1.0], name="bad")},
            "bad: the loss at the start is not finite",
        ),
    ],
)
def test_impossible_races_are_refused(arguments, sentence):
    with pytest.raises(RequestError) as refusal:
        race(**{"methods": "sgd=0.1", "problems": VALLEY, **arguments})
    assert str(refusal.value) == sentence
