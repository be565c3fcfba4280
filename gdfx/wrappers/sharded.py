"""State and work of an optimizer in parts, one for each device of a mesh axis.

Samyam Rajbhandari, Jeff Rasley, Olatunji Ruwase, Yuxiong He, "ZeRO: Memory Optimizations Toward
Training Trillion Parameter Models", 2019, arXiv:1910.02054: its stages 1 and 2.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh

from gdfx.core.arguments import Choice, Count, Optional, checked, describe
from gdfx.core.check import at
from gdfx.core.codes import QuantizedArray
from gdfx.core.inner import extended
from gdfx.core.parts import Dims, Parts
from gdfx.core.precision import is_inexact
from gdfx.core.table import Table
from gdfx.core.trees import standing, with_gradients


class _MeshRule:
    """The devices, by the names of their axes."""

    def __str__(self) -> str:
        return 'a jax.sharding.Mesh, as jax.make_mesh((8,), ("data",)) makes it'

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a mesh of devices."""
        if not isinstance(value, Mesh):
            raise TypeError(f"{method}: {argument} must be {self}, got {describe(value)}")


class _AnyMeshRule(_MeshRule):
    """The same, or such names alone."""

    def __str__(self) -> str:
        return "a jax.sharding.Mesh or AbstractMesh"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a mesh."""
        if not isinstance(value, AbstractMesh):
            super().check(method, argument, value)


class _SpecsRule:
    """How parameters lie otherwise; looked at where they are given."""

    def __str__(self) -> str:
        return "None, a PartitionSpec, or a tree of them"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Nothing can be said without the parameters."""


