"""What the figures show."""

import io
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import optax
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_rgb
from matplotlib.image import imread
from matplotlib.text import Text

from gdfx.lab import Rates, problem, race, sweep
from gdfx.lab.plot import broken, curves, darken, image, spread, strokes
from gdfx.lab.plot import result as picture
from gdfx.lab.problems import VALLEY
from gdfx.lab.resolve import Rate


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.fixture(scope="module")
def valley_figure(valley_race):
    figure = valley_race.figures()["valley"]
    image(figure)  # lays it out
    return figure


@pytest.fixture(scope="module")
def mnist_figure(mnist_race):
    figure = mnist_race.figures()["mnist"]
    image(figure)
    return figure


@pytest.fixture(scope="module")
def five_seeds(mnist_race):
    """The result with made-up numbers of five seeds."""
    result, rng = mnist_race.results["mnist"], np.random.default_rng(0)
    made_up = {"loss": rng.uniform(0.1, 2, (5, 4)), "accuracy": rng.uniform(0.1, 0.9, (5, 4))}
    runs = {name: replace(one, curves=made_up) for name, one in result.runs.items()}
    return replace(result, seeds=tuple(range(5)), runs=runs)


@pytest.fixture(scope="module")
def diverged():
    """SGD beyond its largest stable rate, 1: y grows by 1.6 a step."""
    return race(["sgd=1.3", "adam"], ["valley"], steps=20)


def test_a_panel_for_each_method_on_shared_axes_and_one_for_the_loss(valley_race, valley_figure):
    *panels, loss = valley_figure.axes
    labels = valley_race.results["valley"].runs
    assert [ax.get_title("left") for ax in panels] == list(labels)
    for ax in panels:
        assert ax.get_shared_x_axes().joined(ax, panels[0])
        assert ax.get_shared_y_axes().joined(ax, panels[0])
        assert (ax.get_xlim(), ax.get_ylim()) == (panels[0].get_xlim(), panels[0].get_ylim())
    assert loss.get_yscale() == "log"
    assert len(loss.lines) == len(labels)


def test_a_path_has_a_dot_for_each_step_and_start_minimum_and_end(valley_race, valley_figure):
    runs = valley_race.results["valley"].runs.values()
    for ax, one in zip(valley_figure.axes, runs, strict=False):
        lines = {line.get_label(): line for line in ax.lines}
        path = ax.lines[0]
        assert path.get_marker() == "."
        assert len(path.get_xdata()) == 30 + 1
        np.testing.assert_array_equal(path.get_xdata(), one.curves["x"][0])
        np.testing.assert_array_equal(path.get_ydata(), one.curves["y"][0])
        assert lines["start"].get_xydata().tolist() == [[-7, 2]]
        assert lines["minimum"].get_xydata().tolist() == [[0, 0]]
        np.testing.assert_array_equal(lines["end"].get_xydata()[0], path.get_xydata()[-1])


def test_the_contours_are_evenly_spaced_in_the_logarithm(valley_figure):
    for ax in valley_figure.axes[:-1]:
        (contours,) = ax.collections
        np.testing.assert_array_equal(contours.levels, VALLEY.levels)
    np.testing.assert_allclose(np.diff(np.log10(VALLEY.levels)), 0.5)


class Bowl:
    """A landscape of one's own: steeper along y, with noise, measured at every second step."""

    name = "bowl"
    title = "A bowl with noise"
    steps = 6
    every = 2
    seeded = True
    target = 0.5
    rates = Rates(MappingProxyType({"sgd": 0.1}), note="guessed")
    loss_name = "height"
    minimum = (1.0, -2.0)
    view = None
    matrices = None
    levels = (0.5, 2.0, 4.0)

    def surface(self, x, y):
        return (x - 1) ** 2 + 3 * (y + 2) ** 2

    def data(self):
        return ()

    def start(self, seed):
        return np.array([2.0, -1.0], np.float32)

    def batches(self, seed, steps):
        return np.random.default_rng(seed).normal(0, 0.1, (steps, 2)).astype(np.float32)

    def loss(self, params, data, batch):
        return self.surface(*params) + params @ batch

    def measure(self, params, data):
        x, y = params
        return {"loss": self.surface(x, y), "x": x, "y": y}


