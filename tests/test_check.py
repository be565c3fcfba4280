"""What bad input gets, word for word."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, SAMPLE
from jax.sharding import PartitionSpec

import gdfx
from gdfx import textbook
from gdfx.core.arguments import (
    Choice,
    Coefficients,
    Count,
    DType,
    Flag,
    Function,
    Key,
    Mask,
    MatricesRule,
    Number,
    OneAxis,
    Optional,
    Several,
    Transformation,
    checked,
    method_name,
    rules,
)
from gdfx.wrappers.skip import skip_nonfinite


def sentence_of(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


RATE = "a number >= 0 or a schedule"


@checked(k=Count(), beta=Number("in [0, 1]", lambda x: 0 <= x <= 1))
def mine(learning_rate, b1=0.9, k=3, beta=0.5, zeal=1.0):
    return gdfx.sgd(learning_rate)


ARGUMENT_SENTENCES = [
    (
        lambda: mine(-1),
        ValueError,
        "mine: learning_rate must be a number >= 0 or a schedule, got -1",
    ),
    (lambda: mine(0.1, k=-3), ValueError, "mine: k must be a whole number >= 0, got -3"),
    (lambda: mine(0.1, beta=7), ValueError, "mine: beta must be a number in [0, 1], got 7"),
    (lambda: mine(0.1, zeal=np.float32("nan")), ValueError, "mine: zeal must be finite, got nan"),
    (lambda: mine(0.1, zeal=-float("inf")), ValueError, "mine: zeal must be finite, got -inf"),
    (
        lambda: checked(gamma=Count())(lambda learning_rate: None),
        TypeError,
        "<lambda>: there is no argument gamma to check",
    ),
    (lambda: gdfx.sgd(-0.1), ValueError, f"sgd: learning_rate must be {RATE}, got -0.1"),
    (
        lambda: gdfx.sgd(float("nan")),
        ValueError,
        f"sgd: learning_rate must be {RATE}, got nan",
    ),
    (
        lambda: gdfx.adam(float("inf")),
        ValueError,
        f"adam: learning_rate must be {RATE}, got inf",
    ),
    (lambda: gdfx.sgd(10**400), ValueError, f"sgd: learning_rate must be {RATE}, got {10**400}"),
    (lambda: gdfx.sgd(None), TypeError, f"sgd: learning_rate must be {RATE}, got None"),
    (lambda: gdfx.sgd("0.1"), TypeError, f"sgd: learning_rate must be {RATE}, got '0.1'"),
    (lambda: gdfx.sgd(True), TypeError, f"sgd: learning_rate must be {RATE}, got True"),
    (lambda: gdfx.sgd(0.1j), TypeError, f"sgd: learning_rate must be {RATE}, got 0.1j"),
    (
        lambda: gdfx.sgd([0.1, 0.2]),
        TypeError,
        f"sgd: learning_rate must be {RATE}, got [0.1, 0.2]",
    ),
    (
        lambda: textbook.sgd(jnp.ones(2)),
        TypeError,
        f"textbook.sgd: learning_rate must be {RATE}, got an array of dtype float32 and shape (2,)",
    ),
    (
        lambda: gdfx.sgd(jnp.float32(-1.0)),
        ValueError,
        f"sgd: learning_rate must be {RATE}, got -1.0",
    ),
    (
        lambda: gdfx.momentum(0.1, decay=1.0),
        ValueError,
        "momentum: decay must be a number in [0, 1), got 1.0",
    ),
    (
        lambda: gdfx.scale_by_adam(b1=1.5),
        ValueError,
        "scale_by_adam: b1 must be a number in [0, 1), got 1.5",
    ),
    (
        lambda: gdfx.adamw(0.1, b2=-0.1),
        ValueError,
        "adamw: b2 must be a number in [0, 1), got -0.1",
    ),
    (
        lambda: textbook.adam(0.1, eps=-1),
        ValueError,
        "textbook.adam: eps must be a number >= 0, got -1",
    ),
    (
        lambda: gdfx.adam(0.1, eps=np.int32(-1)),
        ValueError,
        "adam: eps must be a number >= 0, got -1",
    ),
    (
        lambda: gdfx.adagrad(0.1, initial_accumulator_value=-0.1),
        ValueError,
        "adagrad: initial_accumulator_value must be a number >= 0, got -0.1",
    ),
    (
        lambda: gdfx.adam(0.1, b1=optax.constant_schedule(0.9)),
        TypeError,
        "adam: b1 must be a number in [0, 1), got a function; to schedule it, write "
        "optax.inject_hyperparams(adam)(b1=...)",
    ),
    (
        lambda: gdfx.momentum(0.1, nesterov=1),
        TypeError,
        "momentum: nesterov must be True or False, got 1",
    ),
    (
        lambda: gdfx.adam(0.1, nu_dtype="int32"),
        TypeError,
        "adam: nu_dtype must be None or a real floating dtype, got 'int32'",
    ),
    (
        lambda: gdfx.adam(0.1, mu_dtype="complex64"),
        TypeError,
        "adam: mu_dtype must be None or a real floating dtype, got 'complex64'",
    ),
    (
        lambda: gdfx.adagrad(0.1, accumulator_dtype="floaty"),
        TypeError,
        "adagrad: accumulator_dtype must be None or a real floating dtype, got 'floaty'",
    ),
    (
        lambda: gdfx.adamw(0.1, mask={"w": True, "b": [1]}),
        TypeError,
        "adamw: mask['b'][0] must be True or False, got 1",
    ),
    (
        lambda: gdfx.adamw(0.1, mask={"b": jnp.ones(2, bool)}),
        TypeError,
        "adamw: mask['b'] must be True or False, got an array of dtype bool and shape (2,)",
    ),
    (
        lambda: gdfx.adamw(0.1, mask={"b": jnp.int32(1)}),
        TypeError,
        "adamw: mask['b'] must be True or False, got 1",
    ),
    (
        lambda: gdfx.adamw(0.1, weight_decay=-1e-4),
        ValueError,
        "adamw: weight_decay must be a number >= 0 or a schedule, got -0.0001",
    ),
    (
        lambda: skip_nonfinite(gdfx.sgd(0.1), -1),
        ValueError,
        "skip_nonfinite: max_consecutive must be a whole number >= 0, got -1",
    ),
    (
        lambda: skip_nonfinite(gdfx.sgd(0.1), True),
        TypeError,
        "skip_nonfinite: max_consecutive must be a whole number >= 0, got True",
    ),
    (
        lambda: skip_nonfinite(gdfx.sgd(0.1), 2.0),
        TypeError,
        "skip_nonfinite: max_consecutive must be a whole number >= 0, got 2.0",
    ),
    (
        lambda: gdfx.compensated(0.1),
        TypeError,
        "compensated: tx must be an optax.GradientTransformation, got 0.1",
    ),
    (
        lambda: gdfx.stochastic_rounding(gdfx.sgd(0.1), jax.random.key(0), axis_name=0),
        TypeError,
        "stochastic_rounding: axis_name must be None, the name of a mapped axis, or a tuple of "
        "such names, got 0",
    ),
    (
        lambda: gdfx.stochastic_rounding(jax.random.key(0), gdfx.sgd(0.1)),
        TypeError,
        "stochastic_rounding: tx must be an optax.GradientTransformation, got a random key of "
        "dtype key<fry>",
    ),
    (
        lambda: gdfx.adam(lr=1e-3),
        TypeError,
        "adam: there is no argument lr; did you mean learning_rate?",
    ),
    (
        lambda: gdfx.adam(1e-3, betas=(0.9, 0.99)),
        TypeError,
        "adam: there is no argument betas; did you mean b1 and b2?",
    ),
    (
        lambda: gdfx.adamw(1e-3, weigth_decay=0.1),
        TypeError,
        "adamw: there is no argument weigth_decay; did you mean weight_decay?",
    ),
    (
        lambda: gdfx.textbook.adagrad(0.1, zeal=1),
        TypeError,
        "textbook.adagrad: there is no argument zeal; there are learning_rate, eps",
    ),
    (
        lambda: gdfx.torch.Adam(learning_rate=0.1),
        TypeError,
        "torch.Adam: there is no argument learning_rate; did you mean lr?",
    ),
    (
        lambda: gdfx.torch.Adam(b1=0.9),
        TypeError,
        "torch.Adam: there is no argument b1; did you mean betas?",
    ),
    (
        lambda: gdfx.torch.Adam(betas=0.9),
        TypeError,
        "torch.Adam: betas must be 2 numbers in [0, 1), got 0.9",
    ),
    (
        lambda: gdfx.torch.Adam(betas=(0.9, 1.0)),
        ValueError,
        "torch.Adam: betas[1] must be a number in [0, 1), got 1.0",
    ),
    (
        lambda: gdfx.torch.SGD(nesterov=True),
        ValueError,
        "torch.SGD: nesterov needs a momentum > 0 and a dampening of 0",
    ),
    (
        lambda: gdfx.torch.Adam(weight_decay=0.1).update(B, gdfx.torch.Adam().init(B)),
        ValueError,
        "weight decay needs the parameters: call update(gradients, state, params), "
        "not update(gradients, state)",
    ),
    (
        lambda: gdfx.sgd(0.1, momentum=0.9),
        TypeError,
        "sgd: there is no argument momentum; gradient descent with momentum is "
        "gdfx.momentum(learning_rate, decay=0.9)",
    ),
    (
        lambda: gdfx.sgd(0.1, nesterov=True),
        TypeError,
        "sgd: there is no argument nesterov; Nesterov's momentum is "
        "gdfx.momentum(learning_rate, nesterov=True)",
    ),
    (
        lambda: gdfx.momentum(),
        TypeError,
        "momentum: missing a required argument: 'learning_rate'; its arguments are "
        "(learning_rate, decay=0.9, nesterov=False, accumulator_dtype=None)",
    ),
    *(
        (
            lambda key=key: gdfx.stochastic_rounding(gdfx.sgd(0.1), key),
            TypeError,
            f"stochastic_rounding: key must be a random key, such as jax.random.key(0), got {seen}",
        )
        for key, seen in [
            (0, "0"),
            (jnp.uint32(0), "0"),
            (jnp.zeros(2, jnp.int32), "an array of dtype int32 and shape (2,)"),
            (jnp.zeros(3, jnp.uint32), "an array of dtype uint32 and shape (3,)"),
            (jnp.zeros(1, jnp.uint32), "an array of dtype uint32 and shape (1,)"),
            (
                jax.random.split(jax.random.key(0)),
                "an array of dtype key<fry> and shape (2,)",
            ),
        ]
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), ARGUMENT_SENTENCES)
def test_argument_sentences(call, error, sentence):
    assert sentence_of(error, call) == sentence


@pytest.mark.parametrize(
    "make",
    [
        lambda: gdfx.sgd(0),
        lambda: gdfx.sgd(np.float32(0)),
        lambda: gdfx.sgd(jnp.int32(1)),
        lambda: gdfx.momentum(0.1, 0.0),
        lambda: gdfx.momentum(0.1, nesterov=np.True_),
        lambda: gdfx.adagrad(0.1, 0.0, 0.0),
        lambda: gdfx.adam(0.0, 0.0, 0.0, 0.0, 0.0),
        lambda: gdfx.adam(0.1, b1=float(np.nextafter(1.0, 0.0))),
        lambda: gdfx.adamw(0.1, weight_decay=0.0, mask={"w": True, "b": np.False_}),
        lambda: gdfx.adamw(0.1, mask={"w": jnp.asarray(True), "b": np.asarray(False)}),
        lambda: skip_nonfinite(gdfx.sgd(0.1), 0),
        lambda: skip_nonfinite(gdfx.sgd(0.1), np.int64(1)),
        lambda: gdfx.stochastic_rounding(gdfx.sgd(0.1), jax.random.key(0)),
        lambda: gdfx.stochastic_rounding(gdfx.sgd(0.1), jax.random.PRNGKey(0)),
    ],
)
def test_the_ends_of_each_range_are_allowed(make):
    assert isinstance(make(), optax.GradientTransformationExtraArgs)


MESH = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
REPLICATED = jax.sharding.NamedSharding(MESH, PartitionSpec())

BAD = {  # of each kind of argument: wrong type, and out of range
    Number: ([None, "x", True, 1j, [0.1], np.zeros(2)], [-1e-3, -1, np.nan, np.inf, -np.inf]),
    Flag: ([None, 0, 1.0, "yes"], []),
    DType: (["int8", "complex64", bool, 3], []),
    Mask: ([{"w": 1}, [None, "x"]], []),
    Count: ([None, "x", 1.5, True], [-1]),
    Choice: ([], ["x", 1, None]),
    Key: ([None, "x", 1.5, True], []),
    Function: ([None, "x", 1.5, True], []),
    Coefficients: ([], ["x", 1, None, (1, 2), [(1, 2, 3), (1, 2)], [], "", (1, "x", 2)]),
    MatricesRule: ([True, 1, 0.5], ["x", ""]),
    OneAxis: ([None, "data", PartitionSpec("data")], [REPLICATED]),
    Several: ([None, "x", 0.5], [(), (-1.0, -1.0)]),
    Transformation: ([None, "adam", 0.1, gdfx.adam], []),
}
EVERY_ARGUMENT = [
    pytest.param(case, name, id=f"{case}-{name}")
    for case in CASES
    for name in inspect.signature(case.factory).parameters
]


@pytest.mark.parametrize(("case", "name"), EVERY_ARGUMENT)
def test_every_argument_of_every_method_is_checked(case, name):
    rule = rules(case.factory)[name]
    inside = rule.rule if isinstance(rule, Optional) else rule
    wrong, outside = BAD[type(inside)]
    if isinstance(rule, Optional):
        wrong, outside = ([x for x in values if x is not None] for values in (wrong, outside))
    if isinstance(inside, Number):
        outside = [x for x in (*outside, 0.0, 1.0, 1.5) if not (np.isfinite(x) and inside.holds(x))]
    for error, values in ((TypeError, wrong), (ValueError, outside)):
        for value in values:
            found = sentence_of(error, case.make, **{name: value})
            assert found.startswith(f"{method_name(case.factory)}: {name}")
            if isinstance(inside, Number | Flag):
                assert found.startswith(f"{method_name(case.factory)}: {name} must be {rule}, got ")


TUNABLE = [case for case in CASES if case.numbers and not case.method.needs_value]


@pytest.mark.parametrize("case", TUNABLE, ids=str)
def test_traced_hyperparameters_are_exempt(case):
    """There is nothing to look at; but a traced array of another shape is refused."""
    p = jnp.ones(2)

    @jax.jit
    def step(numbers):
        tx = case.make(**numbers)
        return tx.update(p, tx.init(p), p)[0]

    assert step({name: jnp.float32(-1.5) for name in case.numbers}).shape == (2,)
    with pytest.raises(TypeError, match=r"got an array of dtype float32 and shape \(1,\)"):
        step({name: jnp.ones(1) for name in case.numbers})


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_memory_in_a_narrow_dtype_is_refused(dtype, jit):
    """inject_hyperparams hands over 0.999 in the parameters' dtype, where it is 1."""
    init = optax.inject_hyperparams(gdfx.adam)(0.1).init
    assert sentence_of(TypeError, jax.jit(init) if jit else init, jnp.ones(2, dtype)) == (
        f"adam: b1 is {dtype}, where 0.9999 is 1; give at least float32 (to "
        "optax.inject_hyperparams: hyperparam_dtype=jnp.float32)"
    )


def test_a_whole_number_may_be_traced_for_a_memory():
    u = jax.jit(lambda b: gdfx.momentum(0.1, b).update(B, gdfx.momentum(0.1).init(B))[0])(0)
    np.testing.assert_array_equal(u, np.float32([-0.1, -0.1]))


W, B = jnp.ones((2, 3)), jnp.ones(2)
GOOD = {"w": W, "b": [B]}
ONLY = "but must be a floating or complex array"
GRADIENT_SENTENCES = [
    ({"w": W}, ValueError, "the gradients lack ['b'][0], which the parameters have"),
    (
        {"w": W, "b": [B, B]},
        ValueError,
        "the gradients have ['b'][1], which the parameters lack",
    ),
    (
        {"w": W, "b": (B,)},
        ValueError,
        "the gradients and the parameters have the same leaves in different containers: "
        "PyTreeDef({'b': (*,), 'w': *}) and PyTreeDef({'b': [*], 'w': *})",
    ),
    (
        {"w": W, "b": [jnp.ones((4, 2))]},
        ValueError,
        "gradient ['b'][0] has shape (4, 2), but its parameter has shape (2,); they must be equal",
    ),
    (
        {"w": W, "b": [1.0]},
        ValueError,
        "gradient ['b'][0] has shape (), but its parameter has shape (2,); they must be equal",
    ),
    ({"w": W, "b": [jnp.arange(2)]}, TypeError, f"gradient ['b'][0] is int32, {ONLY}"),
    ({"w": W > 0, "b": [B]}, TypeError, f"gradient ['w'] is bool, {ONLY}"),
    ({"w": W, "b": ["x"]}, TypeError, f"gradient ['b'][0] is str, {ONLY}"),
    (
        {"w": W * 1j, "b": [B]},
        TypeError,
        "gradient ['w'] is complex64, but its parameter is float32; "
        "take the real part of the gradient",
    ),
]


def speaks(case):
    """The names that may stand before a sentence about trees: of the parts that walk the tree."""
    names = {method_name(f) for f in (case.method.direction, case.factory) if f}
    return {*names, "weight decay"}


@pytest.mark.parametrize("case", SAMPLE, ids=str)
@pytest.mark.parametrize(
    ("gradients", "error", "sentence"), GRADIENT_SENTENCES, ids=[s for *_, s in GRADIENT_SENTENCES]
)
def test_gradient_sentences(case, gradients, error, sentence):
    state = case.tx.init(GOOD)
    before = jax.tree.map(np.asarray, state)
    found = sentence_of(error, case.tx.update, gradients, state, GOOD)
    assert found in {f"{speaker}: {sentence}" for speaker in speaks(case)}
    chex.assert_trees_all_equal(state, before)


PARAMETER = "but must be a floating or complex array; mask it out with optax.masked"


@pytest.mark.parametrize("case", SAMPLE, ids=str)
@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"n": jnp.arange(3)}, f"parameter ['n'] is int32, {PARAMETER}"),
        ([B, (B > 0,)], f"parameter [1][0] is bool, {PARAMETER}"),
        (jnp.arange(3), f"parameter (the whole tree) is int32, {PARAMETER}"),
        ({"n": 3}, f"parameter ['n'] is int32, {PARAMETER}"),
        ({"f": abs}, f"parameter ['f'] is builtin_function_or_method, {PARAMETER}"),
    ],
    ids=["int32", "bool", "whole", "python int", "function"],
)
def test_parameter_sentences(case, params, sentence):
    assert sentence_of(TypeError, case.tx.init, params) in {
        f"{speaker}: {sentence}" for speaker in speaks(case)
    }


def test_masked_integers_are_accepted():
    tx = optax.masked(gdfx.adam(0.1), {"w": True, "n": False})
    params = {"w": B, "n": jnp.arange(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_array_equal(updates["n"], [0, 1])


STATE_SENTENCES = [
    (
        lambda: gdfx.adamw(0.1).update(B, gdfx.adamw(0.1).init(B)),
        ValueError,
        "weight decay needs the parameters: call update(gradients, state, params), "
        "not update(gradients, state)",
    ),
    (
        lambda: gdfx.scale_by_adam().update(B, gdfx.scale_by_momentum().init(B)),
        TypeError,
        "scale_by_adam: the state must be the ScaleByAdamState that this method's init "
        "returned, got TraceState",
    ),
    (
        lambda: gdfx.adam(0.1).update(B, gdfx.adagrad(0.1).init(B)),
        TypeError,
        "the optimizer's state [0] must be ScaleByAdamState, got ScaleByRssState; pass what this "
        "optimizer's own init returned: schedules and masks change it",
    ),
    (
        lambda: gdfx.adam(0.1).update(B, gdfx.adamw(0.1).init(B), B),
        TypeError,
        "the optimizer's state must be the tuple of 2 states that its init returned, "
        "got tuple of 3",
    ),
    (
        lambda: gdfx.adam(0.1).update(B, None),
        TypeError,
        "the optimizer's state must be the tuple of 2 states that its init returned, got NoneType",
    ),
    (
        lambda: gdfx.adam(optax.constant_schedule(0.1)).update(B, gdfx.adam(0.1).init(B)),
        TypeError,
        "the optimizer's state [1] must be ScaleByScheduleState, got EmptyState; pass what this "
        "optimizer's own init returned: schedules and masks change it",
    ),
    (
        lambda: gdfx.adamw(0.1, mask={"b": True}).update(B, gdfx.adamw(0.1).init(B), B),
        TypeError,
        "weight decay: the state must be the MaskedState that this method's init returned, got "
        "EmptyState",
    ),
    (
        lambda: gdfx.sgd(lambda t: jnp.ones(2)).update(B, gdfx.sgd(lambda t: 0.1).init(B)),
        TypeError,
        "a schedule must return one real number, got an array of dtype float32 and shape (2,)",
    ),
    (
        lambda: gdfx.adamw(0.1, mask=lambda p: {"b": [1]}).init({"b": [B]}),
        TypeError,
        "weight decay: mask(params)['b'][0] must be True or False, got 1",
    ),
    (
        lambda: gdfx.textbook.sgd(lambda t: "x").update(B, textbook.sgd(0.1).init(B)),
        TypeError,
        "a schedule must return one real number, got 'x'",
    ),
    (
        lambda: textbook.sgd(0.1).update(B, textbook.sgd(0.1).init(B)._replace(count=2.5)),
        TypeError,
        "textbook.sgd: the state's count must be one whole number, got 2.5",
    ),
    (
        lambda: textbook.sgd(0.1).update(
            B, textbook.sgd(0.1).init(B)._replace(count=jnp.zeros(2, jnp.int32))
        ),
        TypeError,
        "textbook.sgd: the state's count must be one whole number, got an array of dtype int32 "
        "and shape (2,)",
    ),
    *(
        (
            lambda m=m: gdfx.scale_by_momentum().update(B, optax.TraceState(m)),
            ValueError,
            "scale_by_momentum: gradient (the whole tree) has shape (2,), but its trace in the "
            f"state has shape {m.shape}, not (2,); the state was made for other parameters",
        )
        for m in (jnp.ones(1), jnp.ones(3), jnp.ones((2, 1)), jnp.ones(()))
    ),
    (
        lambda: gdfx.descend(gdfx.scale_by_adam(), None),
        TypeError,
        "descend: learning_rate must be a number >= 0 or a schedule, got None",
    ),
    (
        lambda: gdfx.descend(gdfx.scale_by_adam(), 0.1, mask=True),
        ValueError,
        "descend: mask says which leaves decay, but weight_decay is not given",
    ),
    (
        lambda: gdfx.compensated(gdfx.sgd(0.1)).update(
            B, gdfx.compensated(gdfx.sgd(0.1)).init(jnp.ones(7)), B
        ),
        ValueError,
        "compensated: gradient (the whole tree) has shape (2,), but its compensation in the state "
        "has shape (7,), not (2,); the state was made for other parameters",
    ),
    (
        lambda: textbook.sgd(0.1).update(B, textbook.momentum(0.1).init(B)),
        TypeError,
        "textbook.sgd: the state must be the SgdState that this method's init returned, "
        "got MomentumState",
    ),
    (
        lambda: gdfx.adam(0.1).update(GOOD, gdfx.adam(0.1).init({"w": W})),
        ValueError,
        "scale_by_adam: the gradients have ['b'][0], which the state's mu lack",
    ),
    (
        lambda: gdfx.momentum(0.1).update(B, gdfx.momentum(0.1).init(W)),
        ValueError,
        "scale_by_momentum: gradient (the whole tree) has shape (2,), but its trace in the "
        "state has shape (2, 3), not (2,); the state was made for other parameters",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), STATE_SENTENCES)
def test_state_sentences(call, error, sentence):
    assert sentence_of(error, call) == sentence


@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_methods_state_is_refused(case):
    for other in CASES:
        state = other.tx.init(GOOD)
        if jax.tree.structure(state) != jax.tree.structure(case.tx.init(GOOD)):
            with pytest.raises(
                TypeError, match=r"the state must be|the optimizer's state (\[\d\] )?must be"
            ):
                case.tx.update(GOOD, state, GOOD)


def test_bad_trees_are_refused_under_jit_too():
    tx = gdfx.adam(0.1)
    with pytest.raises(ValueError, match=r"gradient \['b'\]\[0\] has shape \(3,\)"):
        jax.jit(tx.update)({"w": W, "b": [jnp.ones(3)]}, tx.init(GOOD), GOOD)
