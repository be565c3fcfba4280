"""Record what Meta's Distributed Shampoo does with gradients that anybody can make again.

    python tests/recordings/shampoo.py CHECKOUT

CHECKOUT is a clone of github.com/facebookresearch/optimizers; it needs torch, and nothing of gdfx.
Factors and roots are held in float64.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

STEPS = 100
KEPT = (1, 2, 9, 10, 11, 12, 20, 100)

RUNS = {
    "square": ((5, 5), {}),
    "wide": ((3, 6), {}),
    "tall": ((6, 3), {}),
    "row": ((1, 6), {"exponent": 0.5}),  # a vector to Meta's code, which has one factor then
    "sums": ((4, 4), {"betas": (0.9, 1.0), "every": 1, "graft": None}),
    "no momentum": ((4, 4), {"betas": (0.0, 0.99)}),
    "rmsprop": ((4, 4), {"graft": "rmsprop"}),
    "adagrad": ((4, 4), {"graft": "adagrad", "betas": (0.9, 1.0)}),
    "sgd": ((4, 4), {"graft": "sgd"}),
    "ungrafted": ((4, 4), {"graft": None}),
    "exponent": ((4, 4), {"exponent": 0.5, "graft": None}),
    "late": ((4, 4), {"start": 12, "every": 5}),
    "blocks": ((6, 6), {"block": 3}),
}


def gradients(shape: tuple[int, ...]) -> np.ndarray:
    """The gradients of all steps, as the test makes them too."""
    return np.random.default_rng(0).normal(size=(STEPS, *shape))


def optimizer(
    p: torch.nn.Parameter,
    betas: tuple[float, float] = (0.9, 0.99),
    every: int = 10,
    start: int = -1,
    graft: str | None = "adam",
    exponent: float | None = None,
    block: int = 1024,
) -> torch.optim.Optimizer:
    """Meta's, by the names of the runs' options."""
    import distributed_shampoo as meta

    grafts = {
        None: lambda: None,
        "adam": lambda: meta.AdamPreconditionerConfig(beta2=betas[1], epsilon=1e-8),
        "rmsprop": lambda: meta.RMSpropPreconditionerConfig(beta2=betas[1], epsilon=1e-8),
        "adagrad": lambda: meta.AdaGradPreconditionerConfig(epsilon=1e-8),
        "sgd": meta.SGDPreconditionerConfig,
    }
    return meta.DistributedShampoo(
        [p],
        lr=1.0,
        betas=betas,
        epsilon=1e-6,
        precondition_frequency=every,
        start_preconditioning_step=start,
        max_preconditioner_dim=block,
        grafting_config=grafts[graft](),
        distributed_config=meta.SingleDeviceDistributedConfig(target_parameter_dimensionality=2),
        preconditioner_config=meta.RootInvShampooPreconditionerConfig(
            factor_matrix_dtype=torch.float64,
            inv_factor_matrix_dtype=torch.float64,
            inverse_exponent_override={} if exponent is None else {2: exponent},
        ),
    )


def recorded(shape: tuple[int, ...], options: dict) -> dict[str, np.ndarray]:
    """The updates of the kept steps at a learning rate of 1."""
    p = torch.nn.Parameter(torch.zeros(shape))
    opt = optimizer(p, **options)
    found = {}
    for step, g in enumerate(gradients(shape), 1):
        p.data.zero_()
        p.grad = torch.from_numpy(g.copy())
        opt.step()
        if step in KEPT:
            found[f"u{step}"] = p.data.numpy().copy()
    return found


def main(checkout: str) -> None:
    """Write the recording beside this file."""
    sys.path.insert(0, checkout)
    torch.set_default_dtype(torch.float64)
    commit = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True)
    out = {
        f"{name}/{field}": x
        for name, (shape, options) in RUNS.items()
        for field, x in recorded(shape, options).items()
    }
    about = {"runs": RUNS, "steps": STEPS, "torch": torch.__version__, "shampoo": commit.strip()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), about=json.dumps(about), **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
