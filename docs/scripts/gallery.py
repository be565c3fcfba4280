"""Make the pictures of docs/gallery.md, by running the commands and the code that stand there.

Run it with `python docs/scripts/gallery.py` for all of them, or with headings behind it, as in
`python docs/scripts/gallery.py Paths`. The blocks under a heading run in an empty folder; what the
page shows there as `img/gallery/X` is the file X that they leave, in 256 colours to save bytes.
"""

import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

DOCS = Path(__file__).parents[1]
LANGUAGES = {"shell": ["bash", "-ec"], "python": [sys.executable, "-c"]}


def headings(text: str) -> dict[str, str]:
    """What stands under each heading of a page."""
    _, *parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the code of each block."""
    return re.findall(r"^```(shell|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shown(text: str) -> list[str]:
    """The pictures, as they are named in their folder."""
    return re.findall(r"\]\(img/gallery/(.*?)\)", text)


def make(text: str, folder: Path) -> None:
    """Run the blocks in a folder, and put the pictures that they leave into docs/img/gallery/."""
    (folder / "examples").symlink_to(DOCS.parent / "examples")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    places = os.environ | {"PATH": programs, "TMPDIR": str(folder)}
    for language, code in blocks(text):
        subprocess.run([*LANGUAGES[language], code], cwd=folder, env=places, check=True)
    for name in shown(text):
        path = DOCS / "img" / "gallery" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(smaller((folder / name).read_bytes()))


def smaller(picture: bytes) -> bytes:
    """A PNG in 256 colours; a GIF has few already."""
    image = Image.open(BytesIO(picture))
    if image.format != "PNG":
        return picture
    buffer = BytesIO()
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    under = headings((DOCS / "gallery.md").read_text())
    for heading in sys.argv[1:] or [heading for heading in under if shown(under[heading])]:
        with TemporaryDirectory() as folder:
            make(under[heading], Path(folder))
        print(heading, flush=True)
