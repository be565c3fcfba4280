"""Laws on what an optimizer remembers: how a state is made, stored and taken up again."""

import functools
import importlib
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdfx.testing.compare import same, same_kinds, shape_of
from gdfx.testing.draw import Run, example
from gdfx.testing.law import BrokenLawError, law
from gdfx.testing.needs import installed
from gdfx.testing.plumbing import EXAMPLE
from gdfx.testing.subject import Subject, compiled, replay

contract = functools.partial(law, "plumbing", "contract")
courtesy = functools.partial(law, "plumbing", "courtesy")


# How it is made.


@contract((example(),))
def fresh_state_donatable(subject: Subject, run: Run) -> None:
    """A fresh state shares no buffer with parameters, arguments or itself, and can be donated.

    Training in place halves the memory. A buffer that is donated is gone: for the second field
    that holds it, for a key that was an argument, and for the next run.
    """
    tx = subject.tx

    def step(params: Any, state: Any, g: Any) -> Any:
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state, updates

    donating = jax.jit(step, donate_argnums=(0, 1))
    expected = subject.replay(run).updates[:1]
    for init, how in ((tx.init, "init"), (subject.compiled.init, "jax.jit(init)")):
        params = jax.tree.map(jnp.array, run.params)
        states = init(params), init(params)
        _check_owners(subject, params, states, how)
        for fresh in states:
            own = jax.tree.map(jnp.array, params)
            _, _, updates = donating(own, fresh, run.gradients[0])
            same([updates], expected, "with donation | without", rtol=subject.rounded)


def _check_owners(subject: Subject, params: Any, states: tuple[Any, Any], how: str) -> None:
    """No two things hold one buffer."""
    state, again = states
    owners: dict[int, str] = {}
    for tree, name in (
        (params, "the parameters"),
        (subject.arguments, "the arguments"),
        (state, "the state"),
        (again, "a second state"),
    ):
        for path, pointer in _buffers(tree):
            place = f"{name} at {jax.tree_util.keystr(path)}" if path else name
            if pointer in owners:
                raise BrokenLawError(f"after {how}, {owners[pointer]} and {place} are one buffer")
            owners[pointer] = place


def _buffers(tree: Any) -> Iterator[tuple[Any, int]]:
    """Where the arrays of a tree lie in memory."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, jax.Array) and leaf.size:
            yield path, leaf.unsafe_buffer_pointer()


@contract(EXAMPLE)
def eval_shape_init(subject: Subject, run: Run) -> None:
    """``init`` under `jax.eval_shape` gives the shapes and dtypes of the real state.

    Large models are laid out, and checkpoints read, from shapes alone.
    """
    tx = subject.tx
    found = jax.eval_shape(tx.init, jax.tree.map(shape_of, run.params))
    same_kinds(found, tx.init(jax.tree.map(jnp.asarray, run.params)), "from shapes | from arrays")


@contract(EXAMPLE)
def init_from_shapes(subject: Subject, run: Run) -> None:
    """``init`` on `jax.ShapeDtypeStruct` gives the structure, shapes and dtypes of the real state.

    A state is laid out so, and a checkpoint read into it, before there are parameters.
    """
    found = subject.tx.init(jax.tree.map(shape_of, run.params))
    expected = subject.tx.init(jax.tree.map(jnp.asarray, run.params))
    same_kinds(found, expected, "from shapes | from arrays")


# How it is stored.


def _goes_on(subject: Subject, run: Run, passes: Callable[[Any, Any], Any], *, rtol: float) -> None:
    """A state passes through a store, beside a fresh one, and a new optimizer goes on with it."""
    first, rest = (Run(run.params, part) for part in (run.gradients[:1], run.gradients[1:]))
    state, tx = subject.replay(first).state, subject.make()
    fresh = tx.init(jax.tree.map(jnp.asarray, run.params))
    found = replay(compiled(tx), rest, passes(state, fresh))
    same(found.updates, subject.replay(run).updates[1:], "the update after it | without",
         rtol=rtol)  # fmt: skip


@contract(EXAMPLE)
def resumes_bitwise(subject: Subject, run: Run) -> None:
    """A state that was pickled goes on, in a new process's optimizer, bitwise as if uninterrupted.

    Otherwise a restart from a checkpoint is another run.
    """
    _goes_on(subject, run, lambda state, _: pickle.loads(pickle.dumps(state)), rtol=0.0)


@courtesy(EXAMPLE)
def state_cast(subject: Subject, run: Run) -> None:
    """A state that `optax.tree_utils.tree_cast` made float32, counts and all, goes on.

    States are cast so, before they are averaged or moved to another precision.
    """
    _goes_on(
        subject,
        run,
        lambda state, _: optax.tree_utils.tree_cast(state, jnp.float32),
        rtol=subject.rounded,
    )


@courtesy(EXAMPLE, installed("flax"))
def state_in_flax(subject: Subject, run: Run) -> None:
    """A state passes through flax's ``to_bytes`` and ``from_bytes``, and goes on bitwise.

    So are many checkpoints written.
    """
    flax = importlib.import_module("flax.serialization")
    _goes_on(
        subject, run, lambda state, fresh: flax.from_bytes(fresh, flax.to_bytes(state)), rtol=0.0
    )


@courtesy(EXAMPLE, installed("equinox"))
def state_in_equinox(subject: Subject, run: Run) -> None:
    """A state passes through equinox's ``tree_serialise_leaves`` and back, and goes on bitwise.

    So are the checkpoints of equinox's models written.
    """
    equinox = importlib.import_module("equinox")

    def passes(state: Any, fresh: Any) -> Any:
        file = io.BytesIO()
        equinox.tree_serialise_leaves(file, state)
        file.seek(0)
        return equinox.tree_deserialise_leaves(file, fresh)

    _goes_on(subject, run, passes, rtol=0.0)
