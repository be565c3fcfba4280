"""The methods against optax: recorded gradients are replayed, nothing runs free."""

import functools
import pickle
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
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
LARGEST = Tolerance(
    4e-5, 1e-13, "as in Adam, but the state holds what is corrected, not its root: twice as much"
)
TWICE = Tolerance(4e-5, 2e-13, "the same, twice: two updates of Adam are subtracted")
RADAM = Tolerance(
    1e-2, 1e-10, "optax forms ρ as a difference of numbers near 2,000, gdfx without: off by 6e-3"
)
FLOAT32 = Tolerance(
    2e-6, 2e-6, "optax computes the decay rate of Adafactor in float32, whatever the arrays are in"
)
SMALL = Tolerance(
    2e-5, 2e-5, "optax subtracts 1/√(1 + η²) of a schedule in float32 from 1, gdfx does not"
)

SUMS = Tolerance(
    1e-3,
    1e-11,
    "the model of the loss is a difference of sums over the tree, which round otherwise",
)
FIRST = Tolerance(
    1e-3, 1e-12, "optax chooses β₂ by the step, in float32: 1 − β₂ is off by 2e-4 at β₂ = 0.9999"
)
ROOTS = Tolerance(
    3e-5, 3e-5, "optax has √t in float32, and rounds the new parameter before it subtracts the old"
)
FAR = Tolerance(
    2e-5, 1e-12, "optax rounds the new parameter before it takes the old one from it, gdfx does not"
)


class Row(NamedTuple):
    """gdfx's call and optax's, and how near they must be: under jit, and in other conditions."""

    ours: Any
    theirs: Any
    jitted: Tolerance
    otherwise: Tolerance
    complex: bool = False  # whether to run it on complex trees too
    every_shape: bool = True  # whether optax takes parameters of one number, and of none
    since: str = "0"  # the first optax that has theirs, with a state as today


def both(ours, theirs, *args, **kwargs):
    return functools.partial(ours, *args, **kwargs), functools.partial(theirs, *args, **kwargs)


sgd = functools.partial(both, gdfx.sgd, optax.sgd)
momentum = functools.partial(both, gdfx.momentum, optax.sgd)
adagrad = functools.partial(both, gdfx.adagrad, optax.adagrad)
adam = functools.partial(both, gdfx.adam, optax.adam)
adamw = functools.partial(both, gdfx.adamw, optax.adamw)


def alike(name, *args, theirs=None, **kwargs):
    return both(
        getattr(gdfx, name), getattr(optax, theirs or name, optax.identity), *args, **kwargs
    )


def contrib(name, *args, **kwargs):
    theirs = getattr(optax.contrib, name, optax.identity)
    return both(getattr(gdfx, name), theirs, *args, **kwargs)


