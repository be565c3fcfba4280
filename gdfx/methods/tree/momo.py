"""MoMo: momentum whose step is as long as a model of the loss allows, and the same for Adam.

Fabian Schaipp, Ruben Ohana, Michael Eickenberg, Aaron Defazio, Robert M. Gower, "MoMo: Momentum
Models for Adaptive Learning Rates", ICML 2024, arXiv:2305.07583, Algorithms 1 to 4.
"""

from typing import Any

import jax.numpy as jnp
import optax
import optax.contrib
from jax.typing import ArrayLike

from gdfx.core.arguments import ANY, DECAY, Flag, checked
from gdfx.core.descend import rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    ema,
    inf_as_nan,
    inner_product,
    one_minus_power,
    root,
    saturate,
)

_ARGUMENTS = {"lower_bound": ANY, "adapt_lower_bound": Flag()}


# ⟨m, W⟩ − γ is formed as β (⟨m, W⟩ − γ) of the m and γ before the step: what both take from g, the
# same number, is not subtracted from itself.


def _model(
    eta: Any, decay: Any, rho: Any, bound: Any, known: dict[str, Any], *, adapt: bool
) -> dict[str, Any]:
    """(3) to (6): the length τ of a step, and the bound on the loss after it."""
    f, gamma, lower, ahead, norm = (known[name] for name in ("f", "gamma", "lb", "ahead", "norm"))
    pull, longest = eta * decay, eta / rho
    shrink = 1 + pull
    if adapt:
        cap = shrink * f + ahead - pull * gamma  # (3)
        lower = jnp.where(
            cap <= shrink * rho * lower, jnp.maximum(cap / (2 * shrink * rho), bound), lower
        )
    gap = jnp.maximum(shrink * (f - rho * lower) + ahead - pull * gamma, 0)  # (4)
    least = jnp.maximum(longest * norm, gap)
    tau = longest * gap / jnp.where(least == 0, 1, least)  # (5)
    if adapt:
        lower = jnp.maximum((f + ahead - tau * norm / 2) / rho, bound)  # (6)
    return {"barf": f, "gamma": gamma, "lb": lower, "tau": tau, "shrink": shrink, "pull": pull}


