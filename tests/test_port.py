"""Runs that move: the next step is the one that the other library would take."""

import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from recordings import torch_run

import gdfx
from gdfx.port import Leaf, from_arrays, from_torch, to_arrays, to_torch

EXACT = 1e-12

NAMES = {
    "linear.weight": Leaf("dense", "kernel", axes=(1, 0)),
    "conv.weight": Leaf("conv", "kernel", axes=(2, 3, 1, 0)),
    "bias": ("bias",),
    "second.weight": Leaf("heads", shape=((2, 3), 4), axes=(2, 0, 1)),
}


def named(label):
    """How a run's parameters lie here: transposed, but for a convolution's sums over its image."""
    as_it_is = {"conv.weight": ("conv", "kernel")} if label == "Adafactor" else {}
    return {name: (NAMES | as_it_is)[name] for name in torch_run.parameters(label)}


def blank(names):
    """A tree of zeros in which the names lead to leaves of the right shapes."""
    tree = {}
    for name, leaf in names.items():
        path = leaf.path if isinstance(leaf, Leaf) else leaf
        x = np.zeros(torch_run.shape(name))
        if isinstance(leaf, Leaf):
            split = leaf.shape and sum(leaf.shape, ())
            x = x.reshape(split or x.shape).transpose(leaf.axes)
        for key in reversed(path):
            x = {key: x}
        tree |= x
    return jax.tree.map(jnp.asarray, tree)


def laid(names, arrays):
    return from_arrays(arrays, blank(names), names=names)


def schedule(lr):
    return lambda count: lr * torch_run.factor(1.0 * count)


def continued(label, tx, state, params, names):
    """The parameters after each step from where the run was taken over."""
    each = {name: torch_run.gradients(name)[torch_run.BEFORE :] for name in names}
    gradients = [laid(names, {n: g[t] for n, g in each.items()}) for t in range(torch_run.AFTER)]

    @jax.jit
    def run(params, state, gradients):
        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return lax.scan(step, (params, state), gradients)[1]

    return run(params, state, jax.tree.map(lambda *xs: jnp.stack(xs), *gradients))


def assert_same(found, expected):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        off = np.max(abs(ours - theirs)) / np.max(abs(theirs))
        assert off < EXACT, f"off by {off:.1e} of the largest parameter"


@pytest.mark.parametrize("label", torch_run.RUNS)
def test_a_run_of_torch_goes_on(label, x64):
    """With its two groups, its scheduler, and its arrays as they lie here."""
    state_dict, recorded = torch_run.taken_over(label)
    names, kind = named(label), label.split()[0]
    params = laid(names, recorded["before"])
    options = {"names": names, "optimizer": kind}
    rates = [group["initial_lr"] for group in state_dict["param_groups"]]
    lr = None if kind == "Rprop" else list(map(schedule, rates))  # which PyTorch reads once
    tx, state = from_torch(state_dict, params, lr=lr, steps=torch_run.BEFORE, **options)
    path = continued(label, tx, state, params, names)
    assert_same(jax.tree.map(lambda x: x[0], path), laid(names, recorded["next"]))
    assert_same(jax.tree.map(lambda x: x[-1], path), laid(names, recorded["after"]))

    back = to_torch((optax.EmptyState(), state), params, like=state_dict, **options)
    assert back["param_groups"] == state_dict["param_groups"]
    assert list(back["state"]) == list(state_dict["state"])
    for i, entry in state_dict["state"].items():
        assert set(back["state"][i]) == set(entry)
        for name, x in entry.items():
            np.testing.assert_array_equal(back["state"][i][name], x, err_msg=name)
            assert back["state"][i][name].shape == x.shape


def test_the_rate_of_now_goes_on_where_no_schedule_is_given(x64):
    """And of one group, of one number of steps, comes the optimizer itself."""
    state_dict, recorded = torch_run.taken_over("AdamW")
    names = named("AdamW")
    params = laid(names, recorded["before"])
    one = {"state": state_dict["state"], "param_groups": [dict(state_dict["param_groups"][0])]}
    one["param_groups"][0]["params"] = [0, 1, 2]
    tx, state = from_torch(one, params, names=list(names.values()))
    assert isinstance(state, gdfx.torch.AdamW(0.1).init(params).__class__)
    group = one["param_groups"][0]
    same = gdfx.torch.AdamW(group["lr"], group["betas"], group["eps"], group["weight_decay"])
    assert_same(*(t.update(params, state, params)[0] for t in (tx, same)))


