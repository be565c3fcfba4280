"""LAWS: every law of gdfx, by its name."""

from gdfx.testing import devices, fidelity, numbers, plumbing, states, symmetry
from gdfx.testing.law import GRADES, Law

_ROOMS = (plumbing, devices, states, numbers, symmetry, fidelity)
_FOUND = [law for room in _ROOMS for law in vars(room).values() if isinstance(law, Law)]

LAWS: dict[str, Law] = {
    law.name: law for law in sorted(_FOUND, key=lambda law: GRADES.index(law.grade))
}
"""Every law by its name, the contract first."""
