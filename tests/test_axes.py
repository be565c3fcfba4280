"""`MatrixAxes`: how the matrices of a leaf lie in it; what follows for every method of matrices."""

import functools
import inspect
import itertools
import math
import re
import string
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gdfx
from gdfx import METHODS, MatrixAxes
from gdfx.core.axes import placement
from gdfx.core.layouts import resolved


def place(shape, axes):
    return placement("method", "['w']", shape, axes)


@st.composite
def leaves(draw):
    """A shape, and axes of it in any groups and order, some of them in blocks."""
    n = draw(st.integers(2, 5))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)))
    order = draw(st.permutations(range(n)))
    first = draw(st.integers(1, n - 1))
    second = draw(st.integers(first + 1, n))
    negative = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    named = [a - n * flag for a, flag in zip(order, negative, strict=True)]
    groups = named[:first], named[first:second], named[second:]
    blocks = {}
    for axis in draw(st.sets(st.sampled_from(range(n)), max_size=2)):
        cuts = draw(st.sets(st.integers(1, shape[axis]), max_size=2)) | {shape[axis]}
        edges = [0, *sorted(cuts)]
        blocks[axis] = tuple(b - a for a, b in itertools.pairwise(edges))
    return shape, MatrixAxes(*groups, blocks=blocks)


def oracle(x, axes):
    """The matrices of a leaf, block by block and copy by copy, by NumPy's einsum."""
    n = x.ndim
    inputs, outputs, batch = ([a % n for a in g] for g in (axes.inputs, axes.outputs, axes.batch))
    letters = string.ascii_lowercase[:n]
    order = "".join(letters[a] for a in (*batch, *outputs, *inputs))
    pieces = [x]
    for axis, sizes in axes.blocks:
        cuts = np.cumsum(sizes)[:-1]
        pieces = [part for piece in pieces for part in np.split(piece, cuts, axis)]
    found = []
    for piece in pieces:
        moved = np.einsum(f"{letters}->{order}", piece)
        rows = math.prod(piece.shape[a] for a in outputs)
        found += list(moved.reshape(-1, rows, math.prod(piece.shape[a] for a in inputs)))
    return found


@given(leaves())
def test_matrices_are_numpys_and_the_leaf_comes_back(case):
    shape, axes = case
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    there = place(shape, axes)
    stacks = there.matrices(jnp.asarray(x))
    np.testing.assert_array_equal(there.leaf(stacks), x)
    assert [s.shape for s in stacks] == [(*lead, n, m) for lead, n, m in there.sizes()]
    flat = [m for s in stacks for m in np.asarray(s).reshape(-1, *s.shape[-2:])]
    expected = oracle(x, axes)
    assert len(flat) == len(expected)

    def key(m):
        return m.shape, m.tobytes()

    assert Counter(map(key, flat)) == Counter(map(key, expected))


def test_rows_are_outputs_merged_in_the_order_given():
    x = jnp.arange(24).reshape(2, 3, 4)
    (m,) = place(x.shape, MatrixAxes(inputs=(2, 0), outputs=1)).matrices(x)
    np.testing.assert_array_equal(m, np.einsum("aoi->oia", x).reshape(3, 8))
    (m,) = place(x.shape, MatrixAxes(inputs=0, outputs=1, batch=-1)).matrices(x)
    np.testing.assert_array_equal(m, np.einsum("ioc->coi", x))


def test_equal_blocks_are_copies_and_others_stand_alone():
    x = jnp.arange(24).reshape(2, 12)
    equal = place(x.shape, MatrixAxes(blocks={1: 3}))
    assert equal == place(x.shape, MatrixAxes(blocks={-1: (4, 4, 4)}))
    assert equal.sizes() == [((3,), 4, 2)]
    np.testing.assert_array_equal(equal.matrices(x)[0][1], x[:, 4:8].T)
    unequal = place(x.shape, MatrixAxes(blocks=[(1, (3, 9))]))
    assert unequal.sizes() == [((), 3, 2), ((), 9, 2)]
    np.testing.assert_array_equal(unequal.matrices(x)[1], x[:, 3:].T)


