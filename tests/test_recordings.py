"""Methods against what their authors' code, or another reference, did on the same gradients.

`tests/recordings/` has what was recorded, and the scripts that recorded it.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from recordings import keras_calls, torch_calls
from recordings.replay import BLOCKS, KEPT, LONG, gradients, losses, parameters, recorded, usual
from recordings.torch_calls import factor

import gdfx
from gdfx import MatrixAxes

LR = 0.02

AXES = {
    "['copies']": MatrixAxes(inputs=2, outputs=1, batch=0),
    "['blocks']": MatrixAxes(inputs=1, outputs=0, blocks={0: BLOCKS}),
}


def matrices(path: str, x: Any) -> MatrixAxes | None:
    """(outputs, inputs), as the references have them."""
    return None if np.ndim(x) < 2 else AXES.get(path, MatrixAxes(inputs=1, outputs=0))


def rmnp(learning_rate: float, decay: float = 0.95, **kwargs: Any) -> Any:
    return gdfx.scion(learning_rate, decay, "rmnp", 1.0, **kwargs)


class Row(NamedTuple):
    """A recording, and the call that must do the same."""

    file: str
    label: str
    make: Any
    arguments: dict[str, Any]
    tolerance: float = 1e-10  # of the largest parameter

    def __str__(self) -> str:
        return f"{self.file}-{self.label}"


SIGNS = 2e-8
"""AdaMuon's authors add 1e-7 to the norm of a matrix of signs, which is no larger than √size."""

JORDAN = {"scale": "jordan", "weight_decay": 0.1}

ROWS = [
    Row("muon", "torch", gdfx.muon, JORDAN),
    Row("muon", "match_rms_adamw", gdfx.muon, {"decay": 0.8}),
    Row("muon", "no_nesterov", gdfx.muon, JORDAN | {"nesterov": False}),
    Row("muon", "coefficients", gdfx.muon, JORDAN | {"orthogonalize": (2, -1.5, 0.5), "steps": 12}),
    Row("muon", "jordan", gdfx.muon, {"scale": "jordan", "weight_decay": 0.01}),
    Row("normuon", "default", gdfx.normuon, {"scale": "jordan"}),
    Row("normuon", "decays", gdfx.normuon, JORDAN | {"decay": 0.8, "b2": 0.5}),
    Row("adamuon", "default", gdfx.adamuon, {"eps": 1e-12, "weight_decay": 0.01}, SIGNS),
    Row(
        "adamuon",
        "no_nesterov",
        gdfx.adamuon,
        {"eps": 1e-12, "decay": 0.8, "nesterov": False, "weight_decay": 0.1},
        SIGNS,
    ),
    Row("scion", "spectral", gdfx.scion, {}),
    Row("scion", "unconstrained", gdfx.scion, {"radius": 3.0, "weight_decay": 0.0}),
    Row("scion", "sign", gdfx.scion, {"norm": "sign", "radius": 3000.0}),
    Row("scion", "row", gdfx.scion, {"norm": "row", "radius": 2.0}),
    Row("scion", "column", gdfx.scion, {"norm": "column", "radius": 2.0}),
    Row("scion_vectors", "rms", gdfx.scion, {"radius": 1.0}),
    Row("rmnp", "default", rmnp, {"nesterov": True, "weight_decay": 0.1}),
    Row("polargrad", "default", gdfx.polargrad, {"weight_decay": 0.1}),
    Row("polargrad", "polar_first", gdfx.polargrad, {"polar_first": True}),
    Row("polargrad", "quintic", gdfx.polargrad, {"decay": 0.8, "orthogonalize": "quintic"}),
]


# What came after AdamW.


def adopt_decaying(learning_rate: float, weight_decay: float, **kwargs: Any) -> Any:
    """As the authors' code, which leaves the first step out."""

    def decay(count):
        return jnp.where(count == 0, 0, weight_decay)

    return gdfx.adopt(learning_rate, weight_decay=decay, **kwargs)


def adopt_coupled(learning_rate: float, weight_decay: float) -> Any:
    return optax.chain(optax.add_decayed_weights(weight_decay), gdfx.adopt(learning_rate))


