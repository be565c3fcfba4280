"""Walks that anybody can make again: parameters, and gradients with a drift, by seed.

Where gradients go one way on the whole, parameters leave their start, and what measures the way
has something to measure.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"w": (3, 2), "b": (4,)}

STEPS = 240

KEPT = (1, 2, 3, 10, 50, 120, 240)
"""The steps after which numbers are kept; the last is the last."""


def parameters() -> dict[str, np.ndarray]:
    """The leaves at the start."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients(first: int = 0) -> dict[str, np.ndarray]:
    """The gradients of each leaf along a first axis, the first few of them zero."""
    rng = np.random.default_rng(2)
    found = {}
    for name, shape in SHAPES.items():
        drift, noise = rng.normal(size=shape), rng.normal(size=(STEPS, *shape))
        found[name] = drift + 0.7 * noise
        found[name][:first] = 0
    return found


def record(
    file: str, versions: Mapping[str, str], runs: Mapping[str, Callable[[], dict[str, Any]]]
) -> None:
    """Write what each run returns by name: an array with one entry for each of `KEPT`."""
    found = {
        f"{label}/{name}": np.asarray(x) for label, run in runs.items() for name, x in run().items()
    }
    path = Path(__file__).parent / f"{file}.npz"
    np.savez_compressed(path, versions=json.dumps(dict(versions)), **found)
    print(path.name, path.stat().st_size, "bytes")


def recorded(file: str, label: str) -> dict[str, np.ndarray]:
    """By name, what was written under a label."""
    with np.load(Path(__file__).parent / f"{file}.npz") as data:
        return {
            key.rpartition("/")[2]: data[key]
            for key in data.files
            if key.rpartition("/")[0] == label
        }
