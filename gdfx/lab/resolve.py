"""From what a user types to a method or a problem, or to one sentence on what is wrong."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optax

from gdfx.catalog import METHODS, Method
from gdfx.core.arguments import ARGUMENTS, is_transformation
from gdfx.core.words import nearest, number, sentence
from gdfx.lab.problems import PROBLEMS, Problem
from gdfx.lookup import RequestError, find_factory

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


def enter(text: str, problem: Problem) -> Entry:
    """The method that ``NAME`` or ``NAME=RATE`` asks for, with its rate on the problem.

    Args:
      text: NAME is one of the catalog's, or ``module:factory`` of any function that makes an
        optax-compatible optimizer from a learning rate.
      problem: it knows a rate for methods that are asked for without.

    Raises:
      RequestError: for names, rates and factories that lead to no optimizer.
    """
    name, equals, rate_text = text.partition("=")
    find_factory(name)  # an unknown name is told before a missing rate
    if not equals:
        default = default_rate(name, problem)
        if default is None:
            raise RequestError(
                f"{problem.name} knows no learning rate for {name}: give one, as in {name}=0.001"
            )
        return enter_at(name, default)
    try:
        rate = float(rate_text)
    except ValueError:
        raise RequestError(f"{text}: the learning rate must be a number") from None
    return enter_at(name, rate)


def enter_at(name: str, rate: float) -> Entry:
    """The method of that name at a learning rate.

    Raises:
      RequestError: for names, rates and factories that lead to no optimizer.
    """
    factory = find_factory(name)
    try:
        ARGUMENTS["learning_rate"].check(name, "learning_rate", rate)
    except ValueError as error:
        raise RequestError(str(error)) from None
    try:
        optimizer = factory(rate)
    except (Exception, SystemExit) as error:  # whatever a stranger's function raises
        raise RequestError(f"{name}({number(rate)}) raises {sentence(error)}") from error
    if not is_transformation(optimizer):
        raise RequestError(
            f"{name}({number(rate)}) returned {type(optimizer).__name__}, which is no "
            "optax.GradientTransformation"
        )
    return Entry(name, optimizer, _numbers(factory, rate), METHODS.get(name))


def find_problem(name: str | Problem) -> Problem:
    """The problem of that name; a problem itself passes through."""
    if not isinstance(name, str):
        return name
    if name not in PROBLEMS:
        raise RequestError(f"unknown problem {name!r}; {nearest(name, PROBLEMS)}")
    return PROBLEMS[name]


def as_list(names: Any) -> list[Any]:
    """What was asked for, in a list; a name or a problem alone is one."""
    return list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]


def check_counts(*, steps: Any, seeds: Any, seed: Any) -> None:
    """Refuse a race of no steps, of no seeds, or from a negative seed."""
    for name, value, least in (("steps", steps, 1), ("seeds", seeds, 1), ("seed", seed, 0)):
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise RequestError(f"{name} must be a whole number of at least {least}, got {value!r}")


def runs_not(entry: Entry, problem: Problem, error: Exception) -> RequestError:
    """What to say of an optimizer that was made, but fails at its first step."""
    return RequestError(f"{entry.name} does not run on {problem.name}: {sentence(error)}")


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
