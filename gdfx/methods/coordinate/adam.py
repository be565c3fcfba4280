"""Adam, and AdamW with decoupled weight decay.

Diederik Kingma, Jimmy Ba, "Adam: A Method for Stochastic Optimization", 2015,
arXiv:1412.6980, Algorithm 1; Ilya Loshchilov, Frank Hutter, "Decoupled Weight Decay
Regularization", 2019, arXiv:1711.05101, Algorithm 2; Timothy Dozat, "Incorporating
Nesterov Momentum into Adam", ICLR workshop 2016, Algorithm 2.
"""

from typing import Any

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, corrected, corrections, ema, root, saturate


@checked
def scale_by_adam(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide the running mean of the gradient by its running root mean square.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) |g|²
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
            with Nesterov's momentum
            m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ)
        (3) u = m̂ / (√(v̂ + ε_root) + ε)

    Args:
      b1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      b2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      eps: ε ≥ 0, added outside the root, in the unit of |g|: coordinates with gradients well
        below it take short steps.
      eps_root: ε_root ≥ 0, added inside the root, in the unit of |g|². optax needs more than 0
        where the update is differentiated; here 0 will do.
      mu_dtype: the dtype of m, a real floating dtype (of a complex parameter the complex one of
        that precision); None: the parameter's, but at least float32.
      nesterov: True for Nesterov's momentum, which takes one step of m ahead in (2).
      nu_dtype: the dtype of v, a real floating dtype; None: the parameter's, but at least float32.
        In bfloat16, v stops changing once (1 − β₂) |g|² is below 1/256 of it.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        parameters, gradients and states that do not belong together.

    Differs: ε_root is not in the paper (there it is 0). Dozat multiplies v̂ by β₂ and varies
    β₁; optax does neither, nor does this. 1 − βᵗ is accurate to 1e-6 where optax's is off by
    up to 1e-3 in float32. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as 2⁴⁸ (2⁴⁹⁶).

    Reference: arXiv:1412.6980, Algorithm 1; Dozat 2016, Algorithm 2.

    See also: `gdfx.adam` and `gdfx.adamw`, the whole optimizers.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, dtype=nu_dtype, real=True)

    def scalars(t):
        return corrections(t, b1, b2, ahead=nesterov)

    def rule(g, m, v, *, c1, c2, c1_ahead: Any = None):  # 1 − β₁ᵗ, 1 − β₂ᵗ, 1 − β₁ᵗ⁺¹
        g = saturate(g)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (1)
        m_hat, v_hat = corrected(m, g, b1, c1, c1_ahead), v / c2  # (2)
        return m_hat / root(v_hat, eps_root, eps), m, v  # (3)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


@checked
def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam: `scale_by_adam`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      b1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      b2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      eps: ε ≥ 0, added outside the root, in the unit of |g|: coordinates with gradients well
        below it take short steps.
      eps_root: ε_root ≥ 0, added inside the root, in the unit of |g|². optax needs more than 0
        where the update is differentiated; here 0 will do.
      mu_dtype: the dtype of m, a real floating dtype (of a complex parameter the complex one of
        that precision); None: the parameter's, but at least float32.
      nesterov: True for Nesterov's momentum, which takes one step of m ahead in (2).
      nu_dtype: the dtype of v, a real floating dtype; None: the parameter's, but at least float32.
        In bfloat16, v stops changing once (1 − β₂) |g|² is below 1/256 of it.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_adam`, and for a learning rate out of range.

    Purpose: "problems that are large in terms of data and/or parameters", "non-stationary
    objectives" and "very noisy and/or sparse gradients" (abstract of arXiv:1412.6980).

    See also: `gdfx.adamw`, with weight decay; `gdfx.textbook.adam`, with ε inside the root.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.adam(1.0), jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    8.000
    2.120
    0.035
    """
    direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype)
    return with_rate(direction, learning_rate)


@checked
def adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay: `scale_by_adam`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      b1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      b2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      eps: ε ≥ 0, added outside the root, in the unit of |g|: coordinates with gradients well
        below it take short steps.
      eps_root: ε_root ≥ 0, added inside the root, in the unit of |g|². optax needs more than 0
        where the update is differentiated; here 0 will do.
      mu_dtype: the dtype of m, a real floating dtype (of a complex parameter the complex one of
        that precision); None: the parameter's, but at least float32.
      weight_decay: λ, a number ≥ 0 or a schedule. It is multiplied by η: where the gradient is 0,
        a step takes W to (1 − η λ) W.
      mask: which leaves decay: a tree of bools, or a function from the parameters to one; None:
        all of them.
      nesterov: True for Nesterov's momentum, which takes one step of m ahead in (2).
      nu_dtype: the dtype of v, a real floating dtype; None: the parameter's, but at least float32.
        In bfloat16, v stops changing once (1 − β₂) |g|² is below 1/256 of it.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_adam`, for a bad learning rate, weight decay or
        mask, and by ``update`` where the parameters are not given.

    Differs: the paper multiplies λ W by the schedule's factor alone. Here it is multiplied by η,
    as in optax, PyTorch and Keras.

    Purpose: weight decay that does not pass through Adam's division. Decoupling the two makes the
    best λ less dependent on η (abstract of arXiv:1711.05101).

    Reference: arXiv:1711.05101, Algorithm 2.

    See also: `gdfx.adam`; `gdfx.descend`, which adds such weight decay to any direction.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.adamw(1.0, weight_decay=0.1), jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    8.000
    2.552
    0.336
    """
    direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
