"""Arrays in parts: which of their axes the devices of a mesh share, and the way there and back.

Where the compiler places arrays, and where a mesh has explicit axes, an array in parts is a whole
one that lies so; inside `jax.shard_map` it is the part of one device.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gdfx.core.check import at
from gdfx.core.versions import all_gathered, reshard, varying
from gdfx.core.words import listed, nearest

Dims = Mapping[str, int]
"""Which axis of a leaf is shared, by its path; leaves that stay whole are not there."""


@dataclass(frozen=True)
class Parts:
    """An axis of a mesh, or several as one, and which arrays its devices share."""

    who: str
    mesh: Any  # Mesh; AbstractMesh, to look at shapes
    names: tuple[str, ...]
    specs: Any
    min_size: int
    uneven: str

    def __post_init__(self) -> None:
        """Refuse names that the mesh does not have."""
        for name in self.names:
            self._check_name("axis", name)

    def __reduce__(self) -> Any:
        """By the numbers of the devices, which another program finds again."""
        mesh = self.mesh
        ids = np.vectorize(lambda device: device.id)(mesh.devices)
        devices = ids, mesh.axis_names, mesh.axis_types
        rest = self.names, self.specs, self.min_size, self.uneven
        return _rebuilt, (self.who, devices, rest)

    def _check_name(self, argument: str, name: str) -> None:
        known = self.mesh.axis_names
        if name not in known:
            raise ValueError(
                f"{self.who}: {argument} names {name!r}, which is no axis of the mesh; "
                f"{nearest(name, known)}"
            )

    @property
    def count(self) -> int:
        """Over how many devices an array is spread."""
        return math.prod(self.mesh.shape[name] for name in self.names)

    @property
    def inside(self) -> bool:
        """Whether it is the code of one device, in `jax.shard_map` over these axes."""
        manual = set(jax.sharding.get_abstract_mesh().manual_axes) & set(self.names)
        if manual and manual != set(self.names):
            raise ValueError(
                f"{self.who}: of the axes {listed(self.names)}, jax.shard_map is given only "
                f"{listed(sorted(manual))}; give it all"
            )
        return bool(manual)

    def dims(self, tree: Any) -> Dims:
        """Which axis of each leaf is shared."""
        rows = jax.tree_util.tree_leaves_with_path(tree)
        specs = self._specs(tree)
        found = {
            at(path): self._dim(at(path), x, spec)
            for (path, x), spec in zip(rows, specs, strict=True)
        }
        return {path: dim for path, dim in found.items() if dim is not None}

    def _specs(self, tree: Any) -> list[Any]:
        """How each leaf lies otherwise, as far as that was said."""
        if self.specs is None:
            return [None] * len(jax.tree.leaves(tree))

        def spread(spec: Any, under: Any) -> Any:
            return jax.tree.map(lambda _: _Said(spec), under)

        try:
            said = jax.tree.map(spread, self.specs, tree, is_leaf=_is_spec)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.who}: specs must be a PartitionSpec, or a tree of them like the "
                f"parameters or like its first levels: {error}"
            ) from None
        return [said.spec for said in jax.tree.leaves(said, is_leaf=lambda x: isinstance(x, _Said))]

    def _dim(self, path: str, x: Any, said: Any) -> int | None:
        if said is not None:
            spec = self._checked_spec(path, x, said)
            return self._chosen(path, x, spec)
        spec, told = _spec(x)
        dim = self._chosen(path, x, spec)
        if not told and any(spec) and dim != self._chosen(path, x, (None,) * len(spec)):
            raise ValueError(
                f"{self.who}: parameter {path} lies as {_written(spec)}, which is not to be seen "
                "inside jax.jit; say so by specs, a PartitionSpec for each parameter"
            )
        return dim

    def _checked_spec(self, path: str, x: Any, said: Any) -> tuple[Any, ...]:
        if not _is_spec(said):
            raise TypeError(
                f"{self.who}: specs has {type(said).__name__} for {path}, not a PartitionSpec"
            )
        if len(said) > np.ndim(x):
            raise ValueError(
                f"{self.who}: specs has {_written(said)} for {path}, which has shape {np.shape(x)}"
            )
        for name in _names(said):
            self._check_name(f"specs for {path}", name)
        return (*said, *[None] * (np.ndim(x) - len(said)))

    def _chosen(self, path: str, x: Any, spec: tuple[Any, ...]) -> int | None:
        """The longest of the axes that are not cut otherwise and that the devices share evenly."""
        shape, taken = np.shape(x), set(_names(spec))
        manual = set(jax.sharding.get_abstract_mesh().manual_axes)
        size = math.prod(shape) * math.prod(self.mesh.shape[name] for name in taken & manual)
        if taken & set(self.names) or self.apart(x) or not shape or size < max(self.min_size, 1):
            return None  # it is in parts already, or is to stay whole
        free = [i for i, names in enumerate(spec) if names is None]
        even = [i for i in free if shape[i] and shape[i] % self.count == 0]
        if even:
            return max(even, key=lambda i: shape[i])
        if self.uneven == "refuse":
            raise ValueError(
                f"{self.who}: parameter {path} of shape {shape} has no axis that the {self.count} "
                f"devices of {self._axes} share evenly; pad it, or let "
                'every device hold it whole by uneven="whole" or by a larger min_size'
            )
        return None

    # There and back.

    def cut(self, x: Any, dim: int) -> Any:
        """An array of which every device has all numbers, as one that they share."""
        if not self.inside:
            return self._placed(x, dim, self.names)
        length = x.shape[dim] // self.count
        return lax.dynamic_slice_in_dim(x, lax.axis_index(self.names) * length, length, dim)

    def apart(self, x: Any) -> bool:
        """Whether it is known to differ between the devices, inside `jax.shard_map`."""
        return self.inside and not set(self.names).isdisjoint(varying(x))

    def gradient(self, path: str, g: Any, like: Any, dim: int | None, how: str | None) -> Any:
        """The gradient of the whole batch, in parts if there is an axis to share.

        Under `jax.jit` it is that already; inside `jax.shard_map`, ``how`` tells how to make it,
        and parameters ``like`` those that all devices have must be known to be so.
        """
        if not self.inside or how is None:
            if self.apart(g) and not self.apart(like):
                raise ValueError(
                    f"{self.who}: gradient {path} differs between the devices of {self._axes}; say "
                    'how to make one of them, reduce="mean" or reduce="sum"'
                )
            return g if dim is None else self.cut(g, dim)
        if self.apart(like):
            raise ValueError(
                f"{self.who}: parameter {path} differs between the devices of {self._axes}, and "
                "reduce is for those that all have; give update the parameters as they were before "
                "jax.lax.pcast"
            )
        known = self.apart(lax.axis_index(self.names))  # whether JAX keeps account of it
        if known and not self.apart(g):
            raise ValueError(
                f"{self.who}: gradient {path} is the same on all devices of {self._axes} already: "
                "inside jax.shard_map, jax.grad by parameters that all have is the sum; leave out "
                "reduce, or differentiate by parameters after jax.lax.pcast(..., to='varying')"
            )
        if dim is None:
            return lax.pmean(g, self.names) if how == "mean" else lax.psum(g, self.names)
        part = lax.psum_scatter(g, self.names, scatter_dimension=dim, tiled=True)
        return part / self.count if how == "mean" else part

    @property
    def _axes(self) -> str:
        return listed([repr(name) for name in self.names])

    def whole(self, x: Any, dim: int, like: Any) -> Any:
        """An array in parts, as every device has all of it, or as ``like`` lies."""
        if self.inside:
            return all_gathered(x, self.names, dim)
        spec, explicit = _spec(like)
        return self._placed(x, dim, spec[dim] if explicit else None)

    def mesh_of(self, x: Any) -> Any:
        """The mesh on which an array lies; where there is none, the axes are the compiler's."""
        own = getattr(_sharding(x), "mesh", None)
        if isinstance(own, Mesh) and set(self.names) <= set(own.axis_names):
            return own
        return self.mesh if isinstance(x, jax.ShapeDtypeStruct) else _without_types(self.mesh)

    def on_mesh(self, x: Any, like: Any) -> Any:
        """What every device has, on the mesh of the parameters, so that a step is compiled once."""
        alone = isinstance(x, jax.Array) and not isinstance(x, Tracer) and not _lies_on_mesh(x)
        if not alone:
            return x
        return jax.device_put(x, NamedSharding(self.mesh_of(like), PartitionSpec()))

    def _placed(self, x: Any, dim: int, names: Any) -> Any:
        """The array, whose axis lies along these axes of the mesh, and the others as they do."""
        names = names[0] if isinstance(names, tuple) and len(names) == 1 else names
        spec, _ = _spec(x)
        axes = [*spec[:dim], names, *spec[dim + 1 :]]
        mesh = _mesh(x, self.names)
        if isinstance(x, jax.ShapeDtypeStruct):
            sharding = NamedSharding(self.mesh, PartitionSpec(*axes))
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        if not isinstance(x, Tracer):
            return jax.device_put(x, NamedSharding(self.mesh_of(x), PartitionSpec(*axes)))
        if mesh is not None and AxisType.Explicit in _kinds(mesh, self.names):
            return reshard(x, NamedSharding(mesh, PartitionSpec(*axes)))
        free = [PartitionSpec.UNCONSTRAINED] * x.ndim
        return constrained(x, self.mesh, PartitionSpec(*free[:dim], names, *free[dim + 1 :]))


