"""Record keras.optimizers: each with each argument that changes its equations, in float64.

    python tests/recordings/keras_optim.py

keras and jax must be installed. A label is the call itself: the tests make the same call of
gdfx.keras. Means, which Keras takes in float32 on JAX, are in float64 here.
"""

import functools
import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import keras.src.ops
import numpy as np
from keras_calls import CALLS, leaves
from replay import LONG, parameters, record, usual
from torch_calls import factor


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that falls by `factor`."""

    def __init__(self, first: float):
        self.first = first

    def __call__(self, step: Any) -> Any:
        """The rate of a step."""
        return self.first * factor(keras.ops.cast(step, "float64"))


@functools.cache
def run(label: str) -> dict[str, np.ndarray]:
    """All leaves' parameters after the steps that are kept."""
    names = leaves(label)
    made = eval(f"keras.optimizers.{label}", {"keras": keras, "schedule": Falling})
    variables = [keras.Variable(parameters(name), dtype="float64", name=name) for name in names]
    made.build(variables)
    step = jax.jit(made.stateless_apply)
    state, values = [v.value for v in made.variables], [v.value for v in variables]
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for t in range(LONG[-1]):
        values, state = step(state, [usual(name)[t] for name in names], values)
        if t + 1 in LONG:
            for name, value in zip(names, values, strict=True):
                kept[name].append(np.asarray(value))
    return {name: np.stack(found) for name, found in kept.items()}


def main() -> None:
    """Write the file."""
    jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.src.ops.mean = lambda x, **k: jnp.mean(keras.ops.convert_to_tensor(x), **k)
    versions = {"keras": keras.__version__, "jax": jax.__version__, "numpy": np.__version__}
    runs = {label: lambda name, label=label: run(label)[name] for label in CALLS}
    record("keras_optim", versions, runs, leaves)


if __name__ == "__main__":
    main()
