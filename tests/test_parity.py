"""The methods against optax: recorded gradients are replayed, nothing runs free."""

import functools
import pickle
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from absl.testing import parameterized
from cases import OPTAX, at, tree
from packaging.version import Version

import gdfx
from gdfx.testing.versions import enable_x64

STEPS = 200
SCHEDULE = optax.exponential_decay(0.1, transition_steps=50, decay_rate=0.5)
MASK = {"w": True, "layers": False}


class Tolerance(NamedTuple):
    """How far an update may be from optax's, relative and as a part of the learning rate."""

    float32: float
    float64: float
    why: str


SAME = Tolerance(0, 0, "the same operations in the same order, compiled as one: bitwise")
ROUNDED = Tolerance(
    2e-6, 1e-14, "operations run one by one, or on complex numbers, round each time: a few units"
)
ADAM = Tolerance(
    1.5e-5, 1e-13, "optax forms b^t before it subtracts it from 1: off by 2e-5 at b2 = 0.999"
)
LONG = Tolerance(
    1e-3, 1e-11, "the same, off by 1.4e-3 at b2 = 0.99999 in float32, where gdfx keeps 1e-6"
)


class Row(NamedTuple):
    """gdfx's call and optax's, and how near they must be: under jit, and in other conditions."""

    ours: Any
    theirs: Any
    jitted: Tolerance
    otherwise: Tolerance
    complex: bool = False  # whether to run it on complex trees too
    since: str = "0"  # the first optax that has theirs


def both(ours, theirs, *args, **kwargs):
    return functools.partial(ours, *args, **kwargs), functools.partial(theirs, *args, **kwargs)


sgd = functools.partial(both, gdfx.sgd, optax.sgd)
momentum = functools.partial(both, gdfx.momentum, optax.sgd)
adagrad = functools.partial(both, gdfx.adagrad, optax.adagrad)
adam = functools.partial(both, gdfx.adam, optax.adam)
adamw = functools.partial(both, gdfx.adamw, optax.adamw)

ROWS = {
    "sgd": Row(*sgd(0.1), SAME, ROUNDED, complex=True),
    "sgd, schedule": Row(*sgd(SCHEDULE), SAME, ROUNDED),
    "momentum": Row(*momentum(0.1, 0.9), SAME, ROUNDED, complex=True),
    "momentum, schedule": Row(*momentum(SCHEDULE, 0.99), SAME, ROUNDED),
    "nesterov": Row(*momentum(0.1, 0.9, True), SAME, ROUNDED, complex=True),
    "adagrad": Row(*adagrad(0.1), SAME, ROUNDED, complex=True),
    "adagrad, schedule": Row(*adagrad(SCHEDULE, 0.0, 1e-3), SAME, ROUNDED),
    "adam": Row(*adam(0.1), ADAM, ADAM, complex=True),
    "adam, schedule": Row(*adam(SCHEDULE, 0.8, 0.99, 1e-3), ADAM, ADAM),
    "adam, eps_root": Row(*adam(0.1, eps_root=1e-2), ADAM, ADAM),
    "adam, long memory": Row(*adam(0.1, b2=0.99999), LONG, LONG),
    "adam, nesterov": Row(*adam(0.1, nesterov=True), ADAM, ADAM, complex=True),
    "adamw": Row(*adamw(0.1), ADAM, ADAM, complex=True),
    "adamw, mask": Row(*adamw(SCHEDULE, weight_decay=0.1, mask=MASK), ADAM, ADAM),
    "adamw, schedules": Row(
        *adamw(0.1, b1=0.4, weight_decay=SCHEDULE, nesterov=True), ADAM, ADAM, since="0.2.7"
    ),
}
TABLE = [
    {"testcase_name": f"{name}, {dtype}", "row": row, "dtype": dtype}
    for name, row in ROWS.items()
    for dtype in ("float32", "float64") + ("complex64", "complex128") * row.complex
]


@functools.cache
def recorded(dtype):
    """The same gradients and parameters for both: 200 of each, of many sizes."""
    params = tree(dtype, seed=1, steps=STEPS)
    sizes = np.exp(np.random.default_rng(2).normal(size=STEPS))
    gradients = jax.tree.map(
        lambda g: g * sizes.astype(g.real.dtype).reshape(-1, *[1] * (g.ndim - 1)),
        tree(dtype, seed=0, steps=STEPS),
    )
    both = jax.tree.map(np.asarray, (gradients, params))  # NumPy's slices cost nothing
    return [jax.tree.map(np.asarray, at(both, i)) for i in range(STEPS)]


