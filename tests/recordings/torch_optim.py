"""Record torch.optim: each optimizer with each argument that changes its equations, in float64.

    python tests/recordings/torch_optim.py

torch must be installed. A label is the call itself, without the parameters: the tests make the same
call of gdfx.torch. Muon's cast to bfloat16 is a copy here.
"""

import functools
from typing import Any

import numpy as np
import torch
from replay import LONG, parameters, record, usual
from torch_calls import CALLS, factor, leaves


def run(label: str, name: str) -> np.ndarray:
    """A leaf's parameters after the steps that are kept."""
    p = torch.nn.Parameter(torch.tensor(parameters(name)))

    kind, _, arguments = label.partition("(")
    given: dict[str, Any] = eval(f"dict({arguments}", {"schedule": float})
    optimizer = getattr(torch.optim, kind)([p], **given)
    multiply = factor if "schedule(" in label else lambda step: 1.0
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiply)
    kept = []
    for t, g in enumerate(usual(name), 1):
        p.grad = torch.tensor(g)
        optimizer.step()
        scheduler.step()
        if t in LONG:
            kept.append(p.detach().numpy().copy())
    return np.stack(kept)


def main() -> None:
    """Write the file."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    runs = {label: functools.partial(run, label) for label in CALLS}
    record("torch_optim", versions, runs, leaves)


if __name__ == "__main__":
    main()
