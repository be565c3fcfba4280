"""Gradient descent with noise that fades.

Arvind Neelakantan, Luke Vilnis, Quoc Le, Ilya Sutskever, Lukasz Kaiser, Karol Kurach, James
Martens, "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015, arXiv:1511.06807,
equation (1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import NOT_NEGATIVE, Key, checked
from gdfx.core.descend import with_rate
from gdfx.core.lift import per_leaf

_ARGUMENTS = {
    "eta": NOT_NEGATIVE,
    "gamma": NOT_NEGATIVE,
    "key": Key(seeds=True),
}


class NoiseState(NamedTuple):
    """State of `scale_by_noise`."""

    count: jax.Array  # t, shape (), int32
    key: jax.Array  # the bits of the next step's random key, uint16


@checked(**_ARGUMENTS)
def scale_by_noise(
    eta: ArrayLike = 0.01, gamma: ArrayLike = 0.55, key: ArrayLike = 0
) -> optax.GradientTransformationExtraArgs:
    """Add normal noise to the gradient, less from step to step.

    ::

        (1) σ² = η₀ / tᵞ
        (2) u = g + σ N(0, 1)

    Every leaf and every step has its own noise. It is drawn in float32, and is the same whatever
    the dtype of the gradient and wherever its parts lie.

    Args:
      eta: η₀ ≥ 0, the variance in the first step.
      gamma: γ ≥ 0, how fast it fades.
      key: a random key, as `jax.random.key(0)`, or its seed.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the paper has (1 + t) for t, counted from 0. optax's state holds a key that many
    programs cannot store, and its noise hangs on the dtype; so this state, and this noise, are
    others than optax's.

    Reference: arXiv:1511.06807, equation (1).
    """
    key = jax.random.key(key) if isinstance(key, int) else key

    def init(p):
        return ()

    def scalars(t):
        return {"sigma": jnp.sqrt(eta / jnp.power(jnp.float32(t), gamma))}  # (1)

    def rule(g, *, key, sigma):
        kind = jnp.complex64 if jnp.iscomplexobj(g) else jnp.float32
        noise = jax.random.normal(key, g.shape, kind)
        return g + sigma * noise.astype(g.dtype)  # (2)

    return per_leaf(NoiseState, init, rule, scalars=scalars, key=key)


@checked(**_ARGUMENTS)
def noisy_sgd(
    learning_rate: optax.ScalarOrSchedule,
    eta: ArrayLike = 0.01,
    gamma: ArrayLike = 0.55,
    key: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with fading noise: `scale_by_noise`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      eta, gamma, key: as in `scale_by_noise`.

    Purpose: very deep networks, which start badly: noise helps them to move (arXiv:1511.06807).

    See also: `gdfx.sgd`; `gdfx.stochastic_rounding`, whose noise is of another kind.
    """
    return with_rate(scale_by_noise(eta, gamma, key), learning_rate)
