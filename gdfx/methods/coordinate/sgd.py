"""Stochastic gradient descent.

Herbert Robbins and Sutton Monro, "A Stochastic Approximation Method", 1951,
Annals of Mathematical Statistics 22(3).
"""

import optax

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.trees import fitting


@checked(
    momentum="gradient descent with momentum is gdfx.momentum(learning_rate, decay=0.9)",
    nesterov="Nesterov's momentum is gdfx.momentum(learning_rate, nesterov=True)",
)
def sgd(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Step down along the gradient.

    ::

        (1) u = g
        (2) W ← W − η u

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.

    Raises:
      TypeError, ValueError: for a learning rate out of range, and by ``init`` and
        ``update`` for parameters and gradients that do not belong together.

    Differs: in nothing: bitwise ``optax.sgd(learning_rate)`` in float32 and float64.

    Purpose: to find a root of a function that can only be measured with noise (Robbins and
    Monro). Here that function is the gradient, measured on a mini-batch.

    Reference: Robbins and Monro 1951, with g for their noisy measurement.

    See also: `gdfx.momentum`.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.sgd(0.1), jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    11.520
    7.373
    4.719
    """
    identity = optax.with_extra_args_support(optax.identity())  # (1)
    return with_rate(fitting("sgd", identity, optax.EmptyState), learning_rate)  # (2)
