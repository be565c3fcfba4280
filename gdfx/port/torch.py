"""The state of an optimizer of torch.optim as one of `gdfx.torch`, and back.

torch itself is not needed: a ``state_dict()`` is a dict, and its tensors are read as arrays.
"""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdfx.core.axes import MatrixAxes
from gdfx.core.trees import parted
from gdfx.core.words import either, nearest
from gdfx.dialects import torch
from gdfx.port.leaves import Names, Place, Places, array, of_shape

ELSEWHERE = {
    "params",
    "param_names",
    # what changes no equation
    *("foreach", "fused", "capturable", "differentiable"),
    # what schedulers keep for themselves
    *("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"),
}
"""What a param group may hold that is no argument of gdfx's."""


class Kind(NamedTuple):
    """An optimizer, and what its entries are called."""

    make: Callable[..., optax.GradientTransformationExtraArgs]
    State: type[Any]
    numbers: tuple[str, ...] = ()
    """Entries that are one number, and a field of the state."""
    derived: Mapping[str, Callable[[Mapping[str, Any], int], float]] = {}
    """Entries that a group and the number of steps tell."""
    counts: bool = True
    """Whether an entry tells the number of steps."""
    fixed: Mapping[str, Any] = {}
    """Flags that are what they are."""
    factored: bool = False
    """Whether the last two axes are other than the rest."""
    matrices: bool = False
    """Whether every array is a matrix, (outputs, inputs)."""

    @property
    def arguments(self) -> list[str]:
        """What a param group must hold."""
        ours = {"matrices", "otherwise", "over"} if self.matrices else set()
        return [name for name in inspect.signature(self.make).parameters if name not in ours]

    @property
    def trees(self) -> list[str]:
        """The fields that hold an array of each leaf."""
        return [f for f in self.State._fields if f not in ("count", *self.numbers)]


def _share(group: Mapping[str, Any], steps: int) -> float:
    """ASGD's μ of the next step."""
    return 1 / max(1.0, steps - group["t0"])


KINDS = {
    "SGD": Kind(torch.SGD, torch.SGDState, counts=False),
    "Adagrad": Kind(torch.Adagrad, torch.AdagradState),
    "RMSprop": Kind(torch.RMSprop, torch.RMSpropState),
    "Adadelta": Kind(torch.Adadelta, torch.AdadeltaState),
    "Adam": Kind(torch.Adam, torch.AdamState),
    "AdamW": Kind(torch.AdamW, torch.AdamState, fixed={"decoupled_weight_decay": True}),
    "NAdam": Kind(torch.NAdam, torch.NAdamState, numbers=("mu_product",)),
    "RAdam": Kind(torch.RAdam, torch.RAdamState),
    "Adamax": Kind(torch.Adamax, torch.AdamaxState),
    "ASGD": Kind(torch.ASGD, torch.ASGDState, numbers=("eta",), derived={"mu": _share}),
    "Rprop": Kind(torch.Rprop, torch.RpropState),
    "Adafactor": Kind(torch.Adafactor, torch.AdafactorState, factored=True),
    "Muon": Kind(torch.Muon, torch.MuonState, counts=False, matrices=True),
}


# From PyTorch.


class Held(NamedTuple):
    """What PyTorch keeps of one parameter."""

    steps: int
    """How many it has taken, as far as the entry tells."""
    arrays: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]


