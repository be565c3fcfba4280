"""SGD, AdamW and RAdam made schedule-free.

Aaron Defazio, Xingyu Yang, Harsh Mehta, Konstantin Mishchenko, Ahmed Khaled, Ashok Cutkosky, "The
Road Less Scheduled", 2024, arXiv:2405.15682, Algorithm 1; the authors' package schedulefree 1.4.1.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax._src import transform  # which alone has the state with a count

from gdfx.core.arguments import NOT_NEGATIVE, Count, Flag, checked
from gdfx.core.descend import rate, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    ema,
    one_minus_power,
    rectification,
    risen,
    root,
    saturate,
)
from gdfx.methods.coordinate.rmsprop import scale_by_rms
from gdfx.wrappers.schedule_free import schedule_free

_WEIGHTS = {"r": NOT_NEGATIVE, "weight_lr_power": NOT_NEGATIVE}


@checked(**_WEIGHTS, warmup_steps=Count())
def schedule_free_sgd(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    b1: ArrayLike = 0.9,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    warmup_steps: int = 0,
    weight_lr_power: ArrayLike = 2.0,
    r: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Schedule-Free SGD: gradients between the walk z and its average x.

    ::

        (1) γ = η min(1, t / warmup)
        (2) γ_max ← max(γ_max, γ)         w = tʳ γ_max^p
            S ← S + w                     c = w / S
        (3) d = g + λ y
        (4) y ← y + c (z − y) − γ (1 − β (1 − c)) d
        (5) z ← z − γ d

    The parameters are y; `gdfx.eval_params` returns x, the weights to evaluate and to store.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number. It wants to be 10 to 50 times that of SGD, and no
        decay.
      b1: β in [0, 1), the share of x in y; longer runs want 0.95 or 0.98.
      weight_decay: λ, a number ≥ 0 or a schedule. It is multiplied by γ.
      mask: which leaves decay: a tree of bools, or a function from the parameters to one; None:
        all of them.
      warmup_steps: how many steps γ rises for, to η.
      weight_lr_power: p ≥ 0: the larger, the less the steps of a warm-up count in x.
      r: ≥ 0: the larger, the more later steps count in x.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: in nothing from schedulefree 1.4.1, which refuses β = 0. From optax.contrib's, as
    `schedule_free` says: without a warm-up its parameters are these to 1e-14, over 240 steps in
    float64; with one of 20 steps its first step moves nothing, and after ten it is 5 % off.

    Purpose: to reach what a decaying schedule reaches, at any time and without knowing when the
    run will end (abstract of arXiv:2405.15682).

    Reference: arXiv:2405.15682, equations (3) to (5); the authors' sgd_schedulefree.py.

    See also: `gdfx.schedule_free_adamw`; `gdfx.eval_params`; `gdfx.schedule_free`, around any
    optimizer.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.schedule_free_sgd(0.4), jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(gdfx.eval_params(state, w)):.3f}")
    0.720
    0.259
    0.073
    """
    gamma = _warmed(learning_rate, warmup_steps)
    base = with_rate(optax.identity(), gamma, weight_decay=weight_decay, mask=mask)
    return schedule_free(base, gamma, b1, weight_lr_power, r=r)


