"""How numbers, names and errors are written in a sentence."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any


def number(value: float) -> str:
    """A number that was given, as one writes it: ``0.001``, ``1e-8``; no two are written alike."""
    short = f"{value:g}"
    return _shortened(short if float(short) == value else repr(float(value)).removesuffix(".0"))


def rounded(value: Any) -> str:
    """A number that was computed, be it complex, to seven digits."""
    return _shortened(f"{value + 0:.7g}")  # -0 is 0


def _shortened(text: str) -> str:
    """As in ``1e-8`` for ``1e-08``."""
    return re.sub(r"e([+-])0?", lambda sign: "e" + sign[1].strip("+"), text)


def sentence(error: BaseException) -> str:
    """What an exception says, on one line."""
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def nearest(
    name: str,
    names: Iterable[str],
    *,
    few: int = 20,
    otherwise: str = "see its documentation",
) -> str:
    """What to say of a name that is none of these: the like of it, or what there is.

    Args:
      name: the name.
      names: what there is; names that begin with an underscore are kept to themselves.
      few: up to so many are all told.
      otherwise: what to say where they are more.
    """
    names = [known for known in names if not known.startswith("_")]
    close = difflib.get_close_matches(name, names) or difflib.get_close_matches(name.lower(), names)
    if close:
        return f"did you mean {either(close)}?"
    if not names or len(names) > few:
        return otherwise
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"


def either(names: Sequence[str]) -> str:
    """As in ``sgd, adam or lion``."""
    return _joined(names, "or")


def listed(names: Sequence[str]) -> str:
    """As in ``sgd, adam and lion``."""
    return _joined(names, "and")


def _joined(names: Sequence[str], word: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
