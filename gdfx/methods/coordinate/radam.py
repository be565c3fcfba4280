"""RAdam: Adam that waits with dividing until it has seen enough gradients.

Liyuan Liu, Haoming Jiang, Pengcheng He, Weizhu Chen, Xiaodong Liu, Jianfeng Gao, Jiawei Han, "On
the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020, arXiv:1908.03265, Algorithm 2.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import Number, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrected,
    corrections,
    ema,
    minus_log,
    root,
    saturate,
)

_THRESHOLD = Number(">= 4", lambda x: x >= 4)


@checked(threshold=_THRESHOLD)
def scale_by_radam(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam, shortened while v̂ is uncertain, and undivided at first.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
            with Nesterov's momentum
            m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ)
        (3) ρ∞ = 2 / (1 − β₂) − 1         ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
        (4) r = √[(ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ)]
        (5) u = r m̂ / (√(v̂ + ε_root) + ε) if ρ ≥ threshold, else m̂

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      threshold: from which ρ on m̂ is divided, ≥ 4.
      nesterov: take one step of m ahead in (2).

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper divides where ρ > 4, the authors' code and optax where ρ ≥ 5, PyTorch
    where ρ > 5. The paper has no ε; optax adds it to √v̂, the authors and PyTorch to √v. ρ is
    formed without the difference in (3), which in float32 loses its digits where β₂ is near 1.
    Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1908.03265, Algorithm 2.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        rho, rho_inf = _lengths(t, b2)  # (3)
        divides = rho >= threshold
        # The other branch must have finite derivatives too.
        rho, rho_inf = jnp.where(divides, rho, 5.0), jnp.where(divides, rho_inf, 6.0)
        r = jnp.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))  # (4)
        return corrections(t, b1, b2, ahead=nesterov) | {"r": r, "divides": divides}

    def rule(g, m, v, *, c1, c2, r, divides, c1_ahead: Any = None):
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        m_hat, v_hat = corrected(m, g, b1, c1, c1_ahead), v / c2  # (2)
        return jnp.where(divides, r * m_hat / root(v_hat, eps_root, eps), m_hat), m, v  # (5)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


def _lengths(t: jax.Array, b2: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """ρ and ρ∞ of (3), without a difference of large numbers.

    With a = −log β₂ and L(y) = coth y − 1/y,  ρ∞ = L(a/2) + 2/a  and
    ρ = L(a/2) + t (1 − L(a t/2)).
    """
    a = jnp.asarray(minus_log(b2), jnp.result_type(float))
    t = t.astype(a.dtype)
    short, long = _langevin(a / 2), _langevin(a * t / 2)
    return short + t * (1 - long), short + 2 / a


def _langevin(y: jax.Array) -> jax.Array:
    """Coth y − 1/y for y ≥ 0, where it is small too."""
    small = y < 0.25
    x = jnp.where(small, y, 0.0)
    coefficients = (-1382 / 638512875, 2 / 93555, -1 / 4725, 2 / 945, -1 / 45, 1 / 3)
    series = x * jnp.polyval(jnp.asarray(coefficients), x * x)
    far = jnp.where(small, 1.0, y)
    return jnp.where(small, series, 1 / jnp.tanh(far) - 1 / far)


@checked(threshold=_THRESHOLD)
def radam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RAdam: `scale_by_radam`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, threshold, nesterov: as in `scale_by_radam`.

    Purpose: an Adam that needs no warm-up of the learning rate: early in training its division is
    too uncertain to be used (arXiv:1908.03265).

    See also: `gdfx.adam`, with a schedule that warms up.
    """
    direction = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return with_rate(direction, learning_rate)
