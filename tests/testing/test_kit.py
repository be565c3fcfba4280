"""The kit itself: its reports, and its entry for pytest."""

import io
import json
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from rich.console import Console

from gdfx.testing import LAWS, BrokenLawError, Run, Traits, check, retry

FEW = ["sign", "first-step-descends", "bad-arguments-refused", "schedule-equals-constant"]
adam = partial(optax.adam, learning_rate=0.1)


@pytest.fixture(scope="module")
def report():
    return check(adam, laws=FEW, budget=5)


def test_the_report_tells_all(report):
    assert report.name == "optax.adam"
    assert [verdict.law.name for verdict in report.broken] == ["bad-arguments-refused"]
    assert report.totals in str(report)
    assert len(report.kept) + len(report.broken) + len(report.not_applicable) == len(FEW)
    assert report["sign"].outcome == "kept"
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [row["law"] for row in stored["laws"]] == FEW
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table())
    shown = console.file.getvalue()
    assert "learning_rate=-1.0 is accepted" in shown
    assert all(law in shown for law in FEW)


def test_a_report_of_one_counts_one():
    assert check(adam, laws=["sign"], budget=2).totals == "1 law kept, 0 broken, 0 not applicable"


def test_the_same_seed_finds_the_same(report):
    assert str(check(adam, laws=["single-precision-accurate"], budget=5)) == str(
        check(adam, laws=["single-precision-accurate"], budget=5)
    )


def test_what_is_not_declared_is_not_asked():
    silent = check(lambda: optax.adam(0.1), laws=["sign", "equals-its-reference"])
    assert [verdict.words for verdict in silent.not_applicable] == [
        "nothing is declared about: odd; see gdfx.testing.Traits",
        "nothing is declared about: reference; see gdfx.testing.Traits",
    ]
    denied = check(lambda: optax.adam(0.1), laws=["sign"], traits=Traits(odd=False))
    assert denied["sign"].words == "declared: odd = False"
    assert "learning_rate" in check(lambda: optax.adam(0.1), laws=["schedule-equals-constant"])[
        "schedule-equals-constant"
    ].words  # fmt: skip


def test_the_code_of_a_counterexample_runs():
    traits = Traits(odd=True)

    def shifted():
        return optax.stateless(lambda g, p: jax.tree.map(lambda x: 1 - x, g))

    found = check(shifted, laws=["sign"], traits=traits)["sign"]
    assert found.outcome == "broken"
    with pytest.raises(BrokenLawError, match="the update of -g is"):
        exec(found.code, {"make": shifted, "traits": traits})


def test_one_case_can_be_tried_alone():
    run = Run(jnp.ones(3), [jnp.ones(3)])
    retry("sign", adam, run, Traits(odd=True))
    zero = jnp.zeros(3, "float16")
    with pytest.raises(BrokenLawError, match="for zero gradients in float16"):
        retry("zero-gradient-finite", adam, Run(zero, (zero,)))


def test_what_does_not_apply_is_not_tried_alone_either():
    run = Run(jnp.ones(3), [jnp.ones(3)])
    with pytest.raises(ValueError, match="sign does not apply: nothing is declared about: odd"):
        retry("sign", adam, run, Traits())


def test_traits_are_checked_and_spelled():
    with pytest.raises(ValueError, match=r"^Traits: scale must be one of 'linear', 'invariant'"):
        Traits(scale="lin")
    assert repr(Traits(odd=False, after_nan="frozen")) == "Traits(odd=False, after_nan='frozen')"


def test_an_unknown_law_gets_a_sentence():
    with pytest.raises(ValueError, match="there is no law 'signs'; did you mean sign"):
        check(adam, laws=["signs"])


def test_what_is_no_optimizer_is_no_laws_fault():
    with pytest.raises(TypeError, match=r"returned int, which is no optax\.GradientTransformation"):
        check(lambda: 3)
    with pytest.raises(TypeError, match="learning_rate"):
        check(optax.adam)
    with pytest.raises(
        TypeError, match=r"^GradientTransformationExtraArgs makes no optimizer; give"
    ):
        check(optax.adam(0.1))


def test_an_optimizer_that_raises_breaks_the_law():
    def lost(*_):
        raise KeyError("lost")

    found = check(lambda: optax.GradientTransformation(lost, lost), laws=["jit-equals-eager"])
    assert found["jit-equals-eager"].words == "it raises KeyError: 'lost'"


def test_each_law_says_what_and_why():
    for law in LAWS.values():
        assert law.kind in ("plumbing", "numbers", "symmetry", "fidelity")
        assert law.claim.endswith("."), law
        assert law.why.endswith("."), law


def test_the_readme_counts_them():
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    assert f"tries {len(LAWS)} laws on it" in " ".join(readme.split())


def test_importing_gdfx_does_not_import_hypothesis():
    code = "import gdfx, sys; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_in_a_users_project(run_pytest):
    outcomes = run_pytest(
        """
        import optax
        from gdfx.testing import conformance

        test_sgd = conformance(
            lambda: optax.sgd(0.1), laws=["sign", "jit-equals-eager", "bad-trees-refused"], budget=3
        )
        """
    )
    assert "1 failed, 1 passed, 1 skipped" in outcomes
    assert "nothing is declared about: odd" in outcomes
    assert "integer parameters: accepted without a word" in outcomes


@pytest.fixture
def run_pytest(tmp_path):
    """Run pytest on a file of its own."""

    def run(text):
        file = tmp_path / "test_mine.py"
        file.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rs", "-q", "-p", "no:cacheprovider", str(file)],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        return done.stdout

    return run
