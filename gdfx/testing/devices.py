"""Laws on several devices, and on the memories of one: where state and updates are laid out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from gdfx.testing.compare import compilations, same, same_kinds, shape_of
from gdfx.testing.draw import Run
from gdfx.testing.law import BrokenLawError, law
from gdfx.testing.needs import declares, several_devices, takes
from gdfx.testing.subject import Subject
from gdfx.testing.versions import set_mesh

contract = functools.partial(law, "devices", "contract")
courtesy = functools.partial(law, "devices", "courtesy")


def _on_devices(axis: AxisType) -> tuple[Any, Any, Any]:
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(axis,))
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(2 * jax.device_count(), 2)).astype(np.float32)
    return mesh, NamedSharding(mesh, PartitionSpec("x")), whole


@contract(("one array", "two layouts of one shape"), several_devices)
def sharding(subject: Subject, what: str) -> None:
    """On a mesh of explicit axes, state and updates are sharded as the parameters are.

    The sharding is part of an array's type there, which may not change; the updates equal those of
    one device.
    """
    mesh, sharding, whole = _on_devices(AxisType.Explicit)
    params, shardings = _several_on_devices(mesh, whole)
    if what == "one array":
        params = jax.device_put(whole, sharding)
    with set_mesh(mesh):
        state = jax.jit(subject.tx.init)(params)
        updates, new = subject.compiled.update(params, state, params)
    if what == "one array":
        for leaf in jax.tree.leaves((state, new, updates)):
            if leaf.shape == whole.shape and not leaf.sharding.is_equivalent_to(sharding, 2):
                raise BrokenLawError(
                    f"parameters are sharded as {sharding.spec}, but part of the new state or the "
                    f"updates is laid out as {leaf.sharding}"
                )
    else:
        _check_layout((state, new, updates), shardings, "the states and the updates")
    host = jax.tree.map(np.asarray, params)
    expected = subject.by_operation(Run(host, (host,)))
    same([updates], expected.updates, "the sharded update | the whole one", rtol=subject.rounded)


@contract((None,), declares("elementwise"), several_devices)
def shard_map(subject: Subject, case: None) -> None:
    """Inside `jax.shard_map` each device computes its part of the whole update.

    It is how steps with explicit communication are written.
    """
    del case
    mesh, sharding, whole = _on_devices(AxisType.Explicit)

    def first_update(x: Any) -> Any:
        return subject.tx.update(x, subject.tx.init(x), x)[0]

    spec = PartitionSpec("x")
    found = jax.jit(jax.shard_map(first_update, mesh=mesh, in_specs=spec, out_specs=spec))(
        jax.device_put(whole, sharding)
    )
    expected = subject.by_operation(Run(whole, (whole,)))
    same([found], expected.updates, "the update in parts | the whole one", rtol=subject.rounded)


# Of automatic axes, where the compiler chooses the layout.


@courtesy((None,), several_devices)
def sharded_init(subject: Subject, case: None) -> None:
    """From `jax.jit(init)`, what is like the parameters is sharded as they are; so are updates.

    Of zeros of a shape the compiler does not know where they belong: each device holds all of
    them, and the step, which moves them, is compiled twice.
    """
    del case
    mesh, _, whole = _on_devices(AxisType.Auto)
    params, shardings = _several_on_devices(mesh, whole)
    g = jax.tree.map(lambda x: x / 2, params)
    state = jax.jit(subject.tx.init)(params)
    laid_out = _check_layout(state, shardings, "the state from jax.jit(init)")
    step = jax.jit(subject.tx.update)
    updates, new = step(g, state, params)
    _check_layout((updates, new), shardings, "the updates and the new state")
    # Where no part of the state is like the parameters, JAX makes it without a look at them.
    if laid_out and compilations(lambda: step(g, new, params)):
        raise BrokenLawError("the step is compiled twice, for the state from jax.jit(init) and the "
                             "state from a step")  # fmt: skip
    host_params, host_g = jax.tree.map(np.asarray, (params, g))
    expected = subject.by_operation(Run(host_params, (host_g,))).updates
    same([updates], expected, "the sharded update | the whole one", rtol=subject.rounded)


@courtesy((None,), several_devices)
def init_from_sharded_shapes(subject: Subject, case: None) -> None:
    """``init`` on shapes that have a sharding lays out as they are what is like the parameters.

    A model too large for one device is laid out so, before there is an array.
    """
    del case
    mesh, _, whole = _on_devices(AxisType.Auto)
    params, shardings = _several_on_devices(mesh, whole)

    def shape(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    state = subject.tx.init(jax.tree.map(shape, params, shardings))
    _check_layout(state, shardings, "the state from shapes")


def _several_on_devices(mesh: Any, whole: np.ndarray) -> tuple[Any, Any]:
    """Parameters of one shape and several layouts, and their shardings."""
    matrix = np.tile(whole, (1, 2 * jax.device_count()))[:, : _matrix_shape()[1]]
    specs = {"rows": ("x",), "columns": (None, "x"), "copies": ()}
    shardings = {k: NamedSharding(mesh, PartitionSpec(*axes)) for k, axes in specs.items()}
    return {k: jax.device_put(matrix, s) for k, s in shardings.items()}, shardings


def _matrix_shape() -> tuple[int, int]:
    """Both axes can be divided among the devices; a factor for one of them has another shape."""
    return 2 * jax.device_count(), 3 * jax.device_count()


def _check_layout(tree: Any, shardings: Any, what: str) -> bool:
    """Every part that has the structure of the parameters has their layout.

    It returns whether there is one, and none that has other shapes than the parameters: what is
    one number for each row, say, belongs nowhere in particular. What belongs to copies on all
    devices may lie anywhere, too: compilers differ there.
    """
    structure = jax.tree.structure(shardings)

    def is_like(x: Any) -> bool:
        return jax.tree.structure(x) == structure

    def is_alike(x: Any) -> bool:
        return x.shape == _matrix_shape()

    parts = [part for part in jax.tree.leaves(tree, is_leaf=is_like) if is_like(part)]
    for part in parts:
        for name, sharding in shardings.items():
            if sharding.is_fully_replicated:
                continue
            x = part[name]
            if is_alike(x) and not x.sharding.is_equivalent_to(sharding, 2):
                raise BrokenLawError(
                    f"of {what}, a part that belongs to a parameter of layout {sharding.spec} "
                    f"is laid out as {x.sharding}"
                )
    return bool(parts) and all(is_alike(x) for part in parts for x in part.values())


def _pinned_memory(subject: Subject) -> str | None:
    """The law needs memory of the host that the device reaches, beside its own."""
    del subject
    device = jax.devices()[0]
    kinds = {memory.kind for memory in device.addressable_memories()}
    other = kinds - {device.default_memory().kind}
    return None if "pinned_host" in other else "the device has no pinned host memory"


@courtesy((None,), _pinned_memory)
def init_from_host_memory(subject: Subject, case: None) -> None:
    """`jax.jit(init)` takes parameters that lie in pinned host memory.

    Large models are kept there; arithmetic on them mixes memories, which JAX refuses.
    """
    del case
    device = jax.devices()[0]
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    on_host = jax.device_put(params, SingleDeviceSharding(device, memory_kind="pinned_host"))
    found, expected = jax.jit(subject.tx.init)(on_host), subject.tx.init(params)
    found, expected = (jax.tree.map(shape_of, state) for state in (found, expected))
    same_kinds(found, expected, "from host memory | from the device's")


# Randomness.


@courtesy((None,), declares("random"), takes("axis_name"), several_devices)
def shards_draw_apart(subject: Subject, case: None) -> None:
    """Inside `jax.shard_map`, given ``axis_name``, shards of equal data get noise of their own.

    The same noise on every device is noise of fewer numbers, and averages out less.
    """
    del case
    mesh, sharding, _ = _on_devices(AxisType.Explicit)
    tx = subject.make(axis_name="x")

    def first_update(p: Any, g: Any) -> Any:
        return tx.update(g, tx.init(p), p)[0]

    spec = PartitionSpec("x")
    apart = jax.jit(jax.shard_map(first_update, mesh=mesh, in_specs=spec, out_specs=spec))
    p, g = (jax.device_put(np.tile(x, jax.device_count()), sharding) for x in _narrow())
    parts = np.split(np.asarray(apart(p, g), np.float32), jax.device_count())
    if any((part == parts[0]).all() for part in parts[1:]):
        raise BrokenLawError("two shards of equal data have equal updates")


@courtesy((None,), declares("random"), several_devices)
def noise_of_one_device(subject: Subject, case: None) -> None:
    """Under `jax.jit`, sharded parameters get the noise that they get on one device.

    Otherwise the same key gives another run on another number of devices.
    """
    del case
    mesh, sharding, _ = _on_devices(AxisType.Explicit)
    whole = [np.tile(x, jax.device_count()) for x in _narrow()]
    p, g = (jax.device_put(x, sharding) for x in whole)
    with set_mesh(mesh):
        updates, _ = subject.compiled.update(g, jax.jit(subject.tx.init)(p), p)
    expected = subject.by_operation(Run(whole[0], (whole[1],))).updates
    same([updates], expected, "the sharded update | the whole one", rtol=subject.rounded)


@courtesy((None,), declares("random"))
def leaves_and_steps_draw_apart(subject: Subject, case: None) -> None:
    """Two leaves of equal data, and two steps, have noise of their own.

    Noise of one pattern, even if it fades, moves all layers alike and does not average out.
    """
    del case
    p, g = (np.full(256, x, jnp.bfloat16) for x in (1.0, 0.37))
    both = Run({"a": p, "b": p}, ({"a": g, "b": g},) * 2)
    first, second = subject.by_operation(both).updates
    for a, b, which in (
        (first["a"], first["b"], "two leaves of equal data"),
        (first["a"], second["a"], "two steps"),
    ):
        if np.linalg.norm(_pattern(a) - _pattern(b)) < 0.1:  # of noise of their own it is √2
            raise BrokenLawError(f"{which} have noise of one pattern")


def _pattern(u: Any) -> np.ndarray:
    """What equal data leave of noise: its parts about their mean, of length 1."""
    x = np.asarray(u, np.float64)
    x -= x.mean()
    return x / max(np.linalg.norm(x), np.finfo(np.float64).tiny)


def _narrow() -> tuple[np.ndarray, np.ndarray]:
    """Parameters and gradients in bfloat16, where rounding too can be at random."""
    rng = np.random.default_rng(0)
    return np.ones(16, jnp.bfloat16), rng.normal(size=16).astype(jnp.bfloat16)
