"""A law: one sentence that holds of an optimizer, and how to try it."""

import functools
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy

from gdfx.testing.draw import HYPERPARAMETERS, hyperparameters, is_double, runs
from gdfx.testing.subject import Subject
from gdfx.testing.versions import enable_x64

Cases = SearchStrategy[Any] | Sequence[Any]
CasesOf = Callable[[Subject], Cases]
Need = Callable[[Subject], str | None]
Body = Callable[[Subject, Any], None]

Kind = Literal["plumbing", "numbers", "symmetry", "fidelity"]
KINDS: tuple[Kind, ...] = ("plumbing", "numbers", "symmetry", "fidelity")

Grade = Literal["contract", "courtesy"]
GRADES: tuple[Grade, ...] = ("contract", "courtesy")


class BrokenLawError(AssertionError):
    """A law does not hold; the message says in words what was seen."""


@dataclass(frozen=True)
class Law:
    """One law, and its check."""

    name: str
    """As in ``jit-equals-eager``."""

    kind: Kind
    """``plumbing``, ``numbers``, ``symmetry`` or ``fidelity``."""

    grade: Grade
    """``contract``: what optax asks of every optimizer so that it can be composed, and what is
    declared of this one; ``courtesy``: what an optimizer may do beyond that, and gdfx's do."""

    claim: str
    """What it asserts, in one sentence."""

    why: str
    """What goes wrong where it does not hold."""

    cases: Cases | CasesOf
    """What it is tried on: a strategy to draw from, or a list that is gone through; where that
    hangs on the optimizer, a function of it."""

    needs: tuple[Need, ...]
    body: Body

    def __str__(self) -> str:
        return self.name

    def applies(self, subject: Subject) -> str | None:
        """None, or the reason why the law says nothing about this optimizer."""
        return next((reason for need in self.needs if (reason := need(subject))), None)

    def cases_for(self, subject: Subject) -> Cases:
        """What it is tried on for this optimizer."""
        return self.cases(subject) if callable(self.cases) else self.cases

    def check(self, subject: Subject, case: Any) -> None:
        """Raise `BrokenLawError` unless the law holds in this case."""
        with enable_x64(is_double(case)), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                self.body(subject, case)
            except (BrokenLawError, HypothesisException):
                raise
            except Exception as error:  # whatever a stranger's optimizer raises
                raise BrokenLawError(f"it raises {sentence(error)}") from error


LAWS: dict[str, Law] = {}
"""Every law by its name."""


def register(law: Law) -> Law:
    """Add a law to `LAWS`."""
    LAWS[law.name] = law
    return law


def laws(kind: Kind) -> tuple[Callable[..., Callable[[Body], Law]], ...]:
    """The decorators ``contract`` and ``courtesy`` of one kind: they make laws of functions.

    They take what the law is tried on and what it needs. The function's name is the law's, its
    docstring the claim and, after an empty line, the reason why.
    """

    def decorator(grade: Grade, cases: Cases | CasesOf, *needs: Need) -> Callable[[Body], Law]:
        def declare(body: Body) -> Law:
            name = body.__name__.replace("_", "-")
            claim, _, why = (body.__doc__ or "").partition("\n\n")
            claim, why = (" ".join(text.split()) for text in (claim, why))
            return register(Law(name, kind, grade, claim, why, cases, needs, body))

        return declare

    return tuple(functools.partial(decorator, grade) for grade in GRADES)


def declares(trait: str, value: Any = True) -> Need:
    """The law needs a trait."""

    def need(subject: Subject) -> str | None:
        declared = getattr(subject.traits, trait)
        if declared is None:
            return f"nothing is declared about: {trait}; see gdfx.testing.Traits"
        return None if value in (Any, declared) else f"declared: {trait} = {declared}"

    return need


def takes(*names: str) -> Need:
    """The law needs arguments that it can change; without names: any number at all."""

    def need(subject: Subject) -> str | None:
        if names and not subject.names.keys() & set(names):
            return f"it takes no {' or '.join(names)}"
        if not names and not subject.numbers:
            return "it takes no floating point number"
        return None

    return need


def tunable(subject: Subject) -> str | None:
    """The law needs hyperparameters whose ranges are known."""
    known = subject.numbers.keys() & HYPERPARAMETERS.keys()
    return None if known else "it takes no number whose range is known"


def at_other_hyperparameters(**options: Any) -> CasesOf:
    """Short runs, drawn with these options of `runs`, each with hyperparameters of its own."""

    def cases(subject: Subject) -> Cases:
        return st.tuples(runs(steps=2, **options), hyperparameters(subject.numbers))

    return cases


