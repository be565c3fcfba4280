"""The vocabulary of method files alone: moments, lift, descend."""

import dataclasses
import functools
import itertools
import re
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from cases import DTYPES
from jax.sharding import NamedSharding, PartitionSpec

import gdfx
from gdfx.core.inner import demands
from gdfx.core.moments import abs_sq, accumulator, ema, one_minus_power, root, saturate
from gdfx.core.precision import in_precision, narrow, widen

F32 = np.finfo(np.float32)

# Bias correction.

MEMORIES = [0.9, 0.99, 0.999, 0.9999, 0.99999]
TIMES = [1, 2, 10, 1_000, 1_000_000]


def exactly(b, t):
    with mpmath.workdps(50):
        return 1 - mpmath.mpf(float(b)) ** int(t)


def relative_error(found, exact):
    with mpmath.workdps(50):
        return abs(float((mpmath.mpf(float(found)) - exact) / exact))


@pytest.mark.parametrize(("b", "t"), list(itertools.product([0.0, *MEMORIES], TIMES)))
def test_one_minus_power_is_accurate(b, t, precision):
    found = one_minus_power(b, jnp.int32(t))
    assert found.dtype == precision
    assert relative_error(found, exactly(b, t)) < {"float32": 1e-6, "float64": 1e-13}[precision]


@pytest.mark.parametrize("b", [0.0, *MEMORIES])
def test_one_minus_power_of_a_traced_base(b):
    times = jnp.array(TIMES)
    found = jax.jit(jax.vmap(one_minus_power, (None, 0)))(jnp.float32(b), times)
    for f, t in zip(found, TIMES, strict=True):  # against the number that float32 holds
        assert relative_error(f, exactly(np.float32(b), t)) < 1e-6


@pytest.mark.parametrize("b", [0.0, 0.5, *MEMORIES])
def test_derivative_of_one_minus_power(b):
    # At b = 0, -t b^(t-1) is -1 for t = 1 and 0 beyond, where -t b^t / b is NaN.
    times = jnp.array([1, 2, 10, 1000])
    found = jax.jit(jax.vmap(jax.grad(one_minus_power), (None, 0)))(jnp.float32(b), times)
    exact = -np.float64(times) * np.float64(np.float32(b)) ** (np.float64(times) - 1)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=F32.tiny)


def test_optax_is_less_accurate():
    """Why one_minus_power exists."""
    worst = optax.tree.bias_correction(jnp.float32(1.0), 0.99999, jnp.int32(1))
    assert relative_error(1 / worst, exactly(0.99999, 1)) > 1e-3


# Moments.


def test_ema_and_abs_sq():
    np.testing.assert_allclose(ema(jnp.float32(2.0), jnp.float32(4.0), 0.75), 2.5)
    np.testing.assert_array_equal(abs_sq(jnp.array([3.0, -4.0])), [9.0, 16.0])
    z = jnp.array([3 + 4j, 0, -1j])
    assert abs_sq(z).dtype == jnp.float32
    np.testing.assert_array_equal(abs_sq(z), [25.0, 0.0, 1.0])
    # |z|^2 is smooth at 0, and JAX's gradient is its conjugate: 2 x - 2 i y.
    np.testing.assert_array_equal(jax.grad(lambda z: abs_sq(z).sum())(z), 2 * z.conj())


