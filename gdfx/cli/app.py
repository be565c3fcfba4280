"""The commands, all together, and the ones on methods: ``list`` and ``show``."""

from typing import Annotated

import typer

import gdfx
from gdfx.catalog import METHODS
from gdfx.cli import judge as judge
from gdfx.cli import lab as lab
from gdfx.cli import new as new
from gdfx.cli import show
from gdfx.cli.terminal import app as app
from gdfx.cli.terminal import console, orderly
from gdfx.core.words import either, nearest
from gdfx.lookup import RequestError, find_factory

DIALECTS = list(dict.fromkeys(m.dialect for m in METHODS.values() if m.dialect))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gdfx {gdfx.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Gradient-descent methods for JAX: listed, shown, checked and raced."""


@app.command("list")
def list_command(
    dialect: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Only the forms of {either(DIALECTS)}."),
    ] = None,
) -> None:
    """List the methods, one line each."""
    with orderly():
        if dialect not in (None, *DIALECTS):
            raise RequestError(f"unknown dialect {dialect!r}; {nearest(dialect, DIALECTS)}")
        console().print(show.methods(dialect))


@app.command("show", short_help="Show a method: equations, arguments, reference.")
def show_command(
    name: Annotated[
        str, typer.Argument(metavar="METHOD", help="One of 'gdfx list', or module:factory.")
    ],
) -> None:
    """Show a method's equations, arguments and reference, beside its other forms.

    Of somebody else's optimizer, as in optax:adam, it shows what its docstring begins with, its
    arguments, the traits that gdfx check assumes, and which of gdfx's methods equal it.
    """
    with orderly():
        record = METHODS.get(name)
        found = show.factory(name, find_factory(name)) if record is None else show.method(record)
        console().print(found)