@checked(**_WEIGHTS, warmup_steps=Count())
def schedule_free_adamw(
    learning_rate: optax.ScalarOrSchedule = 0.0025,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    warmup_steps: int = 0,
    weight_lr_power: ArrayLike = 2.0,
    r: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Schedule-Free AdamW: Adam's division, and the average in place of its momentum.

    ::

        (1) γ = η min(1, t / warmup)
        (2) γ_max ← max(γ_max, γ)         w = tʳ γ_max^p
            S ← S + w                     c = w / S
        (3) v ← β₂ v + (1 − β₂) |g|²
        (4) d = g / (√(v / (1 − β₂ᵗ)) + ε) + λ y
        (5) y ← y + c (z − y) − γ (1 − β₁ (1 − c)) d
        (6) z ← z − γ d

    The parameters are y; `gdfx.eval_params` returns x, the weights to evaluate and to store.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number. It wants to be 1 to 10 times that of AdamW, and no
        decay.
      b1: β₁ in [0, 1), the share of x in y; longer runs want 0.95 or 0.98.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      weight_decay: λ, a number ≥ 0 or a schedule. It is multiplied by γ.
      mask: which leaves decay: a tree of bools, or a function from the parameters to one; None:
        all of them.
      warmup_steps: how many steps γ rises for, to η.
      weight_lr_power: p ≥ 0: the larger, the less the steps of a warm-up count in x.
      r: ≥ 0: the larger, the more later steps count in x.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: in nothing from schedulefree 1.4.1. From optax.contrib's, as `schedule_free` says:
    without a warm-up its parameters are these to 1e-14, over 240 steps in float64; with one of 20
    steps its first step moves nothing, and it stays 1 % off. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶)
    count as that.

    Purpose: to reach what a decaying schedule reaches, at any time and without knowing when the
    run will end (abstract of arXiv:2405.15682).

    Reference: arXiv:2405.15682, Algorithm 1; the authors' adamw_schedulefree.py.

    See also: `gdfx.schedule_free_radam`, which needs no warm-up; `gdfx.eval_params`;
    `gdfx.schedule_free`, around any optimizer.
    """
    gamma = _warmed(learning_rate, warmup_steps)
    direction = scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    base = with_rate(direction, gamma, weight_decay=weight_decay, mask=mask)
    return schedule_free(base, gamma, b1, weight_lr_power, r=r)


@checked(**_WEIGHTS, silent_sgd_phase=Flag())
def schedule_free_radam(
    learning_rate: optax.ScalarOrSchedule = 0.0025,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    weight_lr_power: ArrayLike = 2.0,
    r: ArrayLike = 0.0,
    silent_sgd_phase: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Schedule-Free RAdam: Schedule-Free AdamW whose warm-up follows from β₂.

    ::

        (1) ρ∞ = 2 / (1 − β₂) − 1         ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
        (2) γ = η √[(ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ)]
            if ρ > 4, else 0 or η
        (3) v ← β₂ v + (1 − β₂) |g|²
        (4) d = g / (√(v / (1 − β₂ᵗ)) + ε) + λ y   if ρ > 4, else  g + λ y

    and from there as (2), (5) and (6) of `schedule_free_adamw`.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      b1, b2, eps, weight_decay, mask, weight_lr_power, r: as in `schedule_free_adamw`.
      silent_sgd_phase: whether γ is 0 in the first steps, those of ρ ≤ 4; else it is η, and they
        are steps of SGD.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: ρ is formed without the difference in (1), which loses digits where β₂ is near 1.
    Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Purpose: Schedule-Free AdamW without a length of warm-up to choose (the authors' package).

    Reference: arXiv:2405.15682, Algorithm 1; arXiv:1908.03265, Algorithm 2; the authors'
    radam_schedulefree.py.

    See also: `gdfx.schedule_free_adamw`; `gdfx.radam`; `gdfx.eval_params`.
    """

    def gamma(count: Any) -> Any:
        t: Any = optax.safe_increment(count)
        factor, divides = rectification(t, b2, 4.0)
        return rate(learning_rate, t) * jnp.where(divides, factor, float(not silent_sgd_phase))

    def init(p):
        return accumulator(p, real=True)

    def scalars(t):
        return {"c2": one_minus_power(b2, t), "divides": rectification(t, b2, 4.0)[1]}

    def rule(g, v, *, c2, divides):
        g = saturate(g)
        v = ema(v, abs_sq(g), b2)  # (3)
        return jnp.where(divides, g / root(v / c2, 0.0, eps), g), v  # (4)

    direction = per_leaf(transform.ScaleByRmsWithCountState, init, rule, scalars=scalars)
    base = with_rate(direction, gamma, weight_decay=weight_decay, mask=mask)
    return schedule_free(base, gamma, b1, weight_lr_power, r=r)


def _warmed(learning_rate: optax.ScalarOrSchedule, steps: int) -> optax.ScalarOrSchedule:
    """(1): a rate that rises from its ``steps``-th part to the whole."""
    if steps == 0:
        return learning_rate

    def gamma(count: Any) -> Any:
        t: Any = optax.safe_increment(count)
        return rate(learning_rate, t) * risen(t, steps)

    return gamma
