"""What is counted of a step; a bound on it, which no clock disturbs."""

from typing import Any

import jax
import optax
import pytest

from gdfx.catalog import METHODS
from gdfx.lab import RequestError
from gdfx.lab.bench import Case, theirs
from gdfx.lab.counts import CountBench, CountRow, Counts, bench_counts, count, moved
from gdfx.lab.trees import array

LEAF = Case([array(64, 80)], pairs=1)
BYTES = 64 * 80 * 4  # of one array
FAMILY = [
    name
    for name, method in METHODS.items()
    if (method.matches or "").startswith("optax.") and "contrib" not in (method.matches or "")
]


def test_what_a_step_reads_and_writes():
    plain = count(optax.sgd, LEAF)
    assert plain.kernels == 1
    assert plain.moved == 3 * BYTES  # W and g are read, W is written
    with_m = count(lambda rate: optax.sgd(rate, 0.9), LEAF)
    assert with_m.kernels == 2
    # m and g are read, m is written; m and W are read, W is written; and two numbers.
    assert 6 * BYTES <= with_m.moved <= 6 * BYTES + 32
    assert plain.instructions < with_m.instructions
    assert plain.calls < with_m.calls
    assert count(optax.sgd, LEAF) == plain
    assert moved(optax.sgd, LEAF) == plain.moved


def test_a_branch_counts_and_what_is_inside_a_kernel_does_not():
    def chosen(rate):
        def either(x: Any) -> Any:
            return jax.lax.cond(x[0, 0] > 0, lambda x: -rate * x, lambda x: x.cumsum(0), x)

        return optax.stateless(lambda g, params: jax.tree.map(either, g))

    alone = count(lambda rate: optax.sgd(rate), LEAF)
    assert count(chosen, LEAF).kernels >= alone.kernels + 3  # the choice, and both of its branches


@pytest.mark.parametrize("name", FAMILY)
def test_a_step_moves_no_more_memory_than_optaxs(name):
    ours, other = (moved(f, LEAF) for f in (METHODS[name].maker, theirs(METHODS[name])))
    assert ours <= 1.01 * other  # and not a leaf more: what differs is once a step, or once a row


def test_a_ratio_is_gdfxs_count_by_optaxs(shown):
    told = []
    found = bench_counts(["momentum"], Case([array(3)], pairs=1), told.append)
    (row,) = found.rows
    assert (row.method, row.gdfx.moved, told) == ("momentum", row.optax.moved, [row])
    assert found.case == "1 leaf, 3e0"
    rows = (
        CountRow("sgd", Counts(300, 30, 3, 90), Counts(200, 40, 4, 60)),
        CountRow(max(METHODS, key=len), Counts(99999, 9, 9, 9), Counts(1, 1, 1, 1)),
    )
    lines = shown(CountBench("1 leaf, 3e0", rows).table()).splitlines()
    assert max(map(len, lines)) <= 80
    cells = [line.split() for line in lines if line.startswith("sgd")]
    assert cells == [["sgd", "1.50", "0.75", "0.75", "1.50"]]


def test_what_cannot_be_counted_is_refused_before_anything_is():
    told = []
    with pytest.raises(RequestError, match="unknown method 'sgdd'"):
        bench_counts(["sgd", "sgdd"], LEAF, told.append)
    assert told == []
