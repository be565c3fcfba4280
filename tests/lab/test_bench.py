"""The benchmark: what it measures, on which trees, and how it tells; never how long it takes."""

import dataclasses
import gc
from collections import Counter

import jax
import numpy as np
import pytest

from gdfx.catalog import METHODS
from gdfx.lab import RequestError
from gdfx.lab.bench import (
    FULL,
    QUICK,
    Bench,
    Case,
    Row,
    Suite,
    bench,
    bench_sweep,
    frozen,
    jitted_step,
    made,
    rounds,
    theirs,
)
from gdfx.lab.trees import array, perceptron, transformer

SMALL = Suite(
    step=(Case(array(3), pairs=2),),
    compiling=(Case(perceptron(2, 3), pairs=2),),
    eager=(Case(perceptron(2, 3), pairs=3, repeats=2),),
)
OF_ONE = [
    *(("1 leaf, 3e0", what) for what in ("step",)),
    *(("2 leaves, 9e0", what) for what in ("trace", "lower", "compile", "all three")),
    *(("2 leaves, 9e0", what) for what in ("eager update", "first eager")),
]


def shapes(tree):
    return Counter(leaf.shape for leaf in jax.tree.leaves(tree))


def test_a_transformer_has_the_leaves_of_its_layers():
    tree = transformer((8, 2), (12, 1))
    assert shapes(tree["stages"][0][0]) == {
        (8, 8): 4,
        (8,): 4 + 4 + 1,
        (8, 32): 1,
        (32, 8): 1,
        (32,): 1,
    }
    around = {"embedding": (1000, 8), "positions": (100, 8)}
    assert {name: tree[name].shape for name in around} == around
    assert shapes(tree["between"]) == {(8, 12): 1}
    assert shapes(tree["norm"]) == {(12,): 2}
    assert sum(shapes(tree).values()) == 3 * 16 + 4 + 1


def test_what_is_compiled_has_many_leaves_of_many_shapes():
    counts = [shapes(case.tree) for case in FULL.compiling]
    assert [sum(count.values()) for count in counts] == [103, 295, 999]
    assert [len(count) for count in counts] == [25, 25, 25]
    assert all(len(shapes(case.tree)) >= 20 for case in QUICK.compiling)


def test_steps_are_timed_on_a_leaf_alone_and_on_a_network():
    assert [str(case) for case in FULL.step] == ["1 leaf, 1e5", "1 leaf, 1e7", "148 leaves, 2e6"]
    assert [str(case) for case in FULL.eager] == ["10 leaves, 1e5"]
    assert [str(case) for case in QUICK.step] == ["1 leaf, 1e5", "148 leaves, 1e5"]


def test_a_case_is_filled_with_numbers():
    case = Case(transformer((4, 1)), pairs=1)
    for filled in (case.params(), case.grads()):
        assert jax.tree.structure(filled) == jax.tree.structure(case.tree)
        assert shapes(filled) == shapes(case.tree)
        assert {leaf.dtype for leaf in jax.tree.leaves(filled)} == {np.dtype("float32")}
    assert len({float(leaf.ravel()[0]) for leaf in jax.tree.leaves(case.grads())}) == 16 + 4


def test_each_method_has_a_row_for_everything_measured():
    told = []
    found = bench(["sgd", "adam", "sgd"], SMALL, told.append)
    names = [(row.method, row.case, row.what) for row in found.rows]
    assert names == [(method, *one) for method in ("sgd", "adam") for one in OF_ONE]
    assert told == list(found.rows)
    for row in found.rows:
        assert len(row.ratios) == (3 if "eager" in row.what else 2)
        assert min(row.gdfx, row.optax, *row.ratios) > 0
        assert sorted(row.quartiles) == list(row.quartiles)


