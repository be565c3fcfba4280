"""The optimizers of Keras 3.15, under its names and with its equations.

``keras.optimizers.AdamW(learning_rate=1e-3)`` is ``gdfx.keras.AdamW(learning_rate=1e-3)``; Keras
itself is not needed. W are the parameters, g = ∂L/∂W is the gradient, η is ``learning_rate``, λ is
``weight_decay``, t = 1, 2, … is the step; the update that optax adds to W is what the equations
add.

Before its own equations a step bounds g and decays W:

::

    g ← g · c/max(‖g‖, c)             ``clipnorm``: c for each array by itself
    g ← g · c/max(‖g‖, c)             ``global_clipnorm``: ‖g‖ over the whole tree
    g ← max(−c, min(g, c))            ``clipvalue``
    W ← W − η λ W                     ``weight_decay``, decoupled; None: none

What holds of all of them:

- ``learning_rate`` may also be a schedule: a function from the number of steps done so far (0 at
  the first) to a number, as Keras's ``LearningRateSchedule`` is.
- Arguments of no equation are left out: ``loss_scale_factor`` and ``name``; ``use_ema`` with its
  two others, for which there is `gdfx.averaged`; and ``gradient_accumulation_steps``, for which
  there is `optax.MultiSteps`, whose schedules are asked with the steps done, Keras's with the
  gradients seen.
- The fields of a state have the names of Keras's variables; ``count`` is its ``iteration``. What
  the arguments make no use of is an empty list.
- Complex arrays, which Keras refuses, have |g|² for g².
- Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that where they are squared, and 0/0 is 0, where
  Keras's states overflow or its parameters become NaN.
- Arithmetic is in at least float32.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from gdfx.core.arguments import (
    DECAY,
    NOT_NEGATIVE,
    POSITIVE,
    Flag,
    Number,
    Optional,
    checked,
    method_name,
)
from gdfx.core.descend import rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrected_rate,
    corrections,
    divisor,
    ema,
    magnitude,
    one_minus_power,
    ratio,
    rms,
    root,
    saturate,
    sign,
    sqrt,
    sum_sq,
)

# What each step does before its own equations.


class Before(NamedTuple):
    """What the gradient and the parameters go through first."""

    weight_decay: ArrayLike | None
    clipnorm: ArrayLike | None
    clipvalue: ArrayLike | None
    global_clipnorm: ArrayLike | None

    def clipped(self, g: jax.Array, sq: Any) -> jax.Array:
        """The gradient within its bounds."""
        if self.clipvalue is not None:
            return jnp.clip(g, jnp.negative(self.clipvalue), self.clipvalue)
        bound = self.clipnorm if self.clipnorm is not None else self.global_clipnorm
        if bound is None:
            return g
        norm = sqrt(sum_sq(g) if self.clipnorm is not None else sq)
        return g * (bound / jnp.maximum(norm, bound))


def lifted(
    State: type[Any],  # noqa: N803
    init: Callable[[jax.Array], Any],
    rule: Callable[..., Any],
    before: Before,
    scalars: Callable[..., Any],
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """`per_leaf`, of a rule that is given the gradient bounded and the parameter decayed."""
    bounds = before._asdict()
    del bounds["weight_decay"]
    given = [name for name, bound in bounds.items() if bound is not None]
    if len(given) > 1:
        raise ValueError(f"{method_name(rule)}: {given[0]} and {given[1]} exclude each other")
    whole = before.global_clipnorm is not None
    decay = None if _is_off(before.weight_decay) else before.weight_decay
    wanted = dict(inspect.signature(rule).parameters)

    @functools.wraps(rule)
    def step(g: jax.Array, *row: Any, **asked: Any) -> Any:
        g = before.clipped(g, asked.pop("sq", None))
        eta, p = asked["eta"], asked.get("p")
        if decay is not None:
            asked["p"] = p - eta * decay * p
        u, *new = rule(g, *row, **{k: v for k, v in asked.items() if k in wanted})
        return u if decay is None else u - eta * decay * p, *new

    names = [*wanted, "eta", *["p"] * (decay is not None), *["sq"] * whole]
    kinds = dict.fromkeys(names, inspect.Parameter.KEYWORD_ONLY) | {
        name: parameter.kind for name, parameter in wanted.items()
    }
    made = [inspect.Parameter(name, kind) for name, kind in kinds.items()]
    step.__signature__ = inspect.Signature(made)  # pyright: ignore[reportAttributeAccessIssue]
    measure = (lambda g: {"sq": sum_sq(g)}) if whole else None
    return per_leaf(State, init, step, scalars=scalars, measure=measure, **options)


def _is_off(x: Any) -> bool:
    return x is None or (isinstance(x, int | float | np.number) and x == 0)


def _if_used(used: bool, p: Any, *, real: bool = False) -> Any:
    """An accumulator from 0 that the arguments may make no use of."""
    return accumulator(p, real=real) if used else []


_BEFORE = {
    "weight_decay": Optional(NOT_NEGATIVE),
    "clipnorm": Optional(POSITIVE),
    "clipvalue": Optional(POSITIVE),
    "global_clipnorm": Optional(POSITIVE),
}
_EPSILON = {"epsilon": NOT_NEGATIVE}
_ADAM = {"beta_1": DECAY, "beta_2": DECAY} | _EPSILON | _BEFORE

# The optimizers.


class SGDState(NamedTuple):
    """State of `SGD`."""

    count: jax.Array  # t, shape (), int32
    momentum: Any  # v, shapes of W; empty without momentum


@checked(**_BEFORE, momentum=Number("in [0, 1]", lambda x: 0 <= x <= 1))
def SGD(
    learning_rate: optax.ScalarOrSchedule = 0.01,
    momentum: ArrayLike = 0.0,
    nesterov: bool = False,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent, also with momentum.

    ::

        (1) v ← μ v − η g
        (2) W ← W + v                     nesterov: W ← W + μ v − η g

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      momentum: μ in [0, 1]. Of the number 0 no v is kept, and v = −η g.
      nesterov: look one step ahead in (2); without momentum it changes nothing.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.SGD of Keras 3.15.

    See also: `gdfx.textbook.momentum`, which equals it; `gdfx.momentum`, with η outside of v.
    """

    def init(p):
        return (_if_used(not _is_off(momentum), p),)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, v, *, eta):
        if _is_off(momentum):
            return -eta * g, v
        v = momentum * v - eta * g  # (1)
        return momentum * v - eta * g if nesterov else v, v  # (2)

    return lifted(
        SGDState, init, rule, Before(weight_decay, clipnorm, clipvalue, global_clipnorm), scalars
    )


