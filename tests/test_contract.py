"""Every transformation of the catalog keeps every rule of the optax contract."""

import functools
import pickle
from inspect import signature

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import DTYPES, SAMPLE, at, avals, replay, train, tree
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gdfx.core.arguments import rules
from gdfx.core.inner import demands
from gdfx.testing.versions import set_mesh

STEPS = 4

every_case = pytest.mark.parametrize("case", SAMPLE, ids=str)


@pytest.fixture(scope="module")
def params():
    return tree()


@pytest.fixture(scope="module")
def gradients():
    return [tree(seed=i + 1) for i in range(STEPS)]


@functools.cache
def plain(case):
    """The run that every other way of running must reproduce."""
    return replay(case.tx, tree(), [tree(seed=i + 1) for i in range(STEPS)])


def in_one_scan(tx, params, gradients):
    """The same as `replay`, compiled."""
    found, state, updates = jax.jit(functools.partial(train, tx))(params, stack(gradients))
    return found, state, [at(updates, i) for i in range(len(gradients))]


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def close(a, b):
    # Another grouping of the same operations may round each of them once more; parameters are
    # sums of steps of about 1, which may cancel.
    chex.assert_trees_all_close(a, b, rtol=2e-6, atol=1e-6)


def abstract(x):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x)


# How it is run.


@every_case
def test_jit_equals_eager_and_does_not_trace_again(case, params, gradients):
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(case.tx.update, n=1))
    close(replay(case.tx._replace(update=update), params, gradients), plain(case))


@every_case
def test_no_promotion_is_left_to_chance(case, params, gradients):
    with jax.numpy_dtype_promotion("strict"):
        replay(case.tx, params, gradients[:2])


@every_case
def test_scan_with_cond_inside(case, params, gradients):
    def step(carry, x):
        keep, g = x

        def move(params, state):
            updates, state = case.tx.update(g, state, params)
            return optax.apply_updates(params, updates), state

        return lax.cond(keep, move, lambda *carry: carry, *carry), None

    keep = jnp.arange(2 * STEPS) % 2 == 1
    every_second = stack([g for g in gradients for _ in range(2)])
    carry, _ = lax.scan(step, (params, case.tx.init(params)), (keep, every_second))
    close(carry, plain(case)[:2])


@every_case
def test_vmap_over_parameters(case, params, gradients):
    batch = stack([params, gradients[0]]), stack([stack(gradients), stack(gradients[::-1])])
    found = jax.jit(jax.vmap(functools.partial(train, case.tx)))(*batch)
    close(at(found, 0)[:2], plain(case)[:2])
    close(at(found, 1)[:2], replay(case.tx, gradients[0], gradients[::-1])[:2])


@every_case
def test_vmap_over_hyperparameters(case, params, gradients):
    def run(numbers):
        return train(case.make(**numbers), params, stack(gradients))[0]

    other = {name: x / 2 + 1e-3 for name, x in case.numbers.items()}
    both = jax.tree.map(lambda *x: jnp.stack(x), case.numbers, other)
    found = jax.jit(jax.vmap(run))(both)
    expected = plain(case)[0], in_one_scan(case.make(**other), params, gradients)[0]
    for i in range(2):
        # An array's 1 - b is formed in float32, a Python number's in float64.
        chex.assert_trees_all_close(at(found, i), expected[i], rtol=1e-4, atol=1e-5)


@every_case
def test_gradient_through_training(case, x64):
    tx, start = case.tx, {"w": jnp.array([1.0, -2.0, 0.5])}

    @jax.jit
    def final_loss(params):
        def loss(p):
            return jnp.sum(jnp.sqrt(1 + p["w"] ** 2))

        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return loss(params)

    jax.test_util.check_grads(final_loss, (start,), order=1, eps=1e-5, rtol=1e-6)


# What it is run on.


@every_case
@pytest.mark.parametrize(
    "absent", [None, optax.MaskedNode(), (), {}], ids=["None", "MaskedNode", "()", "{}"]
)
def test_nodes_without_leaves_pass_through(case, absent):
    tx = case.tx
    x = jnp.ones(2)
    alone, _ = tx.update(x, tx.init(x), x)
    for params in ({"a": x, "b": absent}, [absent]):
        state = tx.init(params)
        updates, new = tx.update(params, state, params)
        chex.assert_trees_all_equal_structs(updates, params)
        chex.assert_trees_all_equal_structs(new, state)
    both = {"a": x, "b": absent}
    updates, _ = tx.update(both, tx.init(both), both)
    chex.assert_trees_all_equal(updates["a"], alone)


