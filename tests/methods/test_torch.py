"""PyTorch's forms: what recordings of real arrays do not say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import replay

import gdfx
from gdfx import METHODS, torch

IN_PARTS = [m for m in METHODS.values() if m.dialect == "torch" and m.elementwise]
RNG = np.random.default_rng(0)
W, *GRADIENTS = (jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32) for _ in range(8))


@pytest.mark.parametrize("method", IN_PARTS, ids=lambda method: method.name)
def test_a_complex_array_is_two_real_ones(method):
    """As PyTorch's view_as_real has it; start values too."""
    start = {"initial_accumulator_value": 0.5} if method.name == "torch.Adagrad" else {}
    tx = method.factory(0.1, **start)
    parts = replay(
        tx, {"real": W[0], "imag": W[1]}, [{"real": g[0], "imag": g[1]} for g in GRADIENTS]
    )
    whole = replay(tx, W[0] + 1j * W[1], [g[0] + 1j * g[1] for g in GRADIENTS])
    for u, both in zip(whole[2], parts[2], strict=True):
        np.testing.assert_allclose(u.real, both["real"], rtol=1e-6)
        np.testing.assert_allclose(u.imag, both["imag"], rtol=1e-6)


def test_a_state_holds_what_the_arguments_make_use_of():
    def held(tx):
        state = tx.init({"w": W})
        return {field for field in state._fields if jax.tree.leaves(getattr(state, field))}

    assert held(torch.SGD()) == {"count"}
    assert held(torch.SGD(momentum=0.9)) == {"count", "momentum_buffer"}
    assert held(torch.SGD(momentum=jnp.asarray(0.0))) == {"count", "momentum_buffer"}
    assert held(torch.RMSprop()) == {"count", "square_avg"}
    assert held(torch.RMSprop(centered=True)) == {"count", "square_avg", "grad_avg"}
    assert held(torch.Adam()) == {"count", "exp_avg", "exp_avg_sq"}
    assert held(torch.Adam(amsgrad=True)) == {"count", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
    assert held(torch.Adafactor()) == {"count", "row_var", "col_var"}


def test_the_average_of_asgd_is_what_is_evaluated():
    """From step t₀ + 2 on it is the mean of the parameters since."""
    tx = torch.ASGD(0.1, t0=2)
    w, state, path = W, tx.init(W), []
    for g in GRADIENTS:
        u, state = tx.update(g, state, w)
        w = optax.apply_updates(w, u)
        path.append(np.asarray(w))
    expected = np.mean(path[3:], axis=0)
    np.testing.assert_allclose(gdfx.eval_params(state, w), expected, rtol=1e-6)


def test_muon_leaves_the_rest_to_adamw_or_to_what_is_given():
    params = {"w": W, "b": W[0]}
    gradients = {"w": GRADIENTS[0], "b": GRADIENTS[0][0]}

    def first(tx):
        return tx.update(gradients, tx.init(params), params)[0]

    found = first(torch.Muon(0.01))
    alone = torch.AdamW(0.01, weight_decay=0.1)
    expected = alone.update(gradients["b"], alone.init(W[0]), W[0])[0]
    np.testing.assert_allclose(found["b"], expected, rtol=1e-6)
    given = first(torch.Muon(0.01, otherwise=torch.SGD(0.5)))
    np.testing.assert_allclose(given["b"], -0.5 * gradients["b"], rtol=1e-6)
    np.testing.assert_allclose(given["w"], found["w"], rtol=1e-6)
