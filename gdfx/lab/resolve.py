"""From what a user types to a method or a problem, or to one sentence on what is wrong."""

import ast
import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import optax

from gdfx.catalog import METHODS, Method
from gdfx.core.arguments import ARGUMENTS, is_transformation
from gdfx.lab.problems import PROBLEMS, Problem

DEFAULT_METHODS = ("sgd", "momentum", "adagrad", "adam")

SYMBOLS = {
    "learning_rate": "η",
    "decay": "α",
    "b1": "β₁",
    "b2": "β₂",
    "eps": "ε",
    "eps_root": "ε_root",
    "initial_accumulator_value": "h₀",
    "weight_decay": "λ",
}


class RaceError(ValueError):
    """A mistake in what was asked for, told in one sentence."""


@dataclass(frozen=True)
class Entry:
    """One optimizer, entered for one problem."""

    name: str
    """As it was asked for: ``adam``, ``textbook.adam``, ``optax:lion``."""

    optimizer: optax.GradientTransformation

    hyperparameters: dict[str, float]
    """Numbers by argument name, ``learning_rate`` first."""

    record: Method | None
    """Its entry in the catalog, if it has one."""

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.hyperparameters["learning_rate"]


def hyperparameters(values: Mapping[str, float]) -> str:
    """As in ``η=0.3, β₁=0.9, ε=1e-8``."""
    return ", ".join(
        f"{SYMBOLS.get(argument, argument)}={number(value)}" for argument, value in values.items()
    )


def number(value: float) -> str:
    """A hyperparameter as one writes it: ``0.001``, ``1e-8``; no two numbers are written alike."""
    short = f"{value:g}"
    text = short if float(short) == value else repr(float(value)).removesuffix(".0")
    return text.replace("e-0", "e-").replace("e+0", "e")


def enter(text: str, problem: Problem) -> Entry:
    """The method that ``NAME`` or ``NAME=RATE`` asks for, with its rate on the problem.

    Args:
      text: NAME is one of the catalog's, or ``module:factory`` of any function that makes an
        optax-compatible optimizer from a learning rate.
      problem: it knows a rate for methods that are asked for without.

    Raises:
      RaceError: for names, rates and factories that lead to no optimizer.
    """
    name, equals, rate_text = text.partition("=")
    find_factory(name)  # an unknown name is told before a missing rate
    if not equals:
        default = default_rate(name, problem)
        if default is None:
            raise RaceError(
                f"{problem.name} knows no learning rate for {name}: give one, as in {name}=0.001"
            )
        return enter_at(name, default)
    try:
        rate = float(rate_text)
    except ValueError:
        raise RaceError(f"{text}: the learning rate must be a number") from None
    return enter_at(name, rate)


def enter_at(name: str, rate: float) -> Entry:
    """The method of that name at a learning rate.

    Raises:
      RaceError: for names, rates and factories that lead to no optimizer.
    """
    factory = find_factory(name)
    try:
        ARGUMENTS["learning_rate"].check(name, "learning_rate", rate)
    except ValueError as error:
        raise RaceError(str(error)) from None
    try:
        optimizer = factory(rate)
    except (Exception, SystemExit) as error:  # whatever a stranger's function raises
        raise RaceError(f"{name}({number(rate)}) raises {sentence(error)}") from error
    if not is_transformation(optimizer):
        raise RaceError(
            f"{name}({number(rate)}) returned {type(optimizer).__name__}, which is no "
            "optax.GradientTransformation"
        )
    return Entry(name, optimizer, _numbers(factory, rate), METHODS.get(name))


def find_factory(name: str) -> Callable[..., Any]:
    """The function that makes the optimizer: of the catalog, or ``module:factory``."""
    if name in METHODS:
        return METHODS[name].factory
    if ":" in name:
        return _load(name)
    raise RaceError(
        f"unknown method {name!r}; {_nearest(name, METHODS)} "
        "(any other optimizer: module:factory, as in optax:lion)"
    )


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of a factory, from ``NAME=VALUE`` each; a value is a Python literal or a word."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise RaceError(f"{text!r} is not NAME=VALUE, as in learning_rate=1e-3")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def find_problem(name: str | Problem) -> Problem:
    """The problem of that name; a problem itself passes through."""
    if not isinstance(name, str):
        return name
    if name not in PROBLEMS:
        raise RaceError(f"unknown problem {name!r}; {_nearest(name, PROBLEMS)}")
    return PROBLEMS[name]


def find_method(name: str) -> Method:
    """The catalog's record of that name."""
    if name not in METHODS:
        raise RaceError(f"unknown method {name!r}; {_nearest(name, METHODS)}")
    return METHODS[name]


def as_list(names: Any) -> list[Any]:
    """What was asked for, in a list; a name or a problem alone is one."""
    return list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]


def check_counts(*, steps: Any, seeds: Any, seed: Any) -> None:
    """Refuse a race of no steps, of no seeds, or from a negative seed."""
    for name, value, least in (("steps", steps, 1), ("seeds", seeds, 1), ("seed", seed, 0)):
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise RaceError(f"{name} must be a whole number of at least {least}, got {value!r}")


def runs_not(entry: Entry, problem: Problem, error: Exception) -> RaceError:
    """What to say of an optimizer that was made, but fails at its first step."""
    return RaceError(f"{entry.name} does not run on {problem.name}: {sentence(error)}")


def _load(path: str) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise RaceError(f"{path!r} is not module:factory, as in optax:lion")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a stranger's module runs here
        raise RaceError(f"{path}: cannot import {module_name}: {sentence(error)}") from error
    try:
        factory = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        nearest = _nearest(attribute, dir(module))
        raise RaceError(f"{path}: {module_name} has no {attribute!r}; {nearest}") from None
    if not callable(factory):
        raise RaceError(f"{path} is not a function that makes an optimizer")
    return factory


def default_rate(name: str, problem: Problem) -> float | None:
    """The problem's own learning rate for a method, or for the one that it is a form of."""
    form = METHODS[name].form if name in METHODS else None
    return problem.rates.get(name, problem.rates.get(form or name))


def _numbers(factory: Callable[..., Any], rate: float) -> dict[str, float]:
    try:
        _, *others = inspect.signature(factory).parameters.values()
    except ValueError:  # some callables have no signature to ask
        others = []
    return {"learning_rate": rate} | {
        argument.name: argument.default
        for argument in others
        if _is_number(argument.default) and argument.default != 0  # 0 is off
    }


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _nearest(name: str, names: Iterable[str]) -> str:
    names = [known for known in names if not known.startswith("_")]
    close = difflib.get_close_matches(name, names) or difflib.get_close_matches(name.lower(), names)
    if close:
        return f"did you mean {_either(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 20 else "see its documentation"


def _either(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def sentence(error: BaseException) -> str:
    """What an exception says, on one line."""
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
