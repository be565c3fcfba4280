"""EMA-Nesterov: gradients are taken ahead of the walk, along the running mean of its steps.

Chung-Yiu Yau, Dawei Li, Athanasios Glentis, Valentyn Boreiko, Hoi-To Wai, Mingyi Hong,
"EMA-Nesterov: Stabilizing Nesterov's Lookahead for Accelerated Deep Learning Optimization", 2026,
arXiv:2605.25395; the records of github.com/KellerJordan/modded-nanogpt, track 3.
"""

from typing import Any, NamedTuple

import jax
import optax
from jax.typing import ArrayLike

from gdfx.core import moments
from gdfx.core.arguments import DECAY, RATE, checked
from gdfx.core.averages import Reading, reading
from gdfx.core.descend import chain, rate
from gdfx.core.inner import extended
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator


class AheadState(NamedTuple):
    """How far the parameters are ahead of the walk."""

    count: jax.Array  # steps done, int32
    ahead: jax.Array  # β: the parameters are x + β m
    ema: Any  # m: the running mean of the steps of x


@checked(lookahead=RATE, decay=DECAY)
def ema_nesterov(
    tx: optax.GradientTransformation,
    lookahead: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.99,
) -> optax.GradientTransformationExtraArgs:
    """Take gradients ahead of the walk, along the running mean of its steps.

    ::

        (1) y = x + β m                   where the gradient is taken
        (2) x' = y + u                    u: the update of ``tx`` from the gradient at y
        (3) m ← γ m + (1 − γ) (x' − x)    0 at the start
        (4) x ← x'

    The parameters are y, whose steps are  u + β' m  with the m and the β' of the next step; so x
    need not be held, as  x' − x = u + β m.  `gdfx.eval_params` returns x, which is what to evaluate
    and to store.

    Args:
      tx: a whole optimizer.
      lookahead: β ≥ 0, a number or a schedule, which is asked with 0 at the first step. The authors
        let it fall with the learning rate from a peak between 0.3 and 0.6, and have it 0 at the
        beginning and near the end of a run; where it is 0, y is x.
      decay: γ in [0, 1).

    Returns:
      A whole optimizer. It needs 4 bytes a parameter beside the state of ``tx``.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` for trees that do not
        belong together.

    Differs: the record's code asks for the learning rate of the step before, where a schedule here
    is asked for this step's.

    Reference: arXiv:2605.25395; github.com/KellerJordan/modded-nanogpt, track 3, the results of
    2026-05-22 and 2026-06-19.

    See also: `gdfx.averaged`, whose mean is of the weights and steers nothing; `gdfx.compensated`,
    around it, for parameters in low precision.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> tx, w = gdfx.ema_nesterov(gdfx.sgd(1.0), lookahead=0.5, decay=0.5), jnp.array(0.0)
    >>> state = tx.init(w)
    >>> for _ in range(2):  # x: 1, 2.25; m: 0.5, 0.875
    ...     updates, state = tx.update(jnp.array(-1.0), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> print(w, gdfx.eval_params(state, w))
    2.6875 2.25
    """

    def scalars(t, ahead):
        return {"now": ahead, "ahead": rate(lookahead, t + 1)}

    def rule(u, m, *, now, ahead):
        m = moments.ema(m, u + now * m, decay)  # (3)
        return u + ahead * m, m  # (2), (4), and (1) of the next step

    numbers = {"ahead": 0.0}
    ahead = per_leaf(AheadState, accumulator, rule, scalars=scalars, numbers=numbers)
    return chain(extended(tx), ahead)


@reading.register
def _(state: AheadState) -> Reading:
    return Reading(state.ema, lambda p, m: p - state.ahead * m)
