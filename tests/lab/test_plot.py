"""What the figures show."""

import io
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.image import imread
from matplotlib.text import Text

from gdfx.lab import race, sweep
from gdfx.lab.plot import curves, png, spread, strokes
from gdfx.lab.problems import VALLEY
from gdfx.lab.resolve import hyperparameters


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.fixture(scope="module")
def valley_figure(valley_race):
    figure = valley_race.figures()["valley"]
    png(figure)  # lays it out
    return figure


@pytest.fixture(scope="module")
def mnist_figure(mnist_race):
    figure = mnist_race.figures()["mnist"]
    png(figure)
    return figure


@pytest.fixture(scope="module")
def five_seeds(mnist_race):
    """The heat with made-up numbers of five seeds."""
    heat, rng = mnist_race.heats["mnist"], np.random.default_rng(0)
    made_up = {"loss": rng.uniform(0.1, 2, (5, 4)), "accuracy": rng.uniform(0.1, 0.9, (5, 4))}
    runs = tuple(replace(one, curves=made_up) for one in heat.runs)
    return replace(heat, seeds=tuple(range(5)), runs=runs)


@pytest.fixture(scope="module")
def diverged():
    """SGD beyond its largest stable rate, 1: y grows by 1.6 a step."""
    return race(["sgd=1.3", "adam"], ["valley"], steps=20)


def test_a_panel_for_each_method_on_shared_axes_and_one_for_the_loss(valley_race, valley_figure):
    *panels, loss = valley_figure.axes
    labels = valley_race.heats["valley"].labels
    assert [ax.get_title("left") for ax in panels] == list(labels)
    for ax in panels:
        assert ax.get_shared_x_axes().joined(ax, panels[0])
        assert ax.get_shared_y_axes().joined(ax, panels[0])
        assert (ax.get_xlim(), ax.get_ylim()) == (panels[0].get_xlim(), panels[0].get_ylim())
    assert loss.get_yscale() == "log"
    assert len(loss.lines) == len(labels)


def test_a_path_has_a_dot_for_each_step_and_start_minimum_and_end(valley_race, valley_figure):
    for ax, one in zip(valley_figure.axes, valley_race.heats["valley"].runs, strict=False):
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
    rates = MappingProxyType({"sgd": 0.1})
    rates_note = "Default rates: guessed."
    loss_name = "height"
    minimum = (1.0, -2.0)
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
    (one,) = found.heats["bowl"].runs
    figure = found.figures()["bowl"]
    png(figure)
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
        for heat in race_.heats.values():
            for one in heat.runs:
                assert hyperparameters(one.entry.hyperparameters) in printed


def test_the_loss_lines_are_the_losses(valley_race, valley_figure):
    runs = valley_race.heats["valley"].runs
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
        for line, band, lines, one in zip(ax.lines, bands, hairlines, five_seeds.runs, strict=True):
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


def test_each_curve_is_named_at_its_end_with_its_last_value(mnist_race, mnist_figure):
    losses, accuracies = ([t.get_text() for t in ax.texts] for ax in mnist_figure.axes)
    heat = mnist_race.heats["mnist"]
    for label, one in zip(heat.labels, heat.runs, strict=True):
        assert f"{label}  {np.median(one.final_loss):.3g}" in losses
        assert f"{label}  {100 * np.median(one.curves['accuracy'][:, -1]):.1f} %" in accuracies


def test_no_two_texts_of_a_figure_overlap_and_none_is_cut(valley_figure, mnist_figure):
    for figure in (valley_figure, mnist_figure):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        shown = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
        ticks = {t for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for t in labels(axis)}
        shown = [text for text in shown if text not in ticks]
        boxes = [text.get_window_extent() for text in shown]
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
    path = diverged.heats["valley"].runs[0].curves
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
    heat = mnist_race.heats["mnist"]
    lost = heat.runs[0].curves | {"loss": np.array([[2.3, 1, np.nan, np.nan]] * 3)}
    figure = curves(replace(heat, runs=(replace(heat.runs[0], curves=lost), heat.runs[1])))
    assert "sgd  off this chart from step 4" in texts(figure)
    png(figure)


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
    image = imread(io.BytesIO(png(valley_race.figures()["valley"])))
    assert image.shape[1] == 1600


def test_the_sweeps_figure_marks_the_best_rates():
    found = sweep(["sgd", "adam"], VALLEY, rates=(0.01, 0.1, 1.0, 100.0), steps=12)
    (ax,) = found.figure().axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert [dot[0] for dot in dots] == list(found.best.values())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["sgd", "adam"]
    assert found.note in "".join(texts(ax.figure))
