"""Laws on how an optimizer is run: compiled, wrapped, stored, spread over devices."""

import copy
import functools
import importlib
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gdfx.core.inner import extended
from gdfx.core.words import sentence
from gdfx.testing.compare import compilations, same, same_kinds, shape_of
from gdfx.testing.draw import Run, example, runs
from gdfx.testing.law import BrokenLawError, law
from gdfx.testing.needs import declares, installed, schedulable, takes
from gdfx.testing.subject import Subject, compiled, replay

contract = functools.partial(law, "plumbing", "contract")
courtesy = functools.partial(law, "plumbing", "courtesy")

NESTED = runs(tree="nested", steps=2)
EXAMPLE = (example(),)


# How it is compiled.


@contract(NESTED)
def jit_equals_eager(subject: Subject, run: Run) -> None:
    """The compiled update computes what the plain one does.

    Otherwise what one debugs is not what one trains with.
    """
    found, expected = subject.replay(run), replay(subject.tx, run)
    same(found.updates, expected.updates, "the compiled update | the plain one",
         rtol=subject.rounded, beside=run.params)  # fmt: skip


def _traced_once(subject: Subject, run: Run, what: str) -> None:
    traces = 0

    def counted(*args: Any) -> Any:
        nonlocal traces
        traces += 1
        return subject.tx.update(*args)

    replay(subject.tx._replace(update=jax.jit(counted)), run)
    if traces > 1:
        raise BrokenLawError(
            f"{len(run.gradients)} steps with {what} for parameters were compiled {traces} times"
        )


@contract(EXAMPLE)
def no_retrace(subject: Subject, run: Run) -> None:
    """The second and third call of a compiled step compile nothing new.

    Otherwise the first steps, or all of them, take seconds where they should take microseconds.
    """
    _traced_once(subject, run, "arrays")


@courtesy((Run(1.0, (0.5, 0.25, 0.125)),))
def no_retrace_for_weak_scalars(subject: Subject, run: Run) -> None:
    """Where a parameter began as a Python number, later calls compile nothing new, either.

    Its dtype is weak; a state that takes it over and makes it strong is another state.
    """
    _traced_once(subject, run, "a weak scalar")


@contract(EXAMPLE)
def scan_and_cond(subject: Subject, run: Run) -> None:
    """A whole run in `jax.lax.scan`, with steps left out by `jax.lax.cond`, is the same run.

    Compiled training loops are written so.
    """
    tx = subject.tx

    def step(state: Any, x: Any) -> Any:
        keep, g = x

        def move(state: Any) -> Any:
            return tx.update(g, state, run.params)

        def rest(state: Any) -> Any:
            return jax.tree.map(jnp.zeros_like, g), state

        updates, state = lax.cond(keep, move, rest, state)
        return state, updates

    g = jax.tree.map(lambda *x: np.stack([y for x_ in x for y in (x_, x_)]), *run.gradients)
    keep = jnp.arange(2 * len(run.gradients)) % 2 == 1
    _, updates = lax.scan(step, tx.init(run.params), (keep, g))
    taken = [_at(updates, 2 * i + 1) for i in range(len(run.gradients))]
    same(
        taken, subject.replay(run).updates, "the update in a scan | in a loop", rtol=subject.rounded
    )


@courtesy(EXAMPLE)
def export(subject: Subject, run: Run) -> None:
    """The update lowers for CPU, CUDA, ROCm and TPU.

    Otherwise a run that works here cannot be moved to the machine that it is for.
    """
    shapes = jax.tree.map(shape_of, (run.gradients[0], subject.tx.init(run.params), run.params))
    jax.export.export(jax.jit(subject.tx.update), platforms=("cpu", "cuda", "rocm", "tpu"))(*shapes)


# Which trees it takes.


ABSENT: dict[str, Any] = {"None": None, "MaskedNode": optax.MaskedNode(), "()": (), "{}": {}}


@contract((tuple(ABSENT),))
def absent_nodes(subject: Subject, absent: tuple[str, ...]) -> None:
    """Nodes without leaves (None, optax.MaskedNode, empty containers) pass through.

    Frozen parts of a model, and what a mask leaves out, are such nodes.
    """
    try:
        _check_absent(subject, absent)
    except Exception:
        for one in absent:  # which of them it is
            _check_absent(subject, (one,))
        raise


