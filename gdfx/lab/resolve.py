"""From what a user asks for to entries and problems, or to one sentence on what is wrong."""

import functools
import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

import optax

from gdfx.catalog import METHODS
from gdfx.core.arguments import ARGUMENTS, is_transformation, unknown_argument
from gdfx.core.layouts import resolved
from gdfx.core.words import listed, nearest, number
from gdfx.lab.problems import FACTORIES, PROBLEMS
from gdfx.lab.protocol import Landscape, Problem
from gdfx.lookup import RequestError, find_factory, load, made, parameters, parse_arguments

DEFAULT_METHODS = ("sgd", "momentum", "adagrad", "adam")
DEFAULT_PROBLEMS = ("valley", "mnist")

Factory = Callable[..., optax.GradientTransformation]
GivenRate = float | Mapping[str, float]
"""A learning rate for all problems, or one for each problem by its name."""
Method = str | Factory | optax.GradientTransformation | tuple[str | Factory, GivenRate]
Methods = Method | Iterable[Method] | Mapping[str, Method | GivenRate]

SYMBOLS = {
    "decay": "α",
    "b1": "β₁",
    "b2": "β₂",
    "eps": "ε",
    "eps_root": "ε_root",
    "initial_accumulator_value": "h₀",
    "weight_decay": "λ",
}


@dataclass(frozen=True)
class Rate:
    """A learning rate, and where it comes from."""

    value: float

    source: Literal["given", "default", "factory"]
    """``given`` by the caller, the problem's ``default`` for the method, or what the ``factory``
    takes where none is given."""

    chosen_for: int | None = None
    """For a problem's default: for runs of how many steps it was chosen."""


@dataclass(frozen=True)
class Entry:
    """One optimizer, entered for one problem."""

    label: str
    """What it is called in tables and figures; no two on a problem are called alike."""

    name: str
    """The method: ``adam``, ``textbook.adam``, ``optax:lion``."""

    optimizer: optax.GradientTransformation

    rate: Rate | None = None
    """Its learning rate; None where it was handed over ready-made."""

    hyperparameters: dict[str, float] = field(default_factory=dict[str, float])
    """The other numbers, by argument name."""

    contender: "Contender | None" = field(default=None, repr=False)
    """What enters it at other rates, too; None where it was handed over ready-made."""

    @property
    def settings(self) -> str:
        """As in ``η=0.3 (given), β₁=0.9, ε=1e-8``."""
        others = (f"{SYMBOLS.get(a, a)}={number(x)}" for a, x in self.hyperparameters.items())
        if self.rate is None:
            return "ready-made: its settings are not known"
        marks = {"given": " (given)", "default": "", "factory": " (its own default)"}
        return ", ".join((f"η={number(self.rate.value)}{marks[self.rate.source]}", *others))


