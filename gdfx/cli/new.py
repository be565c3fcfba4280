"""The command that begins a method of one's own: ``new``."""

import ast
import builtins
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from gdfx import files
from gdfx.cli.terminal import app, console, orderly
from gdfx.lookup import RequestError

TEMPLATE = Path(__file__).with_name("template.py")
"""The method that is written: it is code of this package, so that it is tested with it."""


@app.command("new", short_help="Write NAME.py, a method to begin with.")
def new_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in my_method.")],
) -> None:
    """Write NAME.py, a method to begin with, and print the commands that judge it.

    The file has a rule with its numbered equations, the optimizer and a test. A file that is there
    already is left as it is.
    """
    path = Path(f"{name}.py")
    with orderly("nothing was written"):
        _check(name, path)
        try:
            files.write(path, _written(name).encode())
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror}") from error
    with orderly(f"{path} is written"):
        console().print(
            f"Written: {path}. Change its rule; these judge it:\n\n"
            f"  gdfx check {name}:{name}\n"
            f"  pytest {path}\n"
            f"  gdfx race -m {name}:{name}=0.1 -m adam",
            soft_wrap=True,
        )


def _check(name: str, path: Path) -> None:
    """Refuse a name under which the file could not be written, imported or run."""
    if keyword.iskeyword(name):
        raise RequestError(f"{name} is a word of Python itself; take another name")
    if not name.isidentifier():
        like = re.sub(r"\W+", "_", name.removesuffix(".py")).strip("_")
        hint = f"did you mean {like}?" if like.isidentifier() else "begin with a letter"
        raise RequestError(f"{name!r} cannot be a Python name; {hint}")
    if path.exists():
        raise RequestError(f"{path} is there already, and is left as it is; take another name")
    spec = find_spec(name)
    if spec is not None:
        where = f", {spec.origin}" * bool(spec.origin)
        raise RequestError(f"there is a module {name} already{where}; take another name")
    if name in _taken():
        raise RequestError(f"{name} is a name that the file itself uses; take another name")
    if name.startswith("test"):
        raise RequestError(f"pytest would take {name} for a test; take another name")


def _taken() -> set[str]:
    """Names that mean something in the file."""
    nodes = list(ast.walk(ast.parse(TEMPLATE.read_text(encoding="utf-8"))))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    imported = {node.name for node in nodes if isinstance(node, ast.alias)}
    return (used | imported | set(dir(builtins))) - {"my_method"}


def _written(name: str) -> str:
    """The template under another name."""
    text = TEMPLATE.read_text(encoding="utf-8")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    for old, new in (
        ("my_method", name),
        ("MyMethod", class_name or name),
        ("My method", name.replace("_", " ").strip().capitalize() or name),
    ):
        text = text.replace(old, new)
    return text
