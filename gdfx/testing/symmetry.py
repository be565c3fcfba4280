"""Laws on what an optimizer must not see: names, order, sign, scale and origin."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from gdfx.core.words import rounded
from gdfx.testing.compare import same
from gdfx.testing.draw import Run, moderate_or_zero, runs
from gdfx.testing.law import BrokenLawError, law
from gdfx.testing.needs import declares, takes
from gdfx.testing.subject import Subject

contract = functools.partial(law, "symmetry", "contract")
courtesy = functools.partial(law, "symmetry", "courtesy")

VECTORS = runs(sizes=moderate_or_zero)


@contract(VECTORS, declares("elementwise"))
def leaf_split(subject: Subject, run: Run) -> None:
    """One array, and the same numbers in two leaves, are updated alike.

    Otherwise the layout of a model's code changes its training.
    """
    split = run.map(lambda x: {"b": x[:1], "a": x[1:]})
    found = [np.concatenate([u["b"], u["a"]]) for u in subject.by_operation(split).updates]
    same(
        found,
        subject.replay(run).updates,
        "the update in two leaves | in one",
        rtol=subject.rounded,
    )


@contract(VECTORS, declares("elementwise"))
def permutation(subject: Subject, run: Run) -> None:
    """Coordinates in another order are updated alike.

    No coordinate is special.
    """
    turned = subject.replay(run.map(lambda x: x[::-1])).updates
    found = jax.tree.map(lambda u: u[::-1], turned)
    same(
        found,
        subject.replay(run).updates,
        "the update in reverse order | in order",
        rtol=subject.rounded,
    )


@contract(VECTORS, declares("odd"))
def sign(subject: Subject, run: Run) -> None:
    """The negative gradients give the negative updates, weight decay apart.

    Otherwise it drifts to one side by itself.
    """
    run = run.at_origin()
    found = subject.replay(run.map_gradients(lambda g: -g)).updates
    expected = jax.tree.map(lambda u: -u, subject.replay(run).updates)
    same(found, expected, "the update of -g | minus that of g", rtol=subject.rounded)


@contract(runs(), declares("descends"))
def first_step_descends(subject: Subject, run: Run) -> None:
    """The first step goes down the gradient, weight decay apart.

    Otherwise a sign is lost, or the step comes late.
    """
    run = dataclasses.replace(run.at_origin(), gradients=run.gradients[:1])
    u, g = np.asarray(subject.replay(run).updates[0], np.float64), run.gradients[0]
    if not (u * g).sum() < 0:
        raise BrokenLawError(f"the first gradient {_row(g)} gives the update {_row(u)}")


@courtesy(runs(), declares("descends"), takes("learning_rate"))
def zero_rate_stays(subject: Subject, run: Run) -> None:
    """With a learning rate of 0 every update is 0, weight decay apart.

    Warm-up schedules begin there, and cosine schedules end there.
    """
    updates = subject.by_operation(run.at_origin(), learning_rate=0.0).updates
    expected = jax.tree.map(np.zeros_like, updates)
    same(updates, expected, "the update at rate 0 | what it should be")


@contract(st.tuples(runs(), st.sampled_from((4.0, 2.0**10))), declares("scale", Any))
def gradient_scale(subject: Subject, case: tuple[Run, float]) -> None:
    """Gradients c times as large give updates c times as large, or the same, as is declared.

    It tells whether the learning rate must follow the loss's scale.
    """
    run, c = case
    run = run.at_origin().map_gradients(lambda g: g * np.float32(2.0**20))  # ε is nothing beside
    linear = subject.traits.scale == "linear"
    expected = jax.tree.map(lambda u: u * (c if linear else 1), subject.replay(run).updates)
    found = subject.replay(run.map_gradients(lambda g: g * np.float32(c))).updates
    that = f"{c:g} times that of g" if linear else "that of g"
    same(found, expected, f"the update of {c:g} g | {that}", rtol=1e-5)


@contract(VECTORS, declares("translates"))
def translation(subject: Subject, run: Run) -> None:
    """Parameters shifted by a constant are updated alike.

    Where nothing decays to zero, zero is a point like any other.
    """
    shifted = dataclasses.replace(run, params=run.params + np.float32(4))
    found, expected = subject.replay(shifted).updates, subject.replay(run).updates
    same(
        found, expected, "the update of shifted parameters | of the original", rtol=subject.rounded
    )


@contract(runs(), declares("complex"))
def complex_phase(subject: Subject, run: Run) -> None:
    """Complex gradients turned by 90° give the update turned by 90°; real ones stay real.

    It holds where g² is |g|² and the parts are not mixed up.
    """
    real = [np.asarray(u, np.complex64) for u in subject.replay(run).updates]
    plain = run.cast("complex64")
    same(subject.by_operation(plain).updates, real, "the complex update | the real one", rtol=1e-5)
    turned = subject.by_operation(plain.map(lambda x: x * np.complex64(1j))).updates
    expected = [u * 1j for u in real]
    same(turned, expected, "the update of i g | i times that of g", rtol=1e-5)


def _row(x: Any) -> str:
    return f"[{', '.join(map(rounded, x))}]"
