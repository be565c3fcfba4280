"""The learning-rate sweep: every method over one grid, fixed beforehand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from rich.console import RenderableType

from gdfx.lab import plot, report
from gdfx.lab.problems import Problem
from gdfx.lab.race import METHODS, check_counts
from gdfx.lab.resolve import Entry, enter, find_problem, number
from gdfx.lab.run import prepare, run

HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
TUNING_SEED = 1_000_000
"""The first seed of a sweep, far from those of a race: rates are not chosen on its seeds."""
