"""What the tests run on: every transformation in the catalog, and trees of random numbers."""

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from packaging.version import Version

from gdfx.catalog import METHODS, Factory, Method
from gdfx.core.arguments import Flag, Number, method_name, rules

JAX, OPTAX = Version(jax.__version__), Version(optax.__version__)
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


@dataclass(frozen=True, eq=False)
class Case:
    """A transformation of the catalog: a ready-made optimizer, or a direction alone."""

    method: Method
    factory: Factory
    arguments: dict[str, Any]

    def make(self, **more: Any) -> optax.GradientTransformationExtraArgs:
        return self.factory(**self.arguments | more)

    @functools.cached_property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """One instance that tests share, and with it what JAX has compiled for it."""
        return self.make()

    @property
    def numbers(self) -> dict[str, float]:
        """Every numeric argument, with its value here."""
        return {
            name: self.arguments.get(name, parameter.default)
            for name, parameter in inspect.signature(self.factory).parameters.items()
            if isinstance(rules(self.factory)[name], Number)
        }

    @property
    def vanishing(self) -> dict[str, float]:
        """ε and the start values at 0, where the method's scale law is exact."""
        small = ("eps", "eps_root", "initial_accumulator_value")
        return {name: 0.0 for name in self.numbers if name in small}

    def __str__(self) -> str:
        flags = [k if v else f"no {k}" for k, v in self.arguments.items() if isinstance(v, bool)]
        return method_name(self.factory) + f"({', '.join(flags)})" * bool(flags)


def _cases():
    seen = set()
    for method in METHODS.values():
        for factory in (method.factory, method.direction, *method.directions):
            if factory is None or factory in seen:
                continue
            if method.asks and factory is not method.factory:
                continue  # it refuses leaves that are no matrices, which these trees have
            seen.add(factory)
            parameters = inspect.signature(factory).parameters
            said = {"learning_rate": 0.1} | dict(method.asks)
            given = {name: value for name, value in said.items() if name in parameters}
            yield Case(method, factory, given)
            for flag, rule in rules(factory).items():
                if isinstance(rule, Flag) and not method.dialect:
                    yield Case(method, factory, given | {flag: not parameters[flag].default})


VARIANTS = list(_cases())
"""Every factory and direction, and once more with each of its flags turned, but for dialects:
their flags are in the recordings of what they are dialects of."""

CASES = [case for case in VARIANTS if "(" not in str(case)]
"""Every factory and direction, with its flags at their defaults."""

READY_MADE = [case for case in CASES if case.factory is case.method.factory]

SAMPLE = list(
    {
        case.method.dialect or (case.method.kind, case.method.reach): case
        for case in reversed(READY_MADE)
        if not case.method.needs_value  # laws are given a loss; here nobody gives one
    }.values()
)
"""One of each kind and reach, and one of each dialect: they meet every path of the plumbing."""


def array(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Random numbers around 0, of size about 1."""
    x = rng.normal(size=shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        x = x + 1j * rng.normal(size=shape)
    return jnp.asarray(x, dtype)


def tree(dtype: Any = "float32", seed: int = 0, steps: int | None = None) -> Any:
    """A tree of nested dict, list and tuple with a scalar and a zero-size leaf."""
    rng = np.random.default_rng(seed)

    def leaf(*shape):
        return array(rng, shape if steps is None else (steps, *shape), dtype)

    return {"w": leaf(3, 4), "layers": [(leaf(4), leaf()), {"none": leaf(0, 2)}]}


def at(tree: Any, i: Any) -> Any:
    """The i-th of the trees that lie stacked along the first axis."""
    return jax.tree.map(lambda x: x[i], tree)


def replay(tx: optax.GradientTransformation, params: Any, gradients: Any, state: Any = None):
    """`train` in a Python loop, for trees of gradients in a list; from a state on."""
    state = tx.init(params) if state is None else state
    updates = []
    for g in gradients:
        u, state = tx.update(g, state, params)
        params = optax.apply_updates(params, u)
        updates.append(u)
    return params, state, updates


def train(tx: optax.GradientTransformation, params: Any, gradients: Any) -> tuple[Any, Any, Any]:
    """Replay recorded gradients in one scan: the end parameters and state, and all updates."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), updates

    (params, state), updates = lax.scan(step, (params, tx.init(params)), gradients)
    return params, state, updates


def fields(state: Any) -> Any:
    """The accumulators of a state: all of it but the counts."""
    return [leaf for leaf in jax.tree.leaves(state) if leaf.dtype != jnp.int32]


def avals(x: Any) -> Any:
    """What may not change between steps: shapes, dtypes and weak types."""
    return jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), x)
