"""The four methods in a textbook's equations, the learning rate inside.

SGD, Momentum and AdaGrad follow Koki Saitoh, "Deep Learning from Scratch" (O'Reilly Japan,
2016), chapter 6.1; Adam the order of computation at the end of section 2 of arXiv:1412.6980.
In both adaptive forms ε stands under the root. W are the parameters, g = ∂L/∂W is the
gradient, η the learning rate; the update that optax adds to W is what the equations add.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import checked
from gdfx.core.descend import rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, ema, one_minus_power, root, saturate


class SgdState(NamedTuple):
    """State of `sgd`."""

    count: jax.Array  # t, shape (), int32


class MomentumState(NamedTuple):
    """State of `momentum`."""

    count: jax.Array  # t, shape (), int32
    velocity: Any  # v, shapes of W


class AdagradState(NamedTuple):
    """State of `adagrad`."""

    count: jax.Array  # t, shape (), int32
    sum_of_squares: Any  # h, shapes of W, real


@checked
def sgd(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Step down along the gradient.

    ::

        (1) W ← W − η ∂L/∂W

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.

    Reference: Saitoh 2016, equation (6.1).

    See also: `gdfx.sgd`, the same steps with no counter in the state.
    """

    def init(p):
        return ()

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, *, eta):
        return -eta * g  # (1)

    return per_leaf(SgdState, init, rule, scalars=scalars)


@checked
def momentum(
    learning_rate: optax.ScalarOrSchedule, decay: ArrayLike = 0.9
) -> optax.GradientTransformationExtraArgs:
    """Let the gradient push a velocity, and the velocity move the parameters.

    ::

        (1) v ← α v − η ∂L/∂W             v = 0 at the start
        (2) W ← W + v

    The learning rate stands inside the velocity. Under a schedule, each gradient keeps the rate
    of its own step; in `gdfx.momentum` the current rate multiplies the whole sum.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      decay: α in [0, 1): along a constant gradient a step grows to 1 / (1 − α) times the first.

    Reference: Saitoh 2016, equations (6.3) and (6.4).

    See also: `gdfx.momentum`, with η outside.
    """

    def init(p):
        return accumulator(p)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, v, *, eta):
        v = decay * v - eta * g  # (1)
        return v, v  # (2)

    return per_leaf(MomentumState, init, rule, scalars=scalars)


@checked
def adagrad(
    learning_rate: optax.ScalarOrSchedule, eps: ArrayLike = 1e-7
) -> optax.GradientTransformationExtraArgs:
    """Give every coordinate its own rate, which falls as its gradients add up.

    ::

        (1) h ← h + ∂L/∂W ⊙ ∂L/∂W         h = 0 at the start
        (2) W ← W − η 1/√(h + ε) ∂L/∂W

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      eps: ε ≥ 0, added to h inside the root, in the unit of g². Where ε = 0 and h = 0, W stays.

    Differs: the book has no ε in its equation.

    Reference: Saitoh 2016, equations (6.5) and (6.6).

    See also: `gdfx.adagrad`, which starts at h = 0.1.
    """

    def init(p):
        return accumulator(p, real=True)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, h, *, eta):
        g = saturate(g)
        h = h + abs_sq(g)  # (1)
        return -eta / root(h, eps) * g, h  # (2)

    return per_leaf(AdagradState, init, rule, scalars=scalars)


@checked
def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Join momentum and AdaGrad, both with exponential moving averages.

    ::

        (1) m ← β₁ m + (1 − β₁) g         m = 0 at the start
        (2) v ← β₂ v + (1 − β₂) g²        v = 0 at the start
        (3) W ← W − η/√(v + ε) · √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m

    Unlike in `gdfx.adam`, ε stands inside the root and before the correction: (3) equals
    W ← W − η m̂ / √(v̂ + ε/(1 − β₂ᵗ)), so the first steps are shorter.

    Args:
      learning_rate: η, a number ≥ 0, or a schedule: a function from the number of steps done so
        far (0 at the first) to such a number.
      b1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      b2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      eps: ε ≥ 0, added to v inside the root, in the unit of g². Where ε = 0 and v = 0, W stays.

    Differs: the paper adds its ε̂ to √v, outside the root.

    Reference: arXiv:1412.6980, end of section 2.

    See also: `gdfx.adam`, with ε outside the root.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        correction = jnp.sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t)
        return {"eta": rate(learning_rate, t), "correction": correction}

    def rule(g, m, v, *, eta, correction):
        g = saturate(g)
        m = ema(m, g, b1)  # (1)
        v = ema(v, abs_sq(g), b2)  # (2)
        return -eta / root(v, eps) * correction * m, m, v  # (3)

    return per_leaf(optax.ScaleByAdamState, init, rule, scalars=scalars)
