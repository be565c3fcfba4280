"""One pass is the plain step up to rounding, for all that the catalog and optax treat by element.

Two programs that round differently are compared by what rounding does to one of them: each number
of the pass must lie among those of the plain step whose parameters and gradients are moved by a
few units in the last place, as `gdfx.onepass.trial` does with the machine code of a loop.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import READY_MADE

import gdfx
from gdfx.onepass.trial import NEIGHBOURS, neighbours, outside
from gdfx.testing.versions import enable_x64

DTYPES = ("float32", "float64", "bfloat16", "float16")
SHAPE = (7, 21)  # more than a turn of eight, and a rest
STEPS = 2

INSIDE = [
    case
    for case in READY_MADE
    if case.method.reach == "coordinate" and not case.method.dialect  # the same operations
]
WRAPPERS = {
    "averaged": gdfx.averaged,
    "compensated": gdfx.compensated,
    "grokfast": lambda tx: optax.chain(gdfx.grokfast_ema(), tx),
    "cautious": lambda tx: gdfx.descend(gdfx.cautious(tx), 0.1),
    "floor_update": lambda tx: gdfx.descend(optax.chain(tx, gdfx.floor_update()), 0.1),
    "schedule_free": lambda tx: gdfx.schedule_free(gdfx.descend(tx, 0.1), 0.1),
    "skip_nonfinite": gdfx.skip_nonfinite,
    "stochastic_rounding": lambda tx: gdfx.stochastic_rounding(tx, jax.random.key(0)),
}
"""Around a direction: sums in which nothing cancels by accident, as Adam's first step does."""


def optimizers():
    for case in INSIDE:
        yield str(case), case.tx
        if case.method.matches:
            yield f"{case.method.matches}, as {case}", case.method.reference(0.1)
    for name, wrap in WRAPPERS.items():
        yield name, wrap(gdfx.scale_by_momentum(0.9))


def drawn(kind, dtype, rng):
    """An array of one kind of numbers."""
    x = rng.standard_normal(SHAPE)
    info = jnp.finfo(dtype)
    match kind:
        case "zero":
            x = np.where(rng.random(SHAPE) < 0.5, 0.0, -0.0)
        case "subnormal":
            x *= np.exp2(np.where(rng.random(SHAPE) < 0.5, info.minexp - 2, info.minexp / 2))
        case "nonfinite":
            x = np.where(rng.random(SHAPE) < 0.3, rng.choice([np.inf, -np.inf, np.nan], SHAPE), x)
        case "large":
            x *= np.exp2(np.where(rng.random(SHAPE) < 0.5, info.maxexp - 3, info.maxexp / 2))
    with np.errstate(all="ignore"):
        return x.astype(info.dtype)


KINDS = ("random", "zero", "subnormal", "nonfinite", "large")


@functools.cache
def trees(kind):
    """Parameters and the gradients of each step, and their neighbours: by dtype, a leaf each."""
    rng = np.random.default_rng(KINDS.index(kind))
    near = {
        dtype: [neighbours(rng, drawn("random", dtype, rng))]
        + [neighbours(rng, drawn(kind, dtype, rng)) for _ in range(STEPS)]
        for dtype in DTYPES
    }
    return [
        [{dtype: near[dtype][t][i] for dtype in DTYPES} for t in range(STEPS + 1)]
        for i in range(NEIGHBOURS)
    ]


def trajectory(step, tx, params, *grads):
    state = tx.init(params)
    for g in grads:
        params, state = step(g, state, params)
    return jax.device_get(jax.tree.leaves((params, state)))


def plain(tx):
    def step(grads, state, params):
        updates, state = optax.with_extra_args_support(tx).update(grads, state, params, value=1.0)
        return optax.apply_updates(params, updates), state

    return step


@pytest.mark.parametrize(("name", "tx"), [pytest.param(*x, id=x[0]) for x in optimizers()])
def test_equal(name, tx):
    with enable_x64(True):
        fast = gdfx.one_pass(tx)
        pass_, xla = jax.jit(lambda *a: fast(*a, value=1.0)), jax.jit(plain(tx))
        said = fast.explain(trees("random")[0][0], value=1.0).splitlines()
        # What overflows float16 on the way, XLA may have kept in float32.
        assert [line for line in said if "a trial" in line and "  float16[" not in line] == []
        for kind in KINDS:
            runs = trees(kind)
            found = trajectory(pass_, tx, *runs[0])
            near = [trajectory(xla, tx, *run) for run in runs]
            for leaf, *others in zip(found, *near, strict=True):
                wrong = outside(np.asarray(leaf), np.stack(others))
                assert not wrong.any(), (kind, leaf.dtype, leaf[wrong], np.stack(others)[:, wrong])
