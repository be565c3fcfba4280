"""Laws on the weights to evaluate, where a state holds an average of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gdfx.core.averages import averages, eval_params
from gdfx.testing.compare import same, same_kinds
from gdfx.testing.draw import REAL, Run
from gdfx.testing.law import law
from gdfx.testing.needs import declares, deterministic
from gdfx.testing.subject import Subject

contract = functools.partial(law, "numbers", "contract")
courtesy = functools.partial(law, "numbers", "courtesy")


def an_average(subject: Subject) -> str | None:
    """The law needs an average in the state."""
    state = jax.eval_shape(subject.tx.init, jax.ShapeDtypeStruct((2,), jnp.float32))
    return None if averages(state) else "nothing in its state averages"


@contract(
    [
        Run(np.array([1, -0.37, 2.6], jnp.dtype(dtype)), (np.zeros(3, jnp.dtype(dtype)),) * 3)
        for dtype in REAL
    ],
    an_average,
    declares("translates"),
)
def average_of_what_stays(subject: Subject, run: Run) -> None:
    """Parameters that stand still are what is evaluated, in their dtype, compiled or not.

    An average that starts elsewhere, at 0 say, and is not corrected for it, is no average of them.
    """
    state, params = subject.replay(run).state, jnp.asarray(run.params)
    found = eval_params(state, params)
    same_kinds(found, params, "what is evaluated | the parameters")
    same([found], [params], "what is evaluated | the parameters", rtol=subject.rounded)
    same([jax.jit(eval_params)(state, params)], [found], "compiled, it | plain", rtol=1e-6)


@courtesy((None,), an_average, deterministic)
def average_in_bfloat16(subject: Subject, case: None) -> None:
    """Of 600 parameters in bfloat16, what is evaluated is that of the same numbers in float32.

    The next one changes a mean of 600 by less than bfloat16 can hold: it stands still.
    """
    del case
    steps = np.arange(600)
    walk = np.stack([1 + (steps >= 300) / 4, 1 + (steps % 2) / 64], axis=1)  # each is a bfloat16

    def evaluated(dtype: str) -> Any:
        params = jnp.asarray(walk, dtype)
        g = jnp.full(2, 2.0**-7, dtype)

        def step(state: Any, p: Any) -> Any:
            return subject.tx.update(g, state, p)[1], None

        state, _ = lax.scan(step, subject.tx.init(params[0]), params)
        return eval_params(state, params[-1])

    names = "of bfloat16 parameters, what is evaluated | of float32 ones"
    same([evaluated("bfloat16")], [evaluated("float32")], names, rtol=2.0**-7)
