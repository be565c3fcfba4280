"""State in parts: the same numbers as on one device, a part of the memory, and what is sent."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gdfx
from gdfx.testing.versions import set_mesh

KINDS = ("Auto", "Explicit")


def mesh_of(kind="Auto", sizes=(8,), names=("data",)):
    devices = jax.devices()[: int(np.prod(sizes))]
    kinds = (getattr(AxisType, kind),) * len(sizes)
    return jax.make_mesh(sizes, names, axis_types=kinds, devices=devices)


def drawn(seed):
    rng = np.random.default_rng(seed)
    shapes = {"w": (64, 128), "v": (128, 64), "u": (5001,), "b": (64,)}
    return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


W, GRADIENTS = drawn(0), [drawn(1), drawn(2)]


def run(tx, mesh=None, grads=GRADIENTS, w=W):
    """Weights and state after a few steps, the last updates and the compiled step."""
    everywhere = None if mesh is None else NamedSharding(mesh, P())
    w, grads = jax.device_put((w, grads), everywhere)
    state = tx.init(w)
    compiled = jax.jit(tx.update).lower(grads[0], state, w).compile()
    for g in grads:
        # Which takes no state that lies otherwise than the first one.
        updates, state = compiled(g, state, w)
        w = jax.tree.map(jnp.add, w, updates)
    return w, state, updates, compiled


def sent(compiled):
    """How often each kind of message stands in a compiled program."""
    kinds = r" (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
    return dict(collections.Counter(re.findall(kinds, compiled.as_text())))


def same(found, expected, rtol):
    rows = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for x, y in rows:
        if rtol == 0:
            np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
        else:
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


# The same numbers as on one device.


def muon(over=None):
    return gdfx.scale_by_muon(
        matrices=lambda *_: gdfx.MatrixAxes(batch=0, inputs=1, outputs=2), over=over
    )


def clipped(over=None):
    return optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.01))


STACK = [{"layers": np.concatenate([g["w"]] * 8).reshape(8, 64, 128)} for g in (W, *GRADIENTS)]
METHODS = {
    # Each coordinate alone: the same operations on the same numbers.
    "adamw": (lambda over=None: gdfx.adamw(0.01), 0, {"all-gather": 2}),
    # What is summed up is so in parts: rounding.
    "clipped": (clipped, 1e-6, {"all-gather": 2, "all-reduce": 1}),
    "lamb": (lambda over=None: gdfx.lamb(0.01), 1e-6, {"all-gather": 2, "all-reduce": 1}),
    # Dealt out, each matrix whole, and back; then the updates are gathered.
    "muon": (muon, 1e-5, {"all-gather": 1, "all-to-all": 1}),
}


@functools.cache
def on_one_device(name):
    return run(METHODS[name][0](), None, *given(name))


def given(name):
    return (STACK[1:], STACK[0]) if name == "muon" else (GRADIENTS, W)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_as_on_one_device(name, kind):
    make, rtol, messages = METHODS[name]
    w, state, *_ = on_one_device(name)
    mesh = mesh_of(kind)
    tx = gdfx.sharded(make(over=NamedSharding(mesh, P("data"))), mesh, uneven="whole")
    with set_mesh(mesh):
        found, parts, updates, compiled = run(tx, mesh, *given(name))
    same((found, parts), (w, state), rtol)
    assert jax.tree.structure(parts) == jax.tree.structure(state)
    for path, x in jax.tree_util.tree_leaves_with_path(parts):
        cut = {(64, 128): (64, 16), (128, 64): (16, 64), (8, 64, 128): (8, 64, 16)}
        cut = cut.get(x.shape, x.shape)
        assert x.sharding.shard_shape(x.shape) == cut, path
    for x in jax.tree.leaves((found, updates)):
        assert x.sharding.is_fully_replicated
    told = sent(compiled)
    assert told.keys() == messages.keys()
    assert told["all-gather"] == messages["all-gather"]


def test_outside_jit_and_without_a_mesh_around_it():
    mesh = mesh_of("Explicit")
    few = {k: W[k] for k in "wb"}
    tx, plain = gdfx.sharded(gdfx.adam(0.01), mesh), gdfx.adam(0.01)
    w = jax.device_put(few, NamedSharding(mesh, P()))
    updates, state = tx.update(w, tx.init(w), w)
    same((updates, state), plain.update(few, plain.init(few), few), 0)
    assert state[0].mu["w"].sharding.shard_shape((64, 128)) == (64, 16)
    assert updates["w"].sharding.is_fully_replicated


def test_in_codes():
    """Blocks end where the part of a device does, as where the parameters lie so."""
    mesh, w = mesh_of(), {"w": W["w"]}
    tx, grads = gdfx.quantized(gdfx.adam(0.01)), [{"w": g["w"]} for g in GRADIENTS]
    found, parts, _, compiled = run(gdfx.sharded(tx, mesh), mesh, grads, w)
    assert sent(compiled) == {"all-gather": 1}
    mu = parts.inner_state[0].mu["w"]
    for x in mu.codes, mu.scales:
        assert x.sharding.shard_shape(x.shape)[:2] == (1, 1)
    state = tx.init(jax.device_put(w, NamedSharding(mesh, P(None, "data"))))
    alone = jax.device_put(jax.tree.map(np.asarray, state))
    update = jax.jit(tx.update)
    for g in grads:
        updates, alone = update(g, alone, w)
        w = jax.tree.map(jnp.add, w, updates)
    same(found, w, 1e-6)


def test_accumulated_gradients_are_in_parts_too():
    """As in ZeRO's second stage."""
    mesh = mesh_of()
    many = optax.MultiSteps(gdfx.sgd(0.01), every_k_schedule=2)
    w, grads = {"w": W["w"]}, [{"w": g["w"]} for g in GRADIENTS]
    found, state, *_ = run(gdfx.sharded(many, mesh), mesh, grads, w)
    same(found["w"], W["w"] - 0.005 * (grads[0]["w"] + grads[1]["w"]), 1e-6)
    assert state.acc_grads["w"].sharding.shard_shape((64, 128)) == (64, 16)


