"""`layout`: the axes that are found in real models, and what is asked where names do not tell."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdfx
from gdfx import MatrixAxes
from gdfx.core.check import at
from gdfx.core.matrix import with_otherwise

eqx = pytest.importorskip("equinox")
nn = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

KEY = jax.random.key(0)


def found(tree, choose):
    """Of each leaf that is a matrix "inputs > outputs", copies before a bar; "?" where asked."""
    said = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        try:
            axes = choose(at(path), x)
        except ValueError:
            said[at(path)] = "?"
            continue
        if axes is not None:
            groups = ["".join(map(str, g)) for g in (axes.inputs, axes.outputs, axes.batch)]
            said[at(path)] = "{2}|{0}>{1}".format(*groups).lstrip("|")
    return said


def shapes(shape_of):
    """A tree of what has these shapes, by their paths."""
    return {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shape_of.items()}


# flax.linen


class Block(nn.Module):
    """What a transformer's layer has."""

    @nn.compact
    def __call__(self, x, _):
        y = nn.MultiHeadDotProductAttention(2, qkv_features=4, name="attn")(nn.LayerNorm()(x))
        return x + nn.Dense(6)(nn.Dense(12, name="up")(y)), None


class Linen(nn.Module):
    """A stack of layers, and one of each kind of layer beside it."""

    axis: int

    @nn.compact
    def __call__(self, tokens):
        axes, split = {"params": self.axis}, {"params": True}
        stack = nn.scan(Block, variable_axes=axes, split_rngs=split, length=3)
        x, _ = stack(name="layers")(nn.Embed(11, 6)(tokens), None)
        x = nn.DenseGeneral((2, 3), name="split")(x)
        x = nn.DenseGeneral(6, axis=(-2, -1), name="merge")(x)
        x = nn.RNN(nn.LSTMCell(6))(x)
        x = nn.RNN(nn.GRUCell(6))(x)
        x = nn.ConvTranspose(6, (3,))(nn.Conv(6, (3,))(x))
        x = nn.ConvLocal(6, (3,))(x)
        x = nn.Conv(6, (3,), feature_group_count=6, name="depthwise")(x)
        x = nn.MultiHeadDotProductAttention(2, name="attn")(x)
        x = nn.WeightNorm(nn.Dense(6))(nn.GroupNorm(2)(x))
        return nn.Dense(11, name="lm_head")(x)


LINEN = {
    "['ConvLocal_0']['kernel']": "0|1>2",
    "['ConvTranspose_0']['kernel']": "01>2",
    "['Conv_0']['kernel']": "01>2",
    "['Dense_0']['kernel']": "0>1",
    **{f"['GRUCell_0']['{x}']['kernel']": "0>1" for x in ("hn", "hr", "hz", "in", "ir", "iz")},
    **{f"['LSTMCell_0']['{h}{g}']['kernel']": "0>1" for h in "hi" for g in "fgio"},
    **{f"['attn']['{x}']['kernel']": "0>12" for x in ("key", "query", "value")},
    "['attn']['out']['kernel']": "01>2",
    "['merge']['kernel']": "?",
    "['split']['kernel']": "?",
}
STACKED = {
    0: {"Dense_0": "0|1>2", "up": "0|1>2", "attn']['out": "0|12>3", "attn']['": "0|1>23"},
    1: {"Dense_0": "1|0>2", "up": "1|0>2", "attn']['out": "1|02>3", "attn']['": "1|0>23"},
}


def with_stack(layers, one, below):
    """The axes of the layers that lie stacked, beside the others."""
    attention = {f"attn']['{x}": one["attn']['"] for x in ("key", "query", "value")}
    named = {k: v for k, v in one.items() if k != "attn']['"} | attention
    return below | {f"['{layers}']['{k}']['kernel']": v for k, v in named.items()}


