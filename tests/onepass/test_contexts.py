"""One pass wherever JAX takes a step: the same numbers, and the pass is there."""

import functools
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_close
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gdfx
from gdfx.onepass import native
from gdfx.onepass.loop import Loop, Operation
from gdfx.testing.versions import set_mesh

TX = gdfx.adam(0.1)
FAST = gdfx.one_pass(TX)
RNG = np.random.default_rng(0)
PARAMS = {
    "w": jnp.asarray(RNG.standard_normal((16, 6)), jnp.float32),
    "b": jnp.asarray(RNG.standard_normal((2, 8, 3)), jnp.float32),
    "one": jnp.ones(()),
}
GRADS = jax.tree.map(jnp.sin, PARAMS)
STATE = TX.init(PARAMS)
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute")

close = functools.partial(assert_trees_all_close, rtol=1e-6, atol=1e-7)


def plain(grads, state, params):
    updates, state = TX.update(grads, state, params)
    return optax.apply_updates(params, updates), state


EXPECTED = jax.jit(plain)(GRADS, STATE, PARAMS)


def has_pass(function, *arguments):
    return "gdfx_one_pass_" in jax.jit(function).lower(*arguments).as_text()


def test_jit():
    assert has_pass(FAST, GRADS, STATE, PARAMS)
    close(jax.jit(FAST)(GRADS, STATE, PARAMS), EXPECTED)


def test_without_jit():
    close(FAST(GRADS, STATE, PARAMS), EXPECTED)


def scanned(step):
    def run(params, state):
        def body(carry, g):
            return step(g, carry[1], carry[0]), None

        many = jax.tree.map(lambda g: jnp.stack([g, 2 * g, -g]), GRADS)
        return lax.scan(body, (params, state), many)[0]

    return run


def test_scan():
    assert has_pass(scanned(FAST), PARAMS, STATE)
    found, expected = (jax.jit(scanned(step))(PARAMS, STATE) for step in (FAST, plain))
    close(found, expected)


@pytest.mark.parametrize("due", [True, False])
def test_cond(due):
    def run(due):
        return lax.cond(due, lambda: FAST(GRADS, STATE, PARAMS), lambda: (PARAMS, STATE))

    assert has_pass(run, due)
    close(jax.jit(run)(due), EXPECTED if due else (PARAMS, STATE))


def test_donated_arrays_are_written_in_place():
    """Each where it lay, and no other memory is taken."""

    def train(params, state, grads):
        return FAST(grads, state, params)

    def places(tree):
        return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree) if x.size > 1]

    given = jax.tree.map(jnp.copy, (PARAMS, STATE))
    before = places(given)
    step = jax.jit(train, donate_argnums=(0, 1)).lower(*given, GRADS).compile()
    found = step(*given, GRADS)
    close(found, EXPECTED)
    assert places(found) == before
    assert all(x.is_deleted() for x in jax.tree.leaves(given))
    assert step.memory_analysis().temp_size_in_bytes < 1024


def test_arrays_that_are_not_donated_stay():
    before = jax.tree.map(np.array, (GRADS, STATE, PARAMS))
    jax.jit(FAST)(GRADS, STATE, PARAMS)
    assert_trees_all_close((GRADS, STATE, PARAMS), before, rtol=0, atol=0)


def test_one_array_as_two_leaves():
    """Tied parameters, and a state that is one array twice: each result has memory of its own."""

    def run(step, x, z):
        state = TX.init({"a": x, "b": x})
        mu = {"a": z, "b": z}
        state = (state[0]._replace(mu=mu, nu=mu), *state[1:])
        return step({"a": x, "b": 2 * x}, state, {"a": x, "b": x}), x + z

    x = jnp.arange(1.0, 100.0)
    found, expected = (
        jax.jit(functools.partial(run, step), donate_argnums=(0, 1))(x + 0, 0 * x)
        for step in (FAST, plain)
    )
    close(found, expected)


def test_a_weak_dtype_stays_weak():
    """Else the result of a step would be of another type than what goes into the next."""
    x = jnp.asarray(1.0) * jnp.ones(5, bool)
    found, expected = (jax.jit(step)(x, TX.init(x), x) for step in (FAST, plain))
    close(found, expected)
    assert [a.weak_type for a in jax.tree.leaves(found)] == [
        a.weak_type for a in jax.tree.leaves(expected)
    ]


def test_vmap():
    """In XLA, of an ensemble whose members have states of their own."""
    params = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), PARAMS)
    state = jax.vmap(TX.init)(params)
    found, expected = (
        jax.jit(jax.vmap(step, in_axes=(None, 0, 0)))(GRADS, state, params)
        for step in (FAST, plain)
    )
    close(found, expected)


def test_grad():
    """That of the plain step."""

    def loss(step, g):
        return sum(jnp.sum(p**2) for p in jax.tree.leaves(step(g, STATE, PARAMS)[0]))

    found, expected = (
        jax.jit(jax.grad(functools.partial(loss, step)))(GRADS) for step in (FAST, plain)
    )
    close(found, expected, atol=1e-5)