def test_equal_axes_are_equal_and_can_be_looked_up():
    one, other = MatrixAxes(0, 1, blocks={1: 3}), MatrixAxes([0], (1,), (), [(1, 3)])
    assert one == other
    assert len({one, other}) == 1


AXES = "MatrixAxes(inputs={}, outputs={}, batch={}, blocks={})"
ONCE = "does not name each of its 3 axes once"
WRONG = [
    (MatrixAxes(0, 3), AXES.format("(0,)", "(3,)", "()", "()"), "names axis 3"),
    (MatrixAxes(-4, 1), AXES.format("(-4,)", "(1,)", "()", "()"), "names axis -4"),
    (MatrixAxes(0, 1, 2, {5: 2}), AXES.format("(0,)", "(1,)", "(2,)", "((5, 2),)"), "names axis 5"),
    (
        MatrixAxes(),
        AXES.format("(0,)", "(1,)", "()", "()"),
        "does not name each of its 3 axes once",
    ),
    (
        MatrixAxes((0, 2), -1),
        AXES.format("(0, 2)", "(-1,)", "()", "()"),
        "does not name each of its 3 axes once",
    ),
    (MatrixAxes((), 0, (1, 2)), AXES.format("()", "(0,)", "(1, 2)", "()"), "has no inputs"),
    (MatrixAxes(0, (), (1, 2)), AXES.format("(0,)", "()", "(1, 2)", "()"), "has no outputs"),
    *[
        (
            MatrixAxes(0, 1, 2, {1: blocks}),
            AXES.format("(0,)", "(1,)", "(2,)", f"((1, {blocks}),)"),
            "has blocks that do not make up the 6 of axis 1",
        )
        for blocks in (4, 0, -6, (2, 3), (6, 0), ())
    ],
]


@pytest.mark.parametrize(("axes", "shown", "words"), WRONG)
def test_axes_that_do_not_fit_are_refused(axes, shown, words):
    with pytest.raises(ValueError, match="shape") as caught:
        place((2, 6, 3), axes)
    assert str(caught.value) == f"method: ['w'] has shape (2, 6, 3), but {shown} {words}"


def test_axes_named_twice_in_blocks_are_refused():
    with pytest.raises(ValueError, match="twice") as caught:
        place((2, 6), MatrixAxes(blocks=[(1, 2), (-1, 3)]))
    assert str(caught.value) == (
        "method: ['w'] has shape (2, 6), but "
        f"{AXES.format('(0,)', '(1,)', '()', '((1, 2), (-1, 3))')} has blocks of axis 1 twice"
    )


def test_a_tree_of_axes_ends_where_all_below_is_said():
    x, b = jnp.ones((2, 3)), jnp.ones(3)
    tree = {"mlp": {"up": x, "down": x}, "bias": b}
    found = resolved("method", {"mlp": MatrixAxes(), "bias": None}, tree)
    assert found == [None, place((2, 3), MatrixAxes()), place((2, 3), MatrixAxes())]
    with pytest.raises(TypeError) as caught:
        resolved("method", {"mlp": 1, "bias": None}, tree)
    assert str(caught.value) == (
        "method: matrices must give gdfx.MatrixAxes or None for each leaf, got 1 for a leaf of the "
        "tree matrices"
    )
    with pytest.raises(ValueError, match="method: matrices is no tree like the parameters': "):
        resolved("method", {"mlp": MatrixAxes()}, tree)


# What the kit's laws cannot say of every method of matrices: how stacks are worked on.

MATRIX = {
    name: m
    for name, m in METHODS.items()
    if m.reach == "matrix" and "key" not in inspect.signature(m.factory).parameters
}
"""Where there is a random key, each matrix draws for itself."""

EACH = pytest.mark.parametrize("method", MATRIX.values(), ids=MATRIX)


def every_method(test):
    """The test on each method, in float64: what is not the same there is another method."""
    return EACH(pytest.mark.usefixtures("x64")(test))


STEPS = 2
OUT_IN = MatrixAxes(inputs=1, outputs=0)


