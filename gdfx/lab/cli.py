"""The command line: a thin cover over the functions of the lab."""

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

import gdfx
from gdfx.lab import files, show
from gdfx.lab.bench import FULL, QUICK, bench
from gdfx.lab.problems import PROBLEMS
from gdfx.lab.race import Race, race
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    Entry,
    RaceError,
    find_factory,
    find_method,
    number,
    parse_arguments,
    sentence,
)
from gdfx.lab.run import Progress
from gdfx.lab.sweep import TUNING_SEED, Sweep, sweep

app = typer.Typer(
    help="Gradient-descent methods for JAX, raced, listed and shown.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _methods(form: str, example: str) -> typer.models.OptionInfo:
    return typer.Option(
        "--method",
        "-m",
        metavar=form,
        help=f"One of 'gdfx list', or module:factory as in {example}. Repeat for more.  "
        f"[default: {', '.join(DEFAULT_METHODS)}]",
    )


_Steps = Annotated[int | None, typer.Option(help="Steps of each run.  [default: the problem's]")]
_Seeds = Annotated[int, typer.Option(help="Runs of each method, where chance plays a part.")]
_Seed = Annotated[int, typer.Option(help="The first seed; the others follow it.")]
_Out = Annotated[Path, typer.Option(help="The folder for figures and results.")]


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


@app.command("race")
def race_command(
    method: Annotated[list[str] | None, _methods("NAME[=RATE]", "optax:lion=1e-4")] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option("--problem", "-p", help=f"Repeat for more.  [default: {', '.join(PROBLEMS)}]"),
    ] = None,
    steps: _Steps = None,
    seeds: _Seeds = 5,
    seed: _Seed = 0,
    out: _Out = Path("race"),
) -> None:
    """Race methods on a valley and on images of digits: tables, figures, raw results."""
    with _orderly():
        files.writable_folder(out)
        with _board() as progress:
            result = race(
                method or DEFAULT_METHODS,
                problem or tuple(PROBLEMS),
                steps=steps,
                seeds=seeds,
                seed=seed,
                progress=progress,
            )
        _finish(result, out)


@app.command("sweep")
def sweep_command(
    method: Annotated[list[str] | None, _methods("NAME", "optax:lion")] = None,
    problem: Annotated[str, typer.Option("--problem", "-p")] = "mnist",
    steps: _Steps = None,
    seeds: _Seeds = 5,
    seed: _Seed = TUNING_SEED,
    out: _Out = Path("race"),
) -> None:
    """Run methods over a grid of learning rates: a table, a figure, raw results."""
    with _orderly():
        files.writable_folder(out)
        with _board() as progress:
            result = sweep(
                method or DEFAULT_METHODS,
                problem,
                steps=steps,
                seeds=seeds,
                seed=seed,
                progress=progress,
            )
        _finish(result, out)


@app.command("list")
def list_command() -> None:
    """List the methods, one line each."""
    _console().print(show.methods())


@app.command("show")
def show_command(name: Annotated[str, typer.Argument(metavar="METHOD")]) -> None:
    """Show a method's equations, arguments and reference, beside its other forms."""
    with _orderly():
        _console().print(show.method(find_method(name)))


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
    with _orderly():
        with suppress(RuntimeError):  # JAX runs already
            jax.config.update("jax_num_cpu_devices", 8)  # some laws are about several devices
        if find_spec("hypothesis") is None:
            raise RaceError('check needs the extra "testing": pip install "gdfx[lab,testing]"')
        from gdfx import testing

        factory, arguments = find_factory(name), parse_arguments(arg or [])
        with _console(stderr=True).status("") as status:

            def progress(law: testing.Law) -> None:
                status.update(law.name)

            try:
                if "learning_rate" in signature(factory).parameters:
                    arguments = {"learning_rate": 0.1} | arguments
                make = partial(factory, **arguments)
                declared = testing.Traits(**parse_arguments(trait)) if trait else None
                report = testing.check(make, law, declared, seed=seed, progress=progress)
            except Exception as error:  # what the factory itself raises, or an unknown law
                raise RaceError(f"{name}: {sentence(error)}") from error
        if json_file is not None:
            files.writable_folder(json_file.parent)
            files.write(json_file, json.dumps(report.to_dict(), indent=1).encode())
        console = _console()
        if every:
            Console(highlight=False, emoji=False).print(report.table())
        else:
            console.print(report.summary(), soft_wrap=True)
            if report.not_applicable:
                console.print("  --all says why; with --trait more can be declared, and is tried")
        failed = (report if strict else report.of("contract")).broken
        for verdict in failed:
            console.print(
                f"\n{verdict.law.name}\n# {verdict.words}\n{verdict.code}", soft_wrap=True
            )
        raise typer.Exit(bool(failed))


@app.command("bench")
def bench_command(
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            help="One of 'gdfx list' that matches an optax optimizer. Repeat for more.  "
            f"[default: {', '.join(DEFAULT_METHODS)}]",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller trees, fewer runs.")] = False,
) -> None:
    """Time gdfx beside optax: a step, tracing and compiling one, and updates without jit.

    The default methods take about ten minutes on two idle cores; with --quick, about one.
    """
    with _orderly():
        with _console(stderr=True).status("measuring") as status:
            result = bench(
                method or DEFAULT_METHODS,
                QUICK if quick else FULL,
                on_row=lambda row: status.update(f"{row.method} {row.case} {row.what}"),
            )
        _console().print(result.table())


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def _finish(result: Race | Sweep, out: Path) -> None:
    """Save before printing: a closed pipe must not cost the results."""
    written = result.save(out)
    console = _console()
    console.print(result.table())
    console.print("Written:", ", ".join(map(str, written)), soft_wrap=True)


@contextmanager
def _orderly() -> Generator[None]:
    """A user's mistake gets one sentence and status 2; Ctrl-C one line and 130."""
    try:
        yield
    except RaceError as error:
        typer.echo(f"gdfx: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("gdfx: interrupted; no file was left half-written", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _board() -> Generator[Progress]:
    """A bar for each run, with its loss."""
    bars: dict[tuple[str, str, float], TaskID] = {}
    console = _console(stderr=True)
    with Bars(
        TextColumn("{task.fields[problem]}"),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
        TextColumn("loss {task.fields[loss]:.2g}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as display:

        def progress(problem: str, entry: Entry, step: int, steps: int, loss: float) -> None:
            key = problem, entry.name, entry.rate
            if key not in bars:
                label = f"{entry.name} η={number(entry.rate)}"
                bars[key] = display.add_task(label, total=steps, problem=problem, loss=loss)
            display.update(bars[key], completed=step, loss=loss)

        yield progress
