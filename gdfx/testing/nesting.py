"""Laws on optax's wrappers: inside one of them, it is the optimizer that it is alone."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdfx.testing.compare import same
from gdfx.testing.draw import Run, example
from gdfx.testing.law import Law, law
from gdfx.testing.needs import deterministic, takes
from gdfx.testing.subject import Subject, compiled, replay

contract = functools.partial(law, "nesting", "contract")
courtesy = functools.partial(law, "nesting", "courtesy")

EXAMPLE = (example(),)


def _inside(
    wrapper: str, wrap: Callable[[Any], Any], why: str, *, name: str = "", every: int = 1
) -> Law:
    """The law that inside one of optax's wrappers the updates are the same.

    A wrapper that passes on every second gradient alone is given each twice.
    """

    def body(subject: Subject, run: Run) -> None:
        repeated = Run(run.params, tuple(g for g in run.gradients for _ in range(every)))
        found = replay(compiled(wrap(subject.tx)), repeated).updates[every - 1 :: every]
        same(
            found,
            subject.replay(run).updates,
            "the wrapped update | the bare one",
            rtol=subject.rounded,
        )

    name = f"inside-{name or wrapper.replace('_', '-')}"
    claim = f"Inside ``optax.{wrapper}`` the updates are the same."
    return Law(name, "nesting", "contract", claim, why, EXAMPLE, (), body)


def _always(step: Any, **extra: Any) -> Any:
    del extra
    return step >= 0


class _MultiSteps(NamedTuple):
    init: Any
    update: Any


def _multi_steps(tx: Any) -> Any:
    wrapped = optax.MultiSteps(tx, 2)
    return _MultiSteps(wrapped.init, wrapped.update)


inside_chain = _inside(
    "chain",
    lambda tx: optax.chain(optax.clip_by_global_norm(1e9), tx),
    "Clipping needs it.",
)
inside_masked = _inside(
    "masked",
    lambda tx: optax.masked(tx, lambda p: jax.tree.map(lambda _: True, p)),
    "Biases, norms and frozen layers are masked out.",
)
inside_partition = _inside(
    "partition",
    lambda tx: optax.partition({"all": tx}, lambda p: jax.tree.map(lambda _: "all", p)),
    "Parts of a model are given optimizers of their own.",
)
inside_multi_steps = _inside(
    "MultiSteps",
    _multi_steps,
    "Gradients of several small batches are gathered.",
    name="multi-steps",
    every=2,
)
inside_conditionally_transform = _inside(
    "conditionally_transform",
    lambda tx: optax.conditionally_transform(tx, _always),
    "It passes the state through a cond, which refuses any change of types.",
)
inside_apply_if_finite = _inside(
    "apply_if_finite",
    lambda tx: optax.apply_if_finite(tx, 2),
    "It runs the update under a cond, which refuses any change of types.",
)


@contract(EXAMPLE)
def inside_lookahead(subject: Subject, run: Run) -> None:
    """With whole slow steps, ``optax.lookahead`` walks where the optimizer alone does.

    It does arithmetic on every leaf of the state.
    """
    tx = optax.lookahead(subject.tx, sync_period=2, slow_step_size=1.0)
    pair: Any = optax.LookaheadParams.init_synced(jax.tree.map(jnp.asarray, run.params))
    update = jax.jit(tx.update)
    state, params, plain = tx.init(pair), run.params, subject.tx.init(run.params)
    for g in run.gradients:
        updates, state = update(g, state, pair)
        pair = optax.apply_updates(pair, updates)
        updates, plain = subject.compiled.update(g, plain, params)
        params = optax.apply_updates(params, updates)
    same(pair.fast, params, "the parameter under lookahead | alone", rtol=subject.rounded)


@contract(EXAMPLE, takes())
def inside_inject_hyperparams(subject: Subject, run: Run) -> None:
    """With ``optax.inject_hyperparams`` the updates are the same.

    It is how learning rates are read, logged and changed in a running state.
    """
    found = replay(compiled(subject.injected()), run).updates
    same(found, subject.replay(run).updates, "with injected numbers | with constants", rtol=1e-4)


@courtesy((example(dtype="bfloat16"),), takes(), deterministic)
def inject_hyperparams_in_bfloat16(subject: Subject, run: Run) -> None:
    """On bfloat16 parameters too, or it is refused with a word on ``hyperparam_dtype``.

    It hands over its numbers in the parameters' dtype, where 0.999 is 1.
    """
    try:
        found = replay(compiled(subject.injected()), run).updates
    except (ValueError, TypeError) as error:
        if "hyperparam_dtype" not in str(error):
            raise
        tx = subject.injected(hyperparam_dtype=jnp.float32)
        found = replay(compiled(tx), run).updates
    names = "in bfloat16 with injected numbers | with constants"
    same(found, subject.replay(run).updates, names, rtol=2**-5)
