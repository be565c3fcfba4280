"""The kit finds what is wrong: optax's known faults, and Adams with one mistake each."""

import itertools
import re
import threading
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import JAX
from packaging.version import Version

import gdfx
from gdfx.core.moments import abs_sq, accumulator, ema, one_minus_power, root, saturate
from gdfx.testing import LAWS, Traits, check
from gdfx.testing.judge import judge
from gdfx.testing.subject import Subject

RATE, B1, B2, EPS = 0.1, 0.9, 0.999, 1e-8


def verdict(make, law, traits=None):
    return check(make, laws=[law], traits=traits, budget=20)[law]


# Faults of optax 0.2.8, each with the law that names it and what the kit says.

adam = partial(optax.adam, learning_rate=RATE)

FAULTS = [
    ("a: derivative at g = 0", adam, "gradient-derivative-at-zero", "is nan"),
    ("a: derivative by b2", adam, "hyperparameter-derivative", "by b2 = 0.999 is nan"),
    (
        "a: any gradient, from step 3",
        partial(optax.radam, learning_rate=RATE),
        "gradient-derivative",
        "= 1 is nan",
    ),
    (
        "a: derivative 0 where it is not",
        partial(optax.adagrad, learning_rate=RATE, initial_accumulator_value=0.0),
        "gradient-derivative-at-zero",
        "is 0, but finite differences give -316",
    ),
    ("b: float16, g = 0", adam, "zero-gradient-finite", "for zero gradients in float16"),
    ("b: float16, small g", adam, "finite-for-finite", "in float16"),
    (
        "b: the same past apply_if_finite",
        lambda: optax.apply_if_finite(optax.adam(RATE), 3),
        "finite-for-finite",
        "in float16",
    ),
    (
        "b: hyperparameters injected in bfloat16",
        adam,
        "inject-hyperparams-in-bfloat16",
        "with injected numbers is nan",
    ),
    (
        "b: no ε, no gradient",
        adam,
        "hyperparameters-finite",
        "eps=0, eps_root=0, the update is nan",
    ),
    ("b: bfloat16 sums stand still", adam, "long-run-in-bfloat16", "the 3,000th update"),
    ("c: correction", adam, "single-precision-accurate", "in float64 is"),
    ("c: correction, long memory", adam, "long-memory-accurate", "in float64 is"),
    ("d: arguments", adam, "bad-arguments-refused", "learning_rate=-1.0 is accepted"),
    ("d: trees", adam, "bad-trees-refused", "integer parameters: accepted"),
    (
        "e: a NaN freezes adagrad",
        partial(optax.adagrad, learning_rate=RATE),
        "nan-never-silent",
        "one nan gradient the coordinate stands still",
    ),
    (
        "e: an Inf freezes rmsprop",
        partial(optax.rmsprop, learning_rate=RATE),
        "nan-never-silent",
        "stands still",
    ),
    ("f: state drifts", adam, "dtype-mixes", "bfloat16 and gradients float32, the new state"),
    ("f: rate widens", adam, "array-learning-rate-keeps-dtype", "bfloat16 are float32"),
    ("f: weak scalars trace twice", adam, "no-retrace-for-weak-scalars", "weak scalar"),
    ("g: zeros are on one device", adam, "sharded-init", "a part that belongs to a parameter"),
    ("h: None for a gradient", adam, "none-gradient", "it raises "),
    (
        "b: a mean square less a squared mean",
        partial(optax.rmsprop, learning_rate=RATE, centered=True),
        "steady-gradient-finite",
        "that stays the same, the update is nan at step",
    ),
    (
        "i: weight decay in float16",
        partial(optax.adamw, learning_rate=RATE),
        "weight-decay-accurate",
        "0.0001000166 in float16, the decay is 0",
    ),
    (
        "j: one gradient of zero",
        partial(optax.contrib.prodigy, learning_rate=1.0),
        "zero-first-gradient",
        r"gives the update \[nan, nan, nan\]",
    ),
    (
        "k: an average in the dtype of the parameters",
        partial(optax.contrib.schedule_free_sgd, learning_rate=RATE),
        "average-in-bfloat16",
        "of bfloat16 parameters, what is evaluated is",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "law", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_fault_of_optax_is_found(make, law, words):
    found = verdict(make, law)
    assert found.outcome == "broken"
    assert re.search(words, found.reason), found.reason
    with pytest.raises(AssertionError, match=re.escape(found.reason)):
        exec(found.code, {"make": make})


# Adam with one mistake.


def adam_with(
    *,
    bound=saturate,
    first=lambda m, g: ema(m, g, B1),
    second=lambda v, g: ema(v, abs_sq(g), B2),
    c1=lambda t: one_minus_power(B1, t),
    c2=lambda t: one_minus_power(B2, t),
    divide=lambda m, v: m / (root(v) + EPS),
    rate=-RATE,
    dtype=lambda p: None,
):
    """Adam, of which each part can be another."""

    def init(p):
        return accumulator(p, dtype=dtype(p)), accumulator(p, dtype=dtype(p), real=True)

    def rule(g, m, v, *, t):
        g = bound(g)
        m, v = first(m, g), second(v, g)
        return rate * divide(m / c1(t), v / c2(t)), m, v

    return gdfx.per_leaf(optax.ScaleByAdamState, init, rule)


def updating(change):
    """Adam whose ``update`` is another one, which is given the right one."""
    tx = adam_with()
    return optax.GradientTransformationExtraArgs(tx.init, partial(change, tx.update))


def initialised(change):
    tx = adam_with()
    return tx._replace(init=lambda params: change(tx.init(params)))


def leaves_reversed(update, g, state, params=None, **extra):
    u, state = update(g, state, params)
    leaves, tree = jax.tree.flatten(u)
    same_shape = [i for i, leaf in enumerate(leaves) if leaf.shape == leaves[0].shape]
    for i, j in zip(same_shape, reversed(same_shape), strict=True):
        leaves[i] = jax.tree.leaves(u)[j]
    return tree.unflatten(leaves), state


def count_wraps(update, g, state, params=None, **extra):
    u, new = update(g, state, params)
    return u, new._replace(count=state.count + 1)


def state_in_the_gradients_dtype(update, g, state, params=None, **extra):
    u, new = update(g, state, params)
    return u, new._replace(mu=jax.tree.map(lambda m, x: m.astype(x.dtype), new.mu, g))


def state_narrows(update, g, state, params=None, **extra):
    u, new = update(g, state, params)
    return u, new._replace(mu=jax.tree.map(lambda m: m.astype(jnp.bfloat16), new.mu))


def updates_in_float32(update, g, state, params=None, **extra):
    u, state = update(g, state, params)
    return jax.tree.map(lambda x: x.astype(jnp.float32), u), state


def leaves_as_a_list(update, g, state, params=None, **extra):
    u, state = update(g, state, params)
    return jax.tree.leaves(u), state


def strict(update, g, state, params=None):
    return update(g, state, params)


def hidden_decay(update, g, state, params=None, **extra):
    u, state = update(g, state, params)
    return u if params is None else jax.tree.map(lambda x, p: x - 1e-3 * p, u, params), state


def writes_its_input(update, g, state, params=None, **extra):
    for leaf in jax.tree.leaves(g):
        if isinstance(leaf, np.ndarray):
            leaf *= 1.5
    return update(g, state, params)


def nan_to_zero(update, g, state, params=None, **extra):
    u, state = update(g, state, params)
    return jax.tree.map(lambda x: jnp.where(jnp.isnan(x), 0, x), u), state


def asks_a_value(update, g, state, params=None, **extra):
    u, state = update(g, state, params)
    return (jax.tree.map(jnp.zeros_like, u) if jax.tree.leaves(g)[0].sum() == 0 else u), state


def global_norm(update, g, state, params=None, **extra):
    return update(jax.tree.map(lambda x: x / optax.global_norm(g), g), state, params)


def counting_in_python():
    steps = itertools.count()
    tx = adam_with()

    def update(g, state, params=None, **extra):
        return tx.update(g, state._replace(count=jnp.int32(next(steps))), params)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def remembering_in_python():
    last: Any = None
    tx = adam_with()

    def update(g, state, params=None, **extra):
        nonlocal last
        mixed = g if last is None else jax.tree.map(lambda x, y: x + y, g, last)
        last = g
        return tx.update(mixed, state, params)

    return optax.GradientTransformationExtraArgs(tx.init, update)


class Mutant(NamedTuple):
    make: Any
    law: str


FIDELITY = "equals-its-reference"


def formula(**parts):
    """Only the comparison with the reference can tell."""
    return Mutant(partial(adam_with, **parts), FIDELITY)


MUTANTS = {
    "correction of m off by one": formula(c1=lambda t: one_minus_power(B1, t + 1)),
    "correction of v off by one": formula(c2=lambda t: one_minus_power(B2, t + 1)),
    "m not corrected": formula(c1=lambda t: 1.0),
    "v not corrected": formula(c2=lambda t: 1.0),
    "corrections swapped": formula(
        c1=lambda t: one_minus_power(B2, t), c2=lambda t: one_minus_power(B1, t)
    ),
    "b1 and b2 swapped": formula(
        first=lambda m, g: ema(m, g, B2), second=lambda v, g: ema(v, abs_sq(g), B1)
    ),
    "g and m swapped in the mean": formula(first=lambda m, g: ema(g, m, B1)),
    "eps inside the root": formula(divide=lambda m, v: m / root(v, EPS)),
    "eps forgotten": formula(divide=lambda m, v: m / root(v)),
    "g instead of m": formula(first=lambda m, g: g),
    "sum instead of mean": formula(first=lambda m, g: B1 * m + g),
    "v of |g|": formula(second=lambda v, g: ema(v, jnp.abs(g), B2)),
    "maximum instead of mean": formula(second=lambda v, g: jnp.maximum(B2 * v, abs_sq(g))),
    "root forgotten": Mutant(
        partial(adam_with, divide=lambda m, v: m / (v + EPS)), "gradient-scale"
    ),
    "sign lost": Mutant(partial(adam_with, rate=RATE), "first-step-descends"),
    "m of |g|": Mutant(partial(adam_with, first=lambda m, g: ema(m, jnp.abs(g), B1)), "sign"),
    "negative gradients dropped": Mutant(
        partial(adam_with, first=lambda m, g: ema(m, jnp.maximum(g, 0), B1)), "sign"
    ),
    "v shared in a leaf": Mutant(
        partial(adam_with, second=lambda v, g: ema(v, jnp.mean(abs_sq(g)), B2)), "leaf-split"
    ),
    "later coordinates slower": Mutant(
        partial(adam_with, divide=lambda m, v: m / (root(v) + EPS) / (1 + jnp.arange(m.size))
                .reshape(m.shape)), "permutation",
    ),
    "normed by the whole tree": Mutant(
        partial(updating, global_norm), "nan-stays-in-its-coordinate"
    ),
    "square of a complex number": Mutant(
        partial(adam_with, second=lambda v, g: ema(v, (g * g).real, B2)), "complex-phase"
    ),
    "square overflows": Mutant(partial(adam_with, bound=lambda g: g), "finite-for-finite"),
    "power formed first": Mutant(
        partial(adam_with, c2=lambda t: 1 - jnp.power(B2, t)), "single-precision-accurate"
    ),
    "root without guard": Mutant(
        partial(adam_with, divide=lambda m, v: m / (jnp.sqrt(v) + EPS)),
        "gradient-derivative-at-zero",
    ),
    "cast lost: sums in bfloat16": Mutant(
        partial(adam_with, dtype=lambda p: p.dtype), "long-run-in-bfloat16"
    ),
    "cast lost: state": Mutant(partial(updating, state_in_the_gradients_dtype), "dtype-mixes"),
    "cast lost: updates": Mutant(partial(updating, updates_in_float32), "update-dtype"),
    "count not saturating": Mutant(partial(updating, count_wraps), "count-saturates"),
    "leaf order mixed": Mutant(partial(updating, leaves_reversed), FIDELITY),
    "structure lost": Mutant(partial(updating, leaves_as_a_list), "absent-nodes"),
    "extra arguments refused": Mutant(partial(updating, strict), "extra-args"),
    "hidden weight decay": Mutant(partial(updating, hidden_decay), "translation"),
    "input written to": Mutant(partial(updating, writes_its_input), "inputs-untouched"),
    "NaN hidden": Mutant(partial(updating, nan_to_zero), "nan-never-silent"),
    "a value asked in Python": Mutant(partial(updating, asks_a_value), "jit-equals-eager"),
    "one buffer for m and v": Mutant(
        partial(initialised, lambda state: state._replace(nu=state.mu)), "fresh-state-donatable"
    ),
    "v forgets faster than m": Mutant(
        partial(adam_with, second=lambda v, g: ema(v, abs_sq(g), 0.5)), "impulse-bounded"
    ),
    "count a Python number": Mutant(
        partial(initialised, lambda state: state._replace(count=0)), "state-type-fixed"
    ),
    "counts in Python": Mutant(counting_in_python, "interleaved-runs"),
    "remembers in Python": Mutant(remembering_in_python, "interleaved-runs"),
}  # fmt: skip

ADAM = Traits(
    elementwise=True,
    descends=True,
    odd=True,
    scale="invariant",
    translates=True,
    complex=True,
    after_nan="nan",
    needs_params=False,
    reference=adam,
)


def deaf(learning_rate=RATE, b1=B1):
    """Adam that does not hear what b1 it is given."""
    return optax.adam(learning_rate)


def restless(learning_rate=RATE):
    """Adam whose learning rate does not go down to 0."""
    return optax.adam(max(learning_rate, 1e-6))


def sign_after(grown, dtype):
    """-sign(g), from numbers that in one dtype are grown before."""

    def leaf(x):
        y = grown(x) if x.dtype == dtype else x
        return jnp.where(x == 0, 0, -y / jnp.where(x == 0, 1, jnp.abs(y)))

    return lambda: optax.stateless(lambda g, params: jax.tree.map(leaf, g))


OVERFLOWS = {
    "float64": sign_after(lambda x: x * jnp.abs(x), jnp.float64),
    "float32": sign_after(lambda x: 4 * x, jnp.float32),
}


@pytest.mark.parametrize("dtype", OVERFLOWS)
def test_an_overflow_in_one_dtype_is_found(dtype):
    """In float64 at 1e154, where nothing wider is left to compare with; in float32 at the end."""
    found = verdict(OVERFLOWS[dtype], "finite-for-finite", Traits(scale="invariant"))
    assert found.outcome == "broken"
    assert found.reason.startswith(f"in {dtype}, gradients ")
    unclaimed = verdict(OVERFLOWS[dtype], "finite-for-finite", Traits())
    assert unclaimed.outcome == "kept"


def test_a_reference_that_hears_nothing_is_not_asked_beside_the_defaults():
    found = verdict(adam, "hyperparameters-as-in-reference", Traits(reference=lambda: adam()))
    assert found.reason == "the reference does not take its hyperparameters by name"


def averaging(dtype=lambda p: jnp.float32, weight=None):
    """A mean of the parameters in a dtype; of a constant weight, it begins at 0."""
    tx = gdfx.averaged(gdfx.sgd(RATE))

    def reweighted(state):
        inner, mean = state
        return state if weight is None else (inner, mean._replace(weight=jnp.float32(weight)))

    def init(params):
        inner, mean = tx.init(params)
        average = jax.tree.map(lambda p: jnp.asarray(p, dtype(p)), params)
        if weight is not None:
            average = jax.tree.map(jnp.zeros_like, average)
        return reweighted((inner, mean._replace(average=average)))

    def update(g, state, params):
        updates, state = tx.update(g, state, params)
        return updates, reweighted(state)

    return optax.GradientTransformation(init, update)


def forgetting():
    """DoG that halves its distance at every other step."""
    tx = gdfx.dog()

    def update(g, state, params):
        updates, state = tx.update(g, state, params)
        return updates, state._replace(d=state.d / (1 + state.count % 2))

    return optax.GradientTransformation(tx.init, update)


def judged(make, law):
    return judge(LAWS[law], Subject(make, ADAM), seed=0, budget=10)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_adam_is_found(name):
    if name == "square overflows" and Version("0.10") > JAX:
        pytest.skip("before JAX 0.10, the m̂ of the largest gradients is rounded to a finite one")
    make, law = MUTANTS[name]
    assert judged(make, law).outcome == "broken"


@pytest.mark.parametrize("law", sorted({mutant.law for mutant in MUTANTS.values()}))
def test_adam_without_a_mistake_passes(law):
    found = judged(adam_with, law)
    assert found.outcome == "kept", found.reason


# Laws that a plain optimizer keeps or breaks by one line.


def keeping(leaf, *, walk=jax.tree.map):
    """SGD with a state, which is made of each parameter so."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(leaf, params),
        lambda g, state, params=None: (walk(lambda x, *_: -RATE * x, g, params), state),
    )


def by_gradients(function, g, params):
    return jax.tree.map(function, g)


def sgd_with_state(leaf=jnp.zeros_like):
    return keeping(leaf, walk=by_gradients)


def keeping_all(init):
    """SGD with a state that is made of all parameters at once."""
    return optax.GradientTransformation(init, sgd_with_state().update)


def sgd_by_parameters():
    return keeping(jnp.zeros_like)


def sgd_with(thing):
    """It holds something; what else it does, it does right."""

    def update(g, state, params=None):
        return jax.tree.map(lambda x: -RATE * x + 0 * bool(thing), g), state

    return optax.GradientTransformation(lambda params: (), update)


def counting(refuse):
    def update(g, count, params=None):
        if refuse and count.dtype != jnp.int32:
            raise TypeError("the count must be int32")
        return jax.tree.map(lambda x: -RATE * x, g), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def compiled_sgd(update):
    return optax.GradientTransformation(
        lambda params: (), lambda g, state, params=None: (update(g), state)
    )


def compiled_anew(learning_rate=RATE):
    return compiled_sgd(jax.jit(lambda g: jax.tree.map(lambda x: -learning_rate * x, g)))


@jax.jit
def times(rate, g):
    return jax.tree.map(lambda x: -rate * x, g)


def compiled_once(learning_rate=RATE):
    return compiled_sgd(partial(times, learning_rate))


def noisy(key_of=lambda key, g: key, *, lend=False, raw=False):
    """Noise for an update, from a key in the state: the argument says of which."""
    first = jax.random.PRNGKey(0) if raw else jax.random.key(0)

    def update(g, key, params=None):
        def leaf(x):
            return jax.random.normal(key_of(key, x), x.shape, x.dtype)

        return jax.tree.map(leaf, g), jax.random.split(key)[0]

    return optax.GradientTransformation(
        lambda params: first if lend else jax.tree.map(jnp.copy, first), update
    )


def noisy_on(axis_name=None, *, deaf):
    def key_of(key, g):
        apart = axis_name is not None and not deaf
        return jax.random.fold_in(key, jax.lax.axis_index(axis_name)) if apart else key

    return noisy(key_of)


def noisy_leaves(*, steps_alike=False):
    """Noise of its own for each leaf, which fades; in each step the same, or another."""

    def update(g, count, params=None):
        key = jax.random.fold_in(jax.random.key(0), 0 if steps_alike else count)
        leaves, tree = jax.tree.flatten(g)
        noise = [
            jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype) / (1 + count)
            for i, x in enumerate(leaves)
        ]
        return tree.unflatten(noise), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def of_layout(key, g):
    return jax.random.fold_in(key, len(str(jax.typeof(g).sharding.spec)))


SIZES = itertools.count(1)


def growing():
    """Its state has more arrays each time it is made."""
    return optax.GradientTransformation(
        lambda params: [jnp.zeros(())] * next(SIZES), sgd_with_state().update
    )


def by_shape(params):
    """Zeros that are laid out as the first parameter of that shape."""
    made = {}
    return jax.tree.map(lambda p: made.setdefault(p.shape, 0 * p), params)


def stateless(leaf):
    return optax.stateless(lambda g, params: jax.tree.map(leaf, g))


def normed(x, *, by_shards=False):
    """A step of length 1, or on each device one of its own."""
    spec = jax.typeof(x).sharding.spec

    def step(x):
        return -x / jnp.linalg.norm(x)

    if by_shards and any(spec):
        return jax.shard_map(step, in_specs=spec, out_specs=spec)(x)
    return step(x)


def relative(*, least):
    """Steps as long as the parameter."""

    def leaf(x, p):
        length = jnp.linalg.norm(p)
        return -x * length / jnp.maximum(length, least)

    return optax.stateless(lambda g, params: jax.tree.map(leaf, g, params))


def times_the_loss(of_loss):
    def update(g, state, params=None, *, value, **extra):
        return jax.tree.map(lambda x: -x * of_loss(value, x), g), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


def widened(value, x):
    return jnp.asarray(value, x.dtype)


def of_the_first_leaf(update, g, state, params=None, **extra):
    return update(g, state, params) if jax.tree.leaves(g)[0].size else (g, state)


def lasting_nan():
    """SGD with a state that sums up its gradients, and adds nothing of it."""

    def update(g, total, params=None):
        total = jax.tree.map(jnp.add, total, g)
        return jax.tree.map(lambda x, y: -RATE * x + 0 * y, g, total), total

    return optax.GradientTransformation(lambda p: jax.tree.map(jnp.zeros_like, p), update)


def state_of_matrices():
    """SGD that remembers the last gradient's rows."""

    def update(g, rows, params=None):
        return jax.tree.map(lambda x: -RATE * x, g), jax.tree.map(lambda x: x.sum(0), g)

    return optax.GradientTransformation(lambda p: jax.tree.map(jnp.zeros_like, p), update)


def listing_its_leaves():
    """Its state is a list, which says nothing of the parameters."""
    return optax.GradientTransformation(
        lambda params: [jnp.zeros_like(p) for p in jax.tree.leaves(params)], sgd_with_state().update
    )


def doubling_schedules(learning_rate=RATE):
    twice = (lambda count: 2 * learning_rate(count)) if callable(learning_rate) else learning_rate
    return optax.sgd(twice)


@jax.custom_batching.custom_vmap
def lost_under_vmap(x):
    return -RATE * x


@lost_under_vmap.def_vmap
def _(size, batched, x):
    return 0 * x, True


def dividing_by_the_last_gradient():
    """The mean gradient over the size of this one: after an impulse and zeros, over nothing."""

    def update(g, m, params=None):
        m = jax.tree.map(lambda m, x: ema(m, x, B1), m, g)
        return jax.tree.map(lambda m, x: -RATE * m / (jnp.abs(x) + EPS), m, g), m

    return optax.GradientTransformation(lambda p: jax.tree.map(jnp.zeros_like, p), update)


SGD = partial(optax.sgd, learning_rate=RATE)


def differing_each_time():
    """What is made later is slower."""
    return optax.sgd(1 / next(SIZES))


def unit(g):
    return g / jnp.linalg.norm(g)


def unit_rows(g):
    return g / jnp.linalg.norm(g, axis=1, keepdims=True)


def on_matrices(rule):
    """A method of matrices without a state."""
    return partial(
        lambda matrices: gdfx.per_matrix(optax.EmptyState, lambda p: (), rule, matrices=matrices),
        matrices="2d",
    )


def on_leaves(rule):
    """The same, deaf to which axes make a matrix."""
    return partial(lambda matrices: stateless(rule), matrices="2d")


def on_trees(rule):
    """The same, of all matrices as one."""

    def update(updates, state, params=None):
        flat, back = jax.flatten_util.ravel_pytree(updates)
        return jax.tree.map(lambda g, s: jnp.sign(g) + s, updates, back(rule(flat))), state

    tx = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    return partial(lambda matrices: tx, matrices="2d")


LINES = [
    ("fresh-state-donatable", sgd_with_state, partial(sgd_with_state, lambda p: p),
     "the parameters at ['layers'][0][0] and the state at ['layers'][0][0] are one buffer"),
    ("fresh-state-donatable", noisy, partial(noisy, lend=True),
     "the state and a second state are one buffer"),
    ("init-from-shapes", sgd_with_state, partial(sgd_with_state, lambda p: 0 * p),
     "it raises TypeError"),
    ("sharded-init", partial(sgd_with_state, lambda p: 0 * p),
     partial(sgd_with_state, lambda p: jnp.zeros(p.shape)), "is laid out as"),
    ("init-from-sharded-shapes", sgd_with_state,
     partial(sgd_with_state, lambda p: jnp.zeros(p.shape)), "the state from shapes, a part"),
    ("init-from-host-memory", sgd_with_state,
     partial(sgd_with_state, lambda p: jnp.zeros(p.shape) + p), "it raises ValueError"),
    ("none-beside-a-parameter", sgd_with_state, sgd_by_parameters, "it raises ValueError"),
    ("none-gradient", sgd_with_state, sgd_by_parameters, "it raises ValueError"),
    ("state-cast", partial(counting, refuse=False), partial(counting, refuse=True),
     "the count must be int32"),
    ("state-in-flax", partial(noisy, raw=True), noisy, "it raises "),
    ("state-in-equinox", sgd_with_state, growing, "it raises "),
    ("cloudpickle", partial(sgd_with, 1), lambda: sgd_with(threading.Lock()), "cannot pickle"),
    ("eager-compiles-once", partial(compiled_once), partial(compiled_anew), "compiles 1 programs"),
    ("shards-draw-apart", partial(noisy_on, deaf=False), partial(noisy_on, deaf=True),
     "two shards of equal data have equal updates"),
    ("noise-of-one-device", noisy, partial(noisy, of_layout), "the sharded update is"),
    ("leaves-and-steps-draw-apart", noisy_leaves, noisy,
     "two leaves of equal data have noise of one pattern"),
    ("leaves-and-steps-draw-apart", noisy_leaves, partial(noisy_leaves, steps_alike=True),
     "two steps have noise of one pattern"),
    ("no-retrace", adam_with, partial(initialised, lambda state: state._replace(count=0)),
     "3 steps with arrays for parameters were compiled 2 times"),
    ("scan-and-cond", adam_with, partial(updating, state_narrows), "it raises TypeError"),
    ("export", partial(stateless, lambda x: -x),
     partial(stateless, lambda x: x * jnp.linalg.eigvals(jnp.eye(2))[0].real), "it raises "),
    ("update-dtype-mixes", sgd_with_state,
     lambda: optax.stateless(lambda g, p: jax.tree.map(lambda x, y: -x + 0 * y, g, p)),
     "with parameters float32 and gradients bfloat16, updates are float32"),
    ("empty-and-scalar", adam_with, partial(updating, of_the_first_leaf),
     "it raises IndexError: list index out of range"),
    ("zero-size", partial(stateless, lambda x: -x), partial(stateless, lambda x: -x / jnp.max(x)),
     "it raises ValueError: zero-size array to reduction operation max"),
    ("zero-size", partial(stateless, lambda x: -x),
     partial(stateless, lambda x: -x / (jnp.max(x) if x.dtype == jnp.bfloat16 else 1)),
     "it raises ValueError: zero-size array to reduction operation max"),
    ("every-shape", partial(stateless, lambda x: -x), partial(stateless, lambda x: -x.squeeze()),
     "the shape of the updates for arrays of every shape has"),
    ("every-shape", sgd_with_state, state_of_matrices,
     "for arrays of every shape, a shape of the new state has"),
    ("zero-parameter-finite", partial(relative, least=1e-3), partial(relative, least=0.0),
     "for zero parameters in float32, the update is nan"),
    ("zero-gradient-finite", partial(stateless, lambda x: -jnp.sign(x)),
     partial(stateless, lambda x: -jnp.copysign(1, x)), "for −0 in float32, the update is 1"),
    ("loss-of-every-dtype", partial(times_the_loss, lambda value, x: jnp.exp(widened(value, x))),
     partial(times_the_loss, lambda value, x: jnp.exp(value)),
     "with a traced loss of float16, the update is"),
    ("loss-of-every-dtype", partial(times_the_loss, widened),
     partial(times_the_loss, lambda value, x: value),
     "with a traced loss of float64 holds float64[3], with a Python number float32[3]"),
    ("missing-loss-refused", partial(times_the_loss, lambda value, x: value),
     partial(times_the_loss, lambda value, x: value or 1), "is accepted without a word"),
    ("params-optional", adam_with, partial(updating, hidden_decay), "without parameters is"),
    ("tree-map-params", sgd_with_state, listing_its_leaves, "it raises "),
    *((f"inside-{wrapper}", adam_with, counting_in_python, "the wrapped update is")
      for wrapper in ("chain", "masked", "partition", "multi-steps")),
    ("inside-apply-if-finite", adam_with, partial(updating, state_narrows), "it raises TypeError"),
    ("inside-conditionally-transform", adam_with, partial(updating, state_narrows),
     "it raises TypeError: cond branches must have equal output types"),
    ("inside-lookahead", adam_with, counting_in_python, "the parameter under lookahead is"),
    ("inside-inject-hyperparams", SGD, partial(restless), "it raises TracerBoolConversionError"),
    ("vmap-hyperparameters", SGD, partial(restless), "it raises TracerBoolConversionError"),
    ("schedule-equals-constant", SGD, partial(doubling_schedules), "with a schedule is"),
    ("vmap-params", partial(stateless, lambda x: -x), partial(stateless, lost_under_vmap),
     "under vmap, the update is 0 at"),
    ("sharding", sgd_with_state, partial(sgd_with_state, lambda p: jnp.zeros(p.shape)),
     "parameters are sharded as"),
    ("sharding", sgd_with_state, partial(keeping_all, by_shape),
     "a part that belongs to a parameter of layout"),
    ("sharding", partial(stateless, normed), partial(stateless, partial(normed, by_shards=True)),
     "the sharded update is"),
    ("shard-map", partial(stateless, lambda x: -x), partial(stateless, lambda x: -x / len(x)),
     "the update in parts is"),
    ("eval-shape-init", sgd_with_state,
     partial(sgd_with_state, lambda p: jnp.full_like(p, float(p.sum()))), "it raises "),
    ("resumes-bitwise", adam_with, differing_each_time, "the update after it is"),
    ("low-precision-close", partial(stateless, lambda x: -x),
     partial(stateless, lambda x: 100 - (x + 100)), "the update in float16 is"),
    ("after-nan-as-declared", sgd_with_state, lasting_nan, "becomes NaN"),
    ("hyperparameters-as-in-reference", adam, partial(deaf), "with learning_rate=0.1, b1=0, the"),
    ("zero-rate-stays", SGD, partial(restless), "the update at rate 0 is -9.999"),
    ("average-of-what-stays", averaging, partial(averaging, weight=0.1),
     "what is evaluated is 0.3439"),
    ("estimate-never-falls", gdfx.dog, forgetting, "the estimate is"),
    ("average-in-bfloat16", averaging, partial(averaging, dtype=lambda p: p.dtype),
     "of bfloat16 parameters, what is evaluated is"),
    ("impulse-bounded", SGD, dividing_by_the_last_gradient,
     "after one gradient of 1 and then zeros, an update is 899999.9"),
    ("layout-of-matrices", on_matrices(unit), on_leaves(unit), "the update is"),
    ("matrix-in-company", on_matrices(unit), on_trees(unit), "the update alone is"),
    ("matrix-in-company", on_matrices(unit), on_trees(lambda x: 0 * x * x.sum()),
     "the update beside a NaN is nan"),
    ("transposed-matrix", on_matrices(unit), on_matrices(unit_rows), "the update transposed is"),
    ("change-of-basis", on_matrices(unit), on_matrices(jnp.sign),
     "the update in another basis is"),
]  # fmt: skip

CLAIMS = {
    "average-of-what-stays": Traits(translates=True),
    "hyperparameters-as-in-reference": Traits(reference=adam),
    "after-nan-as-declared": Traits(after_nan="recovers"),
    "params-optional": Traits(needs_params=False),
    "shard-map": Traits(elementwise=True),
    "shards-draw-apart": Traits(random=True),
    "noise-of-one-device": Traits(random=True),
    "leaves-and-steps-draw-apart": Traits(random=True),
    "loss-of-every-dtype": Traits(needs_value=True),
    "missing-loss-refused": Traits(needs_value=True),
    "zero-rate-stays": Traits(descends=True),
    "transposed-matrix": Traits(transposes=True),
    "change-of-basis": Traits(follows="rotations"),
}
"""What is declared of both, where the law asks for it."""


@pytest.mark.parametrize(("law", "right", "wrong", "words"), LINES, ids=[x[0] for x in LINES])
def test_one_line_keeps_or_breaks_it(law, right, wrong, words):
    traits = CLAIMS.get(law)
    kept = verdict(right, law, traits)
    assert kept.outcome == "kept", kept.reason
    broken = verdict(wrong, law, traits)
    assert broken.outcome == "broken"
    assert words in broken.reason, broken.reason


def test_each_law_bites():
    """None is there that no optimizer of this file breaks."""
    tables = (
        (fault[2] for fault in FAULTS),
        (m.law for m in MUTANTS.values()),
        (x[0] for x in LINES),
    )
    assert set(LAWS) - {law for table in tables for law in table} == set()
