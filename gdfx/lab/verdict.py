"""What a comparison says, in words and tables."""

import math
from collections.abc import Iterable

import numpy as np
from rich.text import Text

from gdfx.core.words import listed, number
from gdfx.lab.comparison import REFERENCE, Cell, Interval, Results, Runs
from gdfx.lab.results import nan_last
from gdfx.lab.tables import Column, Columns, Page, page


def sentences(results: Results) -> list[str]:
    """What can be concluded of each method beside the reference, a sentence each."""
    return [sentence(results, method) for method in results.gain]


def sentence(results: Results, method: str) -> str:
    """What can be concluded of one method beside the reference."""
    gain, speed = results.gain[method], results.speed[method]
    missed, runs = results.misses(method)
    if missed == runs:
        return f"{method} reaches none of {REFERENCE}'s targets at this budget."
    if gain.low <= 0 <= gain.high:
        return (
            f"No difference between {method} and {REFERENCE} at this budget: their speeds differ "
            f"by {_interval(gain, '+.2f')}, which may be 0."
        )
    way = "faster" if gain.low > 0 else "slower"
    if results.speed[REFERENCE].value == 0:
        return (
            f"{method} is faster than {REFERENCE} on these problems: it misses {missed} of the "
            f"{runs} targets, and {REFERENCE} nearly all."
        )
    times = speed.value / results.speed[REFERENCE].value
    if times < 0.05:
        return (
            f"{method} is slower than {REFERENCE} on these problems: it misses {missed} of the "
            f"{runs} targets."
        )
    return (
        f"{method} is {way} than {REFERENCE} on these problems, {times:.2f} times as fast to its "
        f"targets: their speeds differ by {_interval(gain, '+.2f')}."
    )


def limits(results: Results) -> list[str]:
    """What cannot be concluded, and what it cost."""
    protocol = results.protocol
    unsolved = [
        f"{method} misses {missed} of {runs}"
        for method in results.methods
        for missed, runs in [results.misses(method)]
        if missed
    ]
    said: list[str] = []
    if unsolved:
        said.append(f"Of the targets, {listed(unsolved)}; a miss counts as infinitely slow.")
    return [
        *said,
        *_edges(results),
        f"It is about {_problems(results)} of small size and a "
        f"{protocol.schedule}: rankings at this size do not carry over to larger models by "
        "themselves.",
        f"It took {_time(results.seconds)}: for each method and problem {protocol.trials} trials "
        f"on {protocol.tuning_seeds} seeds, then the best trial and the defaults on "
        f"{protocol.seeds} fresh seeds.",
    ]


def _problems(results: Results) -> str:
    count = len(results.fields)
    return f"{count} problem{'s' * (count > 1)}"


def _edges(results: Results) -> Iterable[str]:
    """Of which methods the search may have been too narrow."""
    for method, cells in results.cells.items():
        at = [name for name, cell in cells.items() if at_edge(cell)]
        if at:
            yield f"The best rate of {method} is at the edge of what was tried on {listed(at)}."


def at_edge(cell: Cell) -> bool:
    """Whether the tuned learning rate is the lowest or the highest that was tried."""
    rates = cell.rates
    return cell.tuned is not None and cell.tuned.settings["learning_rate"] in (
        rates.min(),
        rates.max(),
    )


def page_of(results: Results) -> Page:
    """The verdict, and the tables that it stands on."""
    parts: list[Page] = [
        page(
            f"{listed(results.methods)} on {_problems(results)}",
            Text("\n".join(sentences(results)) or f"{REFERENCE} alone: there is nothing to say."),
            Text(),
            _summary(results),
            Text(),
            note="\n".join(
                (
                    f"Speed: {REFERENCE}'s steps to the target by the method's, interquartile mean "
                    "over problems and seeds, 95 % stratified bootstrap interval. Untuned: the "
                    "same with the factory's own rate, or 0.001 where it has none. Misses: runs "
                    "that do not reach the target.",
                    *limits(results),
                )
            ),
        )
    ]
    parts += [_of_problem(results, name) for name in results.fields]
    return Page(*parts, _searched(results))


def _summary(results: Results) -> Columns:
    methods = results.methods
    misses = [results.misses(method) for method in methods]
    bytes_ = [
        max(cell.untuned.state_bytes for cell in results.cells[method].values())
        for method in methods
    ]
    return Columns(
        [Column("method", methods)],
        [
            Column("speed", [_interval(results.speed[m], ".2f") for m in methods]),
            Column("untuned", [_interval(results.untuned_speed[m], ".2f") for m in methods]),
            Column("misses", [f"{missed} of {runs}" for missed, runs in misses]),
            Column("state bytes", [f"{size:.1f}" for size in bytes_]),
        ],
    )


def _of_problem(results: Results, name: str) -> Page:
    field = results.fields[name]
    cells = {method: results.cells[method][name] for method in results.methods}
    rows = [cell.tuned for cell in cells.values()]
    steps = [results.steps_to(method, name) for method in cells]
    seconds = [
        _median(x / field.steps[-1] * (np.nan if runs is None else runs.seconds), ".2g")
        for x, runs in zip(steps, rows, strict=True)
    ]
    columns = [
        Column("rate", [_rate(runs) for runs in rows]),
        Column("steps", [_median(x, "g") for x in steps]),
        Column("seconds", seconds),
        Column(f"final {field.loss_name}", [_final(runs) for runs in rows]),
    ]
    if field.held_out is not None:
        accuracy = field.held_out == "accuracy"
        cell = [_held_out(runs, accuracy=accuracy) for runs in rows]
        columns.append(Column("accuracy, %" if accuracy else "test loss", cell))
    return page(
        f"{field.title}\ntarget {field.target:.3g} in {field.steps[-1]} steps",
        Columns([Column("method", list(cells))], columns),
        Text(),
        note="Medians of the seeds; steps and seconds to the target.",
    )


def _searched(results: Results) -> Page:
    lines: list[str] = []
    for method, cells in results.cells.items():
        cell = next(iter(cells.values()))
        spaces = ", ".join(f"{name} in {space}" for name, space in cell.space.items())
        lines.append(f"{method}: {spaces}; all else at its defaults.")
        lines += dict.fromkeys(f"{c.note}." for c in cells.values() if c.note)
    return page("What was searched", Text("\n".join(lines)), note="")


def _rate(runs: Runs | None) -> str:
    return "none" if runs is None else number(runs.settings["learning_rate"])


def _final(runs: Runs | None) -> str:
    return "diverged" if runs is None else _median(runs.loss[:, -1], ".3g", "diverged")


def _held_out(runs: Runs | None, *, accuracy: bool) -> str:
    if runs is None or runs.held_out is None:
        return "–"
    return _median(runs.held_out * (100 if accuracy else 1), ".1f" if accuracy else ".3g")


def _median(values: np.ndarray, form: str, otherwise: str = "missed") -> str:
    middle = float(np.median(nan_last(values)))
    return f"{middle:{form}}" if math.isfinite(middle) else otherwise


def _interval(found: Interval, form: str) -> str:
    return f"{found.value:{form}} ({found.low:{form}} … {found.high:{form}})"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