class RMSpropState(NamedTuple):
    """State of `RMSprop`."""

    count: jax.Array  # t, shape (), int32
    velocity: Any  # v, shapes of W, real
    momentum: Any  # b, shapes of W; empty without momentum
    average_gradient: Any  # ḡ, shapes of W; empty unless centered


@checked(**_EPSILON, **_BEFORE, momentum=NOT_NEGATIVE)
def RMSprop(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    rho: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike = 1e-7,
    centered: bool = False,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """RMSprop: divide the gradient by its running root mean square.

    ::

        (1) v ← ρ v + (1 − ρ) g²
            centered                      ḡ ← ρ ḡ + (1 − ρ) g,  v − ḡ² for v in (2)
        (2) b ← μ b + η g/√(v + ε)        without momentum b = η g/√(v + ε)
        (3) W ← W − b

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      rho: ρ in [0, 1): v averages over about the last 1 / (1 − ρ) squares.
      momentum: μ ≥ 0. Of the number 0 no b is kept.
      epsilon: ε ≥ 0, added inside the root, in the unit of g².
      centered: divide by the running standard deviation.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Differs: where rounding has made v − ḡ² negative, it is 0 here; in Keras ε may not make up for
    it, and W is NaN.

    Reference: keras.optimizers.RMSprop of Keras 3.15.

    See also: `gdfx.rmsprop`, which equals it with ``eps=1e-7``; `gdfx.torch.RMSprop`, with η
    outside of b.
    """

    def init(p):
        v = accumulator(p, real=True)
        return v, _if_used(not _is_off(momentum), p), _if_used(centered, p)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, v, b, mean, *, eta):
        g = saturate(g)
        v = ema(v, abs_sq(g), rho)  # (1)
        mean = ema(mean, g, rho) if centered else mean
        spread = jnp.maximum(v - abs_sq(mean), 0) if centered else v
        u = eta * g / root(spread, epsilon)
        if _is_off(momentum):
            return -u, v, b, mean
        b = momentum * b + u  # (2)
        return -b, v, b, mean  # (3)

    return lifted(
        RMSpropState,
        init,
        rule,
        Before(weight_decay, clipnorm, clipvalue, global_clipnorm),
        scalars,
    )


