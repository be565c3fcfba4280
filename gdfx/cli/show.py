"""What the catalog and the docstrings say of a method, for the terminal."""

import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gdfx.catalog import METHODS, Method
from gdfx.core.arguments import rules
from gdfx.core.words import listed
from gdfx.lab.problems import FACTORIES, PROBLEMS
from gdfx.lab.resolve import find_problem
from gdfx.lookup import parameters

if TYPE_CHECKING:
    from gdfx.testing import Law

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


def methods(dialect: str | None = None) -> Table:
    """The methods by kind, one line each: all of the catalog, or those of one dialect."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("", "bytes", "one step", style="dim")
    chosen = {n: m for n, m in METHODS.items() if dialect is None or m.dialect == dialect}
    for kind in dict.fromkeys(map(_heading, chosen.values())):
        table.add_row(Text(kind, "dim"))
        for name, method in chosen.items():
            if kind == _heading(method):
                size = f"{method.state_bytes:.2g}"
                table.add_row(
                    Text(f"  {name}", "bold"), Text(size, justify="right"), method.equation
                )
    table.add_row("", "", "bytes: of state, for each number of a large float32 matrix", style="dim")
    return table


def _heading(method: Method) -> str:
    """Under what a list has it."""
    return f"{method.dialect} forms" if method.dialect else method.kind


def method(record: Method) -> SideBySide:
    """A method, and beside it its other forms: the textbook's, PyTorch's, gdfx's own."""
    others = [
        other
        for other in METHODS.values()
        if other is not record and _family(other) == _family(record)
    ]
    return SideBySide([_panel(record), *map(_panel, others)])


def _family(record: Method) -> str:
    return record.form or record.name


def _panel(record: Method) -> Panel:
    facts = [
        _arguments(
            record.factory, {name: str(rule) for name, rule in rules(record.factory).items()}
        ),
        Text(),
        Text(f"Reference: {record.source}"),
        *[Text(f"Equals {record.matches}, up to rounding")] * (record.matches is not None),
    ]
    body = [Text(record.summary), Text(), Text(equations(record)), Text(), *facts]
    return Panel(Group(*body), title=record.name, title_align="left", expand=False)


def _arguments(factory: Callable[..., Any], allowed: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    heads = ["argument", "default", *["allowed"] * bool(allowed)]
    table.add_row(*heads, style="dim")
    for name, parameter in parameters(factory).items():
        default = parameter.default
        shown = "required" if default is parameter.empty else str(default)
        table.add_row(name, shown, *[allowed.get(name, "")] * bool(allowed))
    return table


def factory(path: str, factory: Callable[..., Any]) -> Panel:
    """Somebody else's factory: what it says of itself, and what is known of it."""
    body = [Text(_introduction(factory)), Text(), _arguments(factory, {}), Text()]
    body.append(Text(f"Traits: {_traits(factory)}"))
    module, _, name = path.partition(":")
    matching = [m.name for m in METHODS.values() if m.matches == f"{module}.{name}"]
    if matching:
        body.append(Text(f"Equal to it, up to rounding: gdfx's {listed(matching)}"))
    return Panel(Group(*body), title=path, title_align="left", expand=False)


def _introduction(factory: Callable[..., Any]) -> str:
    """The first paragraphs of its docstring, as far as they are plain sentences."""
    paragraphs = (inspect.getdoc(factory) or "It has no docstring.").split("\n\n")
    first, *others = (" ".join(text.split()) for text in paragraphs)
    plain = itertools.takewhile(lambda text: not re.search(r"::|:\w+:`|^\w+:|>>>", text), others)
    return "\n\n".join([first, *plain])


def _traits(factory: Callable[..., Any]) -> str:
    """What is known of it, as ``gdfx check`` takes it."""
    if find_spec("hypothesis") is None:
        return 'to see them, install the extra "testing"'
    from gdfx.testing.traits import known

    rate = {"learning_rate": 0.1} if "learning_rate" in parameters(factory) else {}
    declared = known(factory, rate).declared
    declared.pop("reference", None)
    return ", ".join(f"{trait}={value}" for trait, value in declared.items()) or (
        "nothing is known; gdfx check --trait declares them"
    )


def problems() -> Table:
    """All problems of the lab, with what they are."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    table.add_row("", "steps", "", style="dim")
    for name, problem in PROBLEMS.items():
        table.add_row(Text(name, "bold"), str(problem.steps), problem.title)
    return table


def problem(name: str) -> Panel:
    """A problem with its equations, settings and source; with the settings that it is named by."""
    found, factory = find_problem(name), FACTORIES.get(name.partition(":")[0])
    if factory is None:
        return Panel(Text(found.title), title=name, title_align="left", expand=False)
    text, _, rest = (inspect.getdoc(factory) or "").partition("\n\nArgs:")
    more = [part for part in rest.split("\n\n") if part.startswith(("Differs:", "Source:"))]
    paragraphs = [x for x in [*text.split("\n\n"), *more] if x != "::"]
    told = "\n\n".join(x if x[0] == " " else " ".join(x.split()) for x in paragraphs)
    allowed = {name: str(rule) for name, rule in rules(factory).items()}
    facts = f"{found.steps} steps" + f", target {found.target:g}" * (found.target is not None)
    body = [Text(_plain(told)), Text(), Text(facts), Text(), _arguments(factory, allowed)]
    return Panel(Group(*body), title=name, title_align="left", expand=False)


def laws() -> Table:
    """All laws with their claims, by grade."""
    from gdfx.testing import LAWS

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    for grade, meaning in _GRADES.items():
        those = [law for law in LAWS.values() if law.grade == grade]
        table.add_row(Text(f"{grade} ({len(those)})", "bold"), Text(meaning, "bold"))
        for law in those:
            table.add_row(law.name, _plain(law.claim))
        table.add_row()
    return table


_GRADES = {
    "contract": "what optax asks of every optimizer, and what is declared of one",
    "courtesy": "what an optimizer may do beyond it",
}


def law(found: "Law") -> Panel:
    """One law in full."""
    body = Group(
        Text(_plain(found.claim)),
        Text(_plain(found.why)),
        Text(),
        Text(f"It is of the {found.grade}: {_GRADES[found.grade]}."),
        Text(f"gdfx check METHOD --law {found.name}"),
    )
    return Panel(body, title=found.name, title_align="left", expand=False)


def _plain(text: str) -> str:
    return text.replace("`", "")


def equations(record: Method) -> str:
    """The numbered equations from the docstrings of its direction and of itself."""
    factories = [f for f in (record.direction, record.factory) if f is not None]
    return "\n".join(filter(None, map(_block, factories)))


def _block(factory: Callable[..., Any]) -> str:
    found = _BLOCK.search(f"{inspect.getdoc(factory)}\n")
    return textwrap.dedent(found[1]).strip("\n") if found else ""