def test_a_landscape_of_ones_own_is_drawn_as_one():
    found = race(["sgd"], Bowl(), seeds=2, seed=3)
    one = found.results["bowl"].runs["sgd"]
    figure = found.figures()["bowl"]
    image(figure)
    panel, loss = figure.axes
    (contours,) = panel.collections
    assert contours.levels.tolist() == [0.5, 2, 4]
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        # Lines between the 200 × 200 points at which the height is known.
        np.testing.assert_allclose(Bowl().surface(*path.vertices.T), level, rtol=1e-2)
    path, *_ = panel.lines
    np.testing.assert_array_equal(path.get_xdata(), one.curves["x"][0])
    np.testing.assert_array_equal(path.get_ydata(), one.curves["y"][0])
    marks = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert (marks["start"], marks["minimum"]) == ([[2, -1]], [[1, -2]])
    assert panel.get_xlim()[0] < 1 < 2 < panel.get_xlim()[1]
    assert panel.get_ylim()[0] < -2 < -1 < panel.get_ylim()[1]
    assert loss.get_ylabel() == "height"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-2:] == [
        "a dot every 2 steps of seed 3",
        "contours: 0.5, 2, 4",
    ]


def test_a_path_along_an_axis_has_room_on_both_sides():
    figure = race(["sgd"], replace(VALLEY, origin=(-7.0, 0.0))).figures()["valley"]
    low, high = figure.axes[0].get_ylim()
    assert low < -0.1 < 0.1 < high


def test_the_hyperparameters_are_printed(valley_race, mnist_race, valley_figure, mnist_figure):
    for race_, figure in ((valley_race, valley_figure), (mnist_race, mnist_figure)):
        printed = "\n".join(texts(figure)).replace("\n", " ")
        for result in race_.results.values():
            for one in result.runs.values():
                assert one.entry.settings in printed


def test_the_loss_lines_are_the_losses(valley_race, valley_figure):
    runs = valley_race.results["valley"].runs.values()
    for line, one in zip(valley_figure.axes[-1].lines, runs, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(31))
        np.testing.assert_allclose(line.get_ydata(), one.curves["loss"][0])


def test_lines_are_medians_bands_quartiles_and_hairlines_the_seeds(five_seeds):
    figure = curves(five_seeds)
    loss, accuracy = figure.axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
        bands, hairlines = ax.collections[::2], ax.collections[1::2]
        assert len(ax.lines) == len(bands) == len(hairlines) == len(five_seeds.runs)
        for line, band, lines, one in zip(
            ax.lines, bands, hairlines, five_seeds.runs.values(), strict=True
        ):
            values = one.curves[name]
            np.testing.assert_allclose(line.get_ydata(), np.median(values, axis=0))
            (outline,) = (path.vertices for path in band.get_paths())
            low, high = np.quantile(values, (0.25, 0.75), axis=0)
            for step, a, b in zip(one.steps, low, high, strict=True):
                at = outline[outline[:, 0] == step, 1]
                assert (at.min(), at.max()) == (pytest.approx(a), pytest.approx(b))
            for segment, seed in zip(lines.get_segments(), values, strict=True):
                np.testing.assert_allclose(segment[:, 1], seed)
            assert same_color(band.get_facecolor()[0][:3], line.get_color())
    assert "median of 5 seeds; band: quartiles; hairlines: each seed" in "".join(texts(figure))


def test_each_curve_is_named_at_its_end_with_its_last_value_and_the_worst_seed(
    mnist_race, mnist_figure
):
    losses, accuracies = ([t.get_text() for t in ax.texts] for ax in mnist_figure.axes)
    for label, one in mnist_race.results["mnist"].runs.items():
        loss, accuracy = one.final_loss, 100 * one.curves["accuracy"][:, -1]
        assert f"{label}  {np.median(loss):.3g}\nworst seed {loss.max():.3g}" in losses
        end = f"{label}  {np.median(accuracy):.1f} %\nworst seed {accuracy.min():.1f} %"
        assert end in accuracies


@pytest.mark.parametrize(
    ("final", "end"),
    [
        ([0.1, 0.2, 0.3, 0.4, np.nan], "sgd  0.3\n1 of 5 seeds diverged"),
        ([0.1, 0.2, 0.3, np.nan, np.inf], "sgd  0.3\n2 of 5 seeds diverged"),
        ([0.1, 0.2, 0.3, 0.4, 1e9], "sgd  0.3\nworst seed 1e+09"),
        ([np.nan] * 5, "sgd  off this chart from step 5\nevery seed diverged"),
    ],
)
def test_the_label_tells_of_seeds_that_blew_up(five_seeds, final, end):
    runs = dict(five_seeds.runs)
    loss = runs["sgd"].curves["loss"].copy()
    loss[:, -1] = final
    runs["sgd"] = replace(runs["sgd"], curves=runs["sgd"].curves | {"loss": loss})
    loss_axes, _ = curves(replace(five_seeds, runs=runs)).axes
    assert end in [text.get_text() for text in loss_axes.texts]


