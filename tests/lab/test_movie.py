"""The race as a movie: what each picture shows."""

import io

import numpy as np
import pytest
from PIL import Image

from gdfx.lab import RequestError, movie, race
from gdfx.lab import plot as drawing


@pytest.fixture(scope="module")
def found():
    return race(["sgd", "adam"], "valley", steps=3)


def test_paths_and_curves_grow_and_the_step_is_written_above(found):
    result = found.results["valley"]
    figure = drawing.result(result)
    show = movie.growing(figure, result)
    sgd, adam, loss = figure.axes
    curves = result.runs["sgd"].curves
    for i in (0, 2, 3):
        show(i)
        assert figure.get_suptitle().endswith(f", 3 steps: step {i} of 3")
        for ax in (sgd, adam):
            assert len(ax.lines[0].get_xdata()) == i + 1
        path, end = sgd.lines[0], next(x for x in sgd.lines if x.get_label() == "end")
        np.testing.assert_array_equal(path.get_ydata(), curves["y"][0, : i + 1])
        assert end.get_xydata().tolist() == [[curves["x"][0, i], curves["y"][0, i]]]
        for line in loss.lines:
            inside = line.get_clip_box()
            width = loss.transData.inverted().transform((inside.x1, inside.y1))[0]
            assert width == pytest.approx(i, abs=1e-6)


def test_first_and_last_are_shown_and_the_last_one_stands(found):
    assert movie.frames(4) == [0, 1, 2, 3] + [3] * 12
    shown = movie.frames(1000)
    assert (shown[0], shown[-1], len(shown)) == (0, 999, 72)
    assert shown == sorted(shown)


def test_a_gif_has_its_pictures(found, tmp_path, monkeypatch):
    monkeypatch.setattr(movie, "STAND", 0.1)
    monkeypatch.setattr(movie, "DPI", 30)
    written = found.save(tmp_path, movie="gif", dark=True)
    assert [path.name for path in written] == ["valley.png", "valley.gif", "results.json"]
    picture = Image.open(io.BytesIO((tmp_path / "valley.gif").read_bytes()))
    assert picture.n_frames == 4
    corner = picture.convert("RGB").getpixel((2, picture.height - 2))
    assert max(corner) < 40  # dark


def test_what_cannot_be_written_is_refused(found, tmp_path, monkeypatch):
    monkeypatch.setattr(movie.writers, "is_available", lambda name: False)
    with pytest.raises(RequestError) as refusal:
        found.save(tmp_path / "new", movie="mp4")
    assert str(refusal.value) == (
        "an mp4 needs the program ffmpeg, which is not here; a gif does not"
    )
    with pytest.raises(RequestError, match=r"^a movie is gif or mp4, got 'avi'$"):
        movie.check_kind("avi")
    assert not (tmp_path / "new").exists()
