"""What becomes of the leaves of a model, as a table: what a method of matrices makes of them."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from gdfx.core.check import at
from gdfx.core.layouts import Matrices, resolved
from gdfx.core.spectral import Scale, shape_factor

WIDTH = 80


@dataclass(frozen=True)
class MatrixRow:
    """One leaf; one of its blocks, where they differ in size."""

    path: str
    """Where it stands in the tree."""

    shape: tuple[int, ...]
    """The leaf's."""

    matrix: bool
    """Whether it is a matrix, and no leaf for `otherwise`."""

    rows: int = 0
    """Outputs."""

    columns: int = 0
    """Inputs."""

    copies: int = 0
    """How many matrices of this shape lie in the leaf: layers, experts, heads, equal blocks."""

    factor: float | None = None
    """How long a step is made, by the matrix's shape."""

    def cells(self) -> tuple[str, ...]:
        """The columns of the table, as text."""
        shape = str(tuple(map(int, self.shape)))
        if not self.matrix:
            return self.path, shape, "otherwise", "", ""
        size = f"{self.rows} × {self.columns}"
        return self.path, shape, size, f"{self.copies}", f"{self.factor:.3g}"


class Table:
    """Rows about the leaves of a model, the path first and the shape second.

    Printed, a plain table of at most 80 columns; a notebook shows it as its own.
    """

    head: ClassVar[tuple[str, ...]]
    rows: Any
    """Each with its ``cells()``."""

    @property
    def totals(self) -> str:
        """What there is in all, in one sentence."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Long paths are shortened in the middle."""
        cells = [self.head, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        gaps = 2 * (len(widths) - 1)
        widths[0] = min(widths[0], WIDTH - gaps - sum(widths[1:]))
        lines = [_line(row, widths) for row in cells]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", self.totals])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.head)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in r.cells()) for r in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{html.escape(self.totals)}</p>"
        )


@dataclass(frozen=True, repr=False)
class MatrixTable(Table):
    """What a method of matrices makes of each leaf of a model.

    Printed, it is a plain table of at most 80 columns; a notebook shows it as its own.
    """

    head: ClassVar[tuple[str, ...]] = ("path", "shape", "rows × columns", "copies", "factor")

    rows: tuple[MatrixRow, ...]
    """One for each leaf, in the tree's order; for blocks of several sizes one for each."""

    @property
    def totals(self) -> str:
        """How many leaves and numbers are matrices, in one sentence."""
        leaves = {row.path: row for row in self.rows}.values()
        size = {m: sum(math.prod(r.shape) for r in leaves if r.matrix == m) for m in (True, False)}
        share = 100 * size[True] / max(sum(size.values()), 1)
        return (
            f"{sum(r.matrix for r in leaves)} of {len(leaves)} leaves are matrices: "
            f"{share:.3g} % of {sum(size.values()):,} numbers."
        )


def matrix_table(params: Any, matrices: Matrices, scale: Scale | None = "moonlight") -> MatrixTable:
    """Which leaves of a model are matrices, and what a method makes of their axes.

    Args:
      params: the parameters, or their shapes as `jax.eval_shape` gives them.
      matrices: as methods take it, such as ``"flax"``, or what `layout` returns.
      scale: the factor of a matrix's shape that is shown, as in `muon`.

    Returns:
      A `MatrixTable`: printed, a plain table; ``rows`` has the same as data.

    Raises:
      TypeError, ValueError: for leaves whose axes cannot be known, and axes that do not fit, with
        the path.

    >>> import gdfx, jax.numpy as jnp
    >>> params = {"mlp": {"kernel": jnp.zeros((8, 32)), "bias": jnp.zeros(32)}}
    >>> gdfx.matrix_table(params, "flax")
    path               shape    rows × columns  copies  factor
    ----------------------------------------------------------
    ['mlp']['bias']    (32,)         otherwise
    ['mlp']['kernel']  (8, 32)          32 × 8       1    1.13
    <BLANKLINE>
    1 of 2 leaves are matrices: 88.9 % of 288 numbers.
    """
    rows: list[MatrixRow] = []
    found = resolved("matrix_table", matrices, params)
    for (path, x), place in zip(jax.tree_util.tree_leaves_with_path(params), found, strict=True):
        if place is None:
            rows.append(MatrixRow(at(path), np.shape(x), matrix=False))
            continue
        for lead, n, m in place.sizes():
            factor = shape_factor(scale, n, m)
            rows.append(MatrixRow(at(path), place.shape, True, n, m, math.prod(lead), factor))
    return MatrixTable(tuple(rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [_shortened(c, w).ljust(w) for c, w in zip(cells[:2], widths[:2], strict=True)]
    right = [c.rjust(w) for c, w in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join([*left, *right]).rstrip()


def _shortened(text: str, width: int) -> str:
    """The text, without a part of its middle where it is too long: its end says most."""
    if len(text) <= width:
        return text
    start = (width - 1) // 4
    return f"{text[:start]}…{text[len(text) - (width - 1 - start) :]}"