class AdagradState(NamedTuple):
    """State of `Adagrad`."""

    count: jax.Array  # t, shape (), int32
    accumulator: Any  # h, shapes of W, real


@checked(**_EPSILON, **_BEFORE)
def Adagrad(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    initial_accumulator_value: ArrayLike = 0.1,
    epsilon: ArrayLike = 1e-7,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaGrad: each coordinate's rate falls as its gradients add up.

    ::

        (1) h ← h + g²                    h = ``initial_accumulator_value`` at the start
        (2) W ← W − η g/√(h + ε)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      initial_accumulator_value: h at the start, ≥ 0.
      epsilon: ε ≥ 0, added inside the root, in the unit of g².
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Adagrad of Keras 3.15.

    See also: `gdfx.adagrad`, which equals it; `gdfx.torch.Adagrad`, from 0 and with ε outside.
    """

    def init(p):
        return accumulator(p, initial_accumulator_value, real=True)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, h, *, eta):
        g = saturate(g)
        h = h + abs_sq(g)  # (1)
        return -eta * g / root(h, epsilon), h  # (2)

    return lifted(
        AdagradState,
        init,
        rule,
        Before(weight_decay, clipnorm, clipvalue, global_clipnorm),
        scalars,
    )


class AdadeltaState(NamedTuple):
    """State of `Adadelta`."""

    count: jax.Array  # t, shape (), int32
    accumulated_grad: Any  # v, shapes of W, real
    accumulated_delta_var: Any  # d, shapes of W, real


@checked(**_EPSILON, **_BEFORE)
def Adadelta(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    rho: ArrayLike = 0.95,
    epsilon: ArrayLike = 1e-7,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaDelta: steps as long as past steps were, for their gradients.

    ::

        (1) v ← ρ v + (1 − ρ) g²
        (2) u = g √(d + ε)/√(v + ε)
        (3) d ← ρ d + (1 − ρ) u²
        (4) W ← W − η u

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      rho: ρ in [0, 1): v and d average over about the last 1 / (1 − ρ) steps.
      epsilon: ε ≥ 0, inside both roots; the first steps come of it.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Adadelta of Keras 3.15.

    See also: `gdfx.adadelta`, which equals it with other defaults: there η = 1.
    """

    def init(p):
        return accumulator(p, real=True), accumulator(p, real=True)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, v, d, *, eta):
        g = saturate(g)
        v = ema(v, abs_sq(g), rho)  # (1)
        u = g * (root(d, epsilon) / root(v, epsilon))  # (2)
        d = ema(d, abs_sq(u), rho)  # (3)
        return -eta * u, v, d  # (4)

    return lifted(
        AdadeltaState,
        init,
        rule,
        Before(weight_decay, clipnorm, clipvalue, global_clipnorm),
        scalars,
    )


class AdamState(NamedTuple):
    """State of `Adam` and `AdamW`."""

    count: jax.Array  # t, shape (), int32
    momentum: Any  # m, shapes of W
    velocity: Any  # v, shapes of W, real
    velocity_hat: Any  # the largest v so far, shapes of W, real; empty unless amsgrad


