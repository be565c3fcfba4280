"""One pass over memory: a whole optimizer step on a CPU, element by element.

::

    step → call, explain → plan → program, regions | native, trial → handler → emit → loop

On the left of ``loop`` all is JAX; on the right all is text, until llvmlite makes it machine code.
"""

from gdfx.onepass.step import OnePass as OnePass
from gdfx.onepass.step import one_pass as one_pass
