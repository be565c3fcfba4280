"""The heat map of what was watched."""

import jax.numpy as jnp
import numpy as np
import pytest

import gdfx
from gdfx.lab import RequestError, plot_watch
from gdfx.lab.plot import image

PARAMS = {"dead": jnp.ones(3), "live": jnp.full((2, 2), 2.0)}


@pytest.fixture(scope="module")
def state():
    tx = gdfx.watch(gdfx.sgd(0.1), every=2, keep=4)
    now = tx.init(PARAMS)
    for t in range(1, 10):
        gradient = {"dead": jnp.zeros(3), "live": jnp.full((2, 2), float(t))}
        _, now = tx.update(gradient, now, PARAMS)
    return now


def test_a_row_for_each_leaf_and_a_column_for_each_step(state):
    figure = plot_watch(state, PARAMS, "gradient_norm")
    image(figure)
    ax, bar = figure.axes
    (drawn,) = ax.images
    found = np.ma.getdata(drawn.get_array())
    np.testing.assert_allclose(found[1], [2.0 * t for t in (3, 5, 7, 9)])
    assert np.ma.getmaskarray(drawn.get_array()).tolist() == [[True] * 4, [False] * 4]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["['dead']", "['live']"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["3", "5", "7", "9"]
    assert bar.get_yscale() == "log"
    assert figure.get_supxlabel() == "Red: 0, NaN or Inf."


def test_shares_are_from_0_to_1(state):
    figure = plot_watch(state, PARAMS, "gradient_zeros")
    (drawn,) = figure.axes[0].images
    np.testing.assert_array_equal(drawn.get_array(), [[1] * 4, [0] * 4])
    assert (drawn.norm.vmin, drawn.norm.vmax) == (0, 1)
    assert figure.get_supxlabel() == ""


def test_what_cannot_be_drawn_is_refused(state):
    with pytest.raises(RequestError, match="there is no measure 'norm'; there are gradient_norm,"):
        plot_watch(state, PARAMS, "norm")
    with pytest.raises(RequestError, match="nothing has been measured yet"):
        plot_watch(gdfx.watch(gdfx.sgd(0.1)).init(PARAMS), PARAMS)
