"""What becomes a pass and what is left to XLA, as `explain` says it."""

import jax
import jax.numpy as jnp
import optax
import pytest

import gdfx

PARAMS = {"w": jnp.ones((30, 4)), "b": jnp.ones(4), "s": jnp.ones(()), "z": jnp.ones((0, 3))}


def explain(tx, params=PARAMS, **extra):
    return gdfx.one_pass(tx).explain(params, **extra)


def test_norms_schedules_and_masks_are_numbers_of_one_pass():
    """The norm and whether it is too large, two bias corrections, the rate."""
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    rate = optax.linear_schedule(1e-3, 0.0, 100)
    adamw = optax.adamw(rate, mask=matrices)
    assert explain(optax.chain(optax.clip_by_global_norm(1.0), adamw)) == (
        "one pass over memory: 2 of 4 parameters, 2 loops, 2 calls\n"
        "params['b']  float32[4]     one pass: reads 4 arrays and 5 numbers, writes 3\n"
        "params['s']  float32[]      XLA: one element\n"
        "params['w']  float32[30,4]  one pass: reads 4 arrays and 5 numbers, writes 3\n"
        "params['z']  float32[0,3]   XLA: no element"
    )


def test_one_array_alone_is_left_to_xla():
    assert explain(gdfx.sgd(0.1), {"w": jnp.ones(3)}) == (
        "one pass over memory: 0 of 1 parameters, 0 loops, 0 calls\n"
        "params['w']  float32[3]  XLA: one array is one pass there, too"
    )


def test_parts_that_look_beyond_one_element():
    """The update comes out of a conditional, and what is left is one sum."""
    text = explain(optax.MultiSteps(optax.adam(0.1), 4), {"w": jnp.ones(3)})
    assert text.splitlines()[1:3] == [
        "params['w']                       float32[3]  XLA: one array is one pass there, too",
        "state.inner_opt_state[0].mu['w']  float32[3]  XLA: a pass has no cond",
    ]


def test_an_array_made_by_xla():
    """The update is divided by the norm of each column, which XLA makes."""

    def update(g, m, p=None):
        m = 0.9 * m + g
        return g / jnp.linalg.norm(g, axis=0) + m, m

    text = explain(optax.GradientTransformation(jnp.zeros_like, update), jnp.ones((3, 2)))
    assert text.splitlines()[1] == (
        "params  float32[3,2]  one pass: reads 4 arrays (1 made by XLA) and 0 numbers, writes 2"
    )


def test_complex_numbers_are_left_to_xla():
    text = explain(gdfx.momentum(0.1), {"w": jnp.ones(3, complex)})
    said = [line.split(maxsplit=1)[1] for line in text.splitlines()[1:]]
    assert said == ["complex64[3]  XLA: a pass has no complex64"] * 2  # the parameter, its trace


def test_an_operation_that_a_pass_has_not():
    def update(g, s, p=None):
        return g + jnp.sign(s), s + 1

    tx = optax.GradientTransformation(lambda p: jnp.ones(p.shape, jnp.uint8), update)
    assert explain(tx, jnp.ones(3)) == (
        "one pass over memory: 0 of 1 parameters, 0 loops, 0 calls\n"
        "params  float32[3]  XLA: a pass has no sign of uint8\n"
        "state   uint8[3]    XLA: a pass has no sign of uint8"
    )


def test_effects():
    def update(g, s, p=None):
        jax.debug.print("{}", g[0])
        return 2 * g, s

    text = explain(optax.GradientTransformation(lambda p: p, update), jnp.ones(3))
    assert text == (
        "no pass: the step prints, calls back or has other effects\nXLA does the whole step."
    )


def test_effects_happen(capfd):
    def update(g, s, p=None):
        jax.debug.print("seen {}", g[0])
        return 2 * g, s + g

    step = gdfx.one_pass(optax.GradientTransformation(lambda p: p, update))
    step(jnp.ones(3), jnp.ones(3), jnp.ones(3))
    jax.effects_barrier()
    assert capfd.readouterr().out == "seen 1.0\n"


def test_leaves_of_one_loop_are_one_call_whatever_their_shapes():
    params = {str(n): jnp.ones((n, 2)) for n in range(1, 31)}
    text = explain(gdfx.adam(0.1), params)
    assert text.startswith("one pass over memory: 30 of 30 parameters, 1 loop, 2 calls\n")


def test_what_else_update_takes():
    """Arrays and numbers are given to the program; a function is called while it is traced."""

    def update(g, s, p=None, *, value, twice):
        return -twice(value) * g, s + g

    def step(g, s, p, **extra):
        updates, s = update(g, s, p, **extra)
        return optax.apply_updates(p, updates), s

    tx = optax.GradientTransformationExtraArgs(lambda p: p, update)
    given = {"value": 0.5, "twice": lambda x: 2 * x}
    x = jnp.arange(3.0)
    for found, expected in zip(
        gdfx.one_pass(tx)(x, x, x, **given), step(x, x, x, **given), strict=True
    ):
        assert (found == expected).all()


def test_an_error_of_the_optimizers_comes_through():
    with pytest.raises(ValueError, match=r"scale_by_adam: the gradients lack \['b'\]"):
        gdfx.one_pass(gdfx.adamw(0.1))({"w": jnp.ones(3)}, gdfx.adamw(0.1).init(PARAMS), None)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="one_pass: tx must be"):
        gdfx.one_pass(0.1)
