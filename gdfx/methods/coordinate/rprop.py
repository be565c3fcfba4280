"""Rprop: a step size for every coordinate, longer while the sign stays and shorter when it turns.

Martin Riedmiller, Heinrich Braun, "A Direct Adaptive Method for Faster Backpropagation Learning:
The RPROP Algorithm", ICNN 1993; Christian Igel, Michael Hüsken, "Improving the Rprop Learning
Algorithm", 2000, the variant iRprop−.
"""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import NOT_NEGATIVE, Number, checked
from gdfx.core.descend import chain
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, inf_as_nan

_ARGUMENTS = {
    "learning_rate": NOT_NEGATIVE,
    "eta_minus": Number("in (0, 1)", lambda x: 0 < x < 1),
    "eta_plus": Number(">= 1", lambda x: x >= 1),
    "min_step_size": NOT_NEGATIVE,
    "max_step_size": NOT_NEGATIVE,
}


@checked(**_ARGUMENTS)
def scale_by_rprop(
    learning_rate: ArrayLike,
    eta_minus: ArrayLike = 0.5,
    eta_plus: ArrayLike = 1.2,
    min_step_size: ArrayLike = 1e-6,
    max_step_size: ArrayLike = 50.0,
) -> optax.GradientTransformationExtraArgs:
    """Step along the sign of the gradient, every coordinate as far as its past allows.

    ::

        (1) s = sign(g) sign(u')          u': the last step, 0 at the start
        (2) Δ ← clip(η⁺ Δ) if s > 0,  clip(η⁻ Δ) if s < 0,  else Δ
        (3) u = 0 if s < 0, else Δ sign(g)

    clip holds Δ between ``min_step_size`` and ``max_step_size``.

    Args:
      learning_rate: Δ at the start, ≥ 0.
      eta_minus: η⁻ in (0, 1).
      eta_plus: η⁺ ≥ 1.
      min_step_size, max_step_size: between which Δ is held, ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other, or are complex.

    Differs: optax returns each step one step late, the first of them 0. The paper takes the last
    step back where the sign has turned; that variant, iRprop−, does not. PyTorch and optax agree
    with it. Where a gradient is Inf, u is NaN.

    Reference: Riedmiller and Braun 1993, section 3; Igel and Hüsken 2000, iRprop−.
    """

    def init(p):
        return accumulator(p, learning_rate), accumulator(p)

    def rule(g, size, last):
        g = jnp.sign(inf_as_nan(g))
        s = g * jnp.sign(last)  # (1)
        scaled = jnp.clip(
            size * jnp.where(s > 0, eta_plus, eta_minus), min_step_size, max_step_size
        )
        size = jnp.where(s == 0, size, scaled)  # (2)
        u = jnp.where(s < 0, 0, size * g)  # (3)
        return u, size, u

    return per_leaf(optax.ScaleByRpropState, init, rule, real=True)


@checked(**_ARGUMENTS)
def rprop(
    learning_rate: ArrayLike,
    eta_minus: ArrayLike = 0.5,
    eta_plus: ArrayLike = 1.2,
    min_step_size: ArrayLike = 1e-6,
    max_step_size: ArrayLike = 50.0,
) -> optax.GradientTransformationExtraArgs:
    """Rprop, for gradients of the whole data: `scale_by_rprop`, then  W ← W − u.

    Args:
      learning_rate: the size of the first steps, a number ≥ 0.
      eta_minus, eta_plus, min_step_size, max_step_size: as in `scale_by_rprop`.

    Purpose: training on the whole data at once, with a step size for each coordinate and none to
    tune (Riedmiller and Braun 1993). On mini-batches the sign turns by chance.

    See also: `gdfx.rmsprop`, for mini-batches.
    """
    direction = scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)
    return chain(direction, optax.scale(-1.0))
