"""A folder of a runner's own, and the removal of what runners that were killed have left: folders and processes."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from armillary.base.crash import crash_point
from armillary.base.errors import UsageError
from armillary.runner.environment import remove_read_only
from armillary.runner.family import kill_leftovers

PREFIX = "runner-"
LOCK = ".lock"


class WorkFolder:
    """Held by a lock as long as this process lives."""

    def __init__(self, parent: Path, end_leftovers: Callable[[Path], None] = lambda _: None) -> None:
        """`end_leftovers` ends what a dead runner's jobs left running outside of its processes' reach."""
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with _locked(parent / LOCK):  # so that nobody sweeps a folder between its making and its locking
                sweep(parent, end_leftovers)
                self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
                self._handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UsageError(
                f"{parent} cannot be used: {error.strerror}.", "Give another --work.", field="--work"
            ) from error

    def __enter__(self) -> "WorkFolder":
        return self

    def __exit__(self, *_: object) -> None:
        remove_read_only(self.path)
        os.close(self._handle)


def sweep(parent: Path, end_leftovers: Callable[[Path], None] = lambda _: None) -> None:
    """End what dead runners' jobs left running, and remove their folders."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue  # its runner lives
        end_leftovers(folder)
        kill_leftovers(folder)
        crash_point("runner.before-sweep")
        remove_read_only(folder)
        os.close(handle)


@contextlib.contextmanager
def _locked(path: Path):  # type: ignore[no-untyped-def]
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
