"""The benchmark beside PyTorch: what it measures and how it tells; never how long it takes."""

import importlib
import importlib.metadata
import importlib.util
import io
import types

import pytest
from rich.console import Console

from gdfx.lab import RequestError
from gdfx.lab.bench import RATE, Case
from gdfx.lab.torches import PERIOD, MatchBench, MatchRow, bench_torch
from gdfx.lab.trees import array

CASE = Case([array(3, 2), array(2, 2)], pairs=2)


class Tensor:
    """What the bench does with PyTorch's."""

    def __init__(self, shape):
        self.shape, self.grad = shape, None


class Optimizers:
    """A module in which every class counts its steps."""

    def __init__(self):
        self.made, self.steps = [], 0

    def __getattr__(self, name):
        def make(params, **options):
            self.made.append((name, params, options))
            return types.SimpleNamespace(step=self._step)

        return make

    def _step(self):
        self.steps += 1


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for PyTorch and pytorch_optimizer."""
    torch = types.SimpleNamespace(
        ones=lambda shape, requires_grad: Tensor(shape), from_numpy=lambda x: x
    )
    found = {"torch": torch, "torch.optim": Optimizers(), "pytorch_optimizer": Optimizers()}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    real = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: found[name] if name in found else real(name)
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0")
    return found


def test_both_take_as_many_steps(packages):
    told = []
    found = bench_torch(["soap"], [CASE], told.append)
    assert found.rows == tuple(told)
    assert [row.name for row in found.rows] == ["soap", "soap, spread"]
    theirs = packages["pytorch_optimizer"]
    assert theirs.steps == 2 * (1 + CASE.pairs) * PERIOD
    for name, params, options in theirs.made:
        assert (name, options) == ("SOAP", {"lr": RATE, "precondition_frequency": PERIOD})
        assert [p.shape for p in params] == [p.grad.shape for p in params] == [(3, 2), (2, 2)]
    for row in found.rows:
        assert len(row.gdfx) == len(row.torch) == PERIOD
        assert min(row.gdfx + row.torch) > 0


def test_what_has_no_match_is_refused(packages):
    with pytest.raises(RequestError, match=r"^adam has no match in PyTorch here; muon, soap, "):
        bench_torch(["adam"])


def test_without_the_packages(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"^torch is not installed: pip install torch pytorch_"):
        bench_torch()


def test_the_table(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0")
    row = MatchRow("soap, spread", "24 leaves, 2e6", (0.02, 0.03, 0.1), (0.1, 0.1, 0.5))
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(MatchBench((row,)).table())
    lines = [line.rstrip() for line in screen.export_text().splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("gdfx / PyTorch 2.13.0, jax ")
    (found,) = [line for line in lines if line.startswith("soap")]
    assert found.startswith("soap, spread 24 leaves, 2e6")
    numbers = " ".join(found.split()[5:])
    assert numbers == "30.00 ms × 3.33 100.00 ms × 5.00 0.30"
