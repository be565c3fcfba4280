"""From what is asked for to entries: the forms of a method, where its rate is from, problems."""

import functools
import inspect
from collections import namedtuple
from dataclasses import replace

import numpy as np
import optax
import pytest

import gdfx
from gdfx.lab import PROBLEMS, RequestError, race
from gdfx.lab.problems import MNIST, VALLEY
from gdfx.lab.protocol import Rates
from gdfx.lab.rates import SWEPT
from gdfx.lab.resolve import Rate, contenders, enter, find_problem, find_problems


def entries(methods, problem=VALLEY):
    return enter(contenders(methods), problem)


def one(methods, problem=VALLEY):
    (entry,) = entries(methods, problem)
    return entry


def own(learning_rate, b1=0.5, b2=0.0, *, flag=True):
    return optax.sgd(learning_rate, momentum=b1)


def with_a_default(learning_rate=0.7):
    return optax.sgd(learning_rate)


class Callable:
    def __call__(self, rate):
        return optax.sgd(rate)


READY = optax.adam(0.1)
GIVEN, DEFAULT = Rate(0.2, "given"), Rate(0.3, "default", 30)


@pytest.mark.parametrize(
    ("methods", "label", "name", "rate"),
    [
        ("adam", "adam", "adam", DEFAULT),
        ("adam=0.2", "adam", "adam", GIVEN),
        ("adam=valley:0.2,mnist:0.001", "adam", "adam", GIVEN),
        ("adam=mnist:0.001", "adam", "adam", DEFAULT),
        (("adam", 0.2), "adam", "adam", GIVEN),
        (("adam", np.float32(0.2)), "adam", "adam", Rate(float(np.float32(0.2)), "given")),
        (("adam", {"valley": 0.2}), "adam", "adam", GIVEN),
        (["adam"], "adam", "adam", DEFAULT),
        ([("adam", 0.2)], "adam", "adam", GIVEN),
        (("adam",), "adam", "adam", DEFAULT),
        ({"mine": "adam"}, "mine", "adam", DEFAULT),
        ({"mine": "adam=0.2"}, "mine", "adam", GIVEN),
        ({"mine": ("adam", {"valley": 0.2})}, "mine", "adam", GIVEN),
        ({"adam": 0.2}, "adam", "adam", GIVEN),
        ({"adam": {"valley": 0.2}}, "adam", "adam", GIVEN),
        (gdfx.adam, "adam", "adam", DEFAULT),
        (gdfx.textbook.adam, "textbook.adam", "textbook.adam", DEFAULT),
        ("optax:lion=0.2", "optax:lion", "optax:lion", GIVEN),
        ((optax.lion, 0.2), "optax:lion", "optax:lion", GIVEN),
        ({"mine": (optax.lion, 0.2)}, "mine", "optax:lion", GIVEN),
        ((functools.partial(gdfx.adam, b1=0.8), 0.2), "adam(b1=0.8)", "adam(b1=0.8)", GIVEN),
        (functools.partial(optax.lion, learning_rate=0.4), "optax:lion", "optax:lion",
         Rate(0.4, "factory")),
        (with_a_default, "test_resolve:with_a_default", "test_resolve:with_a_default",
         Rate(0.7, "factory")),
        ((Callable(), 0.2), "Callable", "Callable", GIVEN),
        ((lambda rate: optax.sgd(rate), 0.2), "optimizer 1", "optimizer 1", GIVEN),
        ({"mine": (lambda rate: optax.sgd(rate), 0.2)}, "mine", "mine", GIVEN),
        (READY, "optimizer 1", "optimizer 1", None),
        ([READY], "optimizer 1", "optimizer 1", None),
        ({"mine": READY}, "mine", "mine", None),
        ({"mine": lambda: READY}, "mine", "mine", None),
        ({"mine": optax.MultiSteps(READY, 2)}, "mine", "mine", None),
    ],
)  # fmt: skip
def test_every_form_of_a_method(methods, label, name, rate):
    entry = one(methods)
    assert (entry.label, entry.name, entry.rate) == (label, name, rate)
    assert callable(entry.optimizer.update)


def test_several_of_all_forms_in_one_list():
    several = ["sgd", ("adam", 0.2), optax.adam(0.1), gdfx.momentum, "adam", READY]
    assert [entry.label for entry in entries(several)] == [
        "sgd", "adam=0.2", "optimizer 3", "momentum", "adam=0.3", "optimizer 6",
    ]  # fmt: skip


def test_methods_are_entered_once_at_each_rate():
    assert [e.label for e in entries(["sgd=0.5", "sgd=0.5"])] == ["sgd"]
    assert [e.label for e in entries(["adam", "adam=0.3"])] == ["adam"]
    near = ["sgd=0.12345678", "sgd=0.12345679"]
    assert [e.label for e in entries(near)] == near


