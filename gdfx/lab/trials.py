"""One method with many settings: the runs side by side in one compiled program."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gdfx.core.inner import extended
from gdfx.core.words import sentence
from gdfx.lab.journal import Journal
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import Contender, Entry, Rate, at_rate
from gdfx.lab.results import Run
from gdfx.lab.run import (
    Progress,
    Start,
    compiled,
    of_all_seeds,
    quiet,
    run,
    state_bytes,
    stretches,
    told,
)
from gdfx.lab.space import Trial

RATE = "learning_rate"
MOST = 32
"""So many trials at most are in work at once: what an interruption can lose."""

MEMORY = 2**30
"""About how many bytes the runs of a sweep may take at once."""


def enter_trials(contender: Contender, problem: Problem, trials: Sequence[Trial]) -> list[Entry]:
    """The method with each of the settings; where they have no rate, at the problem's own.

    Raises:
      RequestError: as `Contender.at`.
    """
    return [
        contender.at(
            problem,
            Rate(trial[RATE], "given") if RATE in trial else None,
            **{name: value for name, value in trial.items() if name != RATE},
        )
        for trial in trials
    ]


def run_trials(
    start: Start,
    contender: Contender,
    trials: Sequence[Trial],
    *,
    journal: Journal,
    memory: float,
    progress: Progress = quiet,
    under: str = "",
) -> tuple[list[Run], str]:
    """Train with one method once with each of some settings.

    Trials and seeds are vmapped over, with the settings as arrays: one program is compiled,
    whatever their number. A factory that cannot be traced with them is compiled for each.

    Args:
      start: the problem, and where and on what to train.
      contender: the method.
      trials: the settings, of equal names.
      journal: what is finished already; what is finished now is added.
      memory: about how many bytes the runs may take at once.
      progress: called with the steps of all trials.
      under: what the keys in the journal begin with.

    Returns:
      A run for each trial, and a sentence where the slow way was taken.

    Raises:
      RequestError: for settings that are none, and where the optimizer fails.
    """
    entries = enter_trials(contender, start.problem, trials)
    keys = [f"{under}{contender.label}/{i}" for i in range(len(trials))]
    remark = _untraceable(start, contender, trials[0], entries[0])
    steps = start.marks[-1]
    done = [i for i, key in enumerate(keys) if key in journal.done]
    todo = [i for i, key in enumerate(keys) if key not in journal.done]
    total = steps * len(trials)

    def tell(finished: int, loss: float) -> None:
        progress(start.problem.name, contender.label, finished, total, loss)

    def onward(before: int, step: int, loss: float) -> None:
        tell(before + step, loss)

    tell(steps * len(done), float(start.measured["loss"].mean()))
    if remark:
        for i in todo:
            record = _record(run(start, entries[i]))
            journal.add({keys[i]: record})
            done.append(i)
            tell(steps * len(done), record["last"])
    elif todo:
        size = _chunk(start, entries[0], len(todo), memory)
        program: Callable[..., list[Any]] | None = None
        for a in range(0, len(todo), size):
            some = todo[a : a + size]
            padded = [*some, *[some[-1]] * (size - len(some))]
            rows = [_numbers(entries[i], trials[i]) for i in padded]
            hyper = {
                name: np.array([row[name] for row in rows], jnp.result_type(float))
                for name in rows[0]
            }
            with told(f"{contender.label} does not run on {start.problem.name}"):
                if program is None:
                    program = _program(start, contender, hyper)
                records = program(hyper, len(some), partial(onward, steps * len(done)))
            journal.add({keys[i]: record for i, record in zip(some, records, strict=True)})
            done += some
            tell(steps * len(done), records[-1]["last"])
    runs = [_run(start, entry, journal.done[key]) for entry, key in zip(entries, keys, strict=True)]
    return runs, remark


def _numbers(entry: Entry, trial: Trial) -> Trial:
    """What is traced: the rate, and what is varied."""
    assert entry.rate is not None
    return {**trial, RATE: entry.rate.value}


def _make(start: Start, contender: Contender, hyper: Any) -> Any:
    others = {name: value for name, value in hyper.items() if name != RATE}
    return extended(at_rate(contender.factory(start.problem), hyper[RATE], others))


def _untraceable(start: Start, contender: Contender, trial: Trial, entry: Entry) -> str:
    """Why a factory cannot be traced with its settings; nothing where it can."""
    params = jax.tree.map(lambda leaf: leaf[0], start.params)

    def step(hyper: Any, params: Any) -> Any:
        tx = _make(start, contender, hyper)

        def loss(params: Any) -> Any:
            return start.problem.loss(params, start.data, start.batches[0, 0])

        value, grads = jax.value_and_grad(loss)(params)
        return tx.update(grads, tx.init(params), params, value=value, grad=grads, value_fn=loss)

    try:
        jax.eval_shape(step, jax.tree.map(jnp.float32, _numbers(entry, trial)), params)
    except Exception as error:  # whatever a stranger's factory raises
        return (
            f"{contender.label} cannot be traced with its settings ({sentence(error)}), so each "
            "was compiled by itself"
        )
    return ""


def _chunk(start: Start, entry: Entry, trials: int, memory: float) -> int:
    """How many trials run at once: chunks of equal size that fit the memory and all devices."""
    params = jax.tree.map(lambda leaf: leaf[0], start.params)
    state = jax.eval_shape(extended(entry.optimizer).init, params)
    # Parameters, gradients, updates, and what is new of each beside what was.
    held = 4 * _bytes(params) + 2 * _bytes(state)
    each = len(start.seeds) * held + start.measuring_bytes
    most = max(1, min(MOST, int(memory // max(each, 1))))
    size = math.ceil(trials / math.ceil(trials / most))
    devices = len(jax.devices())
    return math.ceil(size / devices) * devices


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _program(start: Start, contender: Contender, hyper: Any) -> Callable[..., list[Any]]:
    """``program(hyper, n, tell)``: the records of the first n trials, compiled for their number."""
    clock = time.perf_counter()
    spread = NamedSharding(Mesh(np.array(jax.devices()), ("trials",)), P("trials"))

    def begin(hyper: Any, params: Any) -> Any:
        def one(hyper: Any) -> Any:
            return params, jax.vmap(_make(start, contender, hyper).init)(params)

        return jax.vmap(one)(hyper)

    def advance(hyper: Any, carry: Any, batches: jax.Array, data: Any) -> Any:
        def one(hyper: Any, carry: Any) -> Any:
            steps = of_all_seeds(start.problem, _make(start, contender, hyper))
            return steps(carry, batches, data)

        return jax.vmap(one)(hyper, carry)

    first = jax.jit(begin, out_shardings=spread)
    hyper = jax.device_put(hyper, spread)
    programs = compiled(start, advance, hyper, first(hyper, start.params))
    compile_seconds = time.perf_counter() - clock

    def program(hyper: Any, n: int, tell: Callable[[int, float], None]) -> list[Any]:
        nonlocal compile_seconds
        clock = time.perf_counter()
        hyper = jax.device_put(hyper, spread)
        carry = first(hyper, start.params)
        curves = {name: [np.stack([x] * n)] for name, x in start.measured.items()}

        def advance(batches: np.ndarray, carry: Any) -> Any:
            return programs[len(batches)](hyper, carry, batches, start.data)

        for step, now, new in stretches(start, advance, carry):
            carry = now
            for name, value in new.items():
                curves[name].append(value[:n])
            tell(step * n, float(np.mean(curves["loss"][-1])))
        seconds = (time.perf_counter() - clock) / n
        size = state_bytes(*carry)
        stacked = {name: np.stack(values, axis=-1) for name, values in curves.items()}
        records = [
            _record_of(
                {name: x[i] for name, x in stacked.items()}, compile_seconds / n, seconds, size
            )
            for i in range(n)
        ]
        compile_seconds = 0.0
        return records

    return program


def _record(run: Run) -> dict[str, Any]:
    return _record_of(run.curves, run.compile_seconds, run.run_seconds, run.state_bytes)


def _record_of(
    curves: dict[str, np.ndarray], compile_seconds: float, run_seconds: float, size: float
) -> dict[str, Any]:
    """A run as JSON takes it, NaN and Infinity included."""
    return {
        "curves": {name: np.asarray(curve).tolist() for name, curve in curves.items()},
        "last": float(np.mean(curves["loss"][:, -1])),
        "compile_seconds": compile_seconds,
        "run_seconds": run_seconds,
        "state_bytes": size,
    }


def _run(start: Start, entry: Entry, record: dict[str, Any]) -> Run:
    return Run(
        entry=entry,
        steps=np.array(start.marks),
        curves={name: np.array(x, np.float32) for name, x in record["curves"].items()},
        compile_seconds=record["compile_seconds"],
        run_seconds=record["run_seconds"],
        state_bytes=record["state_bytes"],
    )