def galore(learning_rate: float, base_optimizer: Any = None, **kwargs: Any) -> Any:
    """With next to no ε, which the authors add to another root."""
    base = base_optimizer or gdfx.scale_by_adam(eps=1e-30)
    return gdfx.galore(learning_rate, matrices=matrices, base_optimizer=base, **kwargs)


ADAM = gdfx.scale_by_adam(0.5, 0.9, 1e-30)


def grokfast(learning_rate: float, link: Any, **kwargs: Any) -> Any:
    return optax.chain(link(**kwargs), gdfx.sgd(learning_rate))


EXACT = 1e-12
HEADS = {"matrices": matrices, "heads": lambda path, x: path == "['copies']"}
SHORT = HEADS | {
    "b1": 0.8,
    "b2": 0.99,
    "eps": 1e-3,
    "weight_decay": 0.1,
    "mask": lambda params: {name: name != "vector" for name in params},  # which is called a norm
}
WINDOW = {"link": gdfx.grokfast_ma, "window_size": 20}
DECAY = {"weight_decay": 0.1}
WARM = {"b3_warmup": 150, "alpha_warmup": 120, "alpha": 8.0, "warmup_from": 1} | DECAY
MEMORIES = {"b1": 0.8, "b2": 0.99, "b3": 0.995}

LATER = [
    Row("ademamix", "default", gdfx.ademamix, {"alpha": 2.0}, EXACT),
    Row("ademamix", "warm", gdfx.ademamix, WARM, EXACT),
    Row("ademamix", "short", gdfx.ademamix, WARM | MEMORIES, EXACT),
    Row("ademamix", "no_b1", gdfx.ademamix, MEMORIES | {"b1": 0, "b3": 0.999, "alpha": 2}, EXACT),
    Row("ademamix_as_is", "warm", gdfx.ademamix, WARM, 1e-4),  # 1e-8 is added to β
    Row("simplified_ademamix", "default", gdfx.simplified_ademamix, {}, EXACT),
    Row("simplified_ademamix", "alpha", gdfx.simplified_ademamix, DECAY | {"alpha": 5.0}, EXACT),
    Row(
        "simplified_ademamix",
        "warm",
        gdfx.simplified_ademamix,
        {"alpha": 2.0, "b1": 0.995, "b2": 0.9, "b1_warmup": 150, "min_b1": 0.8},
        EXACT,
    ),
    Row("adopt", "default", gdfx.adopt, {}, EXACT),
    Row("adopt", "decays", adopt_decaying, DECAY | {"b1": 0.8, "b2": 0.99, "eps": 1e-2}, EXACT),
    Row("adopt", "no_clipping", gdfx.adopt, {"b1": 0.5, "b2": 0.9, "use_clipping": False}, EXACT),
    Row("adopt", "coupled", adopt_coupled, DECAY, EXACT),
    Row("adopt", "clip", gdfx.adopt, {"clip_value_fn": lambda count: 0.1 * count**0.5}, EXACT),
    Row("laprop", "default", gdfx.laprop, {}, EXACT),
    Row("laprop", "short", gdfx.laprop, {"b1": 0.5, "b2": 0.9, "eps": 1e-3}, EXACT),
    Row("laprop", "no_momentum", gdfx.laprop, {"b1": 0.0, "b2": 0.99}, EXACT),
    Row("stable_adamw", "default", gdfx.stable_adamw, {"weight_decay": 0.01}, EXACT),
    Row(
        "stable_adamw",
        "decays",
        gdfx.stable_adamw,
        {"b1": 0.8, "b2": 0.999, "eps": 1e-2, "weight_decay": 0.3},
        EXACT,
    ),
    Row("grams", "default", gdfx.grams, {"eps": 0.0}, EXACT),
    Row("grams", "decays", gdfx.grams, DECAY | {"b1": 0.8, "b2": 0.99, "eps": 0.0}, EXACT),
    Row("mars", "default", gdfx.mars, {}, EXACT),
    Row(
        "mars",
        "decays",
        gdfx.mars,
        DECAY | {"b1": 0.9, "b2": 0.999, "gamma": 0.1, "eps": 1e-3},
        EXACT,
    ),
    Row("mars", "lion", gdfx.mars_lion, DECAY, EXACT),
    Row("mars_shampoo", "default", gdfx.mars_shampoo, DECAY | {"matrices": matrices}, 1e-10),
    Row("adam_mini", "default", gdfx.adam_mini, HEADS, EXACT),
    Row("adam_mini", "short", gdfx.adam_mini, SHORT, EXACT),
    Row("galore", "kept", galore, {"rank": 2, "update_proj_gap": 500}),
    Row("galore", "renewed", galore, {"rank": 3, "update_proj_gap": 20, "scale": 0.25}),
    Row("galore", "all", galore, {"update_proj_gap": 7, "base_optimizer": ADAM}),
    Row("came", "default", gdfx.came, {}, EXACT),
    Row(
        "came",
        "decays",
        gdfx.came,
        DECAY | MEMORIES | {"eps": 1e-8, "eps_res": 1e-6, "clip_threshold": 0.5},
        EXACT,
    ),
    Row("madgrad", "default", gdfx.madgrad, {}, EXACT),
    Row("madgrad", "decays", gdfx.madgrad, DECAY | {"momentum": 0.5, "eps": 1e-3}, EXACT),
    Row("madgrad", "no_momentum", gdfx.madgrad, {"momentum": 0.0}, EXACT),
    Row("grokfast", "ema", grokfast, {"link": gdfx.grokfast_ema}, EXACT),
    Row(
        "grokfast",
        "ema_short",
        grokfast,
        {"link": gdfx.grokfast_ema, "alpha": 0.8, "lamb": 0.5},
        EXACT,
    ),
    Row("grokfast", "ma", grokfast, WINDOW, EXACT),
    Row("grokfast", "ma_sum", grokfast, WINDOW | {"filter_type": "sum", "lamb": 0.1}, EXACT),
    Row("grokfast", "ma_at_once", grokfast, WINDOW | {"warmup": False, "lamb": 2.0}, EXACT),
    Row("acprop", "default", gdfx.acprop, {}, EXACT),
    Row(
        "acprop",
        "decays",
        gdfx.acprop,
        DECAY | {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "eps_root": 1e-3},
        EXACT,
    ),
]

