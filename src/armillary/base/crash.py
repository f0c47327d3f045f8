"""Named places between two outside effects, where tests kill the process to prove that nothing is lost."""

import os
import signal
from pathlib import Path


def crash_point(name: str) -> None:
    """Die here by SIGKILL if `ARMILLARY_CRASH` names this point, as a power cut would; nothing otherwise.

    `ARMILLARY_CRASH=finish.before-commit` dies at each pass; with `ARMILLARY_CRASH_MARK=FILE` only while FILE does not
    exist, and makes it, so that the process that takes over lives. `ARMILLARY_CRASH=@FILE` reads the name from FILE each
    time and removes it in dying, so that a test can name one point after the other to processes that live on.
    """
    wanted = os.environ.get("ARMILLARY_CRASH")
    if wanted is None:
        return
    if wanted.startswith("@"):
        if _take(Path(wanted[1:]), name):
            os.kill(os.getpid(), signal.SIGKILL)
    elif wanted == name and _mark(os.environ.get("ARMILLARY_CRASH_MARK")):
        os.kill(os.getpid(), signal.SIGKILL)


def _take(file: Path, name: str) -> bool:
    try:
        if file.read_text() != name:
            return False
        file.unlink()  # of two processes at the same point, one dies
    except FileNotFoundError:
        return False
    return True


def _mark(mark: str | None) -> bool:
    if mark is None:
        return True
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