def test_settings_are_the_factorys_defaults_without_what_is_off_and_mark_given_rates():
    assert one("adam").settings == "η=0.3, β₁=0.9, β₂=0.999, ε=1e-8"
    assert one("adam=0.25").settings == "η=0.25 (given), β₁=0.9, β₂=0.999, ε=1e-8"
    assert one("optax:lion=1e-4").settings == "η=0.0001 (given), β₁=0.9, β₂=0.99, λ=0.001"
    assert one((own, 0.1)).hyperparameters == {"b1": 0.5}
    changed = functools.partial(gdfx.adam, b1=0.8)
    assert one((changed, 0.1)).hyperparameters == {"b1": 0.8, "b2": 0.999, "eps": 1e-8}
    assert one(with_a_default).settings == "η=0.7 (its own default)"
    assert one(READY).settings == "ready-made: its settings are not known"


@pytest.mark.parametrize("name", [n for n, m in gdfx.METHODS.items() if m.form])
def test_a_form_races_at_the_rate_of_its_method(name):
    for problem in (VALLEY, MNIST):
        if gdfx.METHODS[name].reach == "matrix" and problem.matrices is None:
            continue
        found = problem.rates.by_method.get(gdfx.METHODS[name].form)
        if found is None:
            parameters = inspect.signature(gdfx.METHODS[name].factory).parameters
            expected = Rate(next(iter(parameters.values())).default, "factory")
        else:
            expected = Rate(found, "default", problem.steps)
        assert one(name, problem).rate == expected


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_methods_have_a_rate_where_a_sweep_found_one(problem):
    swept = SWEPT.get(problem.name, {})
    asked = {contender.name: contender for contender in contenders(list(gdfx.METHODS))}
    known = {name for name, rate in swept.items() if rate is not None}
    for name in known:
        expected = Rate(problem.rates.by_method[name], "default", problem.steps)
        assert asked[name].rate(problem) == expected
    for name, method in gdfx.METHODS.items():
        if (method.form or name) in known:
            continue
        default = next(iter(inspect.signature(method.factory).parameters.values())).default
        if isinstance(default, float):
            assert asked[name].rate(problem) == Rate(default, "factory")
        else:
            with pytest.raises(RequestError) as refusal:
                asked[name].rate(problem)
            assert str(refusal.value) == (
                f"{problem.name} knows no learning rate for {name}: give one, as in {name}=0.001"
            )


def test_where_a_sweep_found_none_is_known():
    """Rprop counts on signs, which mini-batches turn by chance."""
    none = [(p, n) for p, table in SWEPT.items() for n, rate in table.items() if rate is None]
    assert none == [("mnist", "rprop")]


def test_a_problem_may_know_rates_for_strangers():
    knows = replace(VALLEY, rates=Rates({"optax:lion": 0.2}))
    assert one("optax:lion", knows).rate == Rate(0.2, "default", None)


def no_optimizer(learning_rate):
    return learning_rate


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        (3, "3 is no method: give a name, a function of the learning rate, or an optimizer"),
        ([None],
         "None is no method: give a name, a function of the learning rate, or an optimizer"),
        (("adam", True), "True is no method: give a name, a function of the learning rate, or an "
         "optimizer"),
        (("adam=0.1", 0.2), "adam=0.1 has a learning rate, and was given another: 0.2"),
        ((READY, 0.1), "optimizer 1 is made already, so that it cannot be given a learning rate"),
        ({"mine": (lambda: READY, 0.1)},
         "mine is made already, so that it cannot be given a learning rate"),
        ((no_optimizer, 0.1), "test_resolve:no_optimizer(0.1) returned float, which is no "
         "optax.GradientTransformation"),
        (own,
         "valley knows no learning rate for test_resolve:own: give one, as in (factory, 0.001)"),
        ({"mine": "optax:lion"},
         "valley knows no learning rate for mine: give one, as in optax:lion=0.001"),
        (("adam", float("nan")),
         "adam: learning_rate must be a number >= 0 or a schedule, got nan"),
        (("adam", {"valley": "fast"}),
         "adam: learning_rate must be a number >= 0 or a schedule, got 'fast'"),
        ("adam=valley:fast",
         "adam=valley:fast: 'valley:fast' is not PROBLEM:RATE, as in valley:0.3"),
        ("adam=0.1,mnist:0.1", "adam=0.1,mnist:0.1: '0.1' is not PROBLEM:RATE, as in valley:0.3"),
        ("adam=vally:0.1",
         "adam has a learning rate for an unknown problem 'vally'; did you mean valley?"),
        ([(functools.partial(own, b2=None), 0.1), (functools.partial(own, b2=None), 0.1)],
         "2 methods are called test_resolve:own=0.1: name them in a dict, as in {'mine': ..., "
         "'theirs': ...}"),
    ],
)  # fmt: skip
def test_what_is_no_method_is_refused(methods, sentence):
    with pytest.raises(RequestError) as refusal:
        race(methods, "valley", steps=1)
    assert str(refusal.value) == sentence


