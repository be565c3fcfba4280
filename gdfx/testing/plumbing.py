"""Laws on how an optimizer is run: compiled, wrapped, stored, spread over devices."""

import copy
import functools
import itertools
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gdfx.testing.draw import DTYPES, Run, example, runs
from gdfx.testing.law import (
    BrokenLawError,
    all_finite,
    declares,
    law,
    same,
    sentence,
    several_devices,
    takes,
)
from gdfx.testing.subject import Subject, compiled, replay
from gdfx.testing.versions import set_mesh

# Another grouping of the same operations may round each of them once more.
ROUNDED = 1e-5

NESTED = runs(tree="nested", steps=2)
EXAMPLE = (example(),)


# How it is compiled.


@law(NESTED)
def jit_equals_eager(subject: Subject, run: Run) -> None:
    """The compiled update computes what the plain one does.

    Otherwise what one debugs is not what one trains with.
    """
    found, expected = subject.replay(run), replay(subject.tx, run)
    same(found.updates, expected.updates, "the compiled update | the plain one", rtol=ROUNDED)


@law((example(), Run(1.0, (0.5, 0.25, 0.125))))
def no_retrace(subject: Subject, run: Run) -> None:
    """The second and third call of a compiled step compile nothing new.

    Otherwise the first steps, or all of them, take seconds where they should take microseconds.
    """
    traces = 0

    def counted(*args: Any) -> Any:
        nonlocal traces
        traces += 1
        return subject.tx.update(*args)

    replay(subject.tx._replace(update=jax.jit(counted)), run)
    if traces > 1:
        raise BrokenLawError(
            f"{len(run.gradients)} steps with "
            + ("a weak scalar" if isinstance(run.params, float) else "arrays")
            + f" for parameters were compiled {traces} times"
        )


@law(EXAMPLE)
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
    same(taken, subject.replay(run).updates, "the update in a scan | in a loop", rtol=ROUNDED)


@law(EXAMPLE)
def donation(subject: Subject, run: Run) -> None:
    """Parameters and a state fresh from ``init`` can be donated to the compiled step.

    Training in place halves the memory; it fails where two fields of a state share a buffer.
    """
    tx = subject.tx

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, g: Any) -> Any:
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state, updates

    params = jax.tree.map(jnp.array, run.params)
    _, _, updates = step(params, tx.init(params), run.gradients[0])
    same([updates], subject.replay(run).updates[:1], "with donation | without", rtol=ROUNDED)


@law(EXAMPLE)
def export(subject: Subject, run: Run) -> None:
    """The update lowers for CPU, CUDA, ROCm and TPU.

    Otherwise a run that works here cannot be moved to the machine that it is for.
    """
    shapes = jax.tree.map(_shape, (run.gradients[0], subject.tx.init(run.params), run.params))
    jax.export.export(jax.jit(subject.tx.update), platforms=("cpu", "cuda", "rocm", "tpu"))(*shapes)


@law(EXAMPLE)
def eval_shape_init(subject: Subject, run: Run) -> None:
    """``init`` under `jax.eval_shape` gives the shapes and dtypes of the real state.

    Large models are laid out, and checkpoints read, from shapes alone.
    """
    tx = subject.tx
    found = jax.eval_shape(tx.init, jax.tree.map(_shape, run.params))
    _same_kinds(found, tx.init(jax.tree.map(jnp.asarray, run.params)), "from shapes | from arrays")


# Which dtypes it takes.


def _dtypes(*pairs: tuple[str, str]) -> Callable[[Subject], list[tuple[str, str]]]:
    """Dtypes of parameters and gradients; complex ones for those who claim them."""

    def cases(subject: Subject) -> list[tuple[str, str]]:
        return [pair for pair in pairs if subject.traits.complex or "complex" not in pair[0]]

    return cases


@law(_dtypes(*zip(DTYPES, DTYPES, strict=True)))
def state_type_fixed(subject: Subject, dtypes: tuple[str, str]) -> None:
    """A step leaves structure, shapes, dtypes and weak types of the state as they were.

    Loops compiled with scan, while and cond refuse any change.
    """
    _, before, after = _kinds(subject, dtypes)
    _same_kinds(after, before, "the state after a step | before it")


# What users meet first stands first.
_FIRST = [("bfloat16", "float32"), ("float32", "bfloat16")]
MIXES = _FIRST + [
    (p, g)
    for p, g in itertools.permutations(DTYPES, 2)
    if ("complex" in p) == ("complex" in g) and (p, g) not in _FIRST
]


