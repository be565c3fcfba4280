"""Draw the races of docs/img/, in 128 colors to save bytes, and print the rates of the sweeps.

`race-valley.png` and `race-mnist.png` are what `gdfx race` draws. In `race-valley-swept.png` and
`race-turned-swept.png`, where the valley is turned by 30°, each method has the best of 31 rates,
as `gdfx sweep` finds it. Run it with `python docs/scripts/race.py`; it takes about two minutes.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from gdfx import lab
from gdfx.lab.problems import VALLEY

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

from own_problem import turned  # noqa: E402

TEN_A_DECADE = (1, 1.3, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8)
RATES = [round(digits * 10.0**k, 4) for k in (-2, -1, 0) for digits in TEN_A_DECADE] + [10]


def save(race: lab.Race, ending: str = "") -> None:
    """Put the figures into docs/img/."""
    with TemporaryDirectory() as folder:
        for path in race.save(folder):
            if path.suffix == ".png":
                image = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
                name = f"race-{path.stem}{ending}.png"
                image.save(ROOT / "docs" / "img" / name, optimize=True)


if __name__ == "__main__":
    save(lab.race())
    for problem in (VALLEY, turned):
        found = lab.sweep(problem=problem, rates=RATES)
        print(found)
        title = f"{problem.title}: each method at the best of {len(RATES)} learning rates"
        save(lab.race(found.best, replace(problem, title=title)), "-swept")
