"""Laws on methods of matrices: in which layout a matrix lies, in what company, in which basis."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gdfx.core.axes import MatrixAxes
from gdfx.testing.compare import same
from gdfx.testing.draw import Run
from gdfx.testing.law import law
from gdfx.testing.needs import declares
from gdfx.testing.subject import Subject

contract = functools.partial(law, "matrix", "contract")


def of_matrices(subject: Subject) -> str | None:
    """The law needs an argument that says which axes make a matrix."""
    return None if "matrices" in subject.parameters else "it takes no matrices="


def alike(subject: Subject) -> str | None:
    """The law needs equal matrices to move alike."""
    return "it draws for each matrix by itself" if "key" in subject.parameters else None


def _run(**shapes: tuple[int, int]) -> Run:
    """Matrices by name, and their gradients in two steps.

    None lacks more than one direction: those are left to rounding.
    """
    rng = np.random.default_rng(0)
    params, *gradients = [{k: rng.normal(size=s) for k, s in shapes.items()} for _ in range(3)]
    return Run(params, tuple(gradients))


_LEAVES, _SQUARE, _WIDE = _run(a=(6, 6), b=(6, 6), c=(5, 6)), _run(a=(6, 6)), _run(a=(4, 5))

EXACT = 1e-8
"""In float64; what an iteration makes of its rounding is far below."""


def _outputs_by_inputs(path: str, x: Any) -> MatrixAxes:
    """Every leaf is a matrix as it is."""
    del path, x
    return MatrixAxes(inputs=1, outputs=0)


def _updates(subject: Subject, run: Run) -> list[Any]:
    """What leaves of one matrix each are updated by."""
    return subject.by_operation(run, matrices=_outputs_by_inputs).updates


_LAYOUTS: dict[str, tuple[MatrixAxes, Callable[..., np.ndarray]]] = {
    "copies": (MatrixAxes(2, 1, 0), lambda a, b, c: np.stack([a, b])),
    "copies along the last axis": (
        MatrixAxes(1, 0, -1),
        lambda a, b, c: np.stack([a, b], -1),
    ),
    "kernels of inputs by outputs": (
        MatrixAxes(1, 2, 0),
        lambda a, b, c: np.stack([a.T, b.T]),
    ),
    "equal blocks": (
        MatrixAxes(1, 0, blocks={0: 2}),
        lambda a, b, c: np.concatenate([a, b]),
    ),
    "unequal blocks": (
        MatrixAxes(1, 0, blocks={0: (6, 5)}),
        lambda a, b, c: np.concatenate([a, c]),
    ),
    "inputs on two axes": (
        MatrixAxes((1, 0), 2, 3),
        lambda a, b, c: np.stack([a, b], 2).reshape(6, 2, 3, 2).transpose(2, 1, 0, 3),
    ),
    "outputs on two axes": (
        MatrixAxes(1, (3, 0), 2),
        lambda a, b, c: np.stack([a, b]).reshape(2, 2, 3, 6).transpose(2, 3, 0, 1),
    ),
}
"""Ways in which matrices, outputs by inputs, lie in one leaf."""


@contract([_LEAVES], of_matrices, alike)
def layout_of_matrices(subject: Subject, run: Run) -> None:
    """Copies, blocks and axes in any order are updated as leaves of one matrix each.

    Otherwise a stack of layers, or a fused projection, trains as another model.
    """

    def laid_out(leaves: Any) -> Any:
        return {name: put(**leaves) for name, (_, put) in _LAYOUTS.items()}

    axes = {name: axes for name, (axes, _) in _LAYOUTS.items()}
    together = Run(laid_out(run.params), tuple(map(laid_out, run.gradients)))
    found = subject.by_operation(together, matrices=axes).updates
    leaves = jax.tree.map(np.asarray, _updates(subject, run))
    same(found, list(map(laid_out, leaves)), "the update | that of the leaves", rtol=EXACT)


@contract([_LEAVES], of_matrices, alike)
def matrix_in_company(subject: Subject, run: Run) -> None:
    """A matrix is updated beside others of its shape as it is alone, bitwise beside a NaN.

    Matrices that are worked on together must not hear of each other.
    """
    expected = [{"a": u["a"]} for u in _updates(subject, run)]
    alone = Run({"a": run.params["a"]}, tuple({"a": g["a"]} for g in run.gradients))
    names = "the update alone | beside others"
    same(_updates(subject, alone), expected, names, rtol=EXACT)
    bad = run.map_gradients(np.copy)
    for g in bad.gradients:
        g["b"][0, 0] = np.nan
    found = [{"a": u["a"]} for u in _updates(subject, bad)]
    same(found, expected, "the update beside a NaN | beside numbers")


@contract([_WIDE], of_matrices, alike, declares("transposes"))
def transposed_matrix(subject: Subject, run: Run) -> None:
    """A transposed matrix is updated as the matrix is, transposed.

    Then it does not matter which axis holds the inputs.
    """
    tall = _updates(subject, run.map(np.transpose))
    found = [jax.tree.map(np.transpose, u) for u in tall]
    same(found, _updates(subject, run), "the update transposed | that as it is", rtol=EXACT)


@contract([_SQUARE], of_matrices, alike, declares("follows", Any))
def change_of_basis(subject: Subject, run: Run) -> None:
    """Where inputs and outputs have another basis, the update has it too.

    Of which changes that is so, permutations or all rotations, is declared.
    """
    rng = np.random.default_rng(1)
    if subject.traits.follows == "rotations":
        left, right = np.linalg.qr(rng.normal(size=(2, 6, 6))).Q
    else:
        left, right = np.eye(6)[rng.permutation(6)], np.eye(6)[rng.permutation(6)]

    def turned(x: Any) -> np.ndarray:
        return left @ np.asarray(x) @ right

    expected = jax.tree.map(turned, _updates(subject, run))
    names = "the update in another basis | what it should be"
    same(_updates(subject, run.map(turned)), expected, names, rtol=EXACT)
