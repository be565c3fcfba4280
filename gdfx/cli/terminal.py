"""What all commands share: the application, where it prints, how mistakes end."""

from collections.abc import Generator
from contextlib import contextmanager

import typer
from rich.console import Console

from gdfx.lookup import RequestError

app = typer.Typer(
    help="Gradient-descent methods for JAX, raced, listed and shown.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def console(*, stderr: bool = False) -> Console:
    """Where results (or, with ``stderr``, progress) are printed, without colour markup."""
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


@contextmanager
def orderly() -> Generator[None]:
    """A user's mistake gets one sentence and status 2; Ctrl-C one line and 130."""
    try:
        yield
    except RequestError as error:
        typer.echo(f"gdfx: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("gdfx: interrupted; no file was left half-written", err=True)
        raise typer.Exit(130) from None