def test_saturate():
    limit = 2.0**48
    g = jnp.array([0.0, -1.0, limit, F32.max, -F32.max, jnp.inf, -jnp.inf, jnp.nan])
    expected = np.float32([0.0, -1.0, limit, limit, -limit, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(saturate(g), expected)
    derivative = jax.grad(lambda g: saturate(g)[:5].sum())(g)
    np.testing.assert_array_equal(derivative[jnp.array([0, 1, 3, 4])], [1, 1, 0, 0])
    z = jax.lax.complex(jnp.float32(F32.max), jnp.float32(-2.0))
    assert complex(saturate(z)) == limit - 2j


def test_small_matrices_are_held_alike():
    """They are held in another form, which compiles faster there."""
    limit = 2.0**48
    g = jnp.array([0.0, -0.0, -1.0, limit, F32.max, -F32.max, jnp.inf, -jnp.inf, jnp.nan])
    small = saturate(g[None])
    np.testing.assert_array_equal(small, saturate(g)[None])
    np.testing.assert_array_equal(jnp.signbit(small[0, :6]), jnp.signbit(g[:6]))
    derivative = jax.grad(lambda g: saturate(g[None]).sum())(g[:6])
    np.testing.assert_array_equal(derivative[jnp.array([0, 2, 4, 5])], [1, 1, 0, 0])


def test_saturated_squares_can_be_summed(precision):
    largest = saturate(jnp.asarray(np.finfo(precision).max, precision))
    assert jnp.isfinite(largest * largest * 2.0**31)


def test_root(precision):
    info = np.finfo(precision)
    x = jnp.asarray([0.0, 1e-30, 1.0, 1e30], precision)
    np.testing.assert_array_equal(root(x)[1:], np.sqrt(np.asarray(x)[1:]))
    np.testing.assert_allclose(root(x, 3.0), np.sqrt(np.asarray(x) + 3.0), rtol=4 * info.eps)
    assert root(x)[0] >= (1e-19 if precision == "float32" else 1e-154)
    assert 0 / root(x)[0] == 0
    for argument in (0, 1):
        assert jnp.isfinite(jax.grad(root, argument)(x[0], jnp.zeros_like(x[0])))


@pytest.mark.parametrize(
    ("param", "default", "real", "half"),
    [
        ("float16", "float32", "float32", "bfloat16"),
        ("bfloat16", "float32", "float32", "bfloat16"),
        ("float32", "float32", "float32", "bfloat16"),
        ("float64", "float64", "float64", "bfloat16"),
        ("complex64", "complex64", "float32", "complex64"),
        ("complex128", "complex128", "float64", "complex64"),
    ],
)
def test_accumulator_dtypes(param, default, real, half, x64):
    p = jnp.ones(2, param)
    assert accumulator(p).dtype == default
    assert accumulator(p, real=True).dtype == real
    assert accumulator(p, dtype=jnp.bfloat16).dtype == half
    assert accumulator(p, dtype=jnp.bfloat16, real=True).dtype == jnp.bfloat16
    for a in (accumulator(p, 0.5), jax.jit(accumulator)(p, 0.5)):
        np.testing.assert_array_equal(a, np.full(2, 0.5))
        assert not a.weak_type


def test_accumulator_of_broken_parameters_is_clean():
    np.testing.assert_array_equal(
        accumulator(jnp.array([jnp.nan, jnp.inf]), 0.1), np.float32([0.1] * 2)
    )


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_accumulator_takes_the_sharding(jit):
    mesh = jax.make_mesh((8,), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    p = jax.device_put(jnp.ones((8, 2), jnp.bfloat16), sharding)
    found = (jax.jit(accumulator) if jit else accumulator)(p)
    assert found.sharding.is_equivalent_to(sharding, 2)


def test_widen_and_narrow(x64):
    wide = ["float32", "float32", "float32", "float64", "complex64", "complex128"]
    for dtype, expected in zip(DTYPES, wide, strict=True):
        x = jnp.ones(2, dtype)
        assert widen(x).dtype == expected
        assert jnp.finfo(in_precision(x, double=True).dtype).bits == 64
        assert jnp.finfo(in_precision(x, double=False).dtype).bits == 32
        assert narrow(widen(x), dtype).dtype == dtype
    assert narrow(jnp.array([1 + 2j]), jnp.float32) == 1.0


# A rule of one's own.


class RowsState(NamedTuple):
    count: Any
    norm: Any  # one number a leaf
    anchor: Any


def pull_to_start(rate):
    """Normalised by the largest norm so far, and pulled back to where it began."""

    def init(p):
        return jnp.zeros(()), jnp.asarray(p, jnp.float32)

    def scalars(t):
        return {"scale": rate / t}

    def rule(g, norm, anchor, *, p, scale):
        norm = jnp.maximum(norm, jnp.sqrt(jnp.sum(g * g)))
        return -scale * (g / norm + p - anchor), norm, anchor

    return gdfx.per_leaf(RowsState, init, rule, scalars=scalars)


def test_a_rule_with_parameters_scalars_and_one_number_a_leaf():
    tx = pull_to_start(0.5)
    start = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([[1.0]], jnp.bfloat16)}
    state = tx.init(start)
    assert jax.tree.map(jnp.shape, state.norm) == {"a": (), "b": ()}
    params = jax.tree.map(lambda p: p + 1, start)
    for t in (1, 2):
        updates, state = jax.jit(tx.update)(start, state, params)
        np.testing.assert_allclose(updates["a"], -0.5 / t * np.array([1.6, 1.8]), rtol=1e-6)
        assert updates["b"].dtype == jnp.bfloat16
        assert float(updates["b"][0, 0]) == -1.0 / t
        assert state.count == t
    np.testing.assert_allclose(state.norm["a"], 5.0, rtol=1e-6)
    with pytest.raises(ValueError, match="pull_to_start needs the parameters"):
        tx.update(start, state)


class PlainState(NamedTuple):
    sum: Any


@dataclasses.dataclass
class Unregistered:
    sum: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    count: Any
    sum: Any


class SteppedState(NamedTuple):
    step: Any
    sum: Any


class NumberState(NamedTuple):
    d: Any


class NoiseState(NamedTuple):
    key: Any


class Rule:
    def __call__(self, g, s):
        return g, s + g


def needs(**words):
    """A rule that asks for words."""
    code = f"lambda g, s, *, {', '.join(words)}: (g, s)"
    return eval(code)


def faulty(rule, init=jnp.zeros_like, state=PlainState, **options):
    def call():
        rule.__qualname__ = "faulty.<locals>.rule"
        tx = gdfx.per_leaf(state, init, rule, **options)
        x = jnp.ones(3)
        return jax.jit(tx.update)(x, tx.init(x), x)

    return call


RETURNS = "faulty: the rule must return the update and 1 accumulator (sum), got"
FAULTY = [
    (faulty(lambda g, s: g), f"{RETURNS} 1 in all"),
    (faulty(lambda g, s: None), f"{RETURNS} 1 in all"),
    (faulty(lambda g, s: (g, s, s)), f"{RETURNS} 3 in all"),
    (faulty(lambda g, s: (g, None)), "faulty: the rule returned NoneType for sum"),
    (faulty(lambda g, s: (0.0, s)), "faulty: the rule returned update in shape (), not (3,)"),
    (
        faulty(lambda g, s: (jnp.append(g, 1.0), s)),
        "faulty: the rule returned update in shape (4,), not (3,)",
    ),
    (faulty(lambda g, s: (g, s[:1])), "faulty: the rule returned sum in shape (1,), not (3,)"),
    (
        faulty(lambda g, s: (g, s), init=lambda p: (p, p)),
        "faulty: init must return 1 accumulator (sum), got 2",
    ),
    (
        faulty(lambda g, s: (g, s), init=lambda p: None),
        "faulty: init must return 1 accumulator (sum), got None",
    ),
    (
        faulty(lambda g, s: (g, s + 0.5), init=lambda p: jnp.zeros(3, jnp.int32)),
        "faulty: the rule returned sum as float32, not int32",
    ),
    (
        faulty(lambda g, s: (g if g.sum() > 0 else -g, s)),
        "faulty: the rule asks for the value of a traced array, as if, while, float() and int() "
        "do; choose with jnp.where, and call jax.debug.print to see it",
    ),
    (
        faulty(needs(c=1), state=Registered, scalars=lambda t: {"c": 1 if t > 1 else 0}),
        "faulty: scalars asks for the value of a traced array, as if, while, float() and int() "
        "do; choose with jnp.where, and call jax.debug.print to see it",
    ),
    (
        faulty(lambda t, g, s: (g, s)),
        "faulty: the rule must take (g, sum) by position, the gradient and the state's fields, "
        "and all else by keyword, after a *; it takes (t, g, s)",
    ),
    (
        faulty(lambda g: g),
        "faulty: the rule must take (g, sum) by position, the gradient and the state's fields, "
        "and all else by keyword, after a *; it takes (g)",
    ),
    (
        faulty(needs(step=1)),
        "faulty: the rule asks for step; what there is: t, value, p, key, path",
    ),
    (
        faulty(needs(c=1), state=Registered, scalars=lambda t: {"c1": t}),
        "faulty: the rule asks for c; what there is: t, value, p, key, path, c1",
    ),
    (
        faulty(needs(c=1), state=Registered, scalars=lambda t: t),
        "faulty: scalars must return a dict of numbers by name, got DynamicJaxprTracer",
    ),
    (
        faulty(needs(c=1), state=Registered, scalars=lambda step: {}),
        "faulty: scalars asks for step; what there is: t, value",
    ),
    (faulty(needs(t=1)), "faulty: t is the step's number; give PlainState a field count"),
    (
        faulty(needs(value=1)),
        "faulty needs the loss: call update(gradients, state, params, value=loss)",
    ),
    (
        faulty(lambda g, s: (g, s), state=SteppedState),
        "faulty: the rule must take (g, step, sum) by position, the gradient and the state's "
        "fields, and all else by keyword, after a *; it takes (g, s); the field that counts steps "
        "is called count, not step",
    ),
    (
        faulty(lambda g, s: (g, s), key=jax.random.key(0)),
        "faulty: a random key needs both: PlainState a field key, which holds the next one, and "
        "per_leaf the first one, as in key=jax.random.key(0)",
    ),
    (
        faulty(needs(key=1)),
        "faulty: key is a random key; give PlainState a field key, and per_leaf the first one, as "
        "in key=jax.random.key(0)",
    ),
    (
        faulty(lambda g: g, state=NoiseState, init=lambda p: (), key=0),
        "faulty: key must be a random key, such as jax.random.key(0), got 0",
    ),
    (
        faulty(lambda g, s: (g, s), scalars=dict),
        "faulty: scalars has no signature to read; write a function around it",
    ),
    (
        faulty(lambda g, s: (g, s), numbers={"d": 1.0}),
        "faulty: numbers has d, but PlainState has no field of that name",
    ),
    (
        faulty(lambda g, s: (g, s), measure=lambda *, t: {}),
        "faulty: measure must take (g, sum) or the first of them by position, and all else by "
        "keyword, after a *; it takes ()",
    ),
    (
        faulty(lambda g, s: (g, s), measure=lambda g, *, c1: {}),
        "faulty: measure asks for c1; what there is: t, value, p, key, path",
    ),
    (
        faulty(lambda g, s: (g, s), measure=lambda g: jnp.sum(g)),
        "faulty: measure must return a dict of numbers by name, got DynamicJaxprTracer",
    ),
    (
        faulty(lambda g, s: (g, s), measure=lambda g: {"sq": g * g}),
        "faulty: measure returned sq as an array of dtype float32 and shape (3,), not as one real "
        "number",
    ),
    (
        faulty(lambda g, s: (g, s), measure=lambda g: {"p": 1.0}),
        "faulty: measure returned p, a name that is taken; choose another",
    ),
    (
        faulty(lambda g, s: (g, s), scalars=lambda: {"path": 1.0}),
        "faulty: scalars returned path, a name that is taken; choose another",
    ),
    (
        faulty(lambda g, s: (g, s), measure=lambda g: {"sq": 1.0}, scalars=lambda norm: {}),
        "faulty: scalars asks for norm; what there is: t, value, sq",
    ),
    (
        faulty(
            *(lambda g: g, lambda p: (), NumberState),
            numbers={"d": 1.0},
            scalars=lambda d: {"d": d + jnp.ones(2)},
        ),
        "faulty: scalars returned d in shape (2,), not ()",
    ),
    (
        faulty(
            *(lambda g: g, lambda p: (), NumberState),
            numbers={"d": 1},
            scalars=lambda d: {"d": d + 0.5},
        ),
        "faulty: scalars returned d as float32, not int32",
    ),
    (
        faulty(
            *(lambda g: g, lambda p: (), NumberState),
            numbers={"d": 1.0},
            measure=lambda g: {"d": 1.0},
        ),
        "faulty: measure returned d, a name that is taken; choose another",
    ),
    (
        faulty(lambda g, s: (g, s), state=Unregistered),
        "faulty: JAX does not know Unregistered as a tree; make it a NamedTuple, or register it "
        "with jax.tree_util.register_dataclass",
    ),
    (
        faulty(lambda g, s: (g, s), state=dict),
        "faulty: the state must be a NamedTuple class, got <class 'dict'>",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), FAULTY, ids=[sentence for _, sentence in FAULTY])
def test_faulty_rules(call, sentence):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        functools.partial(lambda g, s, *, scale: (g, s + scale * g), scale=1.0),
        functools.partial(lambda scale, g, s: (g, s + scale * g), 1.0),
        lambda g, s: [g, s + g],
        lambda g, *s: (g, s[0] + g),
        lambda g, s, *, unknown=1.0: (g, s + unknown * g),
    ],
    ids=["object", "partial", "partial by position", "list", "variadic", "default"],
)
@pytest.mark.parametrize("state", [PlainState, Registered])
def test_a_rule_may_be_any_callable_and_a_state_a_dataclass(rule, state):
    tx = gdfx.per_leaf(state, jnp.zeros_like, rule)
    x = jnp.ones(3)
    new = tx.init(x)
    for _ in range(2):
        updates, new = jax.jit(tx.update)(x, new)
    np.testing.assert_array_equal(updates, x)
    np.testing.assert_array_equal(new.sum, 2 * x)