@dataclass(frozen=True)
class Contender:
    """A method as it was asked for, not yet on a problem."""

    label: str
    name: str

    what: Any
    """A factory that takes a learning rate, or an optimizer."""

    given: GivenRate | None

    with_rate: str
    """How one asks for it with a learning rate, for the sentence that says so."""

    @property
    def ready(self) -> bool:
        """Whether it is an optimizer already, with a rate that only itself knows."""
        return is_transformation(self.what)

    def default(self, name: str) -> float | None:
        """The number that the factory takes for a hyperparameter where none is given."""
        name = (_rate_argument(self.what) or name) if name == "learning_rate" else name
        argument = parameters(self.what).get(name)
        return argument.default if argument and _is_number(argument.default) else None

    def enter(self, problem: Problem) -> Entry:
        """With the rate that was given for the problem, or that the problem or the factory knows.

        Raises:
          RequestError: where there is no such rate, or it leads to no optimizer.
        """
        if self.ready:
            return Entry(self.label, self.name, self.what)
        return self.at(problem)

    def at(self, problem: Problem, rate: Rate | None = None, **others: float) -> Entry:
        """With a learning rate, else with that of `rate`, and other hyperparameters by name.

        Raises:
          RequestError: for a rate that is none, a hyperparameter that there is not, where the
            factory makes no optimizer of them, and for a method of matrices on a problem that has
            none.
        """
        factory = self.factory(problem)  # what cannot run is told before a rate that lacks
        rate = rate or self.rate(problem)
        try:
            ARGUMENTS["learning_rate"].check(self.name, "learning_rate", rate.value)
        except (TypeError, ValueError) as error:
            raise RequestError(str(error)) from None
        value = float(rate.value)
        unknown = unknown_argument(factory, parameters(factory), others)
        if unknown:
            raise RequestError(f"{self.label}: {unknown}")
        shown = ", ".join((number(value), *(f"{k}={number(x)}" for k, x in others.items())))
        tx = made(f"{self.name}({shown})", lambda: at_rate(factory, value, others))
        numbers = _numbers(self.what) | others
        return Entry(self.label, self.name, tx, replace(rate, value=value), numbers, self)

    def factory(self, problem: Problem) -> Factory:
        """The factory; one that asks which leaves are matrices is told the problem's.

        Raises:
          RequestError: where the problem has none, so that it would be another method there.
        """
        asked = parameters(self.what).get("matrices")
        if asked is None or asked.default is not None:
            return self.what
        if not _has_matrices(problem):
            others = [name for name, other in PROBLEMS.items() if other.matrices is not None]
            raise RequestError(
                f"{self.label} is a method of matrices, and {problem.name} has none: it would only "
                "run what it takes for other leaves, under its own name; "
                f"problems with matrices are {listed(others)}"
            )
        return functools.partial(self.what, matrices=problem.matrices)

    def rate(self, problem: Problem) -> Rate:
        """The rate that was given for the problem, or that the problem or the factory knows.

        Raises:
          RequestError: where there is no such rate.
        """
        if isinstance(self.given, Mapping):
            if problem.name in self.given:
                return Rate(self.given[problem.name], "given")
        elif self.given is not None:
            return Rate(self.given, "given")
        rates = problem.rates
        form = METHODS[self.name].form if self.name in METHODS else None
        for name in (self.name, form or self.name):
            if name in rates.by_method:
                return Rate(rates.by_method[name], "default", rates.steps)
        own = self.default("learning_rate")
        if own is not None:
            return Rate(own, "factory")
        raise RequestError(
            f"{problem.name} knows no learning rate for {self.label}: "
            f"give one, as in {self.with_rate}"
        )


def at_rate(factory: Factory, rate: Any, others: Mapping[str, Any]) -> Any:
    """What a factory makes of a learning rate, its first argument where none is called so."""
    if "learning_rate" in parameters(factory):
        return factory(learning_rate=rate, **others)
    return factory(rate, **others)


def contenders(methods: Methods) -> list[Contender]:
    """The methods that were asked for, in any of the forms that `gdfx.lab.race` takes.

    Raises:
      RequestError: for names and objects that are no method, and rates that are none.
    """
    if isinstance(methods, Mapping):
        return [_labelled(label, asked) for label, asked in methods.items()]
    several = [methods] if _is_pair(methods) else _as_list(methods)
    return [_contender(asked, f"optimizer {i}") for i, asked in enumerate(several, start=1)]


def enter(
    contenders: Sequence[Contender], problem: Problem, rate: Rate | None = None
) -> list[Entry]:
    """Each method once at each rate; where one runs at several, the rate is in its label.

    Args:
      contenders: the methods.
      problem: it may know their rates.
      rate: a rate for all of them instead.

    Raises:
      RequestError: as `Contender.enter`, and where two are called alike.
    """
    entered: dict[Any, Entry] = {}
    for contender in contenders:
        entry = contender.at(problem, rate) if rate else contender.enter(problem)
        at = entry.rate and entry.rate.value
        entered.setdefault((entry.label, id(contender.what), at), entry)
    entries = list(entered.values())
    counts = Counter(entry.label for entry in entries)
    labels = [
        f"{e.label}={number(e.rate.value)}" if counts[e.label] > 1 and e.rate else e.label
        for e in entries
    ]
    for label, count in Counter(labels).items():
        if count > 1:
            raise RequestError(
                f"{count} methods are called {label}: "
                f"name them in a dict, as in {{'mine': ..., 'theirs': ...}}"
            )
    return [replace(entry, label=label) for entry, label in zip(entries, labels, strict=True)]


