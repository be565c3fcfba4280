"""The pages, in a real browser: what is drawn, what controls change, that nothing is loaded.

What is drawn is read back from plotly, which keeps it on the chart's element.
"""

import re
import shutil
import tempfile

import numpy as np
import optax
import pytest
from playwright.sync_api import expect, sync_playwright

from gdfx.lab import page_compare, problem, race
from gdfx.lab.comparison import Cell, Field, Protocol, Results, Runs
from gdfx.lab.explore import rates_around
from gdfx.lab.page_race import FAR
from gdfx.lab.plot import map_of, strokes
from gdfx.lab.problems import MNIST, VALLEY

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, args=FLAGS, color_scheme="light", timeout=120_000
        )
        context.set_default_timeout(120_000)  # a busy machine is slow, not wrong
        yield context
        context.close()


@pytest.fixture
def opened(browser):
    """A page from the disk; in the end, nothing was said in the console nor asked of a network."""
    said, asked = [], []
    tab = browser.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))

    def open_at(path, size=WIDE):
        tab.set_viewport_size(size)
        tab.goto(path.as_uri())
        asked.remove(path.as_uri())
        return tab

    yield open_at
    tab.close()
    assert (said, asked) == ([], [])


def drawn(tab, chart, name):
    """The points of a method's line: x, y."""
    found = tab.evaluate(
        "([chart, name]) => document.getElementById(chart).data.filter((t) => t.name === name)"
        ".map(({x, y}) => [Array.from(x), Array.from(y)])[0] ?? null",
        [chart, name],
    )
    return found and np.array(found, float)


def axis_type(tab, chart):
    return tab.evaluate(f"document.getElementById('{chart}').layout.yaxis.type")


def slider(tab, label):
    return tab.get_by_role("slider", name=label, exact=True)


def tall(w):
    return ((w - 1) ** 2).sum()


@pytest.fixture(scope="module")
def found():
    bowl = problem(tall, [3.0, 4.0, 5.0], name="bowl", steps=3, rates={"sgd": 0.1, "adam": 1.0})
    return race(["sgd", "adam=valley:0.3,bowl:1"], [VALLEY, bowl], steps=6, explore=True)


@pytest.fixture(scope="module")
def race_page(found, tmp_path_factory):
    written = found.save(tmp_path_factory.mktemp("race"), page=True)
    return next(path for path in written if path.name == "race.html")


def test_rates_lie_around_the_methods_own(found):
    valley, bowl = found.results.values()
    rates = [run.entry.rate.value for run in valley.around["sgd"]]
    assert rates == rates_around(0.95, VALLEY)
    assert (rates[0], rates[20], rates[-1], len(rates)) == (0.0095, 0.95, 9.5, 31)
    assert rates_around(1.0, MNIST) == [0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6]
    assert len(bowl.around["adam"]) == 7
    # A run of the sweep is the race's own at its rate.
    for name, curve in valley.runs["adam"].curves.items():
        np.testing.assert_allclose(valley.around["adam"][20].curves[name], curve, rtol=1e-5)


def test_the_slider_changes_the_path_and_the_keyboard_moves_it(opened, race_page, found):
    tab = opened(race_page)
    result = found.results["valley"]

    def path(i):
        curves = result.around["sgd"][i].curves
        return np.stack([curves["x"][0], curves["y"][0]])

    np.testing.assert_allclose(drawn(tab, "map", "sgd"), path(20), rtol=1e-3)
    other = drawn(tab, "map", "adam")
    rate = slider(tab, "learning rate of sgd")
    rate.press("ArrowLeft")
    rate.press("ArrowLeft")
    assert rate.get_attribute("aria-valuetext") == "η = 0.599"
    np.testing.assert_allclose(drawn(tab, "map", "sgd"), path(18), rtol=1e-3)
    loss = result.around["sgd"][18].curves["loss"][0]
    np.testing.assert_allclose(drawn(tab, "loss", "sgd"), [result.runs["sgd"].steps, loss], 1e-3)
    np.testing.assert_array_equal(drawn(tab, "map", "adam"), other)
    rate.press("End")
    assert tab.get_by_text("off this map from step 1").count() == 1


