"""How numbers, names and errors are written in a sentence."""

import difflib
from collections.abc import Iterable, Sequence


def number(value: float) -> str:
    """A number as one writes it: ``0.001``, ``1e-8``; no two numbers are written alike."""
    short = f"{value:g}"
    text = short if float(short) == value else repr(float(value)).removesuffix(".0")
    return text.replace("e-0", "e-").replace("e+0", "e")


def sentence(error: BaseException) -> str:
    """What an exception says, on one line."""
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def nearest(name: str, names: Iterable[str], *, few: int = 20) -> str:
    """What to say of a name that is none of these: the like of it, or what there is."""
    names = [known for known in names if not known.startswith("_")]
    close = difflib.get_close_matches(name, names) or difflib.get_close_matches(name.lower(), names)
    if close:
        return f"did you mean {either(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= few else "see its documentation"


def either(names: Sequence[str]) -> str:
    """As in ``sgd, adam or lion``."""
    return _joined(names, "or")


def listed(names: Sequence[str]) -> str:
    """As in ``sgd, adam and lion``."""
    return _joined(names, "and")


def _joined(names: Sequence[str], word: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
