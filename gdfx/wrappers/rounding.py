"""Low-precision weights that move: compensated sums and stochastic rounding.

The neighbours of 1 in bfloat16 are 0.4 % below and 0.8 % above it, so 1 + 0.001 is 1: an
update of usual size is lost, step after step. There are two remedies, and both are here.

Pedram Zamirai, Jian Zhang, Christopher Aberger, Christopher De Sa, "Revisiting BFloat16
Training", 2020, arXiv:2010.06192; William Kahan, "Further remarks on reducing truncation
errors", 1965, CACM 8(1); Suyog Gupta, Ankur Agrawal, Kailash Gopalakrishnan, Pritish
Narayanan, "Deep Learning with Limited Numerical Precision", 2015, arXiv:1502.02551.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from gdfx.core import check, keys
from gdfx.core.arguments import checked
from gdfx.core.inner import in_float32
from gdfx.core.moments import filled
from gdfx.core.precision import allowed, as_array, bits, dtype_of, is_double, narrow, rounded, wide
from gdfx.core.trees import Gradients


class CompensatedState(NamedTuple):
    """State of `compensated`."""

    compensation: Any  # c: what rounding has kept from each parameter; its shape and dtype
    inner_state: Any  # of the optimizer, which sees at least float32


class StochasticRoundingState(NamedTuple):
    """State of `stochastic_rounding`."""

    key: jax.Array  # the bits of the next step's random key, uint16
    inner_state: Any  # of the optimizer, which sees at least float32


@checked
def compensated(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give each parameter a second one that keeps what rounding lost.

    ::

        (1) y = u + c                     u: the optimizer's update, c = 0 at the start
        (2) W' = W + y                    rounded to the dtype of W
        (3) c ← y − (W' − W);  W ← W'

    Args:
      tx: the whole optimizer, gdfx's, optax's or any other. It is given gradients and parameters
        in at least float32, so its own state is in that precision too. This wrapper must be the
        outermost one: nothing may change its updates before `optax.apply_updates` adds them.

    Raises:
      ValueError, TypeError: by ``update`` without the parameters, or with trees that do not
        belong together.

    Differs: in the paper the optimizer's state is in bfloat16, too.

    Reference: arXiv:2010.06192, Kahan summation in the weight update; Kahan 1965.

    See also: `gdfx.stochastic_rounding`, which needs no second array.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx, w = gdfx.compensated(gdfx.sgd(1e-3)), jnp.ones((), jnp.bfloat16)
    >>> state = tx.init(w)
    >>> for _ in range(100):
    ...     updates, state = tx.update(jnp.ones_like(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> w + state.compensation.astype(jnp.float32)
    Array(0.90005493, dtype=float32)
    """
    inner = in_float32(tx)

    def init(params: optax.Params) -> CompensatedState:
        check.parameters("compensated", params)
        nothing = jax.tree.map(lambda p: filled(p, 0, allowed(p)), params)
        return CompensatedState(nothing, inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, CompensatedState]:
        check.params_given("compensated", params)
        check.state_kind("compensated", state, CompensatedState)
        gradients = Gradients("compensated", updates)
        fields = {"compensation": state.compensation}
        held = gradients.accumulators(
            fields, lambda i: (jax.ShapeDtypeStruct(np.shape(gradients.leaves[i]), float),)
        )
        params = gradients.tree_of(params)
        u, inner_state = inner.update(updates, state.inner_state, params, **extra_args)

        def step(i: int, g: Any, u: jax.Array, w: Any, c: jax.Array) -> tuple[Any, Any]:
            w = as_array(w)
            u = u.astype(wide(w.dtype, double=is_double(u.dtype)))
            y = u + c.astype(u.dtype)  # (1)
            step = rounded(y, dtype_of(g))
            near = rounded(w.astype(y.dtype) + step, w.dtype)  # (2), as optax.apply_updates does it
            c = y - (near - w.astype(y.dtype))  # (3)
            return narrow(step, dtype_of(g)), narrow(c, w.dtype)

        beside = [gradients.beside("updates", u), gradients.beside("parameters", params)]
        steps, compensation = gradients.each(step, beside, held)
        return steps, CompensatedState(compensation, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


@checked
def stochastic_rounding(
    tx: optax.GradientTransformation,
    key: ArrayLike,
    axis_name: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Round each parameter up or down at random, so that it is right on average.

    ::

        (1) x = W + u                     u: the optimizer's update
        (2) W ← ⌈x⌉ with probability (x − ⌊x⌋) / (⌈x⌉ − ⌊x⌋), else ⌊x⌋

    ⌊x⌋ and ⌈x⌉ are the neighbours of x in the dtype of W. The state holds a random key and no
    further array. The same key gives the same run, however the arrays are sharded. Probabilities
    are multiples of 2⁻¹⁶, which is exact for x in float32 and W in bfloat16 or float16.

    Args:
      tx: the whole optimizer, gdfx's, optax's or any other. It is given gradients and parameters
        in at least float32, so its own state is in that precision too. This wrapper must be the
        outermost one: nothing may change its updates before `optax.apply_updates` adds them.
      key: a random key, from `jax.random.key(seed)` or the older `jax.random.PRNGKey(seed)`. The
        state holds a copy of its bits (uint16), which any program can store.
      axis_name: inside `jax.shard_map`, or a `jax.vmap` that names its axis: the name of the axis,
        or a tuple of names, along which the random numbers differ. None: all shards, and all
        members of a vmapped ensemble, round with the same numbers.

    Raises:
      ValueError, TypeError: by ``update`` without the parameters, or with trees that do not
        belong together.

    Differs: in the paper the optimizer's state is in bfloat16, too. Where W' − W has more
    digits than the gradient's dtype holds (a step as long as W, or longer), it is rounded to
    nearest.

    Reference: arXiv:1502.02551, section 3; arXiv:2010.06192.

    See also: `gdfx.compensated`, which needs no random numbers.
    """
    inner, kind, first_key = in_float32(tx), keys.kind(key), keys.stored(key)

    def init(params: optax.Params) -> StochasticRoundingState:
        check.parameters("stochastic_rounding", params)
        return StochasticRoundingState(jnp.array(first_key, copy=True), inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, StochasticRoundingState]:
        check.params_given("stochastic_rounding", params)
        check.state_kind("stochastic_rounding", state, StochasticRoundingState)
        gradients = Gradients("stochastic_rounding", updates)
        params = gradients.tree_of(params)
        u, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        next_key, now = keys.drawn(state.key, kind)
        if axis_name is not None:
            now = jax.random.fold_in(now, jax.lax.axis_index(axis_name))

        def step(i: int, g: Any, u: jax.Array, w: Any) -> tuple[Any]:
            w = as_array(w)
            return (narrow(_random_step(w, u, jax.random.fold_in(now, i)), dtype_of(g)),)

        beside = [gradients.beside("updates", u), gradients.beside("parameters", params)]
        (steps,) = gradients.each(step, beside, [])
        return steps, StochasticRoundingState(next_key, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _random_step(w: jax.Array, u: jax.Array, key: jax.Array) -> jax.Array:
    """From ``w`` to one of the two neighbours of w + u in its dtype, at random."""
    if bits(u.dtype) <= bits(w.dtype):
        return u
    if jnp.iscomplexobj(w):
        real_key, imag_key = jax.random.split(key)
        u = u.astype(wide(w.dtype, double=is_double(u.dtype)))
        real, imag = (w.real, u.real, real_key), (w.imag, u.imag, imag_key)
        return jax.lax.complex(_random_step(*real), _random_step(*imag))
    start = w.astype(u.dtype)
    x = start + u
    near = rounded(x, w.dtype)
    beyond = jnp.where(x > near, jnp.inf, -jnp.inf)
    far = jnp.nextafter(near.astype(w.dtype), beyond.astype(w.dtype)).astype(u.dtype)
    chance = (x - near) / (far - near)
    return jnp.where(_uniform(key, x.shape, x.dtype) < chance, far, near) - start


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Multiples of 2⁻¹⁶ in [0, 1), two of them from each number of 32 bits."""
    *rows, last = shape or (1,)
    pairs = jax.random.bits(key, (*rows, -(-last // 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(pairs, jnp.uint16).reshape(*rows, 2 * pairs.shape[-1])
    halves = halves[..., :last]
    return halves.reshape(shape).astype(dtype) * jnp.asarray(2.0**-16, dtype)