def _check_absent(subject: Subject, absent: tuple[str, ...]) -> None:
    x, nodes = jnp.ones(3), [ABSENT[name] for name in absent]
    alone = subject.replay(Run(x, (x,)))
    found = subject.replay(Run({"a": x, "b": nodes}, ({"a": x, "b": nodes},)))
    names = f"the update beside {', '.join(absent)} | alone"
    same(found.updates, [{"a": alone.updates[0], "b": nodes}], names, rtol=subject.rounded)


BESIDE: dict[str, Any] = {
    "an array": np.ones(2, np.float32),
    "an array of integers": np.arange(2, dtype=np.int32),
    "a function": jax.nn.relu,
}


@courtesy(tuple(BESIDE))
def none_beside_a_parameter(subject: Subject, what: str) -> None:
    """A state made for None, and a gradient of None, stand beside whatever the parameters hold.

    A model whose parts are not all trained is filtered so: equinox's holds functions too.
    """
    x = jnp.ones(3)
    expected = {"a": subject.replay(Run(x, (x,))).updates[0], "b": None}
    tx, none = subject.tx, dict[str, Any](a=x, b=None)
    updates, state = tx.update(none, tx.init(none), {"a": x, "b": BESIDE[what]})
    names = f"with None for {what}, the update | without it"
    same([updates], [expected], names, rtol=subject.rounded)
    same_kinds(state, tx.init(none), f"with None for {what}, the new state | the old")


@courtesy((example(tree="vector", steps=2),))
def none_gradient(subject: Subject, run: Run) -> None:
    """A gradient of None leaves its parameter out of the step: the update there is None.

    The others are updated as alone, and the state keeps its structure, as a scan asks.
    """
    beside = Run(*jax.tree.map(lambda x: {"a": x, "b": x}, (run.params, run.gradients)))
    gradients = tuple(g | {"b": None} for g in beside.gradients)
    found = replay(subject.tx, Run(beside.params, gradients))
    expected = [{"a": u, "b": None} for u in subject.replay(run).updates]
    same(
        found.updates,
        expected,
        "the update beside a gradient of None | alone",
        rtol=subject.rounded,
    )
    before = subject.tx.init(jax.tree.map(jnp.asarray, beside.params))
    same_kinds(found.state, before, "after a gradient of None, the state | before")


@contract(EXAMPLE)
def extra_args(subject: Subject, run: Run) -> None:
    """Extra keyword arguments that are meant for others are ignored.

    In a chain each link is given all of them.
    """
    tx = optax.with_extra_args_support(subject.tx)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p, somebody_elses=1.0))
    found = replay(tx._replace(update=update), run)
    same(found.updates, subject.replay(run).updates, "with an extra argument | without",
         rtol=subject.rounded)  # fmt: skip


@contract(EXAMPLE, declares("needs_params", False))
def params_optional(subject: Subject, run: Run) -> None:
    """Without the parameters the update is the same, where they are not declared to be needed.

    It is called so where the parameters are elsewhere.
    """
    found = subject.replay(Run(run.params, run.gradients[:1]))
    updates, _ = subject.compiled.update(run.gradients[0], subject.tx.init(run.params))
    same([updates], found.updates, "without parameters | with them", rtol=subject.rounded)


@contract((Run({"w": np.ones((5, 7)), "b": np.ones(11)}, ()),))  # of shapes that nothing else has
def tree_map_params(subject: Subject, run: Run) -> None:
    """`optax.tree_map_params` finds the state's parts that are shaped like the parameters.

    Sharding and casting of a state go through it.
    """
    tx, params = subject.tx, jax.tree.map(jnp.asarray, run.params)
    state = tx.init(params)
    same(optax.tree_map_params(tx, lambda x: x, state), state, "the mapped state | the state")
    shaped = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim}
    marked = optax.tree_map_params(tx, lambda _: True, state, transform_non_params=lambda _: False)
    for path, (leaf, found) in jax.tree.leaves_with_path(
        jax.tree.map(lambda leaf, found: _Pair((leaf, found)), state, marked),
    ):
        if np.shape(leaf) in shaped and not found:
            raise BrokenLawError(
                f"the state's {jax.tree_util.keystr(path)} has a parameter's shape "
                f"{leaf.shape}, but is not found"
            )


