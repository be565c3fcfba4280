"""`per_matrix`: what a rule on one matrix is given, and what becomes of it on trees."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gdfx
from gdfx import MatrixAxes, per_matrix
from gdfx.core.matrix import when
from gdfx.core.moments import accumulator

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


class Sums(NamedTuple):
    """A sum of gradients, and of their squares along each row."""

    count: Any
    sum: Any
    rows: Any


def init(p):
    return accumulator(p), jnp.zeros(p.shape[0])


def rule(g, s, rows, *, t):
    return s + t, s + g, rows + jnp.sum(g * g, 1)


def axes(path, x):
    """Copies, blocks of equal and of different sizes, axes in an odd order."""
    return {
        "['plain']": MatrixAxes(),
        "['turned']": MatrixAxes(1, 0),
        "['copies']": MatrixAxes(1, 2, 0),
        "['equal']": MatrixAxes(blocks={1: 2}),
        "['unequal']": MatrixAxes(blocks={1: (1, 3)}),
        "['conv']": MatrixAxes((0, 1, 2), 3),
        "['empty']": MatrixAxes(),
    }.get(path)


TREE = {
    "plain": normal(3, 4),
    "turned": normal(4, 3),
    "copies": normal(2, 3, 4),
    "equal": normal(3, 8),
    "unequal": normal(3, 4),
    "conv": normal(2, 2, 3, 4),
    "empty": normal(0, 4),
}


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_rule_sees_outputs_by_inputs_and_a_state_lies_as_the_parameters_do(jit):
    tx = per_matrix(Sums, init, rule, matrices=axes)
    state = tx.init(TREE)
    assert jax.tree.map(jnp.shape, state.sum) == jax.tree.map(jnp.shape, TREE)
    assert {k: jax.tree.map(jnp.shape, v) for k, v in state.rows.items()} == {
        "plain": (4,),
        "turned": (4,),
        "copies": (2, 4),
        "equal": (2, 4),
        "unequal": [(1,), (3,)],
        "conv": (4,),
        "empty": (4,),
    }
    update = jax.jit(tx.update) if jit else tx.update
    u, state = update(TREE, state)
    u, state = update(TREE, state)
    for name, g in TREE.items():
        if g.size:
            np.testing.assert_allclose(u[name], g + 2, rtol=1e-6)
            np.testing.assert_allclose(state.sum[name], 2 * g, rtol=1e-6)
    squares = {k: 2 * np.square(g) for k, g in TREE.items()}
    np.testing.assert_allclose(state.rows["plain"], squares["plain"].sum(0), rtol=1e-6)
    np.testing.assert_allclose(state.rows["turned"], squares["turned"].sum(1), rtol=1e-6)
    np.testing.assert_allclose(state.rows["copies"], squares["copies"].sum(1), rtol=1e-6)
    np.testing.assert_allclose(np.ravel(state.rows["equal"]), squares["equal"].sum(0), rtol=1e-6)
    np.testing.assert_allclose(
        np.concatenate(state.rows["unequal"]), squares["unequal"].sum(0), rtol=1e-6
    )
    np.testing.assert_allclose(state.rows["conv"], squares["conv"].sum((0, 1, 2)), rtol=1e-6)


class Turns(NamedTuple):
    """When its costly work was last done."""

    count: Any
    last: Any


def test_a_rule_is_traced_once_for_all_matrices_of_a_shape(monkeypatch):
    """Else a model of more layers takes longer to compile."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    traced = []

    def noted(g, s, rows):
        traced.append(g.shape)
        return g, s, rows

    tx = per_matrix(Sums, init, noted, matrices="2d")
    g = {str(i): jnp.zeros((3, 4 + i % 2)) for i in range(8)}
    state = tx.init(g)
    jax.make_jaxpr(tx.update)(g, state)
    shapes = len(set(traced))
    assert (shapes, len(traced) / shapes) == (2, 2)  # on a CPU in turn, elsewhere at once


def outside_branches(jaxpr):
    """The names of all primitives that are run in every step."""
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield eqn.primitive.name
        if eqn.primitive.name != "cond":
            for inside in filter(is_jaxpr, eqn.params.values()):
                yield from outside_branches(inside)


