"""What all commands share: the application, where it prints, what it needs, how mistakes end."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec

import typer
from rich.console import Console

from gdfx.core.words import listed
from gdfx.lookup import RequestError

app = typer.Typer(
    help="Gradient-descent methods for JAX: listed, shown, checked and raced.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NEEDED = {
    "lab": {
        "matplotlib": "matplotlib",
        "mlxtend": "mlxtend",
        "plotly": "plotly",
        "scikit-learn": "sklearn",
    },
    "testing": {"hypothesis": "hypothesis"},
}
"""By extra, the packages without which a command cannot run, and their modules."""


def need(command: str, extra: str) -> None:
    """Refuse a command, in one sentence, where packages of an extra are missing.

    Args:
      command: the command's name, as in ``race``.
      extra: ``lab`` or ``testing``.

    Raises:
      RequestError: with all packages that are missing.
    """
    missing = [package for package, module in NEEDED[extra].items() if find_spec(module) is None]
    if missing:
        is_or_are = "is" if len(missing) == 1 else "are"
        raise RequestError(
            f"{command} needs {listed(missing)}, which {is_or_are} not installed; "
            f'in a checkout of gdfx: pip install -e ".[{extra}]"'
        )


def console(*, stderr: bool = False) -> Console:
    """Where results (or, with ``stderr``, progress) are printed, without colour markup."""
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


@contextmanager
def orderly(left: object = "") -> Generator[None]:
    """A user's mistake gets one sentence and status 2; Ctrl-C one line and 130.

    Args:
      left: what Ctrl-C leaves, where there is anything to say of it; it is asked when it comes.
    """
    try:
        yield
    except RequestError as error:
        typer.echo(f"gdfx: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("; ".join(filter(None, ("gdfx: interrupted", str(left)))), err=True)
        raise typer.Exit(130) from None
