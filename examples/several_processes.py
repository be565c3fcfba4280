"""Train in several processes, lose one of them, and go on from the last checkpoint.

On a cluster each machine runs one process; here all run on this machine, and talk as they would
there. Together they have eight simulated devices, which share the optimizer's state: in codes of
8 bits, in parts. Three runs are made: in one process, in several, and in several of which one is
killed on the way. The last one is begun again and reads what the others had written.

Run it with `python examples/several_processes.py`, or with the number of processes: 2 (the
default), 4 or 8. It needs orbax-checkpoint, and takes about a minute on two cores.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

import gdfx

DEVICES, STEPS, EVERY, DIES_AT = 8, 20, 8, 13
BATCH, INPUTS, WIDTH = 64, 16, 256


def weights() -> dict[str, np.ndarray]:
    """The same at the start in every process."""
    rng = np.random.default_rng(0)
    return {
        "first": rng.normal(size=(INPUTS, WIDTH)).astype(np.float32) / 4,
        "bias": np.zeros(WIDTH, np.float32),
        "last": rng.normal(size=(WIDTH, INPUTS)).astype(np.float32) / 16,
    }


def batch(step: int, spread: NamedSharding) -> tuple[jax.Array, jax.Array]:
    """What a step reads; each process makes the rows of its own devices only."""

    def rows(index: Any, column: int) -> np.ndarray:
        first, last, _ = index[0].indices(BATCH)
        x = np.stack(
            [np.random.default_rng((step, i)).normal(size=INPUTS) for i in range(first, last)]
        ).astype(np.float32)
        return (x, np.sin(2 * x))[column]

    shape = (BATCH, INPUTS)
    x, y = (
        jax.make_array_from_callback(shape, spread, lambda index, k=k: rows(index, k))
        for k in (0, 1)
    )
    return x, y


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean square error of a small network."""
    hidden = jnp.tanh(x @ params["first"] + params["bias"])
    return jnp.mean((hidden @ params["last"] - y) ** 2)


def train(folder: Path, dies_at: int | None) -> None:
    """Train on all devices there are, from the last checkpoint on, if there is one."""
    kind = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(kind,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    tx = gdfx.sharded(
        optax.chain(optax.clip_by_global_norm(1.0), gdfx.quantized(gdfx.adamw(3e-3))), mesh
    )

    @jax.jit
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, g = jax.value_and_grad(loss)(params, x, y)
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.device_put(weights(), everywhere)
    run: dict[str, Any] = {"params": params, "state": tx.init(params)}
    value = jnp.inf
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        done = manager.latest_step() or 0
        if done:
            # Fresh arrays tell how what is read is to lie.
            like = jax.tree.map(ocp.utils.to_shape_dtype_struct, run)
            found: Any = manager.restore(done, args=ocp.args.StandardRestore(like))  # pyright: ignore
            run = found
        for k in range(done, STEPS):
            if k == dies_at and jax.process_index() == jax.process_count() - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            x, y = batch(k, NamedSharding(mesh, PartitionSpec("data")))
            params, state, value = step(run["params"], run["state"], x, y)
            run = {"params": params, "state": state}
            if (k + 1) % EVERY == 0:
                manager.save(k + 1, args=ocp.args.StandardSave(run))  # pyright: ignore
                manager.wait_until_finished()
    if jax.process_index() == 0:
        held: dict[str, Any] = {name: np.asarray(x) for name, x in run["params"].items()}
        np.savez(folder / "weights.npz", loss=np.asarray(value), begun=done, **held)


def work(rank: int, count: int, port: int, folder: Path, dies_at: int | None) -> None:
    """What one process does; on a cluster, `jax.distributed.initialize()` finds the others."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES // count)
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", count, rank)
    train(folder, dies_at)


# What starts them.


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def started(count: int, folder: Path, dies_at: int | None = None) -> bool:
    """Start so many processes and wait for them; whether all ended well.

    Where one dies, the others wait for it, and are ended.
    """
    folder.mkdir(exist_ok=True)
    port, words = free_port(), [str(count), str(folder), str(dies_at or "")]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", str(rank), str(port), *words],
            stdout=(folder / f"{rank}.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank in range(count)
    ]
    try:
        while any(p.poll() is None for p in processes) and not any(p.poll() for p in processes):
            time.sleep(0.05)
        return not any(p.poll() for p in processes)
    finally:
        for p in processes:
            p.kill()
            p.wait()


def apart(one: Any, other: Any) -> float:
    """By how much weights differ at most."""
    return max(float(np.abs(one[k] - other[k]).max()) for k in weights())


def main(count: int) -> None:
    """Make the three runs and compare their weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, Any] = {}
        for label, processes in (("one", 1), ("several", count)):
            if not started(processes, folder / label):
                raise SystemExit((folder / label / "0.log").read_text())
            runs[label] = np.load(folder / label / "weights.npz")
        if started(count, folder / "again", DIES_AT):
            raise SystemExit("the process that was to die is alive")
        print(f"{count} processes: one was killed at step {DIES_AT}.")
        if not started(count, folder / "again"):
            raise SystemExit((folder / "again" / "0.log").read_text())
        again = np.load(folder / "again" / "weights.npz")
        print(f"Begun again from step {again['begun']}, all went on to step {STEPS}.")
        for label, found in (*runs.items(), ("again", again)):
            print(f"{label:8} loss {found['loss']:.6f}")
        rounding, lost = apart(runs["several"], runs["one"]), apart(again, runs["several"])
        print(f"Weights of one process and of {count}: {rounding:.1e} apart.")
        print(f"Weights of the run begun again and of the undisturbed one: {lost:.1e} apart.")
        # Sums over processes may be made in another order; nothing else differs.
        if rounding > 1e-5 or lost > 0:
            raise SystemExit("the runs differ")


if __name__ == "__main__":
    if "--work" in sys.argv:
        rank, port, count, place, dies = sys.argv[2:]
        work(int(rank), int(count), int(port), Path(place), int(dies) if dies else None)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
