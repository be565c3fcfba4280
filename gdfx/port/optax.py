"""States of optax's optimizers as those of gdfx, and back, wherever they stand in a nest.

Most of gdfx's methods keep optax's own states, and most states go over as they are. Those that
differ are in one table, `KINDS`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from gdfx.core import keys
from gdfx.core.words import listed
from gdfx.methods.coordinate.noisy_sgd import NoiseState
from gdfx.methods.tree.dadapt import DAdaptAdamWState
from gdfx.methods.tree.dog import DistanceState
from gdfx.methods.tree.prodigy import ProdigyState


class Kind(NamedTuple):
    """A state of optax's, the one of gdfx's that says the same, and the ways between them.

    Each way makes the fields of the one, out of the other and of a fresh one, or None.
    """

    optax: type[Any]
    gdfx: type[Any]
    here: Callable[[Any, Any], dict[str, Any]]
    away: Callable[[Any, Any], dict[str, Any]]
    in_chain: bool = False
    """Whether gdfx's stands for the whole chain that optax's is a link of."""


def from_optax(state: optax.OptState, like: optax.OptState | None = None) -> optax.OptState:
    """The state of gdfx's optimizer that goes on where optax's of the same arguments stood.

    It may stand inside of others: `optax.chain`, `optax.named_chain`, `optax.partition`,
    `optax.masked`, `optax.inject_hyperparams`, `optax.MultiSteps`. All else stays as it is. That is
    so of most methods as a whole, since gdfx keeps optax's own states: from ``optax.adamw`` to
    ``gdfx.adamw`` this is the identity.

    >>> import gdfx, jax.numpy as jnp, optax
    >>> from gdfx.port import from_optax
    >>> params = {"w": jnp.ones(2)}
    >>> state = optax.chain(optax.clip(1.0), optax.contrib.prodigy()).init(params)
    >>> _, found = from_optax(state)
    >>> gdfx.prodigy(bias_correction=True).update(params, found, params)[1].count
    Array(1, dtype=int32)

    Args:
      state: the state of optax's optimizer.
      like: a fresh state of gdfx's, ``tx.init(params)``: what comes out is held to its structure
        and shapes. `gdfx.dog` and `gdfx.dowg`, whose states stand for a whole chain, need it.

    Raises:
      TypeError, ValueError: for what does not fit, by its path.
    """
    return _Walk("port.from_optax", [_here(kind) for kind in KINDS]).walk(state, like, "state")


def to_optax(state: optax.OptState, like: optax.OptState | None = None) -> optax.OptState:
    """The state of optax's optimizer that goes on where gdfx's of the same arguments stood.

    The way back of `from_optax`.

    Args:
      state: the state of gdfx's optimizer.
      like: a fresh state of optax's, ``tx.init(params)``; `gdfx.noisy_sgd` and `gdfx.dowg` need it.

    Raises:
      TypeError, ValueError: for what does not fit, by its path.
    """
    return _Walk("port.to_optax", [_away(kind) for kind in KINDS]).walk(state, like, "state")


# Which states differ.

_NAMES = {
    "count": "count",
    "exp_avg": "mu",
    "exp_avg_sq": "nu",
    "grad_sum": "s",
    "estim_lr": "d",
    "numerator_weighted": "numerator",
}


def _renamed(x: Any, like: Any) -> dict[str, Any]:
    del like
    return {ours: getattr(x, theirs) for theirs, ours in _NAMES.items()}


def _named_back(x: Any, like: Any) -> dict[str, Any]:
    del like
    return {theirs: getattr(x, ours) for theirs, ours in _NAMES.items()}


def _steps_of(chain: Sequence[Any], begun: Any) -> Any:
    """How many steps a chain has done, as its schedule tells; else 1 for all that have begun."""
    counts = [x.count for x in chain if isinstance(x, optax.ScaleByScheduleState)]
    return counts[0] if counts else jnp.asarray(begun, jnp.int32)


def _dog_here(chain: Any, like: Any) -> dict[str, Any]:
    [x] = [x for x in chain if isinstance(x, optax.contrib.DoGState)]
    return {
        "count": _steps_of(chain, ~jnp.asarray(x.is_init_step)),
        "d": x.max_dist,
        "total": x.sum_sq_norm_grads + like.total,  # which is ε at the start
        "p0": x.init_params,
    }


def _dog_away(x: Any, like: Any) -> dict[str, Any]:
    raise ValueError(
        "a state of gdfx.dog has ε in its sum of squares, and optax's has not; what is left when "
        "it is taken away is not what was added up"
    )


def _dowg_here(chain: Any, like: Any) -> dict[str, Any]:
    [x] = [x for x in chain if isinstance(x, optax.contrib.DoWGState)]
    return {
        "count": _steps_of(chain, x.weighted_sq_norm_grads > 0),
        "d": jnp.sqrt(x.estim_sq_dist),
        "total": x.weighted_sq_norm_grads,
        "p0": x.init_params,
    }


def _dowg_away(x: Any, like: Any) -> dict[str, Any]:
    del like
    return {
        "init_params": x.p0,
        "weighted_sq_norm_grads": x.total,
        "estim_sq_dist": x.d * x.d,
    }


def _noise_here(x: Any, like: Any) -> dict[str, Any]:
    del like
    return {"count": x.count, "key": keys.stored(x.rng_key)}


def _noise_away(x: Any, like: Any) -> dict[str, Any]:
    key = keys.drawn(jnp.asarray(x.key), keys.kind(like.rng_key))[1]
    new_style = jnp.issubdtype(like.rng_key.dtype, jax.dtypes.prng_key)
    return {"count": x.count, "rng_key": key if new_style else jax.random.key_data(key)}


KINDS = (
    Kind(
        optax.contrib.ProdigyState,
        ProdigyState,
        lambda x, like: _renamed(x, like) | {"d_max": x.estim_lr, "p0": x.params0},
        lambda x, like: _named_back(x, like) | {"params0": x.p0},
    ),
    Kind(optax.contrib.DAdaptAdamWState, DAdaptAdamWState, _renamed, _named_back),
    Kind(optax.contrib.DoGState, DistanceState, _dog_here, _dog_away, in_chain=True),
    Kind(optax.contrib.DoWGState, DistanceState, _dowg_here, _dowg_away, in_chain=True),
    Kind(optax.AddNoiseState, NoiseState, _noise_here, _noise_away),
)
"""Random numbers apart, the next step is the same; so is that of `gdfx.prodigy` and
`gdfx.dadapt_adamw` with ``bias_correction=True``, which optax's always have."""