def test_weights_go_there_and_back():
    names = NAMES | {"flat": Leaf("flat", shape=(2, (3, 4)), axes=(2, 1, 0))}
    arrays = {n: np.asarray(torch_run.start(n), np.float32) for n in NAMES}
    arrays["flat"] = np.arange(24, dtype=np.float32).reshape(2, 12)
    params = blank(NAMES) | {"flat": jnp.zeros((12, 2))}
    found = from_arrays(arrays, params, names=names)
    assert found["heads"].shape == (4, 2, 3)
    expected = arrays["flat"].reshape(2, 3, 4).transpose(2, 1, 0).reshape(12, 2)
    np.testing.assert_array_equal(found["flat"], expected)
    back = to_arrays(found, names=names)
    assert list(back) == list(names)
    for name, x in back.items():
        np.testing.assert_array_equal(x, arrays[name])
    listed = to_arrays(found, names=list(names.values()))
    np.testing.assert_array_equal(listed[0], arrays["linear.weight"])


W = np.ones((2, 3), np.float32)
GROUP = {
    "lr": 0.1,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.01,
    "amsgrad": False,
    "maximize": False,
    "params": [0],
}
ENTRY = {"step": 3.0, "exp_avg": W, "exp_avg_sq": W}


def given(group=None, entry=None, entries=None, **options):
    """A call whose state_dict differs in this from a right one."""
    entries = {0: {k: v for k, v in {**ENTRY, **(entry or {})}.items() if v is not ...}}
    group = {k: v for k, v in {**GROUP, **(group or {})}.items() if v is not ...}
    state_dict = {"state": entries, "param_groups": [group]}
    params = {"dense": {"kernel": jnp.zeros((3, 2))}}
    names = [Leaf("dense", "kernel", axes=(1, 0))]
    return from_torch(**({"state_dict": state_dict, "params": params, "names": names} | options))


SGD = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False}
SGD |= {"maximize": False, "params": [0]}
AT = "state[0] (['dense']['kernel'])"