BOUND = {"learning_rate": 0.3, "lower_bound": -0.5, "adapt_lower_bound": True}
LOWER = {"learning_rate": 0.3, "lower_bound": 0.2}

WITH_LOSS = [
    Row("momo", "plain", gdfx.momo, {}, EXACT),
    Row("momo", "capped", gdfx.momo, {"learning_rate": 0.01}, EXACT),
    Row(
        "momo",
        "corrected",
        gdfx.momo,
        DECAY | LOWER | {"beta": 0.7, "bias_correction": True},
        EXACT,
    ),
    Row("momo", "adapted", gdfx.momo, DECAY | BOUND, EXACT),
    Row("momo", "both", gdfx.momo, BOUND | {"lower_bound": 0.0, "bias_correction": True}, EXACT),
    Row("momo_adam", "plain", gdfx.momo_adam, {"learning_rate": 1.0}, EXACT),
    Row("momo_adam", "capped", gdfx.momo_adam, {"learning_rate": 0.01}, EXACT),
    Row(
        "momo_adam",
        "adamw",
        gdfx.momo_adam,
        DECAY | LOWER | {"b1": 0.8, "b2": 0.99, "eps": 1e-3, "divide": False},
        EXACT,
    ),
    Row("momo_adam", "adapted", gdfx.momo_adam, DECAY | BOUND, EXACT),
]


def assert_recorded(row, tx, gradients, steps):
    """The parameters after some steps are those of the reference."""
    expected = recorded(row.file, row.label)
    params = {name: jnp.asarray(parameters(name)) for name in expected}

    @jax.jit
    def run(params, gradients):
        def step(carry, g):
            params, state = carry
            g, value = g
            updates, state = tx.update(g, state, params, value=value)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return lax.scan(step, (params, tx.init(params)), gradients)[1]

    values = jnp.asarray(losses())[: steps[-1]]
    found = run(params, ({name: jnp.asarray(gradients(name)) for name in expected}, values))
    for name, theirs in expected.items():
        ours = np.asarray(found[name])[np.subtract(steps, 1)]
        off = np.max(abs(ours - theirs)) / np.max(abs(theirs))
        assert off < row.tolerance, f"{name}: off by {off:.1e} of the largest parameter"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_parameters_are_the_reference_s(row, x64):
    tx = row.make(LR, matrices=matrices, **row.arguments)
    assert_recorded(row, tx, gradients, KEPT)


