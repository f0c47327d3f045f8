"""A maker of pictures that are never twice the same."""

import os
from pathlib import Path


def random(path: Path, out: Path) -> None:
    """Not a picture, but bytes that nobody has seen."""
    out.write_bytes(os.urandom(20))
