"""Writing files so that an interrupted program leaves none half-written, nor old beside new."""

import hashlib
import json
import os
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gdfx.lookup import RequestError

RECORD = "results.json"
"""The file of a set that says which others belong to it, each with a hash of its content."""


def writable_folder(path: Path) -> Path:
    """The folder, made if need be.

    Raises:
      RequestError: where it cannot be made or written to; better now than after a minute.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise RequestError(f"cannot write to {path}: {error.strerror}") from error


def check_writable(folder: Path) -> None:
    """Refuse now a folder that cannot be written to later; nothing is left behind."""
    with _folder(folder):
        pass


def write(path: Path, content: bytes) -> Path:
    """Write the whole file or leave what was there: a temporary file takes its place at once."""
    return _write_all({path: content})[0]


def check_set(folder: Path, names: Iterable[str], *, force: bool) -> None:
    """Refuse now what `write_set` would refuse later; nothing is left behind.

    Args:
      folder: where to write; it need not be there.
      names: the files besides the record.
      force: whether an earlier set may be replaced.

    Raises:
      RequestError: where the folder cannot be written to, holds a set already, or holds a file of
        one of these names that is of no set.
    """
    check_writable(folder)
    earlier = _earlier(folder)
    if earlier and not force:
        raise RequestError(
            f"{folder} holds the results of an earlier run: replace them with --force (in Python: "
            "force=True), or choose another folder with --out"
        )
    for path in (folder / RECORD, *(folder / name for name in names)):
        if path.exists() and path not in earlier:
            raise RequestError(
                f"{path} was not written by gdfx, or was changed since: move it, or choose another "
                "folder with --out"
            )


def write_set(
    folder: Path, contents: Mapping[str, bytes], record: Mapping[str, Any], *, force: bool
) -> list[Path]:
    """Write files and a record of them, in place of the set that was there before.

    Args:
      folder: made if need be.
      contents: by name, what the files hold.
      record: what to write as `RECORD`, which also gets the names and hashes of the files.
      force: whether an earlier set may be replaced.

    Returns:
      The files written.

    Raises:
      RequestError: as `check_set`.
    """
    check_set(folder, contents, force=force)
    hashes = {name: _hash(content) for name, content in contents.items()}
    text = json.dumps({**record, "files": hashes}, indent=1, allow_nan=False)
    new = {folder / RECORD: text.encode()} | {
        folder / n: content for n, content in contents.items()
    }
    with _folder(folder):
        record_path, *paths = _write_all(new, instead_of=_earlier(folder))
    return [*paths, record_path]


def stored(folder: Path) -> dict[str, Any]:
    """The record of the set in a folder.

    Raises:
      RequestError: where there is none, or it is no record.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RequestError(f"{path} is damaged: it is no JSON") from error
    if not isinstance(record, dict):
        raise RequestError(f"{path} is damaged: it is no record of results")
    return record


@contextmanager
def _folder(path: Path) -> Generator[None]:
    """A folder to write into; if it is made for that and nothing is written, it goes again."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        writable_folder(path)
        yield
    finally:
        for folder in new:
            with suppress(OSError):  # something is in it
                folder.rmdir()


def _earlier(folder: Path) -> set[Path]:
    """The files of the set in a folder, without those that were changed since."""
    path = folder / RECORD
    try:
        hashes: dict[str, str] = dict(json.loads(path.read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    named = {folder / name: digest for name, digest in hashes.items() if name == Path(name).name}
    return {path} | {
        file
        for file, digest in named.items()
        if file.is_file() and _hash(file.read_bytes()) == digest
    }


def _write_all(contents: Mapping[Path, bytes], instead_of: Iterable[Path] = ()) -> list[Path]:
    """Write under temporary names; once all are there, they take the place of the others."""
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    try:
        for path, content in contents.items():
            temporary[path].write_bytes(content)
        for path in instead_of:
            path.unlink()
        return [temporary[path].replace(path) for path in contents]
    except BaseException:  # Ctrl-C too
        for path in temporary.values():
            path.unlink(missing_ok=True)
        raise


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
