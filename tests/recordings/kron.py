"""Record what kron_torch does with gradients and random vectors that anybody can make again.

    TORCHDYNAMO_DISABLE=1 python tests/recordings/kron.py

It needs torch and kron-torch, and nothing of gdfx. Three things are changed: the random vectors are
given; triangular systems are solved in float64; and the preconditioner learns of a copy of the
momentum, to which the package else adds its noise before it steps along it.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kron_torch import kron as package

STEPS = 120
KEPT = (1, 2, 3, 10, 60, 120)

RUNS: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "square": ((5, 5), {}),
    "wide": ((3, 6), {}),
    "tall": ((6, 3), {}),
    "row": ((1, 6), {}),
    "column": ((6, 1), {}),
    "one number": ((1, 1), {}),
    "one diagonal": ((3, 6), {"memory_save_mode": "one_diag"}),
    "one diagonal of two": ((4, 4), {"memory_save_mode": "one_diag"}),
    "smart": ((6, 3), {"memory_save_mode": "smart_one_diag"}),
    "smart of two": ((4, 4), {"memory_save_mode": "smart_one_diag"}),
    "diagonals": ((3, 6), {"memory_save_mode": "all_diag"}),
    "long": ((3, 6), {"max_size_triangular": 5}),
    "gradient": ((4, 4), {"momentum_into_precond_update": False}),
    "rates": ((4, 4), {"b1": 0.5, "precond_lr": 0.5, "precond_init_scale": 0.1}),
    "seldom": ((4, 4), {"preconditioner_update_probability": 0.3}),
    "annealed": ((4, 4), {"preconditioner_update_probability": [0.8, 0.1, 0.05, 20]}),
    "decays": ((4, 4), {"weight_decay": 0.1}),
}
"""The shape and the options of each run; four numbers are those of an annealing schedule."""


def arrays(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parameter, and the gradients and random vectors of all steps, as the test makes them.

    The gradients have rows and columns of different sizes, and shrink from 20 to 0.02.
    """
    rng = np.random.default_rng(0)
    sizes = np.outer(1.0 + np.arange(shape[0]), 2.0 ** -np.arange(shape[1]))
    fading = 20 * 10 ** (-3 * np.arange(STEPS) / STEPS)
    p = rng.normal(size=shape)
    g = rng.normal(size=(STEPS, *shape)) * sizes * fading[:, None, None]
    return p, g, rng.normal(size=(STEPS, *shape))


def recorded(shape: tuple[int, ...], options: dict[str, Any]) -> dict[str, np.ndarray]:
    """The updates of the kept steps at a learning rate of 1, each from the same parameter."""
    chance = options.get("preconditioner_update_probability")
    if isinstance(chance, list):
        schedule = package.precond_update_prob_schedule(*chance)
        options = options | {"preconditioner_update_probability": schedule}
    start, gradients, vectors = arrays(shape)
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    opt = package.Kron([p], lr=1.0, precond_dtype=torch.float64, **options)
    found = {}
    for step, (g, v) in enumerate(zip(gradients, vectors, strict=True), 1):
        package.torch.randn_like = lambda _, v=v: torch.from_numpy(v.copy())
        p.data = torch.from_numpy(start.copy())
        p.grad = torch.from_numpy(g.copy())
        opt.step()
        if step in KEPT:
            found[f"u{step}"] = p.detach().numpy() - start
    return found


def main() -> None:
    """Write the recording beside this file."""
    float32 = torch.Tensor.float
    torch.Tensor.float = lambda x: x if x.dtype == torch.float64 else float32(x)
    learn = package._update_precond
    package._update_precond = lambda q, exprs, g, *rest: learn(q, exprs, g.clone(), *rest)
    out = {
        f"{name}/{field}": x
        for name, (shape, options) in RUNS.items()
        for field, x in recorded(shape, options).items()
    }
    about = {
        "runs": RUNS,
        "torch": torch.__version__,
        "kron_torch": version("kron_torch"),
    }
    np.savez_compressed(Path(__file__).with_suffix(".npz"), about=json.dumps(about), **out)


if __name__ == "__main__":
    main()