class _Pair(tuple[Any, ...]):
    """Two things that are one leaf."""


# What it leaves alone.


@contract(EXAMPLE)
def inputs_untouched(subject: Subject, run: Run) -> None:
    """``update`` writes into none of the arrays that it is given.

    NumPy arrays can be written to, and the caller still needs them.
    """
    given = copy.deepcopy((run.gradients[0], run.params))
    before = copy.deepcopy(given)
    g, params = given
    subject.tx.update(g, subject.tx.init(params), params)
    same(given, before, "an argument after the call | before it")


@contract((example(steps=2),))
def interleaved_runs(subject: Subject, run: Run) -> None:
    """Two runs in turns, with one optimizer, are each what they are alone.

    What one run leaves in Python variables disturbs the other, and is baked into compiled code.
    """
    run = run.map(jnp.asarray)
    other = run.map_gradients(lambda g: 3 - g)
    tx, alone = subject.make(), replay(subject.make(), run)
    state, other_state = tx.init(run.params), tx.init(run.params)
    updates: list[Any] = []
    for g, h in zip(run.gradients, other.gradients, strict=True):
        u, state = tx.update(g, state, run.params)
        _, other_state = tx.update(h, other_state, run.params)
        updates.append(u)
    same(updates, alone.updates, "the update beside another run | alone")


# Which hyperparameters it takes.


@courtesy(EXAMPLE, takes())
def vmap_hyperparameters(subject: Subject, run: Run) -> None:
    """`jax.vmap` over its numbers runs it once for each of them.

    A sweep of learning rates is then one compiled run.
    """

    def first_update(numbers: dict[str, Any], g: Any, params: Any) -> Any:
        tx = subject.make(**numbers)
        return tx.update(g, tx.init(params), params)[0]

    twice = {name: jnp.array([x, x]) for name, x in subject.numbers.items()}
    several = jax.jit(jax.vmap(first_update, in_axes=(0, None, None)))
    found = several(twice, run.gradients[0], run.params)
    expected = subject.replay(run).updates[0]
    for i in range(2):
        # An array's 1 − b is formed in float32, a Python number's in float64.
        same([_at(found, i)], [expected], "under vmap, the update | alone", rtol=1e-4)


@courtesy(EXAMPLE, takes("learning_rate"), schedulable)
def schedule_equals_constant(subject: Subject, run: Run) -> None:
    """A schedule that returns a constant gives the updates of that constant.

    Otherwise a schedule changes the method and not only its rate.
    """
    rate = subject.numbers.get("learning_rate")
    if rate is None:  # already a schedule, or an array
        return
    tx = subject.make(learning_rate=lambda count: jnp.full_like(count, rate, jnp.float32))
    found = replay(compiled(tx), run)
    same(found.updates, subject.replay(run).updates, "with a schedule | with its constant",
         rtol=subject.rounded)  # fmt: skip


@contract(EXAMPLE)
def vmap_params(subject: Subject, run: Run) -> None:
    """`jax.vmap` over parameters and gradients trains several models as each alone.

    Ensembles, and several seeds in one run, are trained so.
    """
    tx, other = subject.tx, run.map(lambda x: x + 1)

    def train(params: Any, gradients: Any) -> Any:
        return replay(tx, Run(params, gradients)).updates

    pairs = [(r.params, r.gradients) for r in (run, other)]
    found = jax.jit(jax.vmap(train))(*jax.tree.map(lambda *x: np.stack(x), *pairs))
    for i, alone in enumerate((run, other)):
        same(_at(found, i), subject.replay(alone).updates, "under vmap, the update | alone",
             rtol=subject.rounded)  # fmt: skip


