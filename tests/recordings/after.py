"""Record what came after AdamW: the authors' own code and packages, in float64.

    python tests/recordings/after.py SOURCES [FILE ...]

SOURCES holds clones of apple/ml-ademamix, DepenM/Simplified-AdEMAMix, iShohei220/adopt,
Z-T-WANG/LaProp-Optimizer, AGI-Arena/MARS, juntang-zhuang/ACProp-Optimizer, ironjr/grokfast,
Liuhong99/Sophia, jiaweizzhao/GaLore and SamsungLabs/ASAM, each in a directory of its name; torch,
torch-optimi, grams-pytorch, came-pytorch, madgrad, momo-opt, adam-mini, tabulate and colorama must
be installed. The code runs as it is, but for what is said at each.
"""

import functools
import importlib.metadata
import math
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from orthogonal import commit, load
from replay import LONG, losses, parameters, record, usual

LEAVES = ["wide", "square", "vector"]
LR = 0.02


def run(name: str, *, make: Any) -> np.ndarray:
    """A leaf's parameters after the steps that are kept."""
    p = torch.nn.Parameter(torch.tensor(parameters(name)))
    optimizer = make([p])
    kept = []
    for t, g in enumerate(usual(name), 1):
        p.grad = torch.tensor(g)
        optimizer.step()
        if t in LONG:
            kept.append(p.detach().numpy().copy())
    return np.stack(kept)


def written(
    file: str, source: dict[str, str], factory: Any, leaves: list[str], **options: dict[str, Any]
) -> None:
    """Write a file of one reference, with a run for each set of options."""
    runs = {
        label: functools.partial(
            run,
            make=functools.partial(factory, lr=LR)
            if not with_them
            else functools.partial(factory, lr=LR, **with_them),
        )
        for label, with_them in options.items()
    }
    versions = {"torch": torch.__version__, "numpy": np.__version__} | source
    record(file, versions, runs, leaves)


def package(name: str) -> dict[str, str]:
    """The version of a package."""
    return {name: importlib.metadata.version(name)}


def exact(path: Path) -> types.ModuleType:
    """A file whose warm-up adds nothing to β before it takes the logarithm."""
    text = path.read_text()
    assert text.count("eps=1e-8):") == 1
    module = types.ModuleType(path.stem)
    exec(compile(text.replace("eps=1e-8):", "eps=0.0):"), path.name, "exec"), vars(module))
    return module


def ademamix(sources: Path) -> None:
    """As it is, and with exact warm-ups."""
    clone = sources / "ml-ademamix"
    path = clone / "pytorch" / "ademamix.py"
    source = {"ml-ademamix": commit(clone)}
    warm = {"beta3_warmup": 150, "alpha_warmup": 120, "alpha": 8.0, "weight_decay": 0.1}
    short = {"betas": (0.8, 0.99, 0.995)}
    written(
        "ademamix", source, exact(path).AdEMAMix, LEAVES,
        default={}, warm=warm, short=short | warm, no_b1={"betas": (0.0, 0.99, 0.999)},
    )  # fmt: skip
    written("ademamix_as_is", source, load(path).AdEMAMix, ["wide"], warm=warm)


def simplified_ademamix(sources: Path) -> None:
    """With exact warm-ups."""
    clone = sources / "Simplified-AdEMAMix"
    module = exact(clone / "simplified_AdEMAMix.py")
    written(
        "simplified_ademamix", {"Simplified-AdEMAMix": commit(clone)}, module.SimAdEMAMix, LEAVES,
        default={},
        alpha={"alpha": 5.0, "weight_decay": 0.1},
        warm={"alpha": 2.0, "beta1_warmup": 150, "betas": (0.995, 0.9), "min_beta1": 0.8},
    )  # fmt: skip


def adopt(sources: Path) -> None:
    """In the loop over tensors, which asks a module of torch's that has moved for a constant."""
    clone = sources / "adopt"
    factory = functools.partial(
        load(clone / "src" / "adopt" / "adopt.py").ADOPT, decouple=True, foreach=False
    )
    written(
        "adopt", {"adopt": commit(clone)}, factory, LEAVES,
        default={},
        decays={"betas": (0.8, 0.99), "eps": 1e-2, "weight_decay": 0.1},
        no_clipping={"clip_lambda": None, "betas": (0.5, 0.9)},
        coupled={"decouple": False, "weight_decay": 0.1},
        clip={"clip_lambda": lambda step: 0.1 * step**0.5},
    )  # fmt: skip


