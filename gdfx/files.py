"""Writing files so that an interrupted program leaves none half-written."""

import os
import tempfile
from pathlib import Path

from gdfx.lookup import RequestError


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


def write(path: Path, content: bytes) -> Path:
    """Write the whole file or leave what was there: a temporary file takes its place at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        return temporary.replace(path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise
