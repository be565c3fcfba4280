"""Measure every method beside optax's, and write the ratios to docs/scripts/speed.json.

docs/scripts/reference.py makes the table in docs/which-method.md of it. Run it with
`python docs/scripts/speed.py [METHOD ...]` on a machine that does nothing else; without methods it
measures all that match an optimizer of optax, which takes ten minutes on two cores.
"""

import json
import sys
from pathlib import Path

from gdfx import METHODS
from gdfx.lab.bench import Case, Suite, bench
from gdfx.lab.trees import transformer

FILE = Path(__file__).parent / "speed.json"
SUITE = Suite(
    step=(Case(transformer((128, 9)), pairs=15, repeats=6),),
    compiling=(Case(transformer((32, 1), (48, 2), (64, 2), (96, 1)), pairs=3),),
)
WHAT = {"step": "step", "all three": "compiling"}


if __name__ == "__main__":
    matching = [name for name, method in METHODS.items() if method.matches is not None]
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in sys.argv[1:] or matching:
        rows = bench([name], SUITE).rows
        known[name] = {
            WHAT[row.what]: [round(x, 3) for x in row.quartiles] for row in rows if row.what in WHAT
        }
        print(name, known[name], flush=True)
        FILE.write_text(json.dumps({n: known[n] for n in METHODS if n in known}, indent=1) + "\n")
