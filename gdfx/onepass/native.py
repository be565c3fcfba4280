"""From a loop to machine code that XLA can call, in memory alone.

llvmlite is imported when the first loop is compiled.
"""

import ctypes
import functools
import hashlib
import importlib
import platform
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.ffi

from gdfx.onepass.handler import NAME, module
from gdfx.onepass.interface import Interface, UnknownInterfaceError, interface
from gdfx.onepass.loop import Loop

_PROCESSORS = {"x86_64", "amd64", "aarch64", "arm64"}
_SYSTEMS = {"Linux", "Darwin"}
_lock = threading.Lock()
_kept: dict[str, Any] = {}  # machine code by target name, never freed: XLA keeps its address


def obstacle() -> str | None:
    """Why there is no machine code here; None where there is."""
    others = sorted(platforms() - {"cpu"})
    if others:  # even where the CPU is the default: nobody knows yet where the step will run
        return f"it is for CPUs, and JAX has {' and '.join(others)}"
    return _obstacle()


def platforms() -> set[str]:
    """What JAX can run on here."""
    from jax.extend.backend import backends

    return set(backends())


@functools.cache
def _obstacle() -> str | None:
    try:
        _llvm()
    except ImportError:
        return "llvmlite is not installed; pip install llvmlite"
    except OSError as error:
        return f"llvmlite does not load: {error}"
    processor, system = platform.machine(), platform.system()
    known = processor.lower() in _PROCESSORS and system in _SYSTEMS
    if not known or sys.byteorder != "little" or sys.maxsize < 2**32:
        return f"it has not been tried on {processor} under {system}"
    try:
        xla()
    except (UnknownInterfaceError, OSError) as error:
        return f"jaxlib is unknown: {error}"
    return None


@functools.cache
def xla() -> Interface:
    """The interface of the jaxlib that is installed."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    return interface(header.read_text(encoding="utf-8"))


class Unsupported(NotImplementedError):  # noqa: N818
    """No machine code can be made of a loop here."""


def target(loop: Loop) -> str:
    """Compile a loop and tell XLA; the name by which `jax.ffi.ffi_call` finds it.

    Raises:
      NotImplementedError: for an operation that a pass has not in that dtype, and where LLVM or
        the processor have not what it needs.
    """
    with _lock:  # XLA takes a name once
        return _target(loop)


@functools.cache
def _target(loop: Loop) -> str:
    processor, features = host()
    dtypes = {*loop.scalars, *loop.arrays, *(o.dtype for o in loop.operations)}
    if "float16" in dtypes and not _has_half(processor, features):
        raise Unsupported("the processor has no instruction for float16")
    text = module(loop, xla())
    digest = hashlib.sha256("\n".join([text, processor, features]).encode()).hexdigest()
    name = f"gdfx_one_pass_{digest[:32]}"
    if name not in _kept:
        register(name, *compiled(text.replace(NAME, name), name, processor, features))
    return name


def register(name: str, engine: Any, address: int) -> None:
    """Tell XLA of machine code."""
    capsule = jax.ffi.pycapsule(ctypes.c_void_p(address))
    jax.ffi.register_ffi_target(name, capsule, platform="cpu", api_version=1)
    _kept[name] = engine


def _has_half(processor: str, features: str) -> bool:
    return "+f16c" in features.split(",") or _llvm().get_default_triple().startswith(
        ("aarch64", "arm64")
    )


@functools.cache
def host() -> tuple[str, str]:
    """The processor's name and its features, as LLVM has them."""
    llvm = _llvm()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def compiled(text: str, name: str, processor: str, features: str) -> tuple[Any, int]:
    """An engine that keeps the machine code alive, and the address of a function in it."""
    llvm = _llvm()
    try:
        parsed = llvm.parse_assembly(text)
        parsed.verify()
    except RuntimeError as error:
        raise Unsupported(f"LLVM refuses it: {str(error).splitlines()[0]}") from None
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=processor, features=features, opt=3, codemodel="jitdefault", jit=True
    )
    # The text is made of vectors already: LLVM's passes would take long, and find nothing.
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine, engine.get_function_address(name)


@functools.cache
def _llvm() -> Any:
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm
