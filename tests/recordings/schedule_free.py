"""Record what the authors' schedulefree and the averager of dog-optimizer do on a walk.

    python tests/recordings/schedule_free.py

It needs torch, schedulefree and dog-optimizer, and nothing of gdfx.
"""

import functools
from importlib.metadata import version
from typing import Any

import numpy as np
import schedulefree
import torch
from dog import PolynomialDecayAverager
from walk import KEPT, STEPS, gradients, parameters, record

WARM = {"warmup_steps": 7}


def schedule_free(make: Any, **options: Any) -> dict[str, np.ndarray]:
    """The parameters y, and x."""
    leaves = {name: torch.nn.Parameter(torch.from_numpy(p)) for name, p in parameters().items()}
    opt = make(leaves.values(), **options)
    given, found = gradients(), {name: [] for name in ("w", "b", "x w", "x b")}
    opt.train()
    for i in range(STEPS):
        for name, p in leaves.items():
            p.grad = torch.from_numpy(given[name][i].copy())
        opt.step()
        if i + 1 in KEPT:
            for name, p in leaves.items():
                found[name].append(p.detach().numpy().copy())
            opt.eval()
            for name, p in leaves.items():
                found[f"x {name}"].append(p.detach().numpy().copy())
            opt.train()
    return {name: np.stack(rows) for name, rows in found.items()}


def plain(leaves: Any) -> Any:
    """The wrapper around SGD, with decay outside, at y."""
    base = torch.optim.SGD(leaves, lr=0.1)
    return schedulefree.ScheduleFreeWrapper(base, momentum=0.8, weight_decay_at_y=0.1, r=1.0)


def wrapped(leaves: Any, decay: float) -> Any:
    """The wrapper around momentum, with decay inside, at z."""
    base = torch.optim.SGD(leaves, lr=0.1, momentum=0.5, weight_decay=decay)
    return schedulefree.ScheduleFreeWrapperReference(base, momentum=0.8)


def polynomial(gamma: float) -> dict[str, np.ndarray]:
    """The average of a walk that is the sum of the gradients."""
    start, given = parameters(), gradients()
    model = torch.nn.Module()
    for name, p in start.items():
        model.register_parameter(name, torch.nn.Parameter(torch.from_numpy(p)))
    averager = PolynomialDecayAverager(model, gamma)
    found = {name: [] for name in start}
    for i in range(STEPS):
        for name, p in model.named_parameters():
            p.data -= 0.1 * torch.from_numpy(given[name][i])
        averager.step()
        if i + 1 in KEPT:
            for name, p in averager.averaged_model.named_parameters():
                found[name].append(p.detach().numpy().copy())
    return {f"x {name}": np.stack(rows) for name, rows in found.items()}


def main() -> None:
    """Write the recording beside this file."""
    sgd, adamw = schedulefree.SGDScheduleFree, schedulefree.AdamWScheduleFree
    radam = schedulefree.RAdamScheduleFree
    run = functools.partial
    runs = {
        "sgd": run(schedule_free, sgd, lr=0.5),
        "sgd warm": run(schedule_free, sgd, lr=0.5, **WARM),
        "sgd decays": run(schedule_free, sgd, lr=0.5, momentum=0.95, weight_decay=0.1, **WARM),
        "sgd weighs": run(schedule_free, sgd, lr=0.5, r=1.5, weight_lr_power=1.0, **WARM),
        "adamw": run(schedule_free, adamw),
        "adamw warm": run(schedule_free, adamw, lr=0.02, **WARM),
        "adamw decays": run(
            schedule_free, adamw, lr=0.02, betas=(0.95, 0.9), eps=1e-3, weight_decay=0.1, **WARM
        ),
        "adamw weighs": run(schedule_free, adamw, lr=0.02, r=2.0, weight_lr_power=0.0, **WARM),
        "radam": run(schedule_free, radam, lr=0.02),
        "radam sgd": run(
            schedule_free, radam, lr=0.02, betas=(0.8, 0.95), weight_decay=0.1,
            silent_sgd_phase=False,
        ),
        "wrapped": run(schedule_free, run(wrapped, decay=0.0)),
        "wrapped at y": run(schedule_free, plain),
        "wrapped at z": run(schedule_free, run(wrapped, decay=0.1)),
        "polynomial": run(polynomial, 8.0),
    }  # fmt: skip
    versions = {name: version(name) for name in ("torch", "schedulefree", "dog-optimizer")}
    record("schedule_free", versions, runs)


if __name__ == "__main__":
    main()
