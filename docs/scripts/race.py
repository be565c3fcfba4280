"""Race the four methods and put the figures into docs/img/, in 128 colors to save bytes.

Run it with `python docs/scripts/race.py`; it takes about a minute.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from gdfx import lab

IMAGES = Path(__file__).parents[1] / "img"

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        for path in lab.race().save(folder):
            if path.suffix == ".png":
                image = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
                image.save(IMAGES / f"race-{path.name}", optimize=True)