@law(_dtypes(*MIXES))
def dtype_mixes(subject: Subject, dtypes: tuple[str, str]) -> None:
    """With gradients in another dtype than the parameters', a step leaves the state's types too.

    Mixed-precision training feeds float32 gradients to bfloat16 parameters, and the reverse.
    """
    _, before, after = _kinds(subject, dtypes)
    given = f"with parameters {dtypes[0]} and gradients {dtypes[1]}"
    _same_kinds(after, before, f"{given}, the new state | the old")


@law(_dtypes(*MIXES))
def update_dtype(subject: Subject, dtypes: tuple[str, str]) -> None:
    """Updates have the dtype of the gradients.

    A wider one doubles the memory of a step, and changes the dtype of what comes next.
    """
    updates, _, _ = _kinds(subject, dtypes)
    if updates.dtype != dtypes[1]:
        raise BrokenLawError(
            f"with parameters {dtypes[0]} and gradients {dtypes[1]}, updates are {updates.dtype}"
        )


@law([("float32", "bfloat16"), ("float32", "float16")], takes("learning_rate"))
def array_learning_rate_keeps_dtype(subject: Subject, dtypes: tuple[str, str]) -> None:
    """A learning rate that is a float32 array does not widen the updates.

    Rates that are traced, or come out of a schedule, are such arrays.
    """
    array, narrow = dtypes
    tx = subject.make(learning_rate=jnp.asarray(0.1, array))
    x = jax.ShapeDtypeStruct((2,), narrow)
    updates, _ = jax.eval_shape(tx.update, x, jax.eval_shape(tx.init, x), x)
    if updates.dtype != narrow:
        raise BrokenLawError(f"with a rate of {array}, the updates of {narrow} are {updates.dtype}")


# Which trees it takes.


@law(("None", "MaskedNode", "()", "{}"))
def absent_nodes(subject: Subject, absent: str) -> None:
    """Nodes without leaves (None, optax.MaskedNode, empty containers) pass through.

    Frozen parts of a model, and what a mask leaves out, are such nodes.
    """
    node = {"None": None, "MaskedNode": optax.MaskedNode(), "()": (), "{}": {}}[absent]
    x = jnp.ones(3)
    alone = subject.replay(Run(x, (x,)))
    found = subject.replay(Run({"a": x, "b": node}, ({"a": x, "b": node},)))
    beside = {"a": alone.updates[0], "b": node}
    same(found.updates, [beside], f"the update beside {absent} | alone", rtol=ROUNDED)


@law(("an empty tree", "an array without elements", "a scalar"))
def empty_and_scalar(subject: Subject, kind: str) -> None:
    """Empty trees, arrays without elements and scalars are parameters too.

    A layer of width 0 or a single temperature should not end a run.
    """
    x: Any = {
        "an empty tree": {},
        "an array without elements": jnp.zeros((0, 2)),
        "a scalar": jnp.asarray(0.5),
    }[kind]
    found = subject.replay(Run(x, (x, x)))
    same(
        jax.tree.map(jnp.shape, found.updates),
        jax.tree.map(jnp.shape, [x, x]),
        f"the shape of the updates for {kind} | of the gradients",
    )
    all_finite(found.updates, f"for {kind}, the update")


@law(EXAMPLE)
def extra_args(subject: Subject, run: Run) -> None:
    """Extra keyword arguments that are meant for others are ignored.

    In a chain each link is given all of them.
    """
    tx = optax.with_extra_args_support(subject.tx)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p, somebody_elses=1.0))
    found = replay(tx._replace(update=update), run)
    same(found.updates, subject.replay(run).updates, "with an extra argument | without",
         rtol=ROUNDED)  # fmt: skip


@law(EXAMPLE, declares("needs_params", False))
def params_optional(subject: Subject, run: Run) -> None:
    """Without the parameters the update is the same, where they are not declared to be needed.

    It is called so where the parameters are elsewhere.
    """
    found = subject.replay(Run(run.params, run.gradients[:1]))
    updates, _ = subject.compiled.update(run.gradients[0], subject.tx.init(run.params))
    same([updates], found.updates, "without parameters | with them", rtol=ROUNDED)


@law(EXAMPLE)
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


@law(EXAMPLE)
def inputs_untouched(subject: Subject, run: Run) -> None:
    """``update`` writes into none of the arrays that it is given.

    NumPy arrays can be written to, and the caller still needs them.
    """
    given = copy.deepcopy((run.gradients[0], run.params))
    before = copy.deepcopy(given)
    g, params = given
    subject.tx.update(g, subject.tx.init(params), params)
    same(given, before, "an argument after the call | before it")


@law((example(steps=2),))
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