def make(method, matrices, **more):
    return method.factory(0.1, matrices=matrices, **more)


def drawn(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def trajectory(tx, params):
    """The parameters after a few steps; the gradient is a function of them."""

    def step(params, state):
        gradients = jax.tree.map(lambda p: jnp.sin(3 * p), params)
        u, state = tx.update(gradients, state, params)
        return jax.tree.map(jnp.add, params, u), state

    step, state = jax.jit(step), tx.init(params)
    for _ in range(STEPS):
        params, state = step(params, state)
    return params


TOLERANCE = 1e-8


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


# A factor that lacks two directions or more leaves their basis to rounding: there are none.
PIECES = {name: drawn((6, 6), i) for i, name in enumerate("ab")}


@functools.cache
def alone(name):
    """Two matrices, each a leaf."""
    return trajectory(make(METHODS[name], lambda *_: OUT_IN), PIECES)


@every_method
def test_stacked_leaves_move_as_each_alone(method, monkeypatch):
    """With one device, leaves of equal shapes are one stack, on a CPU a loop over it."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    found = trajectory(make(method, lambda *_: OUT_IN), PIECES)
    for name, expected in alone(method.name).items():
        close(found[name], expected)


@every_method
def test_what_an_accelerator_does_at_once_is_what_a_cpu_does_in_turn(method, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    found = trajectory(make(method, lambda *_: OUT_IN), PIECES)
    for name, expected in alone(method.name).items():
        close(found[name], expected)


# Several devices.

MESSAGES = (
    r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def messages(text, least):
    """How many of each kind a compiled program sends, of so many numbers."""
    found = Counter()
    for shapes, kind in re.findall(MESSAGES, text):
        sizes = re.findall(r"f64\[([\d,]*)\]", shapes)
        found[kind] += sum(math.prod(map(int, s.split(","))) for s in sizes) >= least
    return {kind: n for kind, n in found.items() if n}


DEALT = {n: m for n, m in MATRIX.items() if "over" in inspect.signature(m.factory).parameters}
PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
SAID = {
    name: tuple(map(int, row.groups()[1:]))
    for row in re.finditer(r"^\| (`.*`) \| (\d) \| (\d) \| (\d) \|$", PAGE.read_text(), re.M)
    for name in re.findall(r"`(.*?)`", row[1])
}
"""What the page says: arrays there, those back, and factors and bases back."""


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", DEALT.values(), ids=DEALT)
def test_matrices_are_dealt_out_to_devices(method):
    """As on one device, and what moves between devices does not grow with the leaves."""
    mesh = jax.make_mesh((8,), ("x",))
    rows = NamedSharding(mesh, PartitionSpec("x"))
    params = {str(i): drawn((8, 16), i) for i in range(3)}
    tx, plain = (make(method, lambda *_: OUT_IN, over=over) for over in (rows, None))
    spread = jax.device_put(params, rows)
    state = jax.jit(tx.init)(spread)
    update = jax.jit(tx.update).lower(spread, state, spread).compile()
    u, _ = update(spread, state, spread)
    expected, _ = jax.jit(plain.update)(params, plain.init(params), params)
    for name in params:
        close(u[name], expected[name])
    there, back, factors = SAID[method.name]
    sent = {"all-to-all": there + back, "all-gather": factors}
    assert messages(update.as_text(), 64) == {kind: n for kind, n in sent.items() if n}


def test_what_every_device_has_is_dealt_out_without_a_message():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    params = jax.device_put({str(i): jnp.ones((8, 16)) for i in range(3)}, everywhere)
    tx = gdfx.muon(0.1, matrices="2d", over=NamedSharding(mesh, PartitionSpec("x")))
    compiled = jax.jit(tx.update).lower(params, tx.init(params), params).compile()
    kinds = [kind for _, kind in re.findall(MESSAGES, compiled.as_text())]
    assert kinds == ["all-gather"]  # of the updates: momenta stay


def test_the_page_tells_of_all_that_are_dealt_out():
    assert SAID.keys() == DEALT.keys()
