"""Tables for the terminal that are never cut: the columns of one too wide go into several."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.jupyter import JupyterMixin
from rich.table import Table
from rich.text import Text


class Column(NamedTuple):
    """A header, and a text for each row."""

    header: str
    cells: Sequence[str]

    @property
    def width(self) -> int:
        """The length of the longest line."""
        return max(
            cell_len(line) for text in (self.header, *self.cells) for line in text.split("\n")
        )


class Columns(JupyterMixin):
    """Columns that name the rows, and columns of numbers, as many beside each other as fit."""

    def __init__(self, names: Sequence[Column], numbers: Sequence[Column], *, gap: int = 2) -> None:
        self.names, self.numbers, self.gap = names, numbers, gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for i, numbers in enumerate(self._split(options.max_width)):
            if i:
                yield Text()
            yield self._table(numbers)

    def _split(self, width: int) -> Iterator[list[Column]]:
        names = sum(column.width + self.gap for column in self.names)
        some: list[Column] = []
        for column in self.numbers:
            if some and names + sum(c.width + self.gap for c in (*some, column)) - self.gap > width:
                yield some
                some = []
            some.append(column)
        yield some

    def _table(self, numbers: Sequence[Column]) -> Table:
        # The box itself is one column wide.
        padding = (0, self.gap - 1, 0, 0)
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=padding, pad_edge=False)
        for column in self.names:
            table.add_column(Text(column.header), style="bold", overflow="fold")
        for column in numbers:
            table.add_column(Text(column.header), justify="right", overflow="fold")
        for row in zip(*(column.cells for column in (*self.names, *numbers)), strict=True):
            table.add_row(*map(Text, row))
        return table


class Page(JupyterMixin, Group):
    """Several things below each other; in a notebook it shows itself."""


def page(title: str, *parts: RenderableType, note: str) -> Page:
    """A title, what it is the title of, and a note on how to read it."""
    return Page(Text(title, "bold"), Text(), *parts, Text(note, "dim"), Text())


class Shown(ABC):
    """What shows itself by a table: in a terminal, at a prompt and in a notebook."""

    @abstractmethod
    def table(self) -> Page:
        """The results in words and numbers, for ``rich.print``; a notebook shows it."""

    def __repr__(self) -> str:
        console = Console(width=80, file=io.StringIO(), color_system=None)
        console.print(self.table())
        return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, str]:
        return self.table()._repr_mimebundle_((), ())  # pyright: ignore[reportPrivateUsage]
