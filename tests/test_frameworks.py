"""What other people's programs hand over: whole models, keys of either style, odd dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import READY_MADE, SAMPLE
from chex import assert_trees_all_close, assert_trees_all_equal
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gdfx
from gdfx.testing.versions import enable_x64, set_mesh

eqx = pytest.importorskip("equinox")


class Model(eqx.Module):
    """A weight, one that is frozen, a function and whole numbers; it can be called."""

    weight: object
    frozen: object
    activation: object
    steps: object

    def __call__(self, x):
        raise AssertionError("a tree is no function")


MODEL = Model(jnp.array([1.0, -2.0]), jnp.ones(3), jax.nn.relu, jnp.arange(2))
WEIGHT = Model(True, False, False, False)


def every_leaf(params):
    return jax.tree.map(lambda _: True, params)


def stochastic(tx):
    return gdfx.stochastic_rounding(tx, jax.random.key(0))


WRAPPERS = {
    "skip_nonfinite": gdfx.skip_nonfinite,
    "compensated": gdfx.compensated,
    "stochastic_rounding": stochastic,
}
OPTIMIZERS = {str(case): case.make for case in READY_MADE if not case.method.needs_value} | {
    name: lambda wrap=wrap: wrap(gdfx.adamw(0.1)) for name, wrap in WRAPPERS.items()
}
MASKED = {
    "adamw(mask=a function)": lambda: gdfx.adamw(0.1, mask=every_leaf),
    "adamw(mask=a model)": lambda: gdfx.adamw(0.1, mask=WEIGHT),
    "skip_nonfinite, masked": lambda: gdfx.skip_nonfinite(gdfx.adamw(0.1, mask=every_leaf)),
}
OF_EACH_SORT = [name for name in OPTIMIZERS if name in {*map(str, SAMPLE), *WRAPPERS}]
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("part", ["what is trained", "all arrays"])
@pytest.mark.parametrize("name", [*OF_EACH_SORT, *MASKED])
def test_a_part_of_a_model_is_trained(name, part, jit):
    """Equinox hands over the whole model; where a gradient is None, all stays as it is."""
    tx = (OPTIMIZERS | MASKED)[name]()
    alone = tx if name in OPTIMIZERS else gdfx.adamw(0.1)
    gradients = eqx.filter(MODEL, WEIGHT)
    state = tx.init(
        gradients if part == "what is trained" else eqx.filter(MODEL, eqx.is_inexact_array)
    )
    updates, new = (eqx.filter_jit(tx.update) if jit else tx.update)(gradients, state, MODEL)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert (updates.frozen, updates.activation, updates.steps) == (None, None, None)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        if a.shape == MODEL.frozen.shape:
            assert_trees_all_equal(a, b)
    expected, _ = alone.update(MODEL.weight, alone.init(MODEL.weight), MODEL.weight)
    assert_trees_all_close(updates.weight, expected, rtol=1e-6)
    assert_trees_all_equal(eqx.apply_updates(MODEL, updates).frozen, MODEL.frozen)


@every_optimizer
def test_a_gradient_without_its_parameter_is_refused(make):
    tx, params = make(), {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"the gradients have \['b'\], which the parameters lack"):
        tx.update(params, tx.init(params), {"a": jnp.ones(2), "b": None})


def test_a_model_of_bools_says_what_decays():
    tx = gdfx.adamw(1.0, weight_decay=0.5, mask=Model(False, True, False, False))
    arrays = eqx.filter(MODEL, eqx.is_inexact_array)
    zero = jax.tree.map(jnp.zeros_like, arrays)
    updates, _ = tx.update(zero, tx.init(arrays), MODEL)
    assert (updates.weight.tolist(), updates.frozen.tolist()) == ([0, 0], [-0.5] * 3)


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), lambda tx: gdfx.descend(tx, 1.0)])
def test_multi_steps_is_an_optimizer(wrap):
    """`optax.MultiSteps` is no `GradientTransformation`, but optax's own wrappers take it."""
    tx, w = wrap(optax.MultiSteps(optax.sgd(0.5), 2)), jnp.ones(2)
    state = tx.init(w)
    seen = []
    for _ in range(2):
        updates, state = tx.update(w, state, w)
        seen.append(float(abs(updates[0])))
    assert seen == [0.0, 0.5]