def from_torch(
    state_dict: Mapping[str, Any],
    params: optax.Params,
    *,
    names: Names,
    optimizer: str = "AdamW",
    lr: optax.ScalarOrSchedule | Sequence[optax.ScalarOrSchedule] | None = None,
    steps: int | None = None,
) -> tuple[optax.GradientTransformationExtraArgs, optax.OptState]:
    """The optimizer of a PyTorch run and its state: the next step is the one PyTorch would take.

    >>> import jax.numpy as jnp, numpy as np
    >>> from gdfx.port import Leaf, from_torch
    >>> params = {"kernel": jnp.ones((3, 2))}                 # torch's weight is (2, 3)
    >>> entry = {"step": 7, "exp_avg": np.ones((2, 3)), "exp_avg_sq": np.ones((2, 3))}
    >>> group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    >>> group |= {"amsgrad": False, "maximize": False, "params": [0]}
    >>> state_dict = {"state": {0: entry}, "param_groups": [group]}
    >>> tx, state = from_torch(state_dict, params, names=[Leaf("kernel", axes=(1, 0))])
    >>> int(state.count), state.exp_avg["kernel"].shape
    (7, (3, 2))

    Args:
      state_dict: what ``optimizer.state_dict()`` returned; its arrays may be tensors on the CPU or
        anything else that ``np.asarray`` reads.
      params: the parameters here, from which the state takes its dtypes. What is not trained is
        None.
      names: where each parameter stands, in the order of torch's parameter indices, which is that
        of ``model.parameters()``: a path such as ``("dense", "kernel")``, or a `Leaf` that also
        says how the array lies. Or a mapping from torch's names to these, in the same order.
      optimizer: its name in `torch.optim`.
      lr: the learning rate from here on: a number, a schedule, or one of these for each param
        group; None: the one that each group has now, from now on. A schedule stands for
        PyTorch's ``lr_scheduler``; it is asked with the number of steps done, as ever.
      steps: how many steps the run has done, which a schedule is asked with next; None: the largest
        count of a parameter. SGD and Muon count none in PyTorch.

    Returns:
      The transformation and its state. Of one param group whose parameters have all taken
      the same number of steps they are those of ``gdfx.torch.AdamW`` (or of another); otherwise
      each group, and within it each number of steps, is a part of an `optax.partition`.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.
    """
    who = "port.from_torch"
    kind = _kind(who, optimizer)
    places = Places(who, params, names)
    groups = _groups(who, optimizer, kind, state_dict, places)
    rates = _rates(who, lr, groups)
    held = _held(who, optimizer, kind, state_dict, groups, places)

    done = max((h.steps for h in held.values()), default=0) if steps is None else steps
    if steps is None and not kind.counts and any(map(callable, rates)):
        raise ValueError(
            f"{who}: {optimizer} counts no steps in PyTorch, and lr is a schedule; say how many "
            "are done, as in steps=1000"
        )
    if not kind.counts and steps is not None:  # what has a buffer has gone along
        held = {i: h._replace(steps=steps if h.arrays else 0) for i, h in held.items()}

    made: dict[str, Any] = {}
    counts: dict[str, int] = {}
    labels = [""] * len(places.leaves)
    for g, (group, rate) in enumerate(zip(groups, rates, strict=True)):
        found = sorted({held[i].steps for i in group.leaves})
        for count in found:
            label = f"group {g}" + f", {count} steps" * (len(found) > 1)
            counts[label] = count
            for i in group.leaves:
                labels[i] = label if held[i].steps == count else labels[i]
            own = _later(rate, done - count) if callable(rate) else rate
            made[label] = _made(kind, group, own, places)

    def filled(label: str, state: Any) -> Any:
        return _filled(kind, state, places, held, counts[label])

    if len(made) == 1:
        [(label, tx)] = made.items()
        return tx, filled(label, tx.init(params))
    tree = places.tree(labels)
    tx = parted(who, made, lambda params: tree)
    state: Any = tx.init(params)
    inner = {label: filled(label, part) for label, part in state.inner_states.items()}
    return tx, state._replace(inner_states=inner)


def _later(schedule: Callable[[Any], Any], steps: int) -> Callable[[Any], Any]:
    """The schedule of who has come so many steps later."""
    return (lambda count: schedule(count + steps)) if steps else schedule


class Group(NamedTuple):
    """A param group."""

    arguments: dict[str, Any]
    leaves: list[int]
    ids: list[Any]