def long_names(result):
    """The result with eight methods of names as long as one meets them, at given rates."""
    run = next(iter(result.runs.values()))
    names = [f"a_package.a_module:a_factory_x{i}" for i in range(8)]
    entry = replace(run.entry, rate=Rate(0.0123, "given"), hyperparameters={"b1": 0.9, "b2": 0.99})
    runs = {name: replace(run, entry=replace(entry, label=name)) for name in names}
    return replace(result, runs=runs)


def test_no_two_texts_of_a_figure_overlap_and_none_is_cut(
    valley_race, mnist_race, valley_figure, mnist_figure
):
    results = valley_race.results | mnist_race.results
    names = map(long_names, results.values())
    grid = sweep(["sgd", "adam"], VALLEY, rates=(0.01, 0.1), steps=2)
    for figure in (valley_figure, mnist_figure, *map(picture, names), *grid.figures().values()):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        shown = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
        ticks = {t for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for t in labels(axis)}
        shown = [text for text in shown if text not in ticks]
        boxes = [Text.get_window_extent(text) for text in shown]  # without leaders
        for i, box in enumerate(boxes):
            assert -1 <= box.x0 < box.x1 <= width + 1, shown[i]
            assert -1 <= box.y0 < box.y1 <= height + 1, shown[i]
            smaller = box.shrunk(0.99, 0.8)
            assert not any(smaller.overlaps(other.shrunk(0.99, 0.8)) for other in boxes[:i])


def labels(axis):
    return [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]


def test_divergence_is_drawn_and_named(diverged):
    figure = diverged.figures()["valley"]
    sgd, _, loss = figure.axes
    path = diverged.results["valley"].runs["sgd"].curves
    limit = sgd.get_ylim()[1]
    first = int(np.flatnonzero(np.abs(path["y"][0]) > limit)[0])
    assert f"off this map from step {first}" in [t.get_text() for t in sgd.texts]
    assert len(sgd.lines[0].get_xdata()) == 21
    top = loss.get_ylim()[1]
    gone = int(np.flatnonzero(path["loss"][0] > top)[0])
    assert f"sgd  off this chart from step {gone}" in [t.get_text() for t in loss.texts]
    (mark,) = (line for line in loss.lines if line.get_marker() == "^")
    assert mark.get_xydata().tolist() == [[gone, top]]


def test_a_loss_that_is_not_a_number_counts_as_infinite(mnist_race):
    result = mnist_race.results["mnist"]
    lost = result.runs["sgd"].curves | {"loss": np.array([[2.3, 1, np.nan, np.nan]] * 3)}
    runs = result.runs | {"sgd": replace(result.runs["sgd"], curves=lost)}
    figure = curves(replace(result, runs=runs))
    assert "sgd  off this chart from step 4\nevery seed diverged" in texts(figure)
    image(figure)


def test_negative_losses_are_drawn_on_a_linear_axis():
    found = race(
        {"sgd": 1.0, "up": optax.scale(1e9)}, problem(lambda w: w.sum(), [1.0] * 3), steps=4
    )
    (ax,) = found.figures()["problem"].axes
    assert ax.get_yscale() == "linear"
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 3.0 - 3 * np.arange(5))
    # Twice as far above the start as the lowest loss is below it.
    assert ax.get_ylim()[1] == 3 + 2 * 12


def test_a_loss_of_nought_is_drawn_at_the_lowest_other_loss():
    found = race({"there": optax.scale(-0.5)}, problem(lambda w: (w**2).sum(), [1.0] * 3), steps=2)
    (ax,) = found.figures()["problem"].axes
    assert found.results["problem"].runs["there"].final_loss == 0
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [3, 3, 3])
    assert ax.get_yscale() == "log"
    assert "there  0" in texts(ax.figure)


def banana(w):
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


@pytest.mark.parametrize("minimum", [None, (1, 1)])
def test_a_loss_in_the_plane_gets_a_map_whose_contours_suit_it(minimum):
    made = problem(banana, [-1.5, 2.0], minimum=minimum, steps=20)
    figure = race("adam=0.1", made).figures()["banana"]
    image(figure)
    panel, _ = figure.axes
    (contours,) = panel.collections
    limits = panel.get_xlim(), panel.get_ylim()
    heights = banana(np.meshgrid(*(np.linspace(*limit, 200) for limit in limits)))
    above = contours.levels - heights.min()
    np.testing.assert_allclose(above[1:] / above[:-1], 10**0.5, rtol=1e-3)
    assert above[-1] < heights.max() - heights.min() < 10 * above[-1]
    marks = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert marks["start"] == [[-1.5, 2]]
    assert marks.get("minimum") == (minimum and [[1, 1]])
    assert "contours: heights above the lowest point, a factor of √10 apart" in texts(figure)


