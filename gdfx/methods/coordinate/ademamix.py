"""AdEMAMix: Adam with a second, far longer memory of the gradient.

Matteo Pagliardini, Pierre Ablin, David Grangier, "The AdEMAMix Optimizer: Better, Faster, Older",
ICLR 2025, arXiv:2409.03137, Algorithm 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import RATE, Count, Number, Optional, checked
from gdfx.core.descend import rate, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrections,
    ema,
    new_share,
    risen,
    root,
    saturate,
)

_ARGUMENTS = {
    "b3": Number("in [0, 1)", lambda x: 0 <= x < 1, schedule=True, near_one=True),
    "alpha": RATE,
    "b3_warmup": Optional(Count(1)),
    "alpha_warmup": Optional(Count(1)),
    "warmup_from": Count(),
}


@checked(**_ARGUMENTS)
def scale_by_ademamix(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: optax.ScalarOrSchedule = 0.9999,
    alpha: optax.ScalarOrSchedule = 6.0,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    b3_warmup: int | None = None,
    alpha_warmup: int | None = None,
    warmup_from: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Divide a fast and a slow running mean of the gradient by its running root mean square.

    ::

        (1) m₁ ← β₁ m₁ + (1 − β₁) g       m₂ ← β₃ m₂ + (1 − β₃) g
            v ← β₂ v + (1 − β₂) |g|²
        (2) m̂₁ = m₁ / (1 − β₁ᵗ)           v̂ = v / (1 − β₂ᵗ)
        (3) u = (m̂₁ + α m₂) / (√(v̂ + ε_root) + ε)
        with warm-ups over T steps, of which k are done
        (4) α rises in a straight line:  α k/T
        (5) β₃ begins at β₁, and its half-life rises in a straight line:
            1/log β₃ₖ = (1 − k/T)/log β₁ + (k/T)/log β₃

    Args:
      b1: β₁ in [0, 1), the memory of m₁.
      b2: β₂ in [0, 1), the memory of v.
      b3: β₃ in [0, 1), the memory of m₂, or a schedule, from the number of steps done.
      alpha: α ≥ 0, the part of m₂, or a schedule. The paper takes 5 to 8.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      mu_dtype: the dtype of m₁ and m₂; by default the parameter's, but at least float32.
      b3_warmup: T of (5), a whole number; None: β₃ as it is given.
      alpha_warmup: T of (4), a whole number; None: α as it is given.
      warmup_from: what k is in the first step: 0 as in the authors' JAX code and optax, 1 as in
        their PyTorch code.

    Raises:
      TypeError, ValueError: for arguments out of range, for a warm-up of what is a schedule, and by
        ``init`` and ``update`` for trees that are not parameters, gradients and state of each
        other.

    Differs: the authors' PyTorch code adds 1e-8 to β in (5), which makes the half-life longer by
    1e-4 of itself at β = 0.9999; their JAX code finds β₃ in float32. Their PyTorch code keeps no
    m₁ where β₁ = 0. m₂ is not corrected: it fills slowly, on purpose. optax keeps v in
    ``mu_dtype`` too. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2409.03137, Algorithm 1; apple/ml-ademamix.
    """
    for name, value, warmup in (("b3", b3, b3_warmup), ("alpha", alpha, alpha_warmup)):
        if warmup is not None and callable(value):
            raise ValueError(
                f"scale_by_ademamix: {name} is a schedule already; leave out {name}_warmup"
            )

    def init(p):
        m = accumulator(p, dtype=mu_dtype)
        return m, m, accumulator(p, real=True)

    def share(warmup: int | None, steps: jax.Array) -> Any:  # k/T
        return 1 if warmup is None else risen(steps, warmup, warmup_from)

    def scalars(t, count_m2):
        step = jnp.asarray(optax.safe_increment(count_m2))
        mix, memory = rate(alpha, step) * share(alpha_warmup, count_m2), rate(b3, step)  # (4)
        rising = b3_warmup is not None
        new = new_share(b1, memory, share(b3_warmup, count_m2)) if rising else 1 - memory  # (5)
        return corrections(t, b1, b2) | {"count_m2": step, "new": new, "mix": mix}

    def rule(g, m1, m2, v, *, new, mix, c1, c2):  # 1 − β₃, α, 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(g)
        m1, v = ema(m1, g, b1), ema(v, abs_sq(g), b2)  # (1)
        m2 = (1 - new) * m2 + new * g
        return (m1 / c1 + mix * m2) / root(v / c2, eps_root, eps), m1, m2, v  # (2), (3)

    state, numbers = optax.contrib.ScaleByAdemamixState, {"count_m2": jnp.int32(0)}
    return per_leaf(state, init, rule, scalars=scalars, numbers=numbers)


@checked(**_ARGUMENTS)
def ademamix(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: optax.ScalarOrSchedule = 0.9999,
    alpha: optax.ScalarOrSchedule = 5.0,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    b3_warmup: int | None = None,
    alpha_warmup: int | None = None,
    warmup_from: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """AdEMAMix: `scale_by_ademamix`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, b3, alpha, eps, eps_root, mu_dtype: as in `scale_by_ademamix`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.
      b3_warmup, alpha_warmup: as in `scale_by_ademamix`; the paper takes the whole run.
        Without them the slow mean may push too far at the beginning of a long run.
      warmup_from: as in `scale_by_ademamix`.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_ademamix`, and by ``update`` without the
        parameters.

    Differs: the default of α is optax's; the authors' PyTorch code has 2, their JAX code 5.

    Purpose: long runs, in which gradients of tens of thousands of steps ago still point the right
    way (abstract of arXiv:2409.03137).

    Reference: arXiv:2409.03137, Algorithm 1.

    See also: `gdfx.simplified_ademamix`, which has one mean; `gdfx.adamw`.
    """
    direction = scale_by_ademamix(
        b1,
        b2,
        b3,
        alpha,
        eps,
        eps_root,
        mu_dtype,
        b3_warmup=b3_warmup,
        alpha_warmup=alpha_warmup,
        warmup_from=warmup_from,
    )
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
