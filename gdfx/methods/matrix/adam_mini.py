"""Adam-mini: one second moment for each output of a matrix, or for each head.

Yushun Zhang, Congliang Chen, Ziniu Li, Tian Ding, Chenwei Wu, Diederik Kingma, Yinyu Ye, Zhi-Quan
Luo, Ruoyu Sun, "Adam-mini: Use Fewer Learning Rates To Gain More", ICLR 2025, arXiv:2406.16793,
Algorithms 1 and 2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike

from gdfx.core.arguments import Flag, Function, Optional, checked
from gdfx.core.check import at
from gdfx.core.descend import with_rate
from gdfx.core.layouts import Matrices, resolved
from gdfx.core.lift import per_leaf
from gdfx.core.matrix import per_matrix
from gdfx.core.moments import abs_sq, accumulator, corrections, ema, root, saturate
from gdfx.core.trees import parted

Heads = Callable[[str, Any], bool]
"""``heads(path, array)``: whether each matrix of a leaf is a head, with one v for the whole."""

_ARGUMENTS = {
    "heads": Optional(Function("a function of (path, array) that returns True or False")),
    "verbose": Flag(),
}


class AdamMiniState(NamedTuple):
    """Adam's state, with a shorter v."""

    count: Any
    mu: Any  # m
    nu: Any  # v, one number for each block


@checked(**_ARGUMENTS)
def scale_by_adam_mini(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    matrices: Matrices = None,
    heads: Heads | None = None,
    mu_dtype: DTypeLike | None = None,
    verbose: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Divide the running mean of the gradient by one running root mean square for each block.

    ::

        (1) m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) mean(g² over the block)
        (2) m̂ = m / (1 − β₁ᵗ)             v̂ = v / (1 − β₂ᵗ)
        (3) u = m̂ / (√v̂ + ε)

    A block is a row of a matrix: what leads to one output, or one token of an embedding; with
    ``heads`` a whole matrix; of a leaf that is no matrix the whole leaf.

    Args:
      b1: β₁ in [0, 1), the memory of m.
      b2: β₂ in [0, 1), the memory of v.
      eps: ε ≥ 0, outside the root.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those. An embedding is one too, with its tokens for
        outputs: ``gdfx.layout("flax", also={"embedding": gdfx.MatrixAxes(outputs=0, inputs=1)})``.
      heads: a function of (path, array): True where each matrix of a leaf has one v, as the heads
        of queries and keys, which are told apart by the ``batch`` or ``blocks`` of
        `gdfx.MatrixAxes`.
      mu_dtype: the dtype of m; by default the parameter's, but at least float32.
      verbose: print by ``init`` which leaves of several axes have but one v, for want of axes.

    Raises:
      TypeError, ValueError: for arguments out of range, and by ``init`` and ``update`` for leaves
        whose axes cannot be known and for trees that do not belong together.

    Differs: the authors' code finds blocks by parts of names, in PyTorch's (outputs, inputs), and
    gives one v to what it does not know; it moves what is called a bias by Adam. Gradients beyond
    2⁴⁸ (float64: 2⁴⁹⁶) count as that.

    Reference: arXiv:2406.16793, Algorithms 1 and 2; adam-mini 1.1.1.
    """

    def moments(g, m, v, c1, c2, square):
        m, v = ema(m, g, b1), ema(v, square, b2)  # (1)
        return m / c1, v / c2, m, v  # (2)

    def by_row(p):
        m, v = accumulator(p, dtype=mu_dtype), accumulator(p, real=True)
        return m, v.sum(1)

    def row_rule(g, m, v, *, c1, c2):  # 1 − β₁ᵗ, 1 − β₂ᵗ
        g = saturate(g)
        m_hat, v_hat, m, v = moments(g, m, v, c1, c2, _mean_sq(g, axis=1))
        return m_hat / root(v_hat, outside=eps)[:, None], m, v  # (3)

    def by_all(p):
        m, v = accumulator(p, dtype=mu_dtype), accumulator(p, real=True)
        return m, v.sum()

    def whole_rule(g, m, v, *, c1, c2):
        g = saturate(g)
        m_hat, v_hat, m, v = moments(g, m, v, c1, c2, _mean_sq(g))
        return m_hat / root(v_hat, outside=eps), m, v  # (3)

    def scalars(t):
        return corrections(t, b1, b2)

    def groups(params: optax.Params) -> Any:
        names: list[str] = []
        places = resolved("adam_mini", matrices, params)
        for (path, x), place in zip(
            jax.tree_util.tree_leaves_with_path(params), places, strict=True
        ):
            head = heads is not None and heads(at(path), x)
            if head and place is None:
                raise ValueError(
                    f"adam_mini: heads names {at(path)}, which is no matrix by the given matrices"
                )
            names.append("heads" if head else "rows" if place is not None else "one")
        return jax.tree.structure(params).unflatten(names)

    links: dict[Any, optax.GradientTransformation] = {
        "rows": per_matrix(AdamMiniState, by_row, row_rule, matrices=matrices, scalars=scalars),
        "heads": per_matrix(AdamMiniState, by_all, whole_rule, matrices=matrices, scalars=scalars),
        "one": per_leaf(AdamMiniState, by_all, whole_rule, scalars=scalars),
    }
    tx = parted("adam_mini", links, groups)

    def init(params: optax.Params) -> optax.OptState:
        state = tx.init(params)
        if verbose:
            _tell(params, groups(params))
        return state

    return optax.GradientTransformationExtraArgs(init, tx.update)


def _mean_sq(g: jax.Array, axis: int | None = None) -> jax.Array:
    """The mean square, and 0 of nothing."""
    size = g.size if axis is None else g.shape[axis]
    return jnp.sum(abs_sq(g), axis) / max(size, 1)


def _tell(params: optax.Params, groups: Any) -> None:
    """Print which leaves of several axes have one v alone."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(groups), strict=True)
    for (path, x), group in pairs:
        if group == "one" and np.ndim(x) > 1:
            print(
                f"adam_mini: {at(path)} of shape {np.shape(x)} has one second moment, for want of "
                "axes in matrices"
            )


@checked(**_ARGUMENTS)
def adam_mini(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    matrices: Matrices = None,
    heads: Heads | None = None,
    mu_dtype: DTypeLike | None = None,
    verbose: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Adam-mini: `scale_by_adam_mini`, then  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule: AdamW's.
      b1, b2, eps, matrices, heads, mu_dtype, verbose: as in `scale_by_adam_mini`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_adam_mini`, and by ``update`` without the
        parameters.

    Differs: the authors' code does not decay what is called a norm or a bias; here ``mask`` tells.

    Purpose: AdamW's steps with half of its state (abstract of arXiv:2406.16793).

    Reference: arXiv:2406.16793, Algorithms 1 and 2.

    See also: `gdfx.adamw`; `gdfx.novograd`, with one second moment for each array; `gdfx.layout`.

    >>> import gdfx, jax.numpy as jnp
    >>> params = {"embedding": jnp.zeros((9, 4)), "kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    >>> state = gdfx.adam_mini(1e-3, matrices="flax").init(params)
    adam_mini: ['embedding'] of shape (9, 4) has one second moment, for want of axes in matrices
    >>> tokens = {"embedding": gdfx.MatrixAxes(outputs=0, inputs=1)}
    >>> state = gdfx.adam_mini(1e-3, matrices=gdfx.layout("flax", also=tokens)).init(params)
    """
    direction = scale_by_adam_mini(
        b1, b2, eps, matrices=matrices, heads=heads, mu_dtype=mu_dtype, verbose=verbose
    )
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
