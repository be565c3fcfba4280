"""AMSGrad: Adam whose rates never grow again.

Sashank Reddi, Satyen Kale, Sanjiv Kumar, "On the Convergence of Adam and Beyond", ICLR 2018,
arXiv:1904.09237, Algorithm 2.
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrections, ema, root, saturate


@checked
def scale_by_amsgrad(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Divide the running mean of the gradient by its largest running root mean square so far.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
        (3) w ← max(w, v̂)                 w = 0 at the start
        (4) u = m̂ / (√(w + ε_root) + ε)

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      eps_root: ε_root ≥ 0, inside the root.
      mu_dtype: dtype of m; by default the parameter's, but at least float32.
      bias_correction_mu, bias_correction_nu: False takes m, or v, in place of m̂, or v̂, in (2).

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper corrects neither m nor v and has no ε; both corrections are optax's.
    PyTorch and Keras take the largest v and correct that. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶)
    count as that.

    Reference: arXiv:1904.09237, Algorithm 2.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True), accumulator(p, real=True)

    def scalars(t):
        return corrections(t, b1, b2)

    def rule(g, m, v, w, *, c1, c2):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        m_hat = m / c1 if bias_correction_mu else m  # (2)
        w = jnp.maximum(w, v / c2 if bias_correction_nu else v)  # (2), (3)
        return m_hat / root(w, eps_root, eps), m, v, w  # (4)

    return per_leaf(optax.ScaleByAmsgradState, init, rule, scalars=scalars)


@checked
def amsgrad(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """AMSGrad: `scale_by_amsgrad`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu: as in
        `scale_by_amsgrad`.

    Purpose: an Adam that converges on problems where Adam is shown not to: rare large gradients
    are not forgotten (arXiv:1904.09237).

    See also: `gdfx.adam`; `gdfx.yogi`, with another answer to the same fault.
    """
    direction = scale_by_amsgrad(
        b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu
    )
    return with_rate(direction, learning_rate)
