"""A pass as a call in a JAX program, on one device or on several."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.ffi
from jax.custom_batching import custom_vmap

from gdfx.onepass import reference
from gdfx.onepass.plan import Pass


def call(
    one: Pass, scalars: Sequence[Any], arrays: Sequence[Any], aliases: Mapping[int, int]
) -> Sequence[Any]:
    """The results of a pass."""
    mesh = jax.sharding.get_abstract_mesh()
    by_hand = len(mesh.manual_axes)  # inside `jax.shard_map`, where each device has its own part
    if 0 < by_hand < len(mesh.axis_names):
        return _in_xla(one, *scalars, *arrays)
    function = functools.partial(_call, one, aliases)
    if jax.device_count() > 1 and not by_hand:
        function = _partitioned(function, one)
    return _mapped_in_xla(function, one)(*scalars, *arrays)


def _in_xla(one: Pass, *operands: Any) -> tuple[Any, ...]:
    """The arithmetic of a pass."""
    scalars, arrays = operands[: len(one.scalars)], iter(operands[len(one.scalars) :])
    return tuple(
        result
        for region in one.regions
        for result in reference.run(region.loop, scalars, [next(arrays) for _ in region.arrays])
    )


def _mapped_in_xla(function: Any, one: Pass) -> Any:
    """The same; where it is vmapped, its arithmetic in XLA."""
    count = len(one.scalars)

    def rule(size: int, mapped: Sequence[bool], *operands: Any) -> Any:
        flags = iter(mapped[count:])
        out = tuple(
            depends
            for region in one.regions
            for depends in region.loop.depends(
                [*mapped[:count], *(next(flags) for _ in region.arrays)]
            )
        )
        axes = [[0 if is_mapped else None for is_mapped in flags] for flags in (mapped, out)]
        arithmetic = functools.partial(_in_xla, one)
        mapped_there = jax.vmap(arithmetic, axes[0], tuple(axes[1]), axis_size=size)
        return mapped_there(*operands), out

    wrapped = custom_vmap(function)
    wrapped.def_vmap(rule)
    return wrapped


def _call(one: Pass, aliases: Mapping[int, int], *operands: Any) -> tuple[Any, ...]:
    """On one device's part of each leaf."""
    count = len(one.scalars)
    like = []
    place = count
    for region in one.regions:
        first = jax.typeof(operands[place])
        like += [first.update(dtype=v.aval.dtype, weak_type=False) for v in region.results]
        place += len(region.arrays)
    results = jax.ffi.ffi_call(
        one.target,
        like,
        input_output_aliases={count + i: j for i, j in aliases.items()},
    )(*operands)
    return tuple(results)


def _partitioned(function: Any, one: Pass) -> Any:
    """The same, where each device takes its part of each leaf, as that array lies that is cut most.

    So of parameters that lie whole on each device, and a state that is dealt out, the state stays.
    """
    from jax.experimental.custom_partitioning import custom_partitioning
    from jax.sharding import NamedSharding, PartitionSpec

    of_arrays = [i for i, region in enumerate(one.regions) for _ in region.arrays]
    of_results = [i for i, region in enumerate(one.regions) for _ in region.results]
    count = len(one.scalars)

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        del result
        given = iter(arguments[count:])
        leaves = [[next(given) for _ in region.arrays] for region in one.regions]
        lies = [min(leaf, key=_part).sharding for leaf in leaves]
        everywhere = NamedSharding(mesh, PartitionSpec())
        into = (*[everywhere] * count, *(lies[i] for i in of_arrays))
        return mesh, function, tuple(lies[i] for i in of_results), into

    def infer(mesh: Any, arguments: Any, result: Any) -> Any:
        return partition(mesh, arguments, result)[2]

    axes = [
        " ".join(f"l{i}a{axis}" for axis in range(len(region.shape)))
        for i, region in enumerate(one.regions)
    ]
    into = ", ".join([*[""] * count, *(axes[i] for i in of_arrays)])
    wrapped = custom_partitioning(function)
    wrapped.def_partition(
        partition=partition,
        infer_sharding_from_operands=infer,
        sharding_rule=f"{into} -> {', '.join(axes[i] for i in of_results)}",
    )
    return wrapped


def _part(array: Any) -> int:
    """How many elements of an array lie on one device."""
    return math.prod(array.sharding.shard_shape(array.shape))