def longer(count):
    """A memory that grows."""
    return 1 - 1 / (10.0 + count)


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
    "nadam": Row(*alike("nadam", 0.1), ADAM, ADAM, complex=True),
    "nadamw": Row(*alike("nadamw", SCHEDULE, eps=1e-3, mask=MASK), ADAM, ADAM),
    "amsgrad": Row(*alike("amsgrad", 0.1), LARGEST, LARGEST, complex=True),
    "amsgrad, uncorrected": Row(
        *alike(
            "amsgrad", SCHEDULE, eps_root=1e-3, bias_correction_mu=False, bias_correction_nu=False
        ),
        ROUNDED,
        ROUNDED,
        since="0.2.6",
    ),
    "adamax": Row(*alike("adamax", 0.1), ADAM, ADAM),
    "adamaxw": Row(*alike("adamaxw", SCHEDULE, 0.5, 0.9, 1e-2, 0.1, MASK), ADAM, ADAM),
    "adabelief": Row(*alike("adabelief", 0.1), ADAM, ADAM, complex=True),
    "adabelief, nesterov": Row(
        *alike("adabelief", SCHEDULE, 0.5, 0.9, 1e-3, 1e-4, nesterov=True), ADAM, ADAM
    ),
    "yogi": Row(*alike("yogi", 0.1), ADAM, ADAM),
    "radam": Row(*alike("radam", 0.1), RADAM, RADAM),
    "radam, threshold": Row(
        *alike("radam", SCHEDULE, 0.5, 0.9, 1e-3, 1e-4, 4.5, nesterov=True), ADAM, ADAM
    ),
    "rmsprop": Row(*alike("rmsprop", 0.1), ROUNDED, ROUNDED, complex=True),
    "rmsprop, centered": Row(
        *alike("rmsprop", 0.1, 0.95, 1e-2, 1.0, False, True, bias_correction=True), ADAM, ADAM
    ),
    "rmsprop, momentum": Row(
        *alike("rmsprop", SCHEDULE, momentum=0.9, eps_in_sqrt=False), ROUNDED, ROUNDED
    ),
    "rmsprop, nesterov": Row(
        *alike("rmsprop", 0.1, centered=True, eps=1e-3, momentum=0.5, nesterov=True), ADAM, ADAM
    ),
    "adadelta": Row(*alike("adadelta", 1.0), ROUNDED, ROUNDED),
    "adadelta, decay": Row(*alike("adadelta", SCHEDULE, 0.5, 1e-3, 0.1, MASK), ROUNDED, ROUNDED),
    "optimistic_gradient_descent": Row(
        *alike("optimistic_gradient_descent", 0.1, 0.5, 0.7), SAME, ROUNDED, complex=True
    ),
    "optimistic_adam": Row(
        *alike("optimistic_adam", 0.1, theirs="optimistic_adam_v2"), TWICE, TWICE, since="0.2.6"
    ),
    "polyak_sgd": Row(*alike("polyak_sgd"), ROUNDED, ROUNDED),
    "polyak_sgd, sps+": Row(*alike("polyak_sgd", 0.7, 0.5, 2.5, 0.1, "sps+"), ROUNDED, ROUNDED),
    "sign_sgd": Row(*alike("sign_sgd", 0.1), SAME, SAME),
    "signum": Row(*alike("signum", SCHEDULE, 0.5), SAME, ROUNDED, since="0.2.6"),
    "lion": Row(*alike("lion", 0.1), ROUNDED, ROUNDED),
    "lion, mask": Row(*alike("lion", SCHEDULE, 0.5, 0.9, None, 0.1, MASK), ROUNDED, ROUNDED),
    "lars": Row(*alike("lars", 0.1), ROUNDED, ROUNDED),
    "lars, masks": Row(
        *alike("lars", SCHEDULE, 0.1, MASK, 0.01, 1e-2, MASK, 0.5, True), ROUNDED, ROUNDED
    ),
    "lamb": Row(*alike("lamb", 0.1), ADAM, ADAM),
    "lamb, mask": Row(*alike("lamb", SCHEDULE, 0.5, 0.9, 1e-3, 1e-4, 0.1, MASK), ADAM, ADAM),
    "fromage": Row(*alike("fromage", 0.1), ROUNDED, ROUNDED),
    "fromage, schedule": Row(*alike("fromage", SCHEDULE, 1e-3), SMALL, SMALL, since="0.2.6"),
    "novograd": Row(*alike("novograd", 0.1), ROUNDED, ROUNDED),
    "novograd, decay": Row(
        *alike("novograd", SCHEDULE, 0.5, 0.9, 1e-3, 1e-2, 0.1), ROUNDED, ROUNDED
    ),
    "adafactor": Row(*alike("adafactor", 0.1, 2), FLOAT32, FLOAT32),
    "adafactor, alone": Row(
        *alike(
            "adafactor",
            None,
            2,
            multiply_by_parameter_scale=False,
            decay_offset=-3,
            clipping_threshold=None,
        ),
        FLOAT32,
        FLOAT32,
    ),
    "adafactor, momentum": Row(
        *alike(
            "adafactor",
            SCHEDULE,
            decay_rate=0.5,
            clipping_threshold=0.5,
            momentum=0.9,
            weight_decay_rate=0.01,
            factored=False,
            weight_decay_mask=MASK,
        ),
        FLOAT32,
        FLOAT32,
    ),
    "ademamix": Row(*contrib("ademamix", 0.1), ADAM, ADAM, complex=True),
    "ademamix, schedules": Row(
        *contrib("ademamix", SCHEDULE, 0.5, 0.9, longer, SCHEDULE, 1e-3, 1e-4, None, 0.1, MASK),
        ADAM,
        ADAM,
    ),
    "simplified_ademamix": Row(  # before, its count has the width of the mode
        *contrib("simplified_ademamix", 0.1), ADAM, ADAM, since="0.2.7"
    ),
    "simplified_ademamix, schedule": Row(
        *contrib("simplified_ademamix", 0.1, 0.9, 0.9, SCHEDULE, 1e-3, 1e-4, 0.1, MASK),
        ADAM,
        ADAM,
        since="0.2.7",
    ),
    "adopt": Row(*contrib("adopt", 0.1), FIRST, FIRST),
    "adopt, nesterov": Row(
        *contrib("adopt", SCHEDULE, 0.5, 0.9, 1e-3, nesterov=True), FIRST, FIRST
    ),
    "adopt, no clipping": Row(
        *contrib("adopt", 0.1, use_clipping=False), FIRST, FIRST, complex=True
    ),
    "madgrad": Row(*contrib("madgrad", 0.1), ROOTS, ROOTS, since="0.2.7"),
    "madgrad, schedule": Row(
        *contrib("madgrad", SCHEDULE, 0.5, 0.1, 1e-3), ROOTS, ROOTS, since="0.2.7"
    ),
    "cocob": Row(*contrib("cocob"), FAR, FAR),
    "cocob, decay": Row(*contrib("cocob", SCHEDULE, 20.0, 1e-3, 0.1, MASK), FAR, FAR),
    "momo": Row(*contrib("momo", 0.1), SUMS, SUMS),
    "momo, bound": Row(*contrib("momo", SCHEDULE, 0.5, -0.5, 0.0, True), SUMS, SUMS),
    "momo_adam": Row(*contrib("momo_adam", 0.1), SUMS, SUMS),
    "momo_adam, bound": Row(
        *contrib("momo_adam", SCHEDULE, 0.5, 0.9, 1e-3, -0.5, 0.0, True), SUMS, SUMS
    ),
    "sm3": Row(*alike("sm3", 0.1), ROUNDED, ROUNDED, every_shape=False),
}
TABLE = [
    {"testcase_name": f"{name}, {dtype}", "row": row, "dtype": dtype}
    for name, row in ROWS.items()
    for dtype in ("float32", "float64") + ("complex64", "complex128") * row.complex
]
SINGLE = [case for case in TABLE if jnp.finfo(case["dtype"]).bits == 32]


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


