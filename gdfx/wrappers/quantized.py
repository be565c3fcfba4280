"""State of 8 or 4 bits a number: the accumulators of an optimizer as codes, in blocks.

Tim Dettmers, Mike Lewis, Sam Shleifer, Luke Zettlemoyer, "8-bit Optimizers via Block-wise
Quantization", 2021, arXiv:2110.02861; Bingrui Li, Jianfei Chen, Jun Zhu, "Memory Efficient
Optimizers with 4-bit States", 2023, arXiv:2309.01507. The tables of numbers are those of
bitsandbytes and torchao 0.18.0.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.tree_util import DictKey, GetAttrKey
from jax.typing import ArrayLike

from gdfx.core import check, codes, keys
from gdfx.core.arguments import Choice, Count, Key, Optional, checked, describe
from gdfx.core.check import at
from gdfx.core.codes import QuantizedArray
from gdfx.core.in_turn import in_turn
from gdfx.core.inner import in_float32
from gdfx.core.precision import as_array, dtype_of, is_inexact, narrow_tree
from gdfx.core.trees import standing
from gdfx.core.words import listed, nearest


class QuantizedState(NamedTuple):
    """State of `quantized`."""

    key: Any  # the bits of the next step's random key, uint16; None where rounding is to nearest
    inner_state: Any  # of the optimizer, with codes and scales in place of its accumulators


FIELDS: Mapping[str, str] = {
    name: sign
    for sign, names in {
        "signed": "acc_grads ema exp_avg g grad_acc last m m1 m2 mu prev_updates "
        "previous_gradient trace",
        "nonnegative": "e_g e_x exp_avg_sq grad_sum_sq n nu nu_max sum_of_squares",
        "exact": "average compensation delta fast init_params left left_basis left_root p0 params "
        "params0 right right_basis right_root scale slow step_sizes x0 z",
    }.items()
    for name in names.split()
}
"""What the fields of gdfx's and optax's states hold; weights and factors stay exact."""


class _Fields:
    """What is declared of fields, by name."""

    _words = Choice("signed", "nonnegative", "exact")

    def __str__(self) -> str:
        return f"None or a dict from the names of fields to {self._words}"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value says one of the words of each field."""
        if value is None:
            return
        if not isinstance(value, Mapping):
            raise TypeError(f"{method}: {argument} must be {self}, got {describe(value)}")
        for name, word in value.items():
            self._words.check(method, f"{argument}[{name!r}]", word)


_OPTIONS = {
    "code": Choice(*codes.BLOCK),
    "block_size": Optional(Count(2)),
    "min_size": Count(),
    "fields": _Fields(),
    "key": Optional(Key()),
}


