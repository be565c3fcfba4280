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
from gdfx.testing.law import GRADES, KINDS, installed

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
    assert [verdict.law.name for verdict in report.of("courtesy").broken] == [
        "bad-arguments-refused"
    ]
    assert not report.of("contract").broken
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [row["law"] for row in stored["laws"]] == FEW
    assert [row["grade"] for row in stored["laws"]] == ["contract", "contract", *["courtesy"] * 2]
    assert (stored["broken"], stored["contract"]["broken"]) == (1, 0)
    assert stored["courtesy"] == {"kept": 1, "broken": 1, "not_applicable": 0}
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table())
    shown = console.file.getvalue()
    assert "learning_rate=-1.0 is accepted" in shown
    assert all(law in shown for law in FEW)


def test_a_report_of_one_counts_one():
    found = check(adam, laws=["sign"], budget=2)
    assert found.totals == "contract 1 kept, 0 broken; courtesy 0 kept, 0 broken; 0 not applicable"


def test_a_broken_contract_is_told_at_length_and_a_courtesy_on_a_line():
    broken = check(lambda: optax.sgd(-1.0), laws=["first-step-descends", "bad-trees-refused"],
                   traits=Traits(descends=True))  # fmt: skip
    told = str(broken)
    assert "contract 0 kept, 1 broken; courtesy 0 kept, 1 broken" in told
    assert LAWS["first-step-descends"].claim in told
    assert "retry('first-step-descends'" in told
    assert "  bad-trees-refused: integer parameters: accepted without a word" in told
    assert "retry('bad-trees-refused'" not in told
    short = broken.summary(width=60).splitlines()
    assert "  bad-trees-refused: integer parameters: accepted without a…" in short
    assert max(map(len, short[1:])) == 60


def plain_sgd():
    """Ten lines that keep optax's contract, and no more."""

    def update(g, state, params=None):
        return jax.tree.map(lambda g: -0.1 * g, g), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def plain_momentum():
    def update(g, m, params=None):
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
        return jax.tree.map(lambda m: -0.1 * m, m), m

    return optax.GradientTransformation(lambda p: jax.tree.map(jnp.zeros_like, p), update)


@pytest.mark.parametrize(
    ("make", "lacking"),
    [
        (plain_sgd, {"bad-trees-refused"}),
        (
            plain_momentum,
            {
                "bad-trees-refused",
                "dtype-mixes",
                "long-run-in-bfloat16",
                "none-gradient",
                "sharded-init",
                "update-dtype-mixes",
            },
        ),
    ],
)
def test_a_plain_optimizer_keeps_the_contract(make, lacking):
    found = check(make, budget=5)
    assert [str(verdict) for verdict in found.of("contract").broken] == []
    assert {verdict.law.name for verdict in found.of("courtesy").broken} == lacking
    for law in lacking:
        assert f"\n  {law}: " in str(found)


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
        assert law.kind in KINDS
        assert law.grade in GRADES
        assert law.claim.endswith("."), law
        assert law.why.endswith("."), law


def test_the_readme_counts_them():
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    assert f"tries {len(LAWS)} laws on it" in " ".join(readme.split())


def test_importing_gdfx_does_not_import_hypothesis():
    code = "import gdfx, sys; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_kit_starts_no_backend():
    """Code of a counterexample asks for eight devices after it."""
    code = "import jax, gdfx.testing; jax.config.update('jax_num_cpu_devices', 8)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_in_a_users_project(run_pytest):
    outcomes = run_pytest(
        """
        import optax
        from gdfx.testing import Traits, conformance

        laws = ["sign", "jit-equals-eager", "bad-trees-refused"]
        test_sgd = conformance(lambda: optax.sgd(0.1), laws=laws, budget=3)
        test_strictly = conformance(lambda: optax.sgd(0.1), laws=laws, strict=True, budget=3)

        def up():
            return optax.sgd(-0.1)

        test_up = conformance(up, laws=["first-step-descends"], traits=Traits(descends=True))
        """
    )
    assert "2 failed, 2 passed, 3 skipped" in outcomes
    assert "nothing is declared about: odd" in outcomes
    assert (
        "a courtesy that it lacks: bad-trees-refused: integer parameters: accepted without a word"
        in outcomes
    )
    assert "the first gradient [1, 1, 1] gives the update [0.1, 0.1, 0.1]" in outcomes


def test_a_package_that_is_not_there_is_named():
    assert installed("optax")(None) is None
    assert installed("no_such_package")(None) == "no_such_package is not installed"


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
