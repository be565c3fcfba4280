"""Arrays of few bits: a code for each number, one scale for each block of numbers.

Tim Dettmers, Mike Lewis, Sam Shleifer, Luke Zettlemoyer, "8-bit Optimizers via Block-wise
Quantization", 2021, arXiv:2110.02861, sections 1.3 and 2.1; Bingrui Li, Jianfei Chen, Jun Zhu,
"Memory Efficient Optimizers with 4-bit States", 2023, arXiv:2309.01507; torchao 0.18.0.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gdfx.core.versions import auto_axes, reshard

BLOCK = {"8bit": 256, "4bit": 128, "float8": 256}
"""The codes that there are, each with how many numbers share a scale by default."""

SIGNS = ("signed", "nonnegative", "either")
"""What is known of the numbers: negative ones too, none, or nothing."""

_FLOAT8 = jnp.float8_e4m3fn


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QuantizedArray:
    """An array as codes and scales; the blocks are counted along its numbers, row after row.

    Where the array lies cut over devices, c₀ × c₁ × … parts of equal shape, both begin with the
    axes (c₀, c₁, …): each part has blocks of its own, and lies where its numbers did.
    """

    codes: jax.Array  # (c₀, c₁, …, numbers of a part); two to a byte, the first one high, if 4-bit
    scales: jax.Array  # (c₀, c₁, …, blocks of a part), float32
    shape: tuple[int, ...] = field(metadata={"static": True})
    dtype: str = field(metadata={"static": True})  # which it had, and gets again
    code: str = field(metadata={"static": True})
    sign: str = field(metadata={"static": True})
    block: int = field(metadata={"static": True})

    def dequantized(self) -> jax.Array:
        """The numbers that the codes say."""
        return _dequantized(self)

    def on_device(self, codes: jax.Array, scales: jax.Array) -> jax.Array:
        """Those of these codes and scales, in a mesh without explicit axes."""
        cuts = scales.shape[:-1]
        size = math.prod(self.shape) // math.prod(cuts)
        whole = _unpacked(codes) if self.code == "4bit" else codes
        blocks = _blocks(whole[..., :size], self.block)
        if self.code == "float8":
            values = blocks.astype(jnp.float32)
        else:
            values = _at(levels(self.code, self.sign), blocks.astype(jnp.int32))
        flat = (values * scales[..., None]).reshape(*cuts, -1)[..., :size]
        return _joined(flat, self.shape, cuts).astype(self.dtype)

    def after(self, others: "Sequence[QuantizedArray] | None") -> "QuantizedArray":
        """The same, which the compiler cannot know before it has made the others.

        No scale is −1, but that is not for it to know. Others that lie elsewhere would have to be
        sent for: they are left out.
        """
        codes = self.codes
        for other in others or ():
            if other.scales.shape[:-1] == self.scales.shape[:-1]:
                never = other.scales[..., -1:] == -1
                codes = jnp.where(never, jnp.zeros_like(codes), codes)
        return replace(self, codes=codes)

    def renewed(self, x: jax.Array, key: Any = None) -> "QuantizedArray":
        """Other numbers, in the same blocks and by the same code."""
        cuts = self.scales.shape[:-1]
        codes, scales = _coded_on_mesh(x, cuts, self.code, self.sign, self.block, key)
        return replace(self, codes=codes, scales=scales)


def quantized(x: jax.Array, code: str, sign: str, block: int, key: Any = None) -> QuantizedArray:
    """An array as codes and scales, in blocks that lie on one device each.

    Args:
      x: a real floating array of at least one number.
      code: one of `BLOCK`.
      sign: one of `SIGNS`. Of nonnegative numbers, and where nothing is known, none becomes 0 that
        is not; negative ones become 0 where there are said to be none.
      block: how many numbers share a scale; even for ``"4bit"``.
      key: a random key, to round up or down at random, right on average; None rounds to the
        nearest number that the code has, up from the middle (float8: to even).
    """
    codes, scales = _coded_on_mesh(x, cuts(x), code, sign, block, key)
    return QuantizedArray(codes, scales, x.shape, str(x.dtype), code, sign, block)


def cuts(x: jax.Array) -> tuple[int, ...]:
    """Into how many parts the devices share out each axis, as far as that is known."""
    sharding = jax.typeof(x).sharding if isinstance(x, Tracer) else x.sharding
    part = sharding.shard_shape(x.shape)
    return tuple(n // m if m and n % m == 0 else 1 for n, m in zip(x.shape, part, strict=True))


@functools.cache
def levels(code: str, sign: str) -> np.ndarray:
    """The numbers in [−1, 1] that codes 0, 1, … stand for, ascending; of float8, all that it has.

    8-bit codes, and signed 4-bit ones, are dynamic: e decades, the k-th of which is cut into 2ᵏ
    pieces (without signs: 2ᵏ⁺¹), whose middles are the numbers; and 0 and 1. Four bits without a
    sign are linear, without a 0.
    """
    signed = sign != "nonnegative"
    if code == "8bit":
        return _dynamic(7, 8, signed=signed)
    if code == "4bit":
        return (
            _dynamic(3, 4, signed=signed)
            if signed
            else np.linspace(1 / 16, 1, 16, dtype=np.float32)
        )
    every = np.arange(256, dtype=np.uint8).view(_FLOAT8).astype(np.float32)
    return np.unique(every[np.isfinite(every) & (signed | (every >= 0))])


def _dynamic(decades: int, bits: int, *, signed: bool) -> np.ndarray:
    single, middles = np.float32, []
    for k in range(decades):
        pieces = 2 ** (k + bits - 1 - decades + (not signed))
        # torch.linspace(0.1, 1, pieces + 1), bit for bit: from each end to the middle
        i, step = np.arange(pieces + 1), float((single(1) - single(0.1)) / single(pieces))
        rising, falling = float(single(0.1)) + step * i, 1.0 - step * (pieces - i)
        ends = np.where(i < (pieces + 1) // 2, rising, falling).astype(single)
        middles.append(single(10.0 ** (k - decades + 1)) * ((ends[:-1] + ends[1:]) / single(2)))
    positive = np.concatenate(middles)
    negative = -positive if signed else positive[:0]
    return np.sort(np.concatenate([negative, positive, np.array([0, 1], single)]))


@functools.cache
def _bounds(code: str, sign: str) -> np.ndarray:
    """From which number on each level but the first is the nearest, to the last bit.

    A number belongs to the upper of two levels from (x − low) ≥ (high − low) / 2 on, in float32.
    That grows with x, so there is a first such number, which halving finds.
    """
    table = levels(code, sign)
    low, high = table[:-1], table[1:]
    half = (high - low) * np.float32(0.5)
    below, from_here = _ordered(low), _ordered(high)
    while np.any(from_here - below > 1):
        middle = (below + from_here) // 2
        upper = _number(middle) - low >= half
        below, from_here = np.where(upper, below, middle), np.where(upper, middle, from_here)
    return _number(from_here)


def _ordered(x: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the float32 numbers, without gaps."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _number(i: np.ndarray) -> np.ndarray:
    bits = np.where(i < 0, 0x80000000 - i, i)
    return bits.astype(np.uint32).view(np.float32)


@jax.jit
def _dequantized(x: QuantizedArray) -> jax.Array:
    return _on_mesh(x.on_device, (x.codes, x.scales), lambda spec: spec[:-1])


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _coded_on_mesh(
    x: jax.Array, cuts: Sequence[int], code: str, sign: str, block: int, key: Any
) -> tuple[jax.Array, jax.Array]:
    def coded(x: jax.Array, *keys: Any) -> tuple[jax.Array, jax.Array]:
        return _coded(x, cuts, code, sign, block, *(keys or (None,)))

    given = (x,) if key is None else (x, key)
    return _on_mesh(coded, given, lambda spec: (*spec, None))


def _on_mesh(step: Callable[..., Any], arrays: tuple[Any, ...], spec: Callable[..., Any]) -> Any:
    """A step that the compiler spreads over devices, also where a mesh has explicit axes.

    ``spec`` says how the results are spread, from how the first array is.
    """
    sharding = jax.typeof(arrays[0]).sharding
    mesh = sharding.mesh
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    explicit = tuple(name for name, kind in kinds if kind == AxisType.Explicit)
    if not explicit:
        return step(*arrays)
    axes = [*sharding.spec, *[None] * (arrays[0].ndim - len(sharding.spec))]
    out = NamedSharding(mesh, PartitionSpec(*spec(axes)))
    whole = NamedSharding(mesh, PartitionSpec())
    arrays = tuple(
        x if not jax.typeof(x).sharding.mesh.empty else reshard(x, whole) for x in arrays
    )
    return auto_axes(step, axes=explicit, out_sharding=out)(*arrays)


def _coded(
    x: jax.Array, cuts: Sequence[int], code: str, sign: str, block: int, key: Any
) -> tuple[jax.Array, jax.Array]:
    """The codes and scales of an array that is cut into parts."""
    flat = _parts(x.astype(jnp.float32), cuts)
    size = flat.shape[-1]
    numbers = _blocks(flat, block)
    largest = jnp.max(abs(numbers), axis=-1)
    scales = largest
    if code == "float8":
        # By one number for all XLA would not divide: it multiplies by 1/448, and is a bit off.
        scales = largest / jnp.where(largest > 0, float(jnp.finfo(_FLOAT8).max), 1.0)
    # NaN and Inf stay in the scale, and so are seen in every number of their block.
    inside = numbers / jnp.where(scales == 0, 1, scales)[..., None]
    codes = (
        _float8(inside, numbers, sign, key)
        if code == "float8"
        else _table_codes(inside, numbers, code, sign, key)
    )
    codes = codes.reshape(*cuts, -1)[..., :size]
    return (_packed(codes) if code == "4bit" else codes), scales


def _table_codes(inside: jax.Array, numbers: Any, code: str, sign: str, key: Any) -> jax.Array:
    table = levels(code, sign)
    nearest = key is None
    codes = _count(inside, _bounds(code, sign)) if nearest else _at_random(inside, table, key)
    zero = np.flatnonzero(table == 0)
    if sign != "signed" and zero.size:
        codes = _no_new_zero(codes, codes == zero[0], numbers, sign, 1)
    return codes.astype(jnp.uint8)


def _float8(inside: jax.Array, numbers: Any, sign: str, key: Any) -> jax.Array:
    table = levels("float8", sign)
    lowest = 0.0 if sign == "nonnegative" else -jnp.inf
    values = jnp.maximum(inside, lowest)
    info = jnp.finfo(_FLOAT8)
    if key is not None:
        values = _at(table, _at_random(values, table, key))
    else:  # older JAX casts by way of float16, and so rounds twice
        even = jnp.round(values * 2.0**9) * 2.0**-9  # as those below the normal numbers lie
        normal = jax.lax.reduce_precision(values, 8, info.nmant)
        values = jnp.where(abs(values) < float(info.smallest_normal), even, normal)
    codes = values.astype(_FLOAT8)
    if sign == "signed":
        return codes
    smallest = float(np.min(table[table > 0]))
    wide = codes.astype(jnp.float32)
    return _no_new_zero(wide, wide == 0, numbers, sign, smallest).astype(_FLOAT8)


def _no_new_zero(codes: jax.Array, is_zero: Any, numbers: Any, sign: str, step: Any) -> jax.Array:
    """What is not 0 gets the code beside that of 0, where it would get that."""
    away = jnp.where(numbers > 0, step, 0)
    if sign == "either":
        away = jnp.where(numbers < 0, -step, away)
    return jnp.where(is_zero, codes + away, codes)


def _count(x: jax.Array, bounds: np.ndarray) -> jax.Array:
    """How many of at most 255 ascending bounds are ≤ x, for |x| up to the largest of theirs.

    The upper half of x's bits leads to a first guess, from which few comparisons are left.
    """
    first, steps = _guesses(bounds.tobytes())
    upper = jax.lax.bitcast_convert_type(x, jnp.uint32) >> 16
    found = _at(first, upper).astype(jnp.int32)
    padded = np.append(bounds, np.float32(np.inf))
    for _ in range(steps):
        found = found + (x >= _at(padded, found))
    return found


@functools.cache
def _guesses(bounds: bytes) -> tuple[np.ndarray, int]:
    """How many bounds are below all numbers of an upper half, and the most that are among them."""
    table = np.frombuffer(bounds, np.float32)
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    ends = np.stack([upper, upper | 0xFFFF]).view(np.float32)
    asked = np.min(abs(ends), axis=0) <= max(1.0, np.max(abs(table)))
    ends = np.where(asked, np.sort(ends, axis=0), 0)
    low, high = np.searchsorted(table, ends, side="right")
    return low.astype(np.uint8), int(np.max(high - low))


def _at_random(x: jax.Array, table: np.ndarray, key: Any) -> jax.Array:
    """The code below or above, at random, so that the number is right on average."""
    low = _count(x, table[1:])
    high = jnp.minimum(low + 1, len(table) - 1)
    below, above = _at(table, low), _at(table, high)
    chance = (x - below) / jnp.where(high == low, 1, above - below)
    return jnp.where(jax.random.uniform(key, x.shape) < chance, high, low)


def _at(table: np.ndarray, index: jax.Array) -> jax.Array:
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds")


def _packed(codes: jax.Array) -> jax.Array:
    """Two codes of four bits to a byte."""
    codes = _padded(codes, 2)
    return (codes[..., ::2] << 4) | codes[..., 1::2]


def _unpacked(packed: jax.Array) -> jax.Array:
    pairs = jnp.stack([packed >> 4, packed & 15], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)


def _blocks(flat: jax.Array, block: int) -> jax.Array:
    """The last axis in blocks, the last of which is filled up with zeros."""
    flat = _padded(flat, block)
    return flat.reshape(*flat.shape[:-1], -1, block)


def _padded(x: jax.Array, multiple: int) -> jax.Array:
    missing = -x.shape[-1] % multiple
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x


def _parts(x: jax.Array, cuts: Sequence[int]) -> jax.Array:
    """The numbers of each part along one last axis, behind the axes of the cuts."""
    cut = [n for pair in zip(cuts, _lengths(x.shape, cuts), strict=True) for n in pair]
    axes = [*range(0, len(cut), 2), *range(1, len(cut), 2)]
    return x.reshape(cut).transpose(axes).reshape(*cuts, -1)


def _joined(parts: jax.Array, shape: Sequence[int], cuts: Sequence[int]) -> jax.Array:
    """The array of these parts."""
    cut = parts.reshape(*cuts, *_lengths(shape, cuts))
    axes = [i for pair in zip(range(len(shape)), range(len(shape), 2 * len(shape))) for i in pair]  # noqa: B905
    return cut.transpose(axes).reshape(shape)


def _lengths(shape: Sequence[int], cuts: Sequence[int]) -> list[int]:
    return [n // c for n, c in zip(shape, cuts, strict=True)]
