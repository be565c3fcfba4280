"""Which leaves of a model are matrices, and along which axes: what frameworks' names tell."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gdfx.core.arguments import is_function
from gdfx.core.axes import MatrixAxes, Placement, placement
from gdfx.core.check import at
from gdfx.core.words import either

Choose = Callable[[str, Any], MatrixAxes | None]
"""``choose(path, array)``: which axes of a leaf are what, or None where it is no matrix."""

Matrices = str | Choose | Any
"""The name of a layout, a function as `Choose`, or a tree (prefix) of `MatrixAxes` and None."""


class UnknownAxesError(ValueError):
    """Nothing tells which axes of a leaf are what."""


def layout(
    name: str,
    *,
    stacked: str | Mapping[str, int] | None = None,
    also: Mapping[str, MatrixAxes] | None = None,
    never: str | None = None,
) -> Choose:
    """Which leaves of a framework's models are matrices, by the names that it gives them.

    ::

        "flax"      linen, nnx: kernels of dense layers, cells, attention, convolutions, and LoRA's
                    factors: (inputs..., outputs)
        "haiku"     w of linear layers, cells and convolutions: (inputs..., outputs); of transposed
                    ones (..., outputs, inputs); what layer_stack has stacked is known
        "equinox"   weights of linear layers, cells and convolutions: (outputs, inputs...)
        "2d"        every leaf of two axes: (inputs, outputs)

    Embeddings, heads, norms, biases, depthwise convolutions and whatever has one axis or none are
    no matrices. Fused projections are one matrix, unless ``also`` gives them blocks. Where names
    and shapes do not tell, as of a kernel of three axes that may be a convolution or a stack of
    dense layers, an error says what to add here. `matrix_table` shows what was found.

    Regular expressions are searched in paths such as ``['layers']['mlp']['kernel']``.

    Args:
      name: the framework's name.
      stacked: a regular expression for the leaves in which layers or experts lie stacked along
        axis 0, as `flax.linen.scan` and `jax.vmap` stack them; or several, each with its axis.
      also: regular expressions, each with the axes of the leaves that it finds: all axes, those of
        stacks too.
      never: a regular expression for leaves that are no matrices, whatever else is said.

    Raises:
      ValueError: for a name that is not known.

    >>> import gdfx
    >>> matrices = gdfx.layout("flax", stacked="layers", never="router")
    """
    if name not in _RULES:
        raise ValueError(f"layout: name must be {either(list(map(repr, _RULES)))}, got {name!r}")
    rule = _RULES[name]
    given = {stacked: 0} if isinstance(stacked, str) else dict(stacked or {})
    stacks = given | _STACKS.get(name, {})

    def choose(path: str, x: Any) -> MatrixAxes | None:
        if never is not None and re.search(never, path):
            return None
        for pattern, axes in (also or {}).items():
            if re.search(pattern, path):
                return axes
        ndim = np.ndim(x)
        axis = next((a for pattern, a in stacks.items() if re.search(pattern, path)), None)
        try:
            if axis is None or ndim == 0:
                return _chosen(rule, path, ndim)
            found = _chosen(rule, path, ndim - 1)
        except UnknownAxesError:
            raise UnknownAxesError(_question(name, path, np.shape(x))) from None
        return found and _with_batch(found, axis % ndim)

    return choose


def _with_batch(axes: MatrixAxes, axis: int) -> MatrixAxes:
    """The axes of an array that has one more, along which copies lie."""

    def moved(group: Any) -> tuple[int, ...]:
        return tuple(a + (a >= axis) for a in group)

    return MatrixAxes(moved(axes.inputs), moved(axes.outputs), (axis, *moved(axes.batch)))


def _question(name: str, path: str, shape: tuple[int, ...]) -> str:
    """What to write where nothing tells."""
    keys = list(re.finditer(_KEY, path))[-2 - path.endswith("value") :]
    pattern = re.escape(path[keys[0].start() if keys else 0 :])
    return (
        f"which axes of {path} of shape {shape} are inputs and which are outputs cannot be known "
        f'from its name; give matrices=gdfx.layout({name!r}, also={{r"{pattern}": '
        "gdfx.MatrixAxes(inputs=..., outputs=..., batch=...)}), or stacked= where layers lie "
        "stacked in it, or never= where it is no matrix"
    )


_KEY = r"\['?([^\]']*)'?\]|\.(\w+)"


def _names(path: str) -> list[str]:
    """``['layers'][0].weight`` as ``layers, 0, weight``, with what a module's own path adds."""
    path = re.sub(r"\.(raw_)?value$", "", path)  # inside flax's nnx.Variable
    keys = re.findall(_KEY, path)
    return [part for key in keys for part in (key[0] or key[1]).split("/")]


_Rule = Callable[[str, str, int], MatrixAxes | None]
"""``rule(module, leaf, ndim)``: the names of the leaf and of the module that it belongs to."""


def _chosen(rule: _Rule, path: str, ndim: int) -> MatrixAxes | None:
    names = _names(path)
    named = rule is not _every_matrix and any(re.search(_NO_MATRIX, n.lower()) for n in names)
    if ndim < 2 or named:
        return None
    *modules, leaf = names or [""]
    module = next((name for name in reversed(modules) if not name.isdigit()), "")
    return rule(module.lower(), leaf, ndim)


