"""The optimizers of PyTorch 2.13, under its names and with its equations.

``torch.optim.AdamW(model.parameters(), lr=1e-3)`` is ``gdfx.torch.AdamW(lr=1e-3)``; torch itself is
not needed. The equations are those of its single-tensor code. W are the parameters, g = ∂L/∂W is
the gradient, η is ``lr``, λ is ``weight_decay``, t = 1, 2, … is the step; the update that optax
adds to W is what the equations add.

What holds of all of them:

- ``lr`` may also be a schedule: a function from the number of steps done so far (0 at the first)
  to a number, which stands for PyTorch's ``lr_scheduler``.
- ``maximize`` turns the gradient around before all else, so that W climbs.
- Arguments that change no equation (``foreach``, ``fused``, ``capturable``, ``differentiable``) are
  left out, and so are param groups: `optax.partition` gives each leaf its optimizer.
- The fields of a state have PyTorch's names, but there is one ``count`` for the whole tree, where
  PyTorch counts the steps of each parameter. What the arguments make no use of is an empty list.
- A complex array is two real ones, its real and its imaginary parts, in all but `Adafactor`.
- Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that where they are squared, and 0/0 is 0, where
  PyTorch's states overflow or its parameters become NaN.
- Arithmetic is in at least float32.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike

from gdfx.core import check
from gdfx.core.arguments import (
    ANY,
    DECAY,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    Choice,
    Count,
    Flag,
    Number,
    Several,
    checked,
)
from gdfx.core.arguments import Optional as OrNone
from gdfx.core.averages import Reading, reading
from gdfx.core.axes import MatrixAxes
from gdfx.core.descend import rate, with_rate
from gdfx.core.layouts import Matrices
from gdfx.core.lift import per_leaf
from gdfx.core.matrix import per_matrix, shared, with_otherwise
from gdfx.core.moments import (
    abs_sq,
    accumulator,
    corrections,
    divisor,
    ema,
    one_minus_power,
    rectification,
    rms,
    root,
    saturate,
    sum_sq,
)
from gdfx.core.spectral import Triple, newton_schulz, normalized, shape_factor

Betas = tuple[ArrayLike, ArrayLike]

BETAS = Several(DECAY, DECAY)


# Words that the optimizers share.


def gradient(g: jax.Array, p: Any, weight_decay: ArrayLike, maximize: bool) -> jax.Array:
    """What a step takes for the gradient: −g where W climbs, and λ W beside it (L2)."""
    g = -g if maximize else g
    if is_off(weight_decay):
        return g
    check.params_given("weight decay", p)
    return g + weight_decay * p


def decayed(u: jax.Array, p: Any, weight_decay: ArrayLike, lr: Any) -> jax.Array:
    """The update u − η λ W: decoupled weight decay."""
    if is_off(weight_decay):
        return u
    check.params_given("weight decay", p)
    return u - lr * weight_decay * p


def is_off(x: Any) -> bool:
    """Whether an argument is the number 0, now and in every step; an array may change."""
    return isinstance(x, int | float | np.number) and x == 0


def if_used(used: bool, p: Any) -> Any:
    """An accumulator from 0 that the arguments may make no use of."""
    return accumulator(p) if used else []


def in_parts(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The rule, which takes a complex array as two real ones."""

    @functools.wraps(rule)
    def on_parts(g: jax.Array, *row: Any, **asked: Any) -> Any:
        if not any(map(jnp.iscomplexobj, jax.tree.leaves([g, *row]))):
            return rule(g, *row, **asked)

        def on(part: Callable[[jax.Array], jax.Array]) -> list[Any]:
            p = {"p": part(asked["p"])} if "p" in asked else {}
            return list(rule(*jax.tree.map(part, [g, *row]), **asked | p))

        return jax.tree.map(jax.lax.complex, on(jnp.real), on(jnp.imag))

    return on_parts


def everywhere(p: Any, value: Any) -> jax.Array:
    """An accumulator of one value, in the real and in the imaginary parts."""
    return accumulator(
        p, value * (1 + 1j) if jnp.issubdtype(p.dtype, jnp.complexfloating) else value
    )


# The optimizers.


class SGDState(NamedTuple):
    """State of `SGD`."""

    count: jax.Array  # t, shape (), int32
    momentum_buffer: Any  # b, shapes of W; empty without momentum


