"""One training run: compiled steps in a scan, all seeds side by side."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdfx.core.averages import averages, eval_params
from gdfx.core.inner import extended
from gdfx.core.words import sentence
from gdfx.lab.protocol import Problem
from gdfx.lab.resolve import Entry
from gdfx.lab.results import Run
from gdfx.lookup import RequestError

Progress = Callable[[str, str, int, int, float], None]
"""Called with the problem's name, the method's label, the step, all steps and the mean loss."""


def quiet(problem: str, label: str, step: int, steps: int, loss: float) -> None:
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
    measuring_bytes: int  # what a measurement of all seeds takes besides


def prepare(problem: Problem, steps: int, seeds: Sequence[int]) -> Start:
    """The same parameters, batches and data for every method.

    Raises:
      RequestError: where a part of the problem fails, or does not return what it should.
    """
    with told(f"the problem {problem.name} does not run"):
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
        measure = jax.jit(jax.vmap(problem.measure, in_axes=(0, None))).lower(params, data)
        measure = measure.compile()
        measured = measure(params, data)
        memory = measure.memory_analysis()
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
        measuring_bytes=getattr(memory, "temp_size_in_bytes", 0),
    )


@contextmanager
def told(what: str) -> Generator[None]:
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
    problem = start.problem
    steps = start.marks[-1]
    progress(problem.name, entry.label, 0, steps, float(start.measured["loss"].mean()))
    # A stranger's optimizer is traced and run here.
    with told(f"{entry.label} does not run on {problem.name}"):
        clock = time.perf_counter()
        params = jax.device_put(start.params)
        carry = params, jax.jit(jax.vmap(extended(entry.optimizer).init))(params)
        programs = compiled(start, of_all_seeds(problem, entry.optimizer), carry)
        compile_seconds = time.perf_counter() - clock

        clock = time.perf_counter()
        curves = {name: [value] for name, value in start.measured.items()}

        def advance(batches: np.ndarray, carry: Carry) -> Any:
            return programs[len(batches)](carry, batches, start.data)

        for step, now, new in stretches(start, advance, carry):
            carry = now
            for name, value in new.items():
                curves[name].append(value)
            progress(problem.name, entry.label, step, steps, float(new["loss"].mean()))
        run_seconds = time.perf_counter() - clock
    return Run(
        entry=entry,
        steps=np.array(start.marks),
        curves={name: np.stack(values, axis=1) for name, values in curves.items()},
        compile_seconds=compile_seconds,
        run_seconds=run_seconds,
        state_bytes=state_bytes(*carry),
    )


Carry = Any  # parameters and state
Advance = Callable[[Any, Carry], tuple[Carry, dict[str, jax.Array]]]


def of_all_seeds(problem: Problem, optimizer: Any) -> Callable[..., Any]:
    """``advance(carry, batches, data)``: the steps of some batches, and a measurement."""
    optimizer = extended(optimizer)

    def stretch(carry: Carry, batches: jax.Array, data: Any) -> Any:
        def step(carry: Carry, batch: jax.Array) -> Any:
            params, state = carry

            def loss(params: Any) -> jax.Array:
                return problem.loss(params, data, batch)

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(
                grads, state, params, value=value, grad=grads, value_fn=loss
            )
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(step, carry, batches)
        params, state = carry
        evaluated = eval_params(state, params) if averages(state) else params
        return carry, problem.measure(evaluated, data)

    return jax.vmap(stretch, in_axes=(0, 1, None))


def compiled(start: Start, advance: Callable[..., Any], *args: Any) -> dict[int, Any]:
    """``advance(*args, batches, data)``, compiled for each length of a stretch between marks."""
    spans = zip(start.marks[:-1], start.marks[1:], strict=True)
    return {
        length: jax.jit(advance).lower(*args, start.batches[:length], start.data).compile()
        for length in {b - a for a, b in spans}
    }


def stretches(
    start: Start, advance: Advance, carry: Carry
) -> Iterator[tuple[int, Carry, dict[str, np.ndarray]]]:
    """After each stretch the step, parameters and state, and what was measured."""
    for a, b in zip(start.marks[:-1], start.marks[1:], strict=True):
        carry, new = advance(start.batches[a:b], carry)
        yield b, carry, {name: np.asarray(value) for name, value in new.items()}


def state_bytes(params: Any, state: Any) -> float:
    """Bytes of state to each parameter."""
    leaves = jax.tree.leaves(state)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / size
