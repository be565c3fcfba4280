"""Record what the authors' SOAP does with gradients that anybody can make again.

    python tests/recordings/soap.py CHECKOUT

CHECKOUT is a clone of github.com/nikhilvyas/SOAP; it needs torch, and nothing of gdfx. The code
decomposes in float32; here it is made to do so in float64. Of each run it writes the updates of
some steps, and the bases after the first gradient: where that is of lower rank than an axis is
long, the rest of the basis is LAPACK's choice.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

STEPS = 120
KEPT = (1, 2, 3, 11, 12, 13, 60, 120)

RUNS = {
    "square": ((5, 5), {}),
    "wide": ((3, 6), {}),
    "tall": ((6, 3), {}),
    "row": ((1, 6), {}),
    "column": ((6, 1), {}),
    "often": ((4, 4), {"precondition_frequency": 1}),
    "decays": ((4, 4), {"betas": (0.9, 0.99), "shampoo_beta": 0.8, "eps": 0.1}),
    "left alone": ((3, 6), {"max_precond_dim": 4}),
    "right alone": ((6, 3), {"max_precond_dim": 4}),
    "neither": ((6, 5), {"max_precond_dim": 4}),
}


def gradients(shape: tuple[int, ...]) -> np.ndarray:
    """The gradients of all steps, as the test makes them too."""
    return np.random.default_rng(0).normal(size=(STEPS, *shape))


def recorded(optimizer: type, shape: tuple[int, ...], options: dict) -> dict[str, np.ndarray]:
    """The updates of the kept steps at a learning rate of 1, and the first bases."""
    p = torch.nn.Parameter(torch.zeros(shape))
    opt = optimizer([p], lr=1.0, weight_decay=0.0, **options)
    found = {}
    for step, g in enumerate(gradients(shape), 1):
        p.data.zero_()
        p.grad = torch.from_numpy(g.copy())
        opt.step()
        if step in KEPT:
            found[f"u{step}"] = p.data.numpy().copy()
        if step == 1:
            bases = opt.state[p]["Q"]
            found |= {f"q{i}": np.asarray(q) for i, q in enumerate(bases) if len(q)}
    return found


def main(checkout: str) -> None:
    """Write the recording beside this file."""
    sys.path.insert(0, checkout)
    from soap import SOAP

    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    commit = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True)
    out = {
        f"{name}/{field}": x
        for name, (shape, options) in RUNS.items()
        for field, x in recorded(SOAP, shape, options).items()
    }
    about = {"runs": RUNS, "steps": STEPS, "torch": torch.__version__, "soap": commit.strip()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), about=json.dumps(about), **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
