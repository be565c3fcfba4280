"""The kit itself: its reports, and its entry for pytest."""

import io
import itertools
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest
from rich.console import Console

from gdfx.testing import (
    LAWS,
    BrokenLawError,
    Run,
    Subject,
    Traits,
    check,
    conformance,
    declare,
    law,
    retry,
    runs,
)
from gdfx.testing.draw import HYPERPARAMETERS, hyperparameters
from gdfx.testing.needs import ONE_DEVICE, installed
from gdfx.testing.traits import OPTAX, known

FEW = ["sign", "first-step-descends", "bad-arguments-refused", "schedule-equals-constant"]
adam = partial(optax.adam, learning_rate=0.1)


@pytest.fixture(scope="module")
def report():
    return check(adam, laws=FEW, budget=5)


def test_the_report_tells_all(report):
    assert report.name == "optax.adam"
    assert [verdict.law.name for verdict in report.broken] == ["bad-arguments-refused"]
    assert report.totals == (
        "contract 2 kept, 0 broken; courtesy 1 kept, 1 broken; 0 not applicable"
    )
    assert str(report).splitlines() == [
        "optax.adam",
        "contract: 2 kept, 0 broken",
        "courtesy: 1 kept, 1 broken",
        "  bad-arguments-refused: learning_rate=-1.0 is accepted",
        "not applicable: 0",
        "optax.adam keeps the contract (2 laws) and lacks courtesies (1 of 2 laws)",
    ]
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
    assert stored["courtesy"] == {"kept": 1, "broken": 1, "waived": 0, "not_applicable": 0}
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table())
    shown = console.file.getvalue()
    assert "learning_rate=-1.0 is accepted" in shown
    assert all(law in shown for law in FEW)


def test_a_report_of_one_counts_one():
    found = check(adam, laws=["sign"], budget=2)
    assert found.totals == "contract 1 kept, 0 broken; courtesy 0 kept, 0 broken; 0 not applicable"


def test_a_broken_contract_is_told_at_length_and_a_courtesy_on_a_line():
    laws = ["first-step-descends", "bad-trees-refused"]
    broken = check(lambda: optax.sgd(-1.0), laws=laws, traits=Traits(descends=True))
    assert str(broken).splitlines() == [
        "<lambda>",
        "contract: 0 kept, 1 broken",
        "courtesy: 0 kept, 1 broken",
        "  bad-trees-refused: integer parameters: accepted without a word",
        "not applicable: 0",
        "  made by a function without arguments: laws on hyperparameters do not apply,",
        "  and its traits are not looked up; functools.partial(factory, ...) gives both",
        "",
        "✗ first-step-descends",
        "  The first step goes down the gradient, weight decay apart.",
        "  Seen: the first gradient [1, 1, 1] gives the update [1, 1, 1]",
        "",
        "import numpy as np",
        "from gdfx.testing import Run, Traits, retry",
        "",
        "# make: what makes the optimizer",
        "retry('first-step-descends', make, Run(params=np.array([1.0, 1.0, 1.0], 'float32'), "
        "gradients=[np.array([1.0, 1.0, 1.0], 'float32')]), Traits(descends=True))",
        "",
        "<lambda> breaks the contract (1 of 1 law) and lacks courtesies (1 of 1 law)",
    ]
    assert "retry('bad-trees-refused'" in broken.text(strict=True)


def test_a_function_without_arguments_is_judged_as_the_factory_but_for_what_is_said():
    """With the traits given, the laws that differ are those on hyperparameters."""
    traits = known(optax.sgd, {})
    laws = ["sign", "zero-rate-stays", "schedule-equals-constant", "update-dtype"]
    factory = check(partial(optax.sgd, learning_rate=0.1), laws=laws)
    ready = check(lambda: optax.sgd(0.1), laws=laws, traits=traits)
    assert len(factory.kept) == 4
    assert [verdict.law.name for verdict in ready.kept] == ["sign", "update-dtype"]
    assert {verdict.reason for verdict in ready.not_applicable} == {"it takes no learning_rate"}
    assert "made by a function without arguments" in str(ready)
    assert "made by a function without arguments" not in str(factory)