def test_a_rule_is_given_what_it_asks_for():
    seen = []

    def rule(g, s, *, t, p, value, path):
        seen.append(path)
        return t * g + p + value, s

    tx = gdfx.per_leaf(Registered, jnp.zeros_like, rule)
    params = {"a": jnp.ones(2), "b": [2 * jnp.ones(2)]}
    for update in (tx.update, jax.jit(tx.update)):
        updates, state = update(params, tx.init(params), params, value=3.0)
        assert jax.tree.map(lambda u: u.tolist(), updates) == {"a": [5.0, 5.0], "b": [[7.0, 7.0]]}
    assert seen == 2 * ["['a']", "['b'][0]"]
    assert state.count == 1


class RingState(NamedTuple):
    count: Any
    ring: Any  # the last three gradients, float32
    seen: Any  # how often a gradient was positive, int32
    ever: Any  # whether one was, bool


def test_whole_numbers_and_bools_stay_what_they_are():
    def init(p):
        return jnp.zeros((3, *p.shape)), jnp.zeros(p.shape, jnp.int32), jnp.zeros(p.shape, bool)

    def scalars(t):
        return {"slot": (t - 1) % 3}

    def rule(g, ring, seen, ever, *, slot):
        ring = ring.at[slot].set(g)
        return ring.sum(0), ring, seen + (g > 0), ever | (g > 0)

    tx = gdfx.per_leaf(RingState, init, rule, scalars=scalars)
    x = jnp.array([1.0, -1.0], jnp.bfloat16)
    state = tx.init(x)
    for scale in (1, 2, 3, 4):
        updates, state = jax.jit(tx.update)(scale * x, state)
    assert updates.tolist() == [9, -9]
    assert state.ring[:, 0].tolist() == [4, 2, 3]
    assert (state.seen.dtype, state.seen.tolist()) == (jnp.int32, [4, 0])
    assert (state.ever.dtype, state.ever.tolist()) == (jnp.bool_, [True, False])
    with pytest.raises(TypeError) as error:
        gdfx.adam(0.1).update(
            x, jax.tree.map(lambda a: a.astype(jnp.int32), gdfx.adam(0.1).init(x))
        )
    assert str(error.value) == (
        "scale_by_adam: mu (the whole tree) in the state is int32, but must be a floating or "
        "complex array"
    )


