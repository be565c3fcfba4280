"""ADOPT: Adam whose mean square is that of the steps before.

Shohei Taniguchi, Keno Harada, Gouki Minegishi, Yuta Oshima, Seong Cheol Jeong, Go Nagahara,
Tomoshi Iiyama, Masahiro Suzuki, Yusuke Iwasawa, Yutaka Matsuo, "ADOPT: Modified Adam Can Converge
with Any β₂ with the Optimal Rate", NeurIPS 2024, arXiv:2411.02853, Algorithm 2.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import RATE, Flag, Function, Optional, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, ema, magnitude, root, saturate

_ARGUMENTS = {
    "use_clipping": Flag(),
    "clip_value_fn": Function("a function of the number of steps done"),
}


def _fourth_root(count: jax.Array) -> jax.Array:
    return count**0.25


@checked(**_ARGUMENTS)
def scale_by_adopt(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.9999,
    eps: ArrayLike = 1e-6,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[jax.Array], Any] = _fourth_root,
) -> optax.GradientTransformationExtraArgs:
    """The running mean of gradients, each divided by the root mean square of those before it.

    ::

        in the first step
        (1) v = |g|²                      m = 0, u = 0
        in step t = 2, 3, …
        (2) d = g / max(√v, ε)            held to [−c, c],  c = (t − 1)^¼
        (3) m ← β₁ m + (1 − β₁) d         u = m
            with Nesterov's momentum      u = β₁ m + (1 − β₁) d
        (4) v ← β₂ v + (1 − β₂) |g|²

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, the least √v.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.
      nesterov: take one step of m ahead in (3).
      use_clipping: hold d in (2).
      clip_value_fn: c, from the number of steps done, t − 1; the fourth root by default.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: Nesterov's momentum is optax's. In its first step optax forms 0 · g/ε, which without
    clipping is NaN where g/ε overflows; here u = 0. optax holds β₂ in float32, where 1 − β₂ is off
    by 2e-4 at 0.9999, and u by up to 1e-4 after 200 steps. Complex d are held to |d| ≤ c as a
    whole. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2411.02853, Algorithm 2; iShohei220/adopt.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True)

    def scalars(t):
        done = (t - 1).astype(jnp.result_type(float))
        return {"limit": clip_value_fn(done)} if use_clipping else {}

    def rule(g, m, v, *, t, limit: Any = None):
        g = saturate(g)
        d = g / jnp.maximum(root(v), eps)  # (2)
        if limit is not None:
            d = _held(d, limit)
        later = t > 1
        m = jnp.where(later, ema(m, d, b1), m)  # (3)
        u = jnp.where(later, ema(m, d, b1), m) if nesterov else m
        return u, m, jnp.where(later, ema(v, abs_sq(g), b2), abs_sq(g))  # (1), (4)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)


def _held(d: jax.Array, limit: Any) -> jax.Array:
    if jnp.iscomplexobj(d):
        return d * jnp.minimum(1, limit / magnitude(d))
    return jnp.clip(d, -limit, limit)


@checked(**_ARGUMENTS, weight_decay=Optional(RATE))
def adopt(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.9999,
    eps: ArrayLike = 1e-6,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[jax.Array], Any] = _fourth_root,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """ADOPT: `scale_by_adopt`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule. The first step does not move.
      b1, b2, eps, mu_dtype, nesterov, use_clipping, clip_value_fn: as in `scale_by_adopt`.
      weight_decay: λ, a number ≥ 0 or a schedule; None: there is no such link in the chain, as in
        optax.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_adopt`, for a mask without weight decay, and by
        ``update`` without the parameters where they decay.

    Differs: weight decay acts in the first step too, where the authors' code skips it. Their
    default adds λ W to the gradient instead: ``optax.chain(optax.add_decayed_weights(λ),
    gdfx.adopt(η))``.

    Purpose: convergence for any β₂, without bounds on the noise (abstract of arXiv:2411.02853).

    Reference: arXiv:2411.02853, Algorithm 2.

    See also: `gdfx.adamw`; `gdfx.amsgrad`, which mends the same by a maximum.
    """
    if mask is not None and weight_decay is None:
        raise ValueError("adopt: mask says which leaves decay, but weight_decay is not given")
    direction = scale_by_adopt(
        b1,
        b2,
        eps,
        mu_dtype,
        nesterov=nesterov,
        use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
    )
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
