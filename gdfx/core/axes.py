"""Which axes of a leaf make a matrix: rows are outputs, columns are inputs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

Axes = int | Sequence[int]


@dataclass(frozen=True)
class MatrixAxes:
    """Which axes of an array are inputs, outputs and copies of a matrix.

    Rows are outputs, columns are inputs: the matrix of a dense layer's kernel of shape
    (inputs, outputs) is its transpose. Several axes are merged in the order given.

    >>> import gdfx
    >>> gdfx.MatrixAxes()                                         # a kernel (inputs, outputs)
    MatrixAxes(inputs=(0,), outputs=(1,), batch=(), blocks=())
    >>> conv = gdfx.MatrixAxes(inputs=(0, 1, 2), outputs=3)       # a kernel (h, w, inputs, outputs)
    >>> layers = gdfx.MatrixAxes(inputs=1, outputs=2, batch=0)    # (layers, inputs, outputs)
    >>> qkv = gdfx.MatrixAxes(blocks={1: 3})                      # (inputs, 3 · outputs), fused
    """

    inputs: Axes = (0,)
    """The axes over which a layer sums; negative ones count from the end."""

    outputs: Axes = (1,)
    """The axes that a layer gives out."""

    batch: Axes = ()
    """The axes along which independent copies lie: layers, experts, heads."""

    blocks: Mapping[int, Axes] | Sequence[tuple[int, Axes]] = ()
    """Along an axis, how many equal blocks, or the size of each: every block is a matrix of its
    own, as in a fused projection of queries, keys and values."""

    def __post_init__(self) -> None:
        """Hold everything as tuples: equal axes are equal, and can be looked up."""
        for name in ("inputs", "outputs", "batch"):
            object.__setattr__(self, name, _tuple(getattr(self, name)))
        object.__setattr__(self, "blocks", _blocks(self))


def _blocks(axes: MatrixAxes) -> tuple[tuple[int, int | tuple[int, ...]], ...]:
    pairs = axes.blocks.items() if isinstance(axes.blocks, Mapping) else axes.blocks
    return tuple((axis, n if isinstance(n, int) else tuple(n)) for axis, n in pairs)


def _tuple(axes: Axes) -> tuple[int, ...]:
    return (axes,) if isinstance(axes, int) else tuple(axes)


@dataclass(frozen=True)
class Placement:
    """How the matrices of one leaf lie in it."""

    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    batch: tuple[int, ...]
    equal: tuple[tuple[int, int], ...]
    """Axes in blocks of one size, and how many."""
    unequal: tuple[tuple[int, tuple[int, ...]], ...]
    """Axes in blocks of several sizes."""

    def matrices(self, x: jax.Array) -> list[jax.Array]:
        """The leaf as arrays (copies..., rows, columns): one, or one for each unequal block."""
        return [self._stack(piece) for piece in self._split(x)]

    def leaf(self, stacks: Sequence[jax.Array]) -> jax.Array:
        """The leaf again."""
        return self._joined(
            [self._piece(x, s) for x, s in zip(stacks, self._shapes(), strict=True)]
        )

    def sizes(self) -> list[tuple[tuple[int, ...], int, int]]:
        """Of each of `matrices` the copies' shape, the rows and the columns."""
        return [self._sizes(shape) for shape in self._shapes()]

    def _shapes(self) -> list[tuple[int, ...]]:
        """Those of what `_split` returns."""
        shapes = [self.shape]
        for axis, sizes in self.unequal:
            shapes = [(*s[:axis], n, *s[axis + 1 :]) for s in shapes for n in sizes]
        return shapes

    def _split(self, x: jax.Array) -> list[jax.Array]:
        pieces = [x]
        for axis, sizes in self.unequal:
            cuts = np.cumsum(sizes)[:-1].tolist()
            pieces = [part for piece in pieces for part in jnp.split(piece, cuts, axis)]
        return pieces

    def _joined(self, pieces: list[jax.Array]) -> jax.Array:
        for axis, sizes in reversed(self.unequal):
            n = len(sizes)
            runs = [pieces[i : i + n] for i in range(0, len(pieces), n)]
            pieces = [jnp.concatenate(run, axis) for run in runs]
        return pieces[0]

    def _sizes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        split, order = self._order(shape)
        moved = [split[i] for i in order]
        copies = len(self.batch) + len(self.equal)
        rows = copies + len(self.outputs)
        return tuple(moved[:copies]), math.prod(moved[copies:rows]), math.prod(moved[rows:])

    def _order(self, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """The shape with equal blocks on axes of their own, and its axes in the stack's order."""
        counts = dict(self.equal)
        split: list[int] = []
        place: dict[int, int] = {}
        block: dict[int, int] = {}
        for axis, size in enumerate(shape):
            if axis in counts:
                block[axis] = len(split)
                split.append(counts[axis])
                size //= counts[axis]
            place[axis] = len(split)
            split.append(size)
        order = [place[a] for a in self.batch] + [block[a] for a, _ in self.equal]
        return split, order + [place[a] for a in (*self.outputs, *self.inputs)]

    def _stack(self, x: jax.Array) -> jax.Array:
        split, order = self._order(x.shape)
        lead, rows, columns = self._sizes(x.shape)
        return x.reshape(split).transpose(order).reshape(*lead, rows, columns)

    def _piece(self, stack: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        split, order = self._order(shape)
        moved = stack.reshape([split[i] for i in order])
        return moved.transpose(np.argsort(order).tolist()).reshape(shape)


def placement(method: str, path: str, shape: tuple[int, ...], axes: MatrixAxes) -> Placement:
    """How the matrices of a leaf lie in it; axes that do not fit its shape are refused."""

    def wrong(words: str) -> ValueError:
        return ValueError(f"{method}: {path} has shape {shape}, but {axes} {words}")

    n = len(shape)
    groups: list[tuple[int, ...]] = [_tuple(axes.inputs), _tuple(axes.outputs), _tuple(axes.batch)]
    blocks = _blocks(axes)
    named = [a for group in groups for a in group]
    for a in (*named, *(a for a, _ in blocks)):
        if not -n <= a < n:
            raise wrong(f"names axis {a}")
    placed = [[a % n for a in group] for group in groups]
    flat = sorted(a for group in placed for a in group)
    if flat != list(range(n)):
        raise wrong(f"does not name each of its {n} axes once")
    if not (groups[0] and groups[1]):
        raise wrong("has no outputs" if groups[0] else "has no inputs")
    equal: list[tuple[int, int]] = []
    unequal: list[tuple[int, tuple[int, ...]]] = []
    in_blocks = [a % n for a, _ in blocks]
    for (_, count), axis in zip(blocks, in_blocks, strict=True):
        if in_blocks.count(axis) > 1:
            raise wrong(f"has blocks of axis {axis} twice")
        sizes = (shape[axis] // max(count, 1),) * count if isinstance(count, int) else count
        if sum(sizes) != shape[axis] or min(sizes, default=0) < 1:
            raise wrong(f"has blocks that do not make up the {shape[axis]} of axis {axis}")
        if len(set(sizes)) == 1:
            equal.append((axis, len(sizes)))
        else:
            unequal.append((axis, tuple(sizes)))
    inputs, outputs, batch = map(tuple, placed)
    return Placement(shape, inputs, outputs, batch, tuple(equal), tuple(unequal))
