"""What the laws are tried on: trees of numbers from zero to the largest, drawn by hypothesis.

The trees are few, so that compiled updates are shared; the numbers in them are many.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from gdfx.core.words import number

REAL = ("float32", "bfloat16", "float16", "float64")
DTYPES = (*REAL, "complex64", "complex128")

TREES: dict[str, Any] = {
    "vector": (3,),
    "nested": {"w": (2, 2), "layers": [((3,), (3,)), {"deep": {"b": (3,)}}]},
}
"""Trees by name, with shapes for leaves: few, for without jit each is compiled by itself."""

# No two runs of these cancel: a sign that hangs on the last bit is nobody's fault.
MODERATE = (1.0, 0.37, 2.6, 0.11, 7.3)  # the simplest first, the largest last


def moderate(dtype: str) -> tuple[float, ...]:
    """Magnitudes that gradients have."""
    del dtype
    return MODERATE


def moderate_or_zero(dtype: str) -> tuple[float, ...]:
    """Magnitudes that gradients have, and none."""
    return (*moderate(dtype), 0.0)


def zero_or_moderate(dtype: str) -> tuple[float, ...]:
    """The same with zero for the simplest."""
    return (0.0, *moderate(dtype))


def extreme(dtype: str, part: float = 1.0) -> tuple[float, ...]:
    """From zero through subnormal numbers up to the largest, or a part of it."""
    info = jnp.finfo(dtype)
    smallest, tiny, largest = (
        float(x) for x in (info.smallest_subnormal, info.smallest_normal, info.max)
    )
    return (1.0, 0.0, 1e-3, smallest, tiny, math.sqrt(tiny), math.sqrt(largest), largest * part)


HYPERPARAMETERS: dict[str, tuple[float, ...]] = {
    "learning_rate": (0.1, 1.0, 1e-3, 0.0),
    "b1": (0.9, 0.0, 0.5, 0.99),
    "b2": (0.999, 0.0, 0.9, 0.99999),
    "b3": (0.99, 0.0, 0.5, 0.999),
    "decay": (0.9, 0.0, 0.5, 0.99),
    "rho": (0.9, 0.0, 0.5, 0.99),
    "momentum": (0.9, 0.0, 0.5, 0.99),
    "eps": (1e-8, 1e-3, 1.0, 0.0),
    "eps_root": (0.0, 1e-8, 1e-3),
    "initial_accumulator_value": (0.1, 0.0, 1.0),
    "weight_decay": (0.01, 0.0, 1.0),
}
"""Arguments that mean the same everywhere, with values across their ranges."""


def hyperparameters(names: Collection[str]) -> list[dict[str, float]]:
    """Values for those of the names that are known, from all over their ranges.

    The first are those that one begins with. Each two values of each two names meet in one: they
    are the lines of a plane of p × p points, for a prime number p.
    """
    known = {name: values for name, values in HYPERPARAMETERS.items() if name in names}
    p = next(p for p in (5, 7, 11) if p + 1 >= len(known))

    def place(k: int, i: int, j: int) -> int:
        return (i + j * k) % p if k < p else j

    return [
        {name: x[place(k, i, j) % len(x)] for k, (name, x) in enumerate(known.items())}
        for i in range(p)
        for j in range(p)
    ]


def spelled(values: Mapping[str, float]) -> str:
    """As in ``b1=0.9, eps=0``."""
    return ", ".join(f"{name}={number(x)}" for name, x in values.items())


@dataclass(frozen=True)
class Run:
    """Parameters, and the gradients of some steps."""

    params: Any
    gradients: Sequence[Any]

    def __repr__(self) -> str:
        return f"Run(params={code(self.params)}, gradients={code(list(self.gradients))})"

    def map(self, function: Callable[[np.ndarray], Any]) -> "Run":
        """The run with every array, of gradients and parameters, changed."""
        return Run(*jax.tree.map(function, (self.params, tuple(self.gradients))))

    def cast(self, dtype: str) -> "Run":
        """The same numbers in another dtype."""
        return self.map(lambda x: x.astype(dtype))

    def map_gradients(self, function: Callable[[np.ndarray], Any]) -> "Run":
        """The run with the arrays of its gradients changed."""
        return replace(self, gradients=jax.tree.map(function, tuple(self.gradients)))

    def at_origin(self) -> "Run":
        """The run with parameters 0, where weight decay is 0."""
        return replace(self, params=jax.tree.map(np.zeros_like, self.params))


def runs(
    *,
    tree: str = "vector",
    dtypes: Sequence[str] = ("float32",),
    sizes: Callable[[str], Sequence[float]] = moderate,
    steps: int = 3,
    fewest: int = 1,
) -> st.SearchStrategy[Run]:
    """Runs of ``fewest`` to ``steps`` steps; parameters are of moderate size."""

    def numbers(dtype: str, sizes: Sequence[float]) -> st.SearchStrategy[Any]:
        of_size = st.sampled_from([sign * x for x in sizes for sign in (1, -1)])

        def array(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
            n = math.prod(shape)
            return st.lists(of_size, min_size=n, max_size=n).map(
                lambda values: np.array(values, jnp.dtype(dtype)).reshape(shape)
            )

        shapes, structure = jax.tree.flatten(TREES[tree], is_leaf=_is_shape)
        return st.tuples(*map(array, shapes)).map(structure.unflatten)

    def of_dtype(dtype: str) -> st.SearchStrategy[Run]:
        gradients = st.lists(numbers(dtype, sizes(dtype)), min_size=fewest, max_size=steps)
        return st.builds(Run, numbers(dtype, moderate(dtype)), gradients.map(tuple))

    return st.sampled_from(dtypes).flatmap(of_dtype)


def example(seed: int = 0, *, tree: str = "nested", steps: int = 3, dtype: str = "float32") -> Run:
    """One run of normal numbers, for laws that look at something other than the numbers."""
    rng = np.random.default_rng(seed)

    def sample() -> Any:
        def leaf(shape: tuple[int, ...]) -> np.ndarray:
            return np.asarray(rng.normal(size=shape), jnp.dtype(dtype))

        return jax.tree.map(leaf, TREES[tree], is_leaf=_is_shape)

    return Run(sample(), tuple(sample() for _ in range(steps)))


def is_double(case: Any) -> bool:
    """Whether a case needs JAX to allow double precision."""
    if isinstance(case, Run):
        case = (case.params, tuple(case.gradients))
    if isinstance(case, tuple):
        return any(map(is_double, case))
    leaves = jax.tree.leaves(case)
    return any(getattr(x, "dtype", x) in ("float64", "complex128") for x in leaves)


def code(x: Any) -> str:
    """A tree as Python code that makes it."""
    if isinstance(x, np.ndarray):
        return f"np.array({_numbers(x.tolist())}, {x.dtype.name!r})"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{key!r}: {code(value)}" for key, value in x.items()) + "}"
    if isinstance(x, list):
        return f"[{', '.join(map(code, x))}]"
    if isinstance(x, tuple):
        return f"({', '.join(map(code, x))}{',' * (len(x) == 1)})"
    return _numbers(x)


def _numbers(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(_numbers, values))}]"
    plain = isinstance(values, float | complex) and not np.isfinite(values)
    return repr(values).replace("nan", "np.nan").replace("inf", "np.inf") if plain else repr(values)


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)