@checked(**_ARGUMENTS, beta=DECAY)
def momo(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    beta: ArrayLike = 0.9,
    lower_bound: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
    *,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """MoMo: momentum, with a step up to where a model of the loss reaches its lower bound.

    ::

        (1) m ← β m + (1 − β) g           f ← β f + (1 − β) loss
            γ ← β γ + (1 − β) ⟨g, W⟩      in the first step  m = g, f = loss, γ = ⟨g, W⟩
        (2) ρ = 1                         with ``bias_correction``, from 0 on:  ρ = 1 − βᵗ
        (3) if the bound f* is adapted and q = (1 + η λ)(f − γ) + ⟨m, W⟩ ≤ (1 + η λ) ρ f*:
            f* ← max(q / (2 (1 + η λ) ρ), f*₀)
        (4) h = max((1 + η λ)(f − ρ f* − γ) + ⟨m, W⟩, 0)
        (5) τ = min(η/ρ, h/‖m‖²)
        (6) if it is adapted:  f* ← max((f + ⟨m, W⟩ − γ − τ ‖m‖²/2)/ρ, f*₀)
        (7) W ← (W − τ m) / (1 + η λ)

    Sums are over all leaves. ``update`` must be given the loss: ``value=loss``.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule: the longest step, better too large than small.
      beta: β in [0, 1), the memory of the means.
      lower_bound: f*₀, a number that the loss does not fall below, such as 0.
      weight_decay: λ ≥ 0, a number or a schedule.
      adapt_lower_bound: find a better bound on the way, where none is known.
      bias_correction: start the means at 0 and correct them, (2).

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters, gradients and state of each other, and by ``update`` without
        the parameters or the loss.

    Differs: optax divides W alone by 1 + η λ, and not τ m, in (7), stands still where ‖m‖² is
    below 2e-16, has no ``bias_correction``, and holds f, γ and f* in the narrowest dtype of the
    parameters, here at least float32. The authors' code and optax have < for ≤ in (3): after zero
    gradients f* is f, and nothing would move while the loss stays. Gradients beyond 2⁴⁸ (float64:
    2⁴⁹⁶) count as that. After a loss of −Inf, which is below any f*, the authors' code and optax
    never move again; here it is NaN.

    Reference: arXiv:2305.07583, Algorithms 1 and 3; momo-opt 0.1.0.

    Purpose: less tuning of the learning rate, where the least loss is about known (abstract of
    arXiv:2305.07583).

    See also: `gdfx.momo_adam`; `gdfx.polyak_sgd`, without momentum.
    """

    def init(p):
        return accumulator(p)

    def memory(t):
        return beta if bias_correction else jnp.where(t == 1, 0.0, beta)

    def measure(g, old, *, p, t):
        g = saturate(g)
        m = ema(old, g, memory(t))
        return {"gw": inner_product(g, p), "mw": inner_product(old, p), "norm": jnp.sum(abs_sq(m))}

    def scalars(t, value, barf, gamma, lb, gw, mw, norm):
        b = memory(t)
        means = {"f": ema(barf, inf_as_nan(value), b), "gamma": ema(gamma, gw, b)}  # (1)
        known = means | {"lb": lb, "norm": norm, "ahead": b * (mw - gamma)}
        eta, rho = rate(learning_rate, t), one_minus_power(beta, t) if bias_correction else 1  # (2)
        decay = rate(weight_decay, t)
        return _model(eta, decay, rho, lower_bound, known, adapt=adapt_lower_bound)

    def rule(g, m, *, p, t, tau, shrink, pull):
        m = ema(m, saturate(g), memory(t))  # (1)
        return -(tau * m + pull * p) / shrink, m  # (7)

    numbers = {"barf": 0.0, "gamma": 0.0, "lb": 0.0 + lower_bound}
    state = optax.contrib.MomoState
    return per_leaf(state, init, rule, scalars=scalars, measure=measure, numbers=numbers)


@checked(**_ARGUMENTS, divide=Flag())
def momo_adam(
    learning_rate: optax.ScalarOrSchedule = 1e-2,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    lower_bound: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
    *,
    divide: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """MoMo-Adam: Adam, with a step up to where a model of the loss reaches its lower bound.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
            f ← β₁ f + (1 − β₁) loss      γ ← β₁ γ + (1 − β₁) ⟨g, W⟩
        (2) D = √(v / (1 − β₂ᵗ)) + ε      ρ = 1 − β₁ᵗ
        (3) to (6) as in `momo`, with ⟨m, m/D⟩ for ‖m‖²
        (7) W ← (W − τ m/D) / (1 + η λ)   without ``divide``  W ← (1 − η λ) W − τ m/D

    Args:
      learning_rate: η, a number ≥ 0 or a schedule: the longest step, better too large than small.
      b1: β₁ in [0, 1), the memory of m, f and γ.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      lower_bound: f*₀, a number that the loss does not fall below, such as 0.
      weight_decay: λ ≥ 0, a number or a schedule.
      adapt_lower_bound: find a better bound on the way, where none is known.
      divide: False for AdamW's weight decay in (7).

    Raises:
      TypeError, ValueError: as in `gdfx.momo`.

    Differs: as in `gdfx.momo`.

    Reference: arXiv:2305.07583, Algorithms 2 and 4; momo-opt 0.1.0.

    Purpose: less tuning of Adam's learning rate (abstract of arXiv:2305.07583).

    See also: `gdfx.momo`; `gdfx.adamw`.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def moments(g, m, v, t):
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        return g, m, v, m / root(v / one_minus_power(b2, t), outside=eps)  # (2)

    def measure(g, old, v, *, p, t):
        g, m, _, u = moments(g, old, v, t)
        return {"gw": inner_product(g, p), "mw": inner_product(old, p), "norm": inner_product(m, u)}

    def scalars(t, value, barf, gamma, lb, gw, mw, norm):
        means = {"f": ema(barf, inf_as_nan(value), b1), "gamma": ema(gamma, gw, b1)}  # (1)
        known = means | {"lb": lb, "norm": norm, "ahead": b1 * (mw - gamma)}
        eta, rho = rate(learning_rate, t), one_minus_power(b1, t)
        decay = rate(weight_decay, t)
        return _model(eta, decay, rho, lower_bound, known, adapt=adapt_lower_bound)

    def rule(g, m, v, *, p, t, tau, shrink, pull):
        _, m, v, u = moments(g, m, v, t)
        step = tau * u + pull * p  # (7)
        return -step / shrink if divide else -step, m, v

    numbers = {"barf": 0.0, "gamma": 0.0, "lb": 0.0 + lower_bound}
    state = optax.contrib.MomoAdamState
    return per_leaf(state, init, rule, scalars=scalars, measure=measure, numbers=numbers)
