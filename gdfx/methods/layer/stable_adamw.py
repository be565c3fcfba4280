"""StableAdamW: AdamW whose step is shorter where gradients outgrow their mean square.

Mitchell Wortsman, Tim Dettmers, Luke Zettlemoyer, Ari Morcos, Ali Farhadi, Ludwig Schmidt, "Stable
and Low-precision Training for Large-scale Vision-language Models", NeurIPS 2023, arXiv:2304.13013,
Algorithm 2.
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import rate, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrections, divisor, ema, root, saturate


@checked
def scale_by_stable_adamw(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 1e-2,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW's step, shortened by how far the gradients of an array exceed their mean square.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
        (3) r = √mean(|g|² / max(v̂, ε²))  over the whole array
        (4) u = (m̂ / (√v̂ + ε) + λ W) / max(1, r)

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root, and the least √v̂ of (3).
      weight_decay: λ, a number ≥ 0 or a schedule. It stands inside, since (4) shortens it too.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters, gradients and state of each other, and by ``update`` without
        the parameters.

    Differs: the paper corrects the memories, β (1 − βᵗ⁻¹) / (1 − βᵗ), and not m and v, which is
    the same. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2304.13013, Algorithm 2.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True)

    def scalars(t):
        return corrections(t, b1, b2) | {"decay": rate(weight_decay, t)}

    def rule(g, m, v, *, p, c1, c2, decay):  # 1 − β₁ᵗ, 1 − β₂ᵗ, λ
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        v_hat = v / c2  # (2)
        ratio = abs_sq(g) / divisor(jnp.maximum(v_hat, eps**2))
        r = root(jnp.sum(ratio) / max(g.size, 1))  # (3)
        u = (m / c1 / root(v_hat, outside=eps) + decay * p) / jnp.maximum(1, r)  # (4)
        return u, m, v

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked
def stable_adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 1e-2,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """StableAdamW: `scale_by_stable_adamw`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, weight_decay, mu_dtype: as in `scale_by_stable_adamw`. Leaves that shall not
        decay belong to another one, as by `optax.partition`.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_stable_adamw`.

    Purpose: loss spikes where v lags behind the gradients, in place of gradient clipping
    (abstract of arXiv:2304.13013).

    Reference: arXiv:2304.13013, Algorithm 2.

    See also: `gdfx.adamw`; `gdfx.adafactor`, whose update clipping it is.
    """
    direction = scale_by_stable_adamw(b1, b2, eps, weight_decay, mu_dtype)
    return with_rate(direction, learning_rate)
