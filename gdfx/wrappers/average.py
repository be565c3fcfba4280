"""Averages of the parameters along a run.

Boris Polyak, Anatoli Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, SIAM
Journal on Control and Optimization 30(4); Ohad Shamir, Tong Zhang, "Stochastic Gradient Descent for
Non-smooth Optimization", 2013, arXiv:1212.1824, section 4; Jean Kaddour, "Stop Wasting My Time!
Saving Days of ImageNet and BERT Training with Latest Weight Averaging", 2022, arXiv:2209.14981.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import DECAY, NOT_NEGATIVE, Count, Flag, Optional, checked
from gdfx.core.averages import Reading, reading
from gdfx.core.inner import extended
from gdfx.core.lift import per_leaf
from gdfx.core.moments import one_minus_power, start_value


class AverageState(NamedTuple):
    """What `averaged` holds of a running average, up to the parameters of the step before."""

    count: jax.Array  # steps done, int32
    weight: jax.Array  # c: that of the parameters as they are now
    average: Any  # a: of the parameters up to those of the step before


class QueueState(NamedTuple):
    """What `averaged` holds of the last parameters, up to those of the step before."""

    count: jax.Array  # steps done, int32
    place: jax.Array  # where the parameters as they are now belong; the length: nowhere
    filled: jax.Array  # how many places are then taken
    queue: Any  # the last parameters, along a first axis


@checked(
    decay=Optional(DECAY),
    gamma=Optional(NOT_NEGATIVE),
    last=Optional(Count(1)),
    start=Count(1),
    debias=Flag(),
)
def averaged(
    tx: optax.GradientTransformation,
    decay: ArrayLike | None = None,
    *,
    gamma: ArrayLike | None = None,
    last: int | None = None,
    start: int = 1,
    every: int = 1,
    debias: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Average the parameters along a run, and leave the run as it is.

    ::

        (1) a ← a + cₙ (W − a)            W: the parameters after step s = start, start + every, …
        (2) cₙ = 1 / n                    n = 1, 2, …: the mean of all of them (the default)
            cₙ = (1 − β) / (1 − βⁿ)       decay: a running mean, corrected for its start
            cₙ = 1 − β after c₁ = 1       decay, debias=False: as PyTorch and Keras have it
            cₙ = (1 + γ) / (n + γ)        gamma: weights that grow as about nᵞ
        (3) a = mean of the last k W      last

    `gdfx.eval_params` returns a; before step ``start`` it returns the parameters.

    Args:
      tx: the optimizer, gdfx's, optax's or any other.
      decay: β in [0, 1): a averages over about the last 1 / (1 − β) parameters.
      gamma: γ ≥ 0; 8 is what the authors of DoG average with.
      last: k, how many parameters the queue holds (LAWA).
      start: the first step whose parameters count, ≥ 1. With the default (2) and a late start it
        is a tail average.
      every: of so many steps, from ``start`` on, one counts.
      debias: whether a running mean is corrected for its start; without that, the first W that
        counts has the weight βⁿ⁻¹, which is large for the first 1 / (1 − β) steps.

    Returns:
      An optimizer with the updates of ``tx``. Its state is that of ``tx`` and, behind it, one array
      of each parameter's shape in at least float32, or k arrays in the parameter's dtype.

    Raises:
      TypeError, ValueError: for arguments out of range, where more than one of ``decay``, ``gamma``
        and ``last`` is given, and by ``update`` without the parameters.

    Differs: the state has the average up to the step before, and `gdfx.eval_params` adds the
    parameters as they are. So it holds wherever this stands in a chain, and after skipped steps.

    Reference: arXiv:1212.1824, section 4 (gamma); arXiv:2209.14981 (last).

    See also: `gdfx.eval_params`; `gdfx.schedule_free`, where the average steers the run.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx, w = gdfx.averaged(gdfx.sgd(1.0), decay=0.5), jnp.array(0.0)
    >>> state = tx.init(w)
    >>> for g in (-3.0, -3.0):
    ...     updates, state = tx.update(jnp.array(g), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> print(gdfx.eval_params(state, w))  # (0.5 · 3 + 6) / 1.5
    5.0
    """
    chosen = {"decay": decay, "gamma": gamma, "last": last}
    given = [name for name, value in chosen.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"averaged: {' and '.join(given)} are different averages; give one of them, or put "
            "one averaged in the other"
        )
    if not debias and decay is None:
        raise ValueError("averaged: debias is of a running mean; give decay as well")

    def counted(s: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether the parameters after step s count, and which of those that do they are.

        Before the first, the parameters are always the first.
        """
        after = s - start
        return (after < 0) | (after % every == 0), jnp.maximum(after // every, 0) + 1

    def weight_of(s: jax.Array) -> jax.Array:
        counts, n = counted(s)
        n = n.astype(jnp.result_type(float))
        if gamma is not None:
            c = (1 + gamma) / (n + gamma)
        elif decay is not None:
            c = (1 - decay) / (one_minus_power(decay, n) if debias else 1)
        else:
            c = 1 / n
        return jnp.where(counts, jnp.where(n == 1, 1.0, c), 0.0)

    def place_of(k: int, s: jax.Array) -> dict[str, jax.Array]:
        counts, n = counted(s)
        return {"place": jnp.where(counts, (n - 1) % k, k), "filled": jnp.minimum(n, k)}

    def running() -> optax.GradientTransformationExtraArgs:
        def scalars(t, weight):
            return {"weight": weight_of(t), "now": weight}

        def rule(u, average, *, p, now):
            return u, _nearer(average, p, now)

        numbers = {"weight": 1.0}
        return per_leaf(AverageState, start_value, rule, scalars=scalars, numbers=numbers)

    def queueing(k: int) -> optax.GradientTransformationExtraArgs:
        def init(p):
            p = start_value(p, p.dtype)
            return jnp.broadcast_to(p, (k, *p.shape))

        def scalars(t, place):
            return place_of(k, t) | {"now": place}

        def rule(u, queue, *, p, now):
            return u, _with(queue, now, p)

        numbers = {"place": np.int32(0), "filled": np.int32(1)}
        return per_leaf(QueueState, init, rule, scalars=scalars, numbers=numbers)

    return optax.chain(extended(tx), running() if last is None else queueing(last))


def _nearer(average: jax.Array, p: jax.Array, c: jax.Array) -> jax.Array:
    """(1), exact where c is 1."""
    return jnp.where(c == 1, p, average + c * (p - average))


def _with(queue: jax.Array, place: jax.Array, p: jax.Array) -> jax.Array:
    """The queue with the parameter where it belongs; a state that was cast has its place cast."""
    return queue.at[jnp.asarray(place, jnp.int32)].set(p, mode="drop")


@reading.register
def _(state: AverageState) -> Reading:
    return Reading(state.average, lambda p, average: _nearer(average, p, state.weight))


@reading.register
def _(state: QueueState) -> Reading:
    def mean(p: jax.Array, queue: jax.Array) -> jax.Array:
        if queue.shape[1:] != p.shape:
            raise ValueError("the queue is of another parameter")
        taken = jnp.arange(queue.shape[0]) < state.filled
        taken = taken.reshape(-1, *[1] * p.ndim)
        return jnp.sum(jnp.where(taken, _with(queue, state.place, p), 0), 0) / jnp.sum(taken)

    return Reading(state.queue, mean)
