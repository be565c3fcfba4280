"""How long a step of Muon takes on simulated devices: matrices dealt out, beside all on each.

Run it with `python docs/scripts/dealt.py`; docs/scaling.md says what it printed.
"""

import statistics
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gdfx

DEVICES, MATRICES, SIZE, PAIRS = 8, 24, 256, 15

jax.config.update("jax_num_cpu_devices", DEVICES)
mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
everywhere, spread = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
rng = np.random.default_rng(0)
params = {str(i): rng.normal(size=(SIZE, SIZE)).astype(np.float32) for i in range(MATRICES)}
params = jax.device_put(params, everywhere)


def steps(over: NamedSharding | None) -> Any:
    """A compiled step, and what it takes."""
    tx = gdfx.scale_by_muon(matrices="2d", over=over)
    state = jax.jit(tx.init)(params)
    return jax.jit(tx.update).lower(params, state).compile(), state


def seconds(step: Any, state: Any) -> float:
    """What one step takes."""
    start = time.perf_counter()
    jax.block_until_ready(step(params, state))
    return time.perf_counter() - start


dealt, whole = steps(spread), steps(None)
pairs = [(seconds(*dealt), seconds(*whole)) for _ in range(PAIRS + 1)][1:]
ratio = statistics.median(a / b for a, b in pairs)
print(f"{MATRICES} matrices of {SIZE} × {SIZE} on {DEVICES} devices: {ratio:.2f} of the time")
