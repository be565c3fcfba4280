"""The commands on laws: ``check`` tries an optimizer on them, ``laws`` lists them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import typer

from gdfx import files
from gdfx.cli import lab, show
from gdfx.cli.terminal import app, console, need, orderly
from gdfx.core.words import either, nearest
from gdfx.lab.compare import FIGURES, PAGE, compare
from gdfx.lab.verdict import sentence
from gdfx.lookup import RequestError, find_factory, maker, parameters, parse_arguments

if TYPE_CHECKING:
    from gdfx.testing import Law, Traits

MORE = """
\b
What --trait can declare:
  elementwise=True|False         each number is updated for itself
  descends=True|False            the first step goes down the gradient
  odd=True|False                 -g gives the negative of g's update
  scale=linear|invariant         c g gives c times the update, or the same
  translates=True|False          shifted parameters are updated alike
  complex=True|False             complex numbers are pairs of real ones
  after_nan=nan|frozen|recovers  what a number does after a NaN gradient
  needs_params=True|False        update must be given the parameters
  needs_value=True|False         update must be given the loss
  random=True|False              updates have noise
  transposes=True|False          a transposed matrix moves transposed
  follows=permutations|rotations what becomes of a matrix in another basis
  rounding=NUMBER                rounding comes out so many times larger
  reference=module:factory       the same updates, given the same --arg

\b
Examples:
  gdfx check adam
  gdfx check optax:lion --arg learning_rate=1e-3 --arg b1=0.95
  gdfx check my_module:my_factory --trait odd=True --trait scale=invariant
  gdfx check optax:adam --law sign --law none-gradient --strict
  gdfx check optax:adam --strict --waive none-gradient="no frozen parts"