def test_second_derivatives_at_zero_are_finite(x64):
    tx = gdfx.adam(0.1)
    zero = jnp.zeros(2)

    def update(g):
        return tx.update(g, tx.init(zero))[0].sum()

    assert jnp.isfinite(jax.hessian(update)(zero)).all()


def test_a_word_with_a_default_is_given_where_it_is_there():
    def scalars(t, value=7.0):
        return {"seen": value}

    def rule(g, s, *, seen, value=None, p=None):
        return g * seen if value is None else g * value, s

    tx = gdfx.per_leaf(Registered, jnp.zeros_like, rule, scalars=scalars)
    x = jnp.ones(2)
    assert tx.update(x, tx.init(x))[0].tolist() == [7, 7]
    assert tx.update(x, tx.init(x), value=3.0)[0].tolist() == [3, 3]


def test_what_a_rule_returns_twice_is_the_states_own():
    """Outside jit a rule may return the gradient itself, or one array for two."""
    x = jnp.ones(3)
    w = 2 * x
    for rule in (lambda g, s: (g, g), lambda g, s: 2 * [g + s], lambda g, s, *, p: (p, p)):
        tx = gdfx.per_leaf(PlainState, jnp.zeros_like, rule)
        updates, state = tx.update(x, tx.init(x), w)
        leaves = [x, w, updates, state.sum]
        assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == 4