def _kind(who: str, optimizer: str) -> Kind:
    if optimizer not in KINDS:
        alike = [name for name in KINDS if name.lower() == str(optimizer).lower()]
        hint = f"did you mean {alike[0]}?" if alike else nearest(str(optimizer), KINDS)
        raise ValueError(f"{who}: optimizer is unknown: {optimizer}; {hint}")
    return KINDS[optimizer]


def _groups(
    who: str, optimizer: str, kind: Kind, state_dict: Mapping[str, Any], places: Places
) -> list[Group]:
    """The param groups; refuse those that are not this optimizer's, or not of these leaves."""
    for part in ("state", "param_groups"):
        if part not in state_dict:
            raise ValueError(
                f"{who}: the state_dict has no {part!r}; give what optimizer.state_dict() returns"
            )
    groups = [
        _group(who, optimizer, kind, f"param_groups[{g}]", group, places)
        for g, group in enumerate(state_dict["param_groups"])
    ]
    taken = list(itertools.chain.from_iterable(group.leaves for group in groups))
    left = next((place for i, place in places if i not in taken), None)
    if left is not None:
        raise ValueError(f"{who}: names[{left.name!r}], {left.path}, is in no param group")
    if len(taken) > len(set(taken)):
        twice = next(i for i in taken if taken.count(i) > 1)
        raise ValueError(f"{who}: {places.places[twice].path} is in the param groups twice")
    known = {x for group in groups for x in group.ids}
    stray = next((x for x in state_dict["state"] if x not in known), None)
    if stray is not None:
        raise ValueError(f"{who}: state[{stray!r}] is of a parameter that no param group has")
    return groups


def _group(
    who: str, optimizer: str, kind: Kind, called: str, group: Mapping[str, Any], places: Places
) -> Group:
    wanted = kind.arguments
    for flag, value in kind.fixed.items():
        if group.get(flag, value) != value:
            raise ValueError(f"{who}: {called} has {flag}={group[flag]}, which is no {optimizer}")
    unknown = [x for x in group if x not in {*wanted, *kind.fixed, *ELSEWHERE}]
    missing = [x for x in wanted if x not in group]
    if unknown or missing:
        said = f"has {unknown[0]!r}, which {optimizer} has not" if unknown else ""
        said = said or f"has no {missing[0]!r}, which {optimizer} has"
        fitting = [n for n, k in KINDS.items() if set(k.arguments) <= set(group) and n != optimizer]
        other = f"; is it {either(fitting)}?" if fitting else ""
        raise ValueError(f"{who}: {called} {said}{other}")
    ids = list(group["params"])
    leaves = [_leaf_of(who, called, x, n, group, places) for n, x in enumerate(ids)]
    return Group({x: _plain(group[x]) for x in wanted}, leaves, ids)


def _leaf_of(
    who: str, called: str, x: Any, n: int, group: Mapping[str, Any], places: Places
) -> int:
    """The leaf of a parameter, which has an index in torch, or a name."""
    by_name = {place.name: i for i, place in places} if places.named else {}
    if isinstance(x, str):
        if x not in by_name:
            raise ValueError(f"{who}: {called} has the parameter {x!r}, which names does not list")
        return by_name[x]
    if not 0 <= x < len(places.order):
        raise ValueError(
            f"{who}: {called} has parameter {x}, but names ends with parameter "
            f"{len(places.order) - 1}"
        )
    i = places.order[x]
    told = group.get("param_names")
    if told is not None and by_name and by_name.get(told[n]) != i:
        raise ValueError(
            f"{who}: {called} calls parameter {x} {told[n]!r}, but names lists "
            f"{places.places[i].name!r} there"
        )
    return i


def _plain(x: Any) -> Any:
    """A hyperparameter as Python has it; torch's may be tensors."""
    if x is None or isinstance(x, bool | int | float | str):
        return x
    if isinstance(x, list | tuple):
        return tuple(map(_plain, x))
    return np.asarray(x).item()