@checked(**_ADAM, amsgrad=Flag())
def Adam(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    beta_1: ArrayLike = 0.9,
    beta_2: ArrayLike = 0.999,
    epsilon: ArrayLike = 1e-7,
    amsgrad: bool = False,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam: divide the running mean of the gradient by its running root mean square.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
            amsgrad                       v* ← max(v*, v),  v* for v in (2)
        (2) W ← W − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m/(√v + ε)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      beta_1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      beta_2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      epsilon: ε ≥ 0, added outside the root and before the correction, in the unit of |g|: in the
        first steps it weighs as ε/√(1 − β₂ᵗ) does in `gdfx.adam`, 32 times as much at the first.
      amsgrad: divide by the largest v so far. The maximum is of v as it is, before its correction.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Adam of Keras 3.15.

    See also: `gdfx.adam`, with ε after the correction; `gdfx.textbook.adam`, with ε inside the
    root.
    """

    def init(p):
        v = accumulator(p, real=True)
        return accumulator(p), v, _if_used(amsgrad, p, real=True)

    def scalars(t):
        eta = jnp.asarray(rate(learning_rate, t))
        return {"eta": eta, "alpha": corrected_rate(eta, t, beta_1, beta_2)}

    def rule(g, m, v, largest, *, alpha):
        g = saturate(g)
        m, v = ema(m, g, beta_1), ema(v, abs_sq(g), beta_2)  # (1)
        largest = jnp.maximum(largest, v) if amsgrad else largest
        return -alpha * m / root(largest if amsgrad else v, 0.0, epsilon), m, v, largest  # (2)

    return lifted(
        AdamState, init, rule, Before(weight_decay, clipnorm, clipvalue, global_clipnorm), scalars
    )


@checked(**_ADAM | {"weight_decay": NOT_NEGATIVE}, amsgrad=Flag())
def AdamW(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    weight_decay: ArrayLike = 0.004,
    beta_1: ArrayLike = 0.9,
    beta_2: ArrayLike = 0.999,
    epsilon: ArrayLike = 1e-7,
    amsgrad: bool = False,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`gdfx.keras.Adam` with weight decay.

    ::

        (1) W ← (1 − η λ) W
        (2) W ← W − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m/(√v + ε)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      weight_decay: λ ≥ 0, decoupled. It is multiplied by η.
      beta_1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      beta_2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      epsilon: ε ≥ 0, added outside the root and before the correction, in the unit of |g|.
      amsgrad: divide by the largest v so far.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.AdamW of Keras 3.15.

    See also: `gdfx.adamw`, with ε after the correction and λ = 1e-4.
    """
    bounds = clipnorm, clipvalue, global_clipnorm
    return Adam(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, *bounds)


class AdamaxState(NamedTuple):
    """State of `Adamax`."""

    count: jax.Array  # t, shape (), int32
    momentum: Any  # m, shapes of W
    norm: Any  # u, shapes of W, real


@checked(**_ADAM)
def Adamax(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    beta_1: ArrayLike = 0.9,
    beta_2: ArrayLike = 0.999,
    epsilon: ArrayLike = 1e-7,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam with the largest gradient of late for the root mean square.

    ::

        (1) m ← β₁ m + (1 − β₁) g         u ← max(β₂ u, |g|)
        (2) W ← W − η m/((1 − β₁ᵗ) (u + ε))

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      beta_1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      beta_2: β₂ in [0, 1): u forgets within about 1 / (1 − β₂) steps.
      epsilon: ε ≥ 0, added to u at the division, in the unit of |g|.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Adamax of Keras 3.15.

    See also: `gdfx.adamax`, with ε inside the maximum.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        return {"eta": rate(learning_rate, t), "c1": one_minus_power(beta_1, t)}

    def rule(g, m, u, *, eta, c1):
        g = saturate(g)
        m, u = ema(m, g, beta_1), jnp.maximum(beta_2 * u, magnitude(g))  # (1)
        return -eta * (m / c1) / divisor(u, epsilon), m, u  # (2)

    return lifted(
        AdamaxState, init, rule, Before(weight_decay, clipnorm, clipvalue, global_clipnorm), scalars
    )


class NadamState(NamedTuple):
    """State of `Nadam`."""

    count: jax.Array  # t, shape (), int32
    u_product: jax.Array  # Π μ, shape ()
    momentum: Any  # m, shapes of W
    velocity: Any  # v, shapes of W, real


@checked(**_ADAM)
def Nadam(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    beta_1: ArrayLike = 0.9,
    beta_2: ArrayLike = 0.999,
    epsilon: ArrayLike = 1e-7,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam with Nesterov's momentum, whose weight rises along Dozat's schedule.

    ::

        (1) μₜ = β₁ (1 − 0.96ᵗ / 2)        Π = μ₁ μ₂ … μₜ
        (2) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
        (3) m̂ = μₜ₊₁ m/(1 − Π μₜ₊₁) + (1 − μₜ) g/(1 − Π)
        (4) W ← W − η m̂ / (√(v/(1 − β₂ᵗ)) + ε)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      beta_1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      beta_2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      epsilon: ε ≥ 0, added outside the root and after the correction, in the unit of |g|.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Nadam of Keras 3.15.

    See also: `gdfx.torch.NAdam`, which equals it with ``momentum_decay=1``; `gdfx.nadam`, with β₁
    for every μ.
    """

    def mu(steps: Any) -> Any:
        return beta_1 * (1 - 0.5 * 0.96**steps)

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t, u_product):
        steps = t.astype(jnp.result_type(float))
        now, ahead = mu(steps), mu(steps + 1)
        product = u_product * now  # (1)
        return {
            "eta": rate(learning_rate, t),
            "u_product": product,
            "of_m": ahead / (1 - product * ahead),
            "of_g": (1 - now) / (1 - product),
            "c2": one_minus_power(beta_2, t),
        }

    def rule(g, m, v, *, eta, of_m, of_g, c2):
        g = saturate(g)
        m, v = ema(m, g, beta_1), ema(v, abs_sq(g), beta_2)  # (2)
        m_hat = of_m * m + of_g * g  # (3)
        return -eta * m_hat / root(v / c2, 0.0, epsilon), m, v  # (4)

    before = Before(weight_decay, clipnorm, clipvalue, global_clipnorm)
    return lifted(NadamState, init, rule, before, scalars, numbers={"u_product": 1.0})


class FtrlState(NamedTuple):
    """State of `Ftrl`."""

    count: jax.Array  # t, shape (), int32
    accumulator: Any  # n, shapes of W
    linear: Any  # z, shapes of W


@checked(
    **_BEFORE,
    learning_rate_power=Number("<= 0", lambda x: x <= 0),
    l1_regularization_strength=NOT_NEGATIVE,
    l2_regularization_strength=NOT_NEGATIVE,
    l2_shrinkage_regularization_strength=NOT_NEGATIVE,
    beta=NOT_NEGATIVE,
)
def Ftrl(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    learning_rate_power: ArrayLike = -0.5,
    initial_accumulator_value: ArrayLike = 0.1,
    l1_regularization_strength: ArrayLike = 0.0,
    l2_regularization_strength: ArrayLike = 0.0,
    l2_shrinkage_regularization_strength: ArrayLike = 0.0,
    beta: ArrayLike = 0.0,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """FTRL: the parameters that would have been best so far, with many of them exactly 0.

    ::

        (1) σ = ((n + g²)^−κ − n^−κ)/η     n ← n + g²
        (2) z ← z + g + 2 λ₃ W − σ W      z = 0 at the start
        (3) W ← (clip(z, −λ₁, λ₁) − z) / (n^−κ/η + 2 λ₂ + β/η)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      learning_rate_power: κ ≤ 0: how fast the rate falls as n grows; 0: not at all.
      initial_accumulator_value: n at the start, ≥ 0.
      l1_regularization_strength: λ₁ ≥ 0: parameters whose |z| is no larger are 0.
      l2_regularization_strength: λ₂ ≥ 0, a penalty on W.
      l2_shrinkage_regularization_strength: λ₃ ≥ 0, a penalty that is part of the gradient.
      beta: β ≥ 0, in the unit of |g|: the rate is at most η/β where κ = −1/2.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Differs: where η = 0, W and z stay; in Keras they are NaN. Complex parameters are refused.

    Reference: keras.optimizers.Ftrl of Keras 3.15.

    See also: `gdfx.adagrad`, which has no penalties and keeps the parameters at the start.
    """
    l1 = jnp.asarray(l1_regularization_strength)

    def powered(n: jax.Array) -> jax.Array:
        """n^−κ, whose derivative at 0 is finite."""
        return (n + float(jnp.finfo(n.dtype).smallest_normal)) ** jnp.negative(learning_rate_power)

    def init(p):
        return accumulator(p, initial_accumulator_value), accumulator(p)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, n, z, *, eta, p):
        g = saturate(g)
        old, n = powered(n), n + g * g
        new = powered(n)
        g = g + 2 * l2_shrinkage_regularization_strength * p
        moved = z + g - ratio((new - old) * p, eta)  # (1), (2)
        # clip(z) − z, whose derivative is right at z = λ₁ = 0 too
        pull = jnp.where(moved >= l1, l1 - moved, jnp.where(moved <= -l1, -l1 - moved, 0))
        whole = new + 2 * l2_regularization_strength * eta + beta
        u = ratio(eta * pull, whole) - p  # (3), both sides times η
        return jnp.where(eta > 0, u, 0), n, jnp.where(eta > 0, moved, z)

    return lifted(
        FtrlState,
        init,
        rule,
        Before(weight_decay, clipnorm, clipvalue, global_clipnorm),
        scalars,
        real=True,
    )


class LionState(NamedTuple):
    """State of `Lion`."""

    count: jax.Array  # t, shape (), int32
    momentum: Any  # m, shapes of W


@checked(**_BEFORE, beta_1=DECAY, beta_2=DECAY)
def Lion(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    beta_1: ArrayLike = 0.9,
    beta_2: ArrayLike = 0.99,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Lion: steps of one length, along the sign of a mean of gradients.

    ::

        (1) W ← W − η sign(β₁ m + (1 − β₁) g)
        (2) m ← β₂ m + (1 − β₂) g

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      beta_1: β₁ in [0, 1), the weight of m in the step.
      beta_2: β₂ in [0, 1), the memory of m.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Lion of Keras 3.15.

    See also: `gdfx.lion`, which equals it, with a weight decay of 1e-3.
    """

    def init(p):
        return accumulator(p)

    def scalars(t):
        return {"eta": rate(learning_rate, t)}

    def rule(g, m, *, eta):
        g = saturate(g)
        return -eta * sign(ema(m, g, beta_1)), ema(m, g, beta_2)  # (1), (2)

    return lifted(
        LionState, init, rule, Before(weight_decay, clipnorm, clipvalue, global_clipnorm), scalars
    )


class AdafactorState(NamedTuple):
    """State of `Adafactor`."""

    count: jax.Array  # t, shape (), int32
    r: Any  # R, shapes of W without the last axis; empty of what has one axis or none
    c: Any  # C, shapes of W without the last axis but one; empty of the same
    velocity: Any  # v, shapes of W, real; empty of all others


@checked(
    **_BEFORE,
    beta_2_decay=Number("<= 0", lambda x: x <= 0),
    epsilon_1=NOT_NEGATIVE,
    epsilon_2=NOT_NEGATIVE,
    clip_threshold=POSITIVE,
    relative_step=Flag(),
)
def Adafactor(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    beta_2_decay: ArrayLike = -0.8,
    epsilon_1: ArrayLike = 1e-30,
    epsilon_2: ArrayLike = 1e-3,
    clip_threshold: ArrayLike = 1.0,
    relative_step: bool = True,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adafactor: a second moment of rows and columns, and steps as large as the array they move.

    ::

        (1) ρ = min(η, 1/√t)              α = max(ε₂, rms(W)) ρ
        (2) γ = t^κ                       κ: ``beta_2_decay``; γ = 1 in the first step
            R ← (1 − γ) R + γ mean(g² + ε₁ over columns)
            C ← (1 − γ) C + γ mean(g² + ε₁ over rows)
            v = R C / mean(R)
            of what has one axis or none  v ← (1 − γ) v + γ (g² + ε₁)
        (3) u = g / √v
        (4) W ← W − α u / max(1, rms(u)/d)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      beta_2_decay: κ ≤ 0.
      epsilon_1: ε₁ ≥ 0, added to g².
      epsilon_2: ε₂ ≥ 0, the least root mean square of W that counts.
      clip_threshold: d > 0, the largest root mean square of u.
      relative_step: changes nothing, as in Keras 3.15: (1) has the minimum either way.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Differs: Keras keeps v of all arrays; here it is not kept where R and C tell it. On JAX, Keras
    takes the means of float64 arrays in float32.

    Reference: keras.optimizers.Adafactor of Keras 3.15.

    See also: `gdfx.adafactor`, which factors the two longest axes, from 128 on;
    `gdfx.torch.Adafactor`.
    """
    del relative_step

    def init(p):
        v = accumulator(p, real=True)
        return (v.mean(-1), v.mean(-2), []) if p.ndim > 1 and p.size > 0 else ([], [], v)

    def scalars(t):
        steps, eta = t.astype(jnp.result_type(float)), rate(learning_rate, t)
        new = steps**beta_2_decay
        return {"eta": eta, "rho": jnp.minimum(eta, 1 / jnp.sqrt(steps)), "new": new}

    def rule(g, r, c, v, *, rho, new, p):
        g = saturate(g)
        sq = abs_sq(g) + epsilon_1
        alpha = jnp.maximum(epsilon_2, rms(p)) * rho  # (1)
        if g.ndim > 1 and g.size > 0:  # (2)
            r, c = ema(r, sq.mean(-1), 1 - new), ema(c, sq.mean(-2), 1 - new)
            share = r / divisor(r.mean(-1, keepdims=True))
            found = share[..., None] * c[..., None, :]
        else:
            v = found = ema(v, sq, 1 - new)
        u = g / root(found)  # (3)
        return -alpha * u / jnp.maximum(1, rms(u) / clip_threshold), r, c, v  # (4)

    return lifted(
        AdafactorState,
        init,
        rule,
        Before(weight_decay, clipnorm, clipvalue, global_clipnorm),
        scalars,
    )


class LambState(NamedTuple):
    """State of `Lamb`."""

    count: jax.Array  # t, shape (), int32
    momentum: Any  # m, shapes of W
    velocity: Any  # v, shapes of W, real


@checked(**_ADAM)
def Lamb(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    beta_1: ArrayLike = 0.9,
    beta_2: ArrayLike = 0.999,
    epsilon: ArrayLike = 1e-7,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """LAMB: Adam whose step is as long as the array it moves.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
        (2) u = m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
        (3) W ← W − η ‖W‖/‖u‖ u           1 for ‖W‖/‖u‖ where one of them is 0

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      beta_1: β₁ in [0, 1): m averages over about the last 1 / (1 − β₁) gradients.
      beta_2: β₂ in [0, 1): v averages over about the last 1 / (1 − β₂) squares.
      epsilon: ε ≥ 0, added outside the root and after the correction, in the unit of |g|.
      weight_decay: λ ≥ 0, decoupled: W ← W − η λ W comes first. None: none.
      clipnorm, clipvalue, global_clipnorm: bounds of the gradient, > 0, or None; one at most.

    Raises:
      ValueError: for two bounds of the gradient.

    Reference: keras.optimizers.Lamb of Keras 3.15.

    See also: `gdfx.lamb`, whose weight decay is part of u.
    """

    def init(p):
        return accumulator(p), accumulator(p, real=True)

    def scalars(t):
        return {"eta": rate(learning_rate, t)} | corrections(t, beta_1, beta_2)

    def rule(g, m, v, *, eta, c1, c2, p):
        g = saturate(g)
        m, v = ema(m, g, beta_1), ema(v, abs_sq(g), beta_2)  # (1)
        u = m / c1 / root(v / c2, 0.0, epsilon)  # (2)
        length, size = sqrt(sum_sq(p)), sqrt(sum_sq(u))
        trust = jnp.where(length * size > 0, ratio(length, size), 1)
        return -eta * trust * u, m, v  # (3)

    return lifted(
        LambState, init, rule, Before(weight_decay, clipnorm, clipvalue, global_clipnorm), scalars
    )
