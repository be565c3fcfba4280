"""Optimistic gradient descent: the next gradient is guessed from the last two.

Panayotis Mertikopoulos, Bruno Lecouat, Houssam Zenati, Chuan-Sheng Foo, Vijay Chandrasekhar,
Georgios Piliouras, "Optimistic Mirror Descent in Saddle-Point Problems: Going the Extra
(Gradient) Mile", ICLR 2019, arXiv:1807.02629; Constantinos Daskalakis, Andrew Ilyas, Vasilis
Syrgkanis, Haoyang Zeng, "Training GANs with Optimism", ICLR 2018, arXiv:1711.00141, Algorithm 1.
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike
from optax._src import transform  # which alone has this state

from gdfx.core.arguments import NOT_NEGATIVE, checked
from gdfx.core.descend import chain, downhill, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator
from gdfx.methods.coordinate.adam import scale_by_adam

_ARGUMENTS = {
    "alpha": NOT_NEGATIVE,
    "beta": NOT_NEGATIVE,
}


@checked(**_ARGUMENTS)
def scale_by_optimistic_gradient(
    alpha: ArrayLike = 1.0, beta: ArrayLike = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Add to the gradient by how much it has changed.

    ::

        (1) u = α g + β (g − g')          g': the last gradient; in the first step g itself

    Args:
      alpha: α ≥ 0, the weight of the gradient.
      beta: β ≥ 0, the weight of its change.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the papers have α = β = 1.

    Reference: arXiv:1711.00141, equation (2); arXiv:1807.02629, section 4.
    """

    def init(p):
        return accumulator(p)

    def scalars(is_initial_step):
        return {"first": is_initial_step, "is_initial_step": jnp.asarray(False)}

    def rule(g, last, *, first):
        last = jnp.where(first, g, last)
        return (alpha + beta) * g - beta * last, g  # (1)

    start = {"is_initial_step": True}
    kind = transform.ScaleByOptimisticGradientState
    return per_leaf(kind, init, rule, scalars=scalars, numbers=start)


@checked(**_ARGUMENTS)
def optimistic_gradient_descent(
    learning_rate: optax.ScalarOrSchedule, alpha: ArrayLike = 1.0, beta: ArrayLike = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Optimistic gradient descent: `scale_by_optimistic_gradient`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      alpha, beta: as in `scale_by_optimistic_gradient`.

    Purpose: games and saddle points, such as GANs, where gradient descent goes round in circles
    (arXiv:1711.00141).

    See also: `gdfx.optimistic_adam`; `gdfx.sgd`.
    """
    return with_rate(scale_by_optimistic_gradient(alpha, beta), learning_rate)


@checked(**_ARGUMENTS)
def optimistic_adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 1.0,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    nesterov: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Optimistic Adam: `scale_by_optimistic_gradient` of `scale_by_adam`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      alpha, beta: as in `scale_by_optimistic_gradient`.
      b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.

    Differs: the paper has no Nesterov's momentum, which is the default here as in optax.

    Reference: arXiv:1711.00141, Algorithm 1.

    Purpose: games and saddle points, such as GANs (arXiv:1711.00141).

    See also: `gdfx.optimistic_gradient_descent`; `gdfx.adam`.
    """
    adam = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return chain(adam, scale_by_optimistic_gradient(alpha, beta), downhill(learning_rate))