WRONG = [
    ({"optimizer": "Adamw"}, "optimizer is unknown: Adamw; did you mean AdamW?"),
    ({"state_dict": {"param_groups": []}}, "the state_dict has no 'state'; give what "
     "optimizer.state_dict() returns"),
    ({"group": {"momentum_decay": 4e-3}}, "param_groups[0] has 'momentum_decay', which AdamW has "
     "not; is it Adamax?"),
    ({"group": {"eps": ...}}, "param_groups[0] has no 'eps', which AdamW has"),
    ({"group": {"decoupled_weight_decay": False}}, "param_groups[0] has "
     "decoupled_weight_decay=False, which is no AdamW"),
    ({"group": {"amsgrad": True}}, f"{AT} has no max_exp_avg_sq, though amsgrad is on"),
    ({"entry": {"max_exp_avg_sq": W}}, f"{AT} has max_exp_avg_sq, which AdamW has not with the "
     "flags of its param group"),
    ({"entry": {"exp_avg": ...}}, f"{AT} has no exp_avg"),
    ({"entry": {"sum": W}}, f"{AT} has sum, which AdamW has not"),
    ({"entry": {"exp_avg": W.T}}, f"{AT}: exp_avg has shape (3, 2), but ['dense']['kernel'] asks "
     "for (2, 3); if it is transposed, say Leaf(..., axes=(1, 0))"),
    ({"entry": {"exp_avg": "much"}}, f"{AT}: exp_avg must be an array, got str"),
    ({"entry": {"step": 2.5}}, f"{AT}: step must be a whole number >= 0, got 2.5"),
    ({"entry": {"step": [1, 2]}}, f"{AT}: step must be one number, got shape (2,)"),
    ({"group": {"params": [1]}}, "param_groups[0] has parameter 1, but names ends with "
     "parameter 0"),
    ({"group": {"params": []}}, "names[0], ['dense']['kernel'], is in no param group"),
    ({"group": {"params": [0, 0]}}, "['dense']['kernel'] is in the param groups twice"),
    ({"names": [("dense", "kernal")]}, "names[0] is ['dense']['kernal'], which params does not "
     "have; did you mean ['dense']['kernel']?"),
    ({"names": [("dense", "kernel")] * 2}, "names[0] and names[1] are both ['dense']['kernel']"),
    ({"names": []}, "params has ['dense']['kernel'], which names does not list; what is not "
     "trained is None in params"),
    ({"names": [Leaf("dense", "kernel", axes=(1, 0, 2))]}, "['dense']['kernel'] has shape (3, 2), "
     "which axes (1, 0, 2) do not fit; name each of its 2 axes once"),
    ({"names": [Leaf("dense", "kernel", shape=(2, 4))]}, "['dense']['kernel'] has shape (3, 2), "
     "which an array of shape (2, 4) cannot fill"),
    ({"lr": [0.1, 0.2]}, "lr must have a learning rate for each param group, 1 "
     "in all, got 2"),
    ({"group": {"params": ["b"]}, "names": {"a": Leaf("dense", "kernel", axes=(1, 0))}},
     "param_groups[0] has the parameter 'b', which names does not list"),
    ({"group": {"param_names": ["b"]}, "names": {"a": Leaf("dense", "kernel", axes=(1, 0))}},
     "param_groups[0] calls parameter 0 'b', but names lists 'a' there"),
    ({"state_dict": {"state": {0: {"momentum_buffer": W}}, "param_groups": [SGD]},
      "optimizer": "SGD", "lr": lambda t: 0.1}, "SGD counts no steps in PyTorch, and lr is a "
     "schedule; say how many are done, as in steps=1000"),
    ({"state_dict": {"state": {4: {}}, "param_groups": [GROUP]}}, "state[4] is of a parameter "
     "that no param group has"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_does_not_fit_is_named(options, words):
    with pytest.raises((TypeError, ValueError)) as error:
        given(**options)
    assert str(error.value) == f"port.from_torch: {words}"


class Tensor:
    """What the page does with PyTorch's."""

    def __init__(self, x):
        self.x = x

    def numpy(self, *, force):
        return self.x


def test_the_page_keeps_a_state_in_a_file_without_pickles(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "port.md").read_text()
    recipe = r"# in PyTorch\n(import json.*?)# here\n(.*?)```"
    there, here = re.search(recipe, page, re.DOTALL).groups()
    state_dict, _ = torch_run.taken_over("AdamW")
    tensors = jax.tree.map(Tensor, state_dict["state"])
    held = {"state": tensors, "param_groups": state_dict["param_groups"]}
    monkeypatch.chdir(tmp_path)
    names = {"optimizer": types.SimpleNamespace(state_dict=lambda: held)}
    exec(there, names)
    del names["optimizer"]
    exec(here, names)
    found = names["state_dict"]
    assert jax.tree.structure(found["state"]) == jax.tree.structure(state_dict["state"])
    jax.tree.map(np.testing.assert_array_equal, found["state"], state_dict["state"])
    params = blank(named("AdamW"))
    both = [from_torch(d, params, names=named("AdamW"))[1] for d in (found, state_dict)]
    jax.tree.map(np.testing.assert_array_equal, *both)


ADAFACTOR = {"lr": 0.1, "beta2_decay": -0.8, "eps": (None, 1e-3), "d": 1.0, "weight_decay": 0.0}
ADAFACTOR |= {"maximize": False, "params": [0]}


def test_sums_over_other_axes_are_refused():
    """PyTorch's Adafactor has them over a convolution's image."""
    state_dict = {"state": {}, "param_groups": [ADAFACTOR]}
    params = {"w": jnp.zeros((3, 3, 2, 4))}
    names = [Leaf("w", axes=(2, 3, 1, 0))]
    with pytest.raises(ValueError, match=r"\['w'\] has other ones than PyTorch's array of shape"):
        from_torch(state_dict, params, names=names, optimizer="Adafactor")


def test_a_number_that_differs_at_the_same_step_is_refused():
    group = GROUP | {"momentum_decay": 4e-3, "decoupled_weight_decay": False, "params": [0, 1]}
    del group["amsgrad"]
    entries = {i: ENTRY | {"mu_product": 0.5 + i} for i in range(2)}
    params = {"a": jnp.zeros((2, 3)), "b": jnp.zeros((2, 3))}
    state_dict = {"state": entries, "param_groups": [group]}
    with pytest.raises(ValueError, match=r"mu_product of \['a'\] and \['b'\] differ, though both"):
        from_torch(state_dict, params, names=["a", "b"], optimizer="NAdam")


def test_what_torch_asks_for_and_the_state_lacks_is_named():
    params = {"a": jnp.zeros((2, 3))}
    state = gdfx.torch.AdamW().init(params)
    like = {"state": {}, "param_groups": [GROUP | {"amsgrad": True}]}
    assert to_torch(state, params, names=["a"], like=like)["state"] == {}  # before the first step
    state = state._replace(count=jnp.asarray(1))
    with pytest.raises(ValueError, match="PyTorch's optimizer has max_exp_avg_sq of"):
        to_torch(state, params, names=["a"], like=like)
    with pytest.raises(TypeError, match="the state has no SGDState, which SGD keeps"):
        to_torch(state, params, names=["a"], like={"param_groups": [SGD]}, optimizer="SGD")


def test_a_leaf_names_each_axis_once():
    for make, words in [
        (lambda: Leaf(), 'Leaf: say where it stands, as in Leaf("dense", "kernel")'),
        (
            lambda: Leaf("w", axes=(1, 1)),
            "Leaf: axes of ['w'] must name each axis once, got (1, 1)",
        ),
        (
            lambda: Leaf("w", shape=((2, 3), 4), axes=(1, 0)),
            "Leaf: axes of ['w'] must name each axis once, of the shape (2, 3, 4), got (1, 0)",
        ),
    ]:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            make()
        assert str(error.value) == words