@every_case
def test_extra_arguments_are_accepted(case, params, gradients):
    tx = case.tx
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    g = gradients[0]
    expected = tx.update(g, tx.init(params), params)
    found = tx.update(g, tx.init(params), params, value=1.0, grad=g, unknown="x")
    chex.assert_trees_all_equal(found, expected)


@every_case
def test_parameters_are_asked_for_or_make_no_difference(case, params, gradients):
    tx = case.tx
    g = gradients[0]
    if "params" in demands(tx):
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(g, tx.init(params))
    else:
        chex.assert_trees_all_equal(
            tx.update(g, tx.init(params)), tx.update(g, tx.init(params), params)
        )


@every_case
@pytest.mark.parametrize("param", DTYPES)
@pytest.mark.parametrize("gradient", DTYPES)
def test_no_dtype_drifts(case, param, gradient, x64):
    tx = case.tx
    p, g = jax.ShapeDtypeStruct((2,), param), jax.ShapeDtypeStruct((2,), gradient)
    state = jax.eval_shape(tx.init, p)
    if jnp.issubdtype(gradient, jnp.complexfloating) > jnp.issubdtype(param, jnp.complexfloating):
        with pytest.raises(TypeError, match="take the real part of the gradient"):
            jax.eval_shape(tx.update, g, state, p)
        return
    updates, new = jax.eval_shape(tx.update, g, state, p)
    _, newer = jax.eval_shape(tx.update, g, new, p)
    assert avals(state) == avals(new) == avals(newer)
    assert updates.dtype == gradient
    for leaf in jax.tree.leaves(state):
        assert leaf.dtype == jnp.int32 or jnp.finfo(leaf.dtype).bits >= 32


@every_case
def test_accumulators_take_the_dtype_that_is_asked_for(case):
    dtypes = [name for name in signature(case.factory).parameters if name.endswith("_dtype")]
    names = [name for name in dtypes if name != "compute_dtype"]  # which no state is held in
    p = jnp.ones((2, 2))
    state = case.make(**dict.fromkeys(names, "bfloat16")).init(p)
    half = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
    assert len(half) == len(names)
    for name in names:
        tx = case.make(**{name: "float16"})
        state = tx.init(p)
        assert sum(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(state)) == 1
        assert avals(jax.eval_shape(tx.update, p, state, p)[1]) == avals(state)


# What it is run inside.

INSIDE = {
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1e9), tx),
    "named_chain": lambda tx: optax.named_chain(("one", tx), ("two", optax.identity())),
    "masked": lambda tx: optax.masked(tx, lambda p: jax.tree.map(lambda _: True, p)),
    "partition": lambda tx: optax.partition({"a": tx, "b": tx}, {"w": "a", "layers": "b"}),
}


@every_case
@pytest.mark.parametrize("wrapper", INSIDE)
def test_unchanged_inside(case, wrapper, params, gradients):
    found, _, updates = replay(INSIDE[wrapper](case.tx), params, gradients)
    close((found, updates), plain(case)[::2])


@every_case
def test_masked_in_part(case, params, gradients):
    tx = optax.masked(case.tx, {"w": True, "layers": False})
    _, _, updates = replay(tx, params, gradients)
    for found, expected, g in zip(updates, plain(case)[2], gradients, strict=True):
        close(found["w"], expected["w"])
        chex.assert_trees_all_equal(found["layers"], g["layers"])


@every_case
def test_multi_steps_moves_at_every_second_gradient(case, params, gradients):
    tx = optax.MultiSteps(case.tx, every_k_schedule=2)
    _, _, updates = in_one_scan(tx, params, [g for g in gradients for _ in range(2)])
    close(updates[1::2], plain(case)[2])
    assert not any(u.any() for u in jax.tree.leaves(updates[::2]))


@every_case
def test_apply_if_finite_steps_over_a_broken_gradient(case, params, gradients):
    broken = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), gradients[0])
    tx = optax.apply_if_finite(case.tx, 2)
    found, _, updates = in_one_scan(tx, params, [gradients[0], broken, *gradients[1:]])
    close((found, [updates[0], *updates[2:]]), plain(case)[::2])


def injected(case, **options):
    """Its numbers given as arrays, in the state; what is no number is static."""
    static = [name for name in rules(case.factory) if name not in case.numbers]
    return optax.inject_hyperparams(case.factory, static, **options)(**case.arguments)


