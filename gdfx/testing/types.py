"""Laws on types: which dtypes and shapes an optimizer takes, and that they stay."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdfx.testing.compare import all_finite, same, same_kinds, shape_of
from gdfx.testing.draw import DTYPES, Run
from gdfx.testing.law import BrokenLawError, law
from gdfx.testing.needs import takes
from gdfx.testing.subject import Subject

contract = functools.partial(law, "types", "contract")
courtesy = functools.partial(law, "types", "courtesy")


# Dtypes.


def _dtypes(*pairs: tuple[str, str]) -> Callable[[Subject], list[tuple[str, str]]]:
    """Dtypes of parameters and gradients; complex ones for those who claim them."""

    def cases(subject: Subject) -> list[tuple[str, str]]:
        return [pair for pair in pairs if subject.traits.complex or "complex" not in pair[0]]

    return cases


SAME = tuple(zip(DTYPES, DTYPES, strict=True))


@contract(_dtypes(*SAME))
def state_type_fixed(subject: Subject, dtypes: tuple[str, str]) -> None:
    """A step leaves structure, shapes, dtypes and weak types of the state as they were.

    Loops compiled with scan, while and cond refuse any change.
    """
    _, before, after = _kinds(subject, dtypes)
    same_kinds(after, before, "the state after a step | before it")


# What users meet first stands first.
_FIRST = [("bfloat16", "float32"), ("float32", "bfloat16")]
MIXES = _FIRST + [
    (p, g)
    for p, g in itertools.permutations(DTYPES, 2)
    if ("complex" in p) == ("complex" in g) and (p, g) not in _FIRST
]


@courtesy(_dtypes(*MIXES))
def dtype_mixes(subject: Subject, dtypes: tuple[str, str]) -> None:
    """With gradients in another dtype than the parameters', a step leaves the state's types too.

    Mixed-precision training feeds float32 gradients to bfloat16 parameters, and the reverse.
    """
    _, before, after = _kinds(subject, dtypes)
    given = f"with parameters {dtypes[0]} and gradients {dtypes[1]}"
    same_kinds(after, before, f"{given}, the new state | the old")


@contract(_dtypes(*SAME))
def update_dtype(subject: Subject, dtypes: tuple[str, str]) -> None:
    """Updates have the dtype of parameters and gradients.

    A wider one doubles the memory of a step, and changes the dtype of what comes next.
    """
    _check_update_dtype(subject, dtypes)


@courtesy(_dtypes(*MIXES))
def update_dtype_mixes(subject: Subject, dtypes: tuple[str, str]) -> None:
    """Where gradients are in another dtype than the parameters, updates have that of the gradients.

    What comes next in a chain was promised gradients, and their dtype.
    """
    _check_update_dtype(subject, dtypes)


def _check_update_dtype(subject: Subject, dtypes: tuple[str, str]) -> None:
    updates, _, _ = _kinds(subject, dtypes)
    if updates.dtype != dtypes[1]:
        raise BrokenLawError(
            f"with parameters {dtypes[0]} and gradients {dtypes[1]}, updates are {updates.dtype}"
        )


@courtesy([("float32", "bfloat16"), ("float32", "float16")], takes("learning_rate"))
def array_learning_rate_keeps_dtype(subject: Subject, dtypes: tuple[str, str]) -> None:
    """A learning rate that is a float32 array does not widen the updates.

    Rates that are traced, or come out of a schedule, are such arrays.
    """
    array, narrow = dtypes
    tx = subject.make(learning_rate=jnp.asarray(0.1, array))
    x = jax.ShapeDtypeStruct((2,), narrow)
    updates, _ = jax.eval_shape(tx.update, x, jax.eval_shape(tx.init, x), x)
    if updates.dtype != narrow:
        raise BrokenLawError(f"with a rate of {array}, the updates of {narrow} are {updates.dtype}")


def _kinds(subject: Subject, dtypes: tuple[str, str]) -> tuple[Any, Any, Any]:
    """Abstract updates, state before and state after a step."""
    p, g = (jax.ShapeDtypeStruct((2,), dtype) for dtype in dtypes)
    state = jax.eval_shape(subject.tx.init, p)
    updates, new = jax.eval_shape(subject.tx.update, g, state, p)
    return updates, state, new


# Shapes.


@contract(("an empty tree", "a scalar"))
def empty_and_scalar(subject: Subject, kind: str) -> None:
    """Empty trees and scalars are parameters too.

    What a mask or a partition leaves over may be nothing, or a single temperature.
    """
    _check_shape(subject, {} if kind == "an empty tree" else jnp.asarray(0.5), kind)


@courtesy(("float32", "bfloat16"))
def zero_size(subject: Subject, dtype: str) -> None:
    """Arrays without elements are parameters too.

    A layer of width 0 should not end a run.
    """
    _check_shape(subject, jnp.zeros((0, 2), dtype), f"an array of {dtype} without elements")


_SHAPES = ((1,), (1, 5), (5, 1), (2, 3, 4))


@contract((Run({str(shape): np.ones(shape, "float32") for shape in _SHAPES}, ()),))
def every_shape(subject: Subject, run: Run) -> None:
    """Rows, columns and arrays of three axes are parameters, and the state keeps its shapes.

    What is kept for each row and column of a matrix needs another form there.
    """
    _check_shape(subject, run.params, "arrays of every shape")
    params = jax.tree.map(shape_of, run.params)
    state = jax.eval_shape(subject.tx.init, params)
    _, new = jax.eval_shape(subject.tx.update, params, state, params)
    found, expected = (jax.tree.map(jnp.shape, tree) for tree in (new, state))
    same(found, expected, "for arrays of every shape, a shape of the new state | of the old")


def _check_shape(subject: Subject, x: Any, kind: str) -> None:
    found = subject.by_operation(Run(x, (x, x)))
    same(
        jax.tree.map(jnp.shape, found.updates),
        jax.tree.map(jnp.shape, [x, x]),
        f"the shape of the updates for {kind} | of the gradients",
    )
    all_finite(found.updates, f"for {kind}, the update")