def _rates(who: str, lr: Any, groups: Sequence[Group]) -> list[Any]:
    """The learning rate of each group from now on."""
    if lr is None:
        return [group.arguments["lr"] for group in groups]
    if not isinstance(lr, list | tuple):
        return [lr] * len(groups)
    if len(lr) != len(groups):
        raise ValueError(
            f"{who}: lr must have a learning rate for each param group, {len(groups)} in all, got "
            f"{len(lr)}"
        )
    return list(lr)


def _held(
    who: str,
    optimizer: str,
    kind: Kind,
    state_dict: Mapping[str, Any],
    groups: Sequence[Group],
    places: Places,
) -> dict[int, Held]:
    """What the state holds of each leaf, as the leaf lies."""
    held: dict[int, Held] = {}
    for group in groups:
        for x, i in zip(group.ids, group.leaves, strict=True):
            place = places.places[i]
            wanted = _wanted(who, optimizer, kind, group, place)
            called = f"state[{x!r}] ({place.path})"
            held[i] = _of_entry(
                who, optimizer, kind, called, state_dict["state"].get(x, {}), wanted, place
            )
        for name in kind.numbers:
            begun = [i for i in group.leaves if name in held[i].numbers]
            for i, j in itertools.combinations(begun, 2):
                a, b = held[i], held[j]
                if a.steps == b.steps and a.numbers[name] != b.numbers[name]:
                    raise ValueError(
                        f"{who}: {name} of {places.places[i].path} and {places.places[j].path} "
                        "differ, though both have taken as many steps"
                    )
    return held


def _wanted(
    who: str, optimizer: str, kind: Kind, group: Group, place: Place
) -> dict[str, tuple[int, ...]]:
    """The arrays that PyTorch keeps of a parameter, and their shapes there."""
    if kind.matrices and len(place.there) != 2:
        raise ValueError(
            f"{who}: {optimizer} has matrices alone in PyTorch, but {place.path} has the shape "
            f"{place.there} there; say how it is a matrix, as in Leaf(..., shape=((8, 64), 512))"
        )
    there = jax.ShapeDtypeStruct(place.there, jnp.float32)
    [state] = _states(kind, jax.eval_shape(kind.make(**group.arguments).init, there))
    fields = {field: jax.tree.leaves(getattr(state, field)) for field in kind.trees}
    if kind.factored and not _is_factored_alike(place):
        raise ValueError(
            f"{who}: {optimizer} has sums over the last two axes, and {place.path} has other ones "
            f"than PyTorch's array of shape {place.there}; its state is of no use here"
        )
    return {field: found[0].shape for field, found in fields.items() if found}


def _states(kind: Kind, state: Any) -> list[Any]:
    """All states of this kind in a nest."""
    found = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kind.State))
    return [x for x in found if isinstance(x, kind.State)]


def _of_entry(
    who: str,
    optimizer: str,
    kind: Kind,
    called: str,
    entry: Mapping[str, Any],
    wanted: Mapping[str, tuple[int, ...]],
    place: Place,
) -> Held:
    """What an entry of the state holds."""
    entry = {name: value for name, value in entry.items() if value is not None}
    if not entry:  # the parameter has had no gradient yet
        return Held(0, {}, {})
    scalars = ["step"] * kind.counts + [*kind.numbers, *kind.derived]
    for name in (*scalars, *wanted):
        if name not in entry:
            raise ValueError(f"{who}: {called} has no {name}{_why(kind, name)}")
    unknown = [name for name in entry if name not in {*scalars, *wanted}]
    if unknown:
        off = unknown[0] in kind.trees
        raise ValueError(
            f"{who}: {called} has {unknown[0]}, which {optimizer} has not"
            + " with the flags of its param group" * off
        )
    found = {name: array(who, f"{called}: {name}", entry[name]) for name in scalars}
    for name, x in found.items():
        if x.size != 1:
            raise ValueError(f"{who}: {called}: {name} must be one number, got shape {x.shape}")
    steps = float(found["step"].item()) if kind.counts else 1.0
    if steps < 0 or steps != round(steps):
        raise ValueError(f"{who}: {called}: step must be a whole number >= 0, got {steps}")
    arrays = {
        name: of_shape(who, f"{called}: {name}", entry[name], place, shape)
        for name, shape in wanted.items()
    }
    turned = dict(_turned(kind, place, name, x) for name, x in arrays.items())
    return Held(round(steps), turned, {name: found[name].reshape(()) for name in kind.numbers})