@law(EXAMPLE)
def resumes_bitwise(subject: Subject, run: Run) -> None:
    """A state that was pickled goes on, in a new process's optimizer, bitwise as if uninterrupted.

    Otherwise a restart from a checkpoint is another run.
    """
    first, rest = (Run(run.params, part) for part in (run.gradients[:1], run.gradients[1:]))
    stored = pickle.loads(pickle.dumps(subject.replay(first).state))
    tx = subject.make()
    found = replay(compiled(tx), rest, stored)
    same(found.updates, subject.replay(run).updates[1:], "the update after a restart | without")


# What it is wrapped in.


def _unchanged(wrap: Callable[[Any], Any], why: str, *, every: int = 1) -> Callable[..., None]:
    def body(subject: Subject, run: Run) -> None:
        tx = wrap(subject.tx)
        repeated = Run(run.params, tuple(g for g in run.gradients for _ in range(every)))
        found = replay(compiled(tx), repeated).updates[every - 1 :: every]
        same(found, subject.replay(run).updates, "the wrapped update | the bare one", rtol=ROUNDED)

    body.__doc__ = why
    return body


def _always(step: Any, **extra: Any) -> Any:
    del extra
    return step >= 0


class _MultiSteps(NamedTuple):
    init: Any
    update: Any


def _multi_steps(tx: Any) -> Any:
    wrapped = optax.MultiSteps(tx, 2)
    return _MultiSteps(wrapped.init, wrapped.update)


_WRAPPERS: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    "chain": (lambda tx: optax.chain(optax.clip_by_global_norm(1e9), tx), 1, "Clipping needs it."),
    "masked": (
        lambda tx: optax.masked(tx, lambda p: jax.tree.map(lambda _: True, p)),
        1,
        "Biases, norms and frozen layers are masked out.",
    ),
    "partition": (
        lambda tx: optax.partition({"all": tx}, lambda p: jax.tree.map(lambda _: "all", p)),
        1,
        "Parts of a model are given optimizers of their own.",
    ),
    "multi_steps": (_multi_steps, 2, "Gradients of several small batches are gathered."),
    "conditionally_transform": (
        lambda tx: optax.conditionally_transform(tx, _always),
        1,
        "It passes the state through a cond, which refuses any change of types.",
    ),
    "apply_if_finite": (
        lambda tx: optax.apply_if_finite(tx, 2),
        1,
        "It runs the update under a cond, which refuses any change of types.",
    ),
}

for _name, (_wrap, _every, _why) in _WRAPPERS.items():
    _body = _unchanged(
        _wrap,
        f"Inside ``optax.{'MultiSteps' if _every > 1 else _name}`` the updates are the same."
        f"\n\n{_why}",
        every=_every,
    )
    _body.__name__, _body.__module__ = f"inside_{_name}", __name__
    law(EXAMPLE)(_body)


@law(EXAMPLE)
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
    same(pair.fast, params, "the parameter under lookahead | alone", rtol=ROUNDED)


@law(EXAMPLE, takes())
def inside_inject_hyperparams(subject: Subject, run: Run) -> None:
    """With ``optax.inject_hyperparams`` the updates are the same.

    It is how learning rates are read, logged and changed in a running state.
    """
    found = _injected(subject, run)
    same(found, subject.replay(run).updates, "with injected numbers | with constants", rtol=1e-4)


@law((example(dtype="bfloat16"),), takes())
def inject_hyperparams_in_bfloat16(subject: Subject, run: Run) -> None:
    """On bfloat16 parameters too, or it is refused with a word on ``hyperparam_dtype``.

    It hands over its numbers in the parameters' dtype, where 0.999 is 1.
    """
    try:
        found = _injected(subject, run)
    except (ValueError, TypeError) as error:
        if "hyperparam_dtype" not in str(error):
            raise
        found = _injected(subject, run, hyperparam_dtype=jnp.float32)
    names = "in bfloat16 with injected numbers | with constants"
    same(found, subject.replay(run).updates, names, rtol=2**-5)


def _injected(subject: Subject, run: Run, **options: Any) -> list[Any]:
    """The updates with all numbers that have a name in the signature injected."""
    tx = optax.inject_hyperparams(subject.factory, **options)(**subject.arguments)
    return replay(compiled(_with_value(subject, tx)), run).updates


def _with_value(subject: Subject, tx: Any) -> Any:
    return Subject(lambda: tx, subject.traits).tx


# Which hyperparameters it takes.


