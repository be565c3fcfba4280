"""Which leaf of a tree is which array elsewhere, and how the one lies in the other."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdfx.core.check import at, kind_of
from gdfx.core.precision import dtype_of
from gdfx.core.words import nearest

Shape = Sequence["int | Sequence[int]"]


class Leaf:
    """Where an array from elsewhere stands in the parameters, and how it lies there.

    >>> from gdfx.port import Leaf
    >>> linear = Leaf("dense", "kernel", axes=(1, 0))         # (outputs, inputs) is transposed
    >>> conv = Leaf("conv", "kernel", axes=(2, 3, 1, 0))      # to (height, width, inputs, outputs)
    >>> heads = Leaf("query", "kernel", shape=((8, 64), 512), axes=(2, 0, 1))  # (512, 8, 64)
    >>> after_conv = Leaf("head", "kernel", shape=(10, (16, 7, 7)), axes=(2, 3, 1, 0))

    The last is a dense layer behind a flattened image: its 784 inputs are 16 channels of 7 × 7
    there, and 7 × 7 of 16 channels here.

    Args:
      path: the keys, indices and attributes that lead to the leaf.
      axes: for each axis here, which one it is there, as `jax.numpy.transpose` takes them; None:
        the same.
      shape: the shape there, where it is not simply that of here in another order. An axis that is
        split here is a tuple of its parts, and ``axes`` counts these. What comes out is reshaped
        to the leaf.
    """

    def __init__(self, *path: Any, axes: Sequence[int] | None = None, shape: Shape | None = None):
        if not path:
            raise ValueError('Leaf: say where it stands, as in Leaf("dense", "kernel")')
        self.path = path
        self.axes = None if axes is None else tuple(axes)
        parts = None if shape is None else [_parts(axis) for axis in shape]
        self.parts = parts
        """The parts of each axis there, if said."""
        if axes is None or sorted(axes) == list(range(len(axes))):
            split = None if parts is None else sum(parts, ())
            if axes is None or split is None or len(split) == len(axes):
                return
        raise ValueError(
            f"Leaf: axes of {self} must name each axis once"
            + ("" if parts is None else f", of the shape {sum(parts, ())}")
            + f", got {tuple(axes)}"
        )

    def __str__(self) -> str:
        return "".join(f"[{key!r}]" for key in self.path)


Names = Sequence[Any] | Mapping[Any, Any]


class Place:
    """A leaf of the parameters, and the array that it is elsewhere."""

    def __init__(self, who: str, name: Any, leaf: Leaf, path: str, shape: tuple[int, ...]):
        """Refuse axes and shapes that cannot make the leaf's."""
        self.name, self.path, self.shape = name, path, shape
        if leaf.parts is None:
            axes = range(len(shape)) if leaf.axes is None else leaf.axes
            if len(axes) != len(shape):
                raise ValueError(
                    f"{who}: {path} has shape {shape}, which axes {tuple(axes)} do not fit; name "
                    f"each of its {len(shape)} axes once"
                )
            there = [0] * len(shape)
            for here, axis in enumerate(axes):
                there[axis] = shape[here]
            self.there = self.split = tuple(there)
            self.groups = [(i,) for i in range(len(shape))]
        else:
            self.split = sum(leaf.parts, ())
            self.there = tuple(map(math.prod, leaf.parts))
            count = iter(range(len(self.split)))
            self.groups = [tuple(next(count) for _ in part) for part in leaf.parts]
            axes = range(len(self.split)) if leaf.axes is None else leaf.axes
        self.axes = tuple(axes)
        if math.prod(self.split) != math.prod(shape):
            raise ValueError(
                f"{who}: {path} has shape {shape}, which an array of shape {self.there} cannot fill"
            )

    @property
    def moved(self) -> tuple[int, ...]:
        """The shape before it is reshaped to the leaf's."""
        return tuple(self.split[axis] for axis in self.axes)

    def here(self, x: np.ndarray) -> np.ndarray:
        """An array from there, as the leaf lies."""
        return x.reshape(self.split).transpose(self.axes).reshape(self.shape)

    def away(self, x: np.ndarray) -> np.ndarray:
        """An array like the leaf, as it lies there."""
        return x.reshape(self.moved).transpose(np.argsort(self.axes)).reshape(self.there)

    def where(self, axis: int) -> tuple[int, ...] | None:
        """The axes here that an axis of there has become, in its order; None if it is merged."""
        if self.moved != self.shape:
            return None
        return tuple(self.axes.index(i) for i in self.groups[axis])


