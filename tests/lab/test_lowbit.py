"""The benchmark of state of few bits: what it measures and how it tells, and never how long."""

import pytest

from gdfx.lab import RequestError
from gdfx.lab.bench import Case
from gdfx.lab.lowbit import FULL, CodedBench, CodedRow, Memory, bench_low_bit
from gdfx.lab.trees import array


def test_each_code_has_its_row():
    told = []
    case = Case([array(64, 65), array(3)], pairs=2)
    found = bench_low_bit(["adam"], [case], ["4bit"], told.append)
    assert found.rows == tuple(told)
    plain, coded = found.rows
    assert [(row.method, row.case, row.code) for row in found.rows] == [
        ("adam", "2 leaves, 4e3", "float32"),
        ("adam", "2 leaves, 4e3", "4bit"),
    ]
    assert plain.ratios == (1.0, 1.0)
    assert (len(coded.ratios), coded.step > 0) == (2, True)
    size = 64 * 65 + 3
    assert plain.memory.state == (8 * size + 4) / size
    # Two numbers to a byte, 33 blocks of 128 in each accumulator; the small leaf; the count.
    assert coded.memory.state == (64 * 65 + 2 * 33 * 4 + 8 * 3 + 4) / size
    for _, beside, most in (row.memory for row in found.rows):
        assert most >= 8 + beside
    assert plain.memory.beside < 1 < coded.memory.beside  # where a leaf becomes wide


def test_leaves_alone_and_many_are_measured():
    """So that what is there at once of one of them can be told from what is there of all."""
    assert [str(case) for case in FULL] == ["1 leaf, 1e6", "8 leaves, 8e6", "148 leaves, 2e6"]


def test_an_unknown_method_is_refused_before_anything_is_measured():
    told = []
    with pytest.raises(RequestError, match="unknown method 'adm'"):
        bench_low_bit(["adam", "adm"], FULL, on_row=told.append)
    assert told == []


def test_the_table(shown):
    rows = (
        CodedRow("adam", "148 leaves, 2e6", "float32", 5e-3, (1.0,), Memory(8.0, 0.0, 16.0)),
        CodedRow("adam", "148 leaves, 2e6", "8bit", 0.02, (3.0, 4.0), Memory(2.031, 24.02, 34.1)),
    )
    lines = shown(CodedBench(rows).table()).splitlines()
    assert max(map(len, lines)) <= 80
    cells = [line.split()[4:] for line in lines if line.startswith("adam")]
    assert cells == [
        ["float32", "5.00", "ms", "1.00", "8.00", "0.00", "16.00"],
        ["8bit", "20.00", "ms", "3.50", "2.03", "24.02", "34.10"],
    ]
