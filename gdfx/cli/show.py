"""What the catalog and the docstrings say of a method, for the terminal."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gdfx.catalog import METHODS, Method
from gdfx.core.arguments import ARGUMENTS

_BLOCK = re.compile(r"^::\n\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)


class SideBySide:
    """Panels beside each other where the terminal is wide enough, else one below the other."""

    def __init__(self, panels: list[Panel]) -> None:
        self.panels = panels

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbound = options.update(width=10_000)
        widths = [Measurement.get(console, unbound, panel).maximum for panel in self.panels]
        if sum(widths) + len(widths) - 1 > options.max_width:
            yield Group(*self.panels)
            return
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(*self.panels)
        yield grid


def methods() -> Table:
    """All methods of the catalog, one line each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, method in METHODS.items():
        table.add_row(Text(name, "bold"), Text(method.equation))
    return table


def method(record: Method) -> SideBySide:
    """A method, and beside it its other forms: the textbook's, or the method of a textbook form."""
    others = [
        other
        for other in METHODS.values()
        if other is not record and _family(other) == _family(record)
    ]
    return SideBySide([_panel(record), *map(_panel, others)])


def _family(record: Method) -> str:
    return record.form or record.name


def _panel(record: Method) -> Panel:
    arguments = Table.grid(padding=(0, 2, 0, 0))
    arguments.add_row("argument", "default", "allowed", style="dim")
    for name, parameter in inspect.signature(record.factory).parameters.items():
        default = parameter.default
        shown = "required" if default is parameter.empty else str(default)
        arguments.add_row(name, shown, str(ARGUMENTS[name]))
    facts = [
        arguments,
        Text(),
        Text(f"Reference: {record.source}"),
        *[Text(f"Equals {record.matches}, up to rounding")] * (record.matches is not None),
    ]
    body = [Text(record.summary), Text(), Text(equations(record)), Text(), *facts]
    return Panel(Group(*body), title=record.name, title_align="left", expand=False)


def equations(record: Method) -> str:
    """The numbered equations from the docstrings of its direction and of itself."""
    factories = [f for f in (record.direction, record.factory) if f is not None]
    return "\n".join(filter(None, map(_block, factories)))


def _block(factory: Callable[..., Any]) -> str:
    found = _BLOCK.search(f"{inspect.getdoc(factory)}\n")
    return textwrap.dedent(found[1]).strip("\n") if found else ""
