"""What a race would have been at other learning rates: a sweep around each method's own."""

from collections.abc import Sequence
from dataclasses import replace

import jax

from gdfx.lab.journal import Journal
from gdfx.lab.protocol import Problem, has_surface
from gdfx.lab.resolve import Entry
from gdfx.lab.results import Run
from gdfx.lab.run import Progress, Start
from gdfx.lab.trials import MEMORY, RATE, run_trials


def explore_all(
    start: Start, entries: Sequence[Entry], progress: Progress
) -> dict[str, tuple[Run, ...]]:
    """Runs of the first seed at rates around each method's own, rising, by its label.

    A method that was handed over ready-made, or whose rate is 0, is left out.

    Raises:
      RequestError: where an optimizer fails.
    """
    first = _first_seed(start)

    def elsewhere(problem: str, label: str, step: int, steps: int, loss: float) -> None:
        progress(problem, f"{label} at other rates", step, steps, loss)

    found: dict[str, tuple[Run, ...]] = {}
    for entry in entries:
        if entry.contender is None or entry.rate is None or not entry.rate.value:
            continue
        runs, _ = run_trials(
            first,
            replace(entry.contender, label=entry.label),
            [{RATE: rate} for rate in rates_around(entry.rate.value, start.problem)],
            journal=Journal(None, {}),
            memory=MEMORY,
            progress=elsewhere,
        )
        found[entry.label] = tuple(runs)
    return found


def rates_around(rate: float, problem: Problem) -> list[float]:
    """Rates below, at and above one: ten a decade on a landscape, half decades elsewhere.

    A path is run in no time, a network is not.
    """
    tenths = range(-20, 11) if has_surface(problem) else range(-15, 16, 5)
    return [float(f"{rate * 10 ** (k / 10):.3g}") if k else rate for k in tenths]


def _first_seed(start: Start) -> Start:
    return replace(
        start,
        seeds=start.seeds[:1],
        params=jax.tree.map(lambda leaf: leaf[:1], start.params),
        batches=start.batches[:, :1],
        measured={name: value[:1] for name, value in start.measured.items()},
    )
