"""Writing files: whole or not at all, and never old beside new."""

import json
from pathlib import Path

import pytest

from gdfx import files
from gdfx.files import check_set, write, write_set
from gdfx.lookup import RequestError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def half_written(path, data):
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    raise KeyboardInterrupt


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = write(tmp_path / "a.json", b"old")
    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(KeyboardInterrupt):
        write(path, b"new content")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


@pytest.fixture
def folder(tmp_path):
    """A folder with a set, and with a file of somebody else's."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    written = write_set(folder, {"a.png": b"a", "b.png": b"b"}, {"run": 1}, force=False)
    assert [path.name for path in written] == ["a.png", "b.png", "results.json"]
    return folder


def test_a_set_is_recorded(folder):
    record = json.loads((folder / "results.json").read_text())
    assert record["run"] == 1
    assert list(record["files"]) == ["a.png", "b.png"]


TAKEN = (
    "{} holds the results of an earlier run: replace them with --force (in Python: force=True), or "
    "choose another folder with --out"
)
FOREIGN = (
    "{} was not written by gdfx, or was changed since: move it, or choose another folder with --out"
)


def refused(folder, sentence, *, force, new=("c.png",)):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for attempt in (
        lambda: check_set(folder, new, force=force),
        lambda: write_set(folder, dict.fromkeys(new, b"new"), {}, force=force),
    ):
        with pytest.raises(RequestError) as refusal:
            attempt()
        assert str(refusal.value) == sentence
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_second_set_is_refused(folder):
    refused(folder, TAKEN.format(folder), force=False)


def test_by_force_a_set_takes_the_place_of_the_whole_other(folder):
    check_set(folder, ["b.png", "c.png"], force=True)
    write_set(folder, {"b.png": b"new", "c.png": b"c"}, {"run": 2}, force=True)
    assert names(folder) == ["b.png", "c.png", "notes.txt", "results.json"]
    assert (folder / "b.png").read_bytes() == b"new"
    assert json.loads((folder / "results.json").read_text())["run"] == 2
    write_set(folder, {}, {}, force=True)
    assert names(folder) == ["notes.txt", "results.json"]


def test_a_file_that_was_changed_since_is_the_users(folder):
    (folder / "a.png").write_bytes(b"edited")
    refused(folder, FOREIGN.format(folder / "a.png"), force=True, new=["a.png"])
    write_set(folder, {"c.png": b"c"}, {}, force=True)
    assert names(folder) == ["a.png", "c.png", "notes.txt", "results.json"]
    assert (folder / "a.png").read_bytes() == b"edited"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("content", ["{}", "[1]", "no JSON", '{"files": ["a.png"]}'])
def test_somebody_elses_record_is_left(tmp_path, content, force):
    (tmp_path / "results.json").write_text(content)
    refused(tmp_path, FOREIGN.format(tmp_path / "results.json"), force=force)


@pytest.mark.parametrize("force", [False, True])
def test_somebody_elses_file_of_one_of_the_names_is_left(tmp_path, force):
    (tmp_path / "c.png").write_bytes(b"mine")
    refused(tmp_path, FOREIGN.format(tmp_path / "c.png"), force=force)


def test_a_record_names_no_file_outside_its_folder(folder):
    outside = folder.parent / "outside.png"
    outside.write_bytes(b"a")
    record = json.loads((folder / "results.json").read_text())
    record["files"]["../outside.png"] = record["files"]["a.png"]
    (folder / "results.json").write_text(json.dumps(record))
    write_set(folder, {}, {}, force=True)
    assert outside.exists()
    assert names(folder) == ["notes.txt", "results.json"]


def test_to_check_leaves_nothing_behind(tmp_path):
    check_set(tmp_path / "a" / "b", ["c.png"], force=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "why"), [("/dev/null", "File exists"), ("/dev/null/x", "Not a directory")]
)
def test_a_folder_that_cannot_be_is_refused(path, why):
    with pytest.raises(RequestError, match=f"^cannot write to {path}: {why}$"):
        check_set(Path(path), [], force=False)


def test_an_interrupted_set_leaves_what_was_there(folder, monkeypatch):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(KeyboardInterrupt):
        write_set(folder, {"a.png": b"new"}, {}, force=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_interrupted_set_leaves_no_empty_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "a" / "b", {"a.png": b"new"}, {}, force=False)
    assert names(tmp_path) == []


def test_the_record_has_the_name_that_the_docs_say():
    assert files.RECORD == "results.json"