@checked(
    lr=RATE,
    momentum=NOT_NEGATIVE,
    dampening=ANY,
    weight_decay=NOT_NEGATIVE,
    maximize=Flag(),
)
def SGD(
    lr: optax.ScalarOrSchedule = 1e-3,
    momentum: ArrayLike = 0,
    dampening: ArrayLike = 0,
    weight_decay: ArrayLike = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent, also with momentum.

    ::

        (1) g ← g + λ W
        (2) b ← μ b + (1 − τ) g           b = g in the first step, undamped
        (3) W ← W − η b                   nesterov: W ← W − η (g + μ b)

    Without momentum, b = g in every step.

    Args:
      lr: η, a number ≥ 0 or a schedule.
      momentum: μ ≥ 0. Of the number 0 no b is kept.
      dampening: τ, which shortens the gradients that b sums up, from the second step on.
      weight_decay: λ ≥ 0, added to the gradient: it goes through the momentum.
      nesterov: look one step ahead in (3); needs momentum and no dampening.
      maximize: climb instead: take −g for g.

    Raises:
      ValueError: for ``nesterov`` without momentum or with dampening.

    Reference: torch.optim.SGD of PyTorch 2.13.

    See also: `gdfx.sgd` and `gdfx.momentum`, which equal it without dampening and weight decay.
    """
    if nesterov and (is_off(momentum) or not is_off(dampening)):
        raise ValueError("torch.SGD: nesterov needs a momentum > 0 and a dampening of 0")

    def init(p):
        return (if_used(not is_off(momentum), p),)

    def scalars(t):
        return {"eta": rate(lr, t), "share": jnp.where(t == 1, 1.0, 1.0 - dampening)}

    def rule(g, b, *, eta, share, p: Any = None):
        g = gradient(g, p, weight_decay, maximize)  # (1)
        if is_off(momentum):
            return -eta * g, b
        b = momentum * b + share * g  # (2)
        return -eta * (g + momentum * b if nesterov else b), b  # (3)

    return per_leaf(SGDState, init, rule, scalars=scalars)


class AdagradState(NamedTuple):
    """State of `Adagrad`."""

    count: jax.Array  # t, shape (), int32
    sum: Any  # h, shapes of W


@checked(lr=RATE, lr_decay=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE, maximize=Flag())
def Adagrad(
    lr: optax.ScalarOrSchedule = 1e-2,
    lr_decay: ArrayLike = 0,
    weight_decay: ArrayLike = 0,
    initial_accumulator_value: ArrayLike = 0,
    eps: ArrayLike = 1e-10,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """AdaGrad: each coordinate's rate falls as its gradients add up.

    ::

        (1) g ← g + λ W
        (2) h ← h + g²                    h = ``initial_accumulator_value`` at the start
        (3) W ← W − η/(1 + (t − 1) δ) · g/(√h + ε)

    Args:
      lr: η, a number ≥ 0 or a schedule.
      lr_decay: δ ≥ 0: how fast the rate falls with the steps, beside its fall with h.
      weight_decay: λ ≥ 0, added to the gradient.
      initial_accumulator_value: h at the start, ≥ 0.
      eps: ε ≥ 0, added outside the root, in the unit of |g|.
      maximize: climb instead: take −g for g.

    Reference: torch.optim.Adagrad of PyTorch 2.13.

    See also: `gdfx.adagrad`, which starts at h = 0.1 and has ε inside the root.
    """

    def init(p):
        return everywhere(p, initial_accumulator_value)

    def scalars(t):
        before = t.astype(jnp.result_type(float)) - 1
        return {"eta": rate(lr, t) / (1 + before * lr_decay)}

    @in_parts
    def rule(g, h, *, eta, p: Any = None):
        g = saturate(gradient(g, p, weight_decay, maximize))  # (1)
        h = h + abs_sq(g)  # (2)
        return -eta * g / root(h, 0.0, eps), h  # (3)

    return per_leaf(AdagradState, init, rule, scalars=scalars)


class RMSpropState(NamedTuple):
    """State of `RMSprop`."""

    count: jax.Array  # t, shape (), int32
    square_avg: Any  # v, shapes of W
    grad_avg: Any  # ḡ, shapes of W; empty unless centered
    momentum_buffer: Any  # b, shapes of W; empty without momentum


@checked(
    lr=RATE,
    alpha=DECAY,
    weight_decay=NOT_NEGATIVE,
    momentum=NOT_NEGATIVE,
    maximize=Flag(),
)
def RMSprop(
    lr: optax.ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    momentum: ArrayLike = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RMSprop: divide the gradient by its running root mean square.

    ::

        (1) g ← g + λ W
        (2) v ← α v + (1 − α) g²
            centered                      ḡ ← α ḡ + (1 − α) g,  v − ḡ² for v in (3)
        (3) u = g/(√v + ε)
        (4) b ← μ b + u                   without momentum b = u
        (5) W ← W − η b

    The rate stands outside of b: under a schedule, the rate of now multiplies all of it.

    Args:
      lr: η, a number ≥ 0 or a schedule.
      alpha: α in [0, 1): v averages over about the last 1 / (1 − α) squares.
      eps: ε ≥ 0, added outside the root, in the unit of |g|.
      weight_decay: λ ≥ 0, added to the gradient.
      momentum: μ ≥ 0. Of the number 0 no b is kept.
      centered: divide by the running standard deviation.
      maximize: climb instead: take −g for g.

    Differs: where rounding has made v − ḡ² negative, it is 0 here and NaN in PyTorch.

    Reference: torch.optim.RMSprop of PyTorch 2.13.

    See also: `gdfx.rmsprop`, whose defaults differ and whose rate stands inside of b.
    """

    def init(p):
        return accumulator(p), if_used(centered, p), if_used(not is_off(momentum), p)

    def scalars(t):
        return {"eta": rate(lr, t)}

    @in_parts
    def rule(g, v, mean, b, *, eta, p: Any = None):
        g = saturate(gradient(g, p, weight_decay, maximize))  # (1)
        v = ema(v, abs_sq(g), alpha)  # (2)
        mean = ema(mean, g, alpha) if centered else mean
        spread = jnp.maximum(v - abs_sq(mean), 0) if centered else v
        u = g / root(spread, 0.0, eps)  # (3)
        if is_off(momentum):
            return -eta * u, v, mean, b
        b = momentum * b + u  # (4)
        return -eta * b, v, mean, b  # (5)

    return per_leaf(RMSpropState, init, rule, scalars=scalars)


class AdadeltaState(NamedTuple):
    """State of `Adadelta`."""

    count: jax.Array  # t, shape (), int32
    square_avg: Any  # v, shapes of W
    acc_delta: Any  # d, shapes of W


@checked(lr=RATE, weight_decay=NOT_NEGATIVE, maximize=Flag())
def Adadelta(
    lr: optax.ScalarOrSchedule = 1.0,
    rho: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    weight_decay: ArrayLike = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """AdaDelta: steps as long as past steps were, for their gradients.

    ::

        (1) g ← g + λ W
        (2) v ← ρ v + (1 − ρ) g²
        (3) u = g √(d + ε)/√(v + ε)
        (4) d ← ρ d + (1 − ρ) u²
        (5) W ← W − η u

    Args:
      lr: η, a number ≥ 0 or a schedule.
      rho: ρ in [0, 1): v and d average over about the last 1 / (1 − ρ) steps.
      eps: ε ≥ 0, inside both roots; the first steps come of it.
      weight_decay: λ ≥ 0, added to the gradient.
      maximize: climb instead: take −g for g.

    Reference: torch.optim.Adadelta of PyTorch 2.13.

    See also: `gdfx.adadelta`.
    """

    def init(p):
        return accumulator(p), accumulator(p)

    def scalars(t):
        return {"eta": rate(lr, t)}

    @in_parts
    def rule(g, v, d, *, eta, p: Any = None):
        g = saturate(gradient(g, p, weight_decay, maximize))  # (1)
        v = ema(v, abs_sq(g), rho)  # (2)
        u = g * (root(d, eps) / root(v, eps))  # (3)
        d = ema(d, abs_sq(u), rho)  # (4)
        return -eta * u, v, d  # (5)

    return per_leaf(AdadeltaState, init, rule, scalars=scalars)


class AdamState(NamedTuple):
    """State of `Adam` and `AdamW`."""

    count: jax.Array  # t, shape (), int32
    exp_avg: Any  # m, shapes of W
    exp_avg_sq: Any  # v, shapes of W
    max_exp_avg_sq: Any  # the largest v so far, shapes of W; empty unless amsgrad


_ADAM = {"lr": RATE, "betas": BETAS, "weight_decay": NOT_NEGATIVE, "maximize": Flag()}


@checked(**_ADAM, amsgrad=Flag(), decoupled_weight_decay=Flag())
def Adam(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam: divide the running mean of the gradient by its running root mean square.

    ::

        (1) g ← g + λ W                   decoupled: W ← (1 − η λ) W
        (2) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
            amsgrad                       v* ← max(v*, v),  v* for v in (3)
        (3) W ← W − η m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)

    Args:
      lr: η, a number ≥ 0 or a schedule.
      betas: β₁ and β₂ in [0, 1).
      eps: ε ≥ 0, added outside the root and after the correction, in the unit of |g|.
      weight_decay: λ ≥ 0, added to the gradient: it is divided by the root, too.
      amsgrad: divide by the largest v so far. The maximum is of v as it is, before its correction.
      maximize: climb instead: take −g for g.
      decoupled_weight_decay: whether λ acts on W itself, as in `gdfx.torch.AdamW`.

    Reference: torch.optim.Adam of PyTorch 2.13.

    See also: `gdfx.adam`; `gdfx.amsgrad`, whose maximum is of the corrected v.
    """

    def init(p):
        return accumulator(p), accumulator(p), if_used(amsgrad, p)

    def scalars(t):
        return {"eta": rate(lr, t)} | corrections(t, *betas)

    coupled = 0 if decoupled_weight_decay else weight_decay
    decoupled = weight_decay if decoupled_weight_decay else 0

    @in_parts
    def rule(g, m, v, largest, *, eta, c1, c2, p: Any = None):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(gradient(g, p, coupled, maximize))  # (1)
        m, v = ema(m, g, betas[0]), ema(v, abs_sq(g), betas[1])  # (2)
        largest = jnp.maximum(largest, v) if amsgrad else largest
        u = -eta * (m / c1) / root((largest if amsgrad else v) / c2, 0.0, eps)  # (3)
        return decayed(u, p, decoupled, eta), m, v, largest

    return per_leaf(AdamState, init, rule, scalars=scalars)


@checked(**_ADAM, amsgrad=Flag())
def AdamW(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay: `gdfx.torch.Adam` with ``decoupled_weight_decay=True``.

    ::

        (1) W ← (1 − η λ) W
        (2) W ← W − η m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)

    Args:
      lr: η, a number ≥ 0 or a schedule.
      betas: β₁ and β₂ in [0, 1).
      eps: ε ≥ 0, added outside the root and after the correction, in the unit of |g|.
      weight_decay: λ ≥ 0. It is multiplied by η, and by a hundred times optax's default.
      amsgrad: divide by the largest v so far. The maximum is of v as it is, before its correction.
      maximize: climb instead: take −g for g.

    Reference: torch.optim.AdamW of PyTorch 2.13.

    See also: `gdfx.adamw`, whose default λ is 1e-4.
    """
    return Adam(
        lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True
    )


class NAdamState(NamedTuple):
    """State of `NAdam`."""

    count: jax.Array  # t, shape (), int32
    mu_product: jax.Array  # Π μ, shape ()
    exp_avg: Any  # m, shapes of W
    exp_avg_sq: Any  # v, shapes of W


@checked(**_ADAM, momentum_decay=NOT_NEGATIVE, decoupled_weight_decay=Flag())
def NAdam(
    lr: optax.ScalarOrSchedule = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    momentum_decay: ArrayLike = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with Nesterov's momentum, whose weight rises along Dozat's schedule.

    ::

        (1) g ← g + λ W                   decoupled: W ← (1 − η λ) W
        (2) μₜ = β₁ (1 − 0.96^(t ψ) / 2)  Π = μ₁ μ₂ … μₜ
        (3) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
        (4) m̂ = μₜ₊₁ m/(1 − Π μₜ₊₁) + (1 − μₜ) g/(1 − Π)
        (5) W ← W − η m̂ / (√(v/(1 − β₂ᵗ)) + ε)

    Args:
      lr: η, a number ≥ 0 or a schedule.
      betas: β₁ and β₂ in [0, 1).
      eps: ε ≥ 0, added outside the root and after the correction, in the unit of |g|.
      weight_decay: λ ≥ 0, added to the gradient.
      momentum_decay: ψ ≥ 0: how fast μ rises from β₁/2 to β₁. At 4e-3 it is half-way after
        about 4,200 steps. Keras has 1 for it.
      decoupled_weight_decay: whether λ acts on W itself, as in `gdfx.torch.AdamW`.
      maximize: climb instead: take −g for g.

    Differs: PyTorch keeps Π in its default dtype, here it has the parameters' precision.

    Reference: torch.optim.NAdam of PyTorch 2.13.

    See also: `gdfx.nadam`, with β₁ for every μ.
    """
    b1, b2 = betas

    def mu(steps: Any) -> Any:
        return b1 * (1 - 0.5 * 0.96 ** (steps * momentum_decay))

    def init(p):
        return accumulator(p), accumulator(p)

    def scalars(t, mu_product):
        steps = t.astype(jnp.result_type(float))
        now, ahead = mu(steps), mu(steps + 1)  # (2)
        product = mu_product * now
        return {
            "eta": rate(lr, t),
            "mu_product": product,
            "of_m": ahead / (1 - product * ahead),
            "of_g": (1 - now) / (1 - product),
            "c2": one_minus_power(b2, t),
        }

    coupled = 0 if decoupled_weight_decay else weight_decay
    decoupled = weight_decay if decoupled_weight_decay else 0

    @in_parts
    def rule(g, m, v, *, eta, of_m, of_g, c2, p: Any = None):
        g = saturate(gradient(g, p, coupled, maximize))  # (1)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (3)
        m_hat = of_m * m + of_g * g  # (4)
        u = -eta * m_hat / root(v / c2, 0.0, eps)  # (5)
        return decayed(u, p, decoupled, eta), m, v

    return per_leaf(NAdamState, init, rule, scalars=scalars, numbers={"mu_product": 1.0})


class RAdamState(NamedTuple):
    """State of `RAdam`."""

    count: jax.Array  # t, shape (), int32
    exp_avg: Any  # m, shapes of W
    exp_avg_sq: Any  # v, shapes of W


@checked(**_ADAM, decoupled_weight_decay=Flag())
def RAdam(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam that divides by the root only once its v is sure enough, and then less boldly.

    ::

        (1) g ← g + λ W                   decoupled: W ← (1 − η λ) W
        (2) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
        (3) ρ∞ = 2/(1 − β₂) − 1           ρ = ρ∞ − 2 t β₂ᵗ/(1 − β₂ᵗ)
        (4) r = √[(ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ)]
        (5) W ← W − η m/(1 − β₁ᵗ) · r √(1 − β₂ᵗ)/(√v + ε)    if ρ > 5, else without the root

    Args:
      lr: η, a number ≥ 0 or a schedule.
      betas: β₁ and β₂ in [0, 1).
      eps: ε ≥ 0, added outside the root and before the correction: in the first steps it weighs
        more than Adam's.
      weight_decay: λ ≥ 0, added to the gradient.
      decoupled_weight_decay: whether λ acts on W itself, as in `gdfx.torch.AdamW`.
      maximize: climb instead: take −g for g.

    Differs: PyTorch takes ρ as a difference of large numbers, which costs it digits.

    Reference: torch.optim.RAdam of PyTorch 2.13.

    See also: `gdfx.radam`, with ε after the correction.
    """
    b1, b2 = betas

    def init(p):
        return accumulator(p), accumulator(p)

    def scalars(t):
        r, sure = rectification(t, b2, 5.0)  # (3), (4)
        return {"eta": rate(lr, t), "r": r, "sure": sure} | corrections(t, b1, b2)

    coupled = 0 if decoupled_weight_decay else weight_decay
    decoupled = weight_decay if decoupled_weight_decay else 0

    @in_parts
    def rule(g, m, v, *, eta, r, sure, c1, c2, p: Any = None):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(gradient(g, p, coupled, maximize))  # (1)
        m, v = ema(m, g, b1), ema(v, abs_sq(g), b2)  # (2)
        u = -eta * (m / c1) * jnp.where(sure, r * jnp.sqrt(c2) / root(v, 0.0, eps), 1)  # (5)
        return decayed(u, p, decoupled, eta), m, v

    return per_leaf(RAdamState, init, rule, scalars=scalars)


class AdamaxState(NamedTuple):
    """State of `Adamax`."""

    count: jax.Array  # t, shape (), int32
    exp_avg: Any  # m, shapes of W
    exp_inf: Any  # u, shapes of W


@checked(**_ADAM)
def Adamax(
    lr: optax.ScalarOrSchedule = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with the largest gradient of late for the root mean square.

    ::

        (1) g ← g + λ W
        (2) m ← β₁ m + (1 − β₁) g         u ← max(β₂ u, |g| + ε)
        (3) W ← W − η m/(1 − β₁ᵗ) / u

    Args:
      lr: η, a number ≥ 0 or a schedule.
      betas: β₁ and β₂ in [0, 1).
      eps: ε ≥ 0, added to |g| inside the maximum, so that u remembers it.
      weight_decay: λ ≥ 0, added to the gradient.
      maximize: climb instead: take −g for g.

    Reference: torch.optim.Adamax of PyTorch 2.13.

    See also: `gdfx.adamax`.
    """
    b1, b2 = betas

    def init(p):
        return accumulator(p), accumulator(p)

    def scalars(t):
        return {"eta": rate(lr, t), "c1": one_minus_power(b1, t)}

    @in_parts
    def rule(g, m, u, *, eta, c1, p: Any = None):
        g = saturate(gradient(g, p, weight_decay, maximize))  # (1)
        m, u = ema(m, g, b1), jnp.maximum(b2 * u, abs(g) + eps)  # (2)
        return -eta * (m / c1) / divisor(u), m, u  # (3)

    return per_leaf(AdamaxState, init, rule, scalars=scalars)


class ASGDState(NamedTuple):
    """State of `ASGD`."""

    count: jax.Array  # t, shape (), int32
    eta: jax.Array  # the rate of the next step, shape ()
    ax: Any  # the average, shapes of W


@checked(
    lr=RATE,
    lambd=ANY,
    alpha=ANY,
    t0=ANY,
    weight_decay=NOT_NEGATIVE,
    maximize=Flag(),
)
def ASGD(
    lr: optax.ScalarOrSchedule = 1e-2,
    lambd: ArrayLike = 1e-4,
    alpha: ArrayLike = 0.75,
    t0: ArrayLike = 1e6,
    weight_decay: ArrayLike = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with a falling rate, and an average of the parameters beside it.

    ::

        (1) g ← g + λ W
        (2) W ← (1 − κ ηₜ) W − ηₜ g
        (3) a ← a + μₜ (W − a)            μₜ = 1/max(1, t − 1 − t₀)
        (4) ηₜ₊₁ = η/(1 + κ η t)^α        η₁ = η

    W is what is trained. `gdfx.eval_params` reads the average a, which is W itself up to step
    t₀ + 2.

    Args:
      lr: η, a number ≥ 0 or a schedule. Its value at step t makes the rate of step t + 1.
      lambd: κ, a decay of W that makes the rate fall, too.
      alpha: α, how fast the rate falls.
      t0: t₀, the steps before the average begins.
      weight_decay: λ ≥ 0, added to the gradient.
      maximize: climb instead: take −g for g.

    Differs: PyTorch keeps ηₜ in its default dtype, here it has the parameters' precision.

    Reference: torch.optim.ASGD of PyTorch 2.13.

    See also: `gdfx.averaged`, which averages the parameters of any optimizer.
    """

    def init(p):
        return accumulator(p)

    def scalars(t, eta):
        steps = t.astype(jnp.result_type(float))
        now, lr_now = jnp.where(t == 1, rate(lr, t), eta), rate(lr, t)
        return {
            "now": now,
            "share": 1 / jnp.maximum(1, steps - 1 - t0),
            "eta": lr_now / (1 + lambd * lr_now * steps) ** alpha,  # (4)
        }

    @in_parts
    def rule(g, a, *, now, share, p):
        g = gradient(g, p, weight_decay, maximize)  # (1)
        u = -now * (lambd * p + g)  # (2)
        return u, ema(a, p + u, 1 - share)  # (3)

    return per_leaf(ASGDState, init, rule, scalars=scalars, numbers={"eta": 0.0})


@reading.register
def _(state: ASGDState) -> Reading:
    return Reading(state.ax, lambda p, average: average)


class RpropState(NamedTuple):
    """State of `Rprop`."""

    count: jax.Array  # t, shape (), int32
    prev: Any  # g', shapes of W
    step_size: Any  # Δ, shapes of W


@checked(
    lr=NOT_NEGATIVE,
    etas=Several(Number("in (0, 1)", lambda x: 0 < x < 1), Number("> 1", lambda x: x > 1)),
    step_sizes=Several(NOT_NEGATIVE, NOT_NEGATIVE),
    maximize=Flag(),
)
def Rprop(
    lr: ArrayLike = 1e-2,
    etas: tuple[ArrayLike, ArrayLike] = (0.5, 1.2),
    step_sizes: tuple[ArrayLike, ArrayLike] = (1e-6, 50),
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Rprop: a step size for each coordinate, longer while the sign stays, shorter when it turns.

    ::

        (1) s = sign(g) sign(g')          g': the last gradient, 0 at the start
        (2) Δ ← clip(η⁺ Δ) if s > 0,  clip(η⁻ Δ) if s < 0,  else clip(Δ)
        (3) g ← 0 where s < 0,  g' = g
        (4) W ← W − Δ sign(g)

    clip holds Δ between the two ``step_sizes``.

    Args:
      lr: Δ at the start, ≥ 0. A schedule would change nothing: PyTorch reads it once.
      etas: η⁻ in (0, 1) and η⁺ > 1.
      step_sizes: between which Δ is held, ≥ 0.
      maximize: climb instead: take −g for g.

    Differs: PyTorch has sign(g g') in (1), which is 0 where the product is too small a number.

    Reference: torch.optim.Rprop of PyTorch 2.13.

    See also: `gdfx.rprop`, which holds Δ between the two only where it changes it.
    """
    eta_minus, eta_plus = etas

    def init(p):
        return accumulator(p), everywhere(p, lr)

    @in_parts
    def rule(g, last, size):
        g = saturate(-g if maximize else g)
        s = jnp.sign(g) * jnp.sign(last)  # (1)
        size = size * jnp.where(s > 0, eta_plus, jnp.where(s < 0, eta_minus, 1))
        size = jnp.clip(size, *step_sizes)  # (2)
        g = jnp.where(s < 0, 0, g)  # (3)
        return -jnp.sign(g) * size, g, size  # (4)

    return per_leaf(RpropState, init, rule)


class AdafactorState(NamedTuple):
    """State of `Adafactor`."""

    count: jax.Array  # t, shape (), int32
    row_var: Any  # R, shapes of W with 1 for the last axis; empty of what has one axis or none
    col_var: Any  # C, shapes of W with 1 for the last axis but one; empty of the same
    variance: Any  # v, shapes of W; empty of all others


@checked(
    lr=RATE,
    beta2_decay=Number("<= 0", lambda x: x <= 0),
    eps=Several(OrNone(NOT_NEGATIVE), NOT_NEGATIVE),
    d=POSITIVE,
    weight_decay=NOT_NEGATIVE,
    maximize=Flag(),
)
def Adafactor(
    lr: optax.ScalarOrSchedule = 1e-2,
    beta2_decay: ArrayLike = -0.8,
    eps: tuple[ArrayLike | None, ArrayLike] = (None, 1e-3),
    d: ArrayLike = 1.0,
    weight_decay: ArrayLike = 0.0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adafactor: a second moment of rows and columns, and steps as large as the array they move.

    ::

        (1) ρ = min(η, 1/√t)              α = max(ε₂, rms(W)) ρ
        (2) W ← (1 − η λ) W
        (3) γ = t^κ                       κ: ``beta2_decay``; γ = 1 in the first step
            R ← (1 − γ) R + γ mean(g² over columns)
            C ← (1 − γ) C + γ mean(g² over rows)
            v = R C / max(mean(R), ε₁)
            of what has one axis or none  v ← (1 − γ) v + γ g²
        (4) u = g / √max(v, ε₁²)
        (5) W ← W − α u / max(1, rms(u)/d)

    Rows and columns are the last two axes; others are copies.

    Args:
      lr: η, a number ≥ 0 or a schedule: the largest relative step.
      beta2_decay: κ ≤ 0.
      eps: ε₁ and ε₂ ≥ 0; None for ε₁ is the machine epsilon of the arithmetic.
      d: the largest root mean square of u, > 0; PyTorch wants at least 1.
      weight_decay: λ ≥ 0, decoupled.
      maximize: climb instead: take −g for g.

    Differs: the None of ``eps`` is PyTorch's machine epsilon of the parameter's dtype; here it is
    that of float32 for narrower ones. PyTorch refuses complex parameters; here |g|² stands for g².

    Reference: torch.optim.Adafactor of PyTorch 2.13.

    See also: `gdfx.adafactor`, which factors the two longest axes, from 128 on.
    """
    eps1, eps2 = eps

    def is_factored(p: Any) -> bool:
        return p.ndim > 1 and p.size > 0

    def init(p):
        v = accumulator(p, real=True)
        if not is_factored(p):
            return [], [], v
        return v.mean(-1, keepdims=True), v.mean(-2, keepdims=True), []

    def scalars(t):
        steps, eta = t.astype(jnp.result_type(float)), rate(lr, t)
        return {
            "eta": eta,
            "rho": jnp.minimum(eta, 1 / jnp.sqrt(steps)),
            "new": steps**beta2_decay,
        }

    def rule(g, r, c, v, *, eta, rho, new, p):
        least = jnp.finfo(g.dtype).eps if eps1 is None else eps1
        g = saturate(-g if maximize else g)
        sq = abs_sq(g)
        alpha = jnp.maximum(eps2, rms(p)) * rho  # (1)
        if is_factored(g):  # (3)
            r = ema(r, sq.mean(-1, keepdims=True), 1 - new)
            c = ema(c, sq.mean(-2, keepdims=True), 1 - new)
            found = r / divisor(jnp.maximum(r.mean(-2, keepdims=True), least)) * c
        else:
            v = found = ema(v, sq, 1 - new)
        u = g / root(jnp.maximum(found, least * least))  # (4)
        u = -alpha * u / jnp.maximum(1, rms(u) / d)  # (5)
        return decayed(u, p, weight_decay, eta), r, c, v  # (2)

    return per_leaf(AdafactorState, init, rule, scalars=scalars)


class MuonState(NamedTuple):
    """State of `Muon` on matrices."""

    momentum_buffer: Any  # b, shapes of W


@checked(
    lr=RATE,
    weight_decay=NOT_NEGATIVE,
    momentum=NOT_NEGATIVE,
    ns_coefficients=Several(ANY, ANY, ANY),
    ns_steps=Count(),
    adjust_lr_fn=OrNone(Choice("original", "match_rms_adamw")),
)
def Muon(
    lr: optax.ScalarOrSchedule = 1e-3,
    weight_decay: ArrayLike = 0.1,
    momentum: ArrayLike = 0.95,
    nesterov: bool = True,
    ns_coefficients: Triple = (3.4445, -4.7750, 2.0315),
    eps: ArrayLike = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    *,
    matrices: Matrices = None,
    otherwise: optax.GradientTransformation | None = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon: momentum whose matrix is made orthogonal.

    ::

        (1) b ← μ b + (1 − μ) g
        (2) x = b                         nesterov: x = μ b + (1 − μ) g
        (3) X ← x / max(‖x‖, ε),  then k times  X ← a X + (b A + c A²) X,  A = X Xᵀ
        (4) W ← (1 − η λ) W − η s X
            original                      s = √max(1, rows / columns)
            match_rms_adamw               s = 0.2 √max(rows, columns)

    Args:
      lr: η, a number ≥ 0 or a schedule.
      weight_decay: λ ≥ 0, decoupled.
      momentum: μ ≥ 0.
      nesterov: look one step ahead in (2).
      ns_coefficients: a, b and c of (3).
      eps: ε ≥ 0, the least norm that x is divided by.
      ns_steps: k, how many steps of (3).
      adjust_lr_fn: s by name; None is ``"original"``.
      matrices: which leaves are matrices, along which axes, as in `gdfx.muon`; None: every leaf of
        two axes, (outputs, inputs), as PyTorch's are. Flax has (inputs, outputs): ``"flax"``.
      otherwise: the optimizer of all other leaves; None: ``gdfx.torch.AdamW`` with the same ``lr``
        and ``weight_decay``. PyTorch's refuses them, and advises to give them to AdamW.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Differs: PyTorch computes (3) in bfloat16, here it is in the parameters' precision, at least
    float32.

    Reference: torch.optim.Muon of PyTorch 2.13.

    See also: `gdfx.muon`, whose ``scale="jordan"`` is ``"original"`` here.
    """
    scale = "moonlight" if adjust_lr_fn == "match_rms_adamw" else "jordan"
    found = _as_in_torch if matrices is None else matrices

    def init(p):
        return accumulator(p)

    def rule(g, b):
        g = saturate(g)
        b = ema(b, g, momentum)  # (1)
        x = shared(ema(b, g, momentum) if nesterov else b, over)  # (2)
        unit = normalized(x) * jnp.minimum(1, root(sum_sq(x)) / divisor(jnp.asarray(eps, x.dtype)))
        x = newton_schulz(unit, [ns_coefficients] * ns_steps)  # (3)
        return shape_factor(scale, *g.shape) * x, b

    direction = per_matrix(MuonState, init, rule, matrices=found, over=over)
    decay: Any = None if is_off(weight_decay) else weight_decay
    tx = with_rate(direction, lr, weight_decay=decay)  # (4)
    rest = otherwise or AdamW(lr, weight_decay=weight_decay)
    return with_otherwise("torch.Muon", tx, rest, found)


def _as_in_torch(path: str, x: Any) -> MatrixAxes | None:
    """Every leaf of two axes, outputs first."""
    del path
    return MatrixAxes(inputs=1, outputs=0) if np.ndim(x) == 2 else None
