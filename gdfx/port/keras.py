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

from gdfx.core.averages import eval_params
from gdfx.core.inner import extended
from gdfx.core.versions import multi_steps
from gdfx.core.words import nearest
from gdfx.dialects import keras
from gdfx.port.leaves import Names, Place, Places, array, of_shape
from gdfx.wrappers.average import AverageState, averaged

ELSEWHERE = {"name", "loss_scale_factor"}
"""What a config may hold that changes no step."""

AROUND = {"use_ema", "ema_momentum", "ema_overwrite_frequency", "gradient_accumulation_steps"}
"""What a config may hold that is a wrapper here."""

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


class Around(NamedTuple):
    """What a config puts around the optimizer, and its variables before the optimizer's own."""

    every: int
    """How many gradients make a step."""
    decay: float | None
    """That of the average of the parameters; None: there is none."""

    @property
    def fields(self) -> list[str]:
        """What Keras keeps for it of each parameter."""
        return ["average"] * (self.decay is not None) + ["gradient_accumulator"] * (self.every > 1)

    def asked(self, rate: Any) -> Any:
        """A schedule of gradients seen as one of steps done."""
        if not callable(rate) or self.every == 1:
            return rate
        return lambda count: rate(count * self.every + self.every - 1)


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
        number of steps done or, where the config accumulates gradients, of gradients seen, as Keras
        asks; None: the one that Keras has now. It must be said where Keras has a
        ``LearningRateSchedule``.

    Returns:
      The transformation, ``gdfx.keras.Adam`` or another, and its state; inside `optax.MultiSteps`
      where the config has ``gradient_accumulation_steps``, and inside `gdfx.averaged` where it has
      ``use_ema``, whose average `gdfx.eval_params` returns.

    Raises:
      TypeError, ValueError: for what does not fit, by the name of the entry.

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
    """
    who = "port.from_keras"
    kind = _kind(who, optimizer)
    places = Places(who, params, names)
    arguments = _arguments(who, optimizer, kind, config)
    around = _around(who, config)
    scheduled = not _is_number(config["learning_rate"])
    entries = _Entries(who, variables)
    wanted = _wanted(who, kind, arguments, around, places)
    extra = 1 + (not scheduled) + len(kind.numbers)
    if len(entries.arrays) != len(wanted) + extra:
        raise ValueError(
            f"{who}: {optimizer} has {len(wanted) + extra} variables of these {len(places.order)} "
            f"parameters, got {len(entries.arrays)}"
        )
    count = int(entries.number("iteration"))
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

    arguments["learning_rate"] = around.asked(rate if learning_rate is None else learning_rate)
    tx = kind.make(**arguments)
    state: Any = tx.init(params)
    new: dict[str, Any] = {"count": jnp.asarray(count // around.every, jnp.int32)}
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
    state = state._replace(**new)

    held = {
        field: places.tree(places.places[i].here(found[field, i]) for i in sorted(places.places))
        for field in around.fields
    }
    if around.every > 1:
        tx, state = _accumulating(around, tx, state, params, count, held["gradient_accumulator"])
    if around.decay is not None:
        tx, state = _averaging(around, tx, state, params, count, held["average"])
    return tx, state


def _accumulating(
    around: Around, tx: Any, state: Any, params: Any, count: int, sums: Any
) -> tuple[Any, Any]:
    """With what is accumulated, a sum in Keras and a mean in optax."""
    steps = multi_steps(tx, around.every)
    fresh: Any = steps.init(params)
    step, seen = divmod(count, around.every)
    mean = jax.tree.map(
        lambda x, zero: jnp.asarray(x / max(seen, 1), zero.dtype), sums, fresh.acc_grads
    )
    new = {"mini_step": jnp.asarray(seen, jnp.int32), "gradient_step": jnp.asarray(step, jnp.int32)}
    return extended(steps), fresh._replace(inner_opt_state=state, acc_grads=mean, **new)


def _averaging(
    around: Around, tx: Any, state: Any, params: Any, count: int, average: Any
) -> tuple[Any, Any]:
    """With the average, in which the parameters as they are now are already."""
    tx = averaged(tx, around.decay, start=around.every, debias=False)
    *_, fresh = tx.init(params)
    if not count:
        return tx, (state, fresh)
    held = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), average, fresh.average)
    new = {"count": jnp.asarray(count, jnp.int32), "weight": jnp.zeros_like(fresh.weight)}
    return tx, (state, fresh._replace(average=held, **new))


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
    around = _around(who, config)
    part = _only(who, state, kind.State, optimizer)
    columns = {f: places.column(f, getattr(part, f)) for block in kind.blocks for f in block}
    count = part.count
    if around.every > 1:
        steps = _only(who, state, optax.MultiStepsState, "optax.MultiSteps")
        count = steps.gradient_step * around.every + steps.mini_step
        sums = jax.tree.map(lambda mean: mean * steps.mini_step, steps.acc_grads)
        columns["gradient_accumulator"] = places.column("acc_grads", sums)
    if around.decay is not None:
        average = eval_params(_only(who, state, AverageState, "gdfx.averaged"), params)
        columns["average"] = places.column("average", average)
    found = [np.asarray(count)]
    if _is_number(config["learning_rate"]):
        found.append(np.asarray(config["learning_rate"]))
    for field, i, shape in _wanted(who, kind, arguments, around, places):
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


def _only(who: str, state: Any, kind: type[Any], keeper: str) -> Any:
    """The one state of a kind in a nest."""
    nest = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kind))
    parts = [x for x in nest if isinstance(x, kind)]
    if len(parts) != 1:
        raise ValueError(
            f"{who}: the state has {len(parts)} of {kind.__name__}, which {keeper} keeps; it must "
            "have one, of all parameters"
        )
    return parts[0]


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
    unknown = next((x for x in config if x not in {*wanted, *ELSEWHERE, *AROUND}), None)
    if unknown is not None:
        raise ValueError(f"{who}: config has {unknown!r}, which {optimizer} has not")
    missing = next((x for x in wanted if x not in config), None)
    if missing is not None:
        raise ValueError(f"{who}: config has no {missing!r}, which {optimizer} has")
    found = {name: config[name] for name in wanted}
    return found if _is_number(found["learning_rate"]) else found | {"learning_rate": 0.0}


def _around(who: str, config: Mapping[str, Any]) -> Around:
    """The wrappers; refuse what none here does."""
    every = config.get("gradient_accumulation_steps") or 1
    if not config.get("use_ema"):
        return Around(every, None)
    if "ema_momentum" not in config:
        raise ValueError(f"{who}: config has no 'ema_momentum', which use_ema needs")
    often = config.get("ema_overwrite_frequency")
    if often:
        raise ValueError(
            f"{who}: config has ema_overwrite_frequency={often}, by which Keras sets the weights "
            "to their average every so many steps; nothing here does that: go on with None"
        )
    return Around(every, config["ema_momentum"])


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | np.number) or (np.shape(x) == () and hasattr(x, "dtype"))


def _wanted(
    who: str, kind: Kind, arguments: Mapping[str, Any], around: Around, places: Places
) -> list[tuple[str, int, tuple[int, ...]]]:
    """Keras's variables of the parameters, in their order: field, leaf, and shape there."""
    made = kind.make(**arguments)
    wanted = [(field, i, place.there) for field in around.fields for i, place in places]
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
