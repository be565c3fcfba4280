"""Is somebody else's optimizer well behaved? Some laws, tried on optax's Adam and on gdfx's.

A law is a statement that holds for a well-behaved optimizer: that a step is traced only once, say.
Run it with `python examples/check_optimizer.py`; `gdfx check optax:adam` tries all of them.
"""

from functools import partial

import optax

import gdfx
from gdfx import testing

LAWS = ["no-retrace", "resumes-bitwise", "bad-arguments-refused", "zero-gradient-finite"]

for factory in (optax.adam, gdfx.adam):
    report = testing.check(partial(factory, learning_rate=1e-3), LAWS)
    print(f"{report.name}: {report.totals}")
    for verdict in report.verdicts:
        print(f"  {verdict}")