def _why(kind: Kind, name: str) -> str:
    """What asks for an entry that not every call has."""
    flags = {"max_exp_avg_sq": "amsgrad", "grad_avg": "centered", "momentum_buffer": "momentum"}
    flag = flags.get(name)
    return f", though {flag} is on" if flag in kind.arguments and not kind.matrices else ""


# Rows and columns are the last axis but one and the last; a transposed leaf exchanges them.
_EXCHANGED = {"row_var": "col_var", "col_var": "row_var"}


def _last_two(place: Place) -> tuple[Any, Any]:
    n = len(place.there)
    return place.where(n - 2), place.where(n - 1)


def _is_factored_alike(place: Place) -> bool:
    """Whether the last two axes here are those of PyTorch, in one order or the other."""
    n = len(place.there)
    if n < 2 or len(place.shape) < 2:
        return n < 2 and len(place.shape) < 2
    return len(place.shape) == n and set(_last_two(place)) == {(n - 2,), (n - 1,)}


def _turned(
    kind: Kind, place: Place, field: str, x: np.ndarray, *, back: bool = False
) -> tuple[str, np.ndarray]:
    """A field's name and array as they are here; or there, on the way back."""
    if not (kind.factored and field in _EXCHANGED):
        return field, place.away(x) if back else place.here(x)
    n = len(place.there)
    exchanged = _last_two(place) != ((n - 2,), (n - 1,))
    axes = np.argsort(place.axes) if back else place.axes
    return _EXCHANGED[field] if exchanged else field, x.transpose(axes)


