"""Record runs of keras.optimizers to be taken over, and hand them back to Keras.

    python tests/recordings/keras_port.py

keras, jax and optax must be installed. Each run is stopped, its variables are kept, and it goes on
to the end. Then gdfx.port takes each over and hands it back: Keras takes its weights, and goes on
to the same end.
"""

import json
import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import keras.src.ops
import numpy as np
from keras_run import AFTER, BEFORE, FALLS, FIRST, PATH, RUNS, SHAPES, gradients, start, taken_over

from gdfx import port


def made(label: str, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """An optimizer and its variables."""
    falling = keras.optimizers.schedules.InverseTimeDecay(FIRST, 5, 1.0)
    rate = falling if label in FALLS else FIRST
    optimizer = getattr(keras.optimizers, label.split()[0])(rate, **RUNS[label])
    variables = {n: keras.Variable(x, dtype="float64", name=n) for n, x in values.items()}
    optimizer.build(list(variables.values()))
    return optimizer, variables


def walk(optimizer: Any, variables: Any, steps: range) -> dict[str, np.ndarray]:
    """Where some of the gradients lead."""
    for t in steps:
        optimizer.apply([jnp.asarray(gradients(name)[t]) for name in variables])
    return {name: np.asarray(v.value) for name, v in variables.items()}


def record(label: str) -> dict[str, Any]:
    """A run."""
    optimizer, variables = made(label, {name: start(name) for name in SHAPES})
    before = walk(optimizer, variables, range(BEFORE))
    found: dict[str, Any] = {"config": json.dumps(optimizer.get_config())}
    store: dict[str, Any] = {}
    optimizer.save_own_variables(store)
    found |= {f"variables/{n}": np.asarray(x) for n, x in store.items()}
    following = walk(optimizer, variables, range(BEFORE, BEFORE + 1))
    after = walk(optimizer, variables, range(BEFORE + 1, BEFORE + AFTER))
    kept = {"before": before, "next": following, "after": after, "average": averages(optimizer)}
    for what, values in kept.items():
        found |= {f"{what}/{name}": x for name, x in values.items()}
    return found


def averages(optimizer: Any) -> dict[str, np.ndarray]:
    """Those that it keeps of its variables."""
    kept = optimizer._model_variables_moving_average if optimizer.use_ema else []
    return {name: np.asarray(v.value) for name, v in zip(SHAPES, kept, strict=False)}


def hand_back(label: str) -> None:
    """Take a run over, hand it back, and go on in Keras."""
    config, stored, recorded = taken_over(label)
    tree = {name: jnp.asarray(x) for name, x in recorded["before"].items()}
    options = {"names": list(SHAPES), "optimizer": label.split()[0], "config": config}
    _, state = port.from_keras(stored, tree, learning_rate=FIRST, **options)
    optimizer, variables = made(label, recorded["before"])
    optimizer.set_weights(port.to_keras(state, tree, **options))
    after = walk(optimizer, variables, range(BEFORE, BEFORE + AFTER))
    for what, values in {"after": after, "average": averages(optimizer)}.items():
        for name, x in values.items():
            np.testing.assert_allclose(x, recorded[what][name], rtol=1e-12, err_msg=label)


def main() -> None:
    """Write the file, and hand back what is in it."""
    jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.src.ops.mean = lambda x, **k: jnp.mean(keras.ops.convert_to_tensor(x), **k)
    versions = {"keras": keras.__version__, "jax": jax.__version__, "numpy": np.__version__}
    found = {f"{label}/{key}": x for label in RUNS for key, x in record(label).items()}
    np.savez_compressed(PATH, versions=json.dumps(versions), **found)
    print(PATH.name, PATH.stat().st_size, "bytes")
    for label in RUNS:
        hand_back(label)
        print(f"{label}: Keras goes on with what it is handed back")


if __name__ == "__main__":
    main()