def check_problems_of_rates(contenders: Iterable[Contender], problems: Iterable[str]) -> None:
    """Refuse rates for problems that there are not, which a misspelt name would hide.

    Raises:
      RequestError: for the first of them.
    """
    known = dict.fromkeys((*problems, *PROBLEMS))
    for contender in contenders:
        for name in contender.given if isinstance(contender.given, Mapping) else ():
            if name not in known:
                raise RequestError(
                    f"{contender.label} has a learning rate for an unknown problem {name!r}; "
                    f"{nearest(name, known)}"
                )


def find_problems(problems: Any) -> dict[str, Problem]:
    """By its name, each problem that was asked for: by name, as ``module:problem``, or itself.

    Raises:
      RequestError: for names that there are not, objects that are no problem, and two of one name.
    """
    found: dict[str, Problem] = {}
    for asked in _as_list(problems):
        problem = find_problem(asked)
        if found.setdefault(problem.name, problem) is not problem:
            raise RequestError(f"two problems are called {problem.name}: give one another name")
    return found


def find_problem(asked: str | Problem) -> Problem:
    """The problem of that name, with settings as in ``quadratic:dimension=9,noise=0.1``.

    A problem itself passes through.
    """
    if not isinstance(asked, str):
        return _checked(asked, type(asked).__name__)
    if asked in PROBLEMS:
        return PROBLEMS[asked]
    name, _, settings = asked.partition(":")
    if name in FACTORIES:
        return _with_settings(FACTORIES[name], asked, settings)
    if ":" in asked:
        return _checked(load(asked, "module:problem", "my_module:my_problem"), asked)
    raise RequestError(
        f"unknown problem {asked!r}; {nearest(asked, PROBLEMS)} "
        "(any other problem: module:problem, as in my_module:my_problem)"
    )


def _with_settings(factory: Callable[..., Problem], asked: str, settings: str) -> Problem:
    takes = parameters(factory)
    parts = settings.split(",")
    if not all("=" in part for part in parts):
        name, setting = next(iter(takes.items()))
        example = f"{factory.__name__}:{name}={setting.default}"
        raise RequestError(f"{asked!r}: settings are NAME=VALUE, as in {example}")
    given = parse_arguments(parts)
    unknown = unknown_argument(factory, takes, given)
    if unknown:
        raise RequestError(f"{asked}: {unknown}")
    try:
        return factory(**given)
    except (TypeError, ValueError) as error:
        raise RequestError(str(error)) from None


def _has_matrices(problem: Problem) -> bool:
    if problem.matrices is None:
        return False
    return any(resolved(problem.name, problem.matrices, problem.start(0)))


def check_counts(*, seed: Any, **counts: Any) -> None:
    """Refuse a race of no steps, of no seeds, or from a negative seed; None is no count."""
    for name, value, least in (*((n, x, 1) for n, x in counts.items()), ("seed", seed, 0)):
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise RequestError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _as_list(asked: Any) -> list[Any]:
    """Several things in a list, and so one alone: a name, or an optimizer, a named tuple."""
    one = isinstance(asked, str) or _is_named_tuple(asked) or not isinstance(asked, Iterable)
    return [asked] if one else list(asked)


def _is_named_tuple(x: Any) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _is_pair(asked: Any) -> bool:
    """Whether this is a method and its rate."""
    return (
        isinstance(asked, tuple)
        and not _is_named_tuple(asked)
        and len(asked) == 2
        and _is_rate(asked[1])
    )


def _is_rate(x: Any) -> bool:
    """Whether this is a learning rate, be it a bad one, or some by the problem's name."""
    return isinstance(x, Mapping | Real) and x is not True and x is not False


def _labelled(label: Any, asked: Any) -> Contender:
    """An item of a dict: the name is the caller's, and may be the method's with only a rate."""
    if _is_rate(asked):
        asked = (label, asked)
    return replace(_contender(asked, str(label)), label=str(label))


