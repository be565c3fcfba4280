"""Direction + decoupled weight decay + learning rate -> optimizer, from optax's parts."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdfx.core import arguments, check
from gdfx.core.inner import extended
from gdfx.core.precision import narrow_tree, widen_tree
from gdfx.core.trees import Gradients, with_gradients
from gdfx.core.versions import add_decayed_weights


@arguments.checked
def descend(
    direction: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Walk down along a direction:  W ← W − η (u + λ W).

    The state is that of ``optax.chain(direction, add_decayed_weights,
    scale_by_learning_rate)``, field for field; without weight decay that link is absent.

    Args:
      direction: a transformation of gradients into u, such as `gdfx.scale_by_adam`.
      learning_rate: η, a number or a schedule, which is asked with 0 at the first step.
      weight_decay: λ, a number or a schedule. As in optax, and other than in the paper of
        AdamW (arXiv:1711.05101, Algorithm 2), it is multiplied by η.
      mask: the leaves to decay: a tree of bools, or a function from params to one.

    Raises:
      TypeError, ValueError: for arguments out of range, for a direction whose first step at the
        gradient 1 is negative, as a whole optimizer's is, for a mask without weight decay, and
        by ``update`` where weight decay is given and the parameters are not.

    Differs: optax computes in the gradients' dtype. Here u, λ W and η meet in at least
    float32, and the sum alone is rounded to the gradient's dtype: in float16 a u of 1e6
    that η brings back into range is not Inf, and η u of 1e-6 keeps its digits.
    """
    refuse_optimizer("descend", direction, "with a learning rate would climb")
    if mask is not None and weight_decay is None:
        raise ValueError("descend: mask says which leaves decay, but weight_decay is not given")
    return with_rate(direction, learning_rate, weight_decay=weight_decay, mask=mask)


def with_rate(
    direction: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """What `descend` makes, of arguments that are known to be right: for gdfx's own methods."""
    decay = [] if weight_decay is None else [decayed(weight_decay, mask)]
    return chain(direction, *decay, downhill(learning_rate))


def chain(*links: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`optax.chain`, field for field, whose links meet in at least float32.

    What goes from link to link is not rounded; the last update alone is, to the gradient's dtype.
    """
    chained = optax.chain(*map(extended, links))
    kinds = [_kind_of_state(link) for link in links]

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        check.chain_state(state, kinds)
        wide = widen_tree(with_gradients(updates, params))
        steps, state = chained.update(widen_tree(updates), state, wide, **extra_args)
        return narrow_tree(steps, updates), state

    return optax.GradientTransformationExtraArgs(chained.init, update)


def decayed(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
    """The link that adds λ W, on the leaves of a mask."""
    decay = add_decayed_weights(arguments.schedule(weight_decay), arguments.mask(mask))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        check.params_given("weight decay", params)
        params = Gradients("weight decay", updates).tree_of(params)
        if mask is not None:
            check.state_kind("weight decay", state, optax.MaskedState)
        return decay.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(decay.init, update)


def downhill(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """The link that multiplies by −η."""
    return optax.scale_by_learning_rate(arguments.schedule(learning_rate))


def uphill(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """The link that multiplies by η, where another one turns around."""
    return optax.scale_by_learning_rate(arguments.schedule(learning_rate), flip_sign=False)


def refuse_optimizer(method: str, direction: optax.GradientTransformation, what: str) -> None:
    """Refuse a whole optimizer where a direction is asked for, and say what would come of it."""
    if _goes_down(direction):
        raise ValueError(
            f"{method}: direction goes down already, as a whole optimizer does, and {what}; give a "
            "direction such as gdfx.scale_by_adam(), or use the optimizer as it is"
        )


def _goes_down(direction: optax.GradientTransformation) -> bool:
    """Whether the first update at the gradient 1 is negative; where it cannot be seen, it is not.

    A direction is meant to be walked against: its update is on the gradient's side.
    """
    try:
        with jax.ensure_compile_time_eval():
            one = jnp.ones((1, 1))
            u, _ = extended(direction).update(one, direction.init(one), one, value=1.0)
            return bool((jnp.asarray(u) < 0).all())
    except Exception:  # it asks for another tree, say, or is made of traced numbers
        return False


def rate(learning_rate: optax.ScalarOrSchedule, t: jax.Array) -> Any:
    """η of step t = 1, 2, ..., for rules that have it inside; a schedule counts from 0."""
    learning_rate = arguments.schedule(learning_rate)
    return learning_rate(t - 1) if callable(learning_rate) else learning_rate


def _kind_of_state(link: optax.GradientTransformation) -> type[Any]:
    """The type of a link's state; where only a whole tree would tell, anything."""
    try:
        return type(jax.eval_shape(link.init, {}))
    except Exception:  # a mask asks for its own tree, say
        return object
