"""What a race and a sweep hand back: it shows itself, and saves itself as one set of files."""

import base64
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdfx import files
from gdfx.lab.journal import Journal
from gdfx.lab.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Outcome(Shown):
    """A table, figures, and a record of everything that was measured."""

    @abstractmethod
    def figures(self) -> "dict[str, Figure]":
        """The figures, by name."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Configuration, provenance and raw curves, as JSON takes them."""

    def save(
        self, out: str | Path, *, force: bool = False, dark: bool = False, svg: bool = False
    ) -> list[Path]:
        """Write each figure as PNG, and the record as ``results.json``.

        Args:
          out: the folder, made if need be.
          force: whether the results of an earlier run there are replaced, every file of them.
          dark: whether the figures are bright on a dark ground.
          svg: whether each figure is written as SVG, too.

        Returns:
          The files written.

        Raises:
          RequestError: where the folder cannot be written to, holds results already, or holds a
            file of somebody else's under one of the names.
        """
        return self._write(out, drawn(self.figures(), dark=dark, svg=svg), force=force)

    def _write(self, out: str | Path, contents: Mapping[str, bytes], *, force: bool) -> list[Path]:
        """Write files, by name, and the record beside them."""
        return files.write_set(Path(out), contents, self.record(), force=force)

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, str]:
        """Table and figures, for a notebook."""
        from gdfx.lab import plot

        bundle = super()._repr_mimebundle_()
        pngs = (base64.b64encode(plot.image(figure)).decode() for figure in self.figures().values())
        images = (f'<img width="800" src="data:image/png;base64,{png}">' for png in pngs)
        return bundle | {"text/html": "\n".join((bundle["text/html"], *images))}


class KeptOutcome(Outcome):
    """An outcome whose finished parts were kept while it ran."""

    journal: Journal | None

    def _write(self, out: str | Path, contents: Mapping[str, bytes], *, force: bool) -> list[Path]:
        """What was kept is then no longer needed."""
        written = super()._write(out, contents, force=force)
        if self.journal is not None:
            self.journal.close()
        return written


def drawn(figures: "Mapping[str, Figure]", *, dark: bool, svg: bool) -> dict[str, bytes]:
    """What the files of figures hold, by name."""
    from gdfx.lab import plot

    if dark:
        for figure in figures.values():
            plot.darken(figure)
    kinds = ("png", "svg") if svg else ("png",)
    return {
        f"{name}.{kind}": plot.image(figure, kind)
        for name, figure in figures.items()
        for kind in kinds
    }


def file_names(figures: Iterable[str], *, svg: bool) -> list[str]:
    """Of the files that `drawn` makes."""
    return [f"{name}.{kind}" for name in figures for kind in ("png", *["svg"] * svg)]
