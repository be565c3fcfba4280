"""An extension of griffe: what docstrings write for `help()`, in Markdown."""

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class PlainText(griffe.Extension):
    """Equations behind ``::`` are indented code already; doctests get a fence."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        del kwargs
        if obj.docstring:
            text = re.sub(r"^::\n", "", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = _DOCTEST.sub(lambda m: f"```pycon\n{m[0]}\n```", text)