@checked(**_OPTIONS)
def quantized(
    tx: optax.GradientTransformation,
    code: str = "8bit",
    block_size: int | None = None,
    min_size: int = 4096,
    fields: Mapping[str, str] | None = None,
    key: ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Hold the accumulators of an optimizer in 8 or 4 bits a number.

    ::

        (1) s = max |x|                       of the numbers x of one block
        (2) q = argminₖ |x / s − Tₖ|          a code for each number; T: the table of the code
        (3) x̂ = s T_q                         which the next step begins with

    A step of ``tx`` is taken in float32 on x̂, and its update is made before (1) and (2). With
    Adam, a parameter has 2.03 bytes of state with 8 bits, 1.06 with 4, and 8 without this.

    Every array of the state is held so that stands for one parameter and has its shape, wherever
    it is: in a chain, behind a mask or in a partition. Counts, factors of matrices and small leaves
    stay as they are. What ``nu``, ``sum_of_squares`` and the like hold is never negative, so a
    table without a sign tells twice as many numbers apart; and no number becomes 0 that is not, as
    a step divides by it. Fields that hold weights, such as ``z`` or ``p0``, stay exact.

    Args:
      tx: the optimizer, gdfx's, optax's or any other. It is given gradients and parameters in at
        least float32.
      code: ``"8bit"``, the dynamic tables of arXiv:2110.02861; ``"4bit"``, those of
        arXiv:2309.01507, two codes to a byte; or ``"float8"``, e4m3, with s = max |x| / 448.
      block_size: how many numbers share a scale, row after row; None: 256, or 128 with ``"4bit"``,
        where it must be even. The last block of a leaf may be shorter.
      min_size: leaves of fewer numbers stay as they are.
      fields: what fields of the state hold, by name, where it isn't known or is known wrongly:
        ``"signed"``, ``"nonnegative"`` or ``"exact"``, which leaves it as it is. Of a field of
        which nothing is known ``init`` warns: it gets the table with a sign, and no number there
        becomes 0 that is not.
      key: a random key, from `jax.random.key(seed)`, to round up or down at random in (2), right
        on average. None: to the nearest, up from the middle.

    Returns:
      An optimizer whose state holds uint8 (or float8) and float32. Where ``init`` is given leaves
      that are spread over devices, blocks end where the part of a device ends, codes and scales
      stay where the numbers were, and a step needs no exchange for them. Under `jax.jit`, ``init``
      sees that only in a mesh of explicit axes.

    Raises:
      TypeError, ValueError: for arguments out of range; by ``init`` for a ``tx`` that is already
        quantized and for ``fields`` that there are not; by ``update`` for another's state.
      UserWarning: as a warning, by ``init``, of a field of which nothing is known.

    Differs: torchao clips s at 1e-12, which takes the digits of squares of gradients below 1e-6,
    and turns 4-bit zeros in a block of zeros into 6e-14; here s is as it is. It lets small numbers
    of an unsigned field become 0. bitsandbytes moves the code of m by one where its sign
    would change, and skips gradients that are not finite; here NaN and Inf are seen in all numbers
    of their block. torchao leaves an array whose size is no multiple of the block in float32.

    Reference: arXiv:2110.02861, sections 1.3 and 2.1; arXiv:2309.01507; torchao 0.18.0,
    ``optim/quant_utils.py``.

    See also: `gdfx.quantize_state` and `gdfx.dequantize_state`, for a run that goes on;
    `gdfx.stochastic_rounding` and `gdfx.compensated`, for weights of 16 bits.

    >>> import gdfx, jax.numpy as jnp
    >>> w = {"w": jnp.ones((64, 64)), "b": jnp.ones(64)}
    >>> tx = gdfx.quantized(gdfx.adam(1e-3))
    >>> updates, state = tx.update(w, tx.init(w), w)
    >>> nu = state.inner_state[0].nu
    >>> print(nu["w"].codes.dtype, nu["w"].codes.nbytes, nu["w"].scales.nbytes, nu["b"].dtype)
    uint8 4096 64 float32
    """
    inner = in_float32(tx)
    options = _Options("quantized", code, block_size, min_size, fields or {})
    kind = None if key is None else keys.kind(key)
    first_key = None if key is None else keys.stored(key)

    def init(params: optax.Params) -> QuantizedState:
        held = options.quantized(inner.init(params), params, None)
        return QuantizedState(_copied(first_key), held)

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, QuantizedState]:
        check.state_kind("quantized", state, QuantizedState)
        next_key, now = state.key, None
        if kind is not None:
            next_key, now = keys.drawn(state.key, kind)

        def step(inner_state: Any) -> tuple[Any, Any]:
            return inner.update(updates, inner_state, params, **extra_args)

        steps, held = _stepped(step, state.inner_state, now)
        return narrow_tree(steps, updates), QuantizedState(next_key, held)

    return optax.GradientTransformationExtraArgs(init, update)


@checked(**_OPTIONS)
def quantize_state(
    state: optax.OptState,
    params: optax.Params,
    code: str = "8bit",
    block_size: int | None = None,
    min_size: int = 4096,
    fields: Mapping[str, str] | None = None,
    key: ArrayLike | None = None,
) -> QuantizedState:
    """Turn the state of a running optimizer into one of `gdfx.quantized`, to go on with that.

    Args:
      state: that of the optimizer, in float32 or wider.
      params: the parameters that it moves.
      code, block_size, min_size, fields, key: as `gdfx.quantized` has them; give it the same.

    Returns:
      The state with which ``gdfx.quantized(tx, ...).update`` goes on.

    Raises:
      TypeError, ValueError: for arguments out of range, a state that is already quantized,
        ``fields`` that there are not, and negative numbers in a field that is said to have none.
      UserWarning: as a warning, of a field of which nothing is known.

    See also: `gdfx.dequantize_state`.

    >>> import gdfx, jax.numpy as jnp
    >>> w, tx = jnp.ones((64, 64)), gdfx.adam(1e-3)
    >>> _, state = tx.update(w, tx.init(w), w)
    >>> updates, state = gdfx.quantized(tx).update(w, gdfx.quantize_state(state, w), w)
    >>> gdfx.dequantize_state(state)[0].mu.dtype
    dtype('float32')
    """
    options = _Options("quantize_state", code, block_size, min_size, fields or {})
    now = None
    bits = None if key is None else keys.stored(key)
    if key is not None:
        bits, now = keys.drawn(jnp.asarray(bits), keys.kind(key))
    return QuantizedState(_copied(bits), options.quantized(state, params, now))


def dequantize_state(state: Any) -> Any:
    """Turn a state of `gdfx.quantized` into that of the optimizer inside, to go on with that.

    Args:
      state: the state, as ``init``, ``update`` or `gdfx.quantize_state` returned it.

    Returns:
      The state of the optimizer, whose accumulators have the numbers that their codes stand for,
      in the dtypes that they had.

    Raises:
      TypeError: for another's state.

    See also: `gdfx.quantize_state`.
    """
    check.state_kind("dequantize_state", state, QuantizedState)
    return _dequantized(state.inner_state)


def _copied(bits: Any) -> Any:
    return None if bits is None else jnp.array(bits, copy=True)


def _is_quantized(x: Any) -> bool:
    return isinstance(x, QuantizedArray)


def _dequantized(state: Any) -> Any:
    return jax.tree.map(
        lambda x: x.dequantized() if _is_quantized(x) else x, state, is_leaf=_is_quantized
    )


def _stepped(step: Any, held: Any, key: Any) -> tuple[Any, Any]:
    """The updates, and the new state in codes; compiled, only few arrays of it at a time are wide.

    One is made from its codes after others are in codes again, where the step allows it.
    """
    leaves, structure = jax.tree.flatten(held, is_leaf=_is_quantized)
    at = [i for i, x in enumerate(leaves) if _is_quantized(x)]

    def whole(wide: Any) -> Any:
        filled = dict(zip(at, wide, strict=True))
        return structure.unflatten([filled.get(i, x) for i, x in enumerate(leaves)])

    def renewed(k: int, x: Any) -> QuantizedArray:
        now = None if key is None else jax.random.fold_in(key, k)
        return leaves[at[k]].renewed(x, now)

    old = [leaves[i] for i in at]
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves(old)):
        steps, new = step(whole([x.dequantized() for x in old]))
        found = structure.flatten_up_to(new)
        return steps, structure.unflatten(
            [renewed(at.index(i), x) if i in at else x for i, x in enumerate(found)]
        )

    def use(k: int, x: Any) -> tuple[QuantizedArray, QuantizedArray]:
        made = renewed(k, x)
        return made, made

    def large(results: Any) -> list[Any]:
        found = structure.flatten_up_to(results[1])
        return [found[i] for i in at]

    (steps, new), made = in_turn(
        lambda wide: step(whole(wide)),
        [jax.eval_shape(x.dequantized) for x in old],
        lambda k, after: old[k].after(after).dequantized(),
        use,
        large,
    )
    found, filled = structure.flatten_up_to(new), dict(zip(at, made, strict=True))
    return steps, structure.unflatten([filled.get(i, x) for i, x in enumerate(found)])


class _Options(NamedTuple):
    """What becomes of which field."""

    method: str
    code: str
    block_size: int | None
    min_size: int
    fields: Mapping[str, str]

    def quantized(self, state: Any, params: Any, key: Any) -> Any:
        """The state with codes and scales for what stands for a parameter."""
        block = self.block_size or codes.BLOCK[self.code]
        if self.code == "4bit" and block % 2:
            raise ValueError(
                f"{self.method}: block_size must be even, as two codes share a byte, got {block}"
            )
        leaves, structure = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_quantized)
        for path, x in leaves:
            if _is_quantized(x):
                raise ValueError(f"{self.method}: the state {at(path)} is already quantized")
        held = [(path, x) for path, x in leaves if _is_held(x)]
        names = {path: _name(start) for path, start, _ in standing(held, params)}
        self._check_declared(set(names.values()))
        large = {p for p, x in leaves if p in names and np.size(x) >= max(self.min_size, 1)}
        self._warn_of_unknown({names[path] for path in large})

        def one(i: int, path: Any, x: Any) -> Any:
            sign = self._word(names[path]) if path in large else "exact"
            if sign == "exact":
                return x
            x = as_array(x)
            if sign == "nonnegative" and not isinstance(x, Tracer) and bool(jnp.any(x < 0)):
                raise ValueError(
                    f"{self.method}: the state {at(path)} has negative numbers; declare "
                    f'fields={{{names[path]!r}: "signed"}}'
                )
            now = None if key is None else jax.random.fold_in(key, i)
            return codes.quantized(x, self.code, sign, block, now)

        return structure.unflatten([one(i, path, x) for i, (path, x) in enumerate(leaves)])

    def _word(self, field: str) -> str:
        return self.fields.get(field) or FIELDS.get(field, "either")

    def _check_declared(self, found: set[str]) -> None:
        for name in self.fields:
            if found and name not in found:
                raise ValueError(
                    f"{self.method}: the state has no field {name} like the parameters; "
                    f"{nearest(name, sorted(found))}"
                )

    def _warn_of_unknown(self, found: set[str]) -> None:
        unknown = sorted(name for name in found if self._word(name) == "either")
        if unknown:
            first = unknown[0]
            warnings.warn(
                f"{self.method}: nothing is known of the numbers in {listed(unknown)}, so the "
                "table with a sign holds them; declare it, as in "
                f'fields={{{first!r}: "signed"}}, "nonnegative" or "exact"',
                UserWarning,
                stacklevel=4,
            )


def _is_held(x: Any) -> bool:
    return is_inexact(x) and not jnp.issubdtype(dtype_of(x), jnp.complexfloating)


def _name(path: Any) -> str:
    last: Any = path[-1] if path else None
    if isinstance(last, GetAttrKey):
        return last.name
    return str(last.key) if isinstance(last, DictKey) else at(path)
