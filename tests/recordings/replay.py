"""What recordings are made on: parameters and gradients by seed, and how they are kept.

Matrices are (outputs, inputs), as the references have them.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {
    "tall": (7, 4),
    "wide": (4, 7),
    "square": (5, 5),
    "row": (1, 6),
    "column": (6, 1),
    "copies": (2, 4, 7),
    "blocks": (9, 4),
    "vector": (6,),
}

BLOCKS = (2, 7)
"""The outputs of each block."""

KEPT = (1, 2, 3, 10, 100)
"""The steps after which parameters are kept; the last is the last."""

GRADIENT = 1e5
"""How large gradients are: what references add to norms, up to 1e-7, is no digit of them."""


def pieces(name: str, x: Any) -> list[Any]:
    """The matrices of a leaf."""
    if name == "copies":
        return list(x)
    return [x[: BLOCKS[0]], x[BLOCKS[0] :]] if name == "blocks" else [x]


def joined(name: str, matrices: Iterable[Any]) -> np.ndarray:
    """The leaf of these matrices."""
    matrices = list(matrices)
    if name == "copies":
        return np.stack(matrices)
    return np.concatenate(matrices) if name == "blocks" else matrices[0]


def parameters(name: str) -> np.ndarray:
    """A leaf at the start."""
    return _rng(name, 0).normal(size=SHAPES[name])


def gradients(name: str) -> np.ndarray:
    """The gradients of a leaf, one a step, of sizes that differ from step to step."""
    rng = _rng(name, 1)
    g = rng.normal(size=(KEPT[-1], *SHAPES[name]))
    sizes = GRADIENT * np.exp(rng.normal(size=KEPT[-1]))
    return g * sizes.reshape(-1, *[1] * len(SHAPES[name]))


LONG = (1, 2, 3, 10, 50, 200)
"""The steps after which parameters are kept where a run is longer."""


def usual(name: str) -> np.ndarray:
    """Gradients of about 1 for `LONG`, whose first number is 0 at first and later now and then."""
    rng = _rng(name, 2)
    g = rng.normal(size=(LONG[-1], *SHAPES[name]))
    g *= np.exp(rng.normal(size=LONG[-1])).reshape(-1, *[1] * len(SHAPES[name]))
    flat = g.reshape(LONG[-1], -1)
    flat[:5, 0] = flat[::7, 0] = 0
    return g


def losses() -> np.ndarray:
    """A loss for each of those steps, falling, with noise."""
    steps = np.arange(LONG[-1])
    return 3 * np.exp(-steps / 50) + 0.3 * np.random.default_rng(3).random(LONG[-1])


def _rng(name: str, what: int) -> np.random.Generator:
    return np.random.default_rng([list(SHAPES).index(name), what])


def record(
    file: str,
    versions: Mapping[str, str],
    runs: Mapping[str, Callable[[str], np.ndarray]],
    names: Iterable[str] | Callable[[str], Iterable[str]],
) -> None:
    """Write what each run makes of each leaf: the parameters after the steps that are kept.

    Args:
      file: its name, without the ending.
      versions: of what is recorded, and of what is recorded with.
      runs: by label, what makes the parameters of a leaf.
      names: the leaves, or a function from a label to them.
    """
    fixed = () if callable(names) else tuple(names)
    found = {
        f"{label}/{name}": run(name)
        for label, run in runs.items()
        for name in (names(label) if callable(names) else fixed)
    }
    path = Path(__file__).parent / f"{file}.npz"
    np.savez_compressed(path, versions=json.dumps(dict(versions)), **found)
    print(path.name, path.stat().st_size, "bytes")


def recorded(file: str, label: str) -> dict[str, np.ndarray]:
    """By leaf, what was written under a label."""
    with np.load(Path(__file__).parent / f"{file}.npz") as data:
        return {
            key.rpartition("/")[2]: data[key]
            for key in data.files
            if key.rpartition("/")[0] == label
        }
