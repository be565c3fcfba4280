"""Commands that run methods on problems, or by the clock."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from gdfx import files
from gdfx.cli.terminal import app, console, orderly
from gdfx.core.words import number
from gdfx.lab.bench import FULL, QUICK, bench
from gdfx.lab.problems import PROBLEMS
from gdfx.lab.race import Race, race
from gdfx.lab.resolve import DEFAULT_METHODS, Entry
from gdfx.lab.run import Progress
from gdfx.lab.sweep import TUNING_SEED, Sweep, sweep


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
    with orderly():
        files.writable_folder(out)
        with board() as progress:
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
    with orderly():
        files.writable_folder(out)
        with board() as progress:
            result = sweep(
                method or DEFAULT_METHODS,
                problem,
                steps=steps,
                seeds=seeds,
                seed=seed,
                progress=progress,
            )
        _finish(result, out)


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
    with orderly():
        with console(stderr=True).status("measuring") as status:
            result = bench(
                method or DEFAULT_METHODS,
                QUICK if quick else FULL,
                on_row=lambda row: status.update(f"{row.method} {row.case} {row.what}"),
            )
        console().print(result.table())


def _finish(result: Race | Sweep, out: Path) -> None:
    """Save before printing: a closed pipe must not cost the results."""
    written = result.save(out)
    screen = console()
    screen.print(result.table())
    screen.print("Written:", ", ".join(map(str, written)), soft_wrap=True)


@contextmanager
def board() -> Generator[Progress]:
    """A bar for each run, with its loss."""
    bars: dict[tuple[str, str, float], TaskID] = {}
    screen = console(stderr=True)
    with Bars(
        TextColumn("{task.fields[problem]}"),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
        TextColumn("loss {task.fields[loss]:.2g}"),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as display:

        def progress(problem: str, entry: Entry, step: int, steps: int, loss: float) -> None:
            key = problem, entry.name, entry.rate
            if key not in bars:
                label = f"{entry.name} η={number(entry.rate)}"
                bars[key] = display.add_task(label, total=steps, problem=problem, loss=loss)
            display.update(bars[key], completed=step, loss=loss)

        yield progress
