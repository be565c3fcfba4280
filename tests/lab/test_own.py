"""Problems of one's own, from a loss and a start: what they do, what they refuse."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdfx.lab import RequestError, problem, race
from gdfx.lab.protocol import has_surface

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X @ np.array([1, 2, 3], np.float32)


def bowl(w):
    """A bowl.

    Round.
    """
    return (w**2).sum()


def error(params, batch):
    x, y = batch
    return ((x @ params["w"] + params["b"] - y) ** 2).mean()


START = {"w": jnp.zeros(3), "b": 0.5}


def line(**arguments):
    return problem(error, START, data=(X, Y), **arguments)


def run(made, steps=5):
    found = race({"sgd": optax.sgd(0.1)}, made, steps=steps, seeds=2, seed=4)
    return found.results[made.name].runs["sgd"]


def test_a_loss_and_a_start_are_enough():
    made = problem(bowl, [1.0, 2, 3])
    assert (made.name, made.title, made.steps, made.every) == ("bowl", "A bowl", 100, 1)
    assert (made.target, made.seeded, dict(made.rates.by_method)) == (None, False, {})
    np.testing.assert_array_equal(made.start(0), np.array([1, 2, 3], np.float32))
    expected = 14 * 0.8 ** (2 * np.arange(6))
    np.testing.assert_allclose(run(made).curves["loss"], [expected], rtol=1e-5)


def test_names_come_from_the_loss_and_long_runs_are_measured_a_hundred_times():
    nameless = problem(lambda w: w.sum(), [1.0], steps=450)
    assert (nameless.name, nameless.title, nameless.every) == ("problem", "problem", 4)
    named = problem(bowl, [1.0], name="mine", title="Mine", every=7)
    assert (named.name, named.title, named.every) == ("mine", "Mine", 7)


def test_without_a_batch_size_each_step_reads_all_the_data():
    made = line()
    assert not made.seeded
    params = {"w": np.zeros(3, np.float32), "b": np.float32(0.5)}
    losses = [error(params, (X, Y))]
    for _ in range(5):
        grads = jax.grad(error)(params, (X, Y))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        losses.append(error(params, (X, Y)))
    np.testing.assert_allclose(run(made).curves["loss"], [losses], rtol=1e-5)


def test_mini_batches_are_rows_of_the_data_in_a_new_order_each_epoch():
    made = line(batch_size=4)
    assert made.seeded
    batches = made.batches(4, 5)
    assert batches.shape == (5, 4)
    for epoch in (batches[:2], batches[2:4]):
        assert len(np.unique(epoch)) == 8
    params = {"w": np.zeros(3, np.float32), "b": np.float32(0.5)}
    for batch in batches:
        grads = jax.grad(error)(params, (X[batch], Y[batch]))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    loss = run(made).curves["loss"]
    np.testing.assert_allclose(loss[0, -1], error(params, (X, Y)), rtol=1e-5)
    assert loss[0, -1] != loss[1, -1]


def test_a_start_may_hang_on_the_seed():
    made = problem(bowl, lambda seed: np.full(3, seed, np.float32))
    assert made.seeded
    np.testing.assert_array_equal(run(made).start_loss, [3 * 16, 3 * 25])


def test_two_numbers_in_any_tree_make_a_map():
    def steep(p):
        return p["a"][0] + 10 * p["b"] ** 2

    made = problem(steep, {"a": [2.0], "b": 3.0})
    assert has_surface(made)
    x, y = np.meshgrid([0.0, 1.0], [2.0, 3.0, 4.0])
    np.testing.assert_allclose(made.surface(x, y), x + 10 * y**2)
    curves = run(made).curves
    np.testing.assert_allclose((curves["x"][0, 0], curves["y"][0, 0]), (2, 3))
    assert not has_surface(problem(bowl, [1.0, 2.0, 3.0]))


def test_a_problem_knows_rates():
    made = problem(bowl, [1.0, 2.0, 3.0], rates={"sgd": 0.25})
    found = race("sgd", made, steps=2).results["bowl"]
    assert found.runs["sgd"].entry.rate.source == "default"
    assert found.rates_note == "Default rates: the problem's own."


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: problem(bowl, []), "a start has parameters, this one has none"),
        (
            lambda: problem(bowl, {"w": np.arange(3)}),
            "a start is a tree of floating point arrays, but start['w'] is an array of dtype int64 "
            "and shape (3,)",
        ),
        (
            lambda: problem(bowl, ["a"]),
            "a start is a tree of floating point arrays, but start[0] is 'a'",
        ),
        (
            lambda: problem(error, START, data=(X, Y[:9])),
            "data is a tree of arrays with a row for each example, equally many in each; got "
            "shapes (10, 3), (9,)",
        ),
        (
            lambda: line(batch_size=11),
            "batch_size must be 1 to 10, the examples, got 11",
        ),
        (lambda: line(batch_size=0), "batch_size must be 1 to 10, the examples, got 0"),
        (
            lambda: problem(bowl, [1.0], batch_size=2),
            "batch_size is how much of the data a step reads; there is no data",
        ),
    ],
)
def test_what_makes_no_problem_is_refused(make, sentence):
    with pytest.raises(RequestError, match=f"^{re.escape(sentence)}$"):
        make()