@pytest.mark.parametrize("axis", [0, 1])
def test_linen(axis):
    params = jax.eval_shape(Linen(axis).init, KEY, jnp.zeros((2, 5), int))["params"]
    choose = gdfx.layout("flax", stacked={"layers": axis})
    assert found(params, choose) == with_stack("layers", STACKED[axis], LINEN)
    unsaid = found(params, gdfx.layout("flax"))
    assert {v for k, v in unsaid.items() if "layers" in k} == {"?"}


# flax.nnx


class NnxBlock(nnx.Module):
    """What a transformer's layer has."""

    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(2, 6, decode=False, normalize_qk=True, rngs=rngs)
        self.mlp = nnx.Sequential(nnx.Linear(6, 12, rngs=rngs), nnx.Linear(12, 6, rngs=rngs))


class Nnx(nnx.Module):
    """A stack of layers, and one of each kind of layer beside it."""

    def __init__(self, rngs):
        stack = nnx.split_rngs(splits=3)(nnx.vmap(NnxBlock, in_axes=0, out_axes=0))
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.layers = stack(rngs)
        self.attn = NnxBlock(rngs).attn
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.up = nnx.ConvTranspose(3, 4, (3, 3), rngs=rngs)
        self.lora = nnx.LoRALinear(6, 6, lora_rank=2, rngs=rngs)
        self.general = nnx.LinearGeneral(6, (2, 3), rngs=rngs)
        self.lstm = nnx.OptimizedLSTMCell(6, 6, rngs=rngs)
        self.gru = nnx.GRUCell(6, 6, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((5, 6)))
        self.head = nnx.Linear(6, 11, rngs=rngs)


NNX = {
    **{f"['attn']['{x}']['kernel']": "0>12" for x in ("key", "query", "value")},
    "['attn']['out']['kernel']": "01>2",
    "['conv']['kernel']": "012>3",
    "['general']['kernel']": "?",
    "['gru']['dense_h']['kernel']": "0>1",
    "['gru']['dense_i']['kernel']": "0>1",
    **{f"['layers']['attn']['{x}']['kernel']": "0|1>23" for x in ("key", "query", "value")},
    "['layers']['attn']['out']['kernel']": "0|12>3",
    "['layers']['mlp']['layers'][0]['kernel']": "0|1>2",
    "['layers']['mlp']['layers'][1]['kernel']": "0|1>2",
    "['lora']['kernel']": "0>1",
    "['lora']['lora']['lora_a']": "0>1",
    "['lora']['lora']['lora_b']": "0>1",
    "['lstm']['dense_h']['kernel']": "0>1",
    "['lstm']['dense_i']['kernel']": "0>1",
    "['positions']": "?",
    "['up']['kernel']": "?",
}


def test_nnx_with_variables_and_as_plain_arrays():
    state = nnx.state(nnx.eval_shape(lambda: Nnx(nnx.Rngs(0))), nnx.Param)
    choose = gdfx.layout("flax", stacked="^.'layers'")
    assert found(nnx.to_pure_dict(state), choose) == NNX
    paths = found(state, choose)
    assert {re.sub(r"\.(raw_)?value$", "", path): v for path, v in paths.items()} == NNX


def test_nnx_optimizer_moves_each_layer_of_a_stack_as_one_layer_alone():
    """The whole way of a training step, of a model whose layers lie stacked."""
    stack = nnx.split_rngs(splits=2)(nnx.vmap(NnxBlock, in_axes=0, out_axes=0))
    model = nnx.Dict(layers=stack(nnx.Rngs(0)))
    tx = gdfx.muon(1.0, matrices=gdfx.layout("flax", stacked="layers"))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    gradients = jax.tree.map(jnp.sin, nnx.state(model, nnx.Param))
    nnx.jit(nnx.Optimizer.update)(optimizer, model, gradients)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    one = gdfx.muon(1.0, matrices="2d")
    update = jax.jit(one.update)
    for names, shape in ((("query", "kernel"), (6, 6)), (("out", "kernel"), (6, 6))):
        old, new = (x["layers"]["attn"][names[0]][names[1]] for x in (before, after))
        for layer in range(2):
            g = jnp.sin(old[layer]).reshape(shape)
            u, _ = update(g, one.init(g), g)
            moved = (new - old)[layer].reshape(shape)
            np.testing.assert_allclose(moved, u, atol=2e-5)


