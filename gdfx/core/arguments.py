"""What a hyperparameter may be: one table of names, checked before any computation."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any, NamedTuple, NoReturn, ParamSpec, Protocol, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gdfx.core.precision import bits
from gdfx.core.words import listed, nearest

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
        if not isinstance(value, bool | np.bool_):
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
        if is_function(value):
            return
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if not _is_bool(leaf):
                where = argument + jax.tree_util.keystr(path)
                _refuse(TypeError, method, where, leaf, Flag())


class Count(NamedTuple):
    """How often something may happen."""

    least: int = 0

    def __str__(self) -> str:
        return f"a whole number >= {self.least}"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is an int that is not too small."""
        if isinstance(value, bool) or not isinstance(value, Integral):
            _refuse(TypeError, method, argument, value, self)
        if value < self.least:
            _refuse(ValueError, method, argument, value, self)


class Transformation:
    """An optimizer, or a link of one."""

    def __str__(self) -> str:
        return "an optax.GradientTransformation"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value has ``init`` and ``update``, as `optax.MultiSteps` has too."""
        if not is_transformation(value):
            _refuse(TypeError, method, argument, value, self)


class Function(NamedTuple):
    """A function, by what it is a function of."""

    words: str

    def __str__(self) -> str:
        return self.words

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value can be called."""
        if not callable(value):
            _refuse(TypeError, method, argument, value, self)


class Key(NamedTuple):
    """A random key, new style or old (the bits alone: two numbers, of rbg's kind four)."""

    seeds: bool = False  # may it be a whole number, too?

    def __str__(self) -> str:
        return "a random key, such as jax.random.key(0)" + ", or its seed" * self.seeds

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is one key."""
        if self.seeds and isinstance(value, int) and not isinstance(value, bool):
            return
        dtype, shape = getattr(value, "dtype", None), np.shape(value)
        new_style = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
        old_style = dtype == jnp.uint32 and shape in ((2,), (4,))
        if not (new_style and shape == ()) and not old_style:
            _refuse(TypeError, method, argument, value, self)


class Choice:
    """One of some words."""

    def __init__(self, *words: str):
        self.words = words

    def __str__(self) -> str:
        return " or ".join(map(repr, self.words))

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is one of the words."""
        if value not in self.words:
            _refuse(ValueError, method, argument, value, self)


class Optional(NamedTuple):
    """An argument that may be left out: None, or what is allowed."""

    rule: "Argument"

    def __str__(self) -> str:
        return f"None or {self.rule}"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is None or allowed."""
        if value is None:
            return
        try:
            self.rule.check(method, argument, value)
        except (TypeError, ValueError) as error:
            words = str(error).replace(" must be ", " must be None or ", 1)
            raise type(error)(words) from None


class Several:
    """A tuple of so many values, each with what it may be."""

    def __init__(self, *each: "Argument"):
        self.each = each

    def __str__(self) -> str:
        kinds = list(dict.fromkeys(map(str, self.each)))
        if len(kinds) == 1:
            return f"{len(self.each)} numbers {kinds[0].removeprefix('a number ')}"
        return f"({', '.join(map(str, self.each))})"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a tuple or list of that length, and each of it allowed."""
        if not _is_list(value):
            _refuse(TypeError, method, argument, value, self)
        if len(value) != len(self.each):
            _refuse(ValueError, method, argument, value, self)
        for i, (rule, one) in enumerate(zip(self.each, value, strict=True)):
            rule.check(method, f"{argument}[{i}]", one)


class Coefficients:
    """How a matrix is made orthogonal."""

    _words = Choice("quintic", "polar_express", "exact")

    def __str__(self) -> str:
        return f"{self._words}, or triples (a, b, c)"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a word, a triple of numbers, or some triples."""
        if isinstance(value, str) and value in self._words.words:
            return
        triples = value if _is_list(value) and value and _is_list(value[0]) else [value]
        if not all(_is_list(t) and len(t) == 3 and all(map(_is_real_scalar, t)) for t in triples):
            _refuse(ValueError, method, argument, value, self)


class MatricesRule:
    """Which leaves are matrices, along which axes."""

    words = ("flax", "haiku", "equinox", "2d")

    def __str__(self) -> str:
        words = ", ".join(map(repr, self.words))
        return f"{words}, a function of (path, array), or a tree of gdfx.MatrixAxes and None"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise for an unknown word; which leaves a tree or a function finds, only a tree tells."""
        if isinstance(value, str) and value not in self.words:
            _refuse(ValueError, method, argument, value, self)
        if isinstance(value, bool | int | float):
            _refuse(TypeError, method, argument, value, self)


