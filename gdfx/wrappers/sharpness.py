"""Sharpness-aware gradients: those of a point uphill, by a function around the loss's gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gdfx.core.arguments import NOT_NEGATIVE, Function, checked
from gdfx.core.moments import root, sum_sq
from gdfx.core.precision import as_array, dtype_of, narrow, widen
from gdfx.core.trees import Gradients

_GRADIENT = Function("a function that returns (value, gradients), as jax.value_and_grad makes one")
_ARGUMENTS = {"value_and_grad": _GRADIENT, "rho": NOT_NEGATIVE}

Loss = Callable[..., tuple[Any, Any]]
"""``value_and_grad(params, *args, **kwargs)`` returns what `jax.value_and_grad` makes return."""


@checked(**_ARGUMENTS)
def sam(value_and_grad: Loss, rho: ArrayLike = 0.05) -> Loss:
    """The gradients at a point uphill, of steps that look for flat minima (SAM).

    ::

        (1) g = ∇L(W)
        (2) e = ρ g / ‖g‖                 ‖g‖ over all leaves; 0 where g is 0
        (3) return L(W), ∇L(W + e)

    It takes the place of the gradient function, in the same compiled step, before any optimizer::

        gradient = gdfx.sam(jax.value_and_grad(loss))
        value, g = gradient(params, batch)
        updates, state = tx.update(g, state, params)

    Args:
      value_and_grad: a function of the parameters, and of what else, that returns (value,
        gradients): `jax.value_and_grad` of a loss, with ``has_aux`` or without, or what flax or
        equinox have for it. It is called twice with the same arguments: random numbers, such as
        those of dropout, are the same both times.
      rho: ρ ≥ 0, how far uphill. At 0 it is the plain gradient.

    Returns:
      A function like the one given. The value, and what comes with it, is that at the parameters.

    Raises:
      TypeError, ValueError: for arguments out of range.

    Differs: the norm is taken in at least float32, and nothing is added to it. optax.contrib.sam
    makes one step of two updates, and multiplies what it does not choose by 0, so that a NaN there
    is a NaN everywhere.

    Reference: Pierre Foret, Ariel Kleiner, Hossein Mobahi, Behnam Neyshabur, "Sharpness-Aware
    Minimization for Efficiently Improving Generalization", ICLR 2021, arXiv:2010.01412,
    Algorithm 1.

    See also: `gdfx.asam`, in which ρ is in units of the weights.

    >>> import gdfx, jax, jax.numpy as jnp
    >>> gradient = jax.jit(gdfx.sam(jax.value_and_grad(lambda w: jnp.sum(w**2)), rho=0.5))
    >>> print(*gradient(jnp.array([3.0, 4.0])))
    25.0 [6.6 8.8]
    """

    def uphill(g: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        del w
        return g, g

    return _around("sam", value_and_grad, rho, uphill)


@checked(**_ARGUMENTS, eta=NOT_NEGATIVE)
def asam(value_and_grad: Loss, rho: ArrayLike = 0.5, eta: ArrayLike = 0.01) -> Loss:
    """The gradients at a point uphill, as far as weights are large (adaptive SAM).

    ::

        (1) g = ∇L(W)                     T = |W| + η
        (2) e = ρ T² g / ‖T g‖            ‖T g‖ over all leaves; 0 where g is 0
        (3) return L(W), ∇L(W + e)

    Args:
      value_and_grad: as in `sam`.
      rho: ρ ≥ 0, how far uphill, in units of the weights: about ten times that of `sam`.
      eta: η ≥ 0: weights of zero are moved too.

    Returns:
      A function like the one given. The value, and what comes with it, is that at the parameters.

    Raises:
      TypeError, ValueError: for arguments out of range.

    Differs: the authors' code has T = 1 for what is not called a weight; here all leaves are
    treated alike. It adds 1e-16 to the norm.

    Reference: Jungmin Kwon, Jeongseop Kim, Hyunseo Park, In Kwon Choi, "ASAM: Adaptive
    Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks", ICML 2021,
    arXiv:2102.11600, Algorithm 1; SamsungLabs/ASAM.

    See also: `gdfx.sam`.
    """

    def uphill(g: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        scaled = (abs(w) + eta) * g
        return scaled, (abs(w) + eta) * scaled

    return _around("asam", value_and_grad, rho, uphill)


def _around(
    method: str,
    value_and_grad: Loss,
    rho: ArrayLike,
    uphill: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> Loss:
    def gradient(params: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, g = value_and_grad(params, *args, **kwargs)
        gradients = Gradients(method, g)
        weights = gradients.parameters(params)
        steps = [
            None if x is None else uphill(widen(as_array(x)), widen(as_array(w)))
            for x, w in zip(gradients.leaves, weights, strict=True)
        ]
        squares = [sum_sq(step[0]) for step in steps if step is not None]
        norm = root(jnp.sum(jnp.stack(squares))) if squares else jnp.ones(())
        moved = [
            w if step is None else narrow(widen(as_array(w)) + rho * (step[1] / norm), dtype_of(w))
            for step, w in zip(steps, weights, strict=True)
        ]
        elsewhere = gradients.structure.unflatten(moved)
        return value, value_and_grad(elsewhere, *args, **kwargs)[1]

    return gradient
