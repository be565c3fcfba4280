"""What bad arguments and bad trees get: one clear sentence, before any computation."""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

P = ParamSpec("P")
R = TypeVar("R")


class Number(NamedTuple):
    """What a numeric hyperparameter may be."""

    allowed: str
    holds: Callable[[float], bool]
    schedule: bool = False  # may it be a function of the step count?
    near_one: bool = False  # are its values worth most near 1, where narrow dtypes hold few?

    def __str__(self) -> str:
        return f"a number {self.allowed}" + self.schedule * " or a schedule"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is allowed; traced values have none to look at."""
        dtype = getattr(value, "dtype", None)
        if self.near_one and _is_narrow(dtype):
            raise TypeError(
                f"{method}: {argument} is {dtype}, where 0.9999 is 1; give at least float32 (to "
                "optax.inject_hyperparams: hyperparam_dtype=jnp.float32)"
            )
        if isinstance(value, Tracer):
            if value.shape != () or not _is_real_number(value.dtype):
                _refuse(TypeError, method, argument, value, self)
            return
        if callable(value):
            if not self.schedule:
                raise TypeError(
                    f"{method}: {argument} must be {self}, got a function; to schedule it, "
                    f"write optax.inject_hyperparams({method})({argument}=...)"
                )
            return
        if not _is_real_scalar(value):
            _refuse(TypeError, method, argument, value, self)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not (math.isfinite(number) and self.holds(number)):
            _refuse(ValueError, method, argument, value, self)


class Flag:
    """An argument that is True or False."""

    def __str__(self) -> str:
        return "True or False"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a bool."""
        if not isinstance(value, bool):
            _refuse(TypeError, method, argument, value, self)


class DType:
    """The dtype of an accumulator."""

    def __str__(self) -> str:
        return "None or a real floating dtype"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value names a real floating dtype."""
        if value is None:
            return
        try:
            dtype = jnp.dtype(value)
        except TypeError:
            _refuse(TypeError, method, argument, value, self)
        if not jnp.issubdtype(dtype, jnp.floating):
            _refuse(TypeError, method, argument, str(dtype), self)


class Mask:
    """The leaves that weight decay applies to."""

    def __str__(self) -> str:
        return "None, a tree of bools, or a function from the parameters to one"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a function or every leaf of it is a bool."""
        if callable(value):
            return
        for path, leaf in jax.tree.leaves_with_path(value):
            if not _is_bool(leaf):
                where = argument + jax.tree_util.keystr(path)
                _refuse(TypeError, method, where, leaf, Flag())


class Count:
    """How often something may happen."""

    def __str__(self) -> str:
        return "a whole number >= 0"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is an int that is not negative."""
        if isinstance(value, bool) or not isinstance(value, Integral):
            _refuse(TypeError, method, argument, value, self)
        if value < 0:
            _refuse(ValueError, method, argument, value, self)


class Transformation:
    """An optimizer, or a link of one."""

    def __str__(self) -> str:
        return "an optax.GradientTransformation"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is an (init, update) pair of optax's kind."""
        if not isinstance(value, optax.GradientTransformation):
            _refuse(TypeError, method, argument, value, self)


class Key:
    """A random key, new style or old."""

    def __str__(self) -> str:
        return "a random key, such as jax.random.key(0)"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is one key."""
        dtype, shape = getattr(value, "dtype", None), np.shape(value)
        new_style = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
        if not (new_style and shape == ()) and not (dtype == jnp.uint32 and shape == (2,)):
            _refuse(TypeError, method, argument, value, self)


_DECAY = Number("in [0, 1)", lambda x: 0 <= x < 1, near_one=True)
_NOT_NEGATIVE = Number(">= 0", lambda x: x >= 0)
_RATE = Number(">= 0", lambda x: x >= 0, schedule=True)

# A name means the same in every method, so what it may be is said once.
ARGUMENTS: dict[str, Number | Flag | DType | Mask | Count | Transformation | Key] = {
    "learning_rate": _RATE,
    "weight_decay": _RATE,
    "b1": _DECAY,
    "b2": _DECAY,
    "decay": _DECAY,
    "eps": _NOT_NEGATIVE,
    "eps_root": _NOT_NEGATIVE,
    "initial_accumulator_value": _NOT_NEGATIVE,
    "nesterov": Flag(),
    "accumulator_dtype": DType(),
    "mu_dtype": DType(),
    "nu_dtype": DType(),
    "mask": Mask(),
    "max_consecutive": Count(),
    "tx": Transformation(),
    "direction": Transformation(),
    "key": Key(),
}


def arguments(factory: Callable[P, R]) -> Callable[P, R]:
    """Decorate a method's factory: its arguments are checked by their names in `ARGUMENTS`."""
    signature = inspect.signature(factory)
    method = method_name(factory)
    rules = {name: ARGUMENTS[name] for name in signature.parameters if name in ARGUMENTS}

    @functools.wraps(factory)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in rules:
                rules[name].check(method, name, value)
        return factory(*args, **kwargs)

    return checked


