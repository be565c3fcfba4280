"""LAWS: every law of gdfx, by its name."""

from gdfx.testing import (
    averages,
    devices,
    fidelity,
    matrices,
    nesting,
    numbers,
    plumbing,
    states,
    symmetry,
    types,
)
from gdfx.testing.law import GRADES, Law

_MODULES = (
    plumbing,
    types,
    nesting,
    devices,
    states,
    numbers,
    averages,
    symmetry,
    matrices,
    fidelity,
)
_FOUND = [law for module in _MODULES for law in vars(module).values() if isinstance(law, Law)]

LAWS: dict[str, Law] = {
    law.name: law for law in sorted(_FOUND, key=lambda law: GRADES.index(law.grade))
}
"""Every law by its name, the contract first."""