# equinox


class EqxBlock(eqx.Module):
    """What a transformer's layer has."""

    ln_1: object
    attn: object
    mlp: object

    def __init__(self, key):
        self.ln_1 = eqx.nn.LayerNorm(6)
        self.attn = eqx.nn.MultiheadAttention(2, 6, key=key)
        self.mlp = eqx.nn.MLP(6, 6, 12, 1, key=key)


class Eqx(eqx.Module):
    """A stack of layers, and one of each kind of layer beside it."""

    parts: object

    def __init__(self, key):
        n = eqx.nn
        self.parts = {
            "embed": n.Embedding(11, 6, key=key),
            "layers": eqx.filter_vmap(EqxBlock)(jax.random.split(key, 3)),
            "block": EqxBlock(key),
            "conv": n.Conv2d(3, 4, 3, key=key),
            "conv_up": n.ConvTranspose2d(3, 4, 3, key=key),
            "cnn": n.Sequential([n.Conv1d(3, 4, 3, key=key), n.Linear(4, 3, key=key)]),
            "gru": n.GRUCell(6, 6, key=key),
            "wn": n.WeightNorm(n.Linear(6, 6, key=key)),
            "prelu": n.PReLU(),
            "head": n.Linear(6, 11, key=key),
        }


PROJECTIONS = ("query", "key", "value", "output")
EQX = {
    **{f".parts['block'].attn.{x}_proj.weight": "1>0" for x in PROJECTIONS},
    **{f".parts['layers'].attn.{x}_proj.weight": "0|2>1" for x in PROJECTIONS},
    **{f".parts['block'].mlp.layers[{i}].weight": "1>0" for i in (0, 1)},
    **{f".parts['layers'].mlp.layers[{i}].weight": "0|2>1" for i in (0, 1)},
    ".parts['conv'].weight": "123>0",
    ".parts['conv_up'].weight": "123>0",
    ".parts['cnn'].layers[0].weight": "?",
    ".parts['cnn'].layers[1].weight": "1>0",
    ".parts['gru'].weight_ih": "1>0",
    ".parts['gru'].weight_hh": "1>0",
    ".parts['wn'].layer.weight": "1>0",
}


def test_equinox():
    model = eqx.filter_eval_shape(Eqx, KEY)
    params = eqx.filter(model, lambda x: hasattr(x, "dtype"))
    assert found(params, gdfx.layout("equinox", stacked=r"\['layers'\]")) == EQX
    unsaid = found(params, gdfx.layout("equinox"))
    assert {v for k, v in unsaid.items() if "['layers']" in k} == {"?"}


def test_a_stack_of_equinox_layers_moves_as_each_layer_alone():
    stack = eqx.filter_vmap(lambda k: eqx.nn.Linear(3, 4, key=k))(jax.random.split(KEY, 2))
    tx = gdfx.muon(1.0, matrices=gdfx.layout("equinox", stacked="^"))
    alone = gdfx.muon(1.0, matrices="equinox")
    g = jax.tree.map(jnp.sin, eqx.filter(stack, eqx.is_inexact_array))
    u, _ = tx.update(g, tx.init(g), g)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], g)
        v, _ = alone.update(one, alone.init(one), one)
        np.testing.assert_allclose(u.weight[i], v.weight, atol=2e-5)
        np.testing.assert_allclose(u.bias[i], v.bias, rtol=1e-6)


# haiku, by the paths and shapes of its 0.0.17