def _numbers_first(method: Any, name: str) -> Callable[..., Any]:
    """A method of tensors that takes its number first, as it did before torch 2."""

    def called(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if len(args) > 1 and isinstance(args[0], float | int):
            number, *args = args
            options[name] = number
        return method(self, *args, **options)

    return called


def laprop(sources: Path) -> None:
    """Numbers before tensors are taken as before torch 2."""
    torch.Tensor.add_ = _numbers_first(torch.Tensor.add_, "alpha")  # type: ignore
    torch.Tensor.addcmul_ = _numbers_first(torch.Tensor.addcmul_, "value")  # type: ignore
    clone = sources / "LaProp-Optimizer"
    written(
        "laprop", {"LaProp-Optimizer": commit(clone)}, load(clone / "laprop.py").LaProp, LEAVES,
        default={},
        short={"betas": (0.5, 0.9), "eps": 1e-3},
        no_momentum={"betas": (0.0, 0.99)},
    )  # fmt: skip


def stable_adamw(sources: Path) -> None:
    """torch-optimi's, tensor by tensor."""
    del sources
    from optimi import StableAdamW

    factory = functools.partial(StableAdamW, foreach=False, triton=False)
    written(
        "stable_adamw", package("torch-optimi"), factory, LEAVES,
        default={},
        decays={"betas": (0.8, 0.999), "eps": 1e-2, "weight_decay": 0.3},
    )  # fmt: skip


def grams(sources: Path) -> None:
    """With next to no ε, which it adds to another root."""
    del sources
    from grams import Grams

    written(
        "grams", package("grams-pytorch"), functools.partial(Grams, eps=1e-30), LEAVES,
        default={},
        decays={"betas": (0.8, 0.99), "weight_decay": 0.1},
    )  # fmt: skip


def mars(sources: Path) -> None:
    """All arrays alike; its products in float64, and the norm before them without ε."""
    clone = sources / "MARS"
    torch.compile = lambda f: f  # type: ignore
    torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore
    factory = functools.partial(
        load(clone / "MARS" / "optimizers" / "mars.py").MARS, optimize_1d=True
    )
    source = {"MARS": commit(clone)}
    written(
        "mars", source, factory, LEAVES,
        default={},
        decays={"betas": (0.9, 0.999), "gamma": 0.1, "weight_decay": 0.1, "eps": 1e-3},
        lion={"mars_type": "mars-lion", "weight_decay": 0.1},
    )  # fmt: skip
    written(
        "mars_shampoo", source, functools.partial(factory, eps=0.0), ["tall", "wide", "square"],
        default={"mars_type": "mars-shampoo", "weight_decay": 0.1},
    )  # fmt: skip


def came(sources: Path) -> None:
    """The package."""
    del sources
    from came_pytorch import CAME

    written(
        "came", package("came-pytorch"), CAME, [*LEAVES, "copies"],
        default={},
        decays={
            "betas": (0.8, 0.99, 0.995), "eps": (1e-8, 1e-6), "clip_threshold": 0.5,
            "weight_decay": 0.1,
        },
    )  # fmt: skip


def madgrad(sources: Path) -> None:
    """The package."""
    del sources
    from madgrad import MADGRAD

    written(
        "madgrad", package("madgrad"), MADGRAD, LEAVES,
        default={},
        decays={"momentum": 0.5, "weight_decay": 0.1, "eps": 1e-3},
        no_momentum={"momentum": 0.0},
    )  # fmt: skip


def acprop(sources: Path) -> None:
    """Without the rectification, as in the paper."""
    clone = sources / "ACProp-Optimizer"
    factory = functools.partial(load(clone / "optimizers" / "ACProp.py").ACProp, rectify=False)
    written(
        "acprop", {"ACProp-Optimizer": commit(clone)}, factory, LEAVES,
        default={},
        decays={"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1},
    )  # fmt: skip


def momo(sources: Path) -> None:
    """All leaves at once, with a loss."""
    del sources
    from momo import Momo, MomoAdam

    rates = {"plain": {"lr": 1.0}, "capped": {"lr": 0.01}}
    small = {"lr": 0.3, "weight_decay": 0.1}
    runs = {
        "momo": {
            **{name: functools.partial(Momo, **kwargs) for name, kwargs in rates.items()},
            "corrected": functools.partial(Momo, **small, bias_correction=True, beta=0.7, lb=0.2),
            "adapted": functools.partial(Momo, **small, use_fstar=True, lb=-0.5),
            "both": functools.partial(Momo, lr=0.3, use_fstar=True, bias_correction=True),
        },
        "momo_adam": {
            **{name: functools.partial(MomoAdam, **kwargs) for name, kwargs in rates.items()},
            "adamw": functools.partial(
                MomoAdam, **small, betas=(0.8, 0.99), eps=1e-3, lb=0.2, divide=False
            ),
            "adapted": functools.partial(MomoAdam, **small, use_fstar=True, lb=-0.5),
        },
    }
    versions = {"torch": torch.__version__, "numpy": np.__version__} | package("momo-opt")
    for file, makes in runs.items():
        found = {label: _run_with_loss(make) for label, make in makes.items()}
        record(
            file, versions, {k: lambda name, of=run: of[name] for k, run in found.items()}, LEAVES
        )


def _run_with_loss(make: Any) -> dict[str, np.ndarray]:
    """Of each leaf the parameters after the steps that are kept; all leaves are moved at once."""
    params = {name: torch.nn.Parameter(torch.tensor(parameters(name))) for name in LEAVES}
    optimizer = make(params.values())
    kept: dict[str, list[np.ndarray]] = {name: [] for name in LEAVES}
    for t, value in enumerate(losses(), 1):
        for name, p in params.items():
            p.grad = torch.tensor(usual(name)[t - 1])
        optimizer.step(loss=torch.tensor(value))
        if t in LONG:
            for name, p in params.items():
                kept[name].append(p.detach().numpy().copy())
    return {name: np.stack(arrays) for name, arrays in kept.items()}


def grokfast(sources: Path) -> None:
    """Its filters before steps of SGD."""
    clone = sources / "grokfast"
    module = load(clone / "grokfast.py")

    def filtered(name: str, gradfilter: Any) -> np.ndarray:
        model = torch.nn.Module()
        model.w = torch.nn.Parameter(torch.tensor(parameters(name)))
        optimizer, held, kept = torch.optim.SGD(model.parameters(), lr=LR), None, []
        for t, g in enumerate(usual(name), 1):
            model.w.grad = torch.tensor(g)
            held = gradfilter(model, held)
            optimizer.step()
            if t in LONG:
                kept.append(model.w.detach().numpy().copy())
        return np.stack(kept)

    ma = functools.partial(module.gradfilter_ma, window_size=20)
    filters = {
        "ema": module.gradfilter_ema,
        "ema_short": functools.partial(module.gradfilter_ema, alpha=0.8, lamb=0.5),
        "ma": ma,
        "ma_sum": functools.partial(ma, filter_type="sum", lamb=0.1),
        "ma_at_once": functools.partial(ma, warmup=False, lamb=2.0),
    }
    runs = {
        label: functools.partial(filtered, gradfilter=gradfilter)
        for label, gradfilter in filters.items()
    }
    record("grokfast", {"torch": torch.__version__, "grokfast": commit(clone)}, runs, LEAVES)


def sophia(sources: Path) -> None:
    """With an estimate after every tenth step, of the gradients in the reverse order."""
    clone = sources / "Sophia"
    factory = load(clone / "sophia.py").SophiaG

    def estimated(name: str, options: dict[str, Any]) -> np.ndarray:
        p, kept = torch.nn.Parameter(torch.tensor(parameters(name))), []
        optimizer = factory([p], lr=LR, **options)
        for t, (g, sampled) in enumerate(zip(usual(name), usual(name)[::-1], strict=True), 1):
            p.grad = torch.tensor(g)
            optimizer.step(bs=8)
            if t % 10 == 0:
                p.grad = torch.tensor(sampled.copy())
                optimizer.update_hessian()
            if t in LONG:
                kept.append(p.detach().numpy().copy())
        return np.stack(kept)

    short = {"betas": (0.8, 0.9), "rho": 0.3, "weight_decay": 0.0}
    runs = {
        label: functools.partial(estimated, options=options)
        for label, options in {"default": {}, "short": short}.items()
    }
    record("sophia", {"torch": torch.__version__, "Sophia": commit(clone)}, runs, LEAVES)


def sharpness(sources: Path) -> None:
    """Least squares by SGD, the gradient being that of a point uphill."""
    clone = sources / "ASAM"
    module = load(clone / "asam.py")
    x, y = (torch.tensor(usual("square")[i]) for i in range(2))

    def squares(name: str, make: Any) -> np.ndarray:
        model = torch.nn.Module()
        model.weight = torch.nn.Parameter(torch.tensor(parameters(name)))
        uphill = make(torch.optim.SGD(model.parameters(), lr=LR), model)
        kept = []
        for t in range(1, LONG[-1] + 1):
            for step in (uphill.ascent_step, uphill.descent_step):
                torch.mean((x @ model.weight - y) ** 2).backward()
                step()
            if t in LONG:
                kept.append(model.weight.detach().numpy().copy())
        return np.stack(kept)

    makes = {
        "sam": functools.partial(module.SAM, rho=0.05),
        "asam": module.ASAM,
        "asam_far": functools.partial(module.ASAM, rho=2.0, eta=0.1),
    }
    runs = {label: functools.partial(squares, make=make) for label, make in makes.items()}
    record("sharpness", {"torch": torch.__version__, "ASAM": commit(clone)}, runs, ["square"])


def adam_mini(sources: Path) -> None:
    """Each leaf under a name that tells its blocks: rows, heads of 4 × 7, one, or Adam."""
    del sources
    from adam_mini import Adam_mini

    names = {"wide": "mlp", "square": "embed", "copies": "wq", "vector": "norm"}

    def named(name: str, options: dict[str, Any]) -> np.ndarray:
        def make(params: list[torch.nn.Parameter]) -> Any:
            pairs = [(names[name], params[0])]
            return Adam_mini(pairs, lr=LR, dim=28, n_heads=28, verbose=False, **options)

        return run(name, make=make)

    short = {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}
    versions = {"torch": torch.__version__, "numpy": np.__version__} | package("adam-mini")
    runs = {
        label: functools.partial(named, options=options)
        for label, options in {"default": {}, "short": short}.items()
    }
    record("adam_mini", versions, runs, names)


def galore(sources: Path) -> None:
    """In float64, where it asks for float32, and with the largest number of each vector above 0."""
    decompose = torch.linalg.svd

    def turned(x: torch.Tensor, full_matrices: bool) -> tuple[torch.Tensor, ...]:
        u, s, vh = decompose(x, full_matrices=full_matrices)
        u = u * u.gather(0, u.abs().argmax(0, keepdim=True)).sign()
        return u, s, vh * vh.gather(1, vh.abs().argmax(1, keepdim=True)).sign()

    torch.linalg.svd = turned  # type: ignore
    torch.Tensor.float = torch.Tensor.clone  # type: ignore
    clone = sources / "GaLore"
    projector = load(clone / "galore_torch" / "galore_projector.py")
    text = (clone / "galore_torch" / "adamw.py").read_text()
    body = text[text.index("class AdamW") :]
    module = types.ModuleType("adamw")
    names = {"Callable": Callable, "Iterable": Iterable, "Optimizer": torch.optim.Optimizer}
    known = {"torch": torch, "nn": torch.nn, "math": math, "warnings": warnings, "Tuple": tuple}
    known["require_version"] = lambda version: None  # of transformers, which it else does without
    vars(module).update(names | known | {"GaLoreProjector": projector.GaLoreProjector})
    exec(compile(body, "adamw.py", "exec"), vars(module))

    def projected(params: list[torch.nn.Parameter], lr: float, **options: Any) -> Any:
        group = {"params": params, "scale": 1.0, "proj_type": "std"} | options.pop("group")
        return module.AdamW([group], lr=lr, no_deprecation_warning=True, **options)

    written(
        "galore", {"GaLore": commit(clone)}, projected, ["wide", "tall", "square"],
        kept={"group": {"rank": 2, "update_proj_gap": 500}, "eps": 1e-30},
        renewed={"group": {"rank": 3, "update_proj_gap": 20, "scale": 0.25}, "eps": 1e-30},
        all={"group": {"rank": 9, "update_proj_gap": 7}, "betas": (0.5, 0.9), "eps": 1e-30},
    )  # fmt: skip


FILES = (
    galore,
    adam_mini,
    grokfast,
    sophia,
    sharpness,acprop, momo,
    ademamix, simplified_ademamix, adopt, laprop, stable_adamw, grams, mars, came, madgrad,
)  # fmt: skip


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    chosen = sys.argv[2:] or [file.__name__ for file in FILES]
    for file in FILES:
        if file.__name__ in chosen:
            file(Path(sys.argv[1]))
