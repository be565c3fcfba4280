"""The state of an optimizer of Keras 3 as one of `gdfx.keras`, and back.

Keras itself is not needed: its state is a list of arrays, in the order of ``optimizer.variables``.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdfx.core.words import nearest
from gdfx.dialects import keras
from gdfx.port.leaves import Names, Place, Places, array, of_shape

ELSEWHERE = {"name", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor"}
"""What a config may hold that changes no step."""

OFF = ("use_ema", "gradient_accumulation_steps")
"""What keeps variables of its own that gdfx has no place for."""

UNNAMED = ("r", "c", "u_product")
"""What Keras's paths do not tell apart."""


class Kind(NamedTuple):
    """An optimizer, and its variables in their order, after ``iteration`` and ``learning_rate``."""

    make: Callable[..., optax.GradientTransformationExtraArgs]
    State: type[Any]
    blocks: tuple[tuple[str, ...], ...]
    """Field by field; those of one block are made for each parameter in turn."""
    numbers: tuple[str, ...] = ()
    """What comes last, one number each."""
    factored: bool = False
    """Whether the last two axes are other than the rest."""


KINDS = {
    "SGD": Kind(keras.SGD, keras.SGDState, (("momentum",),)),
    "RMSprop": Kind(
        keras.RMSprop, keras.RMSpropState, (("velocity",), ("momentum",), ("average_gradient",))
    ),
    "Adagrad": Kind(keras.Adagrad, keras.AdagradState, (("accumulator",),)),
    "Adadelta": Kind(
        keras.Adadelta, keras.AdadeltaState, (("accumulated_grad", "accumulated_delta_var"),)
    ),
    "Adam": Kind(keras.Adam, keras.AdamState, (("momentum", "velocity"), ("velocity_hat",))),
    "AdamW": Kind(keras.AdamW, keras.AdamState, (("momentum", "velocity"), ("velocity_hat",))),
    "Adamax": Kind(keras.Adamax, keras.AdamaxState, (("momentum", "norm"),)),
    "Nadam": Kind(
        keras.Nadam, keras.NadamState, (("momentum", "velocity"),), numbers=("u_product",)
    ),
    "Ftrl": Kind(keras.Ftrl, keras.FtrlState, (("accumulator", "linear"),)),
    "Lion": Kind(keras.Lion, keras.LionState, (("momentum",),)),
    "Adafactor": Kind(
        keras.Adafactor, keras.AdafactorState, (("r", "c", "velocity"),), factored=True
    ),
    "Lamb": Kind(keras.Lamb, keras.LambState, (("momentum", "velocity"),)),
}


