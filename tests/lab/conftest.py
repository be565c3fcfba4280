"""Races that many tests look at: tiny, and run once in each process."""

import io
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

from gdfx.lab import race
from gdfx.lab.problems import MNIST


@pytest.fixture(scope="session")
def tiny():
    """MNIST, measured often."""
    return replace(MNIST, every=2)


@pytest.fixture(scope="session")
def valley_race():
    textbook = ["textbook.sgd", "textbook.momentum", "textbook.adagrad", "textbook.adam"]
    return race(["sgd", "adam=0.2", *textbook], ["valley"])


@pytest.fixture(scope="session")
def mnist_race(tiny):
    return race(["sgd", "adam"], [tiny], steps=5, seeds=3, seed=11)


@pytest.fixture(autouse=True)
def _no_double_precision():
    assert not jax.config.jax_enable_x64


@pytest.fixture(scope="session")
def shown():
    """What is printed, on so many columns."""

    def show(renderable, width=80):
        console = Console(width=width, file=io.StringIO())
        console.print(renderable)
        return console.file.getvalue()

    return show


@pytest.fixture(scope="session")
def made_up(mnist_race):
    """The first method's run, with other numbers."""

    def make(**curves):
        result = mnist_race.results["mnist"]
        changed = {name: np.array(curve, float) for name, curve in curves.items()}
        run = replace(result.runs["sgd"], curves=result.runs["sgd"].curves | changed)
        return replace(result, runs={"sgd": run})

    return make
