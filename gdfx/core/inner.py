"""What wrappers do with the optimizer inside them, of whatever origin."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdfx.core.precision import widen_tree


def extended(tx: Any) -> optax.GradientTransformationExtraArgs:
    """The same transformation with extra arguments; `optax.MultiSteps` and its like are taken."""
    if isinstance(tx, optax.GradientTransformation):
        return optax.with_extra_args_support(tx)
    kinds = {parameter.kind for parameter in inspect.signature(tx.update).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return optax.GradientTransformationExtraArgs(tx.init, tx.update)
    return optax.with_extra_args_support(optax.GradientTransformation(tx.init, tx.update))


def in_float32(tx: Any) -> optax.GradientTransformationExtraArgs:
    """The same optimizer, fed in at least float32."""
    tx = extended(tx)

    def init(params: optax.Params) -> optax.OptState:
        return tx.init(widen_tree(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        return tx.update(widen_tree(updates), state, widen_tree(params), **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)


def demands(tx: Any) -> frozenset[str]:
    """Which of ``params`` and ``value``, the loss, an optimizer's updates cannot do without."""
    tx = extended(tx)
    tree = {"w": jax.ShapeDtypeStruct((2, 2), jnp.float32)}
    value = jax.ShapeDtypeStruct((), jnp.float32)
    for params, extra in (None, {}), (tree, {}), (None, {"value": value}), (tree, {"value": value}):
        try:
            jax.eval_shape(
                lambda g, params, extra: tx.update(g, tx.init(g), params, **extra),
                *(tree, params, extra),
            )
        except Exception:  # whatever a stranger's function raises
            continue
        return frozenset(["params"] * (params is not None) + list(extra))
    return frozenset()