def _made(
    kind: Kind, group: Group, rate: Any, places: Places
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a group."""
    arguments = group.arguments | {"lr": rate}
    if not kind.matrices:
        return kind.make(**arguments)
    axes = {place.path: _matrix(place) for i, place in places if i in group.leaves}
    return kind.make(**arguments, matrices=lambda path, x: axes[path])


def _matrix(place: Place) -> MatrixAxes:
    """Which axes here are those of PyTorch's (outputs, inputs)."""
    outputs, inputs = place.where(0), place.where(1)
    if outputs is None or inputs is None:
        raise ValueError(
            f"port: {place.path} has shape {place.shape}, in which the axes of a matrix "
            f"{place.there} are merged; leave them apart"
        )
    return MatrixAxes(inputs=inputs, outputs=outputs)


def _filled(kind: Kind, state: Any, places: Places, held: Mapping[int, Held], count: int) -> Any:
    """A fresh state, with what is held in it."""

    def one(fresh: Any) -> Any:
        if isinstance(fresh, optax.ScaleByScheduleState):
            return fresh._replace(count=jnp.asarray(count, jnp.int32))
        if not isinstance(fresh, kind.State):
            return fresh
        new: dict[str, Any] = {}
        for field in kind.trees:
            column = places.column(field, getattr(fresh, field))
            new[field] = places.tree(
                jnp.asarray(held[i].arrays[field], x.dtype)
                if isinstance(x, jax.Array) and held[i].arrays
                else x
                for i, x in enumerate(column)
            )
            mine = [held[i] for i, x in enumerate(column) if not isinstance(x, optax.MaskedNode)]
            for name in kind.numbers:
                told = next((h.numbers[name] for h in mine if h.numbers), None)
                old = getattr(fresh, name)
                new[name] = old if told is None else jnp.asarray(told, old.dtype)
        if "count" in fresh._fields:
            new["count"] = jnp.asarray(count, fresh.count.dtype)
        return fresh._replace(**new)

    kinds = (kind.State, optax.ScaleByScheduleState)
    return jax.tree.map(one, state, is_leaf=lambda x: isinstance(x, kinds))


# To PyTorch.


def to_torch(
    state: optax.OptState,
    params: optax.Params,
    *,
    names: Names,
    like: Mapping[str, Any],
    optimizer: str = "AdamW",
    tensor: Callable[[np.ndarray], Any] | None = None,
) -> dict[str, Any]:
    """A ``state_dict`` for PyTorch's optimizer, out of the state of `gdfx.torch`'s.

    In PyTorch: ``optimizer.load_state_dict(to_torch(state, params, names=names,
    like=optimizer.state_dict(), tensor=torch.tensor))``.

    Args:
      state: the state, which may stand inside of others: a chain's, a partition's.
      params: the parameters, as the state was made for.
      names: as in `from_torch`.
      like: the ``state_dict()`` of the optimizer in PyTorch, which may be fresh: the param groups
        and hyperparameters are taken from it.
      optimizer: its name in `torch.optim`.
      tensor: what makes a tensor of a NumPy array, as ``torch.tensor`` does; None: arrays stay
        arrays, which ``load_state_dict`` does not take.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.
    """
    who = "port.to_torch"
    kind = _kind(who, optimizer)
    places = Places(who, params, names)
    groups = _groups(who, optimizer, kind, {"state": {}} | dict(like) | {"state": {}}, places)
    found = _states(kind, state)
    if not found:
        raise TypeError(f"{who}: the state has no {kind.State.__name__}, which {optimizer} keeps")
    rows: dict[int, dict[str, Any]] = {}
    for part in found:
        columns = {f: places.column(f, getattr(part, f)) for f in kind.trees}
        whole = {f: getattr(part, f) for f in part._fields if f not in kind.trees}
        for i in range(len(places.leaves)):
            row = {field: column[i] for field, column in columns.items()}
            if not any(isinstance(x, optax.MaskedNode) for x in row.values()):
                rows[i] = row | whole
    make = tensor or (lambda x: x)
    entries: dict[Any, dict[str, Any]] = {}
    for group in groups:
        for x, i in zip(group.ids, group.leaves, strict=True):
            place = places.places[i]
            if i not in rows:
                raise ValueError(f"{who}: no state of {optimizer} is of {place.path}")
            wanted = _wanted(who, optimizer, kind, group, place)
            entry = _entry(who, kind, rows[i], wanted, place, group)
            if entry:
                entries[x] = {name: make(value) for name, value in entry.items()}
    return {"state": entries, "param_groups": [dict(group) for group in like["param_groups"]]}


def _entry(
    who: str,
    kind: Kind,
    row: Mapping[str, Any],
    wanted: Mapping[str, tuple[int, ...]],
    place: Place,
    group: Group,
) -> dict[str, np.ndarray]:
    """What PyTorch's state holds of a leaf; nothing before the first step."""
    steps = int(row["count"]) if "count" in row else None
    if steps == 0:
        return {}
    arrays = {f: np.asarray(x) for f, x in row.items() if f in kind.trees and np.size(x)}
    turned = dict(_turned(kind, place, f, x, back=True) for f, x in arrays.items())
    for name in (*wanted, *turned):
        if (name in wanted) != (name in turned):
            there, here = ("has", "has not") if name in wanted else ("has not", "has")
            raise ValueError(
                f"{who}: PyTorch's optimizer {there} {name} of {place.path} with the flags of its "
                f"param group, the state {here}"
            )
    found: dict[str, Any] = {}
    if kind.counts:
        found["step"] = np.asarray(steps, np.float32)
    for name in kind.numbers:
        found[name] = np.asarray(row[name])
    for name, tell in kind.derived.items():
        found[name] = np.asarray(tell(group.arguments, steps or 0))
    return found | {name: np.ascontiguousarray(x) for name, x in turned.items()}