def test_a_method_keeps_its_colour_and_no_two_look_alike():
    alone = strokes(["adam"])[0]
    looks = strokes(["sgd", "adam", "textbook.adam", "adam", "optax:lion", "optax:lamb"])
    assert looks[1] == alone
    assert looks[2]["color"] == alone["color"]
    assert len({tuple(look.values()) for look in looks}) == len(looks)
    assert len({looks[i]["color"] for i in (0, 1, 4, 5)}) == 4


@pytest.mark.parametrize(
    ("heights", "places"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.52, 0.5], [0.56, 0.46]),
        ([1.0, 0.99], [1.0, 0.9]),
        ([0.0, 0.0, 0.0], [0.0, 0.1, 0.2]),
        ([0.3], [0.3]),
    ],
)
def test_labels_move_as_little_as_keeps_them_apart(heights, places):
    np.testing.assert_allclose(spread(heights, 0.1), places, atol=1e-12)


def test_a_figure_is_1600_pixels_wide(valley_race):
    found = imread(io.BytesIO(image(valley_race.figures()["valley"])))
    assert found.shape[1] == 1600


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("adam", "adam"),
        ("module:factory", "module:\nfactory"),
        ("a_package.a_module:f", "a_package.a_\nmodule:f"),
        ("averyveryverylongword", "averyveryverylongword"),
    ],
)
def test_long_labels_are_broken_after_a_sign(label, lines):
    assert broken(label, 12) == lines


def always_nan(learning_rate):
    return optax.scale(np.nan)


def nan_at_small_rates(learning_rate):
    return optax.scale(-learning_rate if learning_rate > 0.05 else np.nan)


def test_the_sweeps_figure_shows_every_method_and_marks_the_best_rates():
    methods = {"late": nan_at_small_rates, "adam": "adam", "lost": always_nan}
    found = sweep(methods, VALLEY, rates=(0.01, 0.1, 0.3, 100.0), steps=12)
    figure = found.figures()["sweep-valley"]
    image(figure)
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 9]
    assert dots == [found.best["late"], found.best["adam"]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "late", "adam", "lost\ndiverged at every rate",
    ]  # fmt: skip
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines if line.get_markersize() == 4}
    ceiling = 30 * VALLEY.surface(*VALLEY.origin)
    for label, name in zip(found.losses, drawn, strict=True):
        losses = found.losses[label][:, 0]
        expected = np.where(np.isfinite(losses), np.minimum(losses, ceiling), ceiling)
        np.testing.assert_allclose(drawn[name], expected, rtol=1e-6)
    assert drawn["late"][0] == pytest.approx(ceiling)
    assert "At the upper edge: still higher, or diverged." in "".join(texts(figure))
    start = VALLEY.surface(*VALLEY.origin)
    assert start in [pytest.approx(line.get_ydata()[0]) for line in ax.lines]


def test_the_sweeps_figure_says_where_the_best_rate_is_at_the_edge():
    figure = sweep("sgd", VALLEY, rates=(0.01, 0.1), steps=12).figures()["sweep-valley"]
    words = "".join(texts(figure))
    assert "sgd: best at the highest rate tried; a higher one may be better." in words
    assert "upper edge" not in words


def test_a_dark_figure_has_a_dark_ground_and_bright_words_and_lines(valley_race):
    figure = valley_race.figures()["valley"]
    before = [line.get_color() for line in figure.axes[-1].lines]
    darken(figure)
    assert max(figure.get_facecolor()[:3]) < 0.1
    for ax in figure.axes:
        assert max(ax.get_facecolor()[:3]) < 0.1
    for text in figure.findobj(Text):
        if text.get_text():
            assert max(to_rgb(text.get_color())) > 0.55, text
    for line, colour in zip(figure.axes[-1].lines, before, strict=True):
        assert (np.array(to_rgb(line.get_color())) >= np.array(to_rgb(colour))).all()
        assert not same_color(line.get_color(), colour)
    found = imread(io.BytesIO(image(figure)))
    assert np.median(found[..., :3]) < 0.1


def test_figures_are_saved_as_svg_too(valley_race, tmp_path):
    written = valley_race.save(tmp_path, svg=True)
    assert [path.name for path in written] == ["valley.png", "valley.svg", "results.json"]
    assert b"<svg" in (tmp_path / "valley.svg").read_bytes()[:1000]
