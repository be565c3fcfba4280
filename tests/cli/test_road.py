"""A prototype's road: a file of one's own, checked, tested, raced and swept beside adam.

Its state has a ring buffer, a number of each layer, one of the whole tree and an integer counter.
"""

import json
import runpy
import subprocess
import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

PROTOTYPE = """
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import gdfx
from gdfx.lab import problem
from gdfx.testing import Traits, conformance, declare


class RoadState(NamedTuple):
    count: jax.Array
    ring: Any  # the last three gradients
    layer: Any  # the largest norm that a layer's gradient had
    turns: Any  # how often each coordinate changed its sign, whole numbers
    norm: jax.Array  # of the last gradients as a whole


def scale_by_road():
    def init(p):
        return jnp.zeros((3, *p.shape), p.dtype), jnp.zeros((), p.dtype), jnp.zeros(p.shape, int)

    def measure(g, ring, layer, turns):
        return {"sq": jnp.sum(g * g)}

    def scalars(t, sq):
        return {"slot": (t - 1) % 3, "before": (t - 2) % 3, "norm": jnp.sqrt(sq)}

    def rule(g, ring, layer, turns, *, slot, before, norm):
        turns = turns + (g * ring[before] < 0)
        ring = ring.at[slot].set(g)
        layer = jnp.maximum(layer, jnp.sqrt(jnp.sum(g * g)))
        u = ring.sum(axis=0) / (1 + turns) / (1 + layer) / (1 + norm)
        return u, ring, layer, turns

    return gdfx.per_leaf(
        RoadState, init, rule, scalars=scalars, measure=measure, numbers={"norm": 0.0}
    )


@declare(Traits(odd=True, translates=True, needs_params=False))
def road(learning_rate):
    return gdfx.descend(scale_by_road(), learning_rate)


bowl = problem(lambda w: jnp.sum((w - 1) ** 2), jnp.zeros(3), steps=3, name="bowl")
LAWS = ["sign", "translation", "no-retrace", "scan-and-cond", "inside-masked"]
test_road = conformance(partial(road, learning_rate=0.1), laws=LAWS)
"""


@pytest.fixture
def walk(invoke, tmp_path, monkeypatch):
    (tmp_path / "road.py").write_text(PROTOTYPE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return invoke


def test_the_prototype_computes_its_equations(walk, tmp_path):
    tx = runpy.run_path(str(tmp_path / "road.py"))["scale_by_road"]()
    rng = np.random.default_rng(0)
    steps = [{"a": rng.normal(size=(2, 2)), "b": rng.normal(size=3)} for _ in range(5)]
    state = tx.init(jax.tree.map(lambda x: jnp.zeros(x.shape), steps[0]))
    for t, g in enumerate(steps):
        updates, state = tx.update(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), g), state)
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        for name in g:
            past = [step[name] for step in steps[: t + 1]]
            turns = sum(np.sign(x) != np.sign(y) for x, y in pairwise(past))
            layer = max(np.sqrt((x**2).sum()) for x in past)
            right = sum(past[-3:]) / (1 + turns) / (1 + layer) / (1 + norm)
            np.testing.assert_allclose(updates[name], right, rtol=1e-5)
    assert state.turns["a"].dtype == jnp.int32
    assert int(state.count) == 5


def test_it_is_checked(walk):
    laws = ("sign", "translation", "no-retrace", "state-type-fixed", "inside-masked")
    result = walk("check", "road:road", *(word for law in laws for word in ("--law", law)))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "road.road keeps the contract (5 laws)"


def test_pytest_says_the_same(walk, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "road.py"],
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_it_is_raced_and_swept_beside_adam_on_a_problem_of_ones_own(walk, tmp_path):
    where = ("-p", "road:bowl", "--seeds", "1")
    raced = walk("race", "-m", "road:road=0.1", "-m", "adam=0.1", *where)
    assert raced.exit_code == 0, raced.output
    swept = walk("sweep", "-m", "road:road", "-m", "adam", "--rates", "0.1,1", *where)
    assert swept.exit_code == 0, swept.output
    for folder, said in (("race", raced.stdout), ("sweep", swept.stdout)):
        record = (tmp_path / folder / "results.json").read_text()
        assert "road:road" in json.dumps(json.loads(record))
        assert "road:road" in said
        assert "adam" in said
        assert max(map(len, said.splitlines()[:-1])) <= 80
