"""Which runs of torch.optim are taken over, and of what.

Three parameters as a network of PyTorch has them: a Linear's weight (outputs, inputs), a Conv2d's
(outputs, inputs, height, width) and a bias.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"linear.weight": (4, 6), "conv.weight": (3, 2, 2, 3), "bias": (5,)}
BEFORE, AFTER = 12, 8
"""Steps before the run is taken over, and after."""

RUNS = {
    "SGD": "lr=0.02",
    "SGD momentum": "lr=0.02, momentum=0.9, dampening=0.5, weight_decay=0.1",
    "SGD nesterov": "lr=0.02, momentum=0.8, nesterov=True, maximize=True",
    "Adagrad": "lr=0.1, lr_decay=0.01, weight_decay=0.1, initial_accumulator_value=0.1",
    "RMSprop": "lr=0.02",
    "RMSprop centered": "lr=0.02, alpha=0.9, momentum=0.8, centered=True",
    "Adadelta": "lr=0.5, rho=0.8",
    "Adam": "lr=0.02, betas=(0.8, 0.99), weight_decay=0.1",
    "Adam amsgrad": "lr=0.02, betas=(0.9, 0.9), amsgrad=True, decoupled_weight_decay=True",
    "AdamW": "lr=0.02, weight_decay=0.1",
    "AdamW amsgrad": "lr=0.02, amsgrad=True, maximize=True",
    "NAdam": "lr=0.02, momentum_decay=0.1",
    "RAdam": "lr=0.02, betas=(0.8, 0.99)",
    "Adamax": "lr=0.02, weight_decay=0.1",
    "ASGD": "lr=0.02, lambd=0.01, alpha=0.6, t0=6",
    "Rprop": "lr=0.1, etas=(0.7, 1.1)",
    "Adafactor": "lr=0.1, weight_decay=0.1",
    "Muon": "lr=0.02",
    "SGD late": "lr=0.02, momentum=0.9, dampening=0.5",
    "AdamW late": "lr=0.02",
}
"""By label, whose first word is the optimizer; a learning rate falls by `factor` all along."""

LATE = {"linear.weight": 0, "conv.weight": 5, "bias": BEFORE}
"""In a late run, how many steps each parameter has no gradient in."""

SECOND = {"lr": 0.01}
"""What the second param group, of the last parameter, has instead."""


def factor(step: Any) -> Any:
    """What a rate is multiplied by, from 1 at the first step on."""
    return 1 / (1 + step / 5)


def parameters(label: str) -> list[str]:
    """What is trained: of Muon, matrices alone."""
    return ["linear.weight", "second.weight"] if label == "Muon" else list(SHAPES)


def shape(name: str) -> tuple[int, ...]:
    """The shape of a parameter in PyTorch."""
    return SHAPES.get(name, (6, 4))


def start(name: str) -> np.ndarray:
    """A parameter at the start."""
    return _rng(name, 0).normal(size=shape(name))


def gradients(name: str) -> np.ndarray:
    """Its gradients, one a step."""
    return _rng(name, 1).normal(size=(BEFORE + AFTER, *shape(name)))


def _rng(name: str, what: int) -> np.random.Generator:
    return np.random.default_rng([len(name), what])


PATH = Path(__file__).parent / "torch_run.npz"


def taken_over(label: str) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """The recorded state_dict, and by when the parameters: "before", "next", "after"."""
    with np.load(PATH) as data:
        groups = json.loads(str(data[f"{label}/groups"]))
        state: dict[int, dict[str, np.ndarray]] = {}
        params: dict[str, dict[str, np.ndarray]] = {}
        for key in data.files:
            of, _, rest = key.partition("/")
            what, *rest = rest.split("/")
            if of == label and what == "state":
                state.setdefault(int(rest[0]), {})[rest[1]] = data[key]
            elif of == label and what != "groups":
                params.setdefault(what, {})[rest[0]] = data[key]
    return {"state": state, "param_groups": groups}, params
