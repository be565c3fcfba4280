"""Write the pages that repeat the catalog and the docstrings, and name them in mkdocs.yml.

    python docs/scripts/reference.py

writes docs/methods/, docs/which-method.md and docs/api.md. Run it after a change to the catalog or
to a docstring; a test compares the files with what this would write.
"""
# ruff: noqa: D103

import ast
import inspect
import itertools
import json
import posixpath
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gdfx
import gdfx.lab
import gdfx.testing
from gdfx.catalog import METHODS, Method
from gdfx.core import arguments, moments
from gdfx.core.arguments import method_name, rules
from gdfx.core.table import MatrixRow, MatrixTable
from gdfx.core.words import number
from gdfx.wrappers.sharded import ShardRow, ShardTable

ROOT = Path(__file__).parents[2]
SPEED = Path(__file__).parent / "speed.json"
NOTE = "<!-- Written by docs/scripts/reference.py from the catalog and the docstrings. -->\n\n"

OVERVIEW = """\
# All methods

W are the parameters, g = ∂L/∂W is the gradient, η the learning rate, t = 1, 2, … the step. State is
what a method keeps for each float32 parameter. "Equals" is up to rounding, given the same
arguments. [Which method when](../which-method.md) compares what they need and how they behave.

"""

WHICH = """\
# Which method when

This page has facts only: what the sources say, and what holds of the code. Which method is best on
your problem is a question for an experiment: [How to choose a method](choosing.md) has one of ours
and its limits, and [`gdfx compare`](command-line.md#compare) makes one of yours.

## What each is for

"""

NEEDS = """
The textbook's, PyTorch's and Keras's forms have the same purposes; [Several forms of each
method](conventions.md) says what another form changes.

## What each needs

State is what a method keeps for each float32 parameter, beside the 4 bytes of the parameter itself;
arguments such as `mu_dtype` choose narrower numbers. Where an optimizer of optax has the same
state, a run that was begun with it can go on with gdfx's, and the other way round.

"""

COST = """
## What each costs

A step and its tracing, lowering and compiling beside the same optimizer of optax: the median ratio
of neighbouring runs on two CPU cores, float32, for 148 leaves of 2 million numbers in all, and for
103 leaves of many shapes. Below 1, gdfx is faster; a ratio is uncertain by about ±0.2.
[Speed](speed.md) has more trees, and `gdfx bench -m lion` measures on your machine.

"""

VALLEY = """
## How each moves

All but those of matrices in one valley, f(x, y) = x²/20 + y² from (−7, 2), for 30 steps, each at
the learning rate that ends lowest of ten a decade. Above each path stands after how many steps f is
at most 0.1, or where it is after 30. A valley in the plane is no network: what is short here need
not be short there. A point in the plane is no matrix: there a method of matrices is what it takes
for all other leaves, mostly AdamW.

![The paths of the methods in one valley, at their swept learning rates](img/valley-all.png)
"""

BEHAVIOUR = """
## How each behaves

- *Ten times the gradient*: the update if all gradients, from the first step on, are ten times as
  large: ten times as large, the same, or neither. Where it is the same, multiplying the loss by a
  constant calls for no new learning rate, as
  long as ε and the start value are small beside the gradients.
- *Coordinates*: whether the update of each number depends on its own gradients alone.
- *Shifted parameters*: the update if a constant is added to all parameters, at the same gradients.
- *After a NaN*: what a coordinate does after one NaN in its gradient. `gdfx.skip_nonfinite` skips
  such steps.

"""

SYMBOLS = """\
W are the parameters, g = ∂L/∂W is the gradient, u the direction, η the learning rate,
t = 1, 2, … the step.

"""

DIRECTION = """\
The *direction* is what a method makes of the gradient, before learning rate and weight decay. Here
it is `{name}`, which can be a link of an `optax.chain`. The whole optimizers come after it.

"""

API = """\
# API

The [methods](methods/index.md) have pages of their own.
"""


