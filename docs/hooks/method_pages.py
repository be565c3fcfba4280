"""A hook of mkdocs: one page for each file of methods, made from `gdfx.METHODS`.

A method that joins the catalog joins the site; nothing generated is kept in the repository.
"""

import inspect
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from mkdocs.structure.files import File

import gdfx
from gdfx.catalog import Method

OVERVIEW = """\
# All methods

W are the parameters, g = ∂L/∂W, η is the learning rate. The state is what the method keeps of
each parameter, for float32 parameters; a step counter comes on top.

| method | one step | state | equals |
| --- | --- | --- | --- |
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and name them in the navigation."""
    section = next(entry for entry in config.nav if "Methods" in entry)
    for title, uri, content in _pages():
        files.append(File.generated(config, uri, content=content))
        section["Methods"].append({title: uri})
    return files


def _pages() -> Iterator[tuple[str, str, str]]:
    by_module = itertools.groupby(gdfx.METHODS.values(), key=lambda m: m.factory.__module__)
    pages = {module: list(records) for module, records in by_module}
    rows = [
        f"| [`{m.name}`]({_stem(module)}.md) | {m.equation} | {_state(m)} | {_code(m.matches)} |"
        for module, records in pages.items()
        for m in records
    ]
    yield "All methods", "methods/index.md", OVERVIEW + "\n".join(rows)
    for module, records in pages.items():
        names = ", ".join(m.name for m in records)
        title = names if len(names) < 20 else _stem(module)
        yield title, f"methods/{_stem(module)}.md", f"# {title}\n\n" + _page(module, records)


def _page(module: str, records: list[Method]) -> str:
    head = "| method | one step | source |\n| --- | --- | --- |\n"
    rows = "\n".join(f"| `{m.name}` | {m.equation} | {m.source} |" for m in records)
    directions = [m.direction.__name__ for m in records if m.direction is not None]
    names = dict.fromkeys([*directions, *(m.name for m in records)])
    described = "\n\n".join(f"::: gdfx.{name}" for name in names)
    return f"{inspect.getdoc(sys.modules[module])}\n\n{head}{rows}\n\n{described}\n"


def _state(method: Method) -> str:
    n = 1000
    state = jax.eval_shape(method.factory(0.1).init, jax.ShapeDtypeStruct((n,), jnp.float32))
    return f"{sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) // n} bytes"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _stem(module: str) -> str:
    return module.rpartition(".")[2]
