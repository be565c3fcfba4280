"""Runs that move: states of other libraries' optimizers as those of gdfx, and back."""

from gdfx.port.leaves import Leaf as Leaf
from gdfx.port.optax import from_optax as from_optax
from gdfx.port.optax import to_optax as to_optax
from gdfx.port.torch import from_torch as from_torch
from gdfx.port.torch import params_from_torch as params_from_torch
from gdfx.port.torch import params_to_torch as params_to_torch
from gdfx.port.torch import to_torch as to_torch
