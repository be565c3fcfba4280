"""Record Muon and its relatives: torch's and the authors' own code, in float64.

    python tests/recordings/orthogonal.py SOURCES

SOURCES holds clones of KellerJordan/Muon, zichongli5/NorMuon, Chongjie-Si/AdaMuon,
LIONS-EPFL/scion, Dominator-Index/RMNP and timlautk/polargrad, each in a directory of its name;
torch must be installed. The code runs as it is: a cast to bfloat16 is a copy here, nothing is
compiled, and one process is all there are.
"""

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from replay import KEPT, SHAPES, gradients, joined, parameters, pieces, record

MATRICES = [name for name in SHAPES if name != "vector"]
LR = 0.02


def in_float64() -> None:
    """Run what asks for bfloat16, an accelerator or several processes in float64 on one CPU."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore
    torch.compile = lambda f: f  # type: ignore
    for name in ("empty", "zeros"):
        make = getattr(torch, name)
        setattr(torch, name, functools.partial(_on_cpu, make))

    def gather(into: torch.Tensor, x: torch.Tensor, async_op: bool) -> Any:
        into.view(-1).copy_(x.view(-1))
        return SimpleNamespace(wait=lambda: None)

    dist.all_gather_into_tensor = gather  # type: ignore


def _on_cpu(make: Any, *shape: Any, **kwargs: Any) -> torch.Tensor:
    return make(*shape)


def load(path: Path) -> ModuleType:
    """A file as a module, with what lies beside it."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"source_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.pop(0)
    return module


def commit(clone: Path) -> str:
    """Which version it is."""
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run(name: str, *, make: Any) -> np.ndarray:
    """A leaf's parameters after the steps that are kept."""
    params = [torch.nn.Parameter(torch.tensor(x)) for x in pieces(name, parameters(name))]
    optimizer = make(params)
    kept = []
    for t, g in enumerate(gradients(name), 1):
        for p, x in zip(params, pieces(name, g), strict=True):
            p.grad = torch.tensor(x)
        optimizer.step()
        if t in KEPT:
            kept.append(joined(name, [p.detach().numpy().copy() for p in params]))
    return np.stack(kept)


def runs(**by_label: Any) -> dict[str, Any]:
    """A run for each optimizer."""
    return {label: functools.partial(run, make=make) for label, make in by_label.items()}


def main(sources: Path) -> None:
    """Write all files."""
    in_float64()
    torch_version = {"torch": torch.__version__, "numpy": np.__version__}

    def versions(*clones: str) -> dict[str, str]:
        return torch_version | {name: commit(sources / name) for name in clones}

    def optimizer(factory: Any, **kwargs: Any) -> Any:
        return functools.partial(factory, lr=LR, **kwargs)

    jordan = load(sources / "Muon" / "muon.py")
    muon = torch.optim.Muon
    record(
        "muon",
        versions("Muon"),
        runs(
            torch=optimizer(muon, weight_decay=0.1),
            match_rms_adamw=optimizer(
                muon, weight_decay=0.0, momentum=0.8, adjust_lr_fn="match_rms_adamw"
            ),
            no_nesterov=optimizer(muon, nesterov=False),
            coefficients=optimizer(muon, ns_coefficients=(2.0, -1.5, 0.5), ns_steps=12),
            jordan=optimizer(jordan.SingleDeviceMuon, weight_decay=0.01),
        ),
        MATRICES,
    )

    normuon = load(sources / "NorMuon" / "normuon.py").SingleDeviceNorMuon
    record(
        "normuon",
        versions("NorMuon"),
        runs(
            default=optimizer(normuon),
            decays=optimizer(normuon, momentum=0.8, beta2=0.5, weight_decay=0.1),
        ),
        MATRICES,
    )

    adamuon = load(sources / "AdaMuon" / "gpt2" / "models" / "optimizers" / "adamuon.py").AdaMuon
    one_process = {"rank": 0, "world_size": 1}
    record(
        "adamuon",
        versions("AdaMuon"),
        runs(
            default=optimizer(adamuon, eps=1e-12, **one_process),
            no_nesterov=optimizer(
                adamuon, eps=1e-12, momentum=0.8, nesterov=False, weight_decay=0.1, **one_process
            ),
        ),
        MATRICES,
    )

    scion = functools.partial(optimizer, load(sources / "scion" / "scion.py").Scion, momentum=0.1)
    record(
        "scion",
        versions("scion"),
        runs(
            spectral=scion(norm="Spectral", scale=50.0),
            unconstrained=scion(norm="Spectral", scale=3.0, unconstrained=True),
            sign=scion(norm="Sign", scale=3000.0),
            row=scion(norm="RowNorm", scale=2.0),
            column=scion(norm="ColNorm", scale=2.0),
        ),
        MATRICES,
    )
    record("scion_vectors", versions("scion"), runs(rms=scion(norm="BiasRMS")), ["vector"])

    rmnp = load(sources / "RMNP" / "GPT-2" / "RMNP" / "optimizers" / "rmnp.py").RMNP
    # Without Nesterov's momentum it has none at all: it takes the gradient, and not its mean.
    record("rmnp", versions("RMNP"), runs(default=optimizer(rmnp, weight_decay=0.1)), MATRICES)

    polargrad = load(sources / "polargrad" / "polar_grad.py").PolarGrad
    sys.path.insert(0, str(sources / "polargrad"))  # it imports its iterations when it steps
    record(
        "polargrad",
        versions("polargrad"),
        runs(
            default=optimizer(polargrad, inner_steps=20, weight_decay=0.1),
            polar_first=optimizer(polargrad, inner_steps=20, polar_first=True),
            quintic=optimizer(polargrad, method="ns", inner_steps=5, momentum=0.8, c=2.0315),
        ),
        MATRICES,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