def from_keras(
    variables: Sequence[Any] | Mapping[str, Any],
    params: optax.Params,
    *,
    names: Names,
    config: Mapping[str, Any],
    optimizer: str = "Adam",
    learning_rate: optax.ScalarOrSchedule | None = None,
) -> tuple[optax.GradientTransformationExtraArgs, optax.OptState]:
    """The optimizer of a Keras run and its state: the next step is the one Keras would take.

    >>> import jax.numpy as jnp, numpy as np
    >>> from gdfx.port import from_keras
    >>> config = {"learning_rate": 0.1, "weight_decay": None, "clipnorm": None, "clipvalue": None}
    >>> config |= {"global_clipnorm": None, "momentum": 0.9, "nesterov": False, "name": "sgd"}
    >>> variables = [7, 0.1, np.ones((3, 2))]  # iteration, learning_rate, momentum
    >>> params = {"kernel": jnp.ones((3, 2))}
    >>> options = {"names": ["kernel"], "config": config, "optimizer": "SGD"}
    >>> tx, state = from_keras(variables, params, **options)
    >>> int(state.count), state.momentum["kernel"].shape
    (7, (3, 2))

    Args:
      variables: the arrays of ``optimizer.variables``, in their order: a list, or a dict by their
        paths, or by their numbers, as ``save_own_variables`` makes it.
      params: the parameters here, from which the state takes its dtypes. What is not trained is
        None.
      names: where each parameter stands, in the order of ``model.trainable_variables``; as in
        `from_torch`.
      config: what ``optimizer.get_config()`` returns.
      optimizer: its name in `keras.optimizers`.
      learning_rate: the learning rate from here on, a number or a schedule, which is asked with the
        number of steps done; None: the one that Keras has now. It must be said where Keras has a
        ``LearningRateSchedule``.

    Returns:
      The transformation, ``gdfx.keras.Adam`` or another, and its state.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.
    """
    who = "port.from_keras"
    kind = _kind(who, optimizer)
    places = Places(who, params, names)
    arguments = _arguments(who, optimizer, kind, config)
    scheduled = not _is_number(config["learning_rate"])
    entries = _Entries(who, variables)
    wanted = _wanted(who, kind, arguments, places)
    extra = 1 + (not scheduled) + len(kind.numbers)
    if len(entries.arrays) != len(wanted) + extra:
        raise ValueError(
            f"{who}: {optimizer} has {len(wanted) + extra} variables of these {len(places.order)} "
            f"parameters, got {len(entries.arrays)}"
        )
    count = entries.number("iteration")
    rate = None if scheduled else float(entries.number("learning_rate"))
    if learning_rate is None and rate is None:
        raise ValueError(
            f"{who}: the learning rate is a schedule in Keras; say it as one of optax, as in "
            "learning_rate=optax.cosine_decay_schedule(1e-3, 1000)"
        )
    found: dict[tuple[str, int], np.ndarray] = {}
    for field, i, shape in wanted:
        found[field, i] = entries.array(field, places.places[i], shape)
    numbers = {name: entries.number(name) for name in kind.numbers}

    arguments["learning_rate"] = rate if learning_rate is None else learning_rate
    tx = kind.make(**arguments)
    state: Any = tx.init(params)
    new: dict[str, Any] = {"count": jnp.asarray(int(count), jnp.int32)}
    for name, x in numbers.items():
        new[name] = jnp.asarray(x, getattr(state, name).dtype)
    for block in kind.blocks:
        for field in block:
            column = places.column(field, getattr(state, field))
            new[field] = places.tree(
                jnp.asarray(_laid(kind, places.places[i], found[field, i]), x.dtype)
                if isinstance(x, jax.Array)
                else x
                for i, x in enumerate(column)
            )
    return tx, state._replace(**new)


def to_keras(
    state: optax.OptState,
    params: optax.Params,
    *,
    names: Names,
    config: Mapping[str, Any],
    optimizer: str = "Adam",
) -> list[np.ndarray]:
    """The arrays for Keras's ``optimizer.set_weights``, out of the state of `gdfx.keras`'s.

    Args:
      state: the state, which may stand inside of others, such as a chain's.
      params: the parameters, as the state was made for.
      names: as in `from_keras`.
      config: what ``optimizer.get_config()`` returns; a learning rate that is a number is put
        beside the state, as Keras has it there.
      optimizer: its name in `keras.optimizers`; build it before, on the model's variables.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.
    """
    who = "port.to_keras"
    kind = _kind(who, optimizer)
    places = Places(who, params, names)
    arguments = _arguments(who, optimizer, kind, config)
    nest = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kind.State))
    parts = [x for x in nest if isinstance(x, kind.State)]
    if len(parts) != 1:
        raise ValueError(
            f"{who}: the state has {len(parts)} of {kind.State.__name__}, which {optimizer} keeps; "
            "it must have one, of all parameters"
        )
    [part] = parts
    columns = {f: places.column(f, getattr(part, f)) for block in kind.blocks for f in block}
    found = [np.asarray(part.count)]
    if _is_number(config["learning_rate"]):
        found.append(np.asarray(config["learning_rate"]))
    for field, i, shape in _wanted(who, kind, arguments, places):
        place, x = places.places[i], columns[field][i]
        if isinstance(x, jax.Array | np.ndarray):
            found.append(np.asarray(x) if kind.factored else place.away(np.asarray(x)))
        elif kind.factored:
            found.append(_kept_there(columns, field, i, shape))
        else:
            raise ValueError(
                f"{who}: {optimizer} has {field} of {place.path} with this config, the state has "
                "not"
            )
    return found + [np.asarray(getattr(part, name)) for name in kind.numbers]


