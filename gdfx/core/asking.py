"""What a function asks for by the names of its parameters, and is given."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


@dataclass(frozen=True)
class Asking:
    """A function, and what it asks for by name."""

    who: str
    """As an error calls it: ``adam: the rule``."""

    function: Callable[..., Any]

    takes: int
    """How many arrays it takes by position."""

    names: tuple[str, ...]
    """What it asks for by name; a name with a default is given where it is there to be given."""

    demanded: tuple[str, ...]
    """Those names that have no default."""

    def __call__(self, *row: jax.Array, **given: Any) -> Any:
        """What it returns; a choice by the value of a traced array is told how to be written."""
        try:
            return self.function(*row, **given)
        except jax.errors.ConcretizationTypeError as error:
            raise TypeError(
                f"{self.who} asks for the value of a traced array, as if, while, float() and "
                "int() do; choose with jnp.where, and call jax.debug.print to see it"
            ) from error

    def check(self, known: Iterable[str]) -> None:
        """Refuse a name that is none of these."""
        known = list(dict.fromkeys(known))
        for name in self.demanded:
            if name not in known:
                raise TypeError(f"{self.who} asks for {name}; what there is: {', '.join(known)}")

    def choose(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What it asks for, of all that is known."""
        return {name: known[name] for name in self.names if name in known}


def by_name(who: str, function: Callable[..., Any]) -> Asking:
    """A function whose parameters are all names of what it asks for."""
    return _asking(who, function, 0, _parameters(who, function))


def by_keyword(who: str, function: Callable[..., Any], row: Sequence[str]) -> Asking:
    """A function that takes arrays by position, the gradient first, and asks by keyword."""
    parameters = _parameters(who, function)
    kinds = {parameter.kind for parameter in parameters}
    takes = sum(parameter.kind in (parameter.POSITIONAL_ONLY, _EITHER) for parameter in parameters)
    asked = [parameter for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]
    every = inspect.Parameter.VAR_POSITIONAL in kinds
    return _asking(who, function, len(row) if every else takes, asked)


def _parameters(who: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:
        raise TypeError(f"{who} has no signature to read; write a function around it") from None


def _asking(
    who: str, function: Callable[..., Any], takes: int, asked: Iterable[inspect.Parameter]
) -> Asking:
    found = [p for p in asked if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = tuple(p.name for p in found)
    return Asking(who, function, takes, names, tuple(p.name for p in found if p.default is p.empty))


def positional(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that a function takes by position."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, _EITHER)]
