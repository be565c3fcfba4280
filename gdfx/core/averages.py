"""Which weights to evaluate: what the averages in an optimizer's state say."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gdfx.core.check import at
from gdfx.core.precision import as_array, in_precision, is_double, is_inexact, narrow


class Reading(NamedTuple):
    """How the average that a state holds is read."""

    held: Any  # a tree like the parameters', of one array for each
    read: Callable[[jax.Array, jax.Array], jax.Array]  # of a parameter and its array: the average


@functools.singledispatch
def reading(state: Any) -> Reading | None:
    """How the average in a state is read; None of a state that holds none."""
    del state


def averages(state: optax.OptState) -> bool:
    """Whether something in the state averages."""
    return any(True for _ in _averages(state))


def eval_params(state: optax.OptState, params: optax.Params) -> Any:
    """Return the parameters to evaluate or to store: the averages that a state holds.

    They are found wherever they are in the state: in a chain, behind a mask or a partition, in
    `optax.MultiSteps`, `gdfx.skip_nonfinite` and the like. Where a mask or a partition leaves a
    parameter out of the average, it is returned as it is.

    Args:
      state: the optimizer's, as the last ``update`` returned it.
      params: the parameters that were trained, as they are after that update.

    Returns:
      A tree like ``params``, of the same shapes and dtypes. Training goes on from ``params``, and
      not from these.

    Raises:
      ValueError: where nothing in the state averages, where two averages are of the same parameter,
        and where they are averages of other parameters.

    See also: `gdfx.averaged`; `gdfx.schedule_free`.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx, w = gdfx.averaged(gdfx.sgd(1.0)), jnp.array(0.0)
    >>> state = tx.init(w)
    >>> for g in (-1.0, -2.0):
    ...     updates, state = tx.update(jnp.array(g), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> print(w, gdfx.eval_params(state, w))
    3.0 2.0
    """
    owners: dict[Any, str] = {}
    evaluated, found = params, list(_averages(state))
    if not found:
        raise ValueError(
            "eval_params: nothing in the state averages; evaluate the parameters as they are, or "
            "put the optimizer in gdfx.averaged or gdfx.schedule_free"
        )
    for place, (held, read) in found:
        arrays, structure = jax.tree.flatten(held, is_leaf=_is_absent)
        try:
            beside = structure.flatten_up_to(evaluated)
        except (ValueError, TypeError):
            raise ValueError(
                f"eval_params: the average at {place} is of other parameters: {structure}, not "
                f"{jax.tree.structure(params)}"
            ) from None
        mine = structure.unflatten([None if _is_absent(a) else place for a in arrays])
        for path, _ in jax.tree_util.tree_leaves_with_path(mine):
            if path in owners:
                raise ValueError(
                    f"eval_params: parameter {at(path)} is averaged twice, at {owners[path]} and "
                    f"at {place}; choose by handing over that part of the state alone"
                )
            owners[path] = place
        rows = zip(beside, arrays, strict=True)
        evaluated = structure.unflatten(
            [p if _is_absent(a) else _read(read, p, a, place) for p, a in rows]
        )
    return evaluated


def _averages(state: Any, before: str = "state") -> Iterator[tuple[str, Reading]]:
    """Where in a state there are averages, and how they are read."""
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=_averages_something)
    for path, part in leaves:
        found = reading(part)
        if found is not None:
            place = before + jax.tree_util.keystr(path)
            yield place, found
            for field, inside in zip(part._fields, part, strict=True):
                yield from _averages(inside, f"{place}.{field}")


def _averages_something(part: Any) -> bool:
    return reading.dispatch(type(part)) is not reading.dispatch(object)


def _read(read: Callable[..., jax.Array], p: Any, a: Any, place: str) -> jax.Array:
    """One parameter's average, in its dtype; refuse one of another parameter."""
    if not is_inexact(p):
        raise ValueError(f"eval_params: the average at {place} is of other parameters")
    p, a = as_array(p), as_array(a)
    double = is_double(p.dtype) or is_double(a.dtype)
    try:
        x = read(in_precision(p, double=double), in_precision(a, double=double))
    except (ValueError, TypeError):
        x = None
    if x is None or np.shape(x) != p.shape:
        raise ValueError(
            f"eval_params: the average at {place} holds an array of shape {a.shape} for a "
            f"parameter of shape {p.shape}; the state was made for other parameters"
        )
    return narrow(x, p.dtype)


def _is_absent(x: Any) -> bool:
    """Whether a tree holds nothing there, as of what is frozen or masked."""
    return x is None or isinstance(x, optax.MaskedNode)
