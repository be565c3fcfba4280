"""Commands that run methods on problems, or by the clock."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from gdfx import files
from gdfx.cli.terminal import app, console, need, orderly
from gdfx.core.words import number
from gdfx.lab import passes
from gdfx.lab.bench import FULL, QUICK, bench
from gdfx.lab.outcome import Outcome
from gdfx.lab.problems import PROBLEMS
from gdfx.lab.race import race
from gdfx.lab.resolve import DEFAULT_METHODS, Entry, Rate, find_problem, find_problems
from gdfx.lab.run import Progress
from gdfx.lab.sweep import HALF_DECADES, TUNING_SEED, figure_name, sweep
from gdfx.lookup import RequestError


def _methods(form: str, which: str) -> typer.models.OptionInfo:
    return typer.Option(
        "--method",
        "-m",
        metavar=form,
        help=f"{which} Repeat for more.  [default: {', '.join(DEFAULT_METHODS)}]",
    )


_PROBLEM = (
    f"{', '.join(PROBLEMS)}, or module:problem for one of your own, made by gdfx.lab.problem."
)

_Steps = Annotated[
    int | None, typer.Option(metavar="N", help="Steps of each run.  [default: the problem's]")
]
_Seeds = Annotated[
    int, typer.Option(metavar="N", help="Runs of each method, where chance plays a part.")
]
_Seed = Annotated[int, typer.Option(metavar="N", help="The first seed; the others follow it.")]
_Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where figures and results go.")]
_Force = Annotated[
    bool, typer.Option("--force", help="Replace the results of an earlier run in the folder.")
]


@app.command("race", short_help="Race methods on a valley and on images of digits.")
def race_command(
    method: Annotated[
        list[str] | None,
        _methods(
            "NAME[=RATE]",
            "One of 'gdfx list', or module:factory as in optax:lion=1e-4; a rate for each problem: "
            "adam=valley:0.3,mnist:0.001.",
        ),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            "--problem",
            "-p",
            metavar="NAME",
            help=f"{_PROBLEM} Repeat for more.  [default: {', '.join(PROBLEMS)}]",
        ),
    ] = None,
    steps: _Steps = None,
    seeds: _Seeds = 5,
    seed: _Seed = 0,
    out: _Out = Path("race"),
    force: _Force = False,
) -> None:
    """Race methods on a valley and on images of digits: tables, figures, raw results.

    With the defaults it takes about a minute.
    """
    with orderly("nothing was written"):
        need("race", "lab")
        problems = find_problems(problem or PROBLEMS)
        files.check_set(out, [f"{name}.png" for name in problems], force=force)
        with board() as progress:
            result = race(
                method or DEFAULT_METHODS,
                problems.values(),
                steps=steps,
                seeds=seeds,
                seed=seed,
                progress=progress,
            )
        written = result.save(out, force=force)
    _show(result, written)


@app.command("sweep", short_help="Run methods over a grid of learning rates.")
def sweep_command(
    method: Annotated[
        list[str] | None,
        _methods("NAME", "One of 'gdfx list', or module:factory as in optax:lion."),
    ] = None,
    problem: Annotated[
        str, typer.Option("--problem", "-p", metavar="NAME", help=_PROBLEM)
    ] = "mnist",
    rates: Annotated[
        str,
        typer.Option(metavar="RATE,...", help="The learning rates to try."),
    ] = ",".join(map(number, HALF_DECADES)),
    steps: _Steps = None,
    seeds: _Seeds = 5,
    seed: _Seed = TUNING_SEED,
    out: _Out = Path("sweep"),
    force: _Force = False,
) -> None:
    """Run methods over a grid of learning rates: a table, a figure, raw results."""
    with orderly("nothing was written"):
        need("sweep", "lab")
        field = find_problem(problem)
        files.check_set(out, [f"{figure_name(field)}.png"], force=force)
        with board() as progress:
            result = sweep(
                method or DEFAULT_METHODS,
                field,
                rates=_numbers(rates),
                steps=steps,
                seeds=seeds,
                seed=seed,
                progress=progress,
            )
        written = result.save(out, force=force)
    _show(result, written)


@app.command("bench", short_help="Time gdfx beside optax.")
def bench_command(
    method: Annotated[
        list[str] | None,
        _methods("NAME", "One of 'gdfx list' that matches an optax optimizer."),
    ] = None,
    one_pass: Annotated[
        bool,
        typer.Option("--one-pass", help="Time one pass (gdfx.one_pass) beside optax's plain step."),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller trees, fewer runs.")] = False,
) -> None:
    """Time gdfx beside optax: a step, tracing and compiling one, and updates without jit.

    The default methods take about four minutes on two idle cores; with --quick, less than one.
    With --one-pass: steps of optax's own optimizers, and compiling them; about ten minutes.
    """
    with orderly("nothing was written"):
        with console(stderr=True).status("measuring") as status:
            if one_pass:
                result = passes.bench_passes(
                    (passes.quick if quick else passes.full)(method or ()),
                    on_row=lambda row: status.update(f"{row.name} {row.case} {row.what}"),
                )
            else:
                result = bench(
                    method or DEFAULT_METHODS,
                    QUICK if quick else FULL,
                    on_row=lambda row: status.update(f"{row.method} {row.case} {row.what}"),
                )
        console().print(result.table())


def _numbers(texts: str) -> list[float]:
    """Learning rates from a list with commas."""
    try:
        return [float(text) for text in texts.split(",")]
    except ValueError:
        raise RequestError(f"{texts!r} is not RATE,..., as in 0.01,0.1,1") from None


def _show(result: Outcome, written: Iterable[Path]) -> None:
    with orderly("the results are written"):
        screen = console()
        screen.print(result.table())
        screen.print("Written:", ", ".join(map(str, written)), soft_wrap=True)


@contextmanager
def board() -> Generator[Progress]:
    """A bar for each run, with its loss."""
    bars: dict[tuple[str, str, Rate | None], TaskID] = {}
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
            key = problem, entry.label, entry.rate
            if key not in bars:
                rate = f" η={number(entry.rate.value)}" if entry.rate else ""
                label = f"{entry.label}{rate}"
                bars[key] = display.add_task(label, total=steps, problem=problem, loss=loss)
            display.update(bars[key], completed=step, loss=loss)

        yield progress
