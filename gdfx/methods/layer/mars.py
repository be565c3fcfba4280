"""MARS: a method's gradient is corrected by how it has changed, which takes noise out of it.

Huizhuo Yuan, Yifeng Liu, Shuang Wu, Xun Zhou, Quanquan Gu, "MARS: Unleashing the Power of Variance
Reduction for Training Large Models", 2024, arXiv:2411.10438, Algorithms 1 to 4.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import NOT_NEGATIVE, Flag, checked
from gdfx.core.descend import chain, decayed, downhill, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, saturate
from gdfx.core.previous import corrected_gradient, with_previous
from gdfx.methods.coordinate.adam import scale_by_adam
from gdfx.methods.coordinate.running_mean import running_mean
from gdfx.methods.coordinate.sign import scale_by_sign

_ARGUMENTS = {"gamma": NOT_NEGATIVE, "from_zero": Flag()}


class MarsState(NamedTuple):
    """What the correction keeps."""

    count: Any
    last: Any  # g', the gradient to compare with


@checked(**_ARGUMENTS)
def scale_by_mars(
    b1: ArrayLike = 0.95, gamma: ArrayLike = 0.025, *, from_zero: bool = True
) -> optax.GradientTransformationExtraArgs:
    """The gradient, corrected by its change, and each array held to a length of 1.

    ::

        (1) c = g + γ β₁/(1 − β₁) (g − g')
        (2) u = c / max(1, ‖c‖)           ‖c‖ of the whole array

    g' is the gradient of the step before, or, in the exact form, that of this step's batch at the
    parameters of the step before, which the caller finds and gives to ``update``:
    ``update(g, state, params, previous=g')``.

    Args:
      b1: β₁ in [0, 1), the memory of the mean that follows.
      gamma: γ ≥ 0, how much of the correction; 0 for none.
      from_zero: what g' is in the first step, where it is not given: 0, as in the authors' code;
        or, if False, g, as in the paper, whose x₁ is x₀.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for
        trees that are not parameters, gradients, previous gradients and state of each other.

    Differs: gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2411.10438, Algorithm 1, equations (3.1) and (3.2); AGI-Arena/MARS.
    """

    def init(p):
        return accumulator(p)

    def rule(g, last):
        g = saturate(g)
        return corrected_gradient(g, last, b1, gamma), g  # (1), (2)

    def from_itself(g, last, *, t):
        return rule(g, jnp.where(t == 1, saturate(g), last))

    exact = per_leaf(MarsState, init, rule)
    usual = exact if from_zero else per_leaf(MarsState, init, from_itself)

    return with_previous("scale_by_mars", MarsState, usual, exact)


@checked(**_ARGUMENTS)
def mars(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.95,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    gamma: ArrayLike = 0.025,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    mu_dtype: DTypeLike | None = None,
    *,
    from_zero: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """MARS-AdamW: `scale_by_mars`, then AdamW.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule; the authors take 3e-3.
      b1: as in `scale_by_mars`; it is Adam's β₁, too.
      b2: β₂ in [0, 1), the memory of Adam's v.
      eps: ε ≥ 0, Adam's.
      gamma: γ ≥ 0, how much of the correction; 0 for none.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.
      from_zero: as in `scale_by_mars`.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_mars`, and by ``update`` without the parameters.

    Differs: the authors' code moves arrays that are no matrices by AdamW with β₁ = 0.9 and β₂ =
    0.95, unless ``optimize_1d``; here all leaves are treated alike, as then, and `optax.partition`
    gives some to another method.

    Purpose: less noise in the gradients of large models, without the large batches of variance
    reduction (abstract of arXiv:2411.10438).

    Reference: arXiv:2411.10438, Algorithm 2.

    See also: `gdfx.mars_lion`; `gdfx.mars_shampoo`; `gdfx.adan`, whose differences have a mean of
    their own.

    The exact form has both gradients on the batch of this step:

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> def loss(w, batch):
    ...     return jnp.sum((w - batch) ** 2)
    >>> tx, w = gdfx.mars(0.5), jnp.zeros(2)
    >>> state, before = tx.init(w), w
    >>> for batch in (jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])):
    ...     g, previous = jax.grad(loss)(w, batch), jax.grad(loss)(before, batch)
    ...     updates, state = tx.update(g, state, w, previous=previous)
    ...     before, w = w, optax.apply_updates(w, updates)
    >>> print(w)
    [0.9721917 0.9173168]
    """
    correction = scale_by_mars(b1, gamma, from_zero=from_zero)
    direction = chain(correction, scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype))
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)


@checked(**_ARGUMENTS)
def mars_lion(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.95,
    gamma: ArrayLike = 0.025,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    mu_dtype: DTypeLike | None = None,
    *,
    from_zero: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """MARS-Lion: `scale_by_mars`, then the sign of its running mean.

    ::

        (1) c                             as in `scale_by_mars`
        (2) m ← β₁ m + (1 − β₁) c
        (3) W ← W − η (sign(m) + λ W)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule; about a tenth of that of `gdfx.mars`.
      b1: as in `scale_by_mars`; it is that of m, too.
      gamma: γ ≥ 0, how much of the correction; 0 for none.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.
      from_zero: as in `scale_by_mars`.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_mars`, and by ``update`` without the parameters.

    Differs: the authors' code moves arrays that are no matrices by AdamW, unless ``optimize_1d``.

    Purpose: what `gdfx.mars` does, with half of the rest of its state (arXiv:2411.10438).

    Reference: arXiv:2411.10438, Algorithm 3.

    See also: `gdfx.mars`; `gdfx.lion`.
    """
    correction = scale_by_mars(b1, gamma, from_zero=from_zero)
    links = correction, running_mean(b1, mu_dtype), scale_by_sign()
    return chain(*links, decayed(weight_decay, mask), downhill(learning_rate))
