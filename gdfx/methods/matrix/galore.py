"""GaLore: a method on the few directions in which a matrix's gradient is largest.

Jiawei Zhao, Zhenyu Zhang, Beidi Chen, Zhangyang Wang, Anima Anandkumar, Yuandong Tian, "GaLore:
Memory-Efficient LLM Training by Gradient Low-Rank Projection", ICML 2024, arXiv:2403.03507,
Algorithm 2.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike

from gdfx.core.arguments import POSITIVE, Count, Optional, Transformation, checked
from gdfx.core.descend import refuse_optimizer, with_rate
from gdfx.core.inner import demands, extended
from gdfx.core.layouts import Matrices
from gdfx.core.matrix import per_matrix, shared, when, with_otherwise
from gdfx.core.moments import accumulator, saturate
from gdfx.core.spectral import HIGHEST, leading_vectors
from gdfx.methods.coordinate.adam import scale_by_adam

_ARGUMENTS = {
    "rank": Count(1),
    "update_proj_gap": Count(1),
    "scale": POSITIVE,
    "base_optimizer": Optional(Transformation()),
}


class GaloreState(NamedTuple):
    """What each matrix has: its directions, and the state of the method on them."""

    count: Any
    projector: Any  # P
    base: Any


@checked(**_ARGUMENTS)
def scale_by_galore(
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: ArrayLike = 1.0,
    base_optimizer: optax.GradientTransformation | None = None,
    *,
    matrices: Matrices = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A direction of the gradient's part in a small space, and back.

    ::

        (1) every T steps, in the first too:
            P: the first r left singular vectors of g where rows < columns, else the right ones
        (2) g' = Pᵀ g                     else  g' = g P
        (3) u' = the base's direction for g'
        (4) u = s P u'                    else  u = s u' Pᵀ

    Rows are outputs, columns are inputs. Each matrix has a state of the base of its own.

    Args:
      rank: r; at most the shorter side of a matrix.
      update_proj_gap: T, how many steps the directions are kept.
      scale: s > 0; the authors take 0.25.
      base_optimizer: any direction that needs no parameters, such as `gdfx.scale_by_adam()`, which
        is that of None, or `gdfx.scale_by_lion()`.
      matrices: which leaves are matrices, along which axes: ``"flax"``, ``"haiku"``, ``"equinox"``
        or what else `gdfx.layout` offers, a function of (path, array) that returns
        `gdfx.MatrixAxes` or None, or a tree of those.
      over: a mesh axis over which the matrices are dealt out, as in `gdfx.per_matrix`.

    Raises:
      TypeError, ValueError: for arguments out of range, for a base that is a whole optimizer or
        needs the parameters, and by ``init`` and ``update`` for leaves that are no matrices and for
        trees that do not belong together.

    Differs: optax takes the longer side's vectors, where the paper and the authors' code take the
    shorter side's: another space, and another method. Of each vector the largest number is above 0,
    so that it does not hang on the library which way it points; a direction in which g is 0 but for
    rounding is left out, where Adam would make steps of the rounding. The authors decompose in
    float32. The derivatives of u take P for a constant. Gradients beyond 2⁴⁸ (float64: 2⁴⁹⁶) count
    as that.

    Reference: arXiv:2403.03507, Algorithm 2; jiaweizzhao/GaLore.
    """
    base = extended(base_optimizer or scale_by_adam())
    refuse_optimizer("galore", base, "with a learning rate would climb")
    if "params" in demands(base):
        raise ValueError(
            "galore: base_optimizer needs the parameters, which are none of the small space; give "
            "one that looks at gradients alone, such as gdfx.scale_by_adam()"
        )

    def init(p):
        rows, columns = p.shape
        r = min(rank, rows, columns)
        tall = rows >= columns
        small = jax.ShapeDtypeStruct((rows, r) if tall else (r, columns), p.dtype)
        vectors = jax.ShapeDtypeStruct((columns if tall else rows, r), p.dtype)
        return accumulator(vectors), cast(Any, base.init(accumulator(small)))

    def rule(g, projector, held, *, t):
        g = shared(saturate(g), over)
        tall = g.shape[0] >= g.shape[1]

        def renewed(old):
            return (leading_vectors(g.T if tall else g, old.shape[1]),)  # (1)

        (projector,) = when((t - 1) % update_proj_gap == 0, renewed, projector)
        p = jax.lax.stop_gradient(projector)
        small = _product(g, p) if tall else _product(p.T, g)  # (2)
        small, held = base.update(small, held)  # (3)
        small = cast(jax.Array, small)
        u = _product(small, p.T) if tall else _product(p, small)
        return u * scale, projector, cast(Any, held)  # (4)

    return per_matrix(GaloreState, init, rule, matrices=matrices, over=over)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=HIGHEST)


@checked(**_ARGUMENTS)
def galore(
    learning_rate: optax.ScalarOrSchedule,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: ArrayLike = 1.0,
    base_optimizer: optax.GradientTransformation | None = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    matrices: Matrices = None,
    over: NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """GaLore: `scale_by_galore` on matrices, the base itself on all else,  W ← W − η (u + λ W).

    Args:
      learning_rate: η, a number ≥ 0 or a schedule.
      rank, update_proj_gap, scale, base_optimizer, matrices, over: as in `scale_by_galore`.
      weight_decay: λ, a number ≥ 0 or a schedule.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: as in `gdfx.scale_by_galore`, and by ``update`` without the parameters.

    Differs: the authors' code decays the weight after the step, W ← (1 − η λ)(W − η u).

    Purpose: the training of all weights with the memory of a few directions (abstract of
    arXiv:2403.03507).

    Reference: arXiv:2403.03507, Algorithm 2.

    See also: `gdfx.adam_mini`; `gdfx.adafactor`; `gdfx.layout`.

    >>> import gdfx, jax, jax.numpy as jnp
    >>> params = {"kernel": jnp.zeros((64, 32)), "bias": jnp.zeros(32)}
    >>> tx = gdfx.galore(1e-3, rank=4, matrices="flax")
    >>> print(sum(x.size for x in jax.tree.leaves(tx.init(params)) if x.size > 32))
    640
    """
    base = base_optimizer or scale_by_adam()
    direction = with_otherwise(
        "galore",
        scale_by_galore(rank, update_proj_gap, scale, base, matrices=matrices, over=over),
        base,
        matrices,
    )
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)
