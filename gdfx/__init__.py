"""Gradient-descent methods for JAX that drop into optax.

Each method is a pure ``(init, update)`` pair over trees, to be used like optax's own:

>>> import gdfx, jax.numpy as jnp, optax
>>> tx = optax.chain(optax.clip_by_global_norm(1.0), gdfx.adam(1e-3))
>>> params = {"w": jnp.ones(3)}
>>> state = tx.init(params)
>>> updates, state = tx.update({"w": jnp.ones(3)}, state, params)
>>> optax.apply_updates(params, updates)["w"]
Array([0.999, 0.999, 0.999], dtype=float32)
"""

from gdfx.catalog import METHODS as METHODS
from gdfx.core.descend import descend as descend
from gdfx.core.lift import per_leaf as per_leaf
from gdfx.dialects import textbook as textbook
from gdfx.methods.adagrad import adagrad as adagrad
from gdfx.methods.adagrad import scale_by_adagrad as scale_by_adagrad
from gdfx.methods.adam import adam as adam
from gdfx.methods.adam import adamw as adamw
from gdfx.methods.adam import scale_by_adam as scale_by_adam
from gdfx.methods.momentum import momentum as momentum
from gdfx.methods.momentum import scale_by_momentum as scale_by_momentum
from gdfx.methods.sgd import sgd as sgd
from gdfx.wrappers.rounding import compensated as compensated
from gdfx.wrappers.rounding import stochastic_rounding as stochastic_rounding
from gdfx.wrappers.skip import skip_nonfinite as skip_nonfinite

__version__ = "0.1.0"
