"""What is declared of an optimizer, beyond its code: the laws ask for it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import optax
import optax.contrib

from gdfx.catalog import METHODS, Method
from gdfx.core.inner import demands
from gdfx.core.words import either

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Traits:
    """What an optimizer claims of itself. None: nothing is said, and laws that ask are left out."""

    elementwise: bool | None = None
    """Whether a coordinate's update depends on its own gradients and parameter alone."""

    descends: bool | None = None
    """Whether its first step goes down the gradient, as an optimizer's does and a bare direction's
    does not."""

    odd: bool | None = None
    """Whether u(−g) = −u(g), weight decay apart."""

    scale: Literal["linear", "invariant"] | None = None
    """How the update answers to gradients c times as large: c times as large, or the same where
    the gradients are large against ε and the start values."""

    translates: bool | None = None
    """Whether the update is the same for parameters shifted by a constant."""

    complex: bool | None = None
    """Whether complex numbers are pairs of real ones, with |g|² for g²."""

    after_nan: Literal["nan", "frozen", "recovers"] | None = None
    """What a coordinate does after one NaN gradient: it is NaN, or stands still, for ever; or it
    moves on."""

    needs_params: bool | None = None
    """Whether ``update`` must be given the parameters."""

    needs_value: bool | None = None
    """Whether ``update`` must be given the loss: ``value``, some also ``grad`` and ``value_fn``."""

    random: bool | None = None
    """Whether its updates have noise, from a key that it holds."""

    rounding: float | None = None
    """How many times larger rounding comes out than it went in, where it passes through an
    iteration or a decomposition of a matrix, say."""

    transposes: bool | None = None
    """Whether a transposed matrix moves as the matrix does, transposed."""

    follows: Literal["permutations", "rotations"] | None = None
    """Which changes of basis, of a matrix's inputs and outputs, its update follows: orders of rows
    and columns, or all rotations."""

    reference: Callable[..., optax.GradientTransformation] | None = None
    """Makes another optimizer whose updates are the same in float64; where hyperparameters are
    changed, it is given the new ones by name."""

    def __post_init__(self) -> None:
        """Refuse what is no value of a trait."""
        for trait, value in self.declared.items():
            if trait in VALUES and value not in VALUES[trait]:
                one_of = either(list(map(repr, VALUES[trait])))
                raise ValueError(f"Traits: {trait} must be {one_of}, got {value!r}")

    @property
    def declared(self) -> dict[str, Any]:
        """Those of which something is said."""
        pairs = ((trait.name, getattr(self, trait.name)) for trait in fields(self))
        return {name: value for name, value in pairs if value is not None}

    def before(self, known: "Traits") -> "Traits":
        """These, and where they say nothing, the known ones."""
        return replace(known, **self.declared)

    def __repr__(self) -> str:
        """What is declared, as it was written."""
        return f"Traits({', '.join(f'{k}={v!r}' for k, v in self.declared.items())})"


_CHOICES = {
    "scale": ("linear", "invariant"),
    "after_nan": ("nan", "frozen", "recovers"),
    "follows": ("permutations", "rotations"),
}

VALUES: dict[str, tuple[Any, ...]] = {
    trait.name: _CHOICES.get(trait.name, (True, False))
    for trait in fields(Traits)
    if trait.name not in ("reference", "rounding")
}
"""What can be said of each trait; a reference is a function, rounding a number, and no choice."""


def declare(traits: Traits) -> Callable[[F], F]:
    """Decorate a factory with what is claimed of its optimizers; the laws then know it.

    >>> import optax
    >>> from gdfx.testing import Traits, check, declare
    >>> @declare(Traits(odd=True))
    ... def mine(learning_rate=0.1):
    ...     return optax.sgd(learning_rate)
    >>> print(check(mine, laws=["sign"])["sign"])
    sign: kept
    """

    def decorate(factory: F) -> F:
        setattr(factory, _DECLARED, traits)
        return factory

    return decorate


_DECLARED = "gdfx_traits"


