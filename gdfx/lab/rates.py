"""The best learning rates of sweeps, as docs/scripts/rates.py found and wrote them."""

SWEPT: dict[str, dict[str, float]] = {
    "valley": {
        "adadelta": 400.0,
        "lion": 0.25,
    },
    "mnist": {},
}
"""Of each method, by the problem's name."""
