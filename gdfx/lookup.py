"""From what a user types to a factory and its arguments, or to one sentence on what is wrong."""

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gdfx.catalog import METHODS, Method
from gdfx.core.arguments import is_transformation, unknown_argument
from gdfx.core.words import nearest, sentence


class RequestError(ValueError):
    """A mistake in what was asked for, told in one sentence."""


def find_factory(name: str) -> Callable[..., Any]:
    """The function that makes the optimizer: of the catalog, or ``module:factory``."""
    if name in METHODS:
        return METHODS[name].maker
    if ":" in name:
        factory = load(name)
        if not callable(factory):
            raise RequestError(f"{name} is not a function that makes an optimizer")
        return factory
    raise RequestError(
        f"unknown method {name!r}; {_nearest(name)} "
        "(any other optimizer: module:factory, as in optax:lion)"
    )


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of a factory, from ``NAME=VALUE`` each; a value is a Python literal or a word."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"{text!r} is not NAME=VALUE, as in learning_rate=1e-3")
        if name in found:
            raise RequestError(f"{name} is given twice")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def maker(
    name: str, factory: Callable[..., Any], arguments: dict[str, Any]
) -> functools.partial[Any]:
    """The factory with its arguments, which was tried and gives an optimizer.

    Raises:
      RequestError: for an argument that it does not take, for whatever it raises, and where what it
        returns is no optimizer.
    """
    takes = parameters(factory)
    unknown = takes and unknown_argument(factory, takes, arguments)
    if unknown:
        raise RequestError(f"{name}: {unknown}")
    make = functools.partial(factory, **arguments)
    made(f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})", make)
    return make


def made(call: str, make: Callable[[], Any]) -> Any:
    """The optimizer that a function makes.

    Args:
      call: how a sentence writes the call.
      make: the function; a stranger's, it may raise whatever it likes.

    Raises:
      RequestError: for whatever it raises, and where what it returns is no optimizer.
    """
    try:
        optimizer = make()
    except (Exception, SystemExit) as error:
        raise RequestError(f"{call} raises {sentence(error)}") from error
    if not is_transformation(optimizer):
        kind = type(optimizer).__name__
        raise RequestError(f"{call} returned {kind}, which is no optax.GradientTransformation")
    return optimizer


def parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a factory takes, by name; nothing where it has no signature to ask."""
    try:
        return inspect.signature(factory).parameters
    except ValueError:
        return {}


def _nearest(name: str) -> str:
    return nearest(name, METHODS, otherwise="gdfx list has them all")


def find_method(name: str) -> Method:
    """The catalog's record of that name."""
    if name not in METHODS:
        raise RequestError(f"unknown method {name!r}; {_nearest(name)}")
    return METHODS[name]


def load(path: str, kind: str = "module:factory", example: str = "optax:lion") -> Any:
    """What a module has under a name.

    Args:
      path: ``module:name``.
      kind: what is looked for, as a sentence calls it.
      example: a path of that kind.

    Raises:
      RequestError: where there is no such module, or nothing of that name in it.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise RequestError(f"{path!r} is not {kind}, as in {example}")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a stranger's module runs here
        raise RequestError(f"{path}: cannot import {module_name}: {sentence(error)}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        like = nearest(attribute, dir(module))
        raise RequestError(f"{path}: {module_name} has no {attribute!r}; {like}") from None
