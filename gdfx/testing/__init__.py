"""Laws that a well-behaved optimizer keeps, and the means to try them on any.

    from functools import partial
    import gdfx.testing, optax
    print(gdfx.testing.check(partial(optax.adam, learning_rate=1e-3)))

and, for one test a law, in a file of your tests:

    test_mine = gdfx.testing.conformance(partial(my.optimizer, 1e-3))

Laws are of two grades. The contract is what optax asks of every optimizer that is to be composed,
and what is declared of this one. Courtesies are what an optimizer may do beyond it; a broken one
fails no test, unless ``strict=True``.

Laws on sign, scale, order and the like ask what is declared of an optimizer:

    gdfx.testing.check(make, traits=gdfx.testing.Traits(elementwise=True, odd=True))

`declare` writes it at the factory, for every check of it.

A law that an optimizer breaks for a good reason is waived:

    gdfx.testing.check(make, waive={"none-gradient": "our models have no frozen parts"})

``gdfx laws`` lists the laws; `law` makes one of your own. The package needs the extra ``testing``,
which ``import gdfx`` does not.
"""

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ModuleNotFoundError(
        'gdfx.testing needs hypothesis; in a checkout of gdfx: pip install -e ".[testing]"'
    )

from gdfx.testing.catalog import LAWS as LAWS
from gdfx.testing.draw import Run as Run
from gdfx.testing.draw import runs as runs
from gdfx.testing.judge import check as check
from gdfx.testing.judge import conformance as conformance
from gdfx.testing.judge import retry as retry
from gdfx.testing.law import BrokenLawError as BrokenLawError
from gdfx.testing.law import Law as Law
from gdfx.testing.law import law as law
from gdfx.testing.report import Report as Report
from gdfx.testing.report import Verdict as Verdict
from gdfx.testing.subject import Subject as Subject
from gdfx.testing.traits import Traits as Traits
from gdfx.testing.traits import declare as declare