def test_beside_parameters_in_parts():
    """Along another axis, and along the same, as in fully sharded training."""
    mesh = mesh_of(sizes=(4, 2), names=("data", "model"))
    specs = {"w": P("model"), "v": P(None, "data"), "u": P(), "b": P()}
    spread = {k: NamedSharding(mesh, s) for k, s in specs.items()}
    w, g = jax.device_put((W, GRADIENTS[0]), (spread, spread))
    tx = gdfx.sharded(gdfx.adamw(0.01), mesh, specs=specs, uneven="whole")
    state = tx.init(w)
    compiled = jax.jit(tx.update).lower(g, state, w).compile()
    updates, new = compiled(g, state, w)
    plain = gdfx.adamw(0.01)
    same((updates, new), jax.jit(plain.update)(GRADIENTS[0], plain.init(W), W), 0)
    for held in (state, new):
        assert held[0].mu["w"].sharding.shard_shape((64, 128)) == (32, 32)
        assert held[0].nu["v"].sharding.shard_shape((128, 64)) == (128, 16)
    for k in W:
        assert updates[k].sharding.is_equivalent_to(spread[k], W[k].ndim)
    assert sent(compiled) == {"all-gather": 1}


# Of a loss.


def network(w, x):
    hidden = jnp.tanh(x @ w["w"]) @ w["v"]
    return jnp.mean((hidden + w["b"]) ** 2) + jnp.mean(w["u"] ** 2)


X = np.random.default_rng(5).normal(size=(16, 64)).astype(np.float32)


def trained(tx, w, state, x, local=False):
    g = jax.grad(network)(local(w) if local else w, x)
    updates, state = tx.update(g, state, w)
    return optax.apply_updates(w, updates), state


def known_apart(w):
    """Each device's own, as JAX keeps account of it."""
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(w, "data", to="varying")
    return jax.lax.pvary(w, "data")


def specs_of(state):
    return jax.tree.map(lambda x: x.sharding.spec, state)


def in_shard_map(tx, *, reduce, local, check_vma, w=W, x=X):
    mesh = mesh_of()
    tx = gdfx.sharded(tx, mesh, uneven="whole", reduce=reduce)
    w = jax.device_put(w, NamedSharding(mesh, P()))
    state = tx.init(w)

    def step(w, state, x):
        if reduce is None:  # each device knows the whole batch
            x = jax.lax.all_gather(x, "data", tiled=True)
        return trained(tx, w, state, x, local)

    specs = (P(), specs_of(state), P("data"))
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=specs, out_specs=specs[:2], check_vma=check_vma
    )
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    return jax.jit(mapped).lower(w, state, x).compile(), (w, state, x)


@functools.cache
def trained_alone():
    tx = gdfx.adamw(0.01)
    return jax.jit(functools.partial(trained, tx))(W, tx.init(W), X)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_batch_that_is_spread(kind):
    mesh = mesh_of(kind)
    tx = gdfx.sharded(gdfx.adamw(0.01), mesh, uneven="whole")
    with set_mesh(mesh):
        w = jax.device_put(W, NamedSharding(mesh, P()))
        x = jax.device_put(X, NamedSharding(mesh, P("data")))
        compiled = jax.jit(functools.partial(trained, tx)).lower(w, tx.init(w), x).compile()
        found = compiled(w, tx.init(w), x)
    same(found, trained_alone(), 1e-5)
    told = sent(compiled)
    # XLA makes a reduce-scatter of a sum and a cut on accelerators, but not on a CPU.
    assert told.keys() == {"all-reduce", "all-gather"}
    assert told["all-gather"] == 2