def ring(learning_rate, k=3, mode="mean", on=True, decay="none", eps=0):
    """A factory with arguments that are no numbers to calculate with, whatever they are called."""
    assert type(k) is int
    assert (mode, on, decay) == ("mean", True, "none")
    table = [0.0] * k  # a traced k could not do this

    def update(g, state, params=None):
        return jax.tree.map(lambda x: -learning_rate * x / (1 + eps) + len(table) * 0, g), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def test_arguments_that_are_no_numbers_are_left_alone():
    subject = Subject(partial(ring, learning_rate=1))
    assert subject.numbers == {"learning_rate": 1.0, "eps": 0.0}
    assert not subject.takes_number("decay")
    laws = [
        "inside-inject-hyperparams",
        "inject-hyperparams-in-bfloat16",
        "vmap-hyperparameters",
        "eager-compiles-once",
        "hyperparameter-derivative",
        "hyperparameters-finite",
        "bad-arguments-refused",
        "schedule-equals-constant",
    ]
    found = check(partial(ring, learning_rate=0.1), laws=laws)
    asserting = [v.law.name for v in found.broken if "AssertionError" in v.reason]
    assert asserting == []
    assert [str(v) for v in found.broken if "ring" in v.reason or "Tracer" in v.reason] == []


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
    for name in lacking:
        assert f"\n  {name}: " in str(found)


def test_the_same_seed_finds_the_same(report):
    assert str(check(adam, laws=["single-precision-accurate"], budget=5)) == str(
        check(adam, laws=["single-precision-accurate"], budget=5)
    )


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (adam, "finite-for-finite"),
        (partial(optax.adadelta, learning_rate=0.1), "hyperparameters-finite"),
        (partial(optax.contrib.momo, learning_rate=0.1), "finite-for-finite"),
        (partial(optax.contrib.simplified_ademamix, learning_rate=0.1), "low-precision-close"),
    ],
)
def test_a_fault_that_takes_luck_to_draw_is_found_without(make, law):
    """Their cases are listed, beside those that are drawn: no seed changes the verdict."""
    for seed in range(3):
        assert check(make, laws=[law], seed=seed, budget=1)[law].outcome == "broken"


def test_two_branches_that_meet_have_no_derivative_to_be_right():
    """At g = 1 the slope is 0 on one side, as JAX says, and 1 on the other."""

    def clipped():
        return optax.stateless(lambda g, p: jax.tree.map(lambda x: jnp.where(x > 1, x, 1.0), g))

    assert check(clipped, laws=["gradient-derivative"])["gradient-derivative"].outcome == "kept"


def test_hyperparameters_meet_in_pairs():
    """Each two values of each two names, in one case or another; the first is the usual one."""
    for names in (["b1"], ["b1", "eps"], list(HYPERPARAMETERS)):
        cases = hyperparameters(names)
        assert cases[0] == {name: HYPERPARAMETERS[name][0] for name in HYPERPARAMETERS
                            if name in names}  # fmt: skip
        for one, other in itertools.combinations(names, 2):
            met = {(case[one], case[other]) for case in cases}
            assert met == set(itertools.product(HYPERPARAMETERS[one], HYPERPARAMETERS[other]))