def is_jaxpr(x):
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def test_costly_work_is_skipped_where_matrices_are_worked_on_at_once(monkeypatch):
    """A condition that `jax.vmap` maps over is a choice between two results: both are computed."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    tx = gdfx.scale_by_soap(matrices=lambda *_: MatrixAxes(1, 2, 0))
    g = jnp.ones((2, 3, 4))
    state = tx.init(g)
    for due, update in (False, tx.update), (True, jax.vmap(tx.update)):
        if due:
            g, state = (jax.tree.map(lambda x: x[None], tree) for tree in (g, state))
        found = set(outside_branches(jax.make_jaxpr(update)(g, state)))
        assert ({"eigh", "geqrf"} & found != set()) == due
        assert ("cond" in found) != due


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("spread", "expected"),
    [
        (False, [[0, 0, 0, 0], [0, 0, 0, 0], [3, 3, 3, 3], [3, 3, 3, 3]]),
        (True, [[0, 0, 1, 0], [0, 2, 1, 0], [3, 2, 1, 3], [3, 2, 4, 3]]),
    ],
)
def test_costly_work_is_due_every_few_steps_or_in_turns(spread, expected, jit):
    def turn(g, last, *, t, due):
        (last,) = when(due, lambda last: (t.astype(last.dtype) + 0 * last,), last)
        return g, last

    tx = per_matrix(
        Turns, lambda p: jnp.zeros(()), turn, matrices=lambda *_: MatrixAxes(1, 2, 0),
        every=3, spread=spread,
    )  # fmt: skip
    g = jnp.ones((4, 2, 3))
    state, update = tx.init(g), jax.jit(tx.update) if jit else tx.update
    found = []
    for _ in range(4):
        _, state = update(g, state)
        found.append(state.last.tolist())
    assert found == expected


class Keyed(NamedTuple):
    """A random key."""

    key: Any


def test_each_matrix_has_a_random_key_of_its_own_in_each_step():
    tx = per_matrix(
        Keyed, lambda p: (), lambda g, *, key: jax.random.normal(key, g.shape),
        matrices=axes, key=jax.random.key(0),
    )  # fmt: skip
    g = {k: TREE[k] for k in ("plain", "turned", "copies")}
    first, state = tx.update(g, tx.init(g))
    second, _ = tx.update(g, state)
    again, _ = jax.jit(tx.update)(g, tx.init(g))
    numbers = np.concatenate([np.ravel(x) for x in jax.tree.leaves((first, second))])
    assert len(set(numbers.tolist())) == numbers.size
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_matrices_with_keys_are_dealt_out_to_devices():
    mesh = jax.make_mesh((8,), ("x",))
    tx = per_matrix(
        Keyed, lambda p: (), lambda g, *, key: g + jax.random.normal(key, ()), matrices="2d",
        key=jax.random.key(0), over=NamedSharding(mesh, PartitionSpec("x")),
    )  # fmt: skip
    g = {"a": jnp.zeros((2, 3)), "b": jnp.zeros((2, 3))}
    u, _ = jax.jit(tx.update)(g, tx.init(g))
    assert len({float(x[0, 0]) for x in u.values()}) == 2
    assert all((x == x[0, 0]).all() for x in u.values())


def test_what_a_rule_asks_for_it_gets():
    def scaled(g, *, p, value, half):
        return g + p * value * half

    class Nothing(NamedTuple):
        count: Any

    tx = per_matrix(
        Nothing, lambda p: (), scaled, matrices="2d", scalars=lambda t: {"half": 0.5 * t}
    )
    w = normal(3, 4)
    u, _ = tx.update(w, tx.init(w), 2 * w, value=jnp.float32(3))
    np.testing.assert_allclose(u, w + 3 * w, rtol=1e-6)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(w, tx.init(w), value=1.0)


def test_where_there_is_no_gradient_nothing_moves():
    tx = per_matrix(Sums, init, rule, matrices=axes)
    params = {k: TREE[k] for k in ("plain", "copies")}
    state = tx.init(params)
    g = {"plain": None, "copies": params["copies"]}
    u, new = tx.update(g, state, params)
    assert u["plain"] is None
    np.testing.assert_array_equal(new.sum["plain"], state.sum["plain"])
    np.testing.assert_allclose(new.sum["copies"], params["copies"])


class Name(NamedTuple):
    """Nothing but the count."""

    count: Any


SENTENCES = [
    (
        lambda: per_matrix(Name, lambda p: (), by_path),
        TypeError,
        "by_path: the rule asks for path, but is mapped over the matrices of many leaves; give "
        "each kind of leaf an optimizer of its own, by optax.partition",
    ),
    (
        lambda: per_matrix(Name, lambda p: (), plain).init({"w": normal(2, 3)}),
        ValueError,
        "plain: which axes of ['w'] of shape (2, 3) are inputs and which are outputs cannot be "
        "known; give matrices='flax', 'haiku', 'equinox' or '2d' (every leaf of two axes), or a "
        "function of (path, array) that returns gdfx.MatrixAxes or None",
    ),
    (
        lambda: per_matrix(Name, lambda p: (), plain, matrices="2d").init({"b": normal(2)}),
        ValueError,
        "plain: ['b'] is no matrix by the given matrices; leave it to another transformation, by "
        "optax.masked or optax.partition",
    ),
    (
        lambda: per_matrix(Name, lambda p: (), plain, matrices=lambda *_: 3).init(normal(2, 3)),
        TypeError,
        "plain: matrices must give gdfx.MatrixAxes or None for each leaf, got 3 for (the whole "
        "tree)",
    ),
    (
        lambda: per_matrix(Name, lambda p: (), plain, matrices="2d").init(1j * normal(2, 3)),
        TypeError,
        "plain: parameter (the whole tree) is complex64, but must be real; wrap the optimizer in "
        "optax.contrib.split_real_and_imaginary",
    ),
]


def by_path(g, *, path):
    """What needs to know where its matrix stands."""
    return g * len(path)


def plain(g):
    """The gradient itself."""
    return g


@pytest.mark.parametrize(("call", "error", "sentence"), SENTENCES)
def test_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == sentence


def test_the_state_of_other_matrices_is_refused():
    tx = per_matrix(Sums, init, rule, matrices="2d")
    state = tx.init({"w": normal(3, 4)})
    with pytest.raises(ValueError, match=r"gradient \['w'\] has shape \(3, 5\), but its sum in "):
        tx.update({"w": normal(3, 5)}, state)


def test_an_optimizer_of_matrices_goes_through_optax():
    params = {"w": normal(3, 4), "b": normal(4)}
    tx = gdfx.muon(0.1, matrices="2d")
    state = tx.init(params)
    assert optax.tree.get(state, "trace")["w"].shape == (3, 4)
    ones = optax.tree_map_params(tx, jnp.ones_like, state)
    np.testing.assert_array_equal(optax.tree.get(ones, "trace")["w"], np.ones((3, 4)))
    np.testing.assert_array_equal(optax.tree.get(ones, "nu")["b"], np.ones(4))


def test_a_state_that_was_made_outside_a_mesh_goes_into_it():
    """The parameters lie in a mesh of explicit axes; a count and factors at the start do not."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    w = normal(4, 4)
    inside = jax.device_put(w, NamedSharding(mesh, PartitionSpec("x")))
    tx = gdfx.scale_by_soap(matrices="2d", first="step", eps=0.1)
    update = functools.partial(tx.update, value_fn=jnp.sum)  # for other links of a chain
    u, state = jax.jit(update)(inside, tx.init(inside))
    expected, _ = jax.jit(tx.update)(w, tx.init(w))
    np.testing.assert_allclose(u, expected, atol=1e-5)
    assert u.sharding.is_equivalent_to(inside.sharding, 2)
    assert state.count.sharding.is_fully_replicated


def test_in_such_a_mesh_no_step_need_be_compiled():
    """Nor need the mesh be entered: what was made outside of it is put there."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    g = jax.device_put(TREE["plain"].T, NamedSharding(mesh, PartitionSpec("x")))
    tx = per_matrix(Sums, init, rule, matrices="2d")
    u, state = tx.update(g, tx.init(g))
    u, state = tx.update(g, state)
    np.testing.assert_allclose(u, g + 2, rtol=1e-6)
    np.testing.assert_allclose(state.rows, 2 * np.square(g).sum(0), rtol=1e-6)
    assert u.sharding.is_equivalent_to(g.sharding, 2)
    assert state.count.sharding.is_fully_replicated