class OneAxis:
    """A mesh axis, as the first of a sharding."""

    def __str__(self) -> str:
        return 'a jax.sharding.NamedSharding of one axis, as NamedSharding(mesh, P("data"))'

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is a sharding of one axis."""
        if not isinstance(value, jax.sharding.NamedSharding):
            _refuse(TypeError, method, argument, value, self)
        if len(value.spec) != 1 or value.spec[0] is None:
            _refuse(ValueError, method, argument, value, self)


class AxisName:
    """The name of a mapped axis, or of several."""

    def __str__(self) -> str:
        return "None, the name of a mapped axis, or a tuple of such names"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is None, a name or a tuple of names."""
        names: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
        if value is not None and not all(isinstance(name, str) for name in names):
            _refuse(TypeError, method, argument, value, self)


class Finite:
    """An argument of which nothing is known: if it is a float, it is no NaN and no Inf."""

    def __str__(self) -> str:
        return "finite"

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise for a float that is not finite."""
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            _refuse(ValueError, method, argument, value, self)


class Argument(Protocol):
    """What an argument may be, and what it is called in an error."""

    def check(self, method: str, argument: str, value: Any) -> None:
        """Raise unless the value is allowed."""
        ...


_FINITE = Finite()

# Ranges that many arguments have, under whatever name.
ANY = Number("finite", lambda x: True)
DECAY = Number("in [0, 1)", lambda x: 0 <= x < 1, near_one=True)
NOT_NEGATIVE = Number(">= 0", lambda x: x >= 0)
POSITIVE = Number("> 0", lambda x: x > 0)
RATE = Number(">= 0", lambda x: x >= 0, schedule=True)

# A name means the same in every method, so what it may be is said once.
ARGUMENTS: dict[str, Argument] = {
    "learning_rate": RATE,
    "weight_decay": RATE,
    "b1": DECAY,
    "b2": DECAY,
    "b3": DECAY,
    "decay": DECAY,
    "rho": DECAY,
    "eps": NOT_NEGATIVE,
    "eps_root": NOT_NEGATIVE,
    "graft_eps": NOT_NEGATIVE,
    "initial_accumulator_value": NOT_NEGATIVE,
    "initial_scale": NOT_NEGATIVE,
    "radius": POSITIVE,
    "nesterov": Flag(),
    "polar_first": Flag(),
    "bias_correction": Flag(),
    "bias_correction_mu": Flag(),
    "bias_correction_nu": Flag(),
    "centered": Flag(),
    "eps_in_sqrt": Flag(),
    "factored": Flag(),
    "accumulator_dtype": DType(),
    "mu_dtype": DType(),
    "nu_dtype": DType(),
    "mask": Mask(),
    "weight_decay_mask": Mask(),
    "compute_dtype": DType(),
    "every": Count(1),
    "spread": Flag(),
    "start": Optional(Count(1)),
    "max_precond_dim": Count(),
    "matrices": MatricesRule(),
    "norm": Choice("spectral", "sign", "row", "column", "rms", "rmnp"),
    "orthogonalize": Coefficients(),
    "over": Optional(OneAxis()),
    "scale": Optional(Choice("moonlight", "jordan", "spectral")),
    "steps": Count(),
    "max_consecutive": Count(),
    "tx": Transformation(),
    "direction": Transformation(),
    "otherwise": Optional(Transformation()),
    "key": Key(),
    "axis_name": AxisName(),
}


# What other libraries call them.
_ELSEWHERE = {
    "lr": ("learning_rate",),
    "learning_rate": ("lr",),
    "step_size": ("learning_rate",),
    "beta1": ("b1",),
    "beta_1": ("b1",),
    "beta2": ("b2",),
    "beta_2": ("b2",),
    "betas": ("b1", "b2"),
    "b1": ("betas",),
    "b2": ("betas",),
    "momentum": ("decay",),
    "rho": ("decay",),
    "epsilon": ("eps",),
    "wd": ("weight_decay",),
}


@overload
def checked(factory: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def checked(**more: Argument | str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def checked(factory: Callable[..., Any] | None = None, /, **more: Argument | str) -> Any:
    """Decorate a method's factory: its arguments are checked by their names in `ARGUMENTS`.

    ::

        @checked(k=Count(), beta=Number("in [0, 1]", lambda x: 0 <= x <= 1))
        def my_method(learning_rate, b1=0.9, k=3, beta=0.5): ...

    A Python float under a name that nobody knows must at least be finite.

    Args:
      factory: the factory.
      more: by the name of an argument that it has: what that may be, such as a `Number`; by
        the name of one that it does not have: what to write instead.

    Raises:
      TypeError: for what an argument may be, under a name that the factory does not take.
    """
    if factory is None:
        return functools.partial(_checked, more=more)
    return _checked(factory, more)


def _checked(factory: Callable[P, R], more: dict[str, Argument | str]) -> Callable[P, R]:
    signature = inspect.signature(factory)
    method = method_name(factory)
    ways_out = {name: words for name, words in more.items() if isinstance(words, str)}
    own = {name: rule for name, rule in more.items() if not isinstance(rule, str)}
    stray = next((name for name in own if name not in signature.parameters), None)
    if stray is not None:
        raise TypeError(f"{method}: there is no argument {stray} to check")
    rules = {name: (ARGUMENTS | own).get(name, _FINITE) for name in signature.parameters}

    @functools.wraps(factory)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            wrong = _misfit(error, signature, kwargs, with_checks)
            raise TypeError(f"{method}: {wrong}") from None
        for name, value in bound.arguments.items():
            rules[name].check(method, name, value)
        return factory(*args, **kwargs)

    setattr(with_checks, _RULES, rules)
    setattr(with_checks, _WAYS_OUT, ways_out)
    return with_checks


_RULES = "gdfx_rules"
_WAYS_OUT = "gdfx_ways_out"


def rules(factory: Callable[..., Any]) -> dict[str, Argument]:
    """What each argument of a checked factory may be, by name."""
    return getattr(factory, _RULES, {})


def _misfit(
    error: TypeError,
    signature: inspect.Signature,
    given: Iterable[str],
    factory: Callable[..., Any],
) -> str:
    """Which argument a function does not take or was not given, and what would be right."""
    unknown = unknown_argument(factory, signature.parameters, given)
    return unknown or f"{error}; its arguments are {_call(signature)}"


def unknown_argument(
    factory: Callable[..., Any], takes: Mapping[str, inspect.Parameter], given: Iterable[str]
) -> str | None:
    """What to say of the first given name that a factory does not take, if there is one.

    Args:
      factory: the factory; a checked one may know what to write instead.
      takes: its parameters.
      given: the names of the arguments that it is given by keyword.
    """
    unknown = next((name for name in given if name not in takes), None)
    if unknown is None or any(p.kind == p.VAR_KEYWORD for p in takes.values()):
        return None
    known = [right for right in _ELSEWHERE.get(unknown, ()) if right in takes]
    instead = f"did you mean {listed(known)}?" if known else nearest(unknown, takes)
    return f"there is no argument {unknown}; {_ways_out(factory).get(unknown, instead)}"


def _ways_out(factory: Callable[..., Any]) -> Mapping[str, str]:
    if isinstance(factory, functools.partial):
        return _ways_out(factory.func)
    return getattr(factory, _WAYS_OUT, {})


def _call(signature: inspect.Signature) -> str:
    """As in ``(learning_rate, b1=0.9)``: without types, which say little here."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def method_name(factory: Callable[..., Any]) -> str:
    """The name under which `gdfx` offers a factory, or the factory around a function inside."""
    if isinstance(factory, functools.partial):
        return method_name(factory.func)
    if not hasattr(factory, "__qualname__"):
        return type(factory).__qualname__
    package, _, module = factory.__module__.rpartition(".")
    name = factory.__qualname__.partition(".")[0]
    return f"{module}.{name}" if package == "gdfx.dialects" else name


