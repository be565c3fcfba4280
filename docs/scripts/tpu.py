"""Compile a sharded step for eight TPUs that are not here, and print the messages that it sends.

    pip install libtpu && python docs/scripts/tpu.py

libtpu compiles for a v5e of 2 × 4 chips; nothing runs. It may warn of a machine without TPUs.
"""

import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import gdfx

SHAPES = {"first": (1024, 2048), "last": (2048, 1024)}
ADAMW = gdfx.adamw(1e-3)
OPTIMIZERS = {
    "adamw": ADAMW,
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), ADAMW),
    "lamb": gdfx.lamb(1e-3),
}


def loss(params: Any, x: jax.Array) -> jax.Array:
    """The mean square of what a small network says."""
    return jnp.mean((jnp.tanh(x @ params["first"]) @ params["last"]) ** 2)


def compiled(tx: optax.GradientTransformation, mesh: Mesh) -> str:
    """The program of a training step, its batch spread and its state in parts."""
    shared = gdfx.sharded(tx, mesh)
    params: Any = {name: _shape(shape, mesh) for name, shape in SHAPES.items()}
    dims = {row.shape: row.dim for row in gdfx.shard_table(params, mesh).rows}
    state = jax.tree.map(
        lambda x: _shape(x.shape, mesh, dims.get(x.shape), x.dtype), jax.eval_shape(tx.init, params)
    )

    def step(params: Any, state: Any, x: jax.Array) -> Any:
        updates, state = shared.update(jax.grad(loss)(params, x), state, params)
        return optax.apply_updates(params, updates), state

    with jax.set_mesh(mesh):
        lowered = jax.jit(step).lower(params, state, _shape((1024, 1024), mesh, 0))
    return str(lowered.compile().as_text())


def _shape(
    shape: tuple[int, ...], mesh: Mesh, dim: int | None = None, dtype: Any = jnp.float32
) -> jax.ShapeDtypeStruct:
    """An array that lies along the mesh by one axis, or is the same on all devices."""
    spec = PartitionSpec(*("data" if i == dim else None for i in range(len(shape))))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def messages(text: str) -> dict[str, int]:
    """How many messages of each kind; the stages of one have the same number of a channel."""
    scattered = re.findall(r"= \S+ fusion\(.*calls=%(all-reduce-scatter)", text)
    kinds = "all-gather|all-reduce|all-to-all|collective-permute"
    sent = set(re.findall(rf"= .*? ({kinds})\(.*?channel_id=(\d+)", text))
    found = Counter(kind for kind, _ in sent)
    found["all-reduce"] -= len(scattered)  # each is written inside of what it is fused with
    return dict(+(found + Counter(scattered)))


if __name__ == "__main__":
    chips = topologies.get_topology_desc("v5e:2x4", "tpu").devices
    for name, tx in OPTIMIZERS.items():
        for kind in (AxisType.Auto, AxisType.Explicit):
            text = compiled(tx, Mesh(np.array(chips), ("data",), axis_types=(kind,)))
            print(name, kind.name, messages(text), flush=True)