def test_grad_of_an_ensemble():
    def loss(step, grads):
        each = jax.vmap(lambda g: step(g, STATE, PARAMS)[0])(grads)
        return sum(jnp.sum(p**2) for p in jax.tree.leaves(each))

    grads = jax.tree.map(lambda g: jnp.stack([g, 2 * g]), GRADS)
    found, expected = (
        jax.jit(jax.grad(functools.partial(loss, step)))(grads) for step in (FAST, plain)
    )
    close(found, expected, atol=1e-5)


# Several devices.


def laid_out(axis):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis,) * 2)
    specs = {"w": PartitionSpec("x", "y"), "b": PartitionSpec(None, "x"), "one": PartitionSpec()}
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    on_host = jax.tree.map(np.array, (PARAMS, GRADS))
    return mesh, shardings, jax.device_put(on_host, (shardings, shardings))


@pytest.mark.parametrize("axis", [AxisType.Auto, AxisType.Explicit])
def test_sharded(axis):
    """Each device computes its part, and they exchange nothing."""
    mesh, shardings, (params, grads) = laid_out(axis)
    with set_mesh(mesh):
        state = jax.jit(TX.init)(params)
        step = jax.jit(FAST, donate_argnums=(1, 2)).lower(grads, state, params).compile()
        found = step(grads, state, params)
    assert "gdfx_one_pass_" in step.as_text()
    assert [word for word in COLLECTIVES if word in step.as_text()] == []
    close(found, EXPECTED)
    for name, sharding in shardings.items():
        for part in (found[0], found[1][0].mu, found[1][0].nu):
            assert part[name].sharding.is_equivalent_to(sharding, part[name].ndim)


@pytest.mark.parametrize("check", [True, False])
def test_shard_map(check):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))

    def first(step):
        def run(grads, params):
            return step(grads, TX.init(params), params)[0]

        spec = PartitionSpec("x")
        options = {"mesh": mesh, "in_specs": spec, "out_specs": spec, "check_vma": check}
        return jax.jit(jax.shard_map(run, **options))

    given = {"w": GRADS["w"]}, {"w": PARAMS["w"]}
    assert has_pass(first(FAST), *given)
    close(first(FAST)(*given), first(plain)(*given))


def test_parameters_on_each_device_and_a_state_dealt_out():
    """Nothing is gathered but the new parameters, as in the plain step."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    whole, part = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("x"))
    w, g = (jax.device_put(np.array(x["w"]), whole) for x in (PARAMS, GRADS))
    state = TX.init(w)
    moments = {name: jax.device_put(getattr(state[0], name), part) for name in ("mu", "nu")}
    state = jax.device_put(state, whole)
    state = (state[0]._replace(**moments), *state[1:])
    out = whole, jax.tree.map(lambda x: x.sharding, state)
    fast, xla = (
        jax.jit(step, out_shardings=out).lower(g, state, w).compile() for step in (FAST, plain)
    )
    assert fast.as_text().count("all-gather(") == xla.as_text().count("all-gather(") == 1
    close(fast(g, state, w), xla(g, state, w))


def test_shard_map_over_some_of_the_axes():
    """XLA spreads the others, and does the arithmetic."""
    mesh, *_ = laid_out(AxisType.Auto)

    def first(step):
        def run(grads, params):
            return step(grads, TX.init(params), params)[0]

        spec = PartitionSpec("x")
        options = {"mesh": mesh, "in_specs": spec, "out_specs": spec, "axis_names": {"x"}}
        return jax.jit(jax.shard_map(run, **options))

    assert not has_pass(first(FAST), GRADS["w"], PARAMS["w"])
    close(*(first(step)(GRADS["w"], PARAMS["w"]) for step in (FAST, plain)))


def test_eight_threads():
    """Each traces, compiles and runs, on arrays large enough for the pool."""
    params = {"w": jnp.arange(200_000.0)}
    grads = jax.tree.map(jnp.cos, params)
    state = TX.init(params)
    expected = jax.jit(plain)(grads, state, params)
    found = [None] * 8

    def work(i):
        tx = gdfx.adam(0.1, b1=0.9 + i / 1000)  # a loop of its own
        step = jax.jit(gdfx.one_pass(tx if i else TX))
        for _ in range(3):
            found[i] = step(grads, state, params)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(found[0], expected)
    for other in found[1:]:
        close(other[0], expected[0], rtol=1e-5)  # the first step is g/|g| whatever b1


def test_settings_for_the_whole_process():
    """They hold for the step, and not for the trial of its loop."""
    code = """
for name in ("debug_nans", "debug_infs"):
    jax.config.update(f"jax_{name}", True)
jax.config.update("jax_transfer_guard", "disallow")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
with jax.transfer_guard("allow"):
    state = tx.init(params)
