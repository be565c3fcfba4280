"""my_method: say here what it does.

Name its source: authors, title, year, the number of the algorithm.
"""

from functools import partial
from typing import Any, NamedTuple

import gdfx
import jax
import optax
from gdfx.core.arguments import checked
from gdfx.core.moments import abs_sq, accumulator, ema, one_minus_power, root, saturate
from gdfx.testing import Traits, conformance, declare


class MyMethodState(NamedTuple):
    """What is kept from one step to the next."""

    count: jax.Array  # t, the number of steps
    nu: Any  # v, a tree like the parameters


@checked
def scale_by_my_method(
    b2: float = 0.99,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Divide the gradient by its running root mean square.

    ::

        (1) v ← β₂ v + (1 − β₂) |g|²
        (2) v̂ = v / (1 − β₂ᵗ)
        (3) u = g / (√v̂ + ε)

    Args:
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0.
    """

    def init(p):  # of one array: its accumulators at the start
        return accumulator(p, real=True)

    def scalars(t):  # what a step needs once, for all arrays
        return {"c2": one_minus_power(b2, t)}  # 1 − β₂ᵗ

    def rule(g, v, *, c2):  # of one array: the update, and its new accumulators
        g = saturate(g)
        v = ema(v, abs_sq(g), b2)  # (1)
        return g / root(v / c2, outside=eps), v  # (2), (3)

    return gdfx.per_leaf(MyMethodState, init, rule, scalars=scalars)


# What you claim of it; the laws hold it to that.
TRAITS = Traits(
    elementwise=True,
    descends=True,
    odd=True,
    scale="invariant",
    translates=True,
    complex=True,
    after_nan="nan",
    needs_params=False,
)


@declare(TRAITS)
@checked
def my_method(
    learning_rate: optax.ScalarOrSchedule,
    b2: float = 0.99,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """My method: `scale_by_my_method`, then  W ← W − η u.

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      b2, eps: as in `scale_by_my_method`.
    """
    return gdfx.descend(scale_by_my_method(b2, eps), learning_rate)


test_my_method = conformance(partial(my_method, learning_rate=0.1))
