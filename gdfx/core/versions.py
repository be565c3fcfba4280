"""What older versions of optax and JAX cannot do, or call by another name."""

import importlib
import inspect
from typing import Any, NamedTuple

import jax
import jax.experimental
import jax.numpy as jnp
import optax
import optax.contrib

# Elsewhere before JAX 0.8.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # pyright: ignore[reportAttributeAccessIssue]


class WeightDecaySchedule(NamedTuple):
    """The state that optax has under this name since 0.2.6."""

    count: Any


class _MadgradState(NamedTuple):
    count: Any
    grad_sum_sq: Any
    s: Any
    x0: Any


MadgradState: Any = getattr(optax.contrib, "MadgradState", _MadgradState)
"""The state that later versions of optax have under this name."""


def add_decayed_weights(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None
) -> optax.GradientTransformation:
    """`optax.add_decayed_weights`, with schedules in every version.

    optax 0.2.5 takes none, and 0.2.6 asks one for its first value at every step.
    """
    if not callable(weight_decay):
        return optax.add_decayed_weights(weight_decay, mask)

    def init(params: Any) -> Any:
        state = optax.add_decayed_weights(weight_decay).init(params)
        return state or WeightDecaySchedule(jnp.zeros([], jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        now: Any = weight_decay(state.count)
        link = optax.add_decayed_weights(now)
        updates, _ = link.update(updates, optax.EmptyState(), params)
        return updates, state._replace(count=optax.safe_increment(state.count))

    tx = optax.GradientTransformation(init, update)
    return tx if mask is None else optax.masked(tx, mask)


def multi_steps(tx: optax.GradientTransformation, every: int) -> optax.MultiSteps:
    """`optax.MultiSteps`, in double precision where JAX has that on.

    After 0.2.5 it accumulates in float32 unless it is told another dtype.
    """
    if "accumulator_dtype" not in inspect.signature(optax.MultiSteps).parameters:
        return optax.MultiSteps(tx, every)
    return optax.MultiSteps(tx, every, accumulator_dtype=jnp.result_type(float))


def auto_axes(function: Any, **options: Any) -> Any:
    """`jax.sharding.auto_axes`, which is an experiment in JAX 0.6."""
    return _of_explicit_axes("auto_axes")(function, **options)


def reshard(x: Any, sharding: Any) -> Any:
    """`jax.sharding.reshard`, which is an experiment in JAX 0.6."""
    return _of_explicit_axes("reshard")(x, sharding)


def _of_explicit_axes(name: str) -> Any:
    known = getattr(jax.sharding, name, None)
    return known or getattr(importlib.import_module("jax.experimental.shard"), name)


def varying(x: Any) -> frozenset[str]:
    """The axes of `jax.shard_map` along which an array is known to differ between devices."""
    found: Any = jax.typeof(x)
    if hasattr(found, "vma"):  # before JAX 0.10
        return found.vma
    return found.manual_axis_type.varying if hasattr(found, "manual_axis_type") else frozenset()


def all_gathered(x: Any, axis_name: Any, axis: int) -> Any:
    """`jax.lax.all_gather` of parts along an axis; JAX knows it to be the same on all devices."""
    invariant: Any = getattr(jax.lax, "all_gather_invariant", None)  # before JAX 0.10
    if invariant is not None:
        return invariant(x, axis_name, axis=axis, tiled=True)
    return jax.lax.all_gather(x, axis_name, axis=axis, tiled=True, to="invarying")
