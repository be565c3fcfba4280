"""gdfx check and gdfx laws: what they print, write and return, mistakes included."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.cells import cell_len

from gdfx.cli.judge import MORE
from gdfx.testing import LAWS
from gdfx.testing.judge import BUDGET, check
from gdfx.testing.traits import VALUES


def code_of(text, law):
    """The code of a fault in what was printed."""
    block = text.partition(f" {law}\n")[2]
    return re.search(r"\n\n(from [^$]*?\nretry\([^\n]*\n)", block)[1]


def test_check_tells_what_is_kept_and_the_verdict_last(invoke):
    kept = invoke("check", "adam", "--law", "no-retrace", "--law", "sign")
    assert kept.exit_code == 0, kept.output
    assert kept.stdout.splitlines() == [
        "gdfx.adam",
        "contract: 2 kept, 0 broken",
        "courtesy: 0 kept, 0 broken",
        "not applicable: 0",
        "gdfx.adam keeps the contract (2 laws)",
    ]


def test_check_lists_the_courtesies_that_are_lacking(invoke):
    laws = ("bad-trees-refused", "first-step-descends", "weight-decay-accurate")
    result = invoke("check", "optax:sgd", *(word for law in laws for word in ("--law", law)))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "optax.sgd",
        "contract: 1 kept, 0 broken",
        "courtesy: 0 kept, 1 broken",
        "  bad-trees-refused: integer parameters: accepted without a word",
        "not applicable: 1 (--all says why; --trait declares more)",
        "optax.sgd keeps the contract (1 law) and lacks courtesies (1 of 1 law)",
    ]


def test_check_is_a_screen_for_a_healthy_optimizer_and_cuts_no_law_in_two(invoke, monkeypatch):
    """On a terminal each lacking courtesy is a line, and in a pipe nothing is cut."""
    laws = [law for law in LAWS if LAWS[law].grade == "courtesy"]
    report = check(adam, laws=laws[:12], budget=2)
    assert len(report.text().splitlines()) <= 24
    narrow = report.overview(width=80).splitlines()
    assert max(map(len, narrow)) == 80
    assert all(f"  {v.law.name}: " in "\n".join(narrow) for v in report.broken)
    assert "…" not in report.overview()


def adam():
    import optax

    return optax.adam(0.1)


def test_check_writes_a_report(invoke, tmp_path):
    file = tmp_path / "new" / "report.json"
    arguments = ("--law", "bad-arguments-refused", "--strict", "--json", str(file))
    broken = invoke("check", "optax:adam", "--arg", "learning_rate=1e-3", *arguments)
    assert broken.exit_code == 1, broken.output
    record = json.loads(file.read_text())
    assert (record["optimizer"], record["broken"]) == ("optax.adam", 1)
    assert record["laws"][0]["reason"] == "learning_rate=-1.0 is accepted"


def test_where_a_report_could_not_be_written_nothing_is_judged(refused):
    arguments = ("check", "sgd", "--law", "sign", "--json", "/dev/null/x.json")
    refused(arguments, "cannot write to /dev/null: File exists")


def test_what_was_found_is_shown_where_it_cannot_be_written(invoke, monkeypatch):
    monkeypatch.setattr("gdfx.files.check_writable", lambda folder: None)
    result = invoke("check", "sgd", "--law", "sign", "--json", "/dev/null/x.json")
    assert result.exit_code == 2
    assert result.stderr == "gdfx: cannot write to /dev/null: File exists\n"
    assert "gdfx.sgd keeps the contract (1 law)" in result.stdout


def test_a_fault_is_a_block_with_code_that_runs(invoke, tmp_path):
    laws = ("--law", "first-step-descends", "--law", "bad-trees-refused")
    late = invoke("check", "optax:rprop", *laws, "--trait", "descends=True")
    assert late.exit_code == 1, late.output
    assert late.stdout == textwrap.dedent("""\
        optax.rprop
        contract: 0 kept, 1 broken
        courtesy: 0 kept, 1 broken
          bad-trees-refused: integer parameters: accepted without a word
        not applicable: 0

        ✗ first-step-descends
          The first step goes down the gradient, weight decay apart.
          Seen: the first gradient [1, 1, 1] gives the update [0, 0, 0]

        from functools import partial

        import numpy as np
        import optax
        from gdfx.testing import Run, Traits, retry

        retry('first-step-descends', partial(optax.rprop, learning_rate=0.1), \
Run(params=np.array([1.0, 1.0, 1.0], 'float32'), \
gradients=[np.array([1.0, 1.0, 1.0], 'float32')]), Traits(descends=True))

        optax.rprop breaks the contract (1 of 1 law) and lacks courtesies (1 of 1 law)
        """)
    strict = invoke("check", "optax:rprop", *laws, "--trait", "descends=True", "--strict")
    assert strict.exit_code == 1
    for law in ("first-step-descends", "bad-trees-refused"):
        file = tmp_path / "again.py"
        file.write_text(code_of(strict.stdout, law))
        lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,I", file]
        assert subprocess.run(lint, check=False).returncode == 0
        with pytest.raises(AssertionError, match=r"gives the update \[0|integer parameters: acc"):
            exec(file.read_text(), {})


def test_traits_are_added_to_what_is_known(invoke):
    found = invoke("check", "optax:adam", "--trait", "after_nan=nan", "--law", "sign",
                   "--law", "after-nan-as-declared")  # fmt: skip
    assert "contract: 2 kept, 0 broken\n" in found.stdout


def test_a_reference_is_a_factory_with_the_same_arguments(invoke):
    laws = ("--law", "equals-its-reference", "--arg", "b1=0.5")
    equal = invoke("check", "optax:adam", *laws, "--trait", "reference=gdfx:adam")
    assert equal.exit_code == 0, equal.output
    other = invoke("check", "optax:adam", *laws, "--trait", "reference=optax:adamax")
    assert other.exit_code == 1, other.output


def test_a_waived_law_fails_nothing_and_a_needless_waiver_is_told(invoke):
    laws = ("--law", "first-step-descends", "--law", "bad-trees-refused")
    waivers = ("--waive", "first-step-descends=it waits for a second one", "--waive", "sign=no")
    result = invoke("check", "optax:rprop", *laws, "--trait", "descends=True", *waivers)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "optax.rprop",
        "contract: 0 kept, 0 broken",
        "  first-step-descends: waived: it waits for a second one",
        "courtesy: 0 kept, 1 broken",
        "  bad-trees-refused: integer parameters: accepted without a word",
        "not applicable: 0",
        "optax.rprop keeps the contract (1 law, 1 waived) and lacks courtesies (1 of 1 law)",
    ]
    kept = invoke("check", "optax:sgd", "--law", "sign", "--waive", "sign=it drifts")
    assert "contract: 1 kept, 0 broken\n  sign: kept; its waiver is not needed\n" in kept.stdout


def test_all_has_a_line_for_each_law_and_its_name_whole(invoke):
    laws = ("hyperparameters-as-in-reference", "sign", "none-gradient", "no-retrace")
    asked = (word for law in laws for word in ("--law", law))
    result = invoke("check", "optax:adam", *asked, "--all", "--waive", "none-gradient=no frozen")
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "   contract",
        "·  hyperparameters-as-in-reference  nothing is declared about the trait",
        "                                    reference",
        "✓  sign",
        "✓  no-retrace",
        "   courtesy",
        "w  none-gradient                    it raises ValueError: pytree structure",
        "                                    error: different types at key path (waived:",
        "                                    no frozen)",
        "✓ kept  ✗ contract broken  – courtesy lacking  w waived  · not applicable",
        "",
        "optax.adam keeps the contract (2 laws) and has every courtesy (1 law, 1 waived)",
    ]
    assert max(map(cell_len, result.stdout.splitlines())) <= 80


def test_where_no_law_applies_nothing_was_judged(refused):
    refused(
        ("check", "optax:lion", "--law", "complex-phase"),
        "no law applies to optax:lion, so nothing was judged: complex-phase: not applicable: "
        "nothing is declared about the trait complex",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["adagradd"],
            "unknown method 'adagradd'; did you mean adagrad, madgrad or keras.Adagrad? "
            "(any other optimizer: module:factory, as in optax:lion)",
        ),
        (["sgd", "--arg", "b1"], "'b1' is not NAME=VALUE, as in learning_rate=1e-3"),
        (
            ["sgd", "--arg", "lr=1"],
            "sgd: there is no argument lr; did you mean learning_rate?",
        ),
        (
            ["adam", "--arg", "learn_rate=1"],
            "adam: there is no argument learn_rate; did you mean learning_rate?",
        ),
        (
            ["adam", "--arg", "betas=(0.9, 0.99)"],
            "adam: there is no argument betas; did you mean b1 and b2?",
        ),
        (
            ["sgd", "--arg", "momentum=0.9"],
            "sgd: there is no argument momentum; gradient descent with momentum is "
            "gdfx.momentum(learning_rate, decay=0.9)",
        ),
        (
            ["optax:adam", "--arg", "beta1=0.9"],
            "optax:adam: there is no argument beta1; did you mean b1?",
        ),
        (
            ["optax:sign_sgd", "--arg", "zeal=1"],
            "optax:sign_sgd: there is no argument zeal; there is learning_rate",
        ),
        (
            ["adam", "--arg", "b1=0.9", "--arg", "b1=0.8"],
            "b1 is given twice",
        ),
        (
            ["sgd", "--arg", "learning_rate=-1"],
            "sgd(learning_rate=-1) raises ValueError: sgd: learning_rate must be a number >= 0 "
            "or a schedule, got -1",
        ),
        (
            ["optax:apply_updates"],
            "optax:apply_updates() raises TypeError: apply_updates() missing 2 required "
            "positional arguments: 'params' and 'updates'",
        ),
        (
            ["optax:constant_schedule", "--arg", "value=1"],
            "optax:constant_schedule(value=1) returned function, which is no "
            "optax.GradientTransformation",
        ),
        (["sgd", "--law", "zzz"], "there is no law 'zzz'; gdfx laws lists them"),
        (["sgd", "--law", "sing"], "there is no law 'sing'; did you mean sign or sharding?"),
        (["sgd", "--trait", "odd"], "--trait odd: say odd=True or odd=False"),
        (["sgd", "--trait", "odd=maybe"], "--trait odd=maybe: say odd=True or odd=False"),
        (["sgd", "--trait", "scale"], "--trait scale: say scale=linear or scale=invariant"),
        (["sgd", "--trait", "reference"], "--trait reference: say reference=module:factory"),
        (
            ["sgd", "--trait", "even=True"],
            "--trait even=True: there is no trait 'even'; there are elementwise, descends, odd, "
            "scale, translates, complex, after_nan, needs_params, needs_value, random, transposes, "
            "follows, reference, "
            "rounding",
        ),
        (["sgd", "--trait", "ood=True"], "--trait ood=True: there is no trait 'ood'; "
                                         "did you mean odd?"),
        (["sgd", "--trait", "rounding=-1"], "--trait rounding=-1: say rounding=16"),
        (["sgd", "--waive", "sign"], '--waive sign: give the reason, as in --waive sign="..."'),
        (["sgd", "--waive", "sign= "], "a waiver needs a reason: say why sign may be broken"),
        (["sgd", "--waive", "sing=x"], "there is no law 'sing'; did you mean sign or sharding?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_check_refuses_in_a_sentence(refused, arguments, sentence):
    refused(("check", *arguments), sentence)


@pytest.mark.parametrize(
    ("step", "left"),
    [("gdfx.testing.judge.check", "; nothing was judged"), ("gdfx.cli.judge.files.write", "")],
)
def test_an_interrupted_check_says_what_is_true(invoke, monkeypatch, step, left):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupted)
    result = invoke("check", "sgd", "--law", "sign", "--json", "report.json")
    assert result.exit_code == 130
    assert result.stderr == f"gdfx: interrupted{left}\n"
    assert list(Path().iterdir()) == []


def test_the_help_says_what_can_be_declared():
    for trait, values in VALUES.items():
        assert f"  {trait}={'|'.join(map(str, values))} " in MORE
    assert set(re.findall(r"^  (\w+)=", MORE, re.MULTILINE)) == {*VALUES, "reference", "rounding"}


def test_the_help_is_as_it_was_written(invoke):
    shown = invoke("check", "--help").stdout
    assert "    odd=True|False                 -g gives the negative of g's update\n" in shown
    assert '    gdfx check optax:adam --strict --waive none-gradient="no frozen parts"\n' in shown
    assert max(map(cell_len, shown.splitlines())) <= 80
    assert "list[" not in shown


def test_laws_lists_each_with_its_claim_and_no_name_broken(invoke):
    lines = invoke("laws").stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    starts = [line.split()[0] for line in lines if line.strip() and line[0] != " "]
    contract = [law for law in LAWS if LAWS[law].grade == "contract"]
    assert starts == ["contract", *contract, "courtesy", *list(LAWS)[len(contract) :]]
    text = " ".join(" ".join(line[31:].split()) for line in lines)
    for law in LAWS.values():
        assert law.claim.replace("`", "") in text


def test_laws_shows_one_in_full(invoke, refused):
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", "", invoke("laws", "sign").stdout).split())
    assert shown == (
        "sign The negative gradients give the negative updates, weight decay apart. Otherwise it "
        "drifts to one side by itself. It is of the contract: what optax asks of every optimizer, "
        "and what is declared of one. gdfx check METHOD --law sign"
    )
    refused(("laws", "sing"), "there is no law 'sing'; did you mean sign or sharding?")


def test_the_command_tries_as_many_cases_as_the_function(monkeypatch, invoke):
    budgets = []
    import gdfx.testing.judge as kit

    judge = kit.judge

    def noting(*args, budget, **options):
        budgets.append(budget)
        return judge(*args, budget=budget, **options)

    monkeypatch.setattr(kit, "judge", noting)
    invoke("check", "sgd", "--law", "sign")
    assert budgets == [BUDGET]


def test_an_optimizer_is_judged_in_one_command(invoke, monkeypatch):
    """Some laws and one problem stand for all of them."""

    def some(make, laws, *more, **options):
        return check(make, laws[:3], *more, **options)

    monkeypatch.setattr("gdfx.testing.judge.check", some)
    monkeypatch.setattr(sys.modules["gdfx.lab.compare"], "QUICK", ("breast_cancer",))
    budget = ("--trials", "2", "--seeds", "2", "--steps", "10")
    result = invoke("judge", "optax:sgd", *budget, "--page")
    assert result.exit_code == 0, result.output
    first, _, second, *_ = result.stdout.splitlines()
    assert re.match(r"optax.sgd (keeps|has) [^;]*; (no difference between |)optax:sgd ", first)
    assert second == "adamw and optax:sgd on 1 problem"
    assert result.stdout.endswith(
        "Written: judge/speed.png, judge/rates.png, judge/losses.png, judge/compare.html, "
        "judge/results.json\n"
    )
    assert f'"says":["{first}"]' in Path("judge/compare.html").read_text()
    again = invoke("judge", "optax:sgd")
    assert again.exit_code == 2
    assert again.stderr.startswith("gdfx: judge holds the results of an earlier run")
