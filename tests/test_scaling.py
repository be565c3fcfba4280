"""The formulas of docs/scaling.md, against programs compiled for 1, 2, 4 and 8 devices."""

import collections
import math
import re
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gdfx

LEAVES, SHAPE = 8, (64, 128)
W = {f"{i}": np.ones(SHAPE, np.float32) for i in range(LEAVES)}
SIZE = LEAVES * math.prod(SHAPE)


def dealt(mesh):
    over = NamedSharding(mesh, P("data"))
    return gdfx.scale_by_muon(matrices=lambda *_: gdfx.MatrixAxes(), over=over)


# Of each row of the table: an optimizer; bytes of state times n; numbers gathered; numbers
# exchanged times n; single numbers summed for each leaf.
ROWS = {
    "sgd": (lambda _: gdfx.sgd(0.1), 0, 1, 0, 0),
    "lion": (lambda _: gdfx.lion(0.1), 4, 1, 0, 0),
    "adam": (lambda _: gdfx.adam(0.1), 8, 1, 0, 0),
    "clipped": (
        lambda _: optax.chain(optax.clip_by_global_norm(1.0), gdfx.adam(0.1)), 8, 1, 0, 1,
    ),
    "lamb": (lambda _: gdfx.lamb(0.1), 8, 1, 0, 2),
    "8bit": (lambda _: gdfx.quantized(gdfx.adam(0.1)), 2.03125, 1, 0, 0),
    "4bit": (lambda _: gdfx.quantized(gdfx.adam(0.1), "4bit"), 1.0625, 1, 0, 0),
    "compensated": (lambda _: gdfx.compensated(gdfx.adam(0.1)), 12, 1, 0, 0),
    "averaged": (lambda _: gdfx.averaged(gdfx.adam(0.1)), 12, 1, 0, 0),
    "schedule_free": (lambda _: gdfx.schedule_free_adamw(0.1), 8, 1, 0, 0),
    "skip_nonfinite": (lambda _: gdfx.skip_nonfinite(gdfx.adam(0.1)), 8, 1, 0, 1 / LEAVES),
    "muon": (dealt, 4, 1, 2, 0),
}  # fmt: skip
WHOLE = {"adam", "lamb", "muon"}  # always on every number of devices; the others on 8


def measured(name, count):
    """Bytes of state on one device, and numbers in each kind of message."""
    devices = jax.devices()[:count]
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    tx = gdfx.sharded(ROWS[name][0](mesh), mesh)
    w = jax.device_put(W, NamedSharding(mesh, P()))
    state = tx.init(w)
    compiled = jax.jit(tx.update).lower(w, state, w).compile()
    shards = (s for x in jax.tree.leaves(state) for s in x.addressable_shards)
    held = sum(s.data.nbytes for s in shards if s.device == devices[0])
    sent = collections.Counter()
    for line in compiled.as_text().splitlines():
        kinds = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
        found = re.search(rf"= (.*?) ({kinds})(?:-start)?\(", line)
        if found:
            shapes = re.findall(r"\w+\[([\d,]*)\]", found[1])
            sent[found[2]] += sum(math.prod(map(int, filter(None, s.split(",")))) for s in shapes)
    return held, dict(sent)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_what_is_held_and_sent(name, count, pytestconfig):
    if count < 8 and name not in WHOLE and pytestconfig.getoption("--laws") != "full":
        pytest.skip("on fewer than 8 devices with --laws=full")
    _, state, gathered, exchanged, each = ROWS[name]
    held, sent = measured(name, count)
    assert abs(held - state * SIZE / count) <= 20  # counts of steps, and other single numbers
    expected = {
        "all-gather": gathered * SIZE,
        "all-to-all": exchanged * SIZE / count,
        "all-reduce": each * LEAVES,
    }
    assert sent == ({} if count == 1 else {kind: n for kind, n in expected.items() if n})


def test_the_page_says_the_same():
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
    row = r"^\| (?:`|the).*? \| ([\d.]+)(?: / n)? \| 1 \| [^|]+ \| [^|]+ \|$"
    bytes_said = re.findall(row, page, re.MULTILINE)
    assert bytes_said == ["0", "4", "8", "8", "8", "2.03", "1.06", "12", "12", "8", "8", "4"]
    assert bytes_said == [f"{row[1]:.3g}" for row in ROWS.values()]
    for size, n in re.findall(r"^\| 10(\S+) \| (\d+) \|", page, re.MULTILINE):
        numbers = 10 ** int(size.translate(str.maketrans("⁰¹²⁹", "0129")))
        n = int(n)
        plain, shared, few = 16, 8 + 8 / n, 4 + 2.03125 / n
        row = [f"{round(x * numbers / 1e9, 1):,}" for x in (plain, shared, few)]
        told = re.search(rf"^\| 10{size} \| {n} \| (.*) \|$", page, re.MULTILINE)[1].split(" | ")
        for a, b in zip(row, told, strict=True):
            assert abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= 0.5
