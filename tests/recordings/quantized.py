"""Record torchao's codes, scales and numbers, and steps of its Adam of 8 and 4 bits.

    python tests/recordings/quantized.py

It needs torch and torchao, and nothing of gdfx.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lowbit import SHAPE, gradients, numbers
from torchao.optim.adam import single_param_adam
from torchao.optim.subclass_4bit import OptimState4bit
from torchao.optim.subclass_8bit import OptimState8bit
from torchao.optim.subclass_fp8 import OptimStateFp8

KINDS = {
    "8bit": (OptimState8bit, 256),
    "4bit": (OptimState4bit, 128),
    "float8": (OptimStateFp8, 256),
}


def state(kind: str, *, signed: bool) -> Any:
    """One accumulator of zeros."""
    make, block = KINDS[kind]
    if kind == "float8":
        return make.zeros(SHAPE, block)
    return make.zeros(SHAPE, signed, block)


def told(x: Any) -> dict[str, np.ndarray]:
    """Codes, scales and the numbers that they say."""
    codes = x.codes.view(torch.uint8).numpy().reshape(-1)
    return {"codes": codes, "scales": x.scale.numpy(), "numbers": x.dequantize().numpy()}


def main() -> None:
    """Write the recording beside this file."""
    found: dict[str, np.ndarray] = {}
    for kind in KINDS:
        for signed in (True, False):
            held = state(kind, signed=signed)
            x = torch.from_numpy(numbers())
            held.copy_(x if signed else x.square())
            label = f"{kind}/{'signed' if signed else 'nonnegative'}"
            if kind != "float8":
                found[f"{label}/table"] = held.qmap.numpy()
            found |= {f"{label}/{name}": value for name, value in told(held).items()}
    for kind in ("8bit", "4bit"):
        p = torch.ones(SHAPE)
        m, v = state(kind, signed=True), state(kind, signed=False)
        for i, g in enumerate(gradients()):
            single_param_adam(
                p, torch.from_numpy(g), torch.tensor(i + 1.0), m, v, None,
                torch.tensor(0.01), 0.9, 0.999, 0.1, 1e-8, True, False,
            )  # fmt: skip
        found[f"adamw/{kind}"] = p.numpy()
    packages = {name: version(name) for name in ("torch", "torchao")}
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, versions=json.dumps(packages), **found)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
