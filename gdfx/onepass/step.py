"""A whole optimizer step in one pass over memory."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from gdfx.core.arguments import checked
from gdfx.core.inner import extended
from gdfx.onepass import native
from gdfx.onepass.call import call
from gdfx.onepass.explain import explained
from gdfx.onepass.plan import plan, run


@checked
def one_pass(tx: optax.GradientTransformation) -> "OnePass":
    """Make a step that reads and writes each array once: ``update`` and `optax.apply_updates`.

    On a CPU an optimizer step waits for memory, and XLA goes over the arrays several times. Here
    the arithmetic on each element is compiled to one loop that all leaves share, whatever their
    shapes. It needs llvmlite, the extra ``fast``. Without it, on GPU and TPU, and for
    what looks beyond one element, XLA does the work as ever, with the same numbers.

    Results equal those of the plain step up to rounding: every operation has the dtype that it has
    there, and a product may be rounded together with the sum that it goes into.

    Args:
      tx: the whole optimizer: gdfx's, optax's, a chain of them, any other.

    Returns:
      A `gdfx.onepass.OnePass`: ``step(grads, state, params)`` returns the new parameters and the
      new state, inside your `jax.jit`, `jax.lax.scan` and `jax.shard_map`, or outside. Donate
      parameters and state to your jitted function, and let it return them in the order in which it
      takes them; arrays that are kept must be copied first. ``step.explain(params)`` says what runs
      as a pass, and what does not and why.

    Raises:
      TypeError: for a ``tx`` that is none.

    >>> import functools, gdfx, jax, jax.numpy as jnp
    >>> tx, params = gdfx.adam(0.1), {"w": jnp.ones(3)}
    >>> step = gdfx.one_pass(tx)
    >>> @functools.partial(jax.jit, donate_argnums=(0, 1))
    ... def train(params, state, goal):
    ...     grads = jax.grad(lambda p: jnp.sum((p["w"] - goal) ** 2))(params)
    ...     return step(grads, state, params)
    >>> params, state = train(params, tx.init(params), jnp.array([0.0, 1.0, 2.0]))
    >>> print(params["w"])
    [0.9 1.  1.1]
    """
    return OnePass(tx)


class OnePass:
    """A step of an optimizer, made by `gdfx.one_pass`."""

    def __init__(self, tx: optax.GradientTransformation) -> None:
        self._tx = extended(tx)
        self._jitted = jax.jit(functools.partial(self._step, {}))

    def __call__(
        self, grads: optax.Updates, state: optax.OptState, params: optax.Params, **extra_args: Any
    ) -> tuple[Any, Any]:
        """Return the parameters and the state after a step.

        Args:
          grads: the gradients.
          state: of the optimizer, from its ``init`` or from the step before.
          params: the parameters.
          **extra_args: what else the optimizer's ``update`` takes, such as ``value=...``.

        Raises:
          TypeError, ValueError: what the optimizer's ``update`` says of trees that do not belong
            together.
        """
        if native.obstacle() is not None:
            return self._plain(extra_args, grads, state, params, {})
        arrays = {name: x for name, x in extra_args.items() if _is_array(x)}
        others = {name: x for name, x in extra_args.items() if name not in arrays}
        step = jax.jit(functools.partial(self._step, others)) if others else self._jitted
        return step(grads, state, params, arrays)

    def explain(self, params: optax.Params, **extra_args: Any) -> str:
        """Say leaf by leaf what runs as a pass, and what is left to XLA and why.

        Args:
          params: the parameters, or their shapes (`jax.ShapeDtypeStruct`).
          **extra_args: what else the optimizer's ``update`` takes.
        """
        why = native.obstacle()
        if why is None:
            state = jax.eval_shape(self._tx.init, params)
            plain = functools.partial(self._plain, {})
            traced, results = _traced(plain, (params, state, params, extra_args))
            if not traced.effects:
                return explained(plan(traced), results)
            why = _EFFECTS
        return f"no pass: {why}\nXLA does the whole step."

    def _plain(
        self, others: Mapping[str, Any], grads: Any, state: Any, params: Any, arrays: Any
    ) -> tuple[Any, Any]:
        updates, state = self._tx.update(grads, state, params, **others, **arrays)
        return optax.apply_updates(params, updates), state

    def _step(self, others: Mapping[str, Any], *arguments: Any) -> tuple[Any, Any]:
        """In passes; where it is differentiated, the plain step."""
        plain = functools.partial(self._plain, others)

        @jax.custom_jvp
        def step(*arguments: Any) -> Any:
            traced, results = _traced(plain, arguments)
            if traced.effects:
                return plain(*arguments)
            found = run(plan(traced), jax.tree.leaves(_in_order(*arguments)), call)
            return jax.tree.unflatten(jax.tree.structure(results), found)

        def derivative(primals: Any, tangents: Any) -> Any:
            return jax.jvp(plain, primals, tangents)

        step.defjvp(derivative)
        return step(*arguments)


_EFFECTS = "the step prints, calls back or has other effects"


def _in_order(grads: Any, state: Any, params: Any, arrays: Any) -> Any:
    """What the step returns comes first, so that old and new stand at the same places."""
    return params, state, grads, arrays


def _traced(plain: Any, arguments: Any) -> tuple[Any, Any]:
    """The plain step's equations, of arguments in order, and the shapes of its results."""

    def step(params: Any, state: Any, grads: Any, arrays: Any) -> Any:
        return plain(grads, state, params, arrays)

    return jax.make_jaxpr(step, return_shape=True)(*_in_order(*arguments))


def _is_array(x: Any) -> bool:
    """Whether an argument is made of arrays and floating numbers alone."""
    kinds = jax.Array | np.ndarray | np.generic | float | complex
    return all(isinstance(leaf, kinds) for leaf in jax.tree.leaves(x))