def deterministic(subject: Subject) -> str | None:
    """The law compares runs in two dtypes, and noise is another in each."""
    return "declared: random = True" if subject.traits.random else None


def installed(package: str) -> Need:
    """The law needs a package that gdfx itself does not."""

    def need(subject: Subject) -> str | None:
        del subject
        return None if find_spec(package) else f"{package} is not installed"

    return need


def several_devices(subject: Subject) -> str | None:
    """The law needs more than one device."""
    del subject
    if jax.device_count() > 1:
        return None
    return 'JAX sees one device only; jax.config.update("jax_num_cpu_devices", 8) gives eight'


def sentence(error: Exception) -> str:
    """What an exception says, on one line."""
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line[:160]}".rstrip(": ")


def same(found: Any, expected: Any, names: str, *, rtol: float = 0.0) -> None:
    """Raise `BrokenLawError` unless two trees agree, in structure, shapes and numbers.

    Args:
      found, expected: the trees.
      names: what they are, as in ``the compiled update | the plain one``.
      rtol: what each number may be off, as a part of the largest one expected; 0: bitwise.
    """
    this, that = names.split(" | ")
    if jax.tree.structure(found) != jax.tree.structure(expected):
        raise BrokenLawError(
            f"{this} has the structure {_short(jax.tree.structure(found))}, "
            f"{that} {_short(jax.tree.structure(expected))}"
        )
    pairs = [
        (path, _wide(a), _wide(b))
        for (path, a), b in zip(
            jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
        )
    ]
    scale = max((float(np.max(_size(b), initial=0.0)) for _, _, b in pairs), default=0.0)
    for path, a, b in pairs:
        if a.shape != b.shape:
            raise BrokenLawError(
                f"{this} has shape {a.shape}{_where(path, found)}, {that} {b.shape}"
            )
        off: Any = ~(np.isnan(a) & np.isnan(b)) & (a != b)
        if rtol:
            off &= ~(np.abs(a - b) <= rtol * scale)
        if off.any():
            i = tuple(map(int, np.argwhere(off)[0]))
            raise BrokenLawError(
                f"{this} is {number(a[i])}{_where(path, found, i)}, but {that} is {number(b[i])}"
            )


def same_kinds(found: Any, expected: Any, names: str) -> None:
    """Raise `BrokenLawError` unless two trees have the same structure, shapes and dtypes."""

    def kind(x: Any) -> str:
        return f"{x.dtype}{list(x.shape)}" + " weak" * getattr(x, "weak_type", False)

    this, that = names.split(" | ")
    kinds = [jax.tree.map(kind, tree) for tree in (found, expected)]
    if kinds[0] != kinds[1]:
        new, old = (jax.tree.leaves(k) for k in kinds)
        pairs = [(a, b) for a, b in zip(new, old, strict=False) if a != b]
        a, b = pairs[0] if pairs else (str(kinds[0]), str(kinds[1]))
        raise BrokenLawError(f"{this} holds {a}, {that} {b}")


def shape_of(x: Any) -> jax.ShapeDtypeStruct:
    """Its shape and dtype alone."""
    x = jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def all_finite(tree: Any, name: str) -> None:
    """Raise `BrokenLawError` where a number of a tree is NaN or Inf."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        x = _wide(leaf)
        if not np.isfinite(x).all():
            i = tuple(map(int, np.argwhere(~np.isfinite(x))[0]))
            raise BrokenLawError(f"{name} is {number(x[i])}{_where(path, tree, i)}")


@functools.cache
def _compiled_programs() -> list[str]:
    """One entry for each program that is compiled from the first call on."""
    programs: list[str] = []

    def listener(event: str, duration_secs: float, **_: Any) -> None:
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    return programs


def compilations(run: Callable[[], Any]) -> int:
    """How many programs XLA compiles in a run."""
    programs = _compiled_programs()
    before = len(programs)
    run()
    return len(programs) - before


def number(x: Any) -> str:
    """A number as one reads it."""
    return f"{x + 0:.7g}"  # -0 is 0


def _wide(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    x = np.asarray(leaf)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def _size(x: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(x), np.abs(x), 0.0)


def _where(path: Any, tree: Any, i: tuple[int, ...] = ()) -> str:
    """As in `` at step 2, ['w'][0, 1]``; a list is of steps."""
    places: list[str] = []
    if isinstance(tree, list):
        places, path = [f"step {path[0].idx + 1}"], path[1:]
    if path or i:
        places.append(jax.tree_util.keystr(path) + (str(list(i)) if i else ""))
    return f" at {', '.join(places)}" if places else ""


def _short(structure: Any) -> str:
    return re.sub(r"^PyTreeDef\((.*)\)$", r"\1", str(structure))[:120]
