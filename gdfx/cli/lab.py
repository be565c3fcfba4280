"""Commands that run methods on problems, or by the clock."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from gdfx import files
from gdfx.cli import show
from gdfx.cli.terminal import app, console, need, orderly
from gdfx.core.words import number
from gdfx.lab import counts, lowbit, passes, torches
from gdfx.lab.bench import FULL, QUICK, bench, bench_sweep
from gdfx.lab.compare import FIGURES, compare, load
from gdfx.lab.compare import PAGE as COMPARE_PAGE
from gdfx.lab.compare import PROBLEMS as COMPARED
from gdfx.lab.outcome import Outcome, file_names
from gdfx.lab.race import PAGE as RACE_PAGE
from gdfx.lab.race import race
from gdfx.lab.resolve import (
    DEFAULT_METHODS,
    DEFAULT_PROBLEMS,
    find_problem,
    find_problems,
)
from gdfx.lab.run import Progress
from gdfx.lab.space import Space, parse
from gdfx.lab.sweep import HALF_DECADES, TUNING_SEED, figure_name, sweep
from gdfx.lab.trials import RATE
from gdfx.lookup import RequestError


def _methods(
    form: str, which: str, default: str = ", ".join(DEFAULT_METHODS)
) -> typer.models.OptionInfo:
    return typer.Option(
        "--method",
        "-m",
        metavar=form,
        help=f"{which} Repeat for more.  [default: {default}]",
    )


_PROBLEM = (
    "One of 'gdfx problems', with settings as in rosenbrock:noise=0.1, or module:problem for one "
    "of your own, made by gdfx.lab.problem."
)

_Steps = Annotated[
    int | None, typer.Option(metavar="N", help="Steps of each run.  [default: the problem's]")
]
_Seeds = Annotated[
    int, typer.Option(metavar="N", help="Runs of each method, where chance plays a part.")
]
_Seed = Annotated[int, typer.Option(metavar="N", help="The first seed; the others follow it.")]
_Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where figures and results go.")]
_Dark = Annotated[bool, typer.Option("--dark", help="Figures bright on a dark ground.")]
_Svg = Annotated[bool, typer.Option("--svg", help="Each figure as SVG, too.")]
_Page = Annotated[
    bool, typer.Option("--page", help="A page to play with, in one file for a browser, too.")
]
_Force = Annotated[
    bool, typer.Option("--force", help="Replace the results of an earlier run in the folder.")
]


@app.command("problems", short_help="List the problems, or show one with its settings.")
def problems_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[PROBLEM]", help="Show this one in full.")
    ] = None,
) -> None:
    """List the problems that methods are raced on, or show one: equations, settings, source."""
    with orderly():
        console().print(show.problems() if name is None else show.problem(name))


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
            help=f"{_PROBLEM} Repeat for more.  [default: {', '.join(DEFAULT_PROBLEMS)}]",
        ),
    ] = None,
    steps: _Steps = None,
    seeds: _Seeds = 5,
    seed: _Seed = 0,
    out: _Out = Path("race"),
    movie: Annotated[
        str | None,
        typer.Option(metavar="gif|mp4", help="Each figure as a movie, too; mp4 needs ffmpeg."),
    ] = None,
    dark: _Dark = False,
    svg: _Svg = False,
    page: _Page = False,
    force: _Force = False,
) -> None:
    """Race methods on a valley and on images of digits: tables, figures, raw results.

    With the defaults it takes about a minute; with --page, which also runs each method at learning
    rates around its own, about two.
    """
    with orderly("nothing was written"):
        need("race", "lab")
        problems = find_problems(problem or DEFAULT_PROBLEMS)
        names = file_names(problems, svg=svg)
        if movie is not None:
            from gdfx.lab.movie import check_kind  # matplotlib is slow to import

            check_kind(movie)
            names += [f"{name}.{movie}" for name in problems]
        names += [RACE_PAGE] * page
        files.check_set(out, names, force=force)
        with board() as progress:
            result = race(
                method or DEFAULT_METHODS,
                problems.values(),
                steps=steps,
                seeds=seeds,
                seed=seed,
                explore=page,
                progress=progress,
            )
        written = result.save(out, force=force, dark=dark, svg=svg, movie=movie, page=page)
    _show(result, written)


@app.command("sweep", short_help="Run methods over learning rates and other hyperparameters.")
def sweep_command(
    method: Annotated[
        list[str] | None,
        _methods("NAME", "One of 'gdfx list', or module:factory as in optax:lion."),
    ] = None,
    problem: Annotated[
        str, typer.Option("--problem", "-p", metavar="NAME", help=_PROBLEM)
    ] = "mnist",
    rates: Annotated[
        str | None,
        typer.Option(
            metavar="RATE,...",
            help="The learning rates to try, or a range as 1e-4:1.  [default: "
            f"{','.join(map(number, HALF_DECADES))}; the problem's where --over is given]",
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Another hyperparameter: b1=0.8,0.9 tries all combinations of the values, "
            "b1=0.8:0.99:linear or eps=1e-9:1e-3 samples ranges. Repeat for more.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many settings are sampled from ranges.  [default: 20]"),
    ] = None,
    steps: _Steps = None,
    seeds: _Seeds = 5,
    seed: _Seed = TUNING_SEED,
    out: _Out = Path("sweep"),
    dark: _Dark = False,
    svg: _Svg = False,
    force: _Force = False,
) -> None:
    """Run methods over learning rates and other hyperparameters: a table, a figure, raw results.

    What is finished is kept in the folder: after Ctrl-C, the same command goes on from there.
    """
    left = Left("nothing was written")
    with orderly(left):
        need("sweep", "lab")
        space = parse((over or []) if rates is None else [f"{RATE}={rates}", *(over or [])])
        field = find_problem(problem)
        files.check_set(out, file_names([figure_name(field)], svg=svg), force=force)
        with board() as progress:
            result = sweep(
                method or DEFAULT_METHODS,
                field,
                over=space,
                trials=trials,
                steps=steps,
                seeds=seeds,
                seed=seed,
                keep=out,
                force=force,
                progress=left.kept_by(progress),
            )
        written = result.save(out, force=force, dark=dark, svg=svg)
    _show(result, written)


@app.command("compare", short_help="Compare methods with AdamW, all tuned equally.")
def compare_command(
    method: Annotated[
        list[str] | None,
        _methods("NAME", "One of 'gdfx list', or module:factory as in optax:lion.", "adam, sgd"),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            "--problem",
            "-p",
            metavar="NAME",
            help=f"{_PROBLEM} Repeat for more.  [default: {', '.join(COMPARED)}, as far as all "
            "methods can run on them]",
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD:NAME=RANGE",
            help="What is searched of a method besides: adam:b1=0.5:0.99:linear. Repeat for more.  "
            "[default: each method's learning rate from 1e-4 to 10]",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(metavar="N", help="Settings tried of each method.")] = 20,
    seeds: Annotated[
        int, typer.Option(metavar="N", help="Fresh seeds for the best setting of each method.")
    ] = 10,
    steps: _Steps = None,
    quick: Annotated[bool, typer.Option("--quick", help="Four problems, not seven.")] = False,
    add: Annotated[
        bool,
        typer.Option("--add", help="Add methods to the comparison in the folder, at equal terms."),
    ] = False,
    out: _Out = Path("compare"),
    dark: _Dark = False,
    svg: _Svg = False,
    page: _Page = False,
    force: _Force = False,
) -> None:
    """Compare methods with AdamW: equal tuning, fresh seeds, intervals, a verdict in words.

    Each method has as many quasi-random trials on each problem; the best is run on fresh seeds. The
    tuned AdamW sets the target of each problem. What is finished is kept: after Ctrl-C, the same
    command goes on from there. With the defaults it takes some minutes; with --quick, about one.
    """
    left = Left("nothing was written")
    with orderly(left):
        need("compare", "lab")
        stored = load(out) if add else None
        names = [*file_names(FIGURES, svg=svg), *[COMPARE_PAGE] * page]
        files.check_set(out, names, force=force or add)
        with board() as progress:
            result = compare(
                method or ["adam", "sgd"],
                problem,
                trials=trials,
                seeds=seeds,
                steps=steps,
                spaces=_spaces(over or []),
                quick=quick,
                add_to=stored,
                keep=out,
                force=force,
                progress=left.kept_by(progress),
            )
        written = result.save(out, force=force or add, dark=dark, svg=svg, page=page)
    _show(result, written)


def _spaces(texts: Iterable[str]) -> dict[str, Space]:
    """What is searched of each method, from ``METHOD:NAME=RANGE`` each."""
    found: dict[str, list[str]] = {}
    for text in texts:
        method, colon, rest = text.partition("=")[0].rpartition(":")
        if not colon:
            raise RequestError(f"{text!r} is not METHOD:NAME=RANGE, as in adam:b1=0.5:0.99:linear")
        found.setdefault(method, []).append(rest + text[len(method) + 1 + len(rest) :])
    return {method: parse(some) for method, some in found.items()}


@app.command("report", short_help="Make tables and figures again from stored results.")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What gdfx compare wrote.")],
    dark: _Dark = False,
    svg: _Svg = False,
    page: _Page = False,
) -> None:
    """Make the tables and figures of a stored comparison again, without running anything."""
    with orderly("the stored results are as they were"):
        need("report", "lab")
        result = load(folder)
        written = result.save(folder, force=True, dark=dark, svg=svg, page=page)
    _show(result, written)


@app.command("bench", short_help="Time gdfx beside optax.")
def bench_command(
    method: Annotated[
        list[str] | None,
        _methods("NAME", "One of 'gdfx list' that matches an optax optimizer."),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Count instead: the same numbers on a busy machine."),
    ] = False,
    low_bit: Annotated[
        bool,
        typer.Option("--low-bit", help="Time state of few bits, and tell what memory it needs."),
    ] = False,
    one_pass: Annotated[
        bool,
        typer.Option("--one-pass", help="Time one pass (gdfx.one_pass) beside optax's plain step."),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller trees, fewer runs.")] = False,
    sweeps: Annotated[
        bool,
        typer.Option("--sweep", help="Time a sweep of rates beside the same runs in a loop."),
    ] = False,
    torch: Annotated[
        bool,
        typer.Option("--torch", help="Time steps of methods for matrices beside PyTorch's."),
    ] = False,
) -> None:
    """Time gdfx beside optax: a step, tracing and compiling one, and updates without jit.

    The default methods take about four minutes on two idle cores; with --quick, less than one.
    With --exact no clock is read: calls, instructions, kernels and bytes; half a minute.
    With --low-bit: gdfx.quantized beside float32, any method of 'gdfx list'; one minute.
    With --one-pass: steps of optax's own optimizers, and compiling them; twelve minutes.
    With --torch: steps of muon, soap, shampoo and kron beside torch and pytorch_optimizer, which it
    needs; many minutes where the processor has to emulate bfloat16.
    """
    with orderly("nothing was written"):
        if exact + low_bit + one_pass + sweeps + torch > 1:
            benches = "--exact, --low-bit, --one-pass, --sweep and --torch"
            raise RequestError(f"{benches} are five benches; choose one")
        with console(stderr=True).status("measuring") as status:
            if sweeps:
                need("bench --sweep", "lab")
                result = bench_sweep(
                    method or DEFAULT_METHODS, rates=8 if quick else 32, on_row=status.update
                )
            elif exact:
                result = counts.bench_counts(
                    method or DEFAULT_METHODS,
                    counts.QUICK if quick else counts.FULL,
                    on_row=lambda row: status.update(row.method),
                )
            elif low_bit:
                result = lowbit.bench_low_bit(
                    method or ("adam",),
                    lowbit.QUICK if quick else lowbit.FULL,
                    on_row=lambda row: status.update(f"{row.method} {row.case} {row.code}"),
                )
            elif one_pass:
                result = passes.bench_passes(
                    (passes.quick if quick else passes.full)(method or ()),
                    on_row=lambda row: status.update(f"{row.name} {row.case} {row.what}"),
                )
            elif torch:
                result = torches.bench_torch(
                    method or (),
                    torches.QUICK if quick else torches.FULL,
                    on_row=lambda row: status.update(f"{row.name} {row.case}"),
                )
            else:
                result = bench(
                    method or DEFAULT_METHODS,
                    QUICK if quick else FULL,
                    on_row=lambda row: status.update(f"{row.method} {row.case} {row.what}"),
                )
        console().print(result.table())


def _show(result: Outcome, written: Iterable[Path]) -> None:
    with orderly("the results are written"):
        screen = console()
        screen.print(result.table())
        screen.print("Written:", ", ".join(map(str, written)), soft_wrap=True)


class Left:
    """What Ctrl-C leaves of a sweep, to be said when it comes."""

    def __init__(self, words: str) -> None:
        self.words = words

    def kept_by(self, progress: Progress) -> Progress:
        """The same display; once it shows something, there is something to go on from."""

        def shown(problem: str, label: str, step: int, steps: int, loss: float) -> None:
            self.words = "what is finished is kept: the same command goes on from there"
            progress(problem, label, step, steps, loss)

        return shown

    def __str__(self) -> str:
        return self.words


@contextmanager
def board() -> Generator[Progress]:
    """A bar for each method, with its loss and the time left."""
    bars: dict[tuple[str, str], TaskID] = {}
    screen = console(stderr=True)
    with Bars(
        TextColumn("{task.fields[problem]}"),
        TextColumn("{task.description}"),
        BarColumn(20),
        TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
        TextColumn("loss {task.fields[loss]:.2g}"),
        TimeRemainingColumn(compact=True),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as display:

        def progress(problem: str, label: str, step: int, steps: int, loss: float) -> None:
            key = problem, label
            if key not in bars:
                bars[key] = display.add_task(label, total=steps, problem=problem, loss=loss)
            display.update(bars[key], completed=step, loss=loss)

        yield progress
