"""Print the tables of docs/numerics.md: the same questions, asked of optax and of gdfx.

Run it with `python docs/scripts/numerics.py`.
"""
# ruff: noqa: D103

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdfx

BF16, F16, F32 = jnp.bfloat16, jnp.float16, jnp.float32


def run(tx: Any, gradients: Any, params: Any) -> tuple[Any, Any, Any]:
    """Parameters, state and all updates of a run along given gradients."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), updates

    (params, state), updates = jax.lax.scan(step, (params, tx.init(params)), gradients)
    return params, state, updates


def adam_update(lib: ModuleType, dtype: Any, *gradients: float, **arguments: float) -> str:
    g = jnp.asarray(gradients, dtype)
    return number(run(lib.adam(1e-3, **arguments), g, g[0])[2][-1])


def adam_after_outlier(lib: ModuleType, steps: int) -> str:
    g = jnp.ones(steps).at[0].set(1e20)
    return number(run(lib.adam(1e-3), g, g[1])[2][-1])


def adam_nu(lib: ModuleType) -> str:
    g = jnp.ones(5000, BF16)
    return number(optax.tree.get(run(lib.adam(1e-3), g, g[0])[1], "nu"))


def parameter(tx: Any) -> str:
    """W = 1 in bfloat16 after 1,000 steps along g = 1."""
    g = jnp.ones(1000, BF16)
    return f"{float(run(tx, g, g[0])[0]) + 0.0:.2f}"


def adam_injected(lib: ModuleType, **arguments: Any) -> str:
    one = jnp.ones((), BF16)
    tx = optax.inject_hyperparams(lib.adam, **arguments)(1e-3)
    return number(tx.update(one, tx.init(one), one)[0])


def bias_correction_error(lib: ModuleType) -> str:
    """Of 1 − b2^t: the first update along g = 1 is its root over the root of v."""
    tx, one = lib.adam(1.0, b2=0.99999, eps=0.0), jnp.ones(())
    u, state = tx.update(one, tx.init(one), one)
    seen = np.float64(optax.tree.get(state, "nu")) * np.float64(u) ** 2
    error = abs(seen / 1e-5 - 1)
    return "below 1e-6" if error < 1e-6 else f"{error:.0e}"


def derivative_by_gradient(lib: ModuleType) -> str:
    tx = lib.adam(1e-3)
    return number(jax.grad(lambda g: tx.update(g, tx.init(g), g)[0])(jnp.zeros(())))


def derivative_by_b2(lib: ModuleType) -> str:
    g = jnp.asarray([[0.0, 1.0], [0.0, 2.0]])
    return number(jax.grad(lambda b2: run(lib.adam(1e-3, b2=b2), g, g[0])[2].sum())(0.999))


def trace_dtypes(lib: ModuleType) -> str:
    tx, p = lib.momentum(0.1) if lib is gdfx else lib.sgd(0.1, 0.9), jnp.ones((), BF16)
    state = tx.init(p)
    states = state, tx.update(jnp.ones((), F32), state, p)[1]
    return " → ".join(str(optax.tree.get(s, "trace").dtype) for s in states)


def after_broken(lib: ModuleType, method: str, broken: float) -> str:
    g = jnp.ones(3).at[0].set(broken)
    return ", ".join(number(u) for u in run(getattr(lib, method)(1e-3), g, g[1])[2])


def number(x: Any) -> str:
    return f"{float(x) + 0.0:.3g}".replace("nan", "NaN").replace("inf", "Inf")


def attempt(call: Any, lib: ModuleType) -> str:
    """What a call returns, or the sentence of its error."""
    try:
        return call(lib)
    except (TypeError, ValueError) as error:
        return f"`{type(error).__name__}: {error}`"


def first(tx: Any, g: Any, p: Any) -> Any:
    """The first update of a parameter "w"."""
    params = {"w": jnp.asarray(p)}
    return tx.update({"w": jnp.asarray(g)}, tx.init(params), params)[0]["w"]


LOW_PRECISION = {
    "Adam, float16, g = 0: update": lambda lib: adam_update(lib, F16, 0.0),
    "Adam, float16, g = 1e-3: update": lambda lib: adam_update(lib, F16, 1e-3),
    "Adam, float16, g = 1e3: update": lambda lib: adam_update(lib, F16, 1e3),
    "Adam, bfloat16, g = 1: ν after 5,000 steps (exact: 0.993)": adam_nu,
    "`inject_hyperparams(adam)`, bfloat16, g = 1: update": adam_injected,
    "the same with `hyperparam_dtype=jnp.float32`": lambda lib: adam_injected(
        lib, hyperparam_dtype=jnp.float32
    ),
    "momentum, bfloat16 parameters, float32 gradients: state's dtype": trace_dtypes,
}
WEIGHTS = {
    "`adam(1e-3)`": lambda lib: parameter(lib.adam(1e-3)),
    "`gdfx.compensated(adam(1e-3))`": lambda lib: parameter(gdfx.compensated(lib.adam(1e-3))),
    "`gdfx.stochastic_rounding(adam(1e-3), key)`": lambda lib: parameter(
        gdfx.stochastic_rounding(lib.adam(1e-3), jax.random.key(0))
    ),
}
SINGLE_PRECISION = {
    "Adam, g = 0, ε = 0: update": lambda lib: adam_update(lib, F32, 0.0, eps=0.0),
    "Adam, g = 1e20: update": lambda lib: adam_update(lib, F32, 1e20),
    "Adam, 1,000th step after one g = 1e20": lambda lib: adam_after_outlier(lib, 1_000),
    "Adam, 70,000th step after one g = 1e20": lambda lib: adam_after_outlier(lib, 70_000),
    "error of 1 − β₂ᵗ, β₂ = 0.99999, t = 1": bias_correction_error,
    "∂update/∂g of Adam at g = 0 (exact: -η/ε = -1e5)": derivative_by_gradient,
    "∂update/∂β₂ of Adam where one g is 0": derivative_by_b2,
    "Adam, g = NaN, 1, 1: updates": lambda lib: after_broken(lib, "adam", float("nan")),
    "AdaGrad, g = NaN, 1, 1: updates": lambda lib: after_broken(lib, "adagrad", float("nan")),
    "AdaGrad, g = Inf, 1, 1: updates": lambda lib: after_broken(lib, "adagrad", float("inf")),
}
BAD_INPUT = {
    "`adam(None)`": lambda lib: number(first(lib.adam(None), 1.0, 1.0)),
    "`adam(-1e-3)`": lambda lib: number(first(lib.adam(-1e-3), 1.0, 1.0)),
    "`adam(1e-3, b1=1.5)`": lambda lib: number(first(lib.adam(1e-3, b1=1.5), 1.0, 1.0)),
    "`adam(1e-3, b2=1.0)`": lambda lib: number(first(lib.adam(1e-3, b2=1.0), 1.0, 1.0)),
    "`adam(0.9)`, integer parameter": lambda lib: number(first(lib.adam(0.9), 1.0, 5)),
    "`sgd(0.1)`, gradient (4, 2) for parameter (2,)": lambda lib: (
        "shape " + str(first(lib.sgd(0.1), [[1.0, 1.0]] * 4, [1.0, 1.0]).shape)
    ),
}


def table(title: str, questions: dict[str, Any]) -> None:
    print(f"| {title} | optax {optax.__version__} | gdfx |\n| --- | --- | --- |")
    for question, call in questions.items():
        print(f"| {question} | {attempt(call, optax)} | {attempt(call, gdfx)} |")
    print()


if __name__ == "__main__":
    table("float16 and bfloat16, rate 1e-3", LOW_PRECISION)
    table("a bfloat16 parameter of 1 after 1,000 steps along g = 1", WEIGHTS)
    table("float32, rate 1e-3", SINGLE_PRECISION)
    table("bad input: the update for g = 1", BAD_INPUT)
