"""New machine code against XLA, on hard numbers: in doubt, XLA.

Two programs that round differently are compared by what rounding does to one of them: machine code
must give what XLA gives for operands that lie a few units in the last place away.
"""

import contextlib
import functools
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdfx.core.versions import enable_x64
from gdfx.onepass import reference
from gdfx.onepass.loop import Loop

NEIGHBOURS = 5  # the numbers themselves, and as many less one moved ones
_UNITS = 4  # how far they are moved, in units in the last place
_COUNT = 512
_SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0)


def agrees(loop: Loop, target: str) -> bool:
    """Whether machine code does what XLA does."""
    # A thread of its own has no trace, mesh or setting of the caller's.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_agrees, loop, target).result()


def _agrees(loop: Loop, target: str) -> bool:
    rng = np.random.default_rng(0)
    arrays = [numbers(rng, dtype) for dtype in loop.arrays]
    near = [neighbours(rng, x) for x in arrays]
    with _own_settings():
        both = jax.jit(functools.partial(_both, loop, target))
        for size in (0.3, 2.0):
            scalars = [_scalar(dtype, size) for dtype in loop.scalars]
            results = jax.device_get(both(scalars, near))
            if not all(within(x[0], y) for x, y in zip(*results, strict=True)):
                return False
    return True


@contextlib.contextmanager
def _own_settings() -> Generator[None]:
    """Whatever a user has chosen for the whole process."""
    with contextlib.ExitStack() as stack:
        for setting in (
            enable_x64(True),
            jax.debug_nans(False),
            jax.debug_infs(False),
            jax.disable_jit(False),
            jax.transfer_guard("allow"),
            jax.default_device(jax.local_devices(backend="cpu")[0]),
        ):
            stack.enter_context(setting)
        yield


def _both(loop: Loop, target: str, scalars: Sequence[Any], arrays: Sequence[Any]) -> Any:
    shape = arrays[0].shape
    like = [jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for dtype in loop.written]
    code = jax.ffi.ffi_call(target, like)(*scalars, *arrays)
    return code, reference.run(loop, scalars, arrays)


def _scalar(dtype: str, size: float) -> np.ndarray:
    return np.asarray(size > 1 if dtype == "bool" else max(size, "int" in dtype), jnp.dtype(dtype))


def numbers(rng: np.random.Generator, dtype: Any, count: int = _COUNT) -> np.ndarray:
    """Numbers of size about 1, very large and very small ones, zeros, Inf and NaN."""
    dtype = jnp.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(count) < 0.5
    if not jnp.issubdtype(dtype, jnp.floating):
        info = jnp.iinfo(dtype)
        return rng.integers(info.min, info.max, count, dtype, endpoint=True)
    info = jnp.finfo(dtype)
    exponents = rng.uniform(info.minexp - info.nmant, info.maxexp, count)
    x = rng.standard_normal(count) * np.exp2(np.where(rng.random(count) < 0.3, exponents, 0))
    x = np.where(rng.random(count) < 0.1, rng.choice(_SPECIAL, count), x)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def neighbours(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """An array, and below it others whose numbers are moved by a few units in the last place.

    Each is moved both ways: one that stands still would leave a sum in which it is no freedom.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return np.stack([x] * NEIGHBOURS)
    bits = x.view(f"u{x.dtype.itemsize}")
    moves = rng.integers(1, _UNITS, (NEIGHBOURS, *x.shape), endpoint=True)
    moves[0] = 0
    way = rng.choice([-1, 1], x.shape)
    moves[1::2] *= way
    moves[2::2] *= -way
    near = (bits + moves.astype(bits.dtype)).view(x.dtype)
    # What is 0, Inf or NaN, or might become it, stays.
    info = jnp.finfo(x.dtype)
    with np.errstate(invalid="ignore"):
        size = np.abs(x)
        moves_on = (size > info.smallest_normal) & (size < info.max / 2)
    return np.where(moves_on, near, x)


def within(x: np.ndarray, near: np.ndarray) -> bool:
    """Whether each number lies among what neighbours give, or little beyond."""
    return bool((~outside(x, near)).all())


def outside(x: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Which numbers do not lie among the neighbours along the first axis, or little beyond."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return (x != near).all(0)
    info = jnp.finfo(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        x, near = x.astype(np.float64), near.astype(np.float64)
        nan = np.isnan(near)
        low, high = np.where(nan, np.inf, near).min(0), np.where(nan, -np.inf, near).max(0)
        beyond = 4 * (high - low) + 8 * float(info.eps) * np.maximum(abs(low), abs(high))
        beyond = np.nan_to_num(beyond, posinf=0, nan=0) + 16 * _least(info)
        inside = (low - beyond <= x) & (x <= high + beyond)
    return ~np.where(np.isnan(x), nan.any(0), inside)


def _least(info: Any) -> float:
    """What is lost where a result is too small: numbers below the normal ones count as 0.

    Those of float16 do not, as they are computed in float32.
    """
    return float(info.smallest_normal if info.nexp >= 8 else info.smallest_subnormal)
