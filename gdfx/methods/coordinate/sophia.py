"""Sophia: momentum divided by an estimate of the curvature, and held to a length.

Hong Liu, Zhiyuan Li, David Hall, Percy Liang, Tengyu Ma, "Sophia: A Scalable Stochastic
Second-order Optimizer for Language Model Pre-training", 2023, arXiv:2305.14342, Algorithm 3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import NOT_NEGATIVE, POSITIVE, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, divisor, ema, magnitude, saturate
from gdfx.core.precision import as_array, dtype_of, narrow, widen
from gdfx.core.trees import by_path

_ARGUMENTS = {"gamma": NOT_NEGATIVE, "clip_threshold": POSITIVE}


class SophiaState(NamedTuple):
    """What is kept from step to step, and from one estimate of the curvature to the next."""

    mu: Any  # m
    nu: Any  # h


@checked(**_ARGUMENTS)
def scale_by_sophia(
    b1: ArrayLike = 0.965,
    eps: ArrayLike = 1e-15,
    gamma: ArrayLike = 0.05,
    clip_threshold: ArrayLike = 1.0,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide the running mean of the gradient by the curvature, and hold it to a length.

    ::

        (1) m ← β₁ m + (1 − β₁) g
        (2) u = m / max(γ h, ε)           held to [−c, c]

    h is 0 at the start, where u = ± c, and is what `update_hessian` makes of estimates.

    Args:
      b1: β₁ in [0, 1), the memory of m.
      eps: ε ≥ 0, the least divisor.
      gamma: γ ≥ 0, so that between a tenth and a half of all u are not held.
      clip_threshold: c > 0.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the authors' code adds ε to γ h. optax corrects m for its start at 0, estimates h
    inside ``update`` by Hutchinson's method from a function that it is given, and has γ = 0.01.
    Complex u are held to |u| ≤ c as a whole. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2305.14342, Algorithm 3; Liuhong99/Sophia.
    """

    def init(p):
        return accumulator(p, dtype=mu_dtype), accumulator(p, real=True)

    def rule(g, m, h):
        m = ema(m, saturate(g), b1)  # (1)
        least = jnp.maximum(jnp.maximum(gamma * h, eps), magnitude(m) / clip_threshold)
        return m / divisor(least), m, h  # (2)

    return per_leaf(SophiaState, init, rule)


@checked(**_ARGUMENTS)
def sophia(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.965,
    eps: ArrayLike = 1e-15,
    weight_decay: optax.ScalarOrSchedule = 0.1,
    mask: Any = None,
    gamma: ArrayLike = 0.05,
    clip_threshold: ArrayLike = 1.0,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Sophia: `scale_by_sophia`, then  W ← W − η (u + λ W).

    Every ten steps or so the curvature is estimated anew, by a second call (`update_hessian`):

    ::

        updates, state = tx.update(gradients, state, params)
        if step % 10 == 0:
            state = gdfx.update_hessian(state, estimate)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, eps, gamma, clip_threshold, mu_dtype: as in `scale_by_sophia`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_sophia`, and by ``update`` without the parameters.

    Purpose: the pre-training of language models, in fewer steps than AdamW (abstract of
    arXiv:2305.14342).

    Reference: arXiv:2305.14342, Algorithm 3.

    See also: `gdfx.update_hessian`; `gdfx.lion`, which it is while h = 0 but for its two memories.
    """
    direction = scale_by_sophia(b1, eps, gamma, clip_threshold, mu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)


@checked
def update_hessian(state: Any, estimate: Any, b2: ArrayLike = 0.99) -> Any:
    """The state with a new estimate of the curvature:  h ← β₂ h + (1 − β₂) estimate.

    ::

        G   estimate = B ĝ²               ĝ: the mean gradient of B examples (of language models,
                                          tokens) with labels drawn from the model's own outputs
        H   estimate = v ∘ (∇²L v)        v: random signs; by jax.jvp of jax.grad of the loss

    Args:
      state: the state of `gdfx.sophia`, or of what it stands in: a chain, `optax.partition`.
      estimate: a tree like the parameters.
      b2: β₂ in [0, 1), the memory of h.

    Returns:
      The new state.

    Raises:
      ValueError: where there is no state of Sophia in it, and for an estimate that does not fit.

    Differs: estimates beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that, and Inf as NaN, for a coordinate
    with an h of Inf would stand still for ever.

    Reference: arXiv:2305.14342, Algorithms 1 to 3.

    >>> import gdfx, jax, jax.numpy as jnp
    >>> def logits(w, x):
    ...     return x @ w
    >>> def loss(w, x, labels):
    ...     chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(w, x)), labels[:, None], 1)
    ...     return -jnp.mean(chosen)
    >>> w, x = jnp.zeros((2, 3)), jnp.ones((8, 2))
    >>> state = gdfx.sophia(1e-3).init(w)
    >>> drawn = jax.random.categorical(jax.random.key(0), logits(w, x))
    >>> sampled = jax.grad(loss)(w, x, drawn)
    >>> state = gdfx.update_hessian(state, len(x) * sampled**2)
    """
    found = 0

    def renewed(node: Any) -> Any:
        nonlocal found
        if not isinstance(node, SophiaState):
            return node
        found += 1
        here = by_path("update_hessian", "estimate", estimate, node.nu)
        return node._replace(nu=jax.tree.map(mean, node.nu, here))

    def mean(h: jax.Array, x: Any) -> jax.Array:
        return narrow(ema(widen(as_array(h)), saturate(widen(as_array(x))), b2), dtype_of(h))

    state = jax.tree.map(renewed, state, is_leaf=lambda node: isinstance(node, SophiaState))
    if not found:
        raise ValueError(
            f"update_hessian: there is no state of gdfx.sophia in {type(state).__name__}; give the "
            "state that its init or update returned"
        )
    return state
