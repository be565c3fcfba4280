"""Momentum: gradient descent with a heavy ball, plain and Nesterov's.

Boris Polyak, "Some methods of speeding up the convergence of iteration methods", 1964,
USSR Computational Mathematics and Mathematical Physics 4(5);
Ilya Sutskever, James Martens, George Dahl, Geoffrey Hinton, "On the importance of
initialization and momentum in deep learning", ICML 2013, equations (1) to (4).
"""

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator


@checked
def scale_by_momentum(
    decay: ArrayLike = 0.9,
    nesterov: bool = False,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Sum the gradients, the older the fainter.

    ::

        (1) m ← g + α m
        (2) u = m                 with Nesterov's momentum  u = g + α m

    Args:
      decay: α in [0, 1): m holds about the last 1 / (1 − α) gradients, and along a constant
        gradient a step grows to 1 / (1 − α) times the first. 0 is plain gradient descent.
      nesterov: True for Nesterov's momentum, which looks one step ahead in (2).
      accumulator_dtype: the dtype of m, a real floating dtype (of a complex parameter the complex
        one of that precision); None: the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        parameters, gradients and states that do not belong together.

    Differs: from Sutskever et al., η stands outside m, as in optax and PyTorch; with a
    constant η the parameters are the same, and with Nesterov's momentum they are the paper's
    point of look-ahead, W + α v. `gdfx.textbook.momentum` has η inside. Where m, or with
    Nesterov g + α m, is beyond the largest number of its dtype (3e38 in float32), it is Inf.

    Reference: Sutskever et al. 2013, equations (1) and (2), with Nesterov's momentum (3)
    and (4); Polyak 1964.

    See also: `gdfx.momentum`, the whole optimizer.
    """

    def init(p):
        return accumulator(p, dtype=accumulator_dtype)

    def rule(g, m):
        m = g + decay * m  # (1)
        return g + decay * m if nesterov else m, m  # (2)

    return per_leaf(optax.TraceState, init, rule)


@checked
def momentum(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    nesterov: bool = False,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with momentum: `scale_by_momentum`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      decay: α in [0, 1): m holds about the last 1 / (1 − α) gradients, and along a constant
        gradient a step grows to 1 / (1 − α) times the first. 0 is plain gradient descent.
      nesterov: True for Nesterov's momentum, which looks one step ahead in (2).
      accumulator_dtype: the dtype of m, a real floating dtype (of a complex parameter the complex
        one of that precision); None: the parameter's, but at least float32.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_momentum`, and for a learning rate out of range.

    Purpose: to converge faster than plain gradient descent, at little more work per step (Polyak).
    Sutskever et al. train deep and recurrent networks with it, given a careful initialization.

    See also: `gdfx.textbook.momentum`, with η inside m; `gdfx.sgd`; `gdfx.adam`, which also
    divides by the size of the gradient.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w):
    ...     return jnp.sum((w - 3.0) ** 2)
    >>> tx, w = gdfx.momentum(0.1), jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jax.grad(loss)(w), state, w)
    ...     w = optax.apply_updates(w, updates)
    ...     print(f"{loss(w):.3f}")
    11.520
    3.809
    0.069
    """
    return with_rate(scale_by_momentum(decay, nesterov, accumulator_dtype), learning_rate)