class _Way(NamedTuple):
    """How one state is made of another."""

    takes: Callable[[Any, Any], bool]
    make: Callable[[Any, Any], Any]


def _here(kind: Kind) -> _Way:
    def takes(x: Any, like: Any) -> bool:
        links = x if kind.in_chain and type(x) is tuple else [x]
        return any(isinstance(link, kind.optax) for link in links)

    return _Way(takes, lambda x, like: kind.gdfx(**kind.here(x, like)))


def _away(kind: Kind) -> _Way:
    def takes(x: Any, like: Any) -> bool:
        return isinstance(x, kind.gdfx) and (not kind.in_chain or _link(kind, like) is not None)

    def make(x: Any, like: Any) -> Any:
        fields = kind.away(x, like)
        if not kind.in_chain:
            return kind.optax(**fields)
        counted = optax.ScaleByScheduleState
        return tuple(
            kind.optax(**fields)
            if isinstance(link, kind.optax)
            else link._replace(count=x.count)
            if isinstance(link, counted)
            else link
            for link in like
        )

    return _Way(takes, make)


def _link(kind: Kind, like: Any) -> Any:
    links = like if type(like) is tuple else ()
    return next((link for link in links if isinstance(link, kind.optax)), None)


class _Walk:
    """Through a state, beside a fresh one of the other library if that is given."""

    def __init__(self, who: str, ways: Sequence[_Way]):
        self.who, self.ways = who, ways

    def walk(self, x: Any, like: Any, path: str) -> Any:
        """What stands at a path, converted."""
        if like is not None and jax.tree.structure(x) == jax.tree.structure(like):
            return self._fitting(x, like, path)
        way = next((way for way in self.ways if way.takes(x, like)), None)
        if way is not None:
            found = self._made(way, x, like, path)
            return found if like is None else self._fitting(found, like, path)
        children = _children(x)
        if children is None:
            if like is None or jax.tree.structure(like) == jax.tree.structure(x):
                return x
            raise self._differ(x, like, path)
        if like is None:
            return _rebuilt(x, {k: self.walk(v, None, f"{path}{k}") for k, v in children.items()})
        beside = _children(like)
        if beside is None or (type(x) is not type(like) and not (_plain(x) and _plain(like))):
            raise self._differ(x, like, path)
        if _plain(x) and len(x) != len(like):  # chains may differ in links that hold nothing
            full = [v for v in x if not isinstance(v, optax.EmptyState)]
            if len(full) == sum(not isinstance(v, optax.EmptyState) for v in like):
                rest = iter(full)
                x = type(x)(v if isinstance(v, optax.EmptyState) else next(rest) for v in like)
                children = _children(x) or {}
        if children.keys() != beside.keys():
            raise self._differ(x, like, path)
        new = {k: self.walk(v, beside[k], f"{path}{k}") for k, v in children.items()}
        return _rebuilt(x, new)

    def _made(self, way: _Way, x: Any, like: Any, path: str) -> Any:
        try:
            return way.make(x, like)
        except AttributeError:
            raise ValueError(
                f"{self.who}: what {path} becomes is not told by itself; say like, a fresh state "
                "of the optimizer that goes on"
            ) from None
        except ValueError as error:
            raise ValueError(f"{self.who}: {path}: {error}") from None

    def _fitting(self, x: Any, like: Any, path: str) -> Any:
        """What has come out, held to the structure, shapes and dtypes of a fresh state."""
        if jax.tree.structure(x) != jax.tree.structure(like):
            raise self._differ(x, like, path)
        pairs = zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(like), strict=True)
        for (place, a), b in pairs:
            if np.shape(a) != np.shape(b):
                raise ValueError(
                    f"{self.who}: {path}{jax.tree_util.keystr(place)} has shape {np.shape(a)}, but "
                    f"a fresh state has {np.shape(b)} there; the state is of other parameters"
                )
        return x

    def _differ(self, x: Any, like: Any, path: str) -> TypeError:
        return TypeError(
            f"{self.who}: {path} is {_name(x)}, of which {_name(like)} cannot be made; give the "
            "fresh state of the same method, wrapped alike"
        )


def _plain(x: Any) -> bool:
    return type(x) in (tuple, list)


def _children(x: Any) -> dict[str, Any] | None:
    """What a container holds, by the end of its path; None of what is none."""
    if hasattr(x, "_fields"):
        return {f".{field}": getattr(x, field) for field in x._fields}
    if isinstance(x, dict):
        return {f"[{key!r}]": value for key, value in x.items()}
    return {f"[{i}]": value for i, value in enumerate(x)} if _plain(x) else None


def _rebuilt(x: Any, children: dict[str, Any]) -> Any:
    values = children.values()
    if hasattr(x, "_fields"):
        return type(x)(*values)
    return type(x)(zip(x, values, strict=True)) if isinstance(x, dict) else type(x)(values)


def _name(x: Any) -> str:
    kind = type(x)
    if kind.__module__.startswith(("optax", "gdfx")):
        return f"{kind.__module__.partition('.')[0]}'s {kind.__name__}"
    if isinstance(x, dict):
        return f"a dict of {listed(sorted(map(str, x)))}" if x else "an empty dict"
    return f"a chain of {len(x)}" if _plain(x) else kind.__name__
