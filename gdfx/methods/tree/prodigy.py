"""Prodigy: Adam whose rate follows from how far the parameters have come.

Konstantin Mishchenko, Aaron Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
2023, arXiv:2306.06101, Algorithm 4; the authors' package prodigyopt 1.1.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import DECAY, POSITIVE, Count, Flag, Number, Optional, checked
from gdfx.core.descend import rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrected_rate,
    ema,
    inner_product,
    magnitude,
    ratio,
    root,
    saturate,
    start_value,
)


class ProdigyState(NamedTuple):
    """State of `prodigy`."""

    count: Any  # steps done, int32
    d: Any  # the estimate of how far it is
    d_max: Any  # the largest of all estimates, which `growth_rate` may hold back
    numerator: Any  # of the estimate
    mu: Any  # m: running mean of d g
    nu: Any  # v: running mean of d² |g|²
    s: Any  # running sum of the gradients
    p0: Any  # the parameters at the start


@checked(
    b3=Optional(DECAY),
    d0=POSITIVE,
    d_coef=POSITIVE,
    growth_rate=Optional(Number("> 1", lambda x: x > 1)),
    safeguard_warmup=Flag(),
    slice_p=Count(1),
)
def prodigy(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: ArrayLike | None = None,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    *,
    d0: ArrayLike = 1e-6,
    d_coef: ArrayLike = 1.0,
    growth_rate: ArrayLike | None = None,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
    slice_p: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Adam with a rate d that is found: how far the solution is, by what the gradients say.

    ::

        (1) η = γ d
            with bias correction  η = γ d √(1 − β₂ᵗ) / (1 − β₁ᵗ)
        (2) n ← β₃ n + (d/d₀) η Σ g (W₀ − W)            s ← β₃ s + (d/d₀) η g
        (3) m ← β₁ m + (1 − β₁) d g       v ← β₂ v + (1 − β₂) d² |g|²
        (4) d̂ = d_coef n / Σ|s|           d_max ← max(d_max, d̂)
            d' = min(d_max, growth d)     with max(d, d̂) for d while d = d₀
        (5) W ← W − η (m / (√v + d' ε) + λ W)           d ← d'

    The sums are over all leaves that have a gradient. With `optax.tree.get(state, "d")`, or
    `optax.tree_utils.tree_get` in older versions, d is read from the state.

    Args:
      learning_rate: γ, a number ≥ 0, or a schedule: a function from the number of steps done so far
        (0 at the first) to such a number. Leave it at 1, or let it fall from there.
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      b3: β₃ in [0, 1), the memory of n and s; None: √β₂.
      eps: ε ≥ 0, in the unit of |g|.
      weight_decay: λ, a number ≥ 0 or a schedule, for all leaves.
      d0: d₀ > 0, d at the start, which should be below what is right.
      d_coef: > 0, what d is multiplied by: the authors tune this one first.
      growth_rate: > 1, by how much d may grow in a step; None: without bounds.
      bias_correction: whether (1) makes up for the start of m and v at 0.
      safeguard_warmup: d for η in s, for learning rates that warm up.
      slice_p: take only each so many-th number of a leaf into the sums, and hold as many of W₀ and
        s: 11 saves 7 of 16 bytes.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: where all gradients so far were zero the authors' step is left out, with its weight
    decay and its count for (1); here d, m and v stay too, and weights decay by λ η. With β₁ = 0
    they have d' g for m in (5); here d g, as in the paper. Their
    ``decouple=False`` is ``optax.chain(optax.add_decayed_weights(λ), gdfx.prodigy())``. They keep
    one number of W₀ for a leaf of zeros. optax.contrib.prodigy always corrects the bias, has no
    growth_rate and slice_p, and is NaN for ever after a first gradient of zero. Its parameters are
    these with ``bias_correction`` to 1e-15, over 240 steps in float64; without, they are 18 % off
    after 50. Its state has other names, and no d_max. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as
    that.

    Purpose: Adam without a learning rate to tune, the schedule's shape apart (abstract of
    arXiv:2306.06101). Parameters in bfloat16 do not move by d₀, and d then never grows: put it in
    `gdfx.compensated` or `gdfx.stochastic_rounding`.

    Reference: arXiv:2306.06101, Algorithm 4; the authors' prodigy.py.

    See also: `gdfx.dadapt_adamw`; `gdfx.adamw`.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.prodigy(), jnp.zeros(2)
    >>> state, update = tx.init(w), jax.jit(tx.update)
    >>> for _ in range(60):
    ...     updates, state = update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> print(f"loss {loss(w):.1f}, d {state.d:.2f}")
    loss 0.1, d 1.09
    """
    beta3 = b2**0.5 if b3 is None else b3

    def part(x: Any) -> Any:
        """Each so many-th number; slicing takes an array apart that is spread over devices."""
        return x if slice_p == 1 else x.reshape(-1)[::slice_p]

    def eta_of(d: jax.Array, t: jax.Array) -> Any:
        eta = d * rate(learning_rate, t)
        return corrected_rate(eta, t, b1, b2) if bias_correction else eta  # (1)

    def summed(s: jax.Array, g: jax.Array, d: jax.Array, eta: jax.Array) -> jax.Array:
        return beta3 * s + (d / d0) * (d if safeguard_warmup else eta) * part(g)  # (2)

    def init(p):
        apart = isinstance(p, jax.ShapeDtypeStruct) and slice_p > 1
        p0 = start_value(jax.eval_shape(part, p) if apart else part(p))
        return accumulator(p), accumulator(p, real=True), accumulator(p0), p0

    def measure(g, mu, nu, s, p0, *, p, d, t):
        del mu, nu
        g = saturate(g)
        along = inner_product(part(g), p0 - part(p))
        return {"along": along, "size": jnp.sum(magnitude(summed(s, g, d, eta_of(d, t))))}

    def scalars(t, d, d_max, numerator, along, size):
        eta = eta_of(d, t)
        numerator = beta3 * numerator + (d / d0) * eta * along  # (2)
        found = ratio(d_coef * numerator, size)
        d_max = jnp.maximum(d_max, found)
        grown = d_max
        if growth_rate is not None:
            first = d == jnp.asarray(d0, d.dtype)
            grown = jnp.minimum(d_max, growth_rate * jnp.where(first, jnp.maximum(d, found), d))
        decay = rate(weight_decay, t)
        new = {"d": grown, "d_max": d_max, "numerator": numerator}  # (4)
        return new | {"last": d, "eta": eta, "decay": decay}

    def rule(g, mu, nu, s, p0, *, p, d, last, eta, decay):
        g = saturate(g)
        mu, nu = ema(mu, last * g, b1), ema(nu, abs_sq(last * g), b2)  # (3)
        s = summed(s, g, last, eta)
        return -eta * (mu / root(nu, 0.0, d * eps) + decay * p), mu, nu, s, p0  # (5)

    numbers = {"d": 1.0 * d0, "d_max": 1.0 * d0, "numerator": 0.0}
    return per_leaf(ProdigyState, init, rule, scalars=scalars, measure=measure, numbers=numbers)