@law(EXAMPLE, takes())
def vmap_hyperparameters(subject: Subject, run: Run) -> None:
    """`jax.vmap` over its numbers runs it once for each of them.

    A sweep of learning rates is then one compiled run.
    """

    def first_update(numbers: dict[str, Any]) -> Any:
        tx = subject.make(**numbers)
        return tx.update(run.gradients[0], tx.init(run.params), run.params)[0]

    twice = {name: jnp.array([x, x]) for name, x in subject.numbers.items()}
    found = jax.jit(jax.vmap(first_update))(twice)
    expected = subject.replay(run).updates[0]
    for i in range(2):
        # An array's 1 − b is formed in float32, a Python number's in float64.
        same([_at(found, i)], [expected], "under vmap, the update | alone", rtol=1e-4)


@law(EXAMPLE, takes("learning_rate"))
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
         rtol=ROUNDED)  # fmt: skip


@law(EXAMPLE)
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
             rtol=ROUNDED)  # fmt: skip


# On several devices.


def _on_devices(axis: AxisType) -> tuple[Any, Any, Any]:
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(axis,))
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(2 * jax.device_count(), 2)).astype(np.float32)
    return mesh, NamedSharding(mesh, PartitionSpec("x")), whole


@law(("Auto", "Explicit"), several_devices)
def sharding(subject: Subject, axis: str) -> None:
    """State and updates are sharded as the parameters are, and equal those of one device.

    A state that is not is copied whole to every device.
    """
    mesh, sharding, whole = _on_devices(AxisType[axis])
    expected = subject.replay(Run(whole, (whole,)))
    x = jax.device_put(whole, sharding)
    with set_mesh(mesh):
        state = jax.jit(subject.tx.init)(x)
        updates, new = subject.compiled.update(x, state, x)
    for leaf in jax.tree.leaves((state, new, updates)):
        if leaf.shape == x.shape and not leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            raise BrokenLawError(
                f"parameters are sharded as {sharding.spec}, but part of the new state or the "
                f"updates is laid out as {leaf.sharding}"
            )
    same([updates], expected.updates, "the sharded update | the whole one", rtol=ROUNDED)


@law((None,), declares("elementwise"), several_devices)
def shard_map(subject: Subject, case: None) -> None:
    """Inside `jax.shard_map` each device computes its part of the whole update.

    It is how steps with explicit communication are written.
    """
    del case
    mesh, sharding, whole = _on_devices(AxisType.Explicit)

    def first_update(x: Any) -> Any:
        return subject.tx.update(x, subject.tx.init(x), x)[0]

    spec = PartitionSpec("x")
    found = jax.jit(jax.shard_map(first_update, mesh=mesh, in_specs=spec, out_specs=spec))(
        jax.device_put(whole, sharding)
    )
    expected = subject.replay(Run(whole, (whole,)))
    same([found], expected.updates, "the update in parts | the whole one", rtol=ROUNDED)


# What it refuses.

_WRONG: dict[str, tuple[Any, ...]] = {
    "learning_rate": (-1.0, float("nan"), None),
    "b1": (1.0, 1.5, -0.5),
    "b2": (1.0, 1.5, -0.5),
    "decay": (1.5, -0.5),
    "momentum": (-0.5,),
    "eps": (-1.0,),
}


@law([(name, x) for name, xs in _WRONG.items() for x in xs], takes(*_WRONG))
def bad_arguments_refused(subject: Subject, case: tuple[str, Any]) -> None:
    """Hyperparameters that make no sense are refused with a ValueError or TypeError.

    A typing error then costs a second and not a night.
    """
    name, x = case
    if name not in subject.names or x is subject.names[name]:
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


@law(tuple(_BAD_TREES))
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


def _at(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    x = jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _kinds(subject: Subject, dtypes: tuple[str, str]) -> tuple[Any, Any, Any]:
    """Abstract updates, state before and state after a step."""
    p, g = (jax.ShapeDtypeStruct((2,), dtype) for dtype in dtypes)
    state = jax.eval_shape(subject.tx.init, p)
    updates, new = jax.eval_shape(subject.tx.update, g, state, p)
    return updates, state, new


def _same_kinds(found: Any, expected: Any, names: str) -> None:
    def kind(x: Any) -> str:
        return f"{x.dtype}{list(x.shape)}" + " weak" * getattr(x, "weak_type", False)

    this, that = names.split(" | ")
    kinds = [jax.tree.map(kind, tree) for tree in (found, expected)]
    if kinds[0] != kinds[1]:
        new, old = (jax.tree.leaves(k) for k in kinds)
        pairs = [(a, b) for a, b in zip(new, old, strict=False) if a != b]
        a, b = pairs[0] if pairs else (str(kinds[0]), str(kinds[1]))
        raise BrokenLawError(f"{this} holds {a}, {that} {b}")