HAIKU = {
    ("__layer_stack_no_per_layer/block/attn/query", "w", (3, 6, 6)): "0|1>2",
    ("__layer_stack_no_per_layer/block/attn/value", "w", (3, 6, 6)): "0|1>2",
    ("__layer_stack_no_per_layer/block/attn/linear", "w", (3, 6, 6)): "0|1>2",
    ("__layer_stack_no_per_layer/block/attn/linear", "b", (3, 6)): None,
    ("__layer_stack_no_per_layer/block/layer_norm", "scale", (3, 6)): None,
    ("__layer_stack_no_per_layer/block/layer_norm", "offset", (3, 6)): None,
    ("__layer_stack_no_per_layer/block/mlp/~/linear_1", "w", (3, 12, 6)): "0|1>2",
    ("batch_norm", "scale", (1, 1, 6)): None,
    ("conv1_d", "w", (3, 6, 4)): "01>2",
    ("conv1_d_transpose", "w", (3, 4, 6)): "02>1",
    ("conv2_d", "w", (3, 3, 1, 4)): "012>3",
    ("conv2_d_transpose", "w", (3, 3, 4, 1)): "013>2",
    ("depthwise_conv2_d", "w", (3, 3, 1, 2)): None,
    ("separable_depthwise_conv2_d/~/depthwise_conv2_d_1", "w", (1, 3, 1, 2)): None,
    ("embed", "embeddings", (11, 6)): None,
    ("gru", "w_h", (6, 18)): "0>1",
    ("gru", "w_i", (6, 18)): "0>1",
    ("gru", "b", (18,)): None,
    ("h0/attn/value", "w", (6, 6)): "0>1",
    ("lstm/linear", "w", (12, 24)): "0>1",
    ("vanilla_rnn/linear_1", "w", (6, 6)): "0>1",
    ("transformer/~/positions", "table", (5, 6)): "?",
    ("stack_of_my_own/linear", "w", (3, 6, 6)): "?",
    ("logits", "w", (6, 11)): None,
}