@pytest.mark.parametrize("row", LATER, ids=str)
def test_after_two_hundred_steps_too(row, x64):
    assert_recorded(row, row.make(LR, **row.arguments), usual, LONG)


@pytest.mark.parametrize("row", WITH_LOSS, ids=str)
def test_with_the_loss_of_each_step_too(row, x64):
    assert_recorded(row, row.make(**row.arguments), usual, LONG)


def schedule(lr):
    """As `torch.optim.lr_scheduler.LambdaLR` and Keras's LearningRateSchedule do."""
    return lambda count: lr * factor(1.0 * count)  # else in float32


@pytest.mark.parametrize("call", torch_calls.CALLS)
def test_a_call_of_torch_is_the_same_call_here(call, x64):
    names = {"schedule": float if call.startswith("Rprop") else schedule}
    tx = eval(f"torch.{call}", {"torch": gdfx.torch, **names})
    assert_recorded(Row("torch_optim", call, None, {}, EXACT), tx, usual, LONG)


@pytest.mark.parametrize("call", keras_calls.CALLS)
def test_a_call_of_keras_is_the_same_call_here(call, x64):
    tx = eval(f"keras.{call}", {"keras": gdfx.keras, "schedule": schedule})
    assert_recorded(Row("keras_optim", call, None, {}, EXACT), tx, usual, LONG)


@pytest.mark.parametrize(
    ("dialect", "calls", "shared"),
    [("torch", torch_calls.CALLS, set()), ("keras", keras_calls.CALLS, keras_calls.BOUNDS)],
    ids=["torch", "keras"],
)
def test_every_argument_of_a_dialect_is_recorded(dialect, calls, shared):
    trees = [ast.parse(call).body[0].value for call in calls]
    said = {(tree.func.id, keyword.arg) for tree in trees for keyword in tree.keywords}
    there = {
        (name.removeprefix(f"{dialect}."), argument)
        for name, method in gdfx.METHODS.items()
        if method.dialect == dialect
        for argument in inspect.signature(method.factory).parameters
    }
    own = {("Muon", x) for x in ("matrices", "otherwise", "over")}  # gdfx's, of JAX alone
    assert {(name, x) for name, x in there - said - own if x not in shared} == set()
    assert shared <= {x for _, x in said}


DOCS = Path(__file__).parents[1] / "docs"
LINE = re.compile(
    r"^\| `(\w+)\((?:params)?(?:, )?(.*?)\)` \| `(.*?)` \| (?:`(.*)` )?\|$", re.MULTILINE
)
PAGES = {"pytorch": ("torch", torch_calls.CALLS), "keras": ("keras", keras_calls.CALLS)}
LINES = {page: LINE.findall((DOCS / f"{page}.md").read_text()) for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_every_line_of_the_page_is_recorded(page):
    calls = {re.sub(r"schedule\((.*?)\)", r"\1", call) for call in PAGES[page][1]}
    assert {kind for kind, *_ in LINES[page]} == {call.partition("(")[0] for call in calls}
    for kind, arguments, ours, _ in LINES[page]:
        assert ours == f"{kind}({arguments})"
        assert ours in calls


@pytest.mark.parametrize(
    ("call", "other"),
    [
        (f"gdfx.{PAGES[page][0]}.{ours}", other)
        for page, lines in LINES.items()
        for *_, ours, other in lines
        if other
    ],
)
def test_what_the_page_says_takes_the_same_steps_does(call, other, x64):
    names = {"gdfx": gdfx, "optax": optax, "matrices": matrices}
    both = eval(call, names), eval(other, names)
    params = jnp.asarray(parameters("tall"))

    @jax.jit
    def run(gradients):
        def step(states, g):
            pairs = [tx.update(g, s, params) for tx, s in zip(both, states, strict=True)]
            updates, states = zip(*pairs, strict=True)
            return states, updates

        return lax.scan(step, tuple(tx.init(params) for tx in both), gradients)[1]

    ours, theirs = run(jnp.asarray(usual("tall")[:30]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-14)