step(grads, state, params)
print("one pass over memory: 2 of 2" in gdfx.one_pass(tx).explain(params))
"""
    assert run_script(code) == ["True"]


# What is refused.


def test_export_says_why_not():
    """Machine code stays in the process."""
    with pytest.raises(ValueError, match=r"(?s)Cannot serialize .*custom calls.*gdfx_one_pass_"):
        jax.export.export(jax.jit(FAST))(GRADS, STATE, PARAMS)


@pytest.mark.parametrize(
    ("scalar", "arrays", "like"),
    [
        ("float32", [("float32", 4)] * 2, [("float32", 4)] * 2),
        ("float64", [("float32", 4)] * 2, [("float32", 4)] * 2),
        ("float32", [("float32", 4), ("int32", 4)], [("float32", 4)] * 2),
        ("float32", [("float32", 4), ("float32", 5)], [("float32", 4)] * 2),
        ("float32", [("float32", 4)] * 2, [("float32", 4), ("float32", 3)]),
        ("float32", [("float32", 4)] * 2, [("float32", 4), ("float16", 4)]),
        ("float32", [("float32", 4)] * 3, [("float32", 4)] * 2),
        ("float32", [("float32", 4)] * 2, [("float32", 4)] * 3),
        ("float32", [], [("float32", 4)] * 2),
        ("float32", [], []),
    ],
)
@pytest.mark.usefixtures("x64")
def test_operands_that_do_not_fit_are_an_error(scalar, arrays, like):
    two = Loop(("float32",), ("float32",) * 2, (Operation("mul", (0, 1), "float32"),) * 2, (3, 4))
    given = [jnp.ones((), scalar), *(jnp.ones(n, dtype) for dtype, n in arrays)]
    results = [jax.ShapeDtypeStruct((n,), dtype) for dtype, n in like]
    call = jax.jit(
        lambda *given: jax.ffi.ffi_call(native.target(two), results, has_side_effect=True)(*given)
    )
    fits = scalar == "float32" and arrays == like == [("float32", 4)] * 2
    if fits or not (arrays or like):  # of no leaf at all there is nothing to do
        jax.block_until_ready(call(*given))
    else:
        with pytest.raises(Exception, match="a buffer does not belong to this pass"):
            jax.block_until_ready(call(*given))


# Other processes.

SCRIPT = """
import os, sys
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax, jax.numpy as jnp, numpy as np, optax, gdfx
tx = gdfx.adam(0.1)
params = {"w": jnp.arange(70_000.0), "b": jnp.ones((3, 5))}
grads = jax.tree.map(jnp.cos, params)
step = jax.jit(gdfx.one_pass(tx))

def plain(grads, state, params):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

def check():
    found = step(grads, tx.init(params), params)
    expected = jax.jit(plain)(grads, tx.init(params), params)
    for a, b in zip(*map(jax.tree.leaves, (found, expected))):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
"""


def run_script(code, **environment):
    path = str(Path(gdfx.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT + code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_second_process_takes_the_program_from_the_persistent_cache(tmp_path):
    """The program names the machine code by its content; each process makes that anew."""
    code = """
jax.config.update("jax_compilation_cache_dir", os.environ["CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None
)
check()
print(len(hits))
"""
    first, second = (int(run_script(code, CACHE=str(tmp_path))[0]) for _ in range(2))
    assert first == 0
    assert second >= 2  # the step in passes and the plain one


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="on Linux alone")
def test_on_one_core_and_after_a_fork():
    """A pool of one thread; and in a child, which has its parent's machine code, one of none."""
    code = """
import faulthandler, warnings
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
check()
state = tx.init(params)
found = jax.block_until_ready(step(grads, state, params))
warnings.simplefilter("ignore")  # JAX warns of forks

def forked():
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(20, exit=True)  # should it wait for a thread
        jax.block_until_ready(step(grads, state, params))
        os._exit(0)
    return os.waitpid(child, 0)[1]

# One child may have been born while a thread of JAX's held a lock; three have not.
print(any(forked() == 0 for _ in range(3)))
"""
    assert run_script(code) == ["True"]


# Where there is no machine code.


def test_without_llvmlite(monkeypatch):
    """The plain step itself, not compiled, without a word; `explain` says why."""
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.setattr(native, "_llvm", native._llvm.__wrapped__)
    native._obstacle.cache_clear()
    step = gdfx.one_pass(TX)
    try:
        assert not has_pass(step, GRADS, STATE, PARAMS)
        close(step(GRADS, STATE, PARAMS), EXPECTED)
        said = step.explain(PARAMS)
    finally:
        native._obstacle.cache_clear()
    assert said == (
        "no pass: llvmlite is not installed; pip install llvmlite\nXLA does the whole step."
    )


def test_on_another_processor(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    native._obstacle.cache_clear()
    try:
        said = gdfx.one_pass(TX).explain(PARAMS)
    finally:
        native._obstacle.cache_clear()
    assert said.startswith(f"no pass: it has not been tried on riscv64 under {platform.system()}")


def test_beside_a_gpu(monkeypatch):
    """Nobody knows, while the step is traced, where it will run."""
    monkeypatch.setattr(native, "platforms", lambda: {"cpu", "cuda"})
    step = gdfx.one_pass(TX)
    assert not has_pass(step, GRADS, STATE, PARAMS)
    assert step.explain(PARAMS).startswith("no pass: it is for CPUs, and JAX has cuda\n")