"""


@app.command("check", epilog=MORE)
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
            help="What is declared of it, and is tried; see below. Repeat for more.  [default: "
            "what is known of gdfx's and optax's own]",
        ),
    ] = None,
    law: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAW", help="One of 'gdfx laws'. Repeat for more.  [default: all of them]"
        ),
    ] = None,
    waive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAW=REASON", help="Why a law may be broken; it then fails nothing. Repeat."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A broken courtesy counts as a broken contract does.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every law, and why some are not applicable.")
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="NUMBER", help="The same seed tries the same cases.")
    ] = 0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the report to this file, too."),
    ] = None,
) -> None:
    """Try an optimizer on laws; status 1 where it breaks the contract.

    The contract is what optax asks of every optimizer, and what is declared of this one. What
    gdfx's optimizers do beyond it are courtesies: they are listed, and count with --strict.
    """
    with orderly("nothing was judged"):
        need("check", "testing")
        with suppress(RuntimeError):  # JAX runs already
            jax.config.update("jax_num_cpu_devices", 8)  # some laws are about several devices
        from gdfx.testing.judge import check
        from gdfx.testing.report import MARKS

        factory, arguments = find_factory(name), parse_arguments(arg or [])
        if "learning_rate" in parameters(factory):
            arguments = {"learning_rate": 0.1} | arguments
        make = maker(name, factory, arguments)
        traits, waivers = _traits(trait or [], arguments), _waivers(waive or [])
        laws = _laws(law, waivers)
        if json_file is not None:
            files.check_writable(json_file.parent)
        with console(stderr=True).status("") as status:
            report = check(
                make,
                laws,
                traits,
                waive=waivers,
                seed=seed,
                progress=lambda law: status.update(law.name),
            )
        if not report.is_applicable:
            reasons = "; ".join(map(str, report.verdicts))
            raise RequestError(f"no law applies to {name}, so nothing was judged: {reasons}")
    with orderly():
        out = console()
        try:
            if json_file is not None:
                files.writable_folder(json_file.parent)
                files.write(json_file, json.dumps(report.to_dict(), indent=1).encode())
        finally:  # what was found is shown even where it cannot be written
            if every:
                out.print(report.table(), MARKS, sep="\n")
            else:
                width = out.width if out.is_terminal else None
                hint = "--all says why; --trait declares more"
                overview = report.overview(strict=strict, width=width, hint=hint)
                out.print(overview, soft_wrap=True)
            for fault in report.faults(strict=strict):
                out.print(f"\n{fault}", soft_wrap=True)
            gap = "\n" * (every or bool(report.failed(strict=strict)))
            out.print(gap + report.conclusion, soft_wrap=True)
        raise typer.Exit(bool(report.failed(strict=strict)))


@app.command("judge", short_help="Check an optimizer, then compare it with AdamW.")
def judge_command(
    name: Annotated[
        str, typer.Argument(metavar="METHOD", help="One of 'gdfx list', or module:factory.")
    ],
    trials: Annotated[int, typer.Option(metavar="N", help="Settings tried of each.")] = 20,
    seeds: Annotated[int, typer.Option(metavar="N", help="Fresh seeds for the best.")] = 10,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps of each run.  [default: the problem's]"),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where figures and results go.")
    ] = Path("judge"),
    page: Annotated[
        bool,
        typer.Option("--page", help="All of it on a page, in one file for a browser, too."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the results of an earlier run in the folder.")
    ] = False,
) -> None:
    """From an idea to a verdict: the laws, a sweep of rates, and a quick comparison with AdamW.

    All laws are tried on it; then it and AdamW have as many trials on four small problems, and the
    best of each runs on fresh seeds. On top stands the verdict, in one sentence. Status 1 where it
    breaks the contract.
    """
    left = lab.Left("nothing was written")
    with orderly(left):
        need("judge", "testing")
        need("judge", "lab")
        from gdfx.testing.judge import check

        factory = find_factory(name)
        rate = {"learning_rate": 0.1} if "learning_rate" in parameters(factory) else {}
        make = maker(name, factory, rate)
        files.check_set(out, [*(f"{name}.png" for name in FIGURES), *[PAGE] * page], force=force)
        with console(stderr=True).status("") as status:
            report = check(
                make,
                _laws(None, {}),
                _traits([], rate),
                progress=lambda law: status.update(law.name),
            )
        with lab.board() as progress:
            found = compare(
                name,
                trials=trials,
                seeds=seeds,
                steps=steps,
                quick=True,
                keep=out,
                force=force,
                progress=left.kept_by(progress),
            )
        judged = sentence(found.results, found.results.methods[-1])
        verdict = f"{report.conclusion}; {judged[0].lower()}{judged[1:]}"
        written = found.save(out, force=force, page=page, verdict=verdict)
    with orderly("the results are written"):
        screen = console()
        screen.print(f"{verdict}\n", soft_wrap=True)
        for fault in report.faults():
            screen.print(f"{fault}\n", soft_wrap=True)
        screen.print(found.table())
        screen.print("Written:", ", ".join(map(str, written)), soft_wrap=True)
        raise typer.Exit(bool(report.failed()))


_OTHERS = {"reference": "module:factory", "rounding": "16"}
"""Traits whose values cannot be listed, each with an example."""


def _is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _traits(texts: Iterable[str], arguments: dict[str, Any]) -> "Traits":
    """What is declared, from ``NAME=VALUE`` each."""
    from gdfx.testing.traits import VALUES, Traits

    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name == "reference" and value:
            found[name] = maker(value, find_factory(value), arguments)
            continue
        if name == "rounding" and _is_positive(value):
            found[name] = float(value)
            continue
        if name not in (*VALUES, *_OTHERS):
            raise RequestError(
                f"--trait {text}: there is no trait {name!r}; {nearest(name, (*VALUES, *_OTHERS))}"
            )
        choices = {str(choice): choice for choice in VALUES.get(name, ())}
        if value not in choices:
            right = either([f"{name}={choice}" for choice in choices or [_OTHERS[name]]])
            raise RequestError(f"--trait {text}: say {right}")
        found[name] = choices[value]
    return Traits(**found)


def _waivers(texts: Iterable[str]) -> dict[str, str]:
    """Reasons by the name of the law, from ``LAW=REASON`` each."""
    found: dict[str, str] = {}
    for text in texts:
        law, equals, reason = text.partition("=")
        if not equals:
            raise RequestError(f'--waive {text}: give the reason, as in --waive {text}="..."')
        found[law] = reason
    return found


def _laws(names: Iterable[str] | None, waivers: Mapping[str, str]) -> "Sequence[Law]":
    """The laws of these names, or all, once the waivers are known to fit."""
    from gdfx.testing.judge import find, reasons

    try:
        laws = find(names)
        reasons(waivers, laws)
    except ValueError as error:
        raise RequestError(str(error)) from None
    return laws


@app.command("laws")
def laws_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[LAW]", help="Show this one in full.")
    ] = None,
) -> None:
    """List the laws that gdfx check tries, with what they claim."""
    with orderly():
        need("laws", "testing")
        found = show.laws() if name is None else show.law(*_laws([name], {}))
        console().print(found)
