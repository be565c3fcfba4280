"""Steps along the sign: signSGD, and Signum with momentum.

Jeremy Bernstein, Yu-Xiang Wang, Kamyar Azizzadenesheli, Anima Anandkumar, "signSGD: Compressed
Optimisation for Non-Convex Problems", ICML 2018, arXiv:1802.04434, Algorithms 1 and 2.
"""

import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import DECAY, checked
from gdfx.core.descend import chain, downhill, with_rate
from gdfx.core.lift import per_leaf
from gdfx.core.moments import inf_as_nan, sign
from gdfx.methods.coordinate.running_mean import running_mean


@checked
def scale_by_sign() -> optax.GradientTransformationExtraArgs:
    """Take the sign of the gradient.

    ::

        (1) u = sign(g)                   0 where g = 0; of a complex g, g / |g|

    Raises:
      TypeError, ValueError: by ``init`` and ``update`` for trees that are not parameters and
        their gradients.

    Differs: where a gradient is Inf, u is NaN and not ±1, so that it is not passed over in
    silence.

    Reference: arXiv:1802.04434, Algorithm 1.
    """

    def init(p):
        return ()

    def rule(g):
        return sign(inf_as_nan(g))  # (1)

    return per_leaf(optax.EmptyState, init, rule)


@checked
def sign_sgd(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """The method signSGD: `scale_by_sign`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule: how far every coordinate moves in a step.

    Purpose: distributed training in which workers send one bit for each coordinate
    (arXiv:1802.04434).

    See also: `gdfx.signum`, with momentum; `gdfx.lion`.
    """
    return with_rate(scale_by_sign(), learning_rate)


@checked(beta=DECAY)
def signum(
    learning_rate: optax.ScalarOrSchedule,
    beta: ArrayLike = 0.9,
    accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Signum, signSGD with momentum: the sign of the running mean of the gradient.

    ::

        (1) m ← β m + (1 − β) g           m = 0 at the start
        (2) W ← W − η sign(m)

    Args:
      learning_rate: η, a number ≥ 0 or a schedule: how far every coordinate moves in a step.
      beta: β in [0, 1), the memory of m.
      accumulator_dtype: dtype of m; by default the parameter's, but at least float32.

    Reference: arXiv:1802.04434, Algorithm 2.

    Purpose: signSGD that is less at the mercy of noise (arXiv:1802.04434).

    See also: `gdfx.sign_sgd`; `gdfx.lion`, with another mean for the step.
    """
    mean = running_mean(beta, accumulator_dtype)
    return chain(mean, scale_by_sign(), downhill(learning_rate))