def test_lowered_for_accelerators_what_is_cut_and_gathered():
    """What a compiler for them is told; docs/scripts/tpu.py compiles the same for TPUs."""
    mesh, w = mesh_of(), {k: W[k] for k in "wb"}
    tx = gdfx.sharded(gdfx.adamw(0.01), mesh)
    w = jax.device_put(w, NamedSharding(mesh, P()))
    state = tx.init(w)
    lowered = export.export(jax.jit(tx.update), platforms=("cuda", "tpu"))(w, state, w)
    assert (lowered.platforms, lowered.nr_devices) == (("cuda", "tpu"), 8)
    placed = r"sdy\.sharding_constraint .* <@mesh, \[(.*?)\]> : tensor<(.*?)>"
    told = collections.Counter(re.findall(placed, lowered.mlir_module()))
    cut, whole = ('{?}, {"data"}', "64x128xf32"), ("{?}, {}", "64x128xf32")
    assert told == {cut: 4, whole: 1}  # gradient, parameter, mu and nu; the update


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_shard_map_gradients_are_summed_where_they_are_needed(check_vma):
    local = known_apart if check_vma else False
    compiled, args = in_shard_map(gdfx.adamw(0.01), reduce="mean", local=local, check_vma=check_vma)
    same(compiled(*args), trained_alone(), 1e-5)
    told = sent(compiled)
    assert (told["reduce-scatter"], told["all-gather"]) == (2, 2)
    # The small leaves alone are summed everywhere.
    sums = re.findall(r"= (\S+|\(.*\)) all-reduce\(", compiled.as_text())
    assert not any("64,128" in line or "128,64" in line for line in sums)


# Who holds how much.


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_device_holds_one_part(count):
    mesh = mesh_of(sizes=(count,))
    w = jax.device_put({"w": W["w"], "v": W["v"]}, NamedSharding(mesh, P()))
    tx = gdfx.sharded(gdfx.adam(0.01), mesh)
    state = tx.init(w)
    first = jax.devices()[0]

    def held(tree):
        return sum(s.data.nbytes for x in jax.tree.leaves(tree) for s in x.addressable_shards
                   if s.device == first)  # fmt: skip

    size = W["w"].nbytes + W["v"].nbytes
    assert held(state) == 2 * size // count + 4
    compiled = jax.jit(tx.update, donate_argnums=1).lower(w, state, w).compile()
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes == size + held(state)
    updates, new = compiled(w, state, w)
    assert held(new) == 2 * size // count + 4
    assert held(updates) == size
    # Beside that no more than what is gathered.
    assert memory.temp_size_in_bytes <= size + 2 * size // count


def test_state_made_inside_jit_is_in_parts():
    mesh = mesh_of()
    tx = gdfx.sharded(gdfx.adam(0.01), mesh, uneven="whole")
    w = jax.device_put(W, NamedSharding(mesh, P()))
    assert specs_of(jax.jit(tx.init)(w))[0].mu["w"] == P(None, "data")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), W)
    assert tx.init(shapes)[0].mu["v"].sharding.shard_shape((128, 64)) == (16, 64)


CHOICES = [
    ((64, 128), P(), 1),
    ((128, 128), P(), 0),
    ((4096,), P(), 0),
    ((63, 136), P(), 1),
    ((4096, 8), P("model"), 1),  # the longest axis is cut already
    ((4096, 8), P(("data", "model")), None),  # it is in parts
    ((63, 65), P(), None),  # small
    ((65, 65), P(), None),  # uneven
    ((), P(), None),
]


@pytest.mark.parametrize(("shape", "spec", "dim"), CHOICES)
def test_the_longest_axis_that_can_be_is_shared(shape, spec, dim):
    mesh = mesh_of(sizes=(4, 2), names=("data", "model"))
    w = {"a": [jax.ShapeDtypeStruct(shape, jnp.float32)]}
    (row,) = gdfx.shard_table(w, mesh, "data", specs={"a": spec}).rows
    assert (row.path, row.dim) == ("['a'][0]", dim)
    assert row.numbers == int(np.prod(shape)) // (1 if dim is None else 4)


