"""What a long run has finished, a line each, so that one that was stopped goes on from there."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gdfx import files
from gdfx.lookup import RequestError

NAME = "unfinished.jsonl"
"""The file in the folder of the results; it goes once they are written."""

FORMAT = 1
HOW = "move it, choose another folder, or begin anew with --force (in Python: force=True)"


class Journal:
    """Finished parts by their keys, in memory and, in a folder, on disk."""

    def __init__(self, folder: Path | None, plan: dict[str, Any], *, force: bool = False) -> None:
        """Read what an earlier run of the same plan has finished.

        Args:
          folder: where the results will go; None to keep nothing.
          plan: what the parts belong to, as JSON takes it.
          force: whether to forget what is there.

        Raises:
          RequestError: for a folder that cannot be written to, and for a file of another plan, of a
            newer format, or that is not gdfx's.
        """
        self.path = None if folder is None else folder / NAME
        self.plan = json.loads(json.dumps({"format": FORMAT, **plan}))
        self.done: dict[str, Any] = {}
        if self.path is None:
            return
        files.writable_folder(self.path.parent)
        if force or not self.path.exists():
            self._begin()
        else:
            self._read(self.path)

    def add(self, parts: dict[str, Any]) -> None:
        """Keep finished parts; on disk each is there wholly, or its line is not ended."""
        self.done |= parts
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps([key, part])}\n" for key, part in parts.items())

    def close(self) -> None:
        """The results are written: what was kept for them can go."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        assert self.path is not None
        files.write(self.path, f"{json.dumps(self.plan)}\n".encode())

    def _read(self, path: Path) -> None:
        with _readable(path):
            first, *lines = path.read_text(encoding="utf-8").split("\n")
            plan = json.loads(first)
            version = int(plan["format"])
        if version > FORMAT:
            raise RequestError(f"{path} was written by a newer gdfx; {HOW}")
        differs = [name for name in self.plan if plan.get(name) != self.plan[name]]
        if differs:
            raise RequestError(f"{path} is of another run: its {differs[0]} is another; {HOW}")
        with _readable(path):
            # What follows the last line break was cut off as it was written.
            self.done = dict(json.loads(line) for line in lines[:-1])
        if lines[-1]:
            kept = (self.plan, *map(list, self.done.items()))
            files.write(path, "".join(f"{json.dumps(part)}\n" for part in kept).encode())


@contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is no file of finished runs, or is damaged; {HOW}") from error