@every_case
def test_inject_hyperparams(case, params, gradients):
    tx = injected(case)
    found, state, _ = in_one_scan(tx, params, gradients)
    assert set(case.numbers) <= set(state.hyperparams)
    # An array's 1 - b is formed in float32, a Python number's in float64.
    chex.assert_trees_all_close(found, plain(case)[0], rtol=1e-4, atol=1e-5)


@every_case
def test_inject_hyperparams_in_bfloat16(case):
    params, *gradients = [{"w": tree("bfloat16", seed=i)["w"]} for i in range(STEPS + 1)]
    tx = injected(case, hyperparam_dtype=jnp.float32)
    _, _, found = in_one_scan(tx, params, gradients)
    _, _, expected = in_one_scan(case.tx, params, gradients)
    chex.assert_trees_all_equal_dtypes(found, gradients)
    chex.assert_trees_all_close(found, expected, rtol=2**-7)  # one unit in the last place


@every_case
def test_lookahead_with_whole_slow_steps_is_the_fast_run(case, params, gradients):
    tx = optax.lookahead(case.tx, sync_period=2, slow_step_size=1.0)
    pair, _, _ = replay(tx, optax.LookaheadParams.init_synced(params), gradients)
    close(pair.fast, plain(case)[0])


@every_case
def test_tree_map_params_finds_the_accumulators(case, params):
    tx = case.tx
    state = tx.init(params)
    found = optax.tree_map_params(
        tx, lambda _: "accumulator", state, transform_non_params=lambda _: "count"
    )

    def kind(path, _):
        """What belongs to a parameter has its name on the way, in the dict that they are in."""
        names = {getattr(step, "key", None) for step in path}
        return "accumulator" if names & params.keys() else "count"

    assert found == jax.tree_util.tree_map_with_path(kind, state)


# Where it is stored.


@every_case
def test_init_from_shapes(case, params):
    tx = case.tx
    found = jax.eval_shape(tx.init, abstract(params))
    assert avals(found) == avals(tx.init(params))


@every_case
def test_donated_buffers_are_used(case, gradients):
    tx, params = case.tx, tree()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    params, state = old = params, jax.jit(tx.init)(params)
    for g in gradients:
        params, state = step(params, state, g)
    assert all(x.is_deleted() for x in jax.tree.leaves(old) if x.size)
    close((params, state), plain(case)[:2])


@every_case
def test_a_pickled_run_resumes_bitwise(case, params, gradients):
    tx = case.tx
    update = jax.jit(tx.update)

    def go_on(state, steps):
        for g in steps:
            updates, state = update(g, state, params)
        return updates, state

    steps = gradients
    whole = go_on(tx.init(params), steps)
    _, half = go_on(tx.init(params), steps[:2])
    stored = pickle.loads(pickle.dumps(half))
    chex.assert_trees_all_equal_structs(stored, half)
    chex.assert_trees_all_equal(go_on(stored, steps[2:]), whole)


@every_case
@pytest.mark.parametrize("axis", [AxisType.Auto, AxisType.Explicit], ids=lambda axis: axis.name)
@pytest.mark.parametrize("jit", [True, False], ids=["jitted init", "eager init"])
def test_shardings_carry_over(case, axis, jit):
    tx = case.tx
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis,))
    rng = np.random.default_rng(0)
    whole = {"w": jnp.asarray(rng.normal(size=(16, 2)), jnp.float32), "b": jnp.ones(3)}
    sharding = {
        "w": NamedSharding(mesh, PartitionSpec("x")),
        "b": NamedSharding(mesh, PartitionSpec()),
    }
    params = jax.device_put(whole, sharding)
    with set_mesh(mesh):
        state = (jax.jit(tx.init) if jit else tx.init)(params)
        updates, new = jax.jit(tx.update)(params, state, params)
    for s in (state, new):
        for leaf in jax.tree.leaves(s):
            right = {p.shape: p.sharding for p in params.values()}.get(leaf.shape)
            assert right is None or leaf.sharding.is_equivalent_to(right, leaf.ndim)
    assert updates["w"].sharding.is_equivalent_to(sharding["w"], 2)
    close((updates, new), tx.update(whole, tx.init(whole), whole))


@every_case
def test_export_lowers_for_every_platform(case, params, gradients):
    tx = case.tx
    g = abstract(gradients[0])
    state = jax.eval_shape(tx.init, params)
    platforms = ("cpu", "cuda", "rocm", "tpu")
    exported = jax.export.export(jax.jit(tx.update), platforms=platforms)(
        g, state, abstract(params)
    )
    assert exported.platforms == platforms