def test_an_imaginary_part_is_not_lost():
    tx = gdfx.per_leaf(PlainState, lambda p: jnp.zeros(p.shape), lambda g, s: (g, s + g * g))
    z = jnp.array([1 + 1j])
    with pytest.raises(TypeError, match="the rule returned sum as complex64, not float32"):
        tx.update(z, tx.init(z))


def test_a_state_has_no_array_of_the_callers_and_none_twice():
    x = jnp.ones(3)
    tx = gdfx.per_leaf(RowsState, lambda p: (p, p), lambda g, norm, anchor: (g, norm, anchor))
    for state in (tx.init(x), tx.init({"a": x, "b": x})):
        leaves = jax.tree.leaves((x, state))
        assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_arithmetic_is_in_at_least_float32_and_states_keep_their_dtype(x64):
    seen = []

    def rule(g, s):
        seen.append((g.dtype.name, s.dtype.name))
        return g, s + g

    tx = gdfx.per_leaf(State=PlainState, init=lambda p: jnp.zeros_like(p), rule=rule)
    for stored, gradient, inside in [
        ("bfloat16", "float16", ("float32", "float32")),
        ("float16", "float64", ("float64", "float64")),
        ("float64", "bfloat16", ("float64", "float64")),
        ("complex64", "float32", ("float32", "complex64")),
        ("complex64", "float64", ("float64", "complex128")),
    ]:
        state = tx.init(jnp.ones(2, stored))
        updates, new = tx.update(jnp.ones(2, gradient), state)
        assert seen.pop() == inside
        assert (new.sum.dtype, updates.dtype) == (stored, gradient)


class NormState(NamedTuple):
    count: Any
    longest: Any  # the largest norm so far, one number
    mu: Any


