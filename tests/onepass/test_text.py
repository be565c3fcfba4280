"""From a loop to text, and from text to machine code, without a step around it."""

import ast
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdfx.core.versions import enable_x64
from gdfx.onepass import emit, handler, native, trial
from gdfx.onepass.interface import UnknownInterfaceError, interface
from gdfx.onepass.loop import DTYPES, OPERATIONS, Literal, Loop, Operation

FLOATS = ("float32", "float64", "bfloat16", "float16")
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
TWO = Literal(0x40000000, "float32")


def descend(dtype="float32"):
    """P − 2 s g, and the sum of both."""
    return Loop(
        ("float32",),
        (dtype, dtype),
        (
            Operation("mul", (TWO, 0), "float32"),
            Operation("mul", (3, 1), dtype),
            Operation("sub", (2, 4), dtype),
            Operation("add", (1, 2), dtype),
        ),
        (5, 6),
    )


@pytest.mark.parametrize("module", [emit, handler, sys.modules[interface.__module__]])
def test_text_is_made_without_jax(module):
    tree = ast.parse(Path(module.__file__).read_text())
    names = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    outside = {n for n in names if not n.startswith("gdfx.onepass.")} - sys.stdlib_module_names
    assert {n for n in outside if n.split(".")[0] not in sys.stdlib_module_names} == set()


def test_a_turn_of_a_loop():
    body = emit.Body(2, "v")
    results = emit.loop_body(descend(), body, ["%s"], ["%g", "%p"])
    two = "<float 0x4000000000000000, float 0x4000000000000000>"
    assert body.lines == [
        f"%v0 = fmul contract <2 x float> {two}, %s",
        "%v1 = fmul contract <2 x float> %v0, %g",
        "%v2 = fsub contract <2 x float> %p, %v1",
        "%v3 = fadd contract <2 x float> %g, %p",
    ]
    assert results == ["%v2", "%v3"]


def test_narrow_numbers_are_rounded_after_each_operation():
    """The product is, before it goes into the sum: no instruction takes both."""
    body = emit.Body(1, "v")
    operations = (Operation("mul", (0, 0), "float16"), Operation("add", (1, 0), "float16"))
    emit.loop_body(Loop((), ("float16",), operations, (2,)), body, [], ["%x"])
    assert body.lines == [
        "%v0 = fpext <1 x half> %x to <1 x float>",
        "%v1 = fmul contract <1 x float> %v0, %v0",
        "%v2 = fptrunc <1 x float> %v1 to <1 x half>",
        "%v3 = fpext <1 x half> %v2 to <1 x float>",
        "%v4 = fadd contract <1 x float> %v3, %v0",
        "%v5 = fptrunc <1 x float> %v4 to <1 x half>",
        "%v6 = fpext <1 x half> %v5 to <1 x float>",
        "%v7 = fptrunc <1 x float> %v6 to <1 x half>",
    ]


def test_a_number_that_divides_is_inverted_once():
    body = emit.Body(1, "v")
    loop = Loop(("float64",), ("float64",), (Operation("div", (1, 0), "float64"),), (2,))
    assert emit.loop_body(loop, body, ["%c"], ["%x"]) == ["%v6"]
    assert [line.split(" = ")[1].split()[0] for line in body.ahead] == [
        *("call", "fcmp", "select", "fmul", "fdiv")
    ]
    assert body.lines == [
        "%v5 = fmul <1 x double> %x, %v2",
        "%v6 = fmul contract <1 x double> %v5, %v4",
    ]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [0.0, -0.0, 1.0, -3.0, "tiny", "max", "-max", np.inf, np.nan])
def test_division_by_a_number(dtype, size):
    """Also by the largest ones, whose inverse is subnormal: x/c is right where x is large, too."""
    info = jnp.finfo(dtype)
    c = {"tiny": info.smallest_normal, "max": info.max, "-max": -info.max}.get(size, size)
    loop = Loop((dtype,), (dtype,), (Operation("div", (1, 0), dtype),) * 2, (2, 3))
    x = np.array([0, 1, -3, 0.7 * info.max, info.max, np.inf, np.nan, 1e-3, 8], info.dtype)
    call = jax.jit(
        jax.ffi.ffi_call(native.target(loop), [jax.ShapeDtypeStruct(x.shape, dtype)] * 2)
    )
    with enable_x64(True):
        found = np.asarray(call(jnp.asarray(c, dtype), jnp.asarray(x))[0], np.float64)
    with np.errstate(all="ignore"):
        expected = (x.astype(np.float64) / float(c)).astype(info.dtype).astype(np.float64)
    tolerance = {"rtol": 2 * float(info.eps), "atol": float(info.smallest_normal)}
    np.testing.assert_allclose(found, expected, **tolerance)