def replay(update, state, record):
    """Updates of every step, stacked, and the state after the last."""
    updates = []
    for g, p in record:
        u, state = update(g, state, p)
        updates.append(u)
    return jax.tree.map(lambda *u: np.stack(u), *updates), state


def assert_near(found, expected, tolerance, dtype):
    """Bitwise at tolerance 0. Updates are of the learning rate's size, or else compared so."""
    chex.assert_trees_all_equal_structs(found, expected)
    if jnp.issubdtype(dtype, jnp.complexfloating):  # optax keeps real sums of squares complex
        expected = jax.tree.map(lambda e, f: e if np.iscomplexobj(f) else e.real, expected, found)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    tol = tolerance.float64 if jnp.finfo(dtype).bits == 64 else tolerance.float32
    if tol:
        chex.assert_trees_all_close(found, expected, rtol=tol, atol=0.1 * tol)
    else:
        chex.assert_trees_all_equal(found, expected)


class Parity(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(TABLE)
    def test_updates_and_states_are_optaxs(self, row, dtype):
        if Version(row.since) > OPTAX:
            self.skipTest(f"optax has it since {row.since}")
        # Without jit each operation is dispatched alone, which a few steps show as well.
        jitted = self.variant.type is chex.ChexVariantType.WITH_JIT
        steps = STEPS if jitted else 5
        with enable_x64(jnp.finfo(dtype).bits == 64):
            record = recorded(dtype)[:steps]
            found, expected = (
                replay(self.variant(tx.update), tx.init(record[0][1]), record)
                for tx in (row.ours(), row.theirs())
            )
            bare = jitted and not jnp.issubdtype(dtype, jnp.complexfloating)
            assert_near(found, expected, row.jitted if bare else row.otherwise, dtype)


# A running state changes hands.

HANDED = [
    name
    for name, row in ROWS.items()
    if (row.complex or name == "adamw, schedules") and Version(row.since) <= OPTAX
]
DIRECTIONS = {"optax to gdfx": ("theirs", "ours"), "gdfx to optax": ("ours", "theirs")}


@functools.cache
def storable(dtype):
    """Twenty steps of the record without the zero-size leaf, which Orbax does not store."""
    return [
        tuple({"w": x["w"], "layers": x["layers"][0]} for x in pair)
        for pair in recorded(dtype)[:20]
    ]


@functools.cache
def uninterrupted(name, side, dtype):
    """The method, its state after ten steps, and what ten further steps do."""
    tx = getattr(ROWS[name], side)()
    tx = tx._replace(update=jax.jit(tx.update))
    record = storable(dtype)
    _, half = replay(tx.update, tx.init(record[0][1]), record[:10])
    return tx, half, replay(tx.update, half, record[10:])


def assert_goes_on(name, way, dtype, half):
    first, second = DIRECTIONS[way]
    _, _, expected = uninterrupted(name, first, dtype)
    tx, _, _ = uninterrupted(name, second, dtype)
    found = replay(tx.update, half, storable(dtype)[10:])
    assert_near(found, expected, ROWS[name].jitted, dtype)


@pytest.mark.parametrize("name", HANDED)
@pytest.mark.parametrize("way", DIRECTIONS)
def test_running_state_changes_hands(name, way, precision):
    _, half, _ = uninterrupted(name, DIRECTIONS[way][0], precision)
    assert_goes_on(name, way, precision, half)
    assert_goes_on(name, way, precision, pickle.loads(pickle.dumps(half)))


@pytest.mark.parametrize("way", DIRECTIONS)
def test_orbax_checkpoint_changes_hands(way, precision, tmp_path):
    first, second = DIRECTIONS[way]
    written = {name: uninterrupted(name, first, precision)[1] for name in HANDED}
    params = storable(precision)[0][1]
    empty = {name: uninterrupted(name, second, precision)[0].init(params) for name in HANDED}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "states", written)
        checkpointer.wait_until_finished()
        read = checkpointer.restore(tmp_path / "states", empty)
    for name in HANDED:
        assert_goes_on(name, way, precision, read[name])