def test_table():
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, W))
    table = gdfx.shard_table(shapes, mesh_of(), "data")
    assert (
        str(table)
        == """\
path   shape      shared  numbers a device
------------------------------------------
['b']  (64,)       whole                64
['u']  (5001,)     whole             5,001
['v']  (128, 64)  axis 0             1,024
['w']  (64, 128)  axis 1             1,024

2 of 4 leaves are shared: a device has 7,113 of 21,449 numbers, one in 3.02."""
    )
    assert "<td>axis 1</td>" in table._repr_html_()


# What is wrong is said.


def started(specs=None, axis="data", uneven="whole"):
    return gdfx.sharded(gdfx.adam(0.01), mesh_of(), axis, specs, uneven=uneven).init(W)


def lying(spec):
    mesh = mesh_of(sizes=(4, 2), names=("data", "model"))
    return gdfx.sharded(gdfx.adam(0.01), mesh).init(
        jax.device_put({"w": W["w"]}, NamedSharding(mesh, spec))
    )


def mapped(tx=None, **options):
    given = {"reduce": "mean", "local": known_apart, "check_vma": True} | options
    return in_shard_map(tx or gdfx.adam(0.01), **given)


def coded_inside_jit():
    tx = gdfx.sharded(gdfx.quantized(gdfx.adam(0.01)), mesh_of(), uneven="whole")
    jax.jit(tx.init)(W)


def reduced_under_jit():
    tx = gdfx.sharded(gdfx.adam(0.01), mesh_of(), uneven="whole", reduce="sum")
    jax.jit(tx.update)(W, tx.init(W), W)


SENTENCES = [
    (lambda: gdfx.sharded(gdfx.adam(0.1), "data"),
     'sharded: mesh must be a jax.sharding.Mesh, as jax.make_mesh((8,), ("data",)) makes it, got '
     "'data'"),
    (lambda: started(axis="date"),
     "sharded: axis names 'date', which is no axis of the mesh; did you mean data?"),
    (lambda: started(axis=None),
     "sharded: axis must be the name of an axis of the mesh, or a tuple of such names, got None"),
    (lambda: started(uneven="refuse"),
     "sharded: parameter ['u'] of shape (5001,) has no axis that the 8 devices of 'data' share "
     'evenly; pad it, or let every device hold it whole by uneven="whole" or by a larger min_size'),
    (lambda: started({"w": P("modle"), "v": P(), "u": P(), "b": P()}),
     "sharded: specs for ['w'] names 'modle', which is no axis of the mesh; there is data"),
    (lambda: started(P(None, "data")),
     "sharded: specs has P(None, 'data') for ['b'], which has shape (64,)"),
    (lambda: started({"w": 1, "v": P(), "u": P(), "b": P()}),
     "sharded: specs has int for ['w'], not a PartitionSpec"),
    (lambda: started({"w": P()}),
     "sharded: specs must be a PartitionSpec, or a tree of them like the parameters or like its "
     "first levels: "),
    (lambda: lying(P(None, "model")),
     "sharded: parameter ['w'] lies as P(None, 'model'), which is not to be seen "
     "inside jax.jit; say so by specs, a PartitionSpec for each parameter"),
    (reduced_under_jit,
     "sharded: reduce is for the gradients of one device inside jax.shard_map; under jax.jit they "
     "are those of the whole batch: leave it out"),
    (coded_inside_jit,
     "sharded: the state .inner_state[0].mu['v'] is held in codes, in 1 part, which 8 devices "
     "cannot share, as blocks end with a part; call init outside of jax.jit, or make codes for "
     "these devices of the state that gdfx.dequantize_state returns, by gdfx.quantize_state"),
    (lambda: mapped(gdfx.quantized(gdfx.adam(0.01))),
     "sharded: the state .inner_state[0].mu['u'] is held in codes, which know the shape of the "
     "whole array; inside jax.shard_map they cannot be used, under jax.jit they can"),
    (lambda: mapped(clipped()),
     "sharded: inside jax.shard_map over data a device has its part of each array, but this "
     "optimizer looks at whole ones (reduce_sum); take the step under jax.jit, where it is right"),
    (lambda: mapped(local=False),
     "sharded: gradient ['b'] is the same on all devices of 'data' already: inside jax.shard_map, "
     "jax.grad by parameters that all have is the sum; leave out reduce, or differentiate by "
     "parameters after jax.lax.pcast(..., to='varying')"),
    (lambda: mapped(reduce=None),
     "sharded: gradient ['b'] differs between the devices of 'data'; say how to make one of them, "
     'reduce="mean" or reduce="sum"'),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), SENTENCES)
def test_what_is_wrong_is_said(call, sentence):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    told = str(error.value)
    assert told == sentence or (sentence.endswith(": ") and told.startswith(sentence))