# Keys.


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_state_holds_the_bits_of_a_key(impl):
    key, w = jax.random.key(3, impl=impl), jnp.ones(64, jnp.bfloat16)
    before = np.asarray(jax.random.key_data(key))
    tx = gdfx.stochastic_rounding(gdfx.sgd(1e-3), key)
    state = tx.init(w)
    np.testing.assert_array_equal(np.asarray(state.key).view(np.uint32), before)
    step = jax.jit(tx.update, donate_argnums=1)
    updates, state = step(w, state, w)
    np.testing.assert_array_equal(jax.random.key_data(key), before)  # the caller's key is alive
    again, _ = step(w, tx.init(w), w)
    assert_trees_all_equal(updates, again)
    assert np.asarray(state.key).view(np.uint32).tolist() != before.tolist()
    cast = tx.init(w)._replace(key=tx.init(w).key.astype(jnp.float32))
    assert_trees_all_equal(updates, tx.update(w, cast, w)[0])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_an_old_style_key_is_the_new_one(impl):
    w = jnp.ones(64, jnp.bfloat16)
    new = jax.random.key(3, impl=impl)
    found = [
        tx.update(w, tx.init(w), w)[0]
        for tx in (
            gdfx.stochastic_rounding(gdfx.sgd(1e-3), k) for k in (new, jax.random.key_data(new))
        )
    ]
    assert_trees_all_equal(*found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gdfx.noisy_sgd(0.1, key=3),
        lambda: gdfx.kron(0.1, matrices="2d", key=3),
        lambda: gdfx.stochastic_rounding(gdfx.sgd(1e-3), jax.random.key(3)),
    ],
    ids=["noisy_sgd", "kron", "stochastic_rounding"],
)
def test_an_optimizer_that_was_made_in_a_mesh_works_outside_it(make):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    with set_mesh(mesh):
        inside = make()
    w, outside = jnp.ones((4, 4), jnp.bfloat16), make()
    found, expected = (jax.jit(tx.update)(w, jax.jit(tx.init)(w), w)[0] for tx in (inside, outside))
    assert_trees_all_equal(found, expected)


def test_members_of_an_ensemble_round_apart_where_their_axis_is_named():
    w = jnp.ones((4, 512), jnp.bfloat16)

    def first_update(axis_name):
        tx = gdfx.stochastic_rounding(gdfx.sgd(1e-3), jax.random.key(0), axis_name=axis_name)
        return jax.vmap(lambda w: tx.update(w, tx.init(w), w)[0], axis_name="member")(w)

    same, apart = first_update(None), first_update("member")
    assert_trees_all_equal(same[0], same[1])
    assert len({tuple(row) for row in apart.tolist()}) == 4
    # -1e-3 is rounded to 0 or to -2^-8, the next number below 1.
    np.testing.assert_allclose(np.float32(apart).mean(), -1e-3, atol=5 * 2**-9 / np.sqrt(2048))


def test_random_numbers_are_the_same_on_several_devices():
    w = jnp.ones((16, 5), jnp.bfloat16)
    tx = gdfx.stochastic_rounding(gdfx.sgd(1e-3), jax.random.key(0))
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    spread = jax.device_put(w, sharding)
    found = jax.jit(tx.update)(spread, tx.init(spread), spread)[0]
    assert_trees_all_equal(found, jax.jit(tx.update)(w, tx.init(w), w)[0])


# Dtypes.

FLOAT8 = (
    "parameter ['w'] is float8_e4m3fn, where the steps of a run are lost; hold it in bfloat16 or "
    "wider and cast it inside the loss"
)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: gdfx.sgd(0.1), "sgd"),
        (lambda: gdfx.adam(0.1), "scale_by_adam"),
        (lambda: gdfx.compensated(optax.sgd(0.1)), "compensated"),
        (lambda: stochastic(optax.sgd(0.1)), "stochastic_rounding"),
    ],
)
def test_float8_is_no_dtype_for_parameters(make, name):
    with pytest.raises(TypeError) as error:
        make().init({"w": jnp.ones(2, jnp.float8_e4m3fn)})
    assert str(error.value) == f"{name}: {FLOAT8}"


