"""Every method keeps the laws that its record declares, and those that hold for all."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, DTYPES, VARIANTS, fields
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax import lax

from gdfx.core.arguments import rules
from gdfx.testing.versions import enable_x64

STEPS, SIZE = 3, 6
INT_MAX = np.iinfo(np.int32).max

every_variant = pytest.mark.parametrize("case", VARIANTS, ids=str)
OPTIMIZERS = [case for case in VARIANTS if case.factory is case.method.factory]
every_optimizer = pytest.mark.parametrize("case", OPTIMIZERS, ids=str)

# Numbers of ordinary size and 0: no law is blurred by underflow.
coordinates = st.one_of(st.just(0.0), st.floats(2**-7, 8.0, width=32)).flatmap(
    lambda x: st.sampled_from([x, -x])
)
gradient_runs = arrays(np.float32, (STEPS, SIZE), elements=coordinates)
vectors = arrays(np.float32, (SIZE,), elements=coordinates)


@functools.cache
def compiled(case):
    """From hyperparameters, parameters and stacked gradients to stacked updates and states."""

    @jax.jit
    def run(numbers, params, gradients):
        tx = case.make(**numbers)

        def step(state, g):
            updates, state = tx.update(g, state, params)
            return state, (updates, state)

        return lax.scan(step, tx.init(params), gradients)[1]

    return run


def play(case, gradients, params=None, **numbers):
    """Updates and states of every step; the parameters stand at 0 if not given."""
    params = jax.tree.map(lambda g: jnp.zeros_like(g[0]), gradients) if params is None else params
    return compiled(case)(case.numbers | numbers, params, gradients)


def near(found, expected):
    """Up to the rounding of sums whose terms may cancel."""
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * size)


def translates(case):
    return case.method.translates or case.factory is case.method.direction


# Laws of one run.


@every_variant
@given(gradient_runs)
def test_odd(case, gradients):
    found, expected = play(case, -gradients)[0], play(case, gradients)[0]
    assert np.array_equal(found, -expected) is case.method.odd


@every_variant
@given(gradient_runs, st.integers(-8, 8))
def test_scale_law_is_exact_for_powers_of_two(case, gradients, power):
    factor = np.float32(2.0**power)
    found = play(case, factor * gradients, **case.vanishing)[0]
    expected = play(case, gradients, **case.vanishing)[0]
    if case.method.scale == "linear":
        expected = factor * expected
    np.testing.assert_array_equal(found, expected)


@every_variant
@given(gradient_runs, st.floats(0.01, 100.0))
def test_scale_law(case, gradients, factor):
    found = play(case, np.float32(factor) * gradients, **case.vanishing)[0]
    expected = play(case, gradients, **case.vanishing)[0]
    expected *= factor if case.method.scale == "linear" else 1
    near(found, expected)


@every_variant
@given(gradient_runs, vectors, st.floats(1.0, 8.0))
def test_translation(case, gradients, params, shift):
    found = play(case, gradients, params + np.float32(shift))[0]
    expected = play(case, gradients, params)[0]
    assert np.array_equal(found, expected) is translates(case)


@every_variant
@given(gradient_runs, vectors, st.permutations(range(SIZE)))
def test_coordinates_are_alike(case, gradients, params, order):
    found = play(case, gradients[:, order], params[list(order)])[0]
    expected = play(case, gradients, params)[0][:, order]
    near(found, expected)  # a loop's remainder may be compiled otherwise than its body


@every_variant
@given(gradient_runs, vectors)
def test_a_split_leaf_moves_as_the_whole(case, gradients, params):
    halves = [jnp.split(x, 2, axis=-1) for x in (gradients, params)]
    found = jnp.concatenate(play(case, *halves)[0], axis=-1)
    near(found, play(case, gradients, params)[0])


@pytest.mark.parametrize("case", [case for case in VARIANTS if case.method.complex], ids=str)
@given(gradient_runs, gradient_runs, vectors)
def test_complex_is_a_pair_of_reals_with_one_size(case, re, im, params):
    """A phase goes through; numbers on the real axis stay there and are as without it."""
    z, p = re + 1j * im, params + 1j * params[::-1]
    expected = 1j * play(case, z, p)[0]
    found = play(case, 1j * z, 1j * p)[0]
    near(found, expected)
    near(play(case, re + 0j, params + 0j)[0], play(case, re, params)[0])


# Finite for finite.


@functools.cache
def extremes(dtype):
    """Every sequence of three gradients from 0 to the largest, each in a coordinate."""
    info = jnp.finfo(dtype)
    sizes = [0.0, info.smallest_subnormal, info.tiny, 1e-3, 1.0, info.max / 2, info.max, -info.max]
    sizes = np.array(sizes, info.dtype)
    runs = np.array(list(itertools.product(sizes, repeat=STEPS)), info.dtype).T
    if jnp.issubdtype(dtype, jnp.complexfloating):
        runs = runs + np.array(1j, dtype) * runs[:, ::-1]
    return runs


def parts(x):
    """Complex numbers as pairs of real ones; as wide as NumPy has them."""
    x = np.asarray(x)
    x = np.stack([x.real, x.imag]) if np.iscomplexobj(x) else x
    return x.astype(np.longdouble)


def representable(case, gradients, dtype):
    """Where all exact sums of a linear method, and its update, are in range.

    By its own scale law: the run of gradients brought to size 1, in float64, scaled back.
    """
    scale = np.longdouble(2.0) ** int(jnp.finfo(dtype).maxexp)
    wide = parts(gradients) / scale
    unit = wide[0] + 1j * wide[1] if np.iscomplexobj(gradients) else wide
    unit = unit.astype(np.complex128 if np.iscomplexobj(gradients) else np.float64)
    updates, states = (jax.tree.map(parts, x) for x in play(case, unit))
    rate = case.numbers.get("learning_rate", 1.0)
    limit = float(jnp.finfo(jnp.promote_types(dtype, jnp.float32)).max) * np.longdouble(1 - 1e-6)
    fits = np.abs(updates) * scale <= float(jnp.finfo(dtype).max)
    for sums in (updates / rate, *(s for s in jax.tree.leaves(states) if s.shape == fits.shape)):
        fits &= np.abs(sums) * scale <= limit
    if fits.ndim == 3:  # a complex number is out of range if one part is
        fits = fits.all(axis=0)
    return np.logical_and.accumulate(fits, axis=0)


@every_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_finite_for_finite(case, dtype, x64):
    gradients = extremes(dtype)
    updates, states = play(case, gradients)
    assert updates.dtype == dtype
    fits = True if case.method.scale == "invariant" else representable(case, gradients, dtype)
    assert np.all(jnp.isfinite(updates) | ~np.asarray(fits))
    if case.method.scale == "invariant":
        assert all(jnp.isfinite(a).all() for a in fields(states))
        updates, _ = play(case, gradients, **case.vanishing)
        assert jnp.isfinite(updates).all()


@pytest.mark.parametrize(
    "case", [case for case in OPTIMIZERS if case.method.scale == "invariant"], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_step_of_the_largest_gradient_is_a_whole_one(case, dtype, x64):
    gradients = np.zeros_like(extremes(dtype))
    gradients[0, 0] = jnp.finfo(dtype).max
    gradients[0, 1] = 1
    found = play(case, gradients)[0][0, 0]
    expected = play(case, gradients, **case.vanishing)[0][0, 1]
    np.testing.assert_allclose(
        complex(found), complex(expected), rtol=max(4 * float(jnp.finfo(dtype).eps), 1e-6)
    )


@every_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_broken_gradient_breaks_its_coordinate_alone(case, dtype, x64):
    gradients = np.ones_like(extremes(dtype))
    expected = play(case, gradients)
    gradients[1, :3] = [np.nan, np.inf, -np.inf]
    found = play(case, gradients)
    assert not jnp.isfinite(found[0][1, :3]).any()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        untouched = (..., slice(3, None)) if a.ndim == 2 else ...
        np.testing.assert_array_equal(a[untouched], b[untouched])


# Long runs.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", [c for c in CASES if fields(c.tx.init(jnp.ones(1)))], ids=str)
def test_accumulators_of_half_precision_reach_their_true_values(case, dtype, x64):
    @jax.jit
    def run(g):
        def step(state, _):
            return case.tx.update(g, state, g)[1], None

        return lax.scan(step, case.tx.init(g), length=10_000)[0]

    found, exact = run(jnp.ones(1, dtype)), run(jnp.ones(1, "float64"))
    for a, b in zip(fields(found), fields(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4)


@every_variant
def test_the_count_saturates(case):
    rates = {name for name in case.numbers if rules(case.factory)[name].schedule}
    tx, g = case.make(**dict.fromkeys(rates, optax.constant_schedule(0.1))), jnp.ones(2)
    _, state = tx.update(g, tx.init(g), g)
    state = jax.tree.map(lambda a: a if a.dtype != jnp.int32 else jnp.int32(INT_MAX - 1), state)
    for _ in range(3):
        updates, state = tx.update(g, state, g)
        assert jnp.isfinite(updates).all()
    assert all(a == INT_MAX for a in jax.tree.leaves(state) if a.dtype == jnp.int32)


# Derivatives.

MODERATE = {"eps": 1e-3, "eps_root": 1e-3, "b2": 0.99, "weight_decay": 0.01}
POINTS = np.array([0.0, 1e-3, 0.3, -2.0])
PATTERN = np.array([[1.0, 1.0], [0.5, 2.0], [-0.7, 3.0]])  # of each gradient, and of its update


def total(case, numbers, g):
    """The weighted sum of three updates, coordinate by coordinate."""
    tx, params = case.make(**numbers), jnp.full_like(g, 0.5)

    def step(state, row):
        updates, state = tx.update(row[0] * g, state, params)
        return state, row[1] * updates

    return lax.scan(step, tx.init(params), jnp.asarray(PATTERN, g.dtype))[1].sum(axis=0)


@functools.cache
def derivatives(case):
    return jax.jit(jax.grad(lambda numbers, g: total(case, numbers, g).sum(), argnums=(0, 1)))


@functools.cache
def values(case):
    return jax.jit(functools.partial(total, case))


def differences(case, numbers, g, step):
    """Central differences in float64, by each hyperparameter and by each coordinate."""
    f = values(case)
    by_number = {}
    for name, x in numbers.items():
        high, low = (f(numbers | {name: x * (1 + s)}, g).sum() for s in (1e-6, -1e-6))
        by_number[name] = (high - low) / (2e-6 * x) if x else None
    return by_number, (f(numbers, g + step) - f(numbers, g - step)) / (2 * step)


def both_derivatives(case, numbers, g):
    """In float64, and in float32 as a user without x64 has them."""
    with enable_x64(False):
        single = derivatives(case)({k: np.float32(v) for k, v in numbers.items()}, np.float32(g))
    return derivatives(case)(numbers, g), jax.tree.map(np.float64, single)


@every_optimizer
def test_derivatives(case, x64):
    numbers = case.numbers | {k: v for k, v in MODERATE.items() if k in case.numbers}
    exact_numbers, exact_g = differences(case, numbers, POINTS, 1e-6)
    for (by_number, by_g), rtol in zip(
        both_derivatives(case, numbers, POINTS), (1e-6, 2e-3), strict=True
    ):
        np.testing.assert_allclose(by_g, exact_g, rtol=rtol, atol=rtol)
        for name, exact in exact_numbers.items():
            np.testing.assert_allclose(by_number[name], exact, rtol=rtol, atol=rtol, err_msg=name)


@every_optimizer
def test_derivatives_at_zero_gradients(case, x64):
    zero = np.zeros(4)
    # At its defaults a method may turn at the size of ε: the difference is taken well within.
    exact_numbers, exact_g = differences(case, case.numbers, zero, 1e-13)
    for by_number, by_g in both_derivatives(case, case.numbers, zero):
        np.testing.assert_allclose(by_g, exact_g, rtol=1e-3)
        for name, exact in exact_numbers.items():
            assert np.isfinite(by_number[name]), name
            if exact is not None:
                np.testing.assert_allclose(by_number[name], exact, rtol=1e-3, atol=1e-7)
    for found in both_derivatives(case, case.numbers | case.vanishing, zero):
        assert all(np.isfinite(d).all() for d in jax.tree.leaves(found))
