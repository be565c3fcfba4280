"""RMSProp: every coordinate divided by the root mean square of its recent gradients.

Tijmen Tieleman, Geoffrey Hinton, "Lecture 6.5: rmsprop", 2012, Coursera, Neural Networks for
Machine Learning; the centered form: Alex Graves, "Generating Sequences With Recurrent Neural
Networks", 2013, arXiv:1308.0850, equations (38) to (45).
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax._src import transform  # which alone has the states with a count

from gdfx.core.arguments import DECAY, Optional, checked
from gdfx.core.descend import chain, downhill
from gdfx.core.lift import per_leaf
from gdfx.core.moments import abs_sq, accumulator, ema, one_minus_power, root, saturate
from gdfx.methods.coordinate.momentum import scale_by_momentum


@checked
def scale_by_rms(
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by its running root mean square.

    ::

        (1) v ← α v + (1 − α) |g|²
        (2) v̂ = v                         with bias correction  v̂ = v / (1 − αᵗ)
        (3) u = g / √(v̂ + ε)              or, with ε outside,   u = g / (√v̂ + ε)

    Args:
      decay: α in [0, 1), the memory of v.
      eps: ε ≥ 0.
      initial_scale: v at the start, ≥ 0.
      eps_in_sqrt: whether ε stands inside the root.
      bias_correction: whether (2) makes up for the start at 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: the lecture has no ε and no correction. PyTorch adds ε outside. Gradients beyond
    2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: Tieleman and Hinton 2012, slide 29.
    """
    kind = transform.ScaleByRmsWithCountState if bias_correction else optax.ScaleByRmsState

    def init(p):
        return accumulator(p, initial_scale, real=True)

    def scalars(t: Any = None):
        return {"c": one_minus_power(decay, t)} if bias_correction else {}

    def rule(g, v, *, c: Any = 1.0):  # 1 − αᵗ
        g = saturate(g)
        v = ema(v, abs_sq(g), decay)  # (1)
        return g / _root(v / c, eps, inside=eps_in_sqrt), v  # (2), (3)

    return per_leaf(kind, init, rule, scalars=scalars)


@checked
def scale_by_stddev(
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by its running standard deviation.

    ::

        (1) m ← α m + (1 − α) g           v ← α v + (1 − α) |g|²
        (2) m̂, v̂ = m, v                   with bias correction  m / (1 − αᵗ), v / (1 − αᵗ)
        (3) s = max(v̂ − |m̂|², 0)
        (4) u = g / √(s + ε)              or, with ε outside,   u = g / (√s + ε)

    Args:
      decay: α in [0, 1), the memory of m and v.
      eps: ε ≥ 0.
      initial_scale: v at the start, ≥ 0.
      eps_in_sqrt: whether ε stands inside the root.
      bias_correction: whether (2) makes up for the start at 0.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients and state of each other.

    Differs: optax lets rounding take v̂ − |m̂|² below 0, and its root is NaN. Graves adds
    momentum inside. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1308.0850, equations (38) to (45).
    """
    kind = transform.ScaleByRStdDevWithCountState if bias_correction else optax.ScaleByRStdDevState

    def init(p):
        return accumulator(p), accumulator(p, initial_scale, real=True)

    def scalars(t: Any = None):
        return {"c": one_minus_power(decay, t)} if bias_correction else {}

    def rule(g, m, v, *, c: Any = 1.0):  # 1 − αᵗ
        g = saturate(g)
        m, v = ema(m, g, decay), ema(v, abs_sq(g), decay)  # (1)
        s = jnp.maximum(v / c - abs_sq(m / c), 0)  # (2), (3)
        return g / _root(s, eps, inside=eps_in_sqrt), m, v  # (4)

    return per_leaf(kind, init, rule, scalars=scalars)


def _root(x: Any, eps: ArrayLike, *, inside: bool) -> Any:
    return root(x, eps) if inside else root(x, outside=eps)


@checked(momentum=Optional(DECAY))
def rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp: `scale_by_rms`, then  W ← W − η u, with or without momentum of the steps.

    ::

        (1) s ← η u + μ s                 without momentum      s = η u
        (2) W ← W − s                     with Nesterov's       W ← W − (η u + μ s)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule. With momentum it stands inside s, as in
        TensorFlow: under a schedule, what was gathered at a high rate goes on at that rate.
      decay, eps, initial_scale, eps_in_sqrt, bias_correction: as in `scale_by_rms`.
      centered: divide by the standard deviation, as `scale_by_stddev` does.
      momentum: μ in [0, 1), or None.
      nesterov: look one step ahead in (2); without momentum it changes nothing.

    Purpose: steps of like size for gradients of unlike size, also on mini-batches, where Rprop
    fails (Tieleman and Hinton 2012).

    See also: `gdfx.adam`, with momentum and corrections; `gdfx.rprop`.
    """
    scale = scale_by_stddev if centered else scale_by_rms
    direction = scale(decay, eps, initial_scale, eps_in_sqrt, bias_correction)
    steps = optax.identity() if momentum is None else scale_by_momentum(momentum, nesterov)
    return chain(direction, downhill(learning_rate), steps)