def is_transformation(x: Any) -> bool:
    """Whether ``x`` has an ``init`` and an ``update``, as optax's transformations have."""
    return all(callable(getattr(x, part, None)) for part in ("init", "update"))


def is_function(x: Any) -> bool:
    """Whether ``x`` is a function of something; a tree that can be called is a tree."""
    return callable(x) and jax.tree_util.all_leaves([x])


def is_off(x: Any) -> bool:
    """Whether an argument is the number 0, now and in every step; an array may change."""
    return isinstance(x, int | float | np.number) and x == 0


def schedule(rate: Any) -> Any:
    """The same rate; a schedule is refused where it returns anything but one real number."""
    if not callable(rate):
        return rate

    def of_step(count: Any) -> Any:
        value = rate(count)
        if not _is_real_scalar(value):
            raise TypeError(f"a schedule must return one real number, got {describe(value)}")
        return value

    return of_step


def mask(mask: Any) -> Any:
    """The same mask as optax takes it; a function is refused where it returns anything but bools.

    optax calls what can be called, and a model of bools may be such a tree.
    """
    if not is_function(mask):
        return (lambda params: mask) if callable(mask) else mask

    def of_params(params: Any) -> Any:
        tree = mask(params)
        Mask().check("weight decay", "mask(params)", tree)
        return tree

    return of_params


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


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
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and bits(dtype) < 32


def _refuse(
    error: type[Exception], method: str, argument: str, value: Any, right: object
) -> NoReturn:
    raise error(f"{method}: {argument} must be {right}, got {describe(value)}")


def describe(value: Any) -> str:
    """A value as an error shows it: an array by its dtype and shape."""
    a_number = isinstance(value, jax.Array) and not (value.ndim or isinstance(value, Tracer))
    if a_number and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"a random key of dtype {value.dtype}"
    if isinstance(value, jax.Array | np.ndarray) and (value.ndim or isinstance(value, Tracer)):
        return f"an array of dtype {value.dtype} and shape {value.shape}"
    return repr(value.item() if isinstance(value, jax.Array | np.generic) else value)
