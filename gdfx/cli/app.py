"""The commands, all together, and the ones on the catalog: ``list`` and ``show``."""

from typing import Annotated

import typer

import gdfx
from gdfx.cli import judge as judge
from gdfx.cli import lab as lab
from gdfx.cli import show
from gdfx.cli.terminal import app as app
from gdfx.cli.terminal import console, orderly
from gdfx.lookup import find_method


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
    """Gradient-descent methods for JAX, raced, listed and shown."""


@app.command("list")
def list_command() -> None:
    """List the methods, one line each."""
    console().print(show.methods())


@app.command("show")
def show_command(name: Annotated[str, typer.Argument(metavar="METHOD")]) -> None:
    """Show a method's equations, arguments and reference, beside its other forms."""
    with orderly():
        console().print(show.method(find_method(name)))
