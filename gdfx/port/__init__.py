"""Runs that move: states of other libraries' optimizers as those of gdfx, and back."""

from gdfx.port.keras import from_keras as from_keras
from gdfx.port.keras import to_keras as to_keras
from gdfx.port.leaves import Leaf as Leaf
from gdfx.port.leaves import from_arrays as from_arrays
from gdfx.port.leaves import to_arrays as to_arrays
from gdfx.port.optax import from_optax as from_optax
from gdfx.port.optax import to_optax as to_optax
from gdfx.port.torch import from_torch as from_torch
from gdfx.port.torch import to_torch as to_torch