def test_steps_are_hovered_and_gone_through(opened, race_page, found):
    tab = opened(race_page)
    slider(tab, "step").fill("2")
    assert drawn(tab, "map", "sgd").shape == (2, 3)
    assert tab.locator("#at-step").text_content() == "2 of 6"
    box = tab.locator("#map .nsewdrag").bounding_box()
    x, y = drawn(tab, "map", "sgd")[:, 2]
    (x0, x1), (y0, y1) = map_of(VALLEY, list(found.results["valley"].runs.values())).limits
    tab.mouse.move(
        box["x"] + box["width"] * (x - x0) / (x1 - x0),
        box["y"] + box["height"] * (y1 - y) / (y1 - y0),
    )
    hovered = tab.locator("#map .hoverlayer").text_content()
    assert re.search(r"sgd, step 2.*f\(x, y\) = ", hovered), hovered
    tab.get_by_role("button", name="Play").press("Enter")
    expect(tab.locator("#at-step")).to_have_text("6 of 6", timeout=120_000)
    assert drawn(tab, "map", "sgd").shape == (2, 7)


def test_methods_and_the_logarithm_are_switched(opened, race_page):
    tab = opened(race_page)
    tab.get_by_role("checkbox", name="adam").press("Space")
    assert drawn(tab, "map", "adam") is None
    assert drawn(tab, "loss", "adam") is None
    assert drawn(tab, "map", "sgd") is not None
    assert axis_type(tab, "loss") == "log"
    tab.get_by_role("checkbox", name="logarithmic loss").press("Space")
    assert axis_type(tab, "loss") == "linear"


def test_a_problem_without_a_map_has_curves_alone(opened, race_page, found):
    tab = opened(race_page)
    tab.get_by_role("combobox", name="problem").select_option(label="bowl")
    assert not tab.locator("#map").is_visible()
    room = tab.locator("#loss").bounding_box()["width"]
    assert room > WIDE["width"] / 2
    expect(tab.locator("#loss .main-svg").first).to_have_attribute("width", f"{room:g}")
    slider(tab, "learning rate of adam").press("Home")
    loss = found.results["bowl"].around["adam"][0].curves["loss"][0]
    np.testing.assert_allclose(drawn(tab, "loss", "adam")[1], loss, rtol=1e-3)


def test_light_and_dark(opened, race_page):
    tab = opened(race_page)
    for theme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(18, 20, 23)")):
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        line = tab.evaluate("document.getElementById('loss').data[0].line.color")
        assert (line == strokes(["sgd"])[0]["color"]) == (theme == "light")
        tab.get_by_role("checkbox", name="dark").press("Space")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_sticks_out_of_the_window_and_a_phone_keeps_the_map_in_sight(
    opened, race_page, size
):
    tab = opened(race_page, size)
    assert tab.evaluate("document.documentElement.scrollWidth") == size["width"]
    rate = slider(tab, "learning rate of adam")
    rate.scroll_into_view_if_needed()
    box, plot = rate.bounding_box(), tab.locator("#map").bounding_box()
    assert plot["y"] >= 0
    assert plot["y"] + plot["height"] <= size["height"]
    on_the_left = box["x"] + box["width"] <= plot["x"]
    assert on_the_left == (size is WIDE)


def test_what_has_no_other_rates_has_a_slider_that_does_not_move(opened, tmp_path):
    evil = "</script><b>&"
    methods = {evil: ("sgd", 0.5), "ready": optax.sgd(0.5), "wild": ("sgd", 9.5)}
    race(methods, VALLEY, steps=6).save(tmp_path, page=True, dark=True)
    tab = opened(tmp_path / "race.html")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    for label, rate in ((evil, "η = 0.5"), ("ready", "ready-made")):
        still = slider(tab, f"learning rate of {label}")
        assert (still.is_disabled(), still.get_attribute("aria-valuetext")) == (True, rate)
    # A path that runs away ends where nobody sees it, and its numbers do not break the map.
    path = drawn(tab, "map", "wild")
    assert np.isnan(path[:, -1]).all()
    assert FAR > np.nanmax(np.abs(path[1])) / 5 > 1


