"""Results in a notebook: a cell that ends with one shows its table, and its figures."""

import nbclient
import nbformat

RACE = """
from gdfx import lab
lab.race(["sgd=0.5", "adam=0.3"], "valley", steps=5)
"""
SWEEP = 'lab.sweep("sgd", "valley", rates=[0.03, 0.3], steps=5)'
BENCH = """
from gdfx.lab.bench import Bench, Row
Bench((Row("adam", "one array", "step", 1e-6, 1e-6, (0.9, 1.0, 1.1)),))
"""
CHECK = """
import optax
import gdfx.testing
gdfx.testing.check(lambda: optax.sgd(0.1), laws=["zero-rate-stays", "update-dtype"])
"""


def test_results_show_themselves():
    cells = [nbformat.v4.new_code_cell(code) for code in (RACE, SWEEP, BENCH, CHECK)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    race, sweep, bench, check = (cell.outputs[-1].data["text/html"] for cell in cells)
    for html, name in ((race, "sgd"), (race, "adam"), (sweep, "sgd")):
        assert name in html
        assert '<img width="800" src="data:image/png;base64,' in html
    assert "adam" in bench
    assert "1.00" in bench
    assert "<img" not in bench
    assert "keeps the contract (1 law)" in check
    assert check.startswith("<pre>")
