"""Record what the authors' SPlus does with gradients that anybody can make again.

    python tests/recordings/splus.py CHECKOUT

CHECKOUT is a clone of github.com/kvfrans/splus; it needs torch, and nothing of gdfx. Of each run it
writes the weights after some steps, which begin at zero and decay, and the bases after the first:
where that gradient is of lower rank than an axis is long, the rest of the basis is LAPACK's choice.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

STEPS = 120
KEPT = (1, 2, 3, 11, 12, 13, 60, 120)
LEARNING_RATE = 0.1

RUNS = {
    "square": ((5, 5), {}),
    "wide": ((3, 6), {}),
    "tall": ((6, 3), {}),
    "often": ((4, 4), {"inverse_every": 5}),
    "decays": ((4, 4), {"b1": 0.5, "b2": 0.9, "weight_decay": 0.3, "inverse_every": 12}),
    "left alone": ((3, 6), {"max_dim": 5, "inverse_every": 7}),
    "vector": ((6,), {"weight_decay": 0.0}),
}


def gradients(shape: tuple[int, ...]) -> np.ndarray:
    """The gradients of all steps, as the test makes them too."""
    return np.random.default_rng(0).normal(size=(STEPS, *shape))


def recorded(optimizer: type, shape: tuple[int, ...], options: dict) -> dict[str, np.ndarray]:
    """The weights after the kept steps, and the bases after the first."""
    p = torch.nn.Parameter(torch.zeros(shape))
    opt = optimizer([p], lr=LEARNING_RATE, **options)
    found = {}
    for step, g in enumerate(gradients(shape), 1):
        p.grad = torch.from_numpy(g.copy())
        opt.step()
        if step in KEPT:
            found[f"w{step}"] = p.data.numpy().copy()
        if step == 1:
            bases = opt.state[p].get("q_sides", [])
            found |= {f"q{i}": np.asarray(q) for i, q in enumerate(bases) if q is not None}
    return found


def main(checkout: str) -> None:
    """Write the recording beside this file."""
    sys.path.insert(0, f"{checkout}/torch")
    from splus import SPlus

    torch.set_default_dtype(torch.float64)
    commit = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True)
    out = {
        f"{name}/{field}": x
        for name, (shape, options) in RUNS.items()
        for field, x in recorded(SPlus, shape, options).items()
    }
    about = {"runs": RUNS, "steps": STEPS, "torch": torch.__version__, "splus": commit.strip()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), about=json.dumps(about), **out)


if __name__ == "__main__":
    sys.path.pop(0)  # where this file, of the same name, lies
    main(*sys.argv[1:])