# Every operation, in machine code and in XLA.


def loop_of(dtype, names):
    """A loop that does so many things with two arrays, a bool and a scalar of one dtype."""
    compare = {"eq", "ne", "lt", "le", "gt", "ge", "is_finite"}
    operands = {1: (1,), 2: (1, 2)}
    operations = []
    for name in names:
        match name:
            case "select_n":
                given = (3, 1, 2)
            case "clamp":
                given = (0, 1, 2)
            case "neg" | "abs" | "sign" | "sqrt" | "rsqrt" | "not" | "is_finite" | "copy":
                given = operands[1]
            case _:
                given = operands[2]
        operations.append(Operation(name, given, "bool" if name in compare else dtype))
    return Loop(
        (dtype,), (dtype, dtype, "bool"), tuple(operations), tuple(range(4, 4 + len(operations)))
    )


CONVERSIONS = {"convert_element_type", "bitcast_convert_type", "reduce_precision"}
ON_WHOLE_ALONE = {"and", "or", "xor", "not", "shift_left", "shift_right_logical"}
ON_FLOATS = sorted(OPERATIONS - CONVERSIONS - ON_WHOLE_ALONE)
ON_WHOLE = sorted(OPERATIONS - CONVERSIONS - {"div", "sqrt", "rsqrt", "is_finite"})


def agrees(loop):
    return trial.agrees(loop, native.target(loop))


@pytest.mark.parametrize("dtype", FLOATS)
def test_each_operation_on_floating_numbers(dtype):
    assert agrees(loop_of(dtype, ON_FLOATS))


@pytest.mark.parametrize("dtype", WHOLE)
def test_each_operation_on_whole_numbers(dtype):
    unsigned = dtype.startswith("u")
    assert agrees(loop_of(dtype, [n for n in ON_WHOLE if not unsigned or n not in ("abs", "sign")]))


def test_each_operation_on_bools():
    assert agrees(
        loop_of("bool", sorted({"eq", "ne", "select_n", "copy", "and", "or", "xor", "not"}))
    )


@pytest.mark.parametrize("source", sorted(DTYPES))
def test_each_conversion(source):
    """To every dtype; and as bits, where both have as many."""
    size = {d: 1 if d == "bool" else int("".join(c for c in d if c.isdigit())) for d in DTYPES}
    to = [Operation("convert_element_type", (0,), d) for d in sorted(DTYPES)]
    bits = [
        Operation("bitcast_convert_type", (0,), d)
        for d in sorted(DTYPES)
        if size[d] == size[source] > 1
    ]
    count = len(to + bits)
    assert agrees(Loop((), (source,), (*to, *bits), tuple(range(1, count + 1))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reduced_precision(dtype):
    kinds = [(8, 7), (5, 10), (5, 2), (8, 23), (3, 3)]
    operations = tuple(Operation("reduce_precision", (0,), dtype, precision=k) for k in kinds)
    assert agrees(Loop((), (dtype,), operations, tuple(range(1, len(kinds) + 1))))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("max", "min"), ("sub", "add"), ("lt", "le"), ("sqrt", "rsqrt"), ("sign", "copy")],
)
def test_a_trial_finds_other_arithmetic(right, wrong):
    """Of machine code that does one thing and is held to another."""
    assert not trial.agrees(loop_of("float32", [right]), native.target(loop_of("float32", [wrong])))


def test_a_trial_finds_a_rounding_left_out():
    """Twice: in bfloat16 1 + 1/512 is 1, and so the difference is 0."""
    dtype = "bfloat16"
    ops = (Operation("add", (0, 1), dtype), Operation("sub", (2, 0), dtype))
    kept = Loop((), (dtype, dtype), ops, (3,))
    wide = tuple(Operation("convert_element_type", (i,), "float32") for i in range(2))
    ops = (*wide, Operation("add", (2, 3), "float32"), Operation("sub", (4, 2), "float32"))
    lost = Loop((), (dtype, dtype), (*ops, Operation("convert_element_type", (5,), dtype)), (6,))
    assert not trial.agrees(lost, native.target(kept))


