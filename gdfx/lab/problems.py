"""The problems that the lab knows by name."""

from collections.abc import Callable

from gdfx.lab import landscapes, learned
from gdfx.lab.protocol import Problem

FACTORIES: dict[str, Callable[..., Problem]] = {
    factory.__name__: factory
    for factory in (
        landscapes.valley,
        landscapes.rosenbrock,
        landscapes.beale,
        landscapes.himmelblau,
        landscapes.styblinski_tang,
        landscapes.rastrigin,
        landscapes.saddle,
        landscapes.quadratic,
        landscapes.matrix,
        learned.breast_cancer,
        learned.diabetes,
        learned.digits,
        learned.autoencoder,
        learned.mnist_logistic,
        learned.mnist,
        learned.mnist_cnn,
        learned.transformer,
    )
}
"""What makes each problem; its keyword arguments are its settings."""

VALLEY, MNIST = landscapes.valley(), learned.mnist()
PROBLEMS: dict[str, Problem] = {name: make() for name, make in FACTORIES.items()} | {
    problem.name: problem for problem in (VALLEY, MNIST)
}
"""Each with its usual settings."""
