"""A pass as a call in a JAX program, on one device or on several."""

import functools
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
    function = functools.partial(_call, one, aliases)
    if jax.device_count() > 1 and not _by_hand():
        function = _partitioned(function, one)
    return _mapped_in_xla(function, one)(*scalars, *arrays)


def _mapped_in_xla(function: Any, one: Pass) -> Any:
    """The same; where it is vmapped, its arithmetic in XLA."""
    count = len(one.scalars)

    def arithmetic(*operands: Any) -> tuple[Any, ...]:
        arrays = iter(operands[count:])
        return tuple(
            result
            for region in one.regions
            for result in reference.run(
                region.loop, operands[:count], [next(arrays) for _ in region.arrays]
            )
        )

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
        in_xla = jax.vmap(arithmetic, in_axes=axes[0], out_axes=tuple(axes[1]), axis_size=size)
        return in_xla(*operands), out

    wrapped = custom_vmap(function)
    wrapped.def_vmap(rule)
    return wrapped


def _by_hand() -> bool:
    """Whether each device computes its own part already, inside `jax.shard_map`."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


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
    """The same, where each device takes its part of each leaf, as the leaf's first array lies."""
    from jax.experimental.custom_partitioning import custom_partitioning
    from jax.sharding import NamedSharding, PartitionSpec

    firsts = [0]
    for region in one.regions:
        firsts.append(firsts[-1] + len(region.arrays))
    of_arrays = [i for i, region in enumerate(one.regions) for _ in region.arrays]
    of_results = [i for i, region in enumerate(one.regions) for _ in region.results]
    count = len(one.scalars)

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        del result
        lies = [arguments[count + i].sharding for i in firsts[:-1]]
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
