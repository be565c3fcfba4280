"""From what a user types to a factory and its arguments, or to one sentence on what is wrong."""

import ast
import importlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from gdfx.catalog import METHODS, Method
from gdfx.core.words import nearest, sentence


class RequestError(ValueError):
    """A mistake in what was asked for, told in one sentence."""


def find_factory(name: str) -> Callable[..., Any]:
    """The function that makes the optimizer: of the catalog, or ``module:factory``."""
    if name in METHODS:
        return METHODS[name].factory
    if ":" in name:
        return _load(name)
    raise RequestError(
        f"unknown method {name!r}; {nearest(name, METHODS)} "
        "(any other optimizer: module:factory, as in optax:lion)"
    )


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of a factory, from ``NAME=VALUE`` each; a value is a Python literal or a word."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"{text!r} is not NAME=VALUE, as in learning_rate=1e-3")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def find_method(name: str) -> Method:
    """The catalog's record of that name."""
    if name not in METHODS:
        raise RequestError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


def _load(path: str) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise RequestError(f"{path!r} is not module:factory, as in optax:lion")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a stranger's module runs here
        raise RequestError(f"{path}: cannot import {module_name}: {sentence(error)}") from error
    try:
        factory = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        like = nearest(attribute, dir(module))
        raise RequestError(f"{path}: {module_name} has no {attribute!r}; {like}") from None
    if not callable(factory):
        raise RequestError(f"{path} is not a function that makes an optimizer")
    return factory