# Other processors.


def test_without_avx():
    """The oldest x86 of 64 bits: it is run here."""
    loop = descend()
    name = "gdfx_one_pass_without_avx"
    text = handler.module(loop, native.xla()).replace(handler.NAME, name)
    engine, address = native.compiled(text, name, "x86-64", "")
    native.register(name, engine, address)
    assert trial.agrees(loop, name)


def test_float16_without_its_instructions_is_left_to_xla(monkeypatch):
    """LLVM would call a function of the C library for each number."""
    monkeypatch.setattr(native, "host", lambda: ("x86-64", ""))
    with pytest.raises(native.Unsupported, match="no instruction for float16"):
        native.target(Loop((), ("float16",), (Operation("neg", (0,), "float16"),), (1, 1)))


def test_what_llvm_refuses_is_left_to_xla(monkeypatch):
    """Of a version with another language, say."""
    monkeypatch.setattr(native, "module", lambda loop, interface: "define nonsense")
    with pytest.raises(native.Unsupported, match="LLVM refuses it"):
        native.target(loop_of("float32", ["neg", "abs"]))


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "arm64-apple-macosx"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_text_for_arm(triple, dtype):
    """It compiles, fuses where it may, and calls nothing but what the handler does."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    loop = loop_of(dtype, ON_FLOATS) if dtype != "float32" else descend()
    text = handler.module(loop, native.xla()).replace(handler.NAME, "handler")
    parsed = llvm.parse_assembly(text)
    parsed.triple = triple
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=3)
    lines = machine.emit_assembly(parsed).replace("\t", " ").splitlines()
    called = {line.split()[1].lstrip("_") for line in lines if line.split()[:1] == ["bl"]}
    own = {"malloc", "free", "sched_yield"}
    own |= {"run_chunk", "run_job", "leave", "elements", "fits", "forget", "threads", "share"}
    assert called <= own | {"refuse", "describe"}
    if dtype == "float32":
        assert any(line.split()[:1] in (["fmls"], ["fmls.4s"]) for line in lines)


# XLA's interface.


@pytest.fixture
def header():
    return (Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h").read_text()


def test_offsets(header):
    """As a C compiler has them, in each version of the interface that there has been so far."""
    found = interface(header).numbers
    expected = {
        "CallFrame_api": 16,
        "CallFrame_ctx": 24,
        "CallFrame_stage": 32,
        "CallFrame_args": 40,
        "CallFrame_rets": 80,
        "Args_size": 16,
        "Args_types": 24,
        "Args_args": 32,
        "Buffer_dtype": 16,
        "Buffer_data": 24,
        "Buffer_rank": 32,
        "Buffer_dims": 40,
        "Api_XLA_FFI_Error_Create": 48,
        "Api_XLA_FFI_Error_Destroy": 64,
        "Api_XLA_FFI_ThreadPool_Schedule": 136,
        "Api_XLA_FFI_ThreadPool_NumThreads": 144,
        "Metadata_Extension_metadata": 24,
        "Metadata_api_version": 8,
        "size_Error_Create_Args": 28,
        "size_Error_Destroy_Args": 24,
        "size_ThreadPool_Schedule_Args": 40,
        "size_ThreadPool_NumThreads_Args": 32,
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("XLA_FFI_API_MAJOR 0", "XLA_FFI_API_MAJOR 1", "version {'MAJOR': '1'"),
        ("  void* data;\n  int64_t rank;", "  int64_t rank;", "has no data"),
        ("int64_t rank;", "int32_t rank;", "Buffer.rank is no int64_t"),
        ("  XLA_FFI_Rets rets;", "  XLA_FFI_Args rets;", "CallFrame.rets is no XLA_FFI_Rets"),
        ("XLA_FFI_DataType_BF16 = 16,", "", "has no DataType_BF16"),
        ("const XLA_FFI_Api* api;", "Unknown thing;\n  const XLA_FFI_Api* api;", "has no Unknown"),
    ],
)
def test_another_interface_is_refused(header, old, new, said):
    assert header.count(old) == 1
    with pytest.raises(UnknownInterfaceError) as error:
        interface(header.replace(old, new))
    assert said in str(error.value)
