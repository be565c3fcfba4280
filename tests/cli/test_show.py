"""gdfx list, show and --version: what they print, of gdfx's methods and of others'."""

import re

import pytest
from rich.cells import cell_len

import gdfx
from gdfx.testing.traits import OPTAX


def test_list_has_each_method_under_its_kind(invoke):
    lines = invoke("list").stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    heads = dict.fromkeys(f"{m.dialect} forms" if m.form else m.kind for m in gdfx.METHODS.values())
    found = {}
    for line in lines[1:]:
        if line[:1].strip():
            kind = line.strip()
        elif line[:30].strip():
            name, size, *_ = line.split()
            found[name] = (kind, size)
    assert list(dict.fromkeys(kind for kind, _ in found.values())) == list(heads)
    assert found == {
        name: (f"{m.dialect} forms" if m.form else m.kind, f"{m.state_bytes:.2g}")
        for name, m in gdfx.METHODS.items()
    }
    text = " ".join(" ".join(line[30:].split()[line[:30].strip() != "" :]) for line in lines)
    for method in gdfx.METHODS.values():
        assert " ".join(method.equation.split()) in text


@pytest.mark.parametrize("name", gdfx.METHODS)
def test_show_tells_equations_arguments_and_reference(invoke, name, monkeypatch):
    record = gdfx.METHODS[name]
    monkeypatch.setenv("COLUMNS", "200")
    text = invoke("show", name).stdout
    for word in (record.summary, record.source, "(1)", "learning_rate", ">= 0"):
        assert word in text


def test_show_puts_other_forms_beside_or_below(invoke, monkeypatch):
    narrow = invoke("show", "adam").stdout.splitlines()
    assert max(map(cell_len, narrow)) <= 80
    heads = [line for line in narrow if line.startswith("╭")]
    assert len(heads) == 4
    monkeypatch.setenv("COLUMNS", "330")
    (head,) = (line for line in invoke("show", "adam").stdout.splitlines() if "╭" in line)
    assert " adam " in head
    assert " textbook.adam " in head
    assert " torch.Adam " in head
    assert " keras.Adam " in head


def test_list_has_one_dialect_alone(invoke):
    lines = invoke("list", "--dialect", "torch").stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert lines[1].strip() == "torch forms"
    names = [line.split()[0] for line in lines[2:] if line.startswith("  torch.")]
    assert names == [name for name in gdfx.METHODS if name.startswith("torch.")]
    wrong = invoke("list", "--dialect", "torhc")
    assert wrong.exit_code == 2
    assert "unknown dialect 'torhc'; did you mean torch?" in unframed(wrong.output)


def test_the_version(invoke):
    assert invoke("--version").stdout == f"gdfx {gdfx.__version__}\n"


def unframed(text):
    """What stands in a panel, without its frame and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_show_tells_of_somebody_elses_optimizer_what_is_known(invoke):
    result = invoke("show", "optax:adam")
    assert result.exit_code == 0, result.output
    assert max(map(cell_len, result.stdout.splitlines())) <= 80
    assert unframed(result.stdout) == (
        "optax:adam The Adam optimizer. Adam is an SGD variant with gradient scaling adaptation. "
        "The scaling used for each parameter is computed from estimates of first and second-order "
        "moments of the gradients (using suitable exponential moving averages). argument default "
        "learning_rate required b1 0.9 b2 0.999 eps 1e-08 eps_root 0.0 mu_dtype None nesterov "
        "False Traits: elementwise=True, descends=True, odd=True, scale=invariant, "
        "translates=True, complex=True, needs_params=False "
        "Equal to it, up to rounding: gdfx's adam"
    )


def test_show_names_all_methods_that_equal_it(invoke):
    assert "gdfx's sgd, momentum and textbook.sgd" in unframed(invoke("show", "optax:sgd").stdout)


@pytest.mark.parametrize("name", ["adamaxw", "rprop", "lbfgs", "noisy_sgd"])
def test_show_tells_the_traits_that_check_assumes(invoke, name):
    shown = unframed(invoke("show", f"optax:{name}").stdout)
    for trait, value in OPTAX[name].declared.items():
        assert f"{trait}={value}" in shown


def test_show_tells_of_a_prototype_that_nothing_is_known(invoke, tmp_path, monkeypatch):
    (tmp_path / "bare.py").write_text("def bare(learning_rate, k=3):\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert unframed(invoke("show", "bare:bare").stdout) == (
        "bare:bare It has no docstring. argument default learning_rate required k 3 "
        "Traits: nothing is known; gdfx check --trait declares them"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "textbok.sgd",
            "unknown method 'textbok.sgd'; did you mean textbook.sgd, textbook.adam or "
            "textbook.adagrad? (any other optimizer: module:factory, as in optax:lion)",
        ),
        ("optax:lino", "optax:lino: optax has no 'lino'; did you mean lion?"),
    ],
)
def test_show_names_the_nearest_method(refused, name, sentence):
    refused(("show", name), sentence)
