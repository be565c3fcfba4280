"""AdaDelta: steps whose size is measured in past steps, with no rate to choose.

Matthew Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, arXiv:1212.5701, Algorithm 1.
"""

from typing import Any

import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import chain, decayed, downhill
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, ema, root, saturate, sqrt


@checked
def scale_by_adadelta(
    rho: ArrayLike = 0.9, eps: ArrayLike = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """Scale the gradient by the root mean square of past steps over that of past gradients.

    ::

        (1) E ← ρ E + (1 − ρ) |g|²        E = 0 at the start
        (2) u = √(D + ε) / √(E + ε) g     D = 0 at the start
        (3) D ← ρ D + (1 − ρ) |u|²

    Args:
      rho: ρ in [0, 1), the memory of E and D.
      eps: ε ≥ 0; the first steps are about √ε long, and with 0 there are none.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1212.5701, Algorithm 1.
    """

    def init(p):
        return accumulator(p, real=True), accumulator(p, real=True)

    def rule(g, e, d):
        g = saturate(g)
        e = ema(e, abs_sq(g), rho)  # (1)
        u = sqrt(d + eps) / root(e, eps) * g  # (2)
        return u, e, ema(d, abs_sq(u), rho)  # (3)

    return per_leaf(optax.ScaleByAdaDeltaState, init, rule)


@checked
def adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    rho: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaDelta: `scale_by_adadelta` of g + λ W, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      rho, eps: as in `scale_by_adadelta`.
      weight_decay: λ, a number ≥ 0 or a schedule: a part of the gradient, not decoupled.
      weight_decay_mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: the paper has no η; optax's default is None, with which it climbs. The decay is
    optax's and PyTorch's.

    Purpose: steps in the unit of the parameters, without a learning rate to set by hand
    (arXiv:1212.5701).

    See also: `gdfx.rmsprop`, without the numerator.
    """
    direction = scale_by_adadelta(rho, eps)
    return chain(decayed(weight_decay, weight_decay_mask), direction, downhill(learning_rate))
