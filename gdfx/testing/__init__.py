"""Laws that a well-behaved optimizer keeps, and the means to try them on any.

    from functools import partial
    import gdfx.testing, optax
    print(gdfx.testing.check(partial(optax.adam, learning_rate=1e-3)))

and, for one test a law, in a file of your tests:

    test_mine = gdfx.testing.conformance(lambda: my.optimizer(1e-3))

Laws are of two grades. The contract is what optax asks of every optimizer that is to be composed,
and what is declared of this one. Courtesies are what an optimizer may do beyond it; a broken one
fails no test, unless ``strict=True``.

Laws on sign, scale, order and the like ask what is declared of an optimizer:

    gdfx.testing.check(make, traits=gdfx.testing.Traits(elementwise=True, odd=True))

It needs the extra ``testing``, which ``import gdfx`` does not: ``pip install "gdfx[testing]"``.
"""

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ModuleNotFoundError('gdfx.testing needs hypothesis: pip install "gdfx[testing]"')

from gdfx.testing import devices as devices
from gdfx.testing import fidelity as fidelity
from gdfx.testing import numbers as numbers
from gdfx.testing import plumbing as plumbing
from gdfx.testing import states as states
from gdfx.testing import symmetry as symmetry
from gdfx.testing.draw import Run as Run
from gdfx.testing.law import LAWS as LAWS
from gdfx.testing.law import BrokenLawError as BrokenLawError
from gdfx.testing.law import Law as Law
from gdfx.testing.report import Report as Report
from gdfx.testing.report import Verdict as Verdict
from gdfx.testing.report import check as check
from gdfx.testing.report import conformance as conformance
from gdfx.testing.report import retry as retry
from gdfx.testing.traits import Traits as Traits