def test_rates_for_known_problems_are_taken_whether_these_are_raced_or_not():
    run = race("adam=mine:0.2,mnist:0.001", replace(VALLEY, name="mine"), steps=1)
    assert run.results["mine"].runs["adam"].entry.rate == GIVEN


def test_a_problem_alone_is_one_be_it_a_named_tuple():
    fields = [name for name in dir(VALLEY) if name[0] != "_"]
    tuple_problem = namedtuple("Tuple", fields)(*(getattr(VALLEY, name) for name in fields))
    for asked in ("valley", VALLEY, ["valley"], ("valley",)):
        assert find_problems(asked) == {"valley": VALLEY}
    assert find_problems(tuple_problem) == {"valley": tuple_problem}
    assert list(find_problems([VALLEY, "mnist", "valley"])) == ["valley", "mnist"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (3, "int is no problem, it has no name; gdfx.lab.Problem says what a problem has, and "
         "gdfx.lab.problem makes one from a loss and a start"),
        ("optax:adam", "optax:adam is no problem, it has no name; gdfx.lab.Problem says what a "
         "problem has, and gdfx.lab.problem makes one from a loss and a start"),
        ("vally", "unknown problem 'vally'; did you mean valley? (any other problem: "
         "module:problem, as in my_module:my_problem)"),
        (":valley", "':valley' is not module:problem, as in my_module:my_problem"),
        ("gdfx.lab.problems:VALEY",
         "gdfx.lab.problems:VALEY: gdfx.lab.problems has no 'VALEY'; did you mean VALLEY?"),
        ([VALLEY, replace(MNIST, name="valley")],
         "two problems are called valley: give one another name"),
        ("valley:noise", "'valley:noise': settings are NAME=VALUE, as in valley:noise=0.0"),
        ("valley:noise=-1", "valley: noise must be a number >= 0, got -1"),
        ("valley:nois=1", "valley:nois=1: there is no argument nois; did you mean noise?"),
        ("quadratic:dimension=0", "quadratic: dimension must be a whole number >= 1, got 0"),
        ("quadratic:dimension=2,condition=0.5",
         "quadratic: condition must be a number >= 1, got 0.5"),
        (replace(VALLEY, name="a/b"),
         "a problem's name is letters, digits, '_', '-' and '.', got 'a/b'"),
    ],
)  # fmt: skip
def test_what_is_no_problem_is_refused(asked, sentence):
    with pytest.raises(RequestError) as refusal:
        find_problems(asked)
    assert str(refusal.value) == sentence


def test_settings_go_into_name_title_and_the_word_on_rates():
    found = find_problem("rosenbrock:noise=0.25")
    assert (found.name, found.noise, found.seeded) == ("rosenbrock-noise-0.25", 0.25, True)
    assert found.title.endswith("; noise of 0.25 on each gradient")
    assert found.rates.note.endswith("; chosen for another noise")
    assert find_problem("rosenbrock:noise=0.0").name == "rosenbrock"
    large = find_problem("quadratic:dimension=7,condition=1e5")
    assert large.name == "quadratic-dimension-7-condition-100000"
    assert large.start(0).shape == (7,)


@pytest.mark.parametrize("name", [n for n, m in gdfx.METHODS.items() if m.reach == "matrix"])
@pytest.mark.parametrize("problem", ["valley", "quadratic"])
def test_a_method_of_matrices_is_refused_where_there_are_none(name, problem):
    others = [n for n, other in PROBLEMS.items() if other.matrices is not None]
    with pytest.raises(RequestError) as refusal:
        race((name, 0.1), problem, steps=1)
    assert str(refusal.value) == (
        f"{name} is a method of matrices, and {problem} has none: it would only run what it takes "
        f"for other leaves, under its own name; problems with matrices are "
        f"{', '.join(others[:-1])} and {others[-1]}"
    )


def test_a_problem_says_which_leaves_are_matrices_unless_the_caller_does():
    def told(learning_rate, matrices=None):
        return optax.sgd(1.0 if matrices == "2d" else 2.0)

    matrix = PROBLEMS["matrix"]
    for factory, step in ((told, 1), (functools.partial(told, matrices="flax"), 2)):
        update = one((factory, 0.1), matrix).optimizer.update
        assert update(np.float32(1), optax.sgd(1.0).init(0.0))[0] == -step


def test_a_problem_is_found_by_its_module():
    assert find_problem("gdfx.lab.problems:VALLEY") is VALLEY
