"""Every method of the catalog keeps every law that applies to it."""

import functools

import pytest

from gdfx.catalog import METHODS
from gdfx.testing import LAWS
from gdfx.testing.report import judge
from gdfx.testing.subject import Subject


@functools.cache
def subject(name):
    """One for all laws, so that they share what is compiled."""
    return Subject(functools.partial(METHODS[name].factory, learning_rate=0.1))


WHOLE = "adamw"
"""This one is put to all laws. Those on plumbing are for the others in test_contract.py."""

ROWS = [
    pytest.param(name, law, id=f"{name}-{law}")
    for name in METHODS
    for law in LAWS.values()
    if law.kind != "plumbing" or name == WHOLE
]


@pytest.mark.parametrize(("name", "law"), ROWS)
def test_law(name, law):
    found = judge(law, subject(name), seed=0, budget=5)
    if found.outcome == "not applicable":
        pytest.skip(found.words)
    assert found.outcome == "kept", str(found)
