"""The lab: methods raced on problems, drawn and measured. It needs the extra ``lab``.

>>> from gdfx import lab
>>> race = lab.race(["sgd=0.5", "optax:lion=0.1"], "valley", steps=10)
>>> race.results["valley"].runs["sgd"].curves["loss"].shape
(1, 11)
"""

from gdfx.lab.compare import Comparison as Comparison
from gdfx.lab.compare import compare as compare
from gdfx.lab.own import problem as problem
from gdfx.lab.plot_watch import plot_watch as plot_watch
from gdfx.lab.problems import PROBLEMS as PROBLEMS
from gdfx.lab.protocol import Landscape as Landscape
from gdfx.lab.protocol import Problem as Problem
from gdfx.lab.protocol import Rates as Rates
from gdfx.lab.race import Race as Race
from gdfx.lab.race import race as race
from gdfx.lab.results import Result as Result
from gdfx.lab.results import Run as Run
from gdfx.lab.space import Span as Span
from gdfx.lab.sweep import Sweep as Sweep
from gdfx.lab.sweep import sweep as sweep
from gdfx.lookup import RequestError as RequestError
