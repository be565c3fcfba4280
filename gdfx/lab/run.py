"""One training run: compiled steps in a scan, all seeds side by side."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdfx.core.inner import extended
from gdfx.core.words import sentence
from gdfx.lab.problems import Problem
from gdfx.lab.resolve import Entry
from gdfx.lab.results import Run
from gdfx.lookup import RequestError

Progress = Callable[[str, Entry, int, int, float], None]
"""Called with the problem's name, the entry, the step, all steps and the mean loss."""


def quiet(problem: str, entry: Entry, step: int, steps: int, loss: float) -> None:
    """The progress display that shows nothing."""


@dataclass(frozen=True)
class Start:
    """What all methods on one problem share, so that they are compared seed by seed."""

    problem: Problem
    seeds: tuple[int, ...]
    marks: tuple[int, ...]  # after how many steps to measure; 0 first, the last step last
    data: Any
    params: Any  # leading axis: seeds
    batches: np.ndarray  # (steps, seeds, ...)
    measured: dict[str, np.ndarray]  # at step 0, (seeds,)


def prepare(problem: Problem, steps: int, seeds: Sequence[int]) -> Start:
    """The same parameters, batches and data for every method.

    Raises:
      RequestError: where a part of the problem fails, or does not return what it should.
    """
    with _told(f"the problem {problem.name} does not run"):
        data = problem.data()
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *map(problem.start, seeds))
        batches = np.stack([problem.batches(seed, steps) for seed in seeds], axis=1)
        one = jax.tree.map(lambda leaf: leaf[0], params)
        loss = jax.eval_shape(problem.loss, one, data, batches[0, 0])
        measures = jax.eval_shape(problem.measure, one, data)
        for name, value in (("loss", loss), *measures.items()):
            if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
                raise RequestError(
                    f"{problem.name}: the {name} must be one real number, "
                    f"got {value.dtype} of shape {value.shape}"
                )
        measured = jax.jit(jax.vmap(problem.measure, in_axes=(0, None)))(params, data)
        if not jnp.isfinite(measured["loss"]).all():
            raise RequestError(f"{problem.name}: the loss at the start is not finite")
    return Start(
        problem=problem,
        seeds=tuple(seeds),
        marks=(*range(0, steps, problem.every), steps),
        data=data,
        params=params,
        batches=batches,
        measured={name: np.asarray(value) for name, value in measured.items()},
    )


@contextmanager
def _told(what: str) -> Generator[None]:
    """An error in somebody else's code is told in a sentence."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{what}: {sentence(error)}") from error


def run(start: Start, entry: Entry, progress: Progress = quiet) -> Run:
    """Train with one method from the start.

    The seeds are vmapped, and the steps from one measurement to the next are one compiled
    `jax.lax.scan`; between two such stretches Python has the word, for the progress display
    and for Ctrl-C.

    Args:
      start: the problem, and where and on what to train.
      entry: the method.
      progress: called before the first step and after every measurement.

    Raises:
      RequestError: where the optimizer fails.
    """
    problem, data = start.problem, start.data
    optimizer = extended(entry.optimizer)

    def stretch(carry: Any, batches: jax.Array, data: Any) -> Any:
        def step(carry: Any, batch: jax.Array) -> Any:
            params, state = carry

            def loss(params: Any) -> jax.Array:
                return problem.loss(params, data, batch)

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(
                grads, state, params, value=value, grad=grads, value_fn=loss
            )
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, problem.measure(carry[0], data)

    advance = jax.jit(jax.vmap(stretch, in_axes=(0, 1, None)))
    spans = list(zip(start.marks[:-1], start.marks[1:], strict=True))
    progress(problem.name, entry, 0, start.marks[-1], float(start.measured["loss"].mean()))
    measured = [start.measured]
    # A stranger's optimizer is traced and run here.
    with _told(f"{entry.label} does not run on {problem.name}"):
        clock = time.perf_counter()
        params = jax.device_put(start.params)
        carry = params, jax.jit(jax.vmap(optimizer.init))(params)
        compiled = {
            length: advance.lower(carry, start.batches[:length], data).compile()
            for length in {b - a for a, b in spans}
        }
        compile_seconds = time.perf_counter() - clock

        clock = time.perf_counter()
        for a, b in spans:
            carry, new = compiled[b - a](carry, start.batches[a:b], data)
            measured.append({name: np.asarray(value) for name, value in new.items()})
            progress(problem.name, entry, b, start.marks[-1], float(measured[-1]["loss"].mean()))
    run_seconds = time.perf_counter() - clock

    return Run(
        entry=entry,
        steps=np.array(start.marks),
        curves={name: np.stack([m[name] for m in measured], axis=1) for name in start.measured},
        compile_seconds=compile_seconds,
        run_seconds=run_seconds,
        state_bytes=_bytes(carry[1]) / _size(carry[0]),
    )


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
