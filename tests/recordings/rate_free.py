"""Record what the authors' Prodigy, D-Adaptation, DoG and Mechanic do in a valley.

    python tests/recordings/rate_free.py

It needs torch, prodigyopt, dadaptation, dog-optimizer and mechanic-pytorch, and nothing of gdfx.
"""

import functools
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from dadaptation import DAdaptAdam, DAdaptSGD
from dog import DoG, LDoG
from mechanic_pytorch import mechanize
from prodigyopt import Prodigy
from walk import KEPT, STEPS, parameters, record, valley

PACKAGES = ("torch", "prodigyopt", "dadaptation", "dog-optimizer", "mechanic-pytorch")

WARM = 30
"""For how many steps the learning rate rises, where it does."""


def estimate(opt: Any) -> Any:
    """The distance, or the scales, that an optimizer has found."""
    group = opt.param_groups[0]
    if "_mechanic" in opt.state:
        return opt.state["_mechanic"]["s"].numpy().copy()
    return group["d"] if "d" in group else group["rbar"].numpy().copy()


def walk(make: Any, *, first: int = 0, warm: bool = False, **options: Any) -> dict[str, np.ndarray]:
    """The parameters and the estimate, where the first few gradients are zero."""
    leaves = {name: torch.nn.Parameter(torch.from_numpy(p)) for name, p in parameters().items()}
    opt = make(list(leaves.values()), **options)
    given = {name: [torch.from_numpy(x) for x in row] for name, row in valley(first).items()}
    found = {name: [] for name in ("w", "b", "d")}
    rate = opt.param_groups[0]["lr"]
    for i in range(STEPS):
        for name, p in leaves.items():
            curvature, bottom, noise, on = given[name]
            p.grad = on[i] * (curvature * (p.detach() - bottom) + noise[i])
        if warm:
            opt.param_groups[0]["lr"] = rate * min(1, (i + 1) / WARM)
        opt.step()
        if i + 1 in KEPT:
            for name, p in leaves.items():
                found[name].append(p.detach().numpy().copy())
            found["d"].append(estimate(opt))
    return {name: np.stack(rows) for name, rows in found.items()}


def main() -> None:
    """Write the recording beside this file."""
    torch.set_default_dtype(torch.float64)  # in which Mechanic keeps its numbers
    run = functools.partial
    many = {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.01}
    runs = {
        "prodigy": run(walk, Prodigy),
        "prodigy late": run(walk, Prodigy, first=3),
        "prodigy corrects": run(walk, Prodigy, use_bias_correction=True),
        "prodigy decays": run(walk, Prodigy, **many),
        "prodigy couples": run(walk, Prodigy, weight_decay=0.1, decouple=False),
        "prodigy grows": run(walk, Prodigy, growth_rate=1.1),
        "prodigy slices": run(walk, Prodigy, slice_p=3),
        "prodigy guards": run(walk, Prodigy, warm=True, safeguard_warmup=True),
        "prodigy warm": run(walk, Prodigy, warm=True, lr=0.5),
        "prodigy others": run(
            walk, Prodigy, betas=(0.5, 0.9), beta3=0.8, d0=1e-4, d_coef=0.5
        ),
        "dadapt_sgd": run(walk, DAdaptSGD),
        "dadapt_sgd momentum": run(walk, DAdaptSGD, momentum=0.9, lr=0.5),
        "dadapt_sgd decays": run(walk, DAdaptSGD, weight_decay=0.1, d0=1e-3),
        "dadapt_sgd grows": run(walk, DAdaptSGD, growth_rate=1.05, warm=True),
        "dadapt_adamw": run(walk, DAdaptAdam),
        "dadapt_adamw late": run(walk, DAdaptAdam, first=3),
        "dadapt_adamw corrects": run(walk, DAdaptAdam, use_bias_correction=True),
        "dadapt_adamw decays": run(walk, DAdaptAdam, decouple=True, **many),
        "dadapt_adamw couples": run(walk, DAdaptAdam, weight_decay=0.1),
        "dadapt_adamw grows": run(walk, DAdaptAdam, growth_rate=1.05, d0=1e-4, warm=True),
        "dog": run(walk, DoG),
        "dog decays": run(walk, DoG, weight_decay=0.1, reps_rel=1e-3, eps=1.0, lr=0.5),
        "dog late": run(walk, DoG, first=3),
        "dog begins": run(walk, DoG, init_eta=0.01),
        "ldog": run(walk, LDoG),
        "ldog decays": run(walk, LDoG, weight_decay=0.1, reps_rel=1e-3, eps=1.0, lr=0.5),
        "ldog begins": run(walk, LDoG, init_eta=0.01),
        "mechanic": run(walk, mechanize(torch.optim.SGD, store_delta=True), lr=1.0),
        "mechanic momentum": run(
            walk, mechanize(torch.optim.SGD, store_delta=True), lr=0.1, momentum=0.9
        ),
        "mechanic others": run(
            walk,
            mechanize(
                torch.optim.SGD,
                store_delta=True,
                s_decay=0.1,
                betas=(0.9, 0.99),
                s_init=1e-3,
                eps=1e-4,
            ),
            lr=1.0,
        ),
    }  # fmt: skip
    record("rate_free", {name: version(name) for name in PACKAGES}, runs)


if __name__ == "__main__":
    main()
