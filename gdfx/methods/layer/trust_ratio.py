"""Steps as long as the layer that they move: LARS, LAMB and Fromage.

Yang You, Igor Gitman, Boris Ginsburg, "Large Batch Training of Convolutional Networks", 2017,
arXiv:1708.03888, Algorithm 1; Yang You, Jing Li, Sashank Reddi, Jonathan Hseu, Sanjiv Kumar,
Srinadh Bhojanapalli, Xiaodan Song, James Demmel, Kurt Keutzer, Cho-Jui Hsieh, "Large Batch
Optimization for Deep Learning", ICLR 2020, arXiv:1904.00962, Algorithm 2; Jeremy Bernstein, Arash
Vahdat, Yisong Yue, Ming-Yu Liu, "On the distance between two neural networks and the stability of
learning", NeurIPS 2020, arXiv:2002.03432, Algorithm 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core import arguments
from gdfx.core.arguments import DECAY, NOT_NEGATIVE, Mask, checked
from gdfx.core.descend import chain, decayed, downhill
from gdfx.core.lift import per_leaf
from gdfx.core.moments import root, sum_sq
from gdfx.methods.coordinate.adam import scale_by_adam
from gdfx.methods.coordinate.momentum import scale_by_momentum


@checked(min_norm=NOT_NEGATIVE, trust_coefficient=NOT_NEGATIVE)
def scale_by_trust_ratio(
    min_norm: ArrayLike = 0.0, trust_coefficient: ArrayLike = 1.0, eps: ArrayLike = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Make each array of updates as long as its parameter, times a coefficient.

    ::

        (1) ϕ(x) = max(‖x‖, min_norm)     ‖x‖² = Σ|x|² over the array
        (2) u = g c ϕ(W) / (ϕ(g) + ε)     where ϕ(W) or ϕ(g) is 0:  u = g

    Args:
      min_norm: which norms are not below, ≥ 0.
      trust_coefficient: c ≥ 0.
      eps: ε ≥ 0.

    Raises:
      TypeError, ValueError: for arguments out of range, by ``init`` and ``update`` for trees
        that are not parameters and gradients of each other, and by ``update`` without the
        parameters.

    Differs: in the norms, numbers beyond 2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:1904.00962, Algorithm 2; arXiv:1708.03888, equation (6).
    """

    def init(p):
        return ()

    def phi(sq: jax.Array) -> jax.Array:
        return jnp.maximum(root(sq), min_norm)  # (1)

    def rule(g, *, p):
        sq_p, sq_g = sum_sq(p), sum_sq(g)
        ratio = trust_coefficient * phi(sq_p) / (phi(sq_g) + eps)
        none = jnp.less_equal(min_norm, 0) & ((sq_p == 0) | (sq_g == 0))
        return g * jnp.where(none, 1, ratio)  # (2)

    return per_leaf(optax.ScaleByTrustRatioState, init, rule)


@checked
def lamb(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-6,
    eps_root: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LAMB: AdamW's step, as long as the layer.

    ::

        (1) u                             as in `scale_by_adam`
        (2) W ← W − η ‖W‖ / ‖u + λ W‖ (u + λ W)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root: as in `scale_by_adam`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: the paper's ϕ is any function of ‖W‖; here, as in optax, it is ‖W‖ itself.

    Reference: arXiv:1904.00962, Algorithm 2.

    Purpose: very large batches: BERT on batches of 32,768 and more (arXiv:1904.00962).

    See also: `gdfx.lars`, without Adam; `gdfx.adamw`.
    """
    adam = scale_by_adam(b1, b2, eps, eps_root)
    decay = decayed(weight_decay, mask)
    return chain(adam, decay, scale_by_trust_ratio(), downhill(learning_rate))


@checked(
    trust_coefficient=NOT_NEGATIVE,
    momentum=DECAY,
    trust_ratio_mask=Mask(),
)
def lars(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: ArrayLike = 0.001,
    eps: ArrayLike = 0.0,
    trust_ratio_mask: Any = True,
    momentum: ArrayLike = 0.9,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """LARS: gradient descent with momentum, each step a part of the layer's length.

    ::

        (1) d = g + λ W
        (2) m ← μ m + η c ‖W‖ / (‖d‖ + ε) d
        (3) W ← W − m                     with Nesterov's momentum  W ← W − (μ m + η c … d)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule; it stands inside m.
      weight_decay: λ, a number ≥ 0 or a schedule.
      weight_decay_mask: the leaves to decay: a tree of bools, or a function from params to one.
      trust_coefficient, eps: as in `scale_by_trust_ratio`.
      trust_ratio_mask: the leaves whose steps are scaled; others have  m ← μ m + η d.
      momentum: μ in [0, 1).
      nesterov: look one step ahead in (3).

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: the paper divides by ‖g‖ + λ ‖W‖; this, as optax, by ‖g + λ W‖.

    Reference: arXiv:1708.03888, Algorithm 1.

    Purpose: very large batches on convolutional networks (arXiv:1708.03888).

    See also: `gdfx.lamb`, with Adam; `gdfx.fromage`.
    """
    ratio = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        decayed(weight_decay, weight_decay_mask),
        optax.masked(ratio, arguments.mask(trust_ratio_mask)),
        downhill(learning_rate),
        scale_by_momentum(momentum, nesterov),
    )


@checked(min_norm=NOT_NEGATIVE)
def fromage(
    learning_rate: optax.ScalarOrSchedule, min_norm: ArrayLike = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """Fromage: each step a part of the layer's length, and the layer held from growing.

    ::

        (1) W ← (W − η ϕ(W) / ϕ(g) g) / √(1 + η²)     ϕ(x) = max(‖x‖, min_norm)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      min_norm: as in `scale_by_trust_ratio`.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: the paper has no least norm. 1 / √(1 + η²) − 1 is formed without the difference,
    which in float32 loses its digits for a small η.

    Reference: arXiv:2002.03432, Algorithm 1.

    Purpose: one learning rate for many networks: a step is a fixed part of every layer
    (arXiv:2002.03432).

    See also: `gdfx.lars`; `gdfx.lamb`.
    """

    def shrunk(rate: Any) -> Any:
        return rate / (1 + rate**2) ** 0.5

    def shrinkage(rate: Any) -> Any:
        s = (1 + rate**2) ** 0.5
        return -(rate**2) / (s * (s + 1))  # 1/s − 1

    rate = _mapped(shrunk, learning_rate)
    decay = decayed(_mapped(shrinkage, learning_rate))
    return chain(scale_by_trust_ratio(min_norm), downhill(rate), decay)


def _mapped(function: Any, rate: Any) -> Any:
    """A function of a number or of a schedule."""
    return (lambda count: function(rate(count))) if callable(rate) else function(rate)
