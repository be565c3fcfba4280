"""What a state holds once for the whole tree: the count of steps, a random key, numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from gdfx.core import check, keys
from gdfx.core.arguments import ARGUMENTS
from gdfx.core.precision import as_array

Numbers = Mapping[str, ArrayLike | list[float]]
"""What a state holds once for the whole tree, by name, at the start."""


class Whole:
    """The fields of a state that are no trees like the parameters'."""

    def __init__(
        self,
        method: str,
        kind: str,
        fields: Sequence[str],
        numbers: Numbers,
        key: ArrayLike | None,
    ):
        """Refuse numbers and a key that the state, which is of this kind, has no field for."""
        self.method, self.numbers = method, numbers
        self.counter = next((field for field in ("count", "t") if field in fields), None)
        self.draws = key is not None
        self.trees = [f for f in fields if f not in {self.counter, "key", *numbers}]
        if ("key" in fields) != self.draws:
            raise ValueError(
                f"{method}: a random key needs both: {kind} a field key, which holds the next "
                "one, and per_leaf the first one, as in key=jax.random.key(0)"
            )
        if key is not None:
            ARGUMENTS["key"].check(method, "key", key)
            self._first_key, self._kind_of_key = keys.stored(key), keys.kind(key)
        missing = next((number for number in numbers if number not in fields), None)
        if missing is not None:
            raise ValueError(
                f"{method}: numbers has {missing}, but {kind} has no field of that name"
            )

    def start(self, *, double: bool) -> dict[str, Any]:
        """The fields at the start; Python floats are held in single or in double precision."""
        found: dict[str, Any] = {self.counter: jnp.zeros((), jnp.int32)} if self.counter else {}
        if self.draws:
            found["key"] = jnp.array(self._first_key, copy=True)
        for number, value in self.numbers.items():
            wide = jnp.float64 if double else jnp.float32
            floats = isinstance(value, float | list)
            dtype = wide if floats else jnp.result_type(value)
            found[number] = jnp.array(value, dtype, copy=True)
        return found

    def step(self, state: Any) -> tuple[dict[str, Any], dict[str, Any], jax.Array | None]:
        """What the state tells a step, what of it the next state holds, and the step's key.

        The step's number is int32, whatever the state's count was cast to.
        """
        known = {number: as_array(getattr(state, number)) for number in self.numbers}
        following: dict[str, Any] = dict(known)
        now = None
        if self.counter:
            count = getattr(state, self.counter)
            check.count(self.method, count)
            following[self.counter] = as_array(optax.safe_increment(as_array(count)))
            known["t"] = following[self.counter].astype(jnp.int32)
        if self.draws:
            following["key"], now = keys.drawn(as_array(state.key), self._kind_of_key)
        return known, following, now
