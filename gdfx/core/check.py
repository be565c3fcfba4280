"""What bad trees and states get: one clear sentence, with the path, before any computation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdfx.core.arguments import describe
from gdfx.core.precision import bits, dtype_of, is_inexact


def parameters(method: str, params: Any) -> None:
    """Refuse parameters that no gradient method can move."""
    for path, p in jax.tree_util.tree_leaves_with_path(params):
        if not is_inexact(p):
            raise TypeError(
                f"{method}: parameter {at(path)} is {kind_of(p)}, but must be a floating "
                "or complex array; mask it out with optax.masked"
            )
        if bits(dtype_of(p)) < 16:
            raise TypeError(
                f"{method}: parameter {at(path)} is {kind_of(p)}, where the steps of a run are "
                "lost; hold it in bfloat16 or wider and cast it inside the loss"
            )


def real(method: str, what: str, tree: Any) -> None:
    """Refuse complex numbers, where the method is not made for them."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.iscomplexobj(x):
            raise TypeError(
                f"{method}: {what} {at(path)} is {kind_of(x)}, but must be real; wrap the "
                "optimizer in optax.contrib.split_real_and_imaginary"
            )


def params_given(method: str, params: Any) -> None:
    """Refuse an update without the parameters, where the method needs them."""
    if params is None:
        raise ValueError(
            f"{method} needs the parameters: call update(gradients, state, params), "
            "not update(gradients, state)"
        )


def value_given(method: str, value: Any) -> None:
    """Refuse an update without the loss, where the method needs it, and a loss that is none."""
    if value is None:
        raise ValueError(
            f"{method} needs the loss: call update(gradients, state, params, value=loss)"
        )
    dtype = dtype_of(value)
    if np.shape(value) != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{method}: value, the loss, must be one floating number, got {describe(value)}"
        )


def count(method: str, count: Any) -> None:
    """Refuse a state whose step count is none; a state that was cast as a whole may go on."""
    dtype: Any = dtype_of(count)
    whole = dtype is not None and jnp.issubdtype(dtype, jnp.integer)
    cast = isinstance(count, jax.Array) and is_inexact(count)
    if np.shape(count) != () or not (whole or cast):
        raise TypeError(
            f"{method}: the state's count must be one whole number, got {describe(count)}"
        )


def state_kind(method: str, state: Any, kind: type[Any]) -> None:
    """Refuse a state that another method made."""
    if not isinstance(state, kind):
        raise TypeError(
            f"{method}: the state must be the {kind.__name__} that this method's init "
            f"returned, got {kind_of(state)}"
        )


def chain_state(state: Any, kinds: Sequence[type[Any]]) -> None:
    """Refuse what is not the state of a chain whose links have states of these kinds."""
    if not isinstance(state, tuple) or len(state) != len(kinds):
        raise TypeError(
            f"the optimizer's state must be the tuple of {len(kinds)} states that its init "
            f"returned, got {kind_of(state)}"
            + (f" of {len(state)}" if isinstance(state, tuple) else "")
        )
    for i, (link, kind) in enumerate(zip(state, kinds, strict=True)):
        if not isinstance(link, kind):
            raise TypeError(
                f"the optimizer's state [{i}] must be {kind.__name__}, got {kind_of(link)}; "
                "pass what this optimizer's own init returned: schedules and masks change it"
            )


def kind_of(leaf: Any) -> str:
    """A leaf as an error calls it: by its dtype, or by its type."""
    return str(dtype_of(leaf) or type(leaf).__name__)


def at(path: Any) -> str:
    """Where a leaf stands."""
    return jax.tree_util.keystr(path) or "(the whole tree)"
