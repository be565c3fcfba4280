"""Python code that shows again how a law was broken."""

import ast
import functools
import sys
from typing import Any

from gdfx.testing.catalog import LAWS
from gdfx.testing.draw import code
from gdfx.testing.law import Law
from gdfx.testing.needs import several_devices
from gdfx.testing.subject import Make, Subject


def reproduction(law: Law, subject: Subject, case: Any) -> str:
    """A script that tries a law on one case, with no import that it does not use.

    What cannot be written down, such as a lambda, is left to the reader, under a comment.
    """
    name, make, traits = repr(law.name), "make", ""
    modules, comments = set[str](), list[str]()
    if LAWS.get(law.name) is not law:
        name = "law"
        comments.append(f"# law: the law {law.name} itself")
    path = public_path(subject.factory)
    if path is not None and all(map(_is_literal, subject.arguments.values())):
        arguments = "".join(f", {name}={x!r}" for name, x in subject.arguments.items())
        make = f"partial({path}{arguments})" if arguments else path
        modules.add(f"import {path.rpartition('.')[0]}")
    else:
        comments.append("# make: what makes the optimizer")
    if subject.declared.reference is not None:
        traits = ", traits"
        comments.append("# traits: what was declared of it")
    elif subject.declared.declared:
        traits = f", {subject.declared!r}"
    call = f"retry({name}, {make}, {code(case)}{traits})"
    if several_devices in law.needs:
        modules.add("import jax")
        comments.insert(0, 'jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts')
    if "np." in call:
        modules.add("import numpy as np")
    from_kit = [word for word in ("Run", "Traits", "retry") if f"{word}(" in call]
    return "\n".join(
        [
            *["from functools import partial", ""] * ("partial(" in call),
            *sorted(modules),
            f"from gdfx.testing import {', '.join(from_kit)}",
            "",
            *comments,
            call,
        ]
    )


def name_of(make: Make) -> str:
    """How a report calls an optimizer."""
    factory = make.func if isinstance(make, functools.partial) else make
    name: str = getattr(factory, "__qualname__", repr(factory))
    return public_path(factory) or name.rpartition("<locals>.")[2]


def public_path(factory: Any) -> str | None:
    """The shortest path under which a module offers a factory, as in ``optax.adam``."""
    parts = getattr(factory, "__module__", "").split(".")
    name = getattr(factory, "__name__", "")
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if module in sys.modules and getattr(sys.modules[module], name, None) is factory:
            return f"{module}.{name}"
    return None


def _is_literal(x: Any) -> bool:
    try:
        ast.literal_eval(repr(x))
    except (ValueError, SyntaxError):
        return False
    return True