class Places:
    """All leaves of some parameters, in the order of the arrays elsewhere."""

    def __init__(self, who: str, params: Any, names: Names):
        """Refuse names that do not lead to each leaf once."""
        self.who = who
        found, self.structure = jax.tree_util.tree_flatten_with_path(params)
        self.leaves = [x for _, x in found]
        paths = [at(path) for path, _ in found]
        index = {tuple(map(_key, path)): i for i, (path, _) in enumerate(found)}
        self.named = isinstance(names, Mapping)
        pairs = list(names.items()) if isinstance(names, Mapping) else list(enumerate(names))
        self.order: list[int] = []
        """The leaf of each array, by its number."""
        self.places: dict[int, Place] = {}
        for name, leaf in pairs:
            leaf = _as_leaf(leaf)
            i = index.get(tuple(map(_known, leaf.path)))
            called = f"names[{name!r}]"
            if i is None:
                near = nearest(str(leaf), paths, otherwise="params has other leaves")
                raise ValueError(f"{who}: {called} is {leaf}, which params does not have; {near}")
            if i in self.places:
                first = self.places[i].name
                raise ValueError(f"{who}: names[{first!r}] and {called} are both {paths[i]}")
            shape = tuple(np.shape(self.leaves[i]))
            self.places[i] = Place(who, name, leaf, paths[i], shape)
            self.order.append(i)
        missing = [path for i, path in enumerate(paths) if i not in self.places]
        if missing:
            raise ValueError(
                f"{who}: params has {missing[0]}, which names does not list; what is not trained "
                "is None in params"
            )

    def __iter__(self) -> Iterator[tuple[int, Place]]:
        """The leaves by their place in the tree, in the order of the arrays."""
        return ((i, self.places[i]) for i in self.order)

    def tree(self, column: Iterable[Any]) -> Any:
        """What belongs to each leaf, as a tree like the parameters."""
        return self.structure.unflatten(column)

    def column(self, what: str, tree: Any) -> list[Any]:
        """What a tree holds of each leaf."""
        try:
            return self.structure.flatten_up_to(tree)
        except (ValueError, TypeError):
            raise ValueError(
                f"{self.who}: the state's {what} is no tree like params; the state was made for "
                "other parameters"
            ) from None


# The parameters themselves.


def from_arrays(arrays: Mapping[str, Any] | Sequence[Any], params: Any, *, names: Names) -> Any:
    """The weights of a model of PyTorch or Keras as the parameters here lie, in their dtypes.

    Args:
      arrays: PyTorch's ``model.state_dict()``, where ``names`` is a mapping from its names; or the
        list of ``model.parameters()``, detached, or Keras's ``model.trainable_variables``.
      params: parameters of the right shapes and dtypes.
      names: as in `from_torch`.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.
    """
    who = "port.from_arrays"
    places = Places(who, params, names)
    if places.named != isinstance(arrays, Mapping):
        raise TypeError(
            f"{who}: arrays by name need names by name, as in "
            "{'0.weight': ('dense', 'kernel')}, and a list of arrays a list of names"
        )
    if not isinstance(arrays, Mapping) and len(arrays) != len(places.order):
        raise ValueError(
            f"{who}: there are {len(arrays)} arrays, but names lists {len(places.order)}"
        )
    new: list[Any] = [None] * len(places.leaves)
    for i, place in places:
        if isinstance(arrays, Mapping) and place.name not in arrays:
            near = nearest(str(place.name), list(map(str, arrays)))
            raise ValueError(f"{who}: arrays has no {place.name!r}; {near}")
        x = of_shape(who, f"arrays[{place.name!r}]", arrays[place.name], place, place.there)
        new[i] = jnp.asarray(place.here(x), dtype_of(places.leaves[i]))
    return places.tree(new)


def to_arrays(
    params: Any, *, names: Names, tensor: Callable[[np.ndarray], Any] | None = None
) -> dict[str, Any] | list[Any]:
    """The parameters as a model of PyTorch or Keras has them: by name if names are, else a list.

    Args:
      params: the parameters.
      names: as in `from_torch`.
      tensor: as in `to_torch`.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.
    """
    places = Places("port.to_arrays", params, names)
    make = tensor or (lambda x: x)
    found = {
        place.name: make(np.ascontiguousarray(place.away(np.asarray(places.leaves[i]))))
        for i, place in places
    }
    return found if places.named else list(found.values())


# Words that all of these share.


def array(who: str, what: str, x: Any) -> np.ndarray:
    """What is given as an array, on the host; refuse what is none."""
    try:
        found = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(f"{who}: {what} cannot be read as an array: {reason}") from None
    if found.dtype.kind in "OUS":
        raise TypeError(f"{who}: {what} must be an array, got {kind_of(x)}")
    return found


def of_shape(who: str, what: str, x: Any, place: Place, shape: tuple[int, ...]) -> np.ndarray:
    """An array from there; refuse one of another shape than the leaf tells."""
    found = array(who, what, x)
    if found.shape != shape:
        turned = "; if it is transposed, say Leaf(..., axes=(1, 0))" * (
            found.ndim == 2 and found.shape == shape[::-1]
        )
        raise ValueError(
            f"{who}: {what} has shape {found.shape}, but {place.path} asks for {shape}{turned}"
        )
    return found


def _parts(axis: int | Sequence[int]) -> tuple[int, ...]:
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _as_leaf(leaf: Any) -> Leaf:
    if isinstance(leaf, Leaf):
        return leaf
    return Leaf(*leaf) if isinstance(leaf, tuple | list) else Leaf(leaf)


def _key(entry: Any) -> Any:
    """What stands in an entry of a path: a dict's key, an index, an attribute's name."""
    for field in ("key", "idx", "name"):
        if hasattr(entry, field):
            return _known(getattr(entry, field))
    return _known(entry)


def _known(key: Any) -> str:
    """A key as it is looked up: flax has "0" where equinox has 0."""
    return str(key)
