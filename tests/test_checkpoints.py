"""State in codes and in parts, written down and read on other devices."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gdfx

RNG = np.random.default_rng(0)
W = {"w": RNG.normal(size=(64, 128)).astype(np.float32), "b": np.zeros(3, np.float32)}
GRADIENTS = [
    jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), W) for _ in range(3)
]
INSIDE = {
    "plain": lambda: gdfx.adam(0.01),
    "8bit": lambda: gdfx.quantized(gdfx.adam(0.01)),
    "4bit": lambda: gdfx.quantized(gdfx.adam(0.01), "4bit", key=jax.random.key(0)),
}


def on(count, inside):
    """The optimizer, and weights, on so many devices; on one, without any parts."""
    tx = INSIDE[inside]()
    if count == 1:
        return tx, jax.device_put(W)
    devices = jax.devices()[:count]
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return gdfx.sharded(tx, mesh), jax.device_put(W, NamedSharding(mesh, P()))


def one_step(tx, state, w, g):
    updates, state = jax.jit(tx.update)(g, state, w)
    return updates, state


def stored_as(told, fresh):
    """What is read lies as a fresh state does, in the shapes in which it was written."""

    def name(path):
        return jax.tree_util.keystr(path, simple=True, separator=".")

    shapes = {name(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(told)}
    return jax.tree_util.tree_map_with_path(
        lambda path, x: jax.ShapeDtypeStruct(shapes[name(path)], x.dtype, sharding=x.sharding),
        fresh,
    )


@pytest.mark.parametrize("inside", INSIDE)
def test_from_8_devices_to_4_to_1(inside, tmp_path):
    tx, w = on(8, inside)
    state = tx.init(w)
    alone, _ = on(1, inside)
    undisturbed = jax.device_put(jax.tree.map(np.asarray, state))
    expected = []
    for g in GRADIENTS:
        updates, undisturbed = one_step(alone, undisturbed, W, g)
        expected.append(updates)
    path = None
    for count, g, right in zip((8, 4, 1), GRADIENTS, expected, strict=True):
        with ocp.StandardCheckpointer() as checkpointer:
            if path is not None:
                tx, w = on(count, inside)
                told = checkpointer.metadata(path)
                like = stored_as(getattr(told, "item_metadata", told), tx.init(w))
                state = checkpointer.restore(path, like)
            updates, state = one_step(tx, state, w, g)
            path = tmp_path / f"{count}"
            checkpointer.save(path, state)
            checkpointer.wait_until_finished()
        for k in W:
            np.testing.assert_array_equal(updates[k], right[k])
        (large,) = {
            x.addressable_shards[0].data.size
            for x in jax.tree.leaves(state)
            if x.size >= 64 * 128 // 2
        }
        assert large * count == 64 * 128 // (2 if inside == "4bit" else 1)


def test_npz(tmp_path):
    """Names are paths; what reads them needs no JAX."""
    tx, w = on(8, "8bit")
    _, state = one_step(tx, tx.init(w), w, GRADIENTS[0])
    rows = jax.tree_util.tree_leaves_with_path(state)
    np.savez(tmp_path / "state.npz", **{jax.tree_util.keystr(k): np.asarray(x) for k, x in rows})
    with np.load(tmp_path / "state.npz") as read:
        assert read[".inner_state[0].mu['w'].codes"].dtype == np.uint8
        found = [jax.device_put(read[jax.tree_util.keystr(k)], x.sharding) for k, x in rows]
    again = jax.tree.unflatten(jax.tree.structure(state), found)
    for one, other in zip(
        jax.tree.leaves(one_step(tx, again, w, GRADIENTS[1])),
        jax.tree.leaves(one_step(tx, state, w, GRADIENTS[1])),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_blocks_of_fewer_devices_are_refused():
    tx, w = on(4, "8bit")
    held = jax.tree.map(np.asarray, tx.init(w))
    tx, w = on(8, "8bit")
    with pytest.raises(ValueError, match="blocks") as error:
        jax.jit(tx.update)(w, held, w)
    assert str(error.value) == (
        "sharded: the state .inner_state[0].mu['w'] is held in codes, in 4 parts, which 8 devices "
        "cannot share, as blocks end with a part; call init outside of jax.jit, or make codes for "
        "these devices of the state that gdfx.dequantize_state returns, by gdfx.quantize_state"
    )
    # As it says.
    spread = jax.tree.map(lambda x: x.sharding, gdfx.sharded(gdfx.adam(0.1), mesh_of(w)).init(w))
    state = jax.device_put(gdfx.dequantize_state(jax.tree.map(jnp.asarray, held)), spread)
    tx.update(w, gdfx.quantize_state(state, w), w)


def mesh_of(w):
    return w["w"].sharding.mesh
