"""Walks that anybody can make again: parameters, and gradients by seed.

Those of `gradients` are given, whatever the parameters are, and go one way on the whole. Those of
`valley` lead to its bottom, so that what measures the way there has something to find.
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


def gradients() -> dict[str, np.ndarray]:
    """The gradients of each leaf along a first axis."""
    rng = np.random.default_rng(2)
    found = {}
    for name, shape in SHAPES.items():
        drift, noise = rng.normal(size=shape), rng.normal(size=(STEPS, *shape))
        found[name] = drift + 0.7 * noise
    return found


def valley(first: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each leaf curvature c, bottom b, noise n and whether there is a gradient, on or not.

    The gradient of step i at W is  on[i] (c (W − b) + n[i]); the first few are zero.
    """
    rng = np.random.default_rng(3)
    found = {}
    for name, shape in SHAPES.items():
        curvature, bottom = np.exp(rng.normal(size=shape)), 3 * rng.normal(size=shape)
        noise, on = 0.3 * rng.normal(size=(STEPS, *shape)), np.arange(STEPS) >= first
        found[name] = (curvature, bottom, noise, on.astype(float))
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
