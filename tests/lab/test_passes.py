"""The benchmark of one pass: what it measures and how it tells; never how long it takes."""

import importlib
import importlib.util
import io
import re
import types

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from gdfx.lab import RequestError, passes
from gdfx.lab.bench import RATE, Case
from gdfx.lab.passes import Contest, PassBench, Passes, PassRow, bench_passes, contests
from gdfx.lab.trees import array


def test_what_is_measured_by_default():
    what = passes.full()
    steps = [(c.name, str(c.case)) for c in what.steps]
    sizes = [f"1 leaf, 1e{n}" for n in (5, 6, 7, 8)]
    for name in ("optax.adam", "optax.adamw"):
        assert [case for n, case in steps if n == name][:4] == sizes
    others = ["optax.sgd, momentum", "optax.rmsprop", "optax.adagrad", "optax.lion", "clip, adamw"]
    assert [(name, case) for name, case in steps if name in others] == [
        (name, "1 leaf, 1e7") for name in others
    ]
    assert [case for _, case in steps[-3:]] == [
        "148 leaves, 1e7",
        "148 leaves, 1e8",
        "1000 leaves, 5e5",
    ]
    shapes = [{leaf.shape for leaf in jax.tree.leaves(c.case.tree)} for c in what.compiling]
    assert [len(some) for some in shapes] == [100, 1_000, 1, 1]
    assert [len(c.case.tree) for c in what.compiling] == [100, 1_000, 100, 1_000]


def test_methods_stand_for_what_they_match():
    found = contests(["adam", "lion", "adam"], [Case(array(2), pairs=1)])
    assert [c.name for c in found] == ["optax.adam", "optax.lion"]
    state = found[1].make(RATE).init({"w": np.ones(2)})
    assert jax.tree.structure(state) == jax.tree.structure(optax.lion(RATE).init({"w": np.ones(2)}))
    with pytest.raises(RequestError, match="matches no optax optimizer"):
        contests(["textbook.adam"], [])


def test_each_contest_has_its_row():
    case = Case(array(300), pairs=2)
    (adam,) = contests(["adam"], [case])
    told = []
    found = bench_passes(Passes((adam,), (adam,)), told.append)
    assert found.rows == tuple(told)
    step, compiling = found.rows
    assert (step.name, step.case, step.what) == ("optax.adam", "1 leaf, 3e2", "step")
    assert (compiling.what, compiling.bandwidth) == ("compile", None)
    for row in found.rows:
        assert len(row.passes) == 2
        assert min(row.plain, *row.passes) > 0
    assert step.torch == ()


def test_the_bytes_of_a_step():
    """Adam reads g, m, v, p and writes m, v, p of four bytes each, and its count of four twice."""
    (adam,) = contests(["adam"], [Case(array(300), pairs=1)])
    assert passes._moved(adam) == 7 * 4 * 300 + 2 * 4


def test_each_turn_compiles_anew():
    """With another rate, which is in the loop: no machine code is there yet."""
    rates = []

    def make(rate):
        rates.append(rate)
        return optax.sgd(rate)

    run = passes._compile(Contest("sgd", make, Case(array(3), pairs=1)), passes._plain)
    run()
    run()
    assert len(set(rates)) == 2


def test_pytorch_does_the_same_work(monkeypatch):
    """Its fused optimizer is given parameters and gradients of the tree's shapes."""
    made = []

    class Tensor:
        def __init__(self, shape):
            self.shape, self.grad = shape, None

    def adagrad(params, **options):
        made.append((params, options))
        return types.SimpleNamespace(step=lambda: None)

    torch = types.SimpleNamespace(
        ones=lambda shape, requires_grad: Tensor(shape),
        from_numpy=lambda x: x,
        optim=types.SimpleNamespace(Adagrad=adagrad),
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    modules = {"torch": torch, "torch.optim": torch.optim}
    monkeypatch.setattr(importlib, "import_module", modules.__getitem__)
    (adagrad, lion) = contests(["adagrad", "lion"], [Case([array(3), array(2, 2)], pairs=1)])
    (run,) = passes._torch(adagrad)
    assert run() >= 0
    ((params, options),) = made
    assert options == {"lr": RATE, "fused": True}
    assert [p.shape for p in params] == [p.grad.shape for p in params] == [(3,), (2, 2)]
    assert list(passes._torch(lion)) == []


def test_the_table():
    rows = (
        PassRow(
            *("optax.sgd, momentum", "1000 leaves, 5e5", "step"),
            *(8e-3, (0.5, 0.6, 0.7), (0.9,), 6e10, 7e10),
        ),
        PassRow("optax.adam", "1 leaf, 1e7", "compile", 7.0, (0.1,)),
    )
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(PassBench(rows).table())
    lines = [line.rstrip() for line in screen.export_text().splitlines()]
    assert max(map(len, lines)) <= 80
    found = [re.split(r"\s{1,}", line) for line in lines if line.startswith("optax.")]
    assert found[0][-6:] == ["8.00", "ms", "0.60", "0.90", "60", "70"]
    assert found[1][-4:] == ["compile", "7.00", "s", "0.10"]
