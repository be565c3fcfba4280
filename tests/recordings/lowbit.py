"""What the codes of few bits are recorded on, and how the recording is read."""

from pathlib import Path

import numpy as np

SHAPE = (32, 128)
STEPS = 5


def numbers() -> np.ndarray:
    """Numbers of many sizes, block for block."""
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.integers(-3, 4, (SHAPE[0] // 2, 1))
    x = rng.normal(size=(SHAPE[0] // 2, 256)) * np.exp(rng.normal(size=(SHAPE[0] // 2, 256)))
    return np.float32(x * size).reshape(SHAPE)


def gradients() -> np.ndarray:
    """Of sizes from 0.1 to 3, so that no square is lost beside the largest of its block."""
    rng = np.random.default_rng(1)
    size = rng.uniform(0.1, 3, (STEPS, *SHAPE))
    return np.float32(size * rng.choice([-1, 1], size.shape))


def recorded(label: str) -> dict[str, np.ndarray]:
    """By name, what was written under a label."""
    with np.load(Path(__file__).parent / "quantized.npz") as found:
        start = f"{label}/"
        return {key.removeprefix(start): found[key] for key in found.files if key.startswith(start)}
