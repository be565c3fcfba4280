"""Comparisons that laws make; where they fail, they say where and with which numbers."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

from gdfx.core.words import rounded
from gdfx.testing.law import BrokenLawError


def same(found: Any, expected: Any, names: str, *, rtol: float = 0.0, beside: Any = None) -> None:
    """Raise `BrokenLawError` unless two trees agree, in structure, shapes and numbers.

    Args:
      found, expected: the trees.
      names: what they are, as in ``the compiled update | the plain one``.
      rtol: what each number may be off, as a part of the largest one expected; 0: bitwise.
      beside: what the numbers are added to: what is lost in its rounding is no difference.
    """
    this, that = names.split(" | ")
    if jax.tree.structure(found) != jax.tree.structure(expected):
        raise BrokenLawError(
            f"{this} has the structure {_short(jax.tree.structure(found))}, "
            f"{that} {_short(jax.tree.structure(expected))}"
        )
    pairs = [
        (path, _wide(a), _wide(b))
        for (path, a), b in zip(
            jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
        )
    ]
    scale = max((float(np.max(_size(b), initial=0.0)) for _, _, b in pairs), default=0.0)
    lost = 2 * max((_spacing(x) for x in jax.tree.leaves(beside)), default=0.0)  # by each once
    for path, a, b in pairs:
        if a.shape != b.shape:
            raise BrokenLawError(
                f"{this} has shape {a.shape}{_where(path, found)}, {that} {b.shape}"
            )
        off: Any = ~(np.isnan(a) & np.isnan(b)) & (a != b)
        if rtol:
            off &= ~(np.abs(a - b) <= max(rtol * scale, lost))
        if off.any():
            i = tuple(map(int, np.argwhere(off)[0]))
            raise BrokenLawError(
                f"{this} is {rounded(a[i])}{_where(path, found, i)}, but {that} is {rounded(b[i])}"
            )


def same_kinds(found: Any, expected: Any, names: str) -> None:
    """Raise `BrokenLawError` unless two trees have the same structure, shapes and dtypes."""

    def kind(x: Any) -> str:
        return f"{x.dtype}{list(x.shape)}" + " weak" * getattr(x, "weak_type", False)

    this, that = names.split(" | ")
    kinds = [jax.tree.map(kind, tree) for tree in (found, expected)]
    if kinds[0] != kinds[1]:
        new, old = (jax.tree.leaves(k) for k in kinds)
        pairs = [(a, b) for a, b in zip(new, old, strict=False) if a != b]
        a, b = pairs[0] if pairs else (str(kinds[0]), str(kinds[1]))
        raise BrokenLawError(f"{this} holds {a}, {that} {b}")


def shape_of(x: Any) -> jax.ShapeDtypeStruct:
    """Its shape and dtype alone."""
    x = jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def all_finite(tree: Any, name: str) -> None:
    """Raise `BrokenLawError` where a number of a tree is NaN or Inf."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        x = _wide(leaf)
        if not np.isfinite(x).all():
            i = tuple(map(int, np.argwhere(~np.isfinite(x))[0]))
            raise BrokenLawError(f"{name} is {rounded(x[i])}{_where(path, tree, i)}")


@functools.cache
def _compiled_programs() -> list[str]:
    """One entry for each program that is compiled from the first call on."""
    programs: list[str] = []

    def listener(event: str, duration_secs: float, **_: Any) -> None:
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    return programs


def compilations(run: Callable[[], Any]) -> int:
    """How many programs XLA compiles in a run."""
    programs = _compiled_programs()
    before = len(programs)
    run()
    return len(programs) - before


def _wide(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    x = np.asarray(leaf)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def _size(x: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(x), np.abs(x), 0.0)


def _spacing(x: Any) -> float:
    """What the largest number of an array may be off by, once it was rounded."""
    return float(np.max(np.spacing(np.abs(x)), initial=0.0))


def _where(path: Any, tree: Any, i: tuple[int, ...] = ()) -> str:
    """As in `` at step 2, ['w'][0, 1]``; a list is of steps."""
    places: list[str] = []
    if isinstance(tree, list):
        places, path = [f"step {path[0].idx + 1}"], path[1:]
    if path or i:
        places.append(jax.tree_util.keystr(path) + (str(list(i)) if i else ""))
    return f" at {', '.join(places)}" if places else ""


def _short(structure: Any) -> str:
    return re.sub(r"^PyTreeDef\((.*)\)$", r"\1", str(structure))[:120]
