"""The home of an instance: who runs it now, where it answers, and the owner's token."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from armillary.base.errors import Conflict


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home; a second holder is refused and told who the first is. The kernel lets go when we die."""
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 500, 0).decode() or "another process"
            raise Conflict(
                f"{home} is run by {holder} already.", "Use that one, or give this one a home of its own."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def write_private(path: Path, text: str) -> None:
    """Put a file in place whole, for us alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def announce(home: Path, server: dict[str, Any]) -> None:
    """Say where the server of this home answers, for the clients on this machine."""
    write_private(home / "run" / "server.json", json.dumps(server, indent=1))


def withdraw(home: Path) -> None:
    """It answers no longer."""
    with contextlib.suppress(FileNotFoundError):
        (home / "run" / "server.json").unlink()