# A comparison.

STEPS = np.arange(0, 101, 10)
LONG = "my_module:my_method"


def runs(*speeds, rate):
    """A loss of e^(−speed · step / 10) for each seed."""
    loss = np.exp(-np.outer(speeds, STEPS / 10))
    return Runs({"learning_rate": rate}, loss, None, 1.0, 8.0)


def cell(*speeds):
    trials = [{"learning_rate": rate} for rate in (0.1, 0.01, 1.0)]
    tuning = np.array([[0.1, 0.3], [0.5, 0.7], [np.nan, 9.0]])
    return Cell({"learning_rate": "0.01:1:log"}, trials, tuning, runs(*speeds, rate=0.1),
                runs(0.01, 0.01, 0.01, rate=0.001))  # fmt: skip


@pytest.fixture(scope="module")
def compare_page(tmp_path_factory):
    field = Field("bowl", "A bowl", "loss", None, STEPS, 1.0, float(np.exp(-4.5)))
    cells = {"adamw": {"bowl": cell(0.5, 0.7, 0.6)}, LONG: {"bowl": cell(0.3, 0.44, 0.5)}}
    path = tmp_path_factory.mktemp("compare") / "compare.html"
    path.write_bytes(page_compare.page(Results(Protocol(3, 2, 3), {"bowl": field}, cells, 9.0)))
    return path


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_target_is_dragged_and_each_seeds_steps_change(opened, compare_page, size):
    tab = opened(compare_page, size)
    assert tab.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert tab.get_by_text(LONG, exact=False).first.is_visible()
    assert not tab.locator("#steps .xtick text").evaluate_all(TOUCH)
    places = drawn_steps(tab, LONG)
    assert places == [MISSED, MISSED, 90.0]
    slider(tab, "target").press("Home")  # the loss at the start
    assert drawn_steps(tab, LONG) == [0.0, 0.0, 0.0]
    for _ in range(20):
        slider(tab, "target").press("ArrowRight")
    target = float(tab.locator("#at-target").text_content().split("≤")[1])
    expected = [float(STEPS[np.exp(-s * STEPS / 10) <= target][0]) for s in (0.3, 0.44, 0.5)]
    assert drawn_steps(tab, LONG) == expected
    line = tab.evaluate("document.getElementById('loss').data.at(-1).y[0]")
    assert line == pytest.approx(target, rel=5e-3)


TOUCH = """(texts) => texts.map((text) => text.getBoundingClientRect()).some((a, i, all) =>
  all.slice(i + 1).some((b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom))"""
"""Whether two of some texts do."""

MISSED = 120.0
"""Where a miss is drawn: a fifth beyond the last step."""


def drawn_steps(tab, method):
    found = "document.getElementById('steps').data.find((t) => t.name === name).x"
    return tab.evaluate(f"(name) => Array.from({found})", method)


def test_methods_the_logarithm_and_untuned_runs_are_switched(opened, compare_page):
    tab = opened(compare_page)
    (*rates, highest), (*losses, diverged) = drawn(tab, "rates", LONG)
    assert (rates, losses, highest) == ([0.01, 0.1], pytest.approx([0.6, 0.2]), 1)
    assert diverged >= 30  # at the upper edge
    assert axis_type(tab, "rates") == axis_type(tab, "loss") == "log"
    tab.get_by_role("checkbox", name="logarithmic loss").press("Space")
    assert axis_type(tab, "rates") == axis_type(tab, "loss") == "linear"
    tuned = drawn(tab, "loss", LONG)
    np.testing.assert_allclose(tuned[1], np.exp(-0.44 * STEPS / 10), rtol=1e-6)
    tab.get_by_role("radio", name="tuned", exact=True).press("ArrowRight")
    np.testing.assert_allclose(drawn(tab, "loss", LONG)[1], np.exp(-0.001 * STEPS), rtol=1e-6)
    tab.get_by_role("checkbox", name=LONG).press("Space")
    for chart in ("steps", "loss", "rates", "speed"):
        assert drawn(tab, chart, LONG) is None