class Doc(NamedTuple):
    """A docstring in its parts."""

    summary: str
    body: str
    sections: dict[str, str]
    example: str

    def arguments(self) -> dict[str, str]:
        """What the section Args says, by name."""
        found = re.split(r"^(\w+(?:, \w+)*): ", self.sections.get("Args", ""), flags=re.MULTILINE)
        return {
            name: " ".join(text.split())
            for names, text in zip(found[1::2], found[2::2], strict=True)
            for name in names.split(", ")
        }


SECTIONS = ("Args", "Returns", "Raises", "Differs", "Purpose", "Reference", "See also")
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):[ \n]", re.MULTILINE)
_CODE = re.compile(r"^::\n\n((?: +.*\n|\n)+)", re.MULTILINE)


def parse(x: Any) -> Doc:
    summary, _, rest = (inspect.getdoc(x) or "").partition("\n\n")
    rest, mark, example = f"\n{rest}\n".partition("\n>>> ")
    body, *parts = _SECTION.split(rest)
    sections = {k: textwrap.dedent(v).strip() for k, v in zip(parts[::2], parts[1::2], strict=True)}
    return Doc(summary, body.strip(), sections, (mark + example).strip())


# Where names are described.


def slug(heading: str) -> str:
    """The anchor of a heading, which code hosts and the site make alike."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def module_of(method: Method) -> str:
    return method.factory.__module__


def by_module() -> dict[str, list[Method]]:
    """The methods of each page."""
    groups = itertools.groupby(METHODS.values(), key=module_of)
    return {module: list(methods) for module, methods in groups}


def stem(module: str) -> str:
    return module.rpartition(".")[2]


def directions(methods: Iterable[Method]) -> list[Callable[..., Any]]:
    return list(dict.fromkeys(m.direction for m in methods if m.direction is not None))


def defined(package: ModuleType) -> list[Callable[..., Any]]:
    """The public functions of a module, or of those of a package that gdfx exports."""
    inside = (x for x in vars(gdfx).values() if getattr(x, "__module__", "").startswith("gdfx."))
    candidates = inside if hasattr(package, "__path__") else vars(package).values()
    return [
        x
        for x in candidates
        if callable(x) and x.__module__.startswith(package.__name__) and x.__name__[0] != "_"
    ]


def described() -> dict[str, list[Any]]:
    """What the page on the API has, by its headings."""
    kit, lab, port = gdfx.testing, gdfx.lab, gdfx.port
    return {
        "Wrap an optimizer": [*defined(gdfx.wrappers), ShardTable, ShardRow],
        "Second calls": [gdfx.update_hessian],
        "Move a run": [
            *(port.from_torch, port.to_torch, port.from_keras, port.to_keras),
            *(port.from_optax, port.to_optax, port.from_arrays, port.to_arrays, port.Leaf),
        ],
        "One pass over memory": [gdfx.one_pass],
        "Matrices": [gdfx.layout, gdfx.MatrixAxes, gdfx.matrix_table, MatrixTable, MatrixRow],
        "Build a method": [
            *(gdfx.per_leaf, gdfx.per_matrix, gdfx.descend),
            *defined(moments),
            arguments.checked,
        ],
        "Check an optimizer": [kit.check, kit.conformance, kit.Report, kit.Traits, kit.Law],
        "Race methods": [
            *(lab.race, lab.sweep, lab.Span, lab.compare, lab.plot_watch),
            *(lab.Race, lab.Sweep, lab.Comparison, lab.Problem, lab.Landscape),
        ],
        "The catalog": [Method],
    }


HOMES = (gdfx, gdfx.port, gdfx.testing, gdfx.lab)


def public(name: str) -> Any:
    """What a docstring calls by its name alone."""
    return next(getattr(home, name) for home in HOMES if hasattr(home, name))


def dotted(x: Any) -> str:
    """The name by which a user reaches it."""
    for home in HOMES:
        if getattr(home, x.__name__, None) is x:
            return f"{home.__name__}.{x.__name__}"
    return f"{x.__module__}.{x.__name__}"


def places() -> dict[str, str]:
    """By the name of a function or class, the page and anchor where it is described."""
    found: dict[str, str] = {}
    for module, methods in by_module().items():
        names = [m.name for m in methods] + [method_name(d) for d in directions(methods)]
        for name in names:
            found[f"gdfx.{name}"] = f"methods/{stem(module)}.md#{slug(name)}"
    for x in itertools.chain(*described().values()):
        found[dotted(x)] = f"api.md#{slug(dotted(x))}"
    return found


PLACES = places()


# From docstrings to Markdown.


def prose(text: str, page: str) -> str:
    """A docstring's text: code in fences, and links to what is described elsewhere."""

    def link(match: re.Match[str]) -> str:
        place = PLACES.get(match[1]) or PLACES.get(f"gdfx.{match[1]}")
        if place is None or match[1] in METHODS:
            return match[0]
        return f"[{match[0]}]({posixpath.relpath(place, posixpath.dirname(page) or '.')})"

    def fence(match: re.Match[str]) -> str:
        return f"```text\n{textwrap.dedent(match[1]).strip(chr(10))}\n```\n\n"

    text = re.sub(r"(?<!`)`([\w.]+)`(?!`)", link, _CODE.sub(fence, f"{text}\n").strip())
    return re.sub(r"(?<!`)``(?!`)", "`", text)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(*head: str, rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if callable(value):
        return value.__name__
    return number(value) if isinstance(value, float) else repr(value)


def parameters(function: Callable[..., Any]) -> list[tuple[str, inspect.Parameter]]:
    return list(inspect.signature(function).parameters.items())


class Shown(str):
    """A default value as it is written in a call."""

    __slots__ = ()
    __repr__ = str.__str__


def call(name: str, function: Callable[..., Any]) -> str:
    """The call of a function with its defaults, on one line or on one for each argument."""
    signature = inspect.signature(function)
    shown = {n: Shown(default(p)) for n, p in parameters(function) if p.default is not p.empty}
    bare = [
        p.replace(annotation=p.empty, default=shown.get(n, p.empty))
        for n, p in parameters(function)
    ]
    text = f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
    if len(text) > 88:
        inside = re.sub(r", (?![^(]*\))", ",\n    ", text[len(name) + 1 : -1])
        text = f"{name}(\n    {inside},\n)"
    return f"```text\n{text}\n```\n\n"


def spelled(said: dict[str, str]) -> dict[str, str]:
    """What is said of arguments; what is ``as in`` another function is taken from there."""
    found: dict[str, str] = {}
    for name, text in said.items():
        there = re.fullmatch(r"as in `(\w+)`\.", text)
        found[name] = spelled(parse(public(there[1])).arguments())[name] if there else text
    return found


def arguments_table(function: Callable[..., Any], page: str) -> str:
    said = spelled(parse(function).arguments())
    if not said:
        return ""
    rows = [
        (
            f"`{name}`",
            "required" if p.default is p.empty else f"`{default(p)}`",
            cell(str(rules(function).get(name, "")).replace(">=", "≥")),
            cell(prose(said.get(name, ""), page)),
        )
        for name, p in parameters(function)
    ]
    if not any(allowed for _, _, allowed, _ in rows):
        shown = ((name, default, meaning) for name, default, _, meaning in rows)
        return table("argument", "default", "meaning", rows=shown) + "\n"
    return table("argument", "default", "allowed", "meaning", rows=rows) + "\n"


def members(cls: type[Any], page: str) -> str:
    """The fields, properties and methods of a class that have a docstring."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node, after in itertools.pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            brackets = "" if "property" in map(ast.unparse, node.decorator_list) else "()"
            found[node.name + brackets] = (ast.get_docstring(node) or "").partition("\n\n")[0]
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and is_text:
            found[ast.unparse(node.target)] = str(after.value.value)
    return table(
        "part", "what it is", rows=((f"`{k}`", cell(prose(v, page))) for k, v in found.items())
    )


def titled(section: str, text: str) -> str:
    """A section of a docstring; several entries become a list."""
    entries = re.split(r"\n(?=\S)", text) if section == "Raises" else [text]
    entries = [re.sub(r"\n +", "\n", entry) for entry in entries]
    if len(entries) == 1:
        return f"**{section}:** {entries[0]}\n\n"
    return f"**{section}:**\n\n" + "".join(f"- {entry}\n" for entry in entries) + "\n"


def entry(x: Any, name: str, page: str, level: int, before: str = "", after: str = "") -> str:
    """What is to be said of a function or a class, under a heading."""
    doc = parse(x)
    parts = [f"{'#' * level} {name}\n\n{prose(doc.summary, page)}\n\n{before}"]
    if doc.body:
        parts.append(f"{prose(doc.body, page)}\n\n")
    if isinstance(x, type):
        return "".join([*parts, members(x, page), "\n"])
    parts.append(call(name if name.startswith("gdfx.") else f"gdfx.{name}", x))
    parts += [arguments_table(x, page), after]
    parts += [titled(k, prose(v, page)) for k, v in doc.sections.items() if k != "Args"]
    if doc.example:
        parts.append(f"```pycon\n{doc.example}\n```\n\n")
    return "".join(parts)


# What is true of a method.


def state(method: Method) -> str:
    return f"{method.state_bytes:.2g} bytes"


def needs(method: Method) -> str:
    wanted = ["the parameters"] * method.needs_params + ["the loss"] * method.needs_value
    return " and ".join(wanted) or "nothing"


def twin(method: Method) -> str:
    """The optimizer of optax that it equals, linked to its page."""
    if method.matches is None:
        return ""
    page = "contrib" if method.matches.startswith("optax.contrib.") else "optimizers"
    url = f"https://optax.readthedocs.io/en/latest/api/{page}.html#{method.matches}"
    return f"[`{method.matches}`]({url})"


TEN_TIMES = {"linear": "ten times as large", "invariant": "the same", None: "neither"}
AFTER_NAN = {
    "nan": "stays NaN",
    "frozen": "stands still",
    "recovers": "moves on",
}


def equations(direction: Callable[..., Any]) -> str:
    """The numbered equations of a direction, once more."""
    found = re.search(r"```text\n.*?```\n\n", prose(parse(direction).body, "") + "\n\n", re.DOTALL)
    return found[0] if found else ""


def facts(method: Method) -> str:
    lines = [
        f"State: {state(method)} for each float32 parameter.",
        f"Needs, besides gradients: {needs(method)}.",
        *[
            f"Gradients ten times as large give updates that are {TEN_TIMES[method.scale]}"
            f"{', up to ε and the start value' * (method.scale == 'invariant')}."
        ]
        * (method.scale is not None),
        "Each coordinate moves by its own gradients alone."
        if method.elementwise
        else "A coordinate's update depends on the others.",
        f"Of complex parameters, |g|² {'stands' if method.complex else 'does not stand'} for g².",
        f"After one NaN gradient a coordinate {AFTER_NAN[method.after_nan]}.",
    ]
    if method.matches is not None:
        same_state = ", and has the same state" * (method.form is None)
        lines.insert(0, f"Equals {twin(method)} up to rounding{same_state}.")
    return "".join(f"- {line}\n" for line in lines) + "\n"


def defaults(method: Method) -> str:
    pairs = parameters(method.factory)
    return ", ".join(f"`{n}={default(p)}`" for n, p in pairs if isinstance(p.default, int | float))


def link(method: Method, up: str = "") -> str:
    return f"[`{method.name}`]({up}{stem(module_of(method))}.md#{slug(method.name)})"


# The pages.


def overview() -> str:
    rows = [(link(m), cell(m.equation), state(m), defaults(m), twin(m)) for m in METHODS.values()]
    return NOTE + OVERVIEW + table("method", "one step", "state", "defaults", "equals", rows=rows)


def method_page(module: str, methods: list[Method]) -> str:
    page = f"methods/{stem(module)}.md"
    doc = parse(sys.modules[module])
    rows = [(link(m), cell(m.equation), state(m), cell(m.source)) for m in methods]
    text = f"{NOTE}# {doc.summary.rstrip('.')}\n\n{prose(doc.body, page)}\n\n"
    text += SYMBOLS + table("method", "one step", "state", "source", rows=rows) + "\n"
    for direction in directions(methods):
        text += DIRECTION.format(name=method_name(direction))
        text += entry(direction, method_name(direction), page, 2)
    for method in methods:
        above = equations(method.direction) if method.direction else ""
        text += entry(method.factory, method.name, page, 2, above, facts(method))
    return text.rstrip() + "\n"


def which_method() -> str:
    page = "which-method.md"
    own = [m for m in METHODS.values() if m.form is None]
    purposes = [
        (link(m, "methods/"), cell(prose(parse(m.factory).sections["Purpose"], page))) for m in own
    ]
    wants = [
        (link(m, "methods/"), state(m), needs(m), twin(m) if m.form is None else "")
        for m in METHODS.values()
    ]
    measured = json.loads(SPEED.read_text()) if SPEED.exists() else {}
    costs = [
        (link(METHODS[name], "methods/"), *(f"{x[what][1]:.2f}" for what in ("step", "compiling")))
        for name, x in measured.items()
    ]
    ways = [
        (
            link(m, "methods/"),
            TEN_TIMES[m.scale],
            "each alone" if m.elementwise else "depend on others",
            "the same" if m.translates else "another",
            AFTER_NAN[m.after_nan],
        )
        for m in METHODS.values()
    ]
    return "".join(
        [
            NOTE,
            WHICH,
            table("method", "purpose", rows=purposes),
            NEEDS,
            table("method", "state", "besides gradients", "same state as", rows=wants),
            *((COST, table("method", "a step", "compiling", rows=costs)) if costs else ()),
            BEHAVIOUR,
            table(
                "method",
                "ten times the gradient",
                "coordinates",
                "shifted parameters",
                "after a NaN",
                rows=ways,
            ),
            VALLEY,
        ]
    )


DIFFERENCES = """\
# Where methods differ

What each method computes otherwise than its paper, optax or another library of the same name, and
why. Where nothing is said of optax, updates and states are optax's up to rounding, and a run can
change hands in its midst.

"""


def differences() -> str:
    page = "differences.md"
    rows: list[tuple[str, str]] = []
    for method in METHODS.values():
        parts = [x for x in (method.direction, *method.directions, method.factory) if x]
        said = [parse(x).sections.get("Differs", "") for x in dict.fromkeys(parts)]
        text = " ".join(part[0].upper() + part[1:] for part in said if part)
        if text:
            rows.append((link(method, "methods/"), cell(prose(text, page))))
    return NOTE + DIFFERENCES + table("method", "differs", rows=rows)


def api() -> str:
    text = NOTE + API
    for heading, things in described().items():
        text += f"\n## {heading}\n\n"
        text += "".join(entry(x, dotted(x), "api.md", 3) for x in things).rstrip() + "\n"
    return text


def config(titles: dict[str, str]) -> str:
    """mkdocs.yml with the method pages in its navigation."""
    lines = "".join(f"      - {title}: {uri}\n" for uri, title in titles.items())
    text = (ROOT / "mkdocs.yml").read_text()
    return re.sub(r"(?<=^  - Methods:\n)(?: {6}.*\n)+", lines, text, flags=re.MULTILINE)


def pages() -> dict[str, str]:
    """Every file that is written, by its path in the repository."""
    titles = {
        "methods/index.md": "All methods",
        "which-method.md": "Which method when",
        "differences.md": "Where methods differ",
    }
    found = {
        "docs/methods/index.md": overview(),
        "docs/which-method.md": which_method(),
        "docs/differences.md": differences(),
    }
    for module, methods in by_module().items():
        names = ", ".join(m.name for m in methods)
        uri = f"methods/{stem(module)}.md"
        titles[uri] = names if len(names) < 25 else stem(module)
        found[f"docs/{uri}"] = method_page(module, methods)
    return found | {"docs/api.md": api(), "mkdocs.yml": config(titles)}


if __name__ == "__main__":
    written = pages()
    (ROOT / "docs" / "methods").mkdir(exist_ok=True)
    for old in (ROOT / "docs" / "methods").glob("*.md"):
        if f"docs/methods/{old.name}" not in written:
            old.unlink()
    for path, text in written.items():
        (ROOT / path).write_text(text)
