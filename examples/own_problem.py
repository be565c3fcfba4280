"""A problem of your own: a loss and a start are enough to sweep learning rates and to race.

The race's valley, turned by 30°: the axes of its ellipses are no longer those of the coordinates,
and AdaGrad, which scales each coordinate by itself, loses the lead that it has in the other.

Run it with `python examples/own_problem.py`. The same from the command line, in `examples/`:
`gdfx sweep -p own_problem:turned` and `gdfx race -p own_problem:turned -m adam=0.3 -m sgd=0.8`.
"""

import math
from typing import Any

from gdfx import lab

COS, SIN = math.cos(math.radians(30)), math.sin(math.radians(30))


def valley(w: Any) -> Any:
    x, y = w
    along, across = COS * x + SIN * y, COS * y - SIN * x
    return along**2 / 20 + across**2


turned = lab.problem(
    valley,
    [-7 * COS - 2 * SIN, -7 * SIN + 2 * COS],  # (-7, 2), turned
    name="turned",
    title="The valley, turned by 30°",
    loss_name="f(x, y)",
    minimum=(0, 0),
    steps=30,
    target=0.1,
)

if __name__ == "__main__":
    found = lab.sweep(["adagrad", "adam"], turned, rates=[0.1, 0.3, 1.0, 3.0])
    print(found)
    print(lab.race(found.best, turned))