class _AxisRule:
    """The name of an axis, or of several."""

    def __str__(self) -> str:
        return "the name of an axis of the mesh, or a tuple of such names"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a name or a tuple of at least one."""
        names: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(f"{method}: {argument} must be {self}, got {describe(value)}")


_OPTIONS = {
    "mesh": _MeshRule(),
    "specs": _SpecsRule(),
    "axis": _AxisRule(),
    "min_size": Count(),
    "uneven": Choice("refuse", "whole"),
}


def _parts(
    who: str, mesh: Any, axis: str | tuple[str, ...], specs: Any, min_size: int, uneven: str
) -> Parts:
    """What the devices of an axis share, by the arguments of `sharded`."""
    names = axis if isinstance(axis, tuple) else (axis,)
    return Parts(who, mesh, names, specs, min_size, uneven)


@checked(**_OPTIONS, reduce=Optional(Choice("mean", "sum")))
def sharded(
    tx: optax.GradientTransformation,
    mesh: Mesh,
    axis: str | tuple[str, ...] = "data",
    specs: Any = None,
    min_size: int = 4096,
    uneven: str = "refuse",
    reduce: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Let each device of a mesh axis hold and make its part of the optimizer's work.

    ::

        (1) gᵢ = part i of the mean of all gradients       reduce-scatter; ZeRO, stage 2
        (2) uᵢ, sᵢ = tx(gᵢ, sᵢ, Wᵢ)                        device i holds sᵢ; ZeRO, stage 1
        (3) u = (u₁, …, uₙ)                                all-gather

    The parameters are the same on all n devices of the axis, or lie otherwise along other axes.
    Of each array the longest axis that n divides is cut into n parts. So the state takes 1/n of the
    memory on each device, a step 1/n of the work, and what is sent is what a mean of the gradients
    costs without this.

    Under `jax.jit` the parts are only how arrays lie, and any optimizer goes on as on one device:
    clipping by the global norm, layers, matrices. Each array has its own shape, the state is that
    of ``tx``, and is stored and restored as such. Inside `jax.shard_map` a device sees its part and
    nothing else, so there ``tx`` must treat each coordinate alone; sums are refused.

    Args:
      tx: the optimizer, gdfx's, optax's or any other. Methods of matrices want
        ``over=NamedSharding(mesh, PartitionSpec(axis))``, to work on whole matrices.
      mesh: the devices.
      axis: the axis of the mesh over which batches are spread, or a tuple of several.
      specs: how the parameters lie along other axes of the mesh: a `jax.sharding.PartitionSpec`,
        or a tree of them like the parameters or its first levels. None: not at all, or as their
        type tells, in a mesh of explicit axes. Parameters that lie along ``axis`` itself, as in
        fully sharded training, stay as they are, and so does their state.
      min_size: arrays of fewer numbers stay whole on every device: to send them would take longer.
      uneven: what becomes of a larger array of which n divides no axis: ``"refuse"`` it, or leave
        it ``"whole"`` on every device. `gdfx.shard_table` prints what stays whole.
      reduce: inside `jax.shard_map`, where each device has the gradient of its own part of the
        batch: how to make one of them, ``"mean"`` or ``"sum"``. None: all devices have the same
        gradient.

    Returns:
      An optimizer with the states of ``tx``. Call ``init`` outside of `jax.jit`, where parameters
      and shapes tell how they lie, or inside. The updates lie as the parameters do.

    Raises:
      TypeError, ValueError: for a mesh without that axis and other arguments out of range; by
        ``init`` and ``update``, with the path, for arrays that the devices cannot share evenly,
        and inside `jax.shard_map` for gradients that ``reduce`` does not fit, a state in codes and
        a ``tx`` that sums over an array.

    Differs: in the paper a device holds a stretch of all parameters in one row. Here it holds a
    part of each array, which keeps its axes, so that layers and matrices are still there.

    Reference: arXiv:1910.02054, sections 5.1 and 5.2; Xu et al. 2020, arXiv:2004.13336, who let a
    compiler do it.

    See also: `gdfx.shard_table`; `gdfx.quantized`, to be put inside.

    >>> import gdfx, jax, jax.numpy as jnp
    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> w = {"w": jnp.ones((64, 128)), "b": jnp.zeros(64)}
    >>> tx = gdfx.sharded(gdfx.adam(1e-3), mesh, "data")
    >>> state = tx.init(w)
    >>> state[0].nu["w"].sharding.spec[1]
    'data'
    >>> updates, state = jax.jit(tx.update)(w, state, w)
    """
    inner = extended(tx)
    parts = _parts("sharded", mesh, axis, specs, min_size, uneven)
    # What else a state holds, such as factors of matrices, is shared where it can be.
    others = replace(parts, specs=None, uneven="whole")

    def cut(tree: Any, dims: Dims) -> Any:
        return _map(lambda path, x: parts.cut(x, dims[path]) if path in dims else x, tree)

    def state_in_parts(state: Any, params: Any, dims: Dims) -> Any:
        if parts.inside:
            return state  # it was made of parts
        leaves, structure = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_quantized)
        first = next(iter(jax.tree.leaves(params)), None)
        own = {at(path): at(end) for path, _, end in standing(leaves, params)}

        def one(path: Any, x: Any) -> Any:
            if _is_quantized(x):
                return _codes_in_parts(parts, path, x, dims.get(own.get(at(path), "")))
            if at(path) in own:
                dim = dims.get(own[at(path)])
            elif is_inexact(x):
                dim = others.dims(x).get(at(()))
            else:
                dim = None
            if dim is not None:
                return parts.cut(x, dim)
            return parts.on_mesh(x, first) if dims else x

        return structure.unflatten([one(path, x) for path, x in leaves])

    def init(params: optax.Params) -> optax.OptState:
        dims = parts.dims(params)
        return state_in_parts(inner.init(cut(params, dims)), params, dims)

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        like = updates if params is None else with_gradients(updates, params)
        if reduce is not None and not parts.inside:
            raise ValueError(
                "sharded: reduce is for the gradients of one device inside jax.shard_map; under "
                "jax.jit they are those of the whole batch: leave it out"
            )
        dims = parts.dims(like)
        place = dict(_with_paths(like))

        def gradient(path: str, x: Any) -> Any:
            return parts.gradient(path, x, place.get(path, x), dims.get(path), reduce)

        g = _map(gradient, updates)
        p = None if params is None else cut(like, dims)
        if parts.inside:
            _refuse_what_mixes(inner, g, state, p, extra_args, axes=parts.names, any_cut=bool(dims))
        u, new = inner.update(g, state, p, **extra_args)
        u = _map(lambda path, x: parts.whole(x, dims[path], place[path]) if path in dims else x, u)
        return u, state_in_parts(new, like, dims)

    return optax.GradientTransformationExtraArgs(init, update)


@dataclass(frozen=True)
class ShardRow:
    """One leaf, and which of its axes is shared."""

    path: str
    """Where it stands in the tree."""

    shape: tuple[int, ...]
    """The leaf's."""

    dim: int | None
    """The axis of the leaf that is cut into parts; None: it is left as it is."""

    numbers: int
    """How many numbers each device has, of each accumulator."""

    def cells(self) -> tuple[str, ...]:
        """The columns of the table, as text."""
        cut = "whole" if self.dim is None else f"axis {self.dim}"
        return self.path, str(tuple(map(int, self.shape))), cut, f"{self.numbers:,}"


@dataclass(frozen=True, repr=False)
class ShardTable(Table):
    """What the devices of a mesh axis share of each leaf of a model.

    Printed, it is a plain table of at most 80 columns; a notebook shows it as its own.
    """

    head: ClassVar[tuple[str, ...]] = ("path", "shape", "shared", "numbers a device")

    rows: tuple[ShardRow, ...]
    """One for each leaf, in the tree's order."""

    @property
    def totals(self) -> str:
        """How many leaves are shared, and what is left to a device, in one sentence."""
        whole = sum(math.prod(row.shape) for row in self.rows)
        held = sum(row.numbers for row in self.rows)
        return (
            f"{sum(row.dim is not None for row in self.rows)} of {len(self.rows)} leaves are "
            f"shared: a device has {held:,} of {whole:,} numbers, one in "
            f"{whole / max(held, 1):.3g}."
        )