def test_a_sweep_compiles_once_and_a_loop_for_each_rate(shown):
    found = bench_sweep(["sgd"], ["valley"], rates=3, seeds=2)
    ((method, problem, loop, in_loop, swept, in_sweep),) = found.rows
    assert (method, problem, in_sweep) == ("sgd", "valley", 3)
    assert in_loop >= 3
    assert loop > swept > 0
    text = shown(found.table())
    assert max(map(len, text.splitlines())) <= 80
    assert "3 learning rates × 2 seeds on cpu" in text
    (head,) = (line.split() for line in text.splitlines() if line.startswith("method"))
    assert head == ["method", "problem", "loop", "compiled", "sweep", "compiled", "ratio"]


def test_a_ratio_is_gdfxs_time_by_optaxs(monkeypatch):
    def step(factory, case):
        return lambda: {"step": 3.0 if factory is METHODS["sgd"].factory else 2.0}

    monkeypatch.setattr("gdfx.lab.bench._step", step)
    (row,) = bench(["sgd"], Suite(step=SMALL.step)).rows
    assert row == Row("sgd", "1 leaf, 3e0", "step", 3, 2, (1.5, 1.5))


def test_every_method_that_matches_an_optimizer_can_be_measured():
    """Both sides make a step; what a matrix method has beside it is measured too."""
    params = [array(2, 3)]
    for method in METHODS.values():
        if method.matches or method.beside:
            for factory in (method.maker, theirs(method)):
                tx = made(factory)
                state = jax.eval_shape(tx.init, params)
                after = jax.eval_shape(jitted_step(tx), params, state, params)
                assert jax.tree.structure(after) == jax.tree.structure((params, state))
    tree = Case(params, pairs=2)
    found = bench(["lamb", "muon"], Suite(step=(tree,), matrices=(tree,)))
    assert [(row.method, row.what) for row in found.rows] == [
        ("lamb", "step"),
        ("muon", "step"),
        ("muon", "step / products"),
    ]


def test_two_take_turns_and_no_collection_disturbs_them():
    calls = []

    def runner(name):
        def run():
            assert not gc.isenabled()
            calls.append(name)
            return {name: len(calls)}

        return run

    with frozen():
        found = rounds([runner("a"), runner("b")], 4)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert found == [[{"a": n} for n in (3, 6, 7, 10)], [{"b": n} for n in (4, 5, 8, 9)]]
    assert gc.isenabled()


def test_the_table_fits_80_columns(shown):
    names = sorted((name for name, method in METHODS.items() if method.matches), key=len)
    longest = max((name for name in names if len(name) <= len("textbook.sgd")), key=len)
    rows = (
        Row(longest, str(FULL.compiling[-1]), "eager update", 0.99999, 0.99999, (1.25, 1.5, 1.75)),
        Row(longest, str(FULL.compiling[-1]), "first eager", 1.5, 2e-5, (75.0, 80.0, 85.0)),
    )
    lines = shown(Bench(rows).table()).splitlines()
    assert max(map(len, lines)) <= 80
    cells = [line.split() for line in lines if line.startswith(longest)]
    name = [longest, "999", "leaves,", "3e6"]
    assert cells == [
        [*name, "eager", "update", "999.99", "ms", "999.99", "ms", "1.50", "1.38", "1.62"],
        [*name, "first", "eager", "1.50", "s", "20", "µs", "80", "78", "82"],
    ]
    split = shown(Bench((dataclasses.replace(rows[0], method=names[-1]),)).table())
    assert max(map(len, split.splitlines())) <= 80
    assert [x for x in (names[-1], "999.99 ms", "1.50", "1.38 1.62") if x not in split] == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sgdd", "unknown method 'sgdd'; did you mean sgd?"),
        (
            "textbook.adam",
            "textbook.adam matches no optax optimizer to be measured beside; "
            + ", ".join(name for name, m in METHODS.items() if m.matches or m.beside)
            + " do",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(name, sentence):
    told = []
    with pytest.raises(RequestError) as refusal:
        bench(["sgd", name], SMALL, told.append)
    assert str(refusal.value) == sentence
    assert told == []