def method_name(factory: Callable[..., Any]) -> str:
    """The name under which `gdfx` offers a factory, or the factory around a function inside."""
    package, _, module = factory.__module__.rpartition(".")
    name = factory.__qualname__.partition(".")[0]
    return f"{module}.{name}" if package == "gdfx.dialects" else name


def _is_bool(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray) and not isinstance(value, Tracer):
        return value.dtype == bool and value.shape == ()
    return isinstance(value, bool | np.bool_)


def _is_real_scalar(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return _is_real_number(dtype) and np.shape(value) == ()


def _is_real_number(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _is_narrow(dtype: Any) -> bool:
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def _refuse(
    error: type[Exception], method: str, argument: str, value: Any, right: object
) -> NoReturn:
    raise error(f"{method}: {argument} must be {right}, got {_describe(value)}")


def _describe(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray) and (value.ndim or isinstance(value, Tracer)):
        return f"an array of dtype {value.dtype} and shape {value.shape}"
    return repr(value.item() if isinstance(value, jax.Array | np.generic) else value)


def trees(
    method: str, tx: optax.GradientTransformationExtraArgs, kind: type[Any]
) -> optax.GradientTransformationExtraArgs:
    """The same transformation, whose states are of a kind; trees that do not fit are refused."""

    def init(params: optax.Params) -> optax.OptState:
        parameters(method, params)
        return tx.init(params)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        gradients(method, updates, params)
        state_kind(method, state, kind)
        return tx.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)


def parameters(method: str, params: Any) -> None:
    """Refuse parameters that no gradient method can move."""
    for i, p in enumerate(jax.tree.leaves(params)):
        if not is_inexact(p):
            raise TypeError(
                f"{method}: parameter {_path(params, i)} is {_kind(p)}, but must be a floating "
                "or complex array; mask it out with optax.masked"
            )


def params_given(method: str, params: Any) -> None:
    """Refuse an update without the parameters, where the method needs them."""
    if params is None:
        raise ValueError(
            f"{method} needs the parameters: call update(gradients, state, params), "
            "not update(gradients, state)"
        )


def gradients(method: str, updates: Any, params: Any) -> None:
    """Refuse gradients that do not belong to the parameters (where those are given)."""
    leaves = jax.tree.leaves(updates)
    for i, g in enumerate(leaves):
        if not is_inexact(g):
            raise TypeError(
                f"{method}: gradient {_path(updates, i)} is {_kind(g)}, but must be a floating "
                "or complex array"
            )
    if params is None:
        return
    same_structure(method, "gradients", updates, "parameters", params)
    for i, (g, p) in enumerate(zip(leaves, jax.tree.leaves(params), strict=True)):
        if np.shape(g) != np.shape(p):
            raise ValueError(
                f"{method}: gradient {_path(updates, i)} has shape {np.shape(g)}, but its "
                f"parameter has shape {np.shape(p)}; they must be equal"
            )
        if jnp.iscomplexobj(g) and not jnp.iscomplexobj(p):
            raise TypeError(
                f"{method}: gradient {_path(updates, i)} is {_kind(g)}, but its parameter is "
                f"{_kind(p)}; take the real part of the gradient"
            )


def schedule(rate: Any) -> Any:
    """The same rate; a schedule is refused where it returns anything but one real number."""
    if not callable(rate):
        return rate

    def checked(count: Any) -> Any:
        value = rate(count)
        if not _is_real_scalar(value):
            raise TypeError(f"a schedule must return one real number, got {_describe(value)}")
        return value

    return checked


def mask(mask: Any) -> Any:
    """The same mask; a function is refused where it returns anything but bools."""
    if not callable(mask):
        return mask

    def checked(params: Any) -> Any:
        tree = mask(params)
        Mask().check("weight decay", "mask(params)", tree)
        return tree

    return checked


def count(method: str, count: Any) -> None:
    """Refuse a state whose step count is none."""
    if np.shape(count) != () or not jnp.issubdtype(_dtype(count), jnp.integer):
        raise TypeError(
            f"{method}: the state's count must be one whole number, got {_describe(count)}"
        )


def state_kind(method: str, state: Any, kind: type[Any]) -> None:
    """Refuse a state that another method made."""
    if not isinstance(state, kind):
        raise TypeError(
            f"{method}: the state must be the {kind.__name__} that this method's init "
            f"returned, got {_kind(state)}"
        )


def chain_state(state: Any, kinds: Sequence[type[Any]]) -> None:
    """Refuse what is not the state of a chain whose links have states of these kinds."""
    if not isinstance(state, tuple) or len(state) != len(kinds):
        raise TypeError(
            f"the optimizer's state must be the tuple of {len(kinds)} states that its init "
            f"returned, got {_kind(state)}"
            + (f" of {len(state)}" if isinstance(state, tuple) else "")
        )
    for i, (link, kind) in enumerate(zip(state, kinds, strict=True)):
        if not isinstance(link, kind):
            raise TypeError(
                f"the optimizer's state [{i}] must be {kind.__name__}, got {_kind(link)}; "
                "pass what this optimizer's own init returned: schedules and masks change it"
            )


def accumulators(
    method: str,
    updates: Any,
    fields: dict[str, Any],
    shapes: Callable[[tuple[int, ...]], Sequence[tuple[int, ...]]],
) -> None:
    """Refuse a state whose accumulators were made for other parameters.

    ``shapes`` tells the shapes that a gradient's accumulators have, in the fields' order.
    """
    leaves = jax.tree.leaves(updates)
    for k, (field, tree) in enumerate(fields.items()):
        same_structure(method, "gradients", updates, f"state's {field}", tree)
        for i, (g, a) in enumerate(zip(leaves, jax.tree.leaves(tree), strict=True)):
            if not is_inexact(a):
                raise TypeError(
                    f"{method}: {field} {_path(tree, i)} in the state is {_kind(a)}, but must be "
                    "a floating or complex array"
                )
            right = shapes(np.shape(g))[k]
            if np.shape(a) != right:
                raise ValueError(
                    f"{method}: gradient {_path(updates, i)} has shape {np.shape(g)}, but its "
                    f"{field} in the state has shape {np.shape(a)}, not {right}; the state was "
                    "made for other parameters"
                )


def same_structure(method: str, name: str, tree: Any, other_name: str, other: Any) -> None:
    """Refuse two trees that should be alike and are not, with the first path that differs."""
    if jax.tree.structure(tree) == jax.tree.structure(other):
        return
    paths, others = ([_at(path) for path, _ in jax.tree.leaves_with_path(t)] for t in (tree, other))
    for path in others:
        if path not in paths:
            raise ValueError(f"{method}: the {name} lack {path}, which the {other_name} have")
    for path in paths:
        if path not in others:
            raise ValueError(f"{method}: the {name} have {path}, which the {other_name} lack")
    raise ValueError(
        f"{method}: the {name} and the {other_name} have the same leaves in different "
        f"containers: {jax.tree.structure(tree)} and {jax.tree.structure(other)}"
    )


def width(method: str, function: str, got: int, right: int) -> None:
    """Refuse what a faulty ``init`` or ``rule`` of one array returned."""
    if got != right:
        raise ValueError(f"{method}: {function} must return {right} accumulators, got {got}")


def shapes_kept(method: str, names: Sequence[str], old: Sequence[Any], new: Sequence[Any]) -> None:
    """Refuse a rule that changed the shape of the update or of an accumulator."""
    for name, a, b in zip(names, old, new, strict=True):
        if np.shape(a) != np.shape(b):
            raise ValueError(
                f"{method}: the rule returned {name} in shape {np.shape(b)}, not {np.shape(a)}"
            )


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex array (or Python number)."""
    dtype = _dtype(leaf)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _dtype(leaf: Any) -> Any:
    if isinstance(leaf, bool | int | float | complex):
        return jnp.result_type(type(leaf))
    return getattr(leaf, "dtype", None)


def _kind(leaf: Any) -> str:
    return str(_dtype(leaf) or type(leaf).__name__)


def _path(tree: Any, i: int) -> str:
    """Where the i-th leaf stands; found only when it is needed."""
    return _at(jax.tree.leaves_with_path(tree)[i][0])


def _at(path: Any) -> str:
    return jax.tree_util.keystr(path) or "(the whole tree)"