def _contender(asked: Any, nameless: str) -> Contender:
    what, given = asked if _is_pair(asked) else (asked, None)
    if isinstance(what, str):
        name, equals, rate = what.partition("=")
        with_rate = f"{name}=0.001"
        # An unknown name is told before a wrong rate.
        factory: Any = METHODS[name].factory if name in METHODS else find_factory(name)
        if equals and given is not None:
            raise RequestError(f"{what} has a learning rate, and was given another: {given}")
        what, given = factory, _parsed(what, rate) if equals else given
    elif callable(what) or is_transformation(what):
        name, with_rate = _name(what) or nameless, "(factory, 0.001)"
    else:
        raise RequestError(
            f"{what!r} is no method: give a name, a function of the learning rate, or an optimizer"
        )
    if not is_transformation(what) and _takes_nothing(what):
        what = made(f"{name}()", what)
    if is_transformation(what) and given is not None:
        raise RequestError(f"{name} is made already, so that it cannot be given a learning rate")
    return Contender(name, name, what, given, with_rate)


def _parsed(asked: str, text: str) -> GivenRate:
    """The rate of ``adam=0.1``, the rates of ``adam=valley:0.3,mnist:0.001``."""
    if ":" not in text:
        try:
            return float(text)
        except ValueError:
            raise RequestError(f"{asked}: the learning rate must be a number") from None
    rates: dict[str, float] = {}
    for part in text.split(","):
        problem, _, rate = part.rpartition(":")
        try:
            rates[problem] = float(rate)
        except ValueError:
            problem = ""
        if not problem:
            raise RequestError(f"{asked}: {part!r} is not PROBLEM:RATE, as in valley:0.3")
    return rates


def _name(what: Any) -> str:
    """What a factory is called; nothing where it has no name that says something."""
    if is_transformation(what):
        return ""
    if isinstance(what, functools.partial):
        inner = _name(what.func)
        keywords = {a: x for a, x in what.keywords.items() if a != "learning_rate"}
        shown = ", ".join(f"{a}={x}" for a, x in keywords.items() if isinstance(x, int | float))
        return f"{inner}({shown})" if inner and shown else inner
    for name, method in METHODS.items():
        if method.factory is what:
            return name
    name = getattr(what, "__name__", type(what).__name__)
    package = getattr(what, "__module__", "").partition(".")[0]
    if package != "__main__" and getattr(sys.modules.get(package), name, None) is what:
        return f"{package}:{name}"
    return "" if name == "<lambda>" else name


def _takes_nothing(factory: Callable[..., Any]) -> bool:
    """Whether a function has no arguments; one without a signature to ask may have some."""
    try:
        return not inspect.signature(factory).parameters
    except ValueError:
        return False


def _rate_argument(factory: Callable[..., Any]) -> str | None:
    """The argument named ``learning_rate``, or the first."""
    takes = parameters(factory)
    return "learning_rate" if "learning_rate" in takes else next(iter(takes), None)


def _numbers(factory: Callable[..., Any]) -> dict[str, float]:
    """The numbers that a factory takes besides the learning rate, as they are by default."""
    rate = _rate_argument(factory)
    return {
        name: argument.default
        for name, argument in parameters(factory).items()
        if name != rate and _is_number(argument.default) and argument.default != 0  # 0 is off
    }


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


_FILE_NAME = re.compile(r"\w[\w.-]*")


def _checked(problem: Any, what: str) -> Problem:
    """The same problem; an object that is none is refused, with what it lacks."""
    parts = [name for name in vars(Problem) if not name.startswith("_")]
    if hasattr(problem, "surface"):
        parts += [name for name in vars(Landscape) if not name.startswith("_")]
    lacking = [name for name in parts if not hasattr(problem, name)]
    if lacking:
        raise RequestError(
            f"{what} is no problem, it has no {lacking[0]}; gdfx.lab.Problem says what a problem "
            "has, and gdfx.lab.problem makes one from a loss and a start"
        )
    if not _FILE_NAME.fullmatch(problem.name):
        raise RequestError(
            f"a problem's name is letters, digits, '_', '-' and '.', got {problem.name!r}"
        )
    return problem
