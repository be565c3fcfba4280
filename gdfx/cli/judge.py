"""Commands that try an optimizer on laws."""

import json
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.console import Console

from gdfx import files
from gdfx.cli.terminal import app, console, orderly
from gdfx.core.words import sentence
from gdfx.lookup import RequestError, find_factory, parse_arguments


@app.command("check")
def check_command(
    name: Annotated[
        str, typer.Argument(metavar="METHOD", help="One of 'gdfx list', or module:factory.")
    ],
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            metavar="NAME=VALUE",
            help="An argument of the factory. Repeat for more.  [default: learning_rate=0.1]",
        ),
    ] = None,
    trait: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What is declared of it, as in odd=True: see gdfx.testing.Traits. Repeat for "
            "more.  [default: what is known of gdfx's and optax's own]",
        ),
    ] = None,
    law: Annotated[list[str] | None, typer.Option(help="One law. Repeat for more.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A broken courtesy counts as a broken contract does.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every law, and why some are not applicable.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed tries the same cases.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report to this file, too.")
    ] = None,
) -> None:
    """Try an optimizer on laws; status 1 where it breaks the contract.

    The contract is what optax asks of every optimizer, and what is declared of this one. What
    gdfx's optimizers do beyond it are courtesies: they are listed, and count with --strict.
    """
    with orderly():
        with suppress(RuntimeError):  # JAX runs already
            jax.config.update("jax_num_cpu_devices", 8)  # some laws are about several devices
        if find_spec("hypothesis") is None:
            raise RequestError('check needs the extra "testing": pip install "gdfx[lab,testing]"')
        from gdfx import testing

        factory, arguments = find_factory(name), parse_arguments(arg or [])
        with console(stderr=True).status("") as status:

            def progress(law: testing.Law) -> None:
                status.update(law.name)

            try:
                if "learning_rate" in signature(factory).parameters:
                    arguments = {"learning_rate": 0.1} | arguments
                make = partial(factory, **arguments)
                declared = testing.Traits(**parse_arguments(trait)) if trait else None
                report = testing.check(make, law, declared, seed=seed, progress=progress)
            except Exception as error:  # what the factory itself raises, or an unknown law
                raise RequestError(f"{name}: {sentence(error)}") from error
        if json_file is not None:
            files.writable_folder(json_file.parent)
            files.write(json_file, json.dumps(report.to_dict(), indent=1).encode())
        out = console()
        if every:
            Console(highlight=False, emoji=False).print(report.table())
        else:
            out.print(report.summary(), soft_wrap=True)
            if report.not_applicable:
                out.print("  --all says why; with --trait more can be declared, and is tried")
        failed = (report if strict else report.of("contract")).broken
        for verdict in failed:
            out.print(f"\n{verdict.law.name}\n# {verdict.words}\n{verdict.code}", soft_wrap=True)
        raise typer.Exit(bool(failed))
