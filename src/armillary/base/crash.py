"""Named places between two outside effects, where tests kill the process to prove that nothing is lost."""

import os
import signal


def crash_point(name: str) -> None:
    """Die here by SIGKILL if `ARMILLARY_CRASH` names this point, as a power cut would; nothing otherwise.

    `ARMILLARY_CRASH=finish.after-upload` dies at the first pass; with `ARMILLARY_CRASH_MARK=FILE` only while FILE
    does not exist, and makes it, so that the process that takes over lives.
    """
    if os.environ.get("ARMILLARY_CRASH") != name:
        return
    mark = os.environ.get("ARMILLARY_CRASH_MARK")
    if mark:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