def by_the_longest_norm():
    """The mean gradient, divided by the largest norm that it had as a whole."""

    def measure(g, m, *, t, p):
        size = {"size": p.size} if p.ndim else {"size": 0, "points": 1}
        return {"sq": jnp.sum(abs_sq(ema(m, g, 0.5))), "late": t > 2} | size

    def scalars(sq, longest, late):
        return {"longest": jnp.maximum(longest, jnp.sqrt(sq)), "late": late}

    def rule(g, m, *, longest, size, late, points=0):
        m = ema(m, g, 0.5)
        return m / longest + size + points + 100 * late, m

    start = {"longest": 0.0}
    return gdfx.per_leaf(
        NormState, accumulator, rule, scalars=scalars, measure=measure, numbers=start
    )


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_sums_over_the_tree_and_numbers_in_the_state(jit, dtype, x64):
    tx = by_the_longest_norm()
    params = {"a": jnp.ones((2, 3), dtype), "none": None, "b": [jnp.ones((), dtype)]}
    state = tx.init(params)
    kept = "float64" if dtype == "float64" else "float32"
    assert (state.longest.dtype, state.longest.shape, float(state.longest)) == (kept, (), 0.0)
    update = jax.jit(tx.update) if jit else tx.update
    m, longest = 0.0, 0.0
    for step, size in enumerate((4.0, 2.0, -8.0), 1):
        g = jax.tree.map(lambda p: size * p, params)  # noqa: B023
        updates, state = update(g, state, params)
        m = 0.5 * m + 0.5 * size
        longest = max(longest, 7**0.5 * abs(m))
        expected = m / longest + 7 + 200 * (step > 2)
        tolerance = {"bfloat16": 4e-3, "float32": 1e-6, "float64": 1e-15}[dtype]
        for u in jax.tree.leaves(updates):
            np.testing.assert_allclose(np.float64(u), expected, rtol=tolerance)
        np.testing.assert_allclose(
            state.longest, longest, rtol=1e-15 if kept == "float64" else 1e-6
        )
        assert state.longest.dtype == kept
    assert updates["none"] is None


def test_nothing_is_measured_where_there_is_no_gradient():
    tx = by_the_longest_norm()
    state = tx.init({"a": jnp.ones(2)})
    updates, new = tx.update({"a": None}, state, {"a": jnp.ones(2)})
    assert updates == {"a": None}
    assert (int(new.count), float(new.longest)) == (1, 0.0)
    updates, new = tx.update(
        {"a": None, "b": 2 * jnp.ones(4)},
        tx.init({"a": None, "b": jnp.ones(4)}),
        {"a": 1, "b": jnp.ones(4)},
    )
    assert float(new.longest) == 2.0


def test_sums_are_of_whole_arrays_wherever_they_lie():
    tx = by_the_longest_norm()
    params = {"a": jnp.arange(16.0), "b": jnp.ones(())}
    mesh = jax.make_mesh((8,), ("x",))
    spread = {"a": jax.device_put(params["a"], NamedSharding(mesh, PartitionSpec("x")))}
    spread["b"] = params["b"]
    for update in (tx.update, jax.jit(tx.update)):
        (here, state), (there, spread_state) = (update(p, tx.init(p), p) for p in (params, spread))
        np.testing.assert_allclose(here["a"], there["a"], rtol=1e-6)
        np.testing.assert_allclose(state.longest, spread_state.longest, rtol=1e-6)


def test_a_number_is_the_states_own():
    def scalars(value):
        return {"d": value}

    tx = gdfx.per_leaf(NumberState, lambda p: (), lambda g: g, scalars=scalars, numbers={"d": 0.0})
    value, x = jnp.float32(3.0), jnp.ones(2)
    _, state = tx.update(x, tx.init(x), value=value)
    assert state.d == 3.0
    assert state.d.unsafe_buffer_pointer() != value.unsafe_buffer_pointer()
    first, second = (
        gdfx.per_leaf(NumberState, lambda p: (), lambda g: g, numbers={"d": value}).init(x)
        for _ in range(2)
    )
    assert len({a.unsafe_buffer_pointer() for a in (value, first.d, second.d)}) == 3


