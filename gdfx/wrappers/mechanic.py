"""Mechanic: the scale of an optimizer's updates is learned along the run.

Ashok Cutkosky, Aaron Defazio, Harsh Mehta, "Mechanic: A Learning Rate Tuner", NeurIPS 2023,
arXiv:2306.00144, Algorithm 1; the authors' package mechanic-pytorch 0.0.1.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core import check
from gdfx.core.arguments import NOT_NEGATIVE, POSITIVE, Count, checked
from gdfx.core.inner import in_float32
from gdfx.core.lift import per_leaf
from gdfx.core.moments import accumulator, inner_product, root, saturate, sqrt, start_value, sum_sq
from gdfx.core.precision import narrow_tree, widen_tree
from gdfx.core.trees import Gradients


class MechanicState(NamedTuple):
    """State of `mechanic`: numbers of each β, and arrays of each parameter."""

    s: Any  # the scales, whose sum is that of the updates
    m: Any  # the largest |h| of late
    v: Any  # the sum of h² of late
    r: Any  # what the scales have gained
    delta: Any  # Δ: the sum of the updates
    p0: Any  # the parameters at the start
    inner_state: Any  # of the optimizer


class _Tuner(NamedTuple):
    """What a `MechanicState` holds beside the state of the optimizer, and the gradients."""

    s: Any
    m: Any
    v: Any
    r: Any
    g: Any
    delta: Any
    p0: Any


@checked(num_betas=Count(1), s_init=POSITIVE, s_decay=NOT_NEGATIVE)
def mechanic(
    tx: optax.GradientTransformation,
    s_decay: ArrayLike = 0.01,
    s_init: ArrayLike = 1e-8,
    eps: ArrayLike = 1e-8,
    num_betas: int = 6,
) -> optax.GradientTransformationExtraArgs:
    """Scale the sum of an optimizer's updates by what would have paid so far.

    ::

        (1) u: the optimizer's update;  x = W + u
        (2) h = Σ Δ (g + λ (Σs) ‖g‖ / (‖x‖ + ε) x)        Δ ← Δ + u
        (3) m ← max(β m, |h|)             v ← β² v + h²           r ← max(β r − s h, 0)
        (4) s = (s₀ m / n + r) / (√v + ε)
        (5) W = W₀ + (Σs) Δ

    (3) and (4) are done for n values β = 0.9, 0.99, …, and Σs is the sum of their s. The sums and
    norms are over all leaves that have a gradient. m begins at 10⁻⁶, all else at 0.
    `optax.tree.get(state, "s")`, or `optax.tree_utils.tree_get` in older versions, reads s from the
    state.

    Args:
      tx: a whole optimizer, with a learning rate of 1, say, or a schedule that peaks there.
      s_decay: λ ≥ 0, which draws Σs down as weight decay would.
      s_init: s₀ > 0.
      eps: ε ≥ 0.
      num_betas: n, how many β.

    Returns:
      A whole optimizer. It needs 8 bytes a parameter beside the state of ``tx``. It must be the
      last to change the updates: (5) is where the parameters are.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``update`` without the parameters,
        and with trees that do not belong together.

    Differs: Δ is kept, as with the authors' ``store_delta=True``; optax.contrib.mechanize, and the
    authors by default, form it as (W − W₀) / (Σs + ε), where rounding grows as Σs falls. optax
    also clips h in (3) at the last m, adds ε to |h| and starts s at s₀ = 1e-6: around SGD it is 2 %
    off after 50 steps, in float64.

    Reference: arXiv:2306.00144, Algorithm 1; the authors' mechanic.py.

    See also: `gdfx.prodigy`; `gdfx.dog`.

    >>> import gdfx, jax, jax.numpy as jnp, optax
    >>> tx, w = gdfx.mechanic(gdfx.sgd(1.0)), jnp.zeros(2)
    >>> state, update = tx.init(w), jax.jit(tx.update)
    >>> for _ in range(60):
    ...     updates, state = update(2 * (w - 3.0), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> print(w.round(1), f"{state.s.sum():.4f}")
    [3. 3.] 0.0151
    """
    inner = in_float32(tx)
    betas = [1 - 0.1 ** (i + 1) for i in range(num_betas)]

    def measure(u, g, delta, p0, *, p):
        del p0
        g, x = saturate(g), p + u  # (1)
        along, stay = inner_product(delta, g), inner_product(delta, x)
        return {"along": along, "stay": stay, "sq": sum_sq(g), "size": sum_sq(x)}

    def scalars(s, m, v, r, along, stay, sq, size):
        b = jnp.asarray(betas, s.dtype)
        h = along + s_decay * jnp.sum(s) * sqrt(sq) / root(size, 0.0, eps) * stay  # (2)
        m = jnp.maximum(b * m, abs(h))
        v, r = b * b * v + h * h, jnp.maximum(b * r - s * h, 0)  # (3)
        s = (s_init * m / num_betas + r) / root(v, 0.0, eps)  # (4)
        return {"s": s, "m": m, "v": v, "r": r, "scale": jnp.sum(s)}

    def init(p):
        return accumulator(p), accumulator(p), start_value(p)  # of g, which no state keeps, too

    def rule(u, g, delta, p0, *, p, scale):
        delta = delta + u  # (2)
        return (p0 - p) + scale * delta, g, delta, p0  # (5)

    none = [0.0] * num_betas
    numbers = {"s": none, "m": [1e-6] * num_betas, "v": none, "r": none}
    tuner = per_leaf(_Tuner, init, rule, scalars=scalars, measure=measure, numbers=numbers)

    def with_state(own: Any, inner_state: optax.OptState) -> MechanicState:
        fields = {field: getattr(own, field) for field in MechanicState._fields[:-1]}
        return MechanicState(**fields, inner_state=inner_state)

    def start(params: optax.Params) -> MechanicState:
        return with_state(tuner.init(params), inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, MechanicState]:
        check.params_given("mechanic", params)
        check.state_kind("mechanic", state, MechanicState)
        gradients = Gradients("mechanic", updates)
        moved = gradients.tree_of(params)
        u, inner_state = inner.update(updates, state.inner_state, moved, **extra_args)
        held = {field: getattr(state, field) for field in MechanicState._fields[:-1]}
        steps, own = tuner.update(u, _Tuner(**held, g=widen_tree(updates)), params)
        return narrow_tree(steps, updates), with_state(own, inner_state)

    return optax.GradientTransformationExtraArgs(start, update)
