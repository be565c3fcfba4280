"""State that lies in the host's memory between steps, as docs/scaling.md says how."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import SingleDeviceSharding

import gdfx

pytestmark = pytest.mark.skipif(
    "pinned_host" not in {m.kind for m in jax.devices()[0].addressable_memories()},
    reason="this JAX knows no pinned host memory on a CPU",
)

W = {"w": jnp.ones((64, 128)), "v": jnp.ones((128, 64))}


def on_host(state):
    """Where the large arrays of a state lie between steps."""
    device = jax.devices()[0]
    return jax.tree.map(
        lambda x: SingleDeviceSharding(device, memory_kind="pinned_host" if x.ndim else "device"),
        state,
    )


def stepping(tx, where):
    def step(g, state, w):
        state = jax.tree.map(lambda x: jax.device_put(x, jax.memory.Space.Device), state)
        updates, state = tx.update(g, state, w)
        return updates, jax.device_put(state, where)

    return jax.jit(step)


def test_on_a_cpu_the_step_is_the_same_and_the_state_stays_there():
    tx = gdfx.adam(0.01)
    where = on_host(tx.init(W))
    state, plain = jax.device_put(tx.init(W), where), tx.init(W)
    step, update = stepping(tx, where), jax.jit(tx.update)
    for _ in range(2):
        updates, state = step(W, state, W)
        expected, plain = update(W, plain, W)
    for x, y in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(x, y)
    kinds = [x.sharding.memory_kind for x in jax.tree.leaves(state) if x.ndim]
    assert kinds == ["pinned_host"] * 4


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowered_for_accelerators_each_array_is_brought_by_itself(platform):
    tx = gdfx.adam(0.01)
    where = on_host(tx.init(W))
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tx.init(W), where
    )
    text = export.export(stepping(tx, where), platforms=[platform])(W, state, W).mlir_module()
    assert text.count('mhlo.memory_kind = "pinned_host"') >= 4
    brought = text.count('_xla_buffer_placement = "device"')
    returned = text.count('_xla_buffer_placement = "pinned_host"')
    assert (brought >= 4, returned) == (True, 4)