def test_haiku():
    leaves: dict[str, dict] = {}
    for module, name, shape in HAIKU:
        leaves.setdefault(module, {})[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
    expected = {f"['{m}']['{n}']": axes for (m, n, _), axes in HAIKU.items() if axes}
    assert found(leaves, gdfx.layout("haiku")) == expected
    said = gdfx.layout("haiku", stacked={"layer_stack|of_my_own": 0}, never="positions")
    own = {"['stack_of_my_own/linear']['w']": "0|1>2"}
    assert found(leaves, said) == {k: v for k, v in expected.items() if v != "?"} | own


def test_haiku_s_own_transformer_moves_as_numpy_says(monkeypatch):
    """Stacked layers, through init, the layout and one step of Muon."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # one stack for all of a shape
    hk = pytest.importorskip("haiku")

    def block(x):
        y = hk.LayerNorm(-1, True, True)(x)
        x = x + hk.MultiHeadAttention(2, 3, model_size=6, w_init=jnp.zeros)(y, y, y)
        y = hk.LayerNorm(-1, True, True)(x)
        return x + hk.Linear(6)(jax.nn.gelu(hk.Linear(12)(y)))

    def forward(tokens):
        x = hk.experimental.layer_stack(2)(block)(hk.Embed(11, 6)(tokens))
        return hk.Linear(11, name="lm_head")(x)

    shapes = jax.eval_shape(hk.transform(forward).init, KEY, jnp.zeros((1, 5), int))
    rng = np.random.default_rng(0)
    g = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)
    tx = gdfx.scale_by_muon(0.0, "jordan", matrices="haiku")
    tx = with_otherwise("muon", tx, optax.set_to_zero(), "haiku")
    u, _ = jax.jit(lambda g: tx.update(g, tx.init(g)))(g)
    u = jax.tree.map(np.asarray, u)
    moved = {path for path, x in jax.tree_util.tree_leaves_with_path(u) if x.any()}
    assert len(moved) == 6  # four projections of attention, two layers
    for path, x in jax.tree_util.tree_leaves_with_path(g):
        if path in moved:
            (module, leaf) = (key.key for key in path)
            for kernel, step in zip(x, u[module][leaf], strict=True):
                left, s, right = np.linalg.svd(kernel, full_matrices=False)
                s /= np.linalg.norm(s)
                for _ in range(5):
                    s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
                longer = max(1, kernel.shape[1] / kernel.shape[0]) ** 0.5
                np.testing.assert_allclose(step, longer * (left * s) @ right, atol=1e-4)


# What is said beside.


def test_experts_fused_projections_and_heads():
    tree = shapes(
        {
            "experts": (4, 6, 8),
            "qkv": (6, 3 * 8),
            "query": (6, 2, 4),
            "out": (2, 4, 6),
            "router": (6, 4),
        }
    )
    tree = {name: {"kernel": x} for name, x in tree.items()}
    matrices = gdfx.layout(
        "flax",
        stacked="experts",
        also={
            "qkv": MatrixAxes(blocks={1: (8, 4, 12)}),
            "query": MatrixAxes(inputs=0, outputs=2, batch=1),
            "out": MatrixAxes(inputs=1, outputs=2, batch=0),
        },
        never="router",
    )
    rows = gdfx.matrix_table(tree, matrices, scale="spectral").rows
    assert [(r.path, r.rows, r.columns, r.copies, r.factor) for r in rows] == [
        ("['experts']['kernel']", 8, 6, 4, (8 / 6) ** 0.5),
        ("['out']['kernel']", 6, 4, 2, (6 / 4) ** 0.5),
        ("['qkv']['kernel']", 8, 6, 1, (8 / 6) ** 0.5),
        ("['qkv']['kernel']", 4, 6, 1, (4 / 6) ** 0.5),
        ("['qkv']['kernel']", 12, 6, 1, 2**0.5),
        ("['query']['kernel']", 4, 6, 2, (4 / 6) ** 0.5),
        ("['router']['kernel']", 0, 0, 0, None),
    ]
    assert [r.matrix for r in rows] == [True] * 6 + [False]


def test_what_is_said_comes_before_names_and_never_before_all():
    x = jax.ShapeDtypeStruct((5, 6), jnp.float32)
    axes = MatrixAxes(1, 0)
    also = gdfx.layout("flax", also={"embed": axes, "mlp": axes})
    assert also("['embed']['embedding']", x) == also("['mlp']['kernel']", x) == axes
    assert gdfx.layout("flax", also={"mlp": axes}, never="kernel")("['mlp']['kernel']", x) is None
    assert gdfx.layout("flax", stacked="mlp")("['mlp']['bias']", x) is None
    behind = gdfx.layout("flax", stacked={"mlp": -1})("['mlp']['kernel']", np.zeros((5, 6, 2)))
    assert behind == MatrixAxes(0, 1, 2)


def test_two_axes_make_no_matrix():
    """What is one number for each head of a layer has two axes where layers lie stacked."""
    x = jax.ShapeDtypeStruct((12, 32), jnp.float32)
    for path in ("['layers']['ssm']['A_log']", "['layers']['mlp']['bias']"):
        assert gdfx.layout("flax", stacked="layers")(path, x) is None
    with pytest.raises(ValueError, match="cannot be known from its name"):
        gdfx.layout("flax")("['layers']['ssm']['A_log']", x)


QUESTIONS = [
    (
        "flax",
        {"mlp": {"split": {"kernel": np.zeros((6, 2, 3))}}},
        "muon: which axes of ['mlp']['split']['kernel'] of shape (6, 2, 3) are inputs and which "
        "are outputs cannot be known from its name; give matrices=gdfx.layout('flax', "
        r"""also={r"\['split'\]\['kernel'\]": gdfx.MatrixAxes(inputs=..., outputs=..., """
        "batch=...)}), or stacked= where layers lie stacked in it, or never= where it is no matrix",
    ),
    (
        "haiku",
        {"net/~/mix": {"table": np.zeros((6, 2))}},
        "muon: which axes of ['net/~/mix']['table'] of shape (6, 2) are inputs and which are "
        "outputs cannot be known from its name; give matrices=gdfx.layout('haiku', "
        r"""also={r"\['net/\~/mix'\]\['table'\]": gdfx.MatrixAxes(inputs=..., outputs=..., """
        "batch=...)}), or stacked= where layers lie stacked in it, or never= where it is no matrix",
    ),
    (
        "equinox",
        np.zeros((6, 2)),
        "muon: which axes of (the whole tree) of shape (6, 2) are inputs and which are "
        "outputs cannot be known from its name; give matrices=gdfx.layout('equinox', "
        r"""also={r"\(the\ whole\ tree\)": gdfx.MatrixAxes(inputs=..., outputs=..., """
        "batch=...)}), or stacked= where layers lie stacked in it, or never= where it is no matrix",
    ),
]


@pytest.mark.parametrize(("name", "params", "sentence"), QUESTIONS)
def test_what_names_do_not_tell_is_asked_for(name, params, sentence):
    with pytest.raises(ValueError, match="which axes") as caught:
        gdfx.muon(0.1, matrices=name).init(params)
    assert str(caught.value) == sentence
    pattern = re.search(r'r"(.*?)"', sentence)[1]
    (leaf,) = jax.tree.leaves(params)
    axes = MatrixAxes(0, tuple(range(1, leaf.ndim)))
    matrices = gdfx.layout(name, also={pattern: axes})
    (row,) = gdfx.matrix_table(params, matrices).rows  # what it says to write is found
    assert (row.rows, row.columns) == (leaf.size // 6, 6)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name must be") as caught:
        gdfx.layout("torch")
    assert str(caught.value) == (
        "layout: name must be 'flax', 'haiku', 'equinox' or '2d', got 'torch'"
    )


# The table.

TABLE = """
path                                  shape       rows × columns  copies  factor
--------------------------------------------------------------------------------
['embed']['embedding']                (64, 8)          otherwise
['layers…ith_a_long_name']['kernel']  (3, 8, 16)          16 × 8       3     0.8
['qkv']['kernel']                     (8, 6)               2 × 8       1   0.566
['qkv']['kernel']                     (8, 6)               4 × 8       1   0.566

2 of 3 leaves are matrices: 45.8 % of 944 numbers.
"""


def test_a_table_fits_a_terminal_and_a_notebook():
    long = "a_module_with_a_long_name"
    params = {
        "embed": {"embedding": np.zeros((64, 8))},
        "layers": {long: {long: {"kernel": np.zeros((3, 8, 16))}}},
        "qkv": {"kernel": np.zeros((8, 6))},
    }
    matrices = gdfx.layout("flax", stacked="layers", also={"qkv": MatrixAxes(blocks={1: (2, 4)})})
    table = gdfx.matrix_table(params, matrices)
    assert str(table) == repr(table)
    assert str(table) == TABLE.strip()
    text = table._repr_html_()
    assert text.count("<tr>") == 5
    assert "<td>(64, 8)</td><td>otherwise</td>" in text
    assert "[&#x27;qkv&#x27;]" in text
    bare = gdfx.matrix_table({"w": np.zeros((2, 3))}, "2d", scale=None)
    assert (bare.rows[0].rows, bare.rows[0].columns, bare.rows[0].factor) == (3, 2, 1.0)


PAGE = Path(__file__).parents[1] / "docs" / "matrices.md"
PRINTED = r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?"


def test_the_page_shows_what_its_code_prints(capsys):
    names = {}
    for code, shown in re.findall(PRINTED, PAGE.read_text(), re.DOTALL):
        exec(code, names)
        printed = capsys.readouterr().out
        assert not shown or printed == shown
