"""The optimizer under test, and what it does with recorded gradients."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdfx.core.arguments import is_transformation
from gdfx.core.inner import demands, extended
from gdfx.lookup import parameters
from gdfx.testing.draw import HYPERPARAMETERS, Run
from gdfx.testing.traits import Traits, known

Make = Callable[..., Any]


class Trajectory(NamedTuple):
    """What a run gave: the updates of every step, and the state after the last."""

    updates: list[Any]
    state: Any


class Subject:
    """An optimizer under test. The laws share one compiled update for each kind of tree.

    Args:
      make: makes the optimizer: a function without arguments, or ``functools.partial`` of a
        factory. Laws about hyperparameters need the second form, for they change them.
      traits: what is declared of it, beside and before what is known of gdfx's and optax's own.
    """

    def __init__(self, make: Make, traits: Traits | None = None):
        if not callable(make):
            raise TypeError(
                f"{type(make).__name__} makes no optimizer; give a function that does, such as "
                "lambda: optax.adam(1e-3) or partial(optax.adam, learning_rate=1e-3)"
            )
        if isinstance(make, functools.partial):
            self.factory: Callable[..., Any] = make.func
            bound = inspect.signature(make.func).bind_partial(*make.args, **make.keywords)
            self.arguments: dict[str, Any] = bound.arguments
        else:
            self.factory, self.arguments = make, {}
        self.declared = traits or Traits()
        self.traits = self.declared.before(known(self.factory, self.arguments))

    @property
    def rounded(self) -> float:
        """By how much two ways to the same update may differ in float32: a part of the largest.

        Another grouping of the same operations may round each of them once more.
        """
        return 1e-5 * (self.traits.rounding or 1)

    def make(self, **changes: Any) -> optax.GradientTransformation:
        """A new instance, with some arguments changed; it is given a loss if it needs one.

        The loss is 1 at the parameters, and a straight line along the gradients from there.
        """
        return self._made(self.factory(**self.arguments | changes))

    def injected(
        self, changes: Mapping[str, float] | None = None, **options: Any
    ) -> optax.GradientTransformation:
        """It inside ``optax.inject_hyperparams``: its numbers injected, some of them changed."""
        others = self.parameters.keys() - self.numbers.keys()
        inject = optax.inject_hyperparams(self.factory, static_args=others, **options)
        return self._made(inject(**self.arguments | dict(changes or {})))

    def _made(self, tx: Any) -> optax.GradientTransformation:
        if not is_transformation(tx):
            raise TypeError(
                f"{self.factory!r} returned {type(tx).__name__}, which is no "
                "optax.GradientTransformation"
            )
        if not isinstance(tx, optax.GradientTransformation):  # an optax.MultiSteps, say
            tx = extended(tx)
        if self.traits.needs_value is None:
            self.traits = replace(self.traits, needs_value="value" in demands(tx))
        return self._with_loss(tx)

    def _with_loss(self, tx: optax.GradientTransformation) -> optax.GradientTransformation:
        if not self.traits.needs_value:
            return tx
        tx = extended(tx)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            def value_fn(elsewhere: Any) -> Any:
                return 1.0 + optax.tree.vdot(updates, optax.tree.sub(elsewhere, params))

            loss: dict[str, Any] = {"value": 1.0, "grad": updates, "value_fn": value_fn}
            return tx.update(updates, state, params, **loss | extra)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    @functools.cached_property
    def tx(self) -> optax.GradientTransformation:
        """The instance that the laws share."""
        return self.make()

    @functools.cached_property
    def compiled(self) -> optax.GradientTransformation:
        """The same, compiled."""
        return compiled(self.tx)

    def make_reference(self, **changes: Any) -> optax.GradientTransformation:
        """A new instance of the declared reference, with some arguments changed."""
        assert self.traits.reference is not None  # the law needs it
        return self._with_loss(self.traits.reference(**changes))

    @functools.cached_property
    def slope(self) -> Callable[[Any, Any], tuple[jax.Array, jax.Array]]:
        """The updates that stacked gradients give, summed up with weights, and the derivative."""

        def total(gradients: jax.Array, params: Any) -> jax.Array:
            return weighted(replay(self.tx, Run(params, tuple(gradients))).updates)

        return jax.jit(jax.value_and_grad(total))

    @functools.cached_property
    def numbers(self) -> dict[str, float]:
        """Its arguments that are numbers to calculate with, with their values.

        These are floating point numbers, and whole ones under a name that is known for a number.
        Any other int, bool, string or None chooses something, and is never changed or traced.
        """
        values = {name: p.default for name, p in self.parameters.items()} | self.arguments
        return {
            name: float(x)
            for name, x in values.items()
            if isinstance(x, float) or (type(x) is int and name in HYPERPARAMETERS)
        }

    def takes_number(self, name: str) -> bool:
        """Whether it has an argument of that name, which is no string, bool or the like."""
        if name not in self.parameters:
            return False
        value = self.arguments.get(name, self.parameters[name].default)
        return name in self.numbers or not isinstance(value, bool | int | str)

    @functools.cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """What the factory takes, by name."""
        return parameters(self.factory)

    @property
    def is_ready_made(self) -> bool:
        """Whether it is made by a function without arguments, so that none can be changed."""
        return not self.parameters

    def replay(self, run: Run) -> Trajectory:
        """What the compiled optimizer does."""
        return replay(self.compiled, run)

    def by_operation(self, run: Run, **changes: Any) -> Trajectory:
        """What it does without being compiled, with some arguments changed.

        For trees, dtypes and arguments that no other law has that is sooner done: each operation is
        compiled by itself, once for whatever optimizer in the process has it.
        """
        return replay(self.make(**changes) if changes else self.tx, run)


def compiled(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation, compiled."""
    return tx._replace(init=jax.jit(tx.init), update=jax.jit(tx.update))


def weighted(updates: list[Any]) -> jax.Array:
    """The sum of all updates, with unequal weights so that no derivative is lost in it."""
    weights = (1 + i + jnp.arange(u.size) for i, u in enumerate(updates))
    return sum((jnp.sum(u * w) for u, w in zip(updates, weights, strict=True)), jnp.zeros(()))


def replay(tx: optax.GradientTransformation, run: Run, state: Any = None) -> Trajectory:
    """Feed recorded gradients at fixed parameters, from the start or from a state on."""
    params, gradients = jax.tree.map(jnp.asarray, (run.params, tuple(run.gradients)))
    state = tx.init(params) if state is None else state
    updates: list[Any] = []
    for g in gradients:
        u, state = tx.update(g, state, params)
        updates.append(u)
    return Trajectory(updates, state)