def taken(row, record):
    """The record without parameters of one number, or of none, where optax fails for these."""
    if row.every_shape:
        return record
    return [jax.tree.map(lambda x: x if x.ndim and x.size else None, pair) for pair in record]


def replay(update, state, record):
    """Updates of every step, stacked, and the state after the last."""
    updates = []
    for g, p in record:
        u, state = update(g, state, p, value=jnp.asarray(2.0))
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
    @chex.variants(with_jit=True)
    @parameterized.named_parameters(TABLE)
    def test_updates_and_states_are_optaxs(self, row, dtype):
        real = not jnp.issubdtype(dtype, jnp.complexfloating)
        self.assert_optaxs(row, dtype, STEPS, row.jitted if real else row.otherwise)

    @chex.variants(without_jit=True)
    @parameterized.named_parameters(SINGLE)
    def test_operation_by_operation_they_are_too(self, row, dtype):
        # Each operation is dispatched alone, which a few steps of one width show as well.
        self.assert_optaxs(row, dtype, 5, row.otherwise)

    def assert_optaxs(self, row, dtype, steps, tolerance):
        if Version(row.since) > OPTAX:
            self.skipTest(f"optax has it since {row.since}")
        with enable_x64(jnp.finfo(dtype).bits == 64):
            record = taken(row, recorded(dtype)[:steps])
            found, expected = (
                replay(self.variant(tx.update), tx.init(record[0][1]), record)
                for tx in map(optax.with_extra_args_support, (row.ours(), row.theirs()))
            )
            assert_near(found, expected, tolerance, dtype)


# A running state changes hands.

HANDED = [
    name
    for name, row in ROWS.items()
    if ("," not in name or name == "adamw, schedules") and Version(row.since) <= OPTAX
]
DIRECTIONS = {"optax to gdfx": ("theirs", "ours"), "gdfx to optax": ("ours", "theirs")}


@functools.cache
def storable(name, dtype):
    """Twelve steps of the record without the zero-size leaf, which Orbax does not store."""
    return [
        tuple({"w": x["w"], "layers": x["layers"][0]} for x in pair)
        for pair in taken(ROWS[name], recorded(dtype)[:12])
    ]


@functools.cache
def uninterrupted(name, side, dtype):
    """The method, its state after six steps, and what six further steps do."""
    tx = optax.with_extra_args_support(getattr(ROWS[name], side)())
    record = storable(name, dtype)
    _, half = replay(tx.update, tx.init(record[0][1]), record[:6])
    return tx, half, replay(tx.update, half, record[6:])


def assert_goes_on(name, way, dtype, half):
    first, second = DIRECTIONS[way]
    _, _, expected = uninterrupted(name, first, dtype)
    tx, _, _ = uninterrupted(name, second, dtype)
    found = replay(tx.update, half, storable(name, dtype)[6:])
    assert_near(found, expected, ROWS[name].otherwise, dtype)


@pytest.mark.parametrize("name", HANDED)
@pytest.mark.parametrize("way", DIRECTIONS)
def test_running_state_changes_hands(name, way, precision):
    _, half, _ = uninterrupted(name, DIRECTIONS[way][0], precision)
    assert_goes_on(name, way, precision, half)
    assert_goes_on(name, way, precision, pickle.loads(pickle.dumps(half)))


@pytest.mark.parametrize("way", DIRECTIONS)
def test_orbax_checkpoint_changes_hands(way, tmp_path):
    first, second = DIRECTIONS[way]
    written = {name: uninterrupted(name, first, "float32")[1] for name in HANDED}
    empty = {
        name: uninterrupted(name, second, "float32")[0].init(storable(name, "float32")[0][1])
        for name in HANDED
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "states", written)
        checkpointer.wait_until_finished()
        read = checkpointer.restore(tmp_path / "states", empty)
    for name in HANDED:
        assert_goes_on(name, way, "float32", read[name])
