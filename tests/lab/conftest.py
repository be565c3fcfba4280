"""Races that many tests look at: tiny, and run once in each process."""

import jax
import pytest

from gdfx.lab import race
from gdfx.lab.problems import Mnist


@pytest.fixture(scope="session")
def tiny():
    """MNIST, measured often."""
    return Mnist(every=2)


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