def known(factory: Callable[..., Any], arguments: dict[str, Any]) -> Traits:
    """What a factory declares, and what is known of gdfx's and optax's own."""
    declared = getattr(factory, _DECLARED, None)
    if declared is not None:
        return declared
    for method in METHODS.values():
        if factory is method.factory or factory is method.direction:
            return _from_record(method, factory, arguments)
    name = getattr(factory, "__name__", "")
    for module, table in ((optax, OPTAX), (optax.contrib, CONTRIB)):
        if name in table and getattr(module, name, None) is factory:
            return table[name]
    return Traits()


def _from_record(method: Method, factory: Callable[..., Any], arguments: dict[str, Any]) -> Traits:
    bound = inspect.signature(factory).bind(**arguments)
    ready_made = factory is method.factory
    equal = method.matches is not None and method.to_float64
    comparable = ready_made and equal and not bound.kwargs

    def reference(**changes: Any) -> optax.GradientTransformation:
        return method.reference(**arguments | changes)

    needs = demands(factory(**_said(method, factory) | arguments))
    if method.random:
        return Traits(random=True, needs_params="params" in needs, needs_value="value" in needs)
    return Traits(
        elementwise=method.elementwise,
        descends=ready_made and method.descends,
        odd=method.odd,
        scale=method.scale,
        translates=method.translates or not ready_made,
        complex=method.complex,
        after_nan=method.after_nan,
        needs_params="params" in needs,
        needs_value="value" in needs,
        rounding=method.rounding,
        transposes=method.transposes if method.reach == "matrix" else None,
        follows=method.follows,
        reference=reference if comparable else None,
    )


def _said(method: Method, factory: Callable[..., Any]) -> dict[str, Any]:
    """What a factory must be told of the parameters, if it takes that."""
    takes = inspect.signature(factory).parameters
    return {name: value for name, value in method.asks.items() if name in takes}


def _optax() -> dict[str, Traits]:
    """Of optax's optimizers, by name: what their formulas say of them at their defaults."""
    mixing = Traits(descends=True, odd=True, translates=True, needs_params=False)
    adaptive = replace(mixing, elementwise=True, scale="invariant")
    linear = replace(mixing, elementwise=True, scale="linear")
    decaying = replace(adaptive, translates=False, needs_params=True)
    relative = replace(mixing, translates=False, needs_params=True)
    rows = {
        adaptive: "adagrad adam adamax amsgrad nadam optimistic_adam_v2 rmsprop sign_sgd signum "
        "sm3",
        replace(adaptive, scale=None): "adabelief radam",  # linear in radam's first steps
        replace(adaptive, descends=False): "rprop",  # it waits for a second gradient
        replace(adaptive, odd=False): "yogi",  # its m starts above zero
        replace(adaptive, needs_params=True): "adadelta adan",
        decaying: "adamaxw adamw lion nadamw",
        linear: "sgd optimistic_gradient_descent",
        replace(mixing, scale="invariant", needs_params=True): "novograd",
        relative: "adafactor fromage lamb lars",
        replace(mixing, needs_value=True): "polyak_sgd",
        Traits(needs_value=True, needs_params=True): "lbfgs",
        Traits(needs_params=False, random=True): "noisy_sgd",
    }
    found = {name: traits for traits, names in rows.items() for name in names.split()}
    for name in ("adam", "adamw", "adagrad", "sgd"):
        found[name] = replace(found[name], complex=True)
    return found


OPTAX = _optax()
"""Of optax's own, what their formulas say."""

_CONTRIB = """acprop ademamix adopt cocob dadapt_adamw dog dowg galore madgrad momo momo_adam muon
prodigy schedule_free_adamw schedule_free_sgd simplified_ademamix"""

CONTRIB = {
    name: Traits(descends=name != "adopt", needs_value=name.startswith("momo"))
    for name in _CONTRIB.split()
}
CONTRIB["muon"] = replace(CONTRIB["muon"], rounding=METHODS["muon"].rounding)
"""Of optax.contrib's, little is claimed. The first gradient of adopt is for its scale alone."""
