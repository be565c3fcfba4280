"""Laws on what an optimizer computes with: the smallest, the largest, the broken, the narrow."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import strategies as st
from jax import lax

from gdfx.core.inner import extended
from gdfx.core.words import rounded
from gdfx.testing.compare import all_finite, same, same_kinds
from gdfx.testing.draw import (
    MODERATE,
    REAL,
    Run,
    example,
    extreme,
    moderate_or_zero,
    runs,
    spelled,
    zero_or_moderate,
)
from gdfx.testing.law import BrokenLawError, law
from gdfx.testing.needs import at_other_hyperparameters, declares, deterministic, takes, tunable
from gdfx.testing.subject import Subject, Trajectory, compiled, replay, weighted
from gdfx.testing.versions import enable_x64

contract = functools.partial(law, "numbers", "contract")
courtesy = functools.partial(law, "numbers", "courtesy")
derivative = functools.partial(law, "derivatives", "courtesy")

BROKEN_NUMBERS = (float("nan"), float("inf"), float("-inf"))


def _in_double(replayed: Callable[[Run], Trajectory], run: Run) -> list[Any]:
    """The updates of the same numbers, worked out in float64."""
    with enable_x64(True):
        return jax.tree.map(np.asarray, replayed(run.cast("float64")).updates)


def _extreme_runs(subject: Subject) -> list[Any]:
    """Each size alone, at first or after a usual one; all side by side; and what is drawn of them.

    Up to the largest, and in float64 too, only where updates do not grow with gradients.
    """
    sizes, dtypes = extreme, REAL
    if subject.traits.scale != "invariant":
        sizes = functools.partial(extreme, part=1 / 8)
        dtypes = tuple(dtype for dtype in REAL if dtype != "float64")
    listed: list[Run] = []
    for dtype in dtypes:
        mixed = np.resize(np.array(sizes(dtype), jnp.dtype(dtype)), (3, 3))
        one, alone = np.ones_like(mixed[0]), [np.full_like(mixed[0], x) for x in sizes(dtype)]
        gradients = [
            *((g, g) for g in alone),
            *((one, g, g) for g in alone),
            *zip(mixed, np.flip(mixed), strict=True),
        ]
        listed += [Run(np.full_like(one, MODERATE[-1]), g) for g in gradients]
    return [*listed, runs(dtypes=dtypes, sizes=sizes)]


@courtesy(_extreme_runs)
def finite_for_finite(subject: Subject, run: Run) -> None:
    """Finite gradients, from 0 to the largest, give finite updates.

    One overflow or underflow inside a step ends a run. Where float64 does not give a finite
    update that the dtype can hold, none is asked for. Unless the updates are declared invariant
    to the gradients' scale, an eighth of the largest is the end, and float64 itself is left out.
    """
    found = subject.replay(run).updates
    for i, (u, exact) in enumerate(zip(found, _in_double(subject.replay, run), strict=True)):
        limit = float(jnp.finfo(u.dtype).max)
        for j, (x, y) in enumerate(zip(np.asarray(u, np.float64), exact, strict=True)):
            bounded = u.dtype == jnp.float64  # its updates are invariant, whatever y is
            if (bounded or abs(y) <= limit) and not np.isfinite(x):
                past = ", ".join(rounded(float(g[j])) for g in run.gradients[: i + 1])
                raise BrokenLawError(
                    f"in {u.dtype}, gradients {past} give the update {x}"
                    + f"; in float64 {rounded(y)}" * (not bounded)
                )


_ZEROS_AMONG_THEM = Run(
    np.array([1.0, -0.37, 2.6], np.float32),
    (
        np.array([0.0, 1.0, -0.37], np.float32),
        np.array([0.0, 0.0, 7.3], np.float32),
        np.array([0.0, -2.6, 0.0], np.float32),
    ),
)


@courtesy(at_other_hyperparameters(_ZEROS_AMONG_THEM), tunable)
def hyperparameters_finite(subject: Subject, case: tuple[Run, dict[str, float]]) -> None:
    """With other hyperparameters too, moderate gradients and zeros give finite updates.

    What an argument may be is a promise down to its end: memories of 0, ε = 0.
    """
    run, values = case
    updates = subject.by_operation(run, **values).updates
    all_finite(updates, f"with {spelled(values)}, the update")


@courtesy([Run(z, (z, z, z)) for dtype in REAL for z in [np.zeros(3, jnp.dtype(dtype))]])
def zero_gradient_finite(subject: Subject, run: Run) -> None:
    """A gradient that is zero from the first step on gives finite updates, in every dtype.

    Dead units and unused embeddings have such gradients. Those of −0 are the same.
    """
    updates, state = subject.replay(run)
    all_finite(updates, f"for zero gradients in {run.params.dtype}, the update")
    all_finite(state, f"after zero gradients in {run.params.dtype}, the state")
    negative = subject.replay(run.map_gradients(lambda g: -g)).updates
    same(negative, updates, f"for −0 in {run.params.dtype}, the update | for 0")


_LATE = Run(
    np.array([1, -0.37, 2.6], np.float32),
    (*[np.zeros(3, np.float32)] * 2, np.array([1, -0.37, 2.6], np.float32)),
)


@courtesy((_LATE,), declares("descends"))
def zero_first_gradient(subject: Subject, run: Run) -> None:
    """After gradients of zero, the first one that is not zero is walked down.

    A layer that is switched on later begins so; what was divided by the first gradient is NaN for
    ever.
    """
    run = run.at_origin()
    u, g = np.asarray(subject.replay(run).updates[-1], np.float64), run.gradients[-1]
    if not (u * g).sum() < 0:
        raise BrokenLawError(
            f"after two gradients of 0, the gradient [1, -0.37, 2.6] gives the update {u.tolist()}"
        )


@courtesy(
    [
        Run(np.zeros(3, jnp.dtype(dtype)), (np.array([1, -0.37, 2.6], jnp.dtype(dtype)),) * 3)
        for dtype in REAL
    ]
)
def zero_parameter_finite(subject: Subject, run: Run) -> None:
    """A parameter that is zero has finite updates, in every dtype.

    Biases begin there, and the last layers of residual branches; a step as long as the parameter
    divides by its length.
    """
    updates, state = subject.replay(run)
    all_finite(updates, f"for zero parameters in {run.params.dtype}, the update")
    all_finite(state, f"for zero parameters in {run.params.dtype}, the state")


def estimates(subject: Subject) -> str | None:
    """The law needs an estimate d in the state."""
    state = jax.eval_shape(subject.tx.init, jax.ShapeDtypeStruct((2,), jnp.float32))
    found = optax.tree_utils.tree_get_all_with_path(state, "d")
    return None if found else "its state has no estimate d"


@courtesy((None,), estimates)
def estimate_never_falls(subject: Subject, case: None) -> None:
    """Down a valley and about its bottom, the estimate d of how far it is never falls.

    It is a bound from below, or the largest distance so far: what was once seen stays seen.
    """
    del case

    def step(carry: Any, i: Any) -> Any:
        params, state = carry
        g = (params - jnp.array([3.0, -2.0])) * jnp.array([1.0, 4.0]) + jnp.sin(3.0 * i)
        updates, state = subject.tx.update(g, state, params)
        return (params + updates, state), optax.tree_utils.tree_get(state, "d")

    start = jnp.zeros(2)
    _, d = lax.scan(step, (start, subject.tx.init(start)), jnp.arange(100.0))
    if not (np.diff(d) >= 0).all():
        i = int(np.argmin(np.diff(d) >= 0))
        raise BrokenLawError(
            f"at step {i + 2} the estimate is {rounded(d[i + 1])}, after {rounded(d[i])}"
        )


def _memories(subject: Subject) -> list[dict[str, float]]:
    """As they are, and each of them short."""
    return [{}, *({name: 0.5} for name in ("decay", "rho", "b2") if name in subject.numbers)]


@courtesy(_memories)
def steady_gradient_finite(subject: Subject, memory: dict[str, float]) -> None:
    """A gradient that stays the same gives finite updates, for 300 steps.

    What an optimizer subtracts, such as the squared mean from the mean square, is then nothing but
    rounding, which may be below zero: the root of it is NaN.
    """
    tx = compiled(subject.make(**memory)) if memory else subject.compiled
    run = Run(np.ones(8, np.float32), (np.linspace(1.1, 2.2, 8, dtype=np.float32),) * 300)
    updates = replay(tx, run).updates
    beside = f", with {spelled(memory)}" if memory else ""
    all_finite(updates, f"for a gradient that stays the same{beside}, the update")


_NARROW = [
    Run(np.ones(3, jnp.dtype(dtype)), tuple(np.array(g, jnp.dtype(dtype)) for g in gradients))
    for dtype in ("float16", "bfloat16")
    for gradients in (
        ([0.11, 1, 1], [0.37, -1, -1]),  # what was summed up is taken back
        ([1, 1, 1], [2.6, 1, 1], [7.3, 1, 1]),
    )
]


@courtesy([*_NARROW, runs(dtypes=("float16", "bfloat16"))], deterministic)
def low_precision_close(subject: Subject, run: Run) -> None:
    """In bfloat16 and float16 the updates are, to a few units, those of float32.

    Arithmetic in the narrow dtype loses the method, not only digits.
    """
    eps = float(jnp.finfo(run.params.dtype).eps)
    found, expected = subject.replay(run), subject.replay(run.cast("float32"))
    names = f"the update in {run.params.dtype} | in float32"
    least = np.zeros(1, run.params.dtype)  # whose spacing small updates have
    same(found.updates, expected.updates, names, rtol=4 * eps, beside=least)


@courtesy(runs(sizes=moderate_or_zero), takes("b2"))
def long_memory_accurate(subject: Subject, run: Run) -> None:
    """With b2 = 0.99999, the updates in float32 are those of float64 to 1e-5.

    1 − bᵗ formed in float32 is off by a thousandth, and every step with it.
    """
    longer = functools.partial(subject.by_operation, b2=0.99999)
    found, expected = longer(run).updates, _in_double(longer, run)
    same(found, expected, "with b2 = 0.99999, the update in float32 | in float64", rtol=1e-5)


@courtesy(runs(), declares("elementwise"))
def single_precision_accurate(subject: Subject, run: Run) -> None:
    """The updates in float32 are those of float64 to 2e-6.

    Larger errors come from cancellation, which a reordered formula avoids.
    """
    found, expected = subject.replay(run).updates, _in_double(subject.replay, run)
    same(found, expected, "the update in float32 | in float64", rtol=2e-6)


@courtesy(("float16", "bfloat16"), takes("weight_decay"), takes("learning_rate"), deterministic)
def weight_decay_accurate(subject: Subject, dtype: str) -> None:
    """For float32 gradients, the decay λW of narrow parameters is that of float64 to 1e-5.

    In float16 1e-4 · 1e-4 is 0, and in bfloat16 every product is off by up to 0.4 %.
    """
    run = Run(np.array([1e-4, 0.3], jnp.dtype(dtype)), (np.zeros(2, np.float32),))
    decayed = functools.partial(subject.by_operation, learning_rate=1.0, weight_decay=1e-4)
    found, expected = decayed(run).updates[0], _in_double(decayed, run)[0]
    for i in range(2):
        names = f"beside a parameter {rounded(run.params[i])} in {dtype}, the decay | in float64"
        same([found[i]], [expected[i]], names, rtol=1e-5)


@courtesy((Run(np.ones(1), (np.ones(1),)),), deterministic)
def long_run_in_bfloat16(subject: Subject, run: Run) -> None:
    """After 3,000 equal gradients in bfloat16 the update is that of float32.

    Sums kept in bfloat16 stand still once an increment is below 1/256 of them.
    """

    def last(dtype: str) -> Any:
        g, p = (jnp.asarray(x, dtype) for x in (run.gradients[0], run.params))

        def step(state: Any, _: None) -> Any:
            updates, state = subject.tx.update(g, state, p)
            return state, updates

        return jax.tree.map(lambda x: x[-1], lax.scan(step, subject.tx.init(p), length=3000)[1])

    names = "the 3,000th update in bfloat16 | in float32"
    same(last("bfloat16"), last("float32"), names, rtol=2**-5)


@courtesy(("float32", "bfloat16", "float16", "float64"), declares("needs_value"))
def loss_of_every_dtype(subject: Subject, dtype: str) -> None:
    """The loss may be a Python number or a traced one of any dtype: updates and state are the same.

    Under mixed precision it is bfloat16, and it should neither narrow a step nor widen it.
    """
    run = example(tree="vector", steps=2)
    shapes = jax.tree.map(jnp.asarray, (run.params, run.gradients))

    tx = extended(subject.tx)

    def steps(value: Any) -> Any:
        params, gradients = shapes
        state, updates = tx.init(params), []
        for g in gradients:
            u, state = tx.update(g, state, params, value=value)
            updates.append(u)
        return updates, state

    found, expected = jax.jit(steps)(jnp.asarray(0.5, dtype)), steps(0.5)
    names = f"with a traced loss of {dtype}, the update | with a Python number"
    same(found[0], expected[0], names, rtol=1e-5)
    same_kinds(found, expected, f"with a traced loss of {dtype} | with a Python number")


@courtesy((1.0, 1e4))
def impulse_bounded(subject: Subject, size: float) -> None:
    """After one gradient and then a hundred of zero, no update is 10 times the usual ones.

    One bad batch before a quiet time must not throw the parameters away: m/√v grows without bound
    where v forgets faster than m. Usual is what a gradient of that size, or of 1, at every step
    gives.
    """
    signs = np.array([1, -1, 1], np.float32)
    params = jnp.zeros(3)

    def step(state: Any, g: Any) -> Any:
        updates, state = subject.tx.update(g, state, params)
        return state, updates

    def largest(first: float, later: float) -> float:
        gradients = np.full((101, 3), later, np.float32) * signs
        gradients[0] = first * signs
        return float(jnp.max(jnp.abs(lax.scan(step, subject.tx.init(params), gradients)[1])))

    usual, found = max(largest(size, size), largest(1.0, 1.0)), largest(size, 0.0)
    if not found <= 10 * usual:
        raise BrokenLawError(
            f"after one gradient of {rounded(size)} and then zeros, an update is {rounded(found)}; "
            f"with a gradient of that size, or of 1, at every step none is larger than "
            f"{rounded(usual)}"
        )


@courtesy((Run(np.ones(3, "float32"), (np.ones(3, "float32"),) * 3),))
def count_saturates(subject: Subject, run: Run) -> None:
    """A step count at the end of int32 stays there, and the updates stay finite.

    After 2,147,483,647 steps a count that wraps around makes bias corrections negative.
    """
    end = np.iinfo(np.int32).max

    def aged(leaf: Any) -> Any:
        is_count = leaf.dtype == jnp.int32 and leaf.ndim == 0
        return jnp.full_like(leaf, end - 1) if is_count else leaf

    old = jax.tree.map(aged, subject.replay(run).state)
    updates, state = replay(subject.compiled, run, old)
    all_finite(updates, "near the end of int32, the update")
    for leaf in jax.tree.leaves(state):
        if leaf.dtype == jnp.int32 and (leaf < 0).any():
            raise BrokenLawError(f"the count {end} is followed by {leaf}")


# A broken gradient.


@contract(
    st.tuples(runs(), st.sampled_from(BROKEN_NUMBERS), st.integers(0, 2)),
    declares("elementwise"),
)
def nan_stays_in_its_coordinate(subject: Subject, case: tuple[Run, float, int]) -> None:
    """A NaN or Inf in one coordinate's gradient leaves the others bitwise as they are.

    Otherwise one bad number ruins the whole model.
    """
    run, bad, i = case
    others = [j for j in range(3) if j != i]

    def rest(run: Run) -> list[Any]:
        return [u[np.array(others)] for u in map(np.asarray, subject.replay(run).updates)]

    same(rest(_spoiled(run, bad, i)), rest(run), f"beside {bad}, the update | without it")


_VERBS = {"nan": "becomes NaN", "frozen": "stands still", "recovers": "recovers"}


@contract(BROKEN_NUMBERS[:1], declares("after_nan", Any))
def after_nan_as_declared(subject: Subject, bad: float) -> None:
    """After one NaN gradient a coordinate does what is declared of it.

    Whoever relies on it, to skip a step or to stop, is told the truth.
    """
    found, words = _after(subject, bad)
    if found != subject.traits.after_nan:
        raise BrokenLawError(f"{words}; declared: {subject.traits.after_nan}")


def _bad_inputs(subject: Subject) -> list[tuple[str, float]]:
    """Gradients; and losses, where they are asked for: −Inf is the least loss of all."""
    gradients = [("gradient", x) for x in BROKEN_NUMBERS[:2]]
    return gradients + [("loss", x) for x in BROKEN_NUMBERS if subject.traits.needs_value]


@courtesy(_bad_inputs)
def nan_never_silent(subject: Subject, case: tuple[str, float]) -> None:
    """After a NaN or Inf gradient, or loss, a coordinate does not stand still unannounced.

    NaN updates are seen; a part of a model that is frozen for ever is not. It may be declared.
    """
    what, bad = case
    found, words = _after(subject, bad, what)
    if found == "frozen" != subject.traits.after_nan:
        raise BrokenLawError(words)


def _after(subject: Subject, bad: float, what: str = "gradient") -> tuple[str, str]:
    """What a coordinate does after one bad gradient or loss, as a trait and in words."""
    one = np.ones(1, np.float32)
    usual = float(subject.replay(Run(one, (one,) * 4)).updates[-1][0])
    if what == "gradient":
        spoiled = subject.replay(Run(one, (one, np.float32(bad) * one, one, one)))
    else:
        state = subject.replay(Run(one, (one,))).state
        _, state = subject.tx.update(one, state, one, value=bad)
        spoiled = replay(subject.compiled, Run(one, (one, one)), state)
    last = float(spoiled.updates[-1][0])
    if not np.isfinite(last):
        found = "nan"
    else:
        found = "recovers" if abs(last) > 1e-6 * abs(usual) else "frozen"
    return found, (
        f"after one {bad} {what} the coordinate {_VERBS[found]}: its later updates are "
        f"{rounded(last)}, not {rounded(usual)}"
    )


def _spoiled(run: Run, bad: float, i: int) -> Run:
    """The run with one number of its last gradient replaced."""
    *first, last = run.gradients
    last = last.copy()
    last[i] = bad
    return Run(run.params, (*first, last))


# Derivatives.


def _check_derivative(
    f: Callable[[Any], tuple[Any, Any]],
    point: np.ndarray,
    what: Callable[[int], str],
    smallest: float,
) -> None:
    """Finite; and where finite differences of two widths and on both sides agree, equal to them."""
    value, found = map(np.asarray, f(point))
    for i, x in enumerate(point):
        if not np.isfinite(found[i]):
            raise BrokenLawError(
                f"the derivative of the weighted updates by {what(i)} = {rounded(x)} is {found[i]}"
            )

        def slope(before: float, after: float, i: int = i) -> float:
            step = np.eye(point.size)[i]
            ahead, behind = f(point + after * step)[0], f(point - before * step)[0]
            return float((ahead - behind) / (before + after))

        h = 1e-5 * abs(x) if x else smallest
        wide, narrow = slope(h, h), slope(h / 10, h / 10)
        # Where two branches meet, the slopes before and after differ, and nothing is right.
        estimates = (wide, slope(h, 0), slope(0, h))
        smooth = all(abs(y - narrow) <= 0.02 * abs(narrow) for y in estimates)
        noise = 1e-14 * abs(float(value)) / (h / 10)
        if smooth and abs(found[i] - narrow) > 0.05 * abs(narrow) + noise:
            raise BrokenLawError(
                f"the derivative of the weighted updates by {what(i)} = {rounded(x)} is "
                f"{rounded(found[i])}, but finite differences give {rounded(narrow)}"
            )


def _check_gradient_derivative(subject: Subject, run: Run) -> None:
    shape = np.shape(run.gradients)

    def f(g: Any) -> Any:
        value, slope = subject.slope(g.reshape(shape), run.params)
        return value, slope.ravel()

    def what(i: int) -> str:
        return f"the gradient at step {i // shape[1] + 1}, [{i % shape[1]}]"

    _check_derivative(f, np.ravel(run.gradients), what, smallest=1e-10)


@derivative(runs(dtypes=("float64",), fewest=3))
def gradient_derivative(subject: Subject, run: Run) -> None:
    """The derivative of the updates by the gradients is finite, and right where there is one.

    Learning to learn, and unrolled training, differentiate through the optimizer.
    """
    _check_gradient_derivative(subject, run)


@derivative(
    [
        Run(np.zeros(3), (np.zeros(3), np.array([0.0, 1.0, -0.37]), np.zeros(3))),
        runs(dtypes=("float64",), sizes=zero_or_moderate, fewest=3),
    ]
)
def gradient_derivative_at_zero(subject: Subject, run: Run) -> None:
    """The derivative of the updates by a gradient that is zero is finite and right too.

    One dead unit, perhaps with parameters of zero, otherwise turns the whole meta-gradient into
    NaN.
    """
    _check_gradient_derivative(subject, run)


@derivative((Run(np.ones(2), (np.array([1.0, 0.0]), np.array([0.5, 2.0]), np.ones(2))),), takes())
def hyperparameter_derivative(subject: Subject, run: Run) -> None:
    """The derivative of the updates by each of its numbers is finite, and right where there is one.

    Hyperparameters are tuned by gradients too.
    """
    names = list(subject.numbers)

    @jax.jit
    @jax.value_and_grad
    def f(values: Any) -> Any:
        tx = subject.make(**dict(zip(names, values, strict=True)))
        return weighted(replay(tx, run).updates)

    point = np.array(list(subject.numbers.values()))
    _check_derivative(f, point, lambda i: names[i], smallest=1e-4)
