"""Averages and learning-rate-free methods against what their authors' code did on the same walk.

`tests/recordings/` has what was recorded, and the scripts that recorded it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from recordings.walk import KEPT, gradients, parameters, recorded

import gdfx


class Row(NamedTuple):
    """A recording, and the optimizer that must do the same."""

    file: str
    label: str
    tx: Any
    tolerance: float = 1e-12  # of the largest number

    def __str__(self) -> str:
        return f"{self.file}-{self.label}"


WARM = {"warmup_steps": 7}
sgd, adamw, radam = gdfx.schedule_free_sgd, gdfx.schedule_free_adamw, gdfx.schedule_free_radam
momentum, plain = gdfx.scale_by_momentum(0.5), optax.identity()
DECAYED = gdfx.descend(momentum, 0.1)

AVERAGES = [
    Row("schedule_free", "sgd", sgd(0.5)),
    Row("schedule_free", "sgd warm", sgd(0.5, **WARM)),
    Row("schedule_free", "sgd decays", sgd(0.5, 0.95, weight_decay=0.1, **WARM)),
    Row("schedule_free", "sgd weighs", sgd(0.5, r=1.5, weight_lr_power=1.0, **WARM)),
    Row("schedule_free", "adamw", adamw()),
    Row("schedule_free", "adamw warm", adamw(0.02, **WARM)),
    Row("schedule_free", "adamw decays", adamw(0.02, 0.95, 0.9, 1e-3, 0.1, **WARM)),
    Row("schedule_free", "adamw weighs", adamw(0.02, r=2.0, weight_lr_power=0.0, **WARM)),
    Row("schedule_free", "radam", radam(0.02), 1e-11),  # the authors' ρ is a difference
    Row(
        "schedule_free",
        "radam sgd",
        radam(0.02, 0.8, 0.95, weight_decay=0.1, silent_sgd_phase=False),
    ),
    Row("schedule_free", "wrapped", gdfx.schedule_free(gdfx.momentum(0.1, 0.5), 0.1, 0.8)),
    Row(
        "schedule_free",
        "wrapped at y",
        gdfx.schedule_free(gdfx.descend(plain, 0.1, weight_decay=0.1), 0.1, 0.8, r=1.0),
    ),
    Row(
        "schedule_free",
        "wrapped at z",
        gdfx.schedule_free(
            optax.chain(optax.add_decayed_weights(0.1), gdfx.momentum(0.1, 0.5)), 0.1, 0.8, at="z"
        ),
    ),
    Row("schedule_free", "polynomial", gdfx.averaged(gdfx.sgd(0.1), gamma=8.0)),
]


def walked(tx, read, given=None):
    """What is read of the state and the parameters after each step."""
    params = {name: jnp.asarray(p) for name, p in parameters().items()}
    given = {name: jnp.asarray(g) for name, g in (given or gradients()).items()}

    @jax.jit
    def run(params, given):
        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), read(state, params)

        return lax.scan(step, (params, tx.init(params)), given)[1]

    return {name: np.asarray(x) for name, x in run(params, given).items()}


def agree(found, expected, tolerance):
    for name, theirs in expected.items():
        ours = found[name][np.subtract(KEPT, 1)]
        off = np.max(abs(ours - theirs)) / np.max(abs(theirs))
        assert off < tolerance, f"{name}: off by {off:.1e} of the largest number"


@pytest.mark.parametrize("row", AVERAGES, ids=str)
def test_parameters_and_averages_are_the_reference_s(row, x64):
    def read(state, params):
        return params | {f"x {k}": x for k, x in gdfx.eval_params(state, params).items()}

    agree(walked(row.tx, read), recorded(row.file, row.label), row.tolerance)
