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
from recordings.replay import recorded
from recordings.walk import KEPT, gradients, parameters, valley

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


def walked(tx, read, given, gradient=lambda given, params: given):
    """What is read of the state and the parameters after each step."""
    params = {name: jnp.asarray(p) for name, p in parameters().items()}
    given = jax.tree.map(jnp.asarray, given)

    @jax.jit
    def run(params, given):
        def step(carry, now):
            params, state = carry
            updates, state = tx.update(gradient(now, params), state, params)
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

    agree(walked(row.tx, read, gradients()), recorded(row.file, row.label), row.tolerance)


def warm(peak):
    """As the recording script's: up to the peak in 30 steps."""
    return lambda count: peak * jnp.minimum(1.0, (count + 1.0) / 30)


def coupled(tx):
    return optax.chain(optax.add_decayed_weights(0.1), tx)


MANY = {"b1": 0.8, "b2": 0.99, "eps": 1e-3, "weight_decay": 0.01}
prodigy, dsgd, dadamw = gdfx.prodigy, gdfx.dadapt_sgd, gdfx.dadapt_adamw
OTHERS = {"weight_decay": 0.1, "reps_rel": 1e-3, "eps": 1.0}

RATE_FREE = {
    "prodigy": prodigy(),
    "prodigy late": prodigy(),
    "prodigy corrects": prodigy(bias_correction=True),
    "prodigy decays": prodigy(**MANY),
    "prodigy couples": coupled(prodigy()),
    "prodigy grows": prodigy(growth_rate=1.1),
    "prodigy slices": prodigy(slice_p=3),
    "prodigy guards": prodigy(warm(1.0), safeguard_warmup=True),
    "prodigy warm": prodigy(warm(0.5)),
    "prodigy others": prodigy(b1=0.5, b2=0.9, b3=0.8, d0=1e-4, d_coef=0.5),
    "dadapt_sgd": dsgd(),
    "dadapt_sgd momentum": dsgd(0.5, 0.9),
    "dadapt_sgd decays": dsgd(weight_decay=0.1, d0=1e-3),
    "dadapt_sgd grows": dsgd(warm(1.0), growth_rate=1.05),
    "dadapt_adamw": dadamw(),
    "dadapt_adamw late": dadamw(),
    "dadapt_adamw corrects": dadamw(bias_correction=True),
    "dadapt_adamw decays": dadamw(**MANY),
    "dadapt_adamw couples": coupled(dadamw()),
    "dadapt_adamw grows": dadamw(warm(1.0), growth_rate=1.05, d0=1e-4),
    "dog": gdfx.dog(),
    "dog decays": gdfx.dog(0.5, **OTHERS),
    "dog late": gdfx.dog(),
    "dog begins": gdfx.dog(init_eta=0.01),
    "ldog": gdfx.ldog(),
    "ldog decays": gdfx.ldog(0.5, **OTHERS),
    "ldog begins": gdfx.ldog(init_eta=0.01),
    "mechanic": gdfx.mechanic(gdfx.sgd(1.0)),
    "mechanic momentum": gdfx.mechanic(gdfx.momentum(0.1)),
    "mechanic others": gdfx.mechanic(gdfx.sgd(1.0), 0.1, 1e-3, 1e-4, num_betas=2),
}


def estimate(state, params):
    """What was found, by its name in the state, wherever that is."""
    found = optax.tree_utils.tree_get(state, "d")
    if found is None:
        found = state.s
    d = jnp.stack([found["w"], found["b"]]) if isinstance(found, dict) else found
    return params | {"d": d}


@pytest.mark.parametrize("label", RATE_FREE)
def test_parameters_and_estimates_are_the_reference_s(label, x64):
    leaves = valley(3 if label.endswith("late") else 0)

    def gradient(now, params):
        return {
            name: on * (leaves[name][0] * (params[name] - leaves[name][1]) + noise)
            for name, (noise, on) in now.items()
        }

    found = walked(RATE_FREE[label], estimate, {k: x[2:] for k, x in leaves.items()}, gradient)
    agree(found, recorded("rate_free", label), 1e-11)  # they steer by sums of other roundings