def test_what_is_not_declared_is_not_asked():
    silent = check(lambda: optax.adam(0.1), laws=["sign", "equals-its-reference"])
    assert [verdict.reason for verdict in silent.not_applicable] == [
        "nothing is declared about the trait odd",
        "nothing is declared about the trait reference",
    ]
    assert str(silent).endswith("<lambda>: no law applies, so nothing was judged")
    denied = check(lambda: optax.adam(0.1), laws=["sign"], traits=Traits(odd=False))
    assert denied["sign"].reason == "declared: odd = False"
    assert "learning_rate" in check(lambda: optax.adam(0.1), laws=["schedule-equals-constant"])[
        "schedule-equals-constant"
    ].reason  # fmt: skip


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
    with pytest.raises(ValueError, match="sign does not apply: nothing is declared about the "):
        retry("sign", lambda: adam(), run)
    with pytest.raises(ValueError, match="sign does not apply: declared: odd = False"):
        retry("sign", adam, run, Traits(odd=False))


def test_traits_are_checked_and_spelled():
    with pytest.raises(ValueError, match=r"^Traits: scale must be 'linear' or 'invariant', got"):
        Traits(scale="lin")
    assert repr(Traits(odd=False, after_nan="frozen")) == "Traits(odd=False, after_nan='frozen')"


def test_traits_are_added_to_what_is_known_and_go_before_it():
    subject = Subject(adam, Traits(odd=False, after_nan="nan"))
    assert subject.traits == replace(OPTAX["adam"], odd=False, after_nan="nan")


def test_a_factory_declares_its_traits_itself():
    @declare(Traits(odd=True))
    def mine(learning_rate=0.1):
        return optax.sgd(learning_rate)

    assert Subject(mine).traits == Traits(odd=True)
    assert Subject(partial(mine, 0.2), Traits(descends=True)).traits == Traits(
        odd=True, descends=True
    )


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
    assert found["jit-equals-eager"].reason == "it raises KeyError: 'lost'"


def test_a_waived_law_is_tried_and_fails_nothing():
    laws = ["bad-trees-refused", "bad-arguments-refused", "sign"]
    waive = {"bad-trees-refused": "ours are right", "sign": "it has none"}
    found = check(adam, laws=laws, waive=waive)
    assert [str(verdict) for verdict in found.waived] == [
        "bad-trees-refused: waived: integer parameters: accepted without a word"
    ]
    assert [verdict.law.name for verdict in found.broken] == ["bad-arguments-refused"]
    assert found["sign"].outcome == "kept"
    assert "  bad-trees-refused: waived: ours are right\n" in str(found)
    assert "  sign: kept; its waiver is not needed\n" in str(found)
    assert found.totals == (
        "contract 1 kept, 0 broken; courtesy 0 kept, 1 broken; 1 waived; 0 not applicable"
    )
    record = found.to_dict()
    assert [row["waiver"] for row in record["laws"]] == ["ours are right", "", "it has none"]


@pytest.mark.parametrize(
    ("waive", "sentence"),
    [
        ({"sing": "x"}, "there is no law 'sing'; did you mean sign or sharding"),
        ({"sign": " "}, "a waiver needs a reason: say why sign may be broken"),
    ],
)
def test_a_waiver_names_a_law_and_a_reason(waive, sentence):
    for judge_by in (check, conformance):
        with pytest.raises(ValueError, match=sentence):
            judge_by(adam, laws=["sign"], waive=waive)


@law("mine", "contract", runs(steps=1))
def small_updates(subject, run):
    """No update is larger than 0.3.

    Mine may not.
    """
    for u in subject.replay(run).updates:
        if jnp.abs(u).max() > 0.3:
            raise BrokenLawError("it is")


def test_a_law_of_ones_own_is_tried_beside_the_others():
    everything = dict(LAWS)
    laws = [*FEW, small_updates]
    good, bad = (check(partial(optax.sgd, rate), laws=laws) for rate in (0.01, 1.0))
    assert good["small-updates"].outcome == "kept"
    broken = bad["small-updates"]
    assert (broken.outcome, broken.law.kind, broken.reason) == ("broken", "mine", "it is")
    assert broken.law.claim == "No update is larger than 0.3."
    assert broken.law.why == "Mine may not."
    assert "# law: the law small-updates itself\nretry(law, " in broken.code
    with pytest.raises(BrokenLawError, match="it is"):
        exec(broken.code, {"law": small_updates})
    assert everything == LAWS
    assert len(check(partial(optax.sgd, 0.1), laws=["sign"]).kept) == 1
    waived = check(partial(optax.sgd, 1.0), [small_updates], waive={"small-updates": "so"})
    assert not waived.broken