def _kept_there(
    columns: Mapping[str, Sequence[Any]], field: str, i: int, shape: tuple[int, ...]
) -> np.ndarray:
    """What Keras's Adafactor keeps beside the rest: v = R C / mean(R), or 0 for R and C."""
    if field != "velocity":
        return np.zeros(shape)
    r, c = np.asarray(columns["r"][i]), np.asarray(columns["c"][i])
    mean = r.mean(-1, keepdims=True)
    share = np.divide(r, mean, out=np.zeros_like(r), where=mean > 0)
    return share[..., None] * c[..., None, :]


def _kind(who: str, optimizer: str) -> Kind:
    if optimizer not in KINDS:
        raise ValueError(f"{who}: optimizer is unknown: {optimizer}; {nearest(optimizer, KINDS)}")
    return KINDS[optimizer]


def _arguments(who: str, optimizer: str, kind: Kind, config: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters; refuse a config that is not this optimizer's."""
    wanted = inspect.signature(kind.make).parameters
    on = next((name for name in OFF if config.get(name)), None)
    if on is not None:
        raise ValueError(
            f"{who}: config has {on}={config[on]!r}, whose variables have no place here; go on "
            "without it"
        )
    unknown = next((x for x in config if x not in {*wanted, *ELSEWHERE, *OFF}), None)
    if unknown is not None:
        raise ValueError(f"{who}: config has {unknown!r}, which {optimizer} has not")
    missing = next((x for x in wanted if x not in config), None)
    if missing is not None:
        raise ValueError(f"{who}: config has no {missing!r}, which {optimizer} has")
    found = {name: config[name] for name in wanted}
    return found if _is_number(found["learning_rate"]) else found | {"learning_rate": 0.0}


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | np.number) or (np.shape(x) == () and hasattr(x, "dtype"))


def _wanted(
    who: str, kind: Kind, arguments: Mapping[str, Any], places: Places
) -> list[tuple[str, int, tuple[int, ...]]]:
    """Keras's variables of the parameters, in their order: field, leaf, and shape there."""
    made = kind.make(**arguments)
    wanted: list[tuple[str, int, tuple[int, ...]]] = []
    fresh: dict[int, Any] = {}
    for i, place in places:
        if kind.factored and place.axes != tuple(range(len(place.shape))):
            raise ValueError(
                f"{who}: Adafactor has sums over the last two axes, and {place.path} has other "
                f"ones than Keras's array of shape {place.there}; leave its axes as they are"
            )
        there = jax.ShapeDtypeStruct(place.there, jnp.float32)
        fresh[i] = jax.eval_shape(made.init, there)
    for block in kind.blocks:
        for i, place in places:
            for field in block:
                held = jax.tree.leaves(getattr(fresh[i], field))
                if held:
                    wanted.append((field, i, held[0].shape))
                elif kind.factored:  # Keras has something in its place
                    wanted.append((field, i, place.there if field == "velocity" else ()))
    return wanted


def _laid(kind: Kind, place: Place, x: np.ndarray) -> np.ndarray:
    return x if kind.factored else place.here(x)


class _Entries:
    """The variables, one after the other."""

    def __init__(self, who: str, variables: Sequence[Any] | Mapping[str, Any]):
        self.who = who
        if isinstance(variables, Mapping):
            pairs = list(variables.items())
            if all(str(key).isdigit() for key in variables):  # a file has 10 before 2
                pairs.sort(key=lambda pair: int(pair[0]))
        else:
            pairs = list(enumerate(variables))
        self.arrays = pairs
        self._rest = iter(pairs)

    def number(self, what: str) -> np.ndarray:
        """The next one, which is one number."""
        key, value = self._next(what)
        x = array(self.who, f"variables[{key!r}]", value)
        if x.size != 1:
            raise ValueError(
                f"{self.who}: variables[{key!r}] must be {what}, one number, got shape {x.shape}"
            )
        return x.reshape(())

    def array(self, field: str, place: Place, shape: tuple[int, ...]) -> np.ndarray:
        """The next one, which is a field of a parameter."""
        key, value = self._next(field)
        return of_shape(self.who, f"variables[{key!r}], {field},", value, place, shape)

    def _next(self, what: str) -> tuple[Any, Any]:
        key, value = next(self._rest)
        if "/" in str(key) and what not in UNNAMED and not str(key).endswith(what):
            raise ValueError(
                f"{self.who}: variables[{key!r}] stands where {what} must; give them in the order "
                "of optimizer.variables"
            )
        return key, value