@courtesy(("with other hyperparameters", "with optax.inject_hyperparams"), takes())
def eager_compiles_once(subject: Subject, how: str) -> None:
    """Outside `jax.jit`, other hyperparameters on the same shapes compile nothing new.

    Each operation is compiled alone there; a sweep in a notebook otherwise waits at every value.
    With ``inject_hyperparams``, which makes the optimizer anew at every step, it waits at each.
    """
    run = example()

    def steps(**changes: float) -> None:
        if how == "with other hyperparameters":
            replay(subject.make(**changes), run)
        else:
            replay(subject.injected(changes), run)

    steps()
    found = compilations(lambda: steps(**{name: 0.9 * x for name, x in subject.numbers.items()}))
    if found:
        raise BrokenLawError(f"outside jax.jit, a second run {how} compiles {found} programs anew")


@courtesy((example(tree="vector", steps=1),), installed("cloudpickle"))
def cloudpickle(subject: Subject, run: Run) -> None:
    """The optimizer passes through cloudpickle, and computes the same afterwards.

    Ray, Dask and Spark send it so to other machines.
    """
    pickler = importlib.import_module("cloudpickle")
    loaded = pickle.loads(pickler.dumps(subject.tx))
    found = replay(compiled(loaded), run)
    same(found.updates, subject.replay(run).updates, "the update after loading | before",
         rtol=subject.rounded)  # fmt: skip


# What it refuses.

_WRONG: dict[str, tuple[Any, ...]] = {
    "learning_rate": (-1.0, float("nan"), None),
    "b1": (1.0, 1.5, -0.5),
    "b2": (1.0, 1.5, -0.5),
    "decay": (1.5, -0.5),
    "momentum": (-0.5,),
    "eps": (-1.0,),
}


@courtesy([(name, x) for name, xs in _WRONG.items() for x in xs], takes(*_WRONG))
def bad_arguments_refused(subject: Subject, case: tuple[str, Any]) -> None:
    """Hyperparameters that make no sense are refused with a ValueError or TypeError.

    A typing error then costs a second and not a night.
    """
    name, x = case
    if not subject.takes_number(name) or x is subject.parameters[name].default:
        return
    try:
        subject.make(**{name: x})
    except (ValueError, TypeError):
        return
    raise BrokenLawError(f"{name}={x} is accepted")


class _Stranger(NamedTuple):
    """A state of no known optimizer."""

    stranger: Any


_BAD_TREES: dict[str, Callable[[Any], tuple[Any, Any, Any]]] = {
    "integer parameters": lambda tx: (
        jnp.ones(2, jnp.int32),
        tx.init(jnp.ones(2, jnp.int32)),
        jnp.ones(2, jnp.int32),
    ),
    "a gradient of shape (4, 2) for a parameter of (2,)": lambda tx: (
        jnp.ones((4, 2)),
        tx.init(jnp.ones(2)),
        jnp.ones(2),
    ),
    "a gradient tree of another structure": lambda tx: (
        {"a": jnp.ones(2)},
        tx.init({"b": jnp.ones(2)}),
        {"b": jnp.ones(2)},
    ),
    "a state of another optimizer": lambda tx: (
        jnp.ones(2),
        _Stranger(jnp.ones(2)),
        jnp.ones(2),
    ),
}


@courtesy(tuple(_BAD_TREES))
def bad_trees_refused(subject: Subject, what: str) -> None:
    """Trees that do not belong together are refused with a ValueError or TypeError.

    Broadcasting, truncating or an error from deep inside hide the mistake.
    """
    try:
        subject.tx.update(*_BAD_TREES[what](subject.tx))
    except (ValueError, TypeError):
        return
    except Exception as error:
        raise BrokenLawError(f"{what}: it raises {sentence(error)}") from error
    raise BrokenLawError(f"{what}: accepted without a word")


@courtesy((None,), declares("needs_value"))
def missing_loss_refused(subject: Subject, case: None) -> None:
    """Where the loss is needed and is None, the step is refused with a ValueError or TypeError.

    Whoever forgot it would train with another method.
    """
    x = jnp.ones(2)
    try:
        extended(subject.tx).update(x, subject.tx.init(x), x, value=case)
    except (ValueError, TypeError):
        return
    raise BrokenLawError("a loss of None is accepted without a word")


def _at(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)
