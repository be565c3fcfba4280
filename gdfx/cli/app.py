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
from gdfx.lookup import find_factory


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
def list_command() -> None:
    """List the methods, one line each."""
    with orderly():
        console().print(show.methods())


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