def test_a_law_that_could_not_be_reported_is_refused():
    def nameless(subject, case):
        pass

    with pytest.raises(ValueError, match="law nameless needs a docstring: what it claims and"):
        law("mine", "contract", [None])(nameless)
    with pytest.raises(ValueError, match="law small-updates must be 'contract' or 'courtesy', got"):
        law("mine", "wish", [None])(small_updates.body)
    with pytest.raises(ValueError, match="two laws are called 'sign'"):
        check(adam, laws=["sign", replace(LAWS["sign"])])
    with pytest.raises(ValueError, match="no law is asked for"):
        check(adam, laws=[])


def test_each_law_says_what_and_why():
    for found in LAWS.values():
        assert found.claim.endswith("."), found
        assert found.why.endswith("."), found


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
    assert "nothing is declared about the trait odd" in outcomes
    assert (
        "a courtesy that it lacks: bad-trees-refused: integer parameters: accepted without a word"
        in outcomes
    )
    assert "the first gradient [1, 1, 1] gives the update [0.1, 0.1, 0.1]" in outcomes


def test_in_a_users_project_waivers_are_expected_failures(run_pytest):
    outcomes = run_pytest(
        """
        from functools import partial
        import optax
        from gdfx.testing import conformance

        test_sgd = conformance(
            partial(optax.sgd, 0.1),
            laws=["sign", "bad-trees-refused"],
            waive={"bad-trees-refused": "ours are right", "sign": "it has none"},
            strict=True,
        )
        """
    )
    assert "1 passed, 1 xfailed, 1 warning" in outcomes
    assert "waived: ours are right: integer parameters: accepted without a word" in outcomes
    assert "UserWarning: the waiver of sign is not needed: it is kept" in outcomes


def test_in_a_users_project_no_law_that_applies_is_a_failure(run_pytest):
    outcomes = run_pytest(
        """
        import optax
        from gdfx.testing import conformance

        test_sgd = conformance(lambda: optax.sgd(0.1), laws=["sign", "zero-rate-stays"])
        """
    )
    assert "2 failed" in outcomes
    assert "no law applies: sign: nothing is declared about the trait odd" in outcomes


def test_in_a_users_project_one_device_is_told_and_eight_are_used(run_pytest, tmp_path):
    test = """
        from functools import partial
        import optax
        from gdfx.testing import conformance

        laws = ["sharding", "shard-map", "sign"]
        test_sgd = conformance(partial(optax.sgd, 0.1), laws=laws)
        """
    outcomes = run_pytest(test)
    assert "1 passed, 2 skipped" in outcomes
    assert ONE_DEVICE in outcomes
    (tmp_path / "conftest.py").write_text(
        "import jax\n\njax.config.update('jax_num_cpu_devices', 8)\n"
    )
    assert "3 passed" in run_pytest(test)


def test_one_device_is_told_in_the_report():
    code = (
        "from functools import partial; import optax, gdfx.testing as kit; print(kit.check("
        "partial(optax.sgd, 0.1), laws=['sharding', 'shard-map', 'sign'], budget=2).overview())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[3:] == [
        "not applicable: 2 (report.table() says why)",
        "  sharding and shard-map: JAX sees one device; to have eight, call",
        '  jax.config.update("jax_num_cpu_devices", 8) before JAX starts (with pytest, in',
        "  conftest.py)",
    ]


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
            [sys.executable, "-m", "pytest", "-rsx", "-q", "-p", "no:cacheprovider", str(file)],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        return done.stdout

    return run