@checked(**_OPTIONS | {"mesh": _AnyMeshRule()})
def shard_table(
    params: optax.Params,
    mesh: Mesh | AbstractMesh,
    axis: str | tuple[str, ...] = "data",
    specs: Any = None,
    min_size: int = 4096,
    uneven: str = "whole",
) -> ShardTable:
    """Which axis of each leaf the devices share, and how much a device holds.

    Args:
      params: the parameters, or their shapes as `jax.eval_shape` gives them.
      mesh: the devices, or a `jax.sharding.AbstractMesh` of devices that are not here.
      axis, specs, min_size, uneven: as `gdfx.sharded` has them.

    Returns:
      A table: printed, plain text; ``rows`` has the same as data.

    Raises:
      TypeError, ValueError: as `gdfx.sharded`.

    >>> import gdfx, jax, jax.numpy as jnp
    >>> shapes = {"w": jax.ShapeDtypeStruct((784, 128), jnp.float32),
    ...           "b": jax.ShapeDtypeStruct((128,), jnp.float32)}
    >>> gdfx.shard_table(shapes, jax.sharding.AbstractMesh((8,), ("data",)))
    path   shape       shared  numbers a device
    -------------------------------------------
    ['b']  (128,)       whole               128
    ['w']  (784, 128)  axis 0            12,544
    <BLANKLINE>
    1 of 2 leaves are shared: a device has 12,672 of 100,480 numbers, one in 7.93.
    """
    parts = _parts("shard_table", mesh, axis, specs, min_size, uneven)
    dims = parts.dims(params)
    rows: list[ShardRow] = []
    for path, x in _with_paths(params):
        shape, dim = np.shape(x), dims.get(path)
        numbers = math.prod(shape) // (1 if dim is None else parts.count)
        rows.append(ShardRow(path, shape, dim, numbers))
    return ShardTable(tuple(rows))


def _with_paths(tree: Any) -> list[tuple[str, Any]]:
    return [(at(path), x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]


def _map(function: Any, tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, x: function(at(path), x), tree)


def _is_quantized(x: Any) -> bool:
    return isinstance(x, QuantizedArray)


def _codes_in_parts(parts: Parts, path: Any, x: QuantizedArray, dim: int | None) -> QuantizedArray:
    """Codes and scales, whose first axes are the cuts of the array."""
    if dim is None:
        return x
    if x.codes.shape[dim] % parts.count:
        cuts = x.codes.shape[dim]
        raise ValueError(
            f"sharded: the state {at(path)} is held in codes, in {cuts} part{'s' * (cuts != 1)}, "
            f"which {parts.count} devices cannot share, as blocks end with a part; call init "
            "outside of jax.jit, or make codes for these devices of the state that "
            "gdfx.dequantize_state returns, by gdfx.quantize_state"
        )
    return replace(x, codes=parts.cut(x.codes, dim), scales=parts.cut(x.scales, dim))


# Inside `jax.shard_map`.

_MIXING = re.compile(
    "arg(max|min)|cholesky|conv_general_dilated|cum.*|dot_general|eigh?|fft|lu|qr|"
    "reduce_(and|max|min|or|prod|sum|xor)|rev|schur|sort|svd|top_k|triangular_solve"
)


def _refuse_what_mixes(
    inner: Any, g: Any, state: Any, p: Any, extra: Any, *, axes: Any, any_cut: bool
) -> None:
    """Refuse an optimizer that would take the part of a device for the whole array."""
    for path, x in jax.tree_util.tree_leaves_with_path(state, is_leaf=_is_quantized):
        if _is_quantized(x):
            raise ValueError(
                f"sharded: the state {at(path)} is held in codes, which know the shape of the "
                "whole array; inside jax.shard_map they cannot be used, under jax.jit they can"
            )
    if not any_cut:
        return
    program = jax.make_jaxpr(lambda *args: inner.update(*args, **extra))(g, state, p)
    for name, size in _mixing(program.jaxpr):
        if size > 1:
            raise ValueError(
                f"sharded: inside jax.shard_map over {', '.join(axes)} a device has its part of "
                f"each array, but this optimizer looks at whole ones ({name}); take the step under "
                "jax.jit, where it is right"
            )


def _mixing(jaxpr: Any) -> Any:
    """Operations that make a number of several ones, each with how many it is given."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if _MIXING.fullmatch(name):
            yield name, eqn.invars[0].aval.size
        for inside in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inside):
                yield from _mixing(getattr(inside, "jaxpr", inside))


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")
