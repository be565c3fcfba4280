"""Low-precision weights that move: compensated sums and stochastic rounding.

The neighbours of 1 in bfloat16 are 0.4 % below and 0.8 % above it, so 1 + 0.001 is 1: an
update of usual size is lost, at every step anew. Two remedies are known, and both are here.

Pedram Zamirai, Jian Zhang, Christopher Aberger, Christopher De Sa, "Revisiting BFloat16
Training", 2020, arXiv:2010.06192; William Kahan, "Further remarks on reducing truncation
errors", 1965, CACM 8(1); Suyog Gupta, Ankur Agrawal, Kailash Gopalakrishnan, Pritish
Narayanan, "Deep Learning with Limited Numerical Precision", 2015, arXiv:1502.02551.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core import check
from gdfx.core.precision import narrow, narrow_tree, rounded, widen, widen_tree


class CompensatedState(NamedTuple):
    """State of `compensated`."""

    compensation: Any  # c: what rounding has kept from each parameter; its shape and dtype
    inner_state: Any  # of the optimizer, which sees at least float32


class StochasticRoundingState(NamedTuple):
    """State of `stochastic_rounding`."""

    key: jax.Array  # the random key of the next step
    inner_state: Any  # of the optimizer, which sees at least float32


@check.arguments
def compensated(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give each parameter a second one that keeps what rounding lost.

    ::

        (1) y = u + c                     u: the optimizer's update, c = 0 at the start
        (2) W' = W + y                    rounded to the dtype of W
        (3) c ← y − (W' − W);  W ← W'

    Args:
      tx: the whole optimizer, of any origin. It is given gradients and parameters in at least
        float32, so its own state is in that precision too. This must be the outermost
        transformation: its updates are meant for `optax.apply_updates` as they are.

    Raises:
      ValueError, TypeError: by ``update`` without the parameters, or with trees that do not
        belong together.

    Differs: in the paper the optimizer's state too is in bfloat16.

    Reference: arXiv:2010.06192, Kahan summation in the weight update; Kahan 1965.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx, w = gdfx.compensated(gdfx.sgd(1e-3)), jnp.ones((), jnp.bfloat16)
    >>> state = tx.init(w)
    >>> for _ in range(100):
    ...     updates, state = tx.update(jnp.ones_like(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> w + state.compensation.astype(jnp.float32)
    Array(0.90005493, dtype=float32)
    """
    inner = _in_float32("compensated", tx)

    def init(params: optax.Params) -> CompensatedState:
        return CompensatedState(jax.tree.map(jnp.zeros_like, params), inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, CompensatedState]:
        fields = {"compensation": state.compensation}
        check.accumulators("compensated", updates, fields, lambda shape: (shape,))
        u, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        y = jax.tree.map(lambda u, c: u + c, u, state.compensation)  # (1)
        steps = jax.tree.map(lambda y, g: rounded(y, jnp.result_type(g)), y, updates)

        def kept(y: jax.Array, step: jax.Array, w: jax.Array) -> jax.Array:
            moved = rounded(widen(w) + step, w.dtype) - w  # (2), as optax.apply_updates does it
            return narrow(y - moved, w.dtype)  # (3)

        compensation = jax.tree.map(kept, y, steps, params)
        return narrow_tree(steps, updates), CompensatedState(compensation, inner_state)

    wrapper = optax.GradientTransformationExtraArgs(init, update)
    return check.trees("compensated", wrapper, CompensatedState)


@check.arguments
def stochastic_rounding(
    tx: optax.GradientTransformation, key: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    """Round each parameter up or down at random, so that it is right on average.

    ::

        (1) x = W + u                     u: the optimizer's update
        (2) W ← ⌈x⌉ with probability (x − ⌊x⌋) / (⌈x⌉ − ⌊x⌋), else ⌊x⌋

    ⌊x⌋ and ⌈x⌉ are the neighbours of x in the dtype of W. It takes no memory but a key; the
    same key gives the same run.

    Args:
      tx: the whole optimizer, of any origin. It is given gradients and parameters in at least
        float32, so its own state is in that precision too. This must be the outermost
        transformation: its updates are meant for `optax.apply_updates` as they are.
      key: a random key, `jax.random.key(seed)`; it goes into the state.

    Raises:
      ValueError, TypeError: by ``update`` without the parameters, or with trees that do not
        belong together.

    Differs: in the paper the optimizer's state too is in bfloat16. Where W' − W has more
    digits than the gradient's dtype holds (a step of about the size of W and more), it is
    rounded to nearest.

    Reference: arXiv:1502.02551, section 3; arXiv:2010.06192.
    """
    inner = _in_float32("stochastic_rounding", tx)

    def init(params: optax.Params) -> StochasticRoundingState:
        return StochasticRoundingState(jnp.asarray(key), inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, StochasticRoundingState]:
        u, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        next_key, now = jax.random.split(state.key)
        keys = optax.tree.split_key_like(now, params)
        steps = jax.tree.map(_stochastic_step, params, u, keys)
        return narrow_tree(steps, updates), StochasticRoundingState(next_key, inner_state)

    wrapper = optax.GradientTransformationExtraArgs(init, update)
    return check.trees("stochastic_rounding", wrapper, StochasticRoundingState)


def _in_float32(
    name: str, tx: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """The same optimizer, fed in at least float32; it needs the parameters."""
    tx = optax.with_extra_args_support(tx)

    def init(params: optax.Params) -> optax.OptState:
        return tx.init(widen_tree(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        check.params_given(name, params)
        return tx.update(widen_tree(updates), state, widen_tree(params), **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)


def _stochastic_step(w: jax.Array, u: jax.Array, key: jax.Array) -> jax.Array:
    """From ``w`` to one of the two neighbours of w + u in its dtype, at random."""
    if u.dtype == w.dtype:
        return u
    x = widen(w) + u
    near = rounded(x, w.dtype)
    beyond = jnp.where(x > near, jnp.inf, -jnp.inf)
    far = widen(jnp.nextafter(near.astype(w.dtype), beyond.astype(w.dtype)))
    chance = (x - near) / (far - near)
    return jnp.where(jax.random.uniform(key, x.shape, x.dtype) < chance, far, near) - widen(w)
