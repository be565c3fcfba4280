"""METHODS: one record per method, its traits as data.

Tests, docs, `gdfx list` and `gdfx show` ask this table; none of them knows a method by name.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import optax

from gdfx.core.arguments import method_name
from gdfx.core.inner import demands
from gdfx.dialects import textbook
from gdfx.methods.coordinate.adagrad import adagrad, scale_by_adagrad
from gdfx.methods.coordinate.adam import adam, adamw, scale_by_adam
from gdfx.methods.coordinate.momentum import momentum, scale_by_momentum
from gdfx.methods.coordinate.sgd import sgd

Factory = Callable[..., optax.GradientTransformationExtraArgs]


@dataclass(frozen=True)
class Method:
    """What is true of a method, beyond its code."""

    factory: Factory
    """Makes the ready-made optimizer from its hyperparameters; ``learning_rate`` is one."""

    equation: str
    """What one step does, on one line."""

    source: str
    """Where the equations stand."""

    scale: Literal["linear", "invariant"]
    """How the update answers to gradients c times as large (c > 0), from the first step on:
    ``linear``: c times as large; ``invariant``: the same, as ε and the start value go to 0."""

    direction: Factory | None = None
    """Makes u alone, without learning rate and weight decay; None where there is no such part."""

    matches: str | None = None
    """The optax optimizer that it equals up to rounding, given the same positional arguments."""

    form: str | None = None
    """For a textbook form: the name of the method that it is a form of."""

    odd: bool = True
    """Whether u(−g) = −u(g), weight decay apart."""

    translates: bool = True
    """Whether the update is the same for parameters shifted by a constant."""

    complex: bool = True
    """Whether complex parameters are treated as pairs of real ones, with |g|² for g²."""

    elementwise: bool = True
    """Whether a coordinate's update depends on its own gradients and parameter alone."""

    after_nan: Literal["nan", "frozen", "recovers"] = "nan"
    """What a coordinate does after one NaN gradient: it is NaN, or stands still, for ever; or it
    moves on."""

    @property
    def name(self) -> str:
        """The name under `gdfx`: ``adam``, ``textbook.adam``."""
        return method_name(self.factory)

    @property
    def needs_params(self) -> bool:
        """Whether ``update`` must be given the parameters."""
        return "params" in self._demands

    @property
    def needs_value(self) -> bool:
        """Whether ``update`` must be given the loss."""
        return "value" in self._demands

    @functools.cached_property
    def _demands(self) -> frozenset[str]:
        return demands(self.factory(learning_rate=0.1))

    def reference(self, *args: Any) -> optax.GradientTransformation:
        """The optimizer that it matches, of the same arguments: by position, then default."""
        if self.matches is None:
            raise ValueError(f"{self.name} matches no optax optimizer")
        bound = inspect.signature(self.factory).bind(*args)
        bound.apply_defaults()
        return getattr(optax, self.matches.removeprefix("optax."))(*bound.args)

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


_RECORDS = (
    Method(
        sgd,
        equation="W ← W − η g",
        source="Robbins and Monro 1951",
        scale="linear",
        matches="optax.sgd",
        after_nan="recovers",
    ),
    Method(
        momentum,
        direction=scale_by_momentum,
        equation="m ← g + α m;  W ← W − η m",
        source="Polyak 1964; Sutskever et al. 2013, equations (1) to (4)",
        scale="linear",
        matches="optax.sgd",
    ),
    Method(
        adagrad,
        direction=scale_by_adagrad,
        equation="h ← h + g²;  W ← W − η g/√(h + ε)",
        source="Duchi et al. 2011, Figure 1",
        scale="invariant",
        matches="optax.adagrad",
    ),
    Method(
        adam,
        direction=scale_by_adam,
        equation="m, v: means of g, g²;  W ← W − η m̂/(√v̂ + ε)",
        source="arXiv:1412.6980, Algorithm 1",
        scale="invariant",
        matches="optax.adam",
    ),
    Method(
        adamw,
        direction=scale_by_adam,
        equation="m, v: means of g, g²;  W ← W − η (m̂/(√v̂ + ε) + λ W)",
        source="arXiv:1711.05101, Algorithm 2",
        scale="invariant",
        matches="optax.adamw",
        translates=False,
    ),
    Method(
        textbook.sgd,
        form="sgd",
        equation="W ← W − η ∂L/∂W",
        source="Saitoh 2016, equation (6.1)",
        scale="linear",
        matches="optax.sgd",
        after_nan="recovers",
    ),
    Method(
        textbook.momentum,
        form="momentum",
        equation="v ← α v − η ∂L/∂W;  W ← W + v",
        source="Saitoh 2016, equations (6.3) and (6.4)",
        scale="linear",
    ),
    Method(
        textbook.adagrad,
        form="adagrad",
        equation="h ← h + (∂L/∂W)²;  W ← W − η/√(h + ε) ∂L/∂W",
        source="Saitoh 2016, equations (6.5) and (6.6)",
        scale="invariant",
    ),
    Method(
        textbook.adam,
        form="adam",
        equation="W ← W − η/√(v + ε) · √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m",
        source="arXiv:1412.6980, end of section 2, with ε under the root",
        scale="invariant",
    ),
)

METHODS: dict[str, Method] = {record.name: record for record in _RECORDS}
