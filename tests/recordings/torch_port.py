"""Record runs of torch.optim to be taken over, and hand them back to PyTorch.

    python tests/recordings/torch_port.py

torch, jax and optax must be installed. Each run is stopped, as its ``state_dict()`` is, and goes on
to the end. Then gdfx.port takes each over and hands it back: PyTorch loads it, and goes on to the
same end.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch_run import (
    AFTER,
    BEFORE,
    LATE,
    PATH,
    RUNS,
    SECOND,
    factor,
    gradients,
    parameters,
    start,
    taken_over,
)

from gdfx import port


def made(label: str, values: dict[str, np.ndarray], last: int = -1) -> tuple[Any, Any, Any]:
    """Parameters, their optimizer and its scheduler, which has done so many steps and one."""
    kind = label.split()[0]
    params = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in values.items()}
    *first, second = params.values()
    given = eval(f"dict({RUNS[label]})")
    groups = [{"params": first}, {"params": [second], **SECOND}]
    optimizer = getattr(torch.optim, kind)(groups, **given)
    if last >= 0:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return params, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor, last)


def walk(label: str, params: Any, optimizer: Any, scheduler: Any, steps: range) -> None:
    """Go along some of the gradients."""
    for t in steps:
        for name, p in params.items():
            late = label.endswith("late") and t < LATE[name]
            p.grad = None if late else torch.tensor(gradients(name)[t])
        optimizer.step()
        scheduler.step()


def values(params: Any) -> dict[str, np.ndarray]:
    """The parameters as arrays."""
    return {name: p.detach().numpy().copy() for name, p in params.items()}


def record(label: str) -> dict[str, Any]:
    """A run."""
    params, optimizer, scheduler = made(label, {n: start(n) for n in parameters(label)})
    walk(label, params, optimizer, scheduler, range(BEFORE))
    state_dict = optimizer.state_dict()
    found: dict[str, Any] = {"groups": json.dumps(state_dict["param_groups"])}
    for i, entry in state_dict["state"].items():
        for name, x in entry.items():
            if x is not None:
                found[f"state/{i}/{name}"] = x.numpy().copy()
    found |= {f"before/{name}": x for name, x in values(params).items()}
    walk(label, params, optimizer, scheduler, range(BEFORE, BEFORE + 1))
    found |= {f"next/{name}": x for name, x in values(params).items()}
    walk(label, params, optimizer, scheduler, range(BEFORE + 1, BEFORE + AFTER))
    return found | {f"after/{name}": x for name, x in values(params).items()}


def hand_back(label: str) -> None:
    """Take a run over, hand it back, and go on in PyTorch."""
    state_dict, recorded = taken_over(label)
    kind = label.split()[0]
    tree = {name: jnp.asarray(x) for name, x in recorded["before"].items()}
    options = {"names": {name: (name,) for name in tree}, "optimizer": kind}
    steps = {"steps": BEFORE}
    _, state = port.from_torch(state_dict, tree, **options, **steps)
    params, optimizer, scheduler = made(label, recorded["before"], BEFORE - 1)
    back = port.to_torch(state, tree, like=optimizer.state_dict(), tensor=torch.tensor, **options)
    optimizer.load_state_dict(back)
    walk(label, params, optimizer, scheduler, range(BEFORE, BEFORE + AFTER))
    for name, x in values(params).items():
        np.testing.assert_allclose(
            x, recorded["after"][name], rtol=1e-12, err_msg=f"{label} {name}"
        )


def main() -> None:
    """Write the file, and hand back what is in it."""
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    found = {f"{label}/{key}": x for label in RUNS for key, x in record(label).items()}
    np.savez_compressed(PATH, versions=json.dumps(versions), **found)
    print(PATH.name, PATH.stat().st_size, "bytes")
    for label in RUNS:
        hand_back(label)
        print(f"{label}: PyTorch goes on with what it is handed back")


if __name__ == "__main__":
    main()
