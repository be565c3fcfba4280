"""``gdfx`` and ``python -m gdfx``: the command line, which needs typer and rich."""

import os
import sys
from importlib.util import find_spec

_NEEDED = ("rich", "typer")


def main() -> None:
    """Hand over to the commands, which are imported here and not before."""
    if any(find_spec(package) is None for package in _NEEDED):
        print(
            "gdfx: the command line needs rich and typer; "
            'in a checkout of gdfx: pip install -e ".[lab,testing]"',
            file=sys.stderr,
        )
        sys.exit(2)
    # Else the threads of LAPACK, which decomposes matrices on a CPU, fight with those of XLA.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.append("")  # module:factory finds modules of the current folder
    try:
        from gdfx.cli.app import app

        app(prog_name="gdfx")
    except KeyboardInterrupt:  # while the imports ran; later ones are the commands' own
        sys.exit(130)


if __name__ == "__main__":
    main()