def _rebuilt(who: str, devices: Any, rest: Any) -> Parts:
    ids, names, kinds = devices
    known = {device.id: device for device in jax.devices()}
    found = np.vectorize(known.__getitem__, otypes=[object])(ids)
    return Parts(who, Mesh(found, names, axis_types=kinds), *rest)


def constrained(x: jax.Array, mesh: Any, spec: PartitionSpec) -> jax.Array:
    """``x``, for the compiler to place so."""
    inside = not jax.sharding.get_abstract_mesh().empty  # a context has a mesh already
    if isinstance(mesh, Mesh):
        mesh = _without_types(mesh)
    return lax.with_sharding_constraint(x, spec if inside else NamedSharding(mesh, spec))


def _without_types(mesh: Mesh) -> Mesh:
    """The same devices, whose axes are all the compiler's to use."""
    return Mesh(mesh.devices, mesh.axis_names)


@dataclass(frozen=True)
class _Said:
    spec: Any


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)


def _written(spec: Iterable[Any]) -> str:
    return f"P({', '.join(map(repr, spec))})"


def _names(spec: Iterable[Any]) -> Iterable[str]:
    for entry in spec:
        yield from entry if isinstance(entry, tuple) else [entry] if isinstance(entry, str) else []


def _lies_on_mesh(x: Any) -> bool:
    return isinstance(x.sharding, NamedSharding)


def _mesh(x: Any, names: Iterable[str]) -> Any:
    """The mesh on which an array lies, or that of the context, if it has these axes."""
    own = getattr(_sharding(x), "mesh", None)
    for mesh in (own, jax.sharding.get_abstract_mesh()):
        if mesh is not None and set(names) <= set(mesh.axis_names):
            return mesh
    return None


def _kinds(mesh: Any, names: Iterable[str]) -> list[AxisType]:
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return [kinds[name] for name in names if name in kinds]


def _sharding(x: Any) -> Any:
    return jax.typeof(x).sharding if isinstance(x, Tracer) else getattr(x, "sharding", None)


def _spec(x: Any) -> tuple[tuple[Any, ...], bool]:
    """Along which axes of a mesh each axis of an array lies, and whether its type tells."""
    sharding, none = _sharding(x), (None,) * np.ndim(x)
    if not isinstance(sharding, NamedSharding):
        return none, False
    explicit = AxisType.Explicit in _kinds(sharding.mesh, sharding.mesh.axis_names)
    if isinstance(x, Tracer) and not explicit:
        return none, False  # what there is, is the compiler's to know
    return (*sharding.spec, *none[len(sharding.spec) :]), explicit