@pytest.mark.parametrize(("dtype", "kept"), [("bfloat16", "float32"), ("float64", "float64")])
def test_a_list_of_numbers_is_one_array_in_the_precision_of_the_run(dtype, kept, x64):
    def scalars(d):
        return {"d": 2 * d, "d_sum": jnp.sum(d)}

    def rule(g, *, d_sum):
        return d_sum * g

    numbers = {"d": [0.5, 1.0, 1.5]}
    tx = gdfx.per_leaf(NumberState, lambda p: (), rule, scalars=scalars, numbers=numbers)
    x = jnp.ones(2, dtype)
    updates, state = tx.update(x, tx.init(x))
    np.testing.assert_array_equal(np.float64(updates), [3.0, 3.0])
    assert (state.d.dtype, state.d.tolist()) == (kept, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex64"])
def test_accumulators_of_any_kind(dtype):
    p = jnp.ones((2, 3), dtype)
    own = {"bfloat16": "float32"}.get(dtype, dtype)
    for found, kind, shape in [
        (accumulator(p), own, (2, 3)),
        (accumulator(p, real=True), "float32", (2, 3)),
        (accumulator(p, dtype=jnp.int32), "int32", (2, 3)),
        (accumulator(p, True, bool), "bool", (2, 3)),
        (accumulator(p, 2, copies=4), own, (4, 2, 3)),
        (jax.jit(lambda p: accumulator(p, 2, copies=4))(p), own, (4, 2, 3)),
    ]:
        assert (found.dtype, found.shape) == (kind, shape)
        assert len(np.unique(found)) == 1


def noise(key):
    def rule(g, *, key):
        return g + jax.random.normal(key, g.shape)

    return gdfx.per_leaf(NoiseState, lambda p: (), rule, key=key)


def test_a_random_key_for_each_leaf_and_step():
    """The same key makes the same numbers, in jit and out, on one device and on many."""
    zeros = {"a": jnp.zeros(16), "b": jnp.zeros(16)}
    mesh = jax.make_mesh((8,), ("x",))
    spread = jax.device_put(zeros, NamedSharding(mesh, PartitionSpec("x")))
    seen = []
    for key in (jax.random.key(5), jax.random.PRNGKey(5)):
        tx = noise(key)
        for update, tree in [
            (tx.update, zeros),
            (jax.jit(tx.update), zeros),
            (jax.jit(tx.update), spread),
        ]:
            state, steps = tx.init(tree), []
            assert (state.key.dtype, state.key.shape) == (jnp.uint16, (4,))
            for _ in range(2):
                updates, state = update(tree, state)
                steps += [np.asarray(updates["a"]), np.asarray(updates["b"])]
            seen.append(np.stack(steps))
    for steps in seen:
        np.testing.assert_array_equal(steps, seen[0])
        assert len(np.unique(steps)) == steps.size
    other, _ = noise(jax.random.key(6)).update(zeros, tx.init(zeros))
    again, _ = tx.update(zeros, tx.init(zeros))
    np.testing.assert_array_equal(other["a"], again["a"])  # the state's key counts
    different, _ = noise(jax.random.key(6)).update(zeros, noise(jax.random.key(6)).init(zeros))
    assert not np.array_equal(different["a"], again["a"])
    jax.random.key_data(key)  # the caller's key is the caller's


def test_what_an_optimizer_demands():
    def polyak(g, *, step):
        return step * g

    loss = gdfx.per_leaf(
        CountState,
        lambda p: (),
        polyak,
        measure=lambda g: {"sq": jnp.sum(g * g)},
        scalars=lambda value, sq: {"step": value / sq},
    )
    both = gdfx.per_leaf(CountState, lambda p: (), lambda g, *, p, value: value * p)
    for tx, expected in [
        (gdfx.sgd(0.1), set()),
        (gdfx.adamw(0.1), {"params"}),
        (optax.adamw(0.1), {"params"}),
        (gdfx.descend(loss, 1.0), {"value"}),
        (both, {"params", "value"}),
        (optax.polyak_sgd(1.0), {"value"}),
        (gdfx.skip_nonfinite(gdfx.adamw(0.1)), {"params"}),
    ]:
        assert demands(tx) == expected


class CountState(NamedTuple):
    count: Any


def test_a_rule_gets_its_step_whole_and_its_scalars_in_the_arrays_precision(x64):
    seen = []

    def rule(g, *, t, half, index):
        seen.append(tuple(x.dtype.name for x in (t, half, index)))
        return g

    def scalars(t):
        return {"half": jnp.float64(0.5), "index": t % 3}

    tx = gdfx.per_leaf(CountState, lambda p: (), rule, scalars=scalars)
    tree = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, jnp.complex128)}
    tx.update(tree, tx.init(tree))
    assert seen == [("int32", "float32", "int32"), ("int32", "float64", "int32")]


def test_an_empty_tree_has_a_state_of_empty_trees():
    tx = pull_to_start(0.5)
    updates, state = tx.update({}, tx.init({}), {})
    assert (updates, state.norm, state.anchor, state.count) == ({}, {}, {}, 1)


def test_leaves_of_equal_shape_share_one_trace():
    traces = []

    def rule(g, s):
        traces.append(g.shape)
        return g, s

    tx = gdfx.per_leaf(PlainState, lambda p: p, rule)
    params = {"a": jnp.ones(2), "b": [jnp.zeros(2), jnp.ones(2)], "c": jnp.ones(3)}
    state = tx.init(params)
    jax.jit(tx.update)(params, state)
    assert sorted(traces) == [(2,), (3,)]


# Walking down.


def identity():
    return optax.with_extra_args_support(optax.identity())