_NO_MATRIX = (
    r"embed|norm|depthwise|(^|_)emb(_|$)|^(ln|bn|gn)(_|\d|$)"
    r"|^(bias|scale|offset|b|wte|wpe|lm_head|head|logits|classifier|unembed)$"
)

_STACKS = {"haiku": {"layer_stack": 0}}
"""Stacks that have a name of the framework's own."""


def _kernel(ndim: int) -> MatrixAxes:
    """(inputs..., outputs)."""
    return MatrixAxes(tuple(range(ndim - 1)), (ndim - 1,))


def _turned(ndim: int) -> MatrixAxes:
    """(..., outputs, inputs)."""
    return MatrixAxes((*range(ndim - 2), ndim - 1), (ndim - 2,))


def _weight(ndim: int) -> MatrixAxes:
    """(outputs, inputs...)."""
    return MatrixAxes(tuple(range(1, ndim)), (0,))


def _flax(module: str, leaf: str, ndim: int) -> MatrixAxes | None:
    if leaf not in ("kernel", "lora_a", "lora_b"):
        raise UnknownAxesError
    if ndim == 3 and module in ("query", "key", "value"):
        return MatrixAxes(inputs=0, outputs=(1, 2))
    if ndim == 3 and module == "out":
        return MatrixAxes(inputs=(0, 1), outputs=2)
    if "convlocal" in module:  # at each place another matrix
        return MatrixAxes(ndim - 2, ndim - 1, tuple(range(ndim - 2)))
    return _dense_or_convolution(module, ndim, _kernel)


def _haiku(module: str, leaf: str, ndim: int) -> MatrixAxes | None:
    if leaf not in ("w", "w_i", "w_h"):
        raise UnknownAxesError
    turned = re.search("transpose|deconv", module) is not None and ndim > 2
    return _dense_or_convolution(module, ndim, _turned if turned else _kernel)


def _equinox(module: str, leaf: str, ndim: int) -> MatrixAxes | None:
    if leaf == "g":  # the lengths of a WeightNorm
        return None
    if leaf not in ("weight", "weight_ih", "weight_hh"):
        raise UnknownAxesError
    return _dense_or_convolution(module, ndim, _weight)


def _dense_or_convolution(module: str, ndim: int, axes: Callable[[int], MatrixAxes]) -> MatrixAxes:
    """Two axes are a dense layer's; more are a convolution's, if it is named so."""
    if ndim == 2 or "conv" in module:
        return axes(ndim)
    raise UnknownAxesError


def _every_matrix(module: str, leaf: str, ndim: int) -> MatrixAxes | None:
    return MatrixAxes() if ndim == 2 else None


_RULES: dict[str, _Rule] = {
    "flax": _flax,
    "haiku": _haiku,
    "equinox": _equinox,
    "2d": _every_matrix,
}


def resolved(method: str, matrices: Matrices, tree: Any) -> list[Placement | None]:
    """Of each leaf of a tree, how its matrices lie in it; None where it is no matrix."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    if matrices is None:
        specs = [_asked(method, at(path), x) for path, x in paths]
    elif isinstance(matrices, str) or is_function(matrices):
        choose = layout(matrices) if isinstance(matrices, str) else matrices
        specs = [_one(method, choose, at(path), x) for path, x in paths]
    else:
        specs = _prefix(method, matrices, tree)
    return [
        axes and placement(method, at(path), np.shape(x), axes)
        for (path, x), axes in zip(paths, specs, strict=True)
    ]


def _asked(method: str, path: str, x: Any) -> None:
    """Nothing was said: what has at most one axis is no matrix; of all else somebody must tell."""
    if np.ndim(x) > 1:
        raise ValueError(
            f"{method}: which axes of {path} of shape {np.shape(x)} are inputs and which are "
            "outputs cannot be known; give matrices='flax', 'haiku', 'equinox' or '2d' (every "
            "leaf of two axes), or a function of (path, array) that returns gdfx.MatrixAxes or None"
        )


def _one(method: str, choose: Choose, path: str, x: Any) -> MatrixAxes | None:
    try:
        axes = choose(path, x)
    except UnknownAxesError as error:
        raise ValueError(f"{method}: {error}") from None
    return _axes(method, path, axes)


def _axes(method: str, path: str, axes: Any) -> MatrixAxes | None:
    if axes is not None and not isinstance(axes, MatrixAxes):
        raise TypeError(
            f"{method}: matrices must give gdfx.MatrixAxes or None for each leaf, got {axes!r} for "
            f"{path}"
        )
    return axes


def _prefix(method: str, matrices: Any, tree: Any) -> list[MatrixAxes | None]:
    """A tree of axes, or one that ends earlier: what it says holds for all below."""

    def is_spec(x: Any) -> bool:
        return x is None or isinstance(x, MatrixAxes)

    specs, structure = jax.tree.flatten(matrices, is_leaf=is_spec)
    for axes in specs:
        _axes(method, "a leaf of the tree matrices", axes)
    try:
        parts = structure.flatten_up_to(tree)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{method}: matrices is no tree like the parameters': {error}") from None
    pairs = zip(specs, parts, strict=True)
    return [axes for axes, part in pairs for _ in jax.tree.leaves(part)]
