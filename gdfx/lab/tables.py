"""Tables for the terminal that are never cut: the columns of one too wide go into several."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.jupyter import JupyterMixin
from rich.table import Table
from rich.text import Text

GAP = 2


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

    def __init__(self, names: Sequence[Column], numbers: Sequence[Column]) -> None:
        self.names, self.numbers = names, numbers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for i, numbers in enumerate(self._split(options.max_width)):
            if i:
                yield Text()
            yield _table(self.names, numbers)

    def _split(self, width: int) -> Iterator[list[Column]]:
        names = sum(column.width + GAP for column in self.names)
        some: list[Column] = []
        for column in self.numbers:
            if some and names + sum(c.width + GAP for c in (*some, column)) - GAP > width:
                yield some
                some = []
            some.append(column)
        yield some


class Page(JupyterMixin, Group):
    """Several things below each other; in a notebook it shows itself."""


def page(title: str, *parts: RenderableType, note: str) -> Page:
    """A title, what it is the title of, and a note on how to read it."""
    return Page(Text(title, "bold"), Text(), *parts, Text(note, "dim"), Text())


def _table(names: Sequence[Column], numbers: Sequence[Column]) -> Table:
    # The box itself is one column wide.
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False)
    for column in names:
        table.add_column(Text(column.header), style="bold", overflow="fold")
    for column in numbers:
        table.add_column(Text(column.header), justify="right", overflow="fold")
    for row in zip(*(column.cells for column in (*names, *numbers)), strict=True):
        table.add_row(*map(Text, row))
    return table