def without_schedules(weight_decay, mask=None):
    """`optax.add_decayed_weights` as it was before optax 0.2.6, which knew numbers alone."""
    assert mask is None

    def update(updates, state, params):
        return jax.tree.map(lambda g, p: g + weight_decay * p, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@pytest.mark.parametrize("older", [False, True], ids=["this optax", "optax 0.2.5"])
def test_descend_asks_schedules_from_zero(monkeypatch, older):
    if older:
        monkeypatch.setattr(optax, "add_decayed_weights", without_schedules)
    tx = gdfx.descend(
        identity(),
        lambda t: 0.5 * (t + 1),
        weight_decay=lambda t: 1.0 * t,
        mask={"a": True, "b": False},
    )
    p, g = {"a": jnp.array(2.0), "b": jnp.array(2.0)}, {"a": jnp.array(1.0), "b": jnp.array(1.0)}
    state = tx.init(p)
    for expected in ({"a": -0.5, "b": -0.5}, {"a": -1.0 * (1 + 2), "b": -1.0}):
        updates, state = tx.update(g, state, p)
        assert jax.tree.map(float, updates) == expected


def test_options_of_descend_are_given_by_name():
    tx = gdfx.descend(direction=identity(), learning_rate=0.5, weight_decay=1.0)
    assert tx.update(jnp.float32(1.0), tx.init(jnp.float32(2.0)), jnp.float32(2.0))[0] == -1.5
    with pytest.raises(TypeError, match="too many positional arguments"):
        gdfx.descend(identity(), 0.5, 1.0)


def test_descends_state_is_the_chains():
    p = {"w": jnp.ones(2)}
    ours = gdfx.descend(gdfx.scale_by_adam(), lambda t: 0.1, weight_decay=0.1)
    chain = optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(lambda t: 0.1),
    )
    chex.assert_trees_all_equal_structs(ours.init(p), chain.init(p))


def test_the_rate_brings_a_large_direction_back_into_range():
    """Momentum of the largest float16 gradients is beyond float16; η times it is not."""
    g = jnp.full(2, 65504.0, jnp.float16)
    for tx in (gdfx.momentum(1e-4), gdfx.momentum(1e-4, nesterov=True)):
        state, m = tx.init(g), 0.0
        for _ in range(8):
            updates, state = tx.update(g, state, g)
            m = 65504.0 + 0.9 * m
            look_ahead = 65504.0 + 0.9 * m
            assert updates.dtype == jnp.float16
            assert float(updates[0]) in (np.float16(-1e-4 * m), np.float16(-1e-4 * look_ahead))


WHOLE = (
    "descend: direction goes down already, as a whole optimizer does, and with a learning rate "
    "would climb; give a direction such as gdfx.scale_by_adam(), or use the optimizer as it is"
)


@pytest.mark.parametrize(
    "whole",
    [
        gdfx.sgd(0.1),
        gdfx.adam(0.1),
        gdfx.textbook.momentum(0.1),
        optax.adamw(0.1),
        optax.MultiSteps(optax.sgd(0.1), 1),
        optax.chain(gdfx.scale_by_adam(), optax.scale(-0.1)),
        gdfx.skip_nonfinite(gdfx.sgd(0.1)),
        gdfx.descend(gdfx.scale_by_momentum(), 0.1, weight_decay=0.1),
        optax.polyak_sgd(1.0),
    ],
)
def test_a_whole_optimizer_is_no_direction(whole):
    def make():
        with pytest.raises(ValueError, match="^" + re.escape(WHOLE) + "$"):
            gdfx.descend(whole, 0.1)
        return 0

    make()
    jax.jit(make)()


@pytest.mark.parametrize(
    "direction",
    [
        gdfx.scale_by_adam(),
        optax.scale_by_lion(),
        optax.identity(),
        optax.set_to_zero(),
        optax.contrib.scale_by_adopt(),
        optax.chain(optax.clip(1.0), optax.scale_by_rms()),
        optax.masked(optax.identity(), {"a": True}),  # which asks for a tree of its own
    ],
)
def test_a_direction_is_one(direction):
    tx, g = gdfx.descend(direction, 0.1), {"a": jnp.ones(2)}
    updates, _ = jax.jit(tx.update)(g, tx.init(g), g)
    assert (updates["a"] <= 0).all()

    @jax.jit
    def traced(b1):
        tx = gdfx.descend(gdfx.scale_by_adam(b1), 0.1)
        return tx.update(g, tx.init(g))

    assert (traced(0.5)[0]["a"] < 0).all()


def test_weight_decay_keeps_the_gradients_dtype():
    tx = gdfx.descend(identity(), 0.5, weight_decay=2.0**-10)
    p, g = jnp.full(2, 4.0), jnp.ones(2, jnp.bfloat16)
    updates, _ = tx.update(g, tx.init(p), p)
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(updates, jnp.full(2, -0.5 * (1 + 2.0**-8), jnp.bfloat16))