@every_optimizer
def test_double_precision_met_without_x64_is_single(make):
    with enable_x64(True):
        double = jnp.array([1.0, -2.0], jnp.float64)
    tx = make()
    expected, _ = tx.update(
        jnp.float32([1, -2]), tx.init(jnp.float32([1, -2])), jnp.float32([1, -2])
    )
    for x in (np.array([1.0, -2.0]), double):
        updates, state = tx.update(x, tx.init(x), x)
        assert updates.dtype == jnp.float32
        assert all(a.dtype != jnp.float64 for a in jax.tree.leaves(state))
        assert_trees_all_close(updates, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@every_optimizer
def test_no_dtype_is_promoted_by_chance(make, dtype):
    w, tx = jnp.ones(3, dtype), make()
    with jax.numpy_dtype_promotion("strict"):
        updates, _ = jax.eval_shape(tx.update, w, tx.init(w), w)
        assert jax.eval_shape(optax.apply_updates, w, updates).dtype == dtype


@pytest.mark.parametrize("wrap", [gdfx.compensated, stochastic])
def test_weights_wider_than_their_gradients_move_as_they_are_told(wrap):
    with enable_x64(True):
        tx, w = wrap(gdfx.sgd(1e-9)), jnp.ones(2, jnp.float64)
        state, update = tx.init(w), jax.jit(tx.update)
        for _ in range(100):
            updates, state = update(jnp.ones(2, jnp.float32), state, w)
            w = optax.apply_updates(w, updates)
        np.testing.assert_allclose(w - 1, -1e-7, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("wrap", [gdfx.compensated, stochastic])
def test_zero_gradients_move_no_weight(wrap, dtype):
    """float16 has subnormal numbers from 6e-8 to 6e-5, where weights of networks lie too."""
    tx = wrap(gdfx.sgd(1.0))
    w = start = jnp.asarray(np.random.default_rng(0).normal(size=4096) * 0.02, dtype)
    state, update = tx.init(w), jax.jit(tx.update)
    for _ in range(3):
        updates, state = update(jnp.zeros_like(w), state, w)
        w = optax.apply_updates(w, updates)
    assert_trees_all_equal(w, start)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (), (1,), (3, 5)])
def test_every_shape_is_rounded(shape):
    tx, w = stochastic(gdfx.sgd(1e-3)), jnp.ones(shape, jnp.bfloat16)
    assert tx.update(w, tx.init(w), w)[0].shape == shape


@pytest.mark.parametrize("wrap", [gdfx.compensated, stochastic])
@pytest.mark.parametrize("gradient", ["float32", "complex64"])
def test_complex_weights_are_taken(wrap, gradient):
    with enable_x64(True):
        for weight in ("complex64", "complex128"):
            tx, w = wrap(gdfx.sgd(0.5)), jnp.ones(2, weight)
            updates, _ = tx.update(jnp.ones(2, gradient), tx.init(w), w)
            np.testing.assert_allclose(updates, -0.5, rtol=1e-6)


def test_a_guard_takes_layouts_and_keys():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    w = {
        "rows": jax.device_put(jnp.ones((8, 8)), NamedSharding(mesh, PartitionSpec("x", None))),
        "columns": jax.device_put(jnp.ones((8, 8)), NamedSharding(mesh, PartitionSpec(None, "x"))),
    }
    tx = gdfx.skip_nonfinite(gdfx.adam(0.1))
    with set_mesh(mesh):
        updates, _ = jax.jit(tx.update)(w, tx.init(w), w)
    np.testing.assert_allclose(updates["rows"], -0.1, rtol=1e-6)

    keyed = optax.GradientTransformation(
        lambda params: jax.random.key(0), lambda g, state, params=None: (g, state)
    )
    tx, bad = gdfx.skip_nonfinite(keyed), jnp.array([jnp.nan])
    for update in (tx.update, jax.jit(tx.update)):
        updates, state = update(bad, tx.init(bad))
        assert (updates.tolist(), int(state.total)) == ([0.0], 1)


def test_a_key_that_was_cast_too_far_is_refused():
    tx, w = stochastic(gdfx.sgd(0.1)), jnp.ones(2)
    state = tx.init(w)
    with pytest.raises(TypeError) as error:
        tx.update(w, state._replace(key=state.key.astype(jnp.float16)), w)
    assert str(error.value) == (
        "the state's key must be uint16, got float16, which holds too few of its bits; leave it "
        "out where a state is cast"
    )


@pytest.mark.parametrize(
    ("dtype", "value"), [("float16", 1e-4), ("bfloat16", 1.2345)], ids=["float16", "bfloat16"]
)
def test_weight_decay_is_formed_in_float32(dtype, value):
    w = jnp.full(2, value, dtype)
    tx = gdfx.adamw(1.0, weight_decay=1e-4)
    updates, _ = tx.update(jnp.zeros(2), tx.init(w), w)
    np.testing.assert_allclose(updates, -1e-4 * np.float64(w), rtol=1e-6)
