"""NAdam: Adam with Nesterov's momentum.

Timothy Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, Algorithm 2.
"""

from typing import Any

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import checked
from gdfx.core.descend import with_rate
from gdfx.methods.coordinate.adam import scale_by_adam


@checked
def nadam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """NAdam, Adam with Nesterov's momentum: `scale_by_adam`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, mu_dtype, nu_dtype: as in `scale_by_adam`.

    Differs: as in `scale_by_adam`; PyTorch and Keras vary β₁, as Dozat does.

    Reference: Dozat 2016, Algorithm 2.

    Purpose: Adam that looks one step ahead, as Nesterov's momentum does to momentum (Dozat 2016).

    See also: `gdfx.adam`; `gdfx.nadamw`, with weight decay.
    """
    direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True, nu_dtype=nu_dtype)
    return with_rate(direction, learning_rate)


@checked
def nadamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """NAdam with decoupled weight decay: `scale_by_adam`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b1, b2, eps, eps_root, mu_dtype, nu_dtype: as in `scale_by_adam`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      ValueError: also by ``update`` without the parameters.

    Differs: as in `adamw`.

    Reference: Dozat 2016, Algorithm 2; arXiv:1711.05101, Algorithm 2.

    Purpose: Adam that looks one step ahead, with weight decay that does not pass through its
    division.

    See also: `gdfx.nadam`; `gdfx.adamw`.
    """
    direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True, nu_dtype=nu_dtype)
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
