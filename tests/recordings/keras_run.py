"""Which runs of keras.optimizers are taken over, and of what."""

import json
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"kernel": (6, 4), "conv": (2, 3, 2, 3), "bias": (5,)}
BEFORE, AFTER = 12, 8
"""Steps before the run is taken over, and after."""

RUNS = {
    "SGD": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    "SGD plain": {"clipvalue": 0.5},
    "RMSprop": {"momentum": 0.9, "centered": True, "clipnorm": 1.0},
    "Adagrad": {},
    "Adadelta": {"rho": 0.8},
    "SGD both": {
        "momentum": 0.8,
        "use_ema": True,
        "ema_momentum": 0.8,
        "gradient_accumulation_steps": 15,
    },
    "Adam": {"amsgrad": True, "beta_2": 0.9, "global_clipnorm": 1.0},
    "Adam averaged": {"use_ema": True, "ema_momentum": 0.8},
    "AdamW": {},
    "Adamax": {"weight_decay": 0.1},
    "Nadam": {},
    "Nadam gathered": {"gradient_accumulation_steps": 5, "clipnorm": 1.0},
    "Ftrl": {"l1_regularization_strength": 0.1},
    "Lion": {},
    "Adafactor": {},
    "Lamb": {},
}
"""By label, whose first word is the optimizer; the rate is `FIRST`, and falls in some."""

FIRST = 0.05
FALLS = {"SGD", "RMSprop", "Adam", "Nadam", "Nadam gathered", "Adafactor"}


def factor(step: Any) -> Any:
    """What a rate is multiplied by, from 1 at the first step on: Keras's InverseTimeDecay."""
    return 1 / (1 + step / 5)


def start(name: str) -> np.ndarray:
    """A parameter at the start."""
    return np.random.default_rng([len(name), 2]).normal(size=SHAPES[name])


def gradients(name: str) -> np.ndarray:
    """Its gradients, one a step."""
    return np.random.default_rng([len(name), 3]).normal(size=(BEFORE + AFTER, *SHAPES[name]))


PATH = Path(__file__).parent / "keras_run.npz"


def taken_over(label: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """The config, the variables by number, and by when the parameters: before, next, after.

    Where Keras averages them, also the average after all steps.
    """
    variables: dict[str, Any] = {}
    params: dict[str, dict[str, Any]] = {"before": {}, "next": {}, "after": {}, "average": {}}
    with np.load(PATH) as data:
        config = json.loads(str(data[f"{label}/config"]))
        for key in data.files:
            of, _, rest = key.partition("/")
            what, _, name = rest.partition("/")
            if of == label and what == "variables":
                variables[name] = data[key]
            elif of == label and what in params:
                params[what][name] = data[key]
    return config, variables, params
