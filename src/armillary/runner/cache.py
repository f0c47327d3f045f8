"""A cache of verified bytes by SHA-256, shared by all jobs and runners of a host: each object is fetched once.

An entry's modification time is set to one fixed moment when its bytes were verified. Whoever writes into it through a
job's hard link changes that time, so one look at size and time tells whether the bytes are still those. The access time
orders entries by last use. Nothing else is stored, so there is nothing that a kill could leave half written.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from armillary.base.crash import crash_point
from armillary.runner.lease import Object

VERIFIED_NS = 946_684_800 * 10**9  # 2000-01-01T00:00:00Z
KEEP_FRACTION = 0.9  # what is left after making room, so that room is made seldom

Fetch = Callable[[Object, IO[bytes]], str]
"""Writes an object's bytes and verifies them; says where they came from."""


@dataclass(frozen=True)
class Taken:
    """An object that was linked into a job's folder."""

    object: Object
    path: Path
    inode: int
    source: str
    seconds: float


class Cache:
    """One cache folder; any number of threads and processes may use it at once."""

    def __init__(self, folder: Path, limit_bytes: int, fetch: Fetch) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._fetch = fetch
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"
        self._locks = folder / "locks"
        for place in (self._objects, self._incoming, self._locks):
            place.mkdir(parents=True, exist_ok=True)
        self._booted_ns = int(psutil.boot_time()) * 10**9
        with self._locked("size"):
            self._remove_unfinished()
            self._write_size(sum(entry.stat().st_size for entry in self._entries()))

    def take(self, wanted: Object, to: Path) -> Taken:
        """Put the object at `to`, fetched if need be; the link is not to be written through."""
        begun = time.monotonic()
        if (taken := self.take_if_here(wanted, to)) is not None:
            return taken
        with self._locked(wanted.sha256):
            for _ in range(3):  # another process may evict it as it comes
                # Somebody may have fetched it while we waited for the lock.
                if (taken := self.take_if_here(wanted, to)) is not None:
                    return taken
                source = self._bring(wanted)
                if self._link(wanted, to):
                    return Taken(wanted, to, to.stat().st_ino, source, time.monotonic() - begun)
        raise OSError(errno.ENOSPC, "the cache evicts objects as they come", str(self.folder))

    def take_if_here(self, wanted: Object, to: Path) -> Taken | None:
        """The same without fetching."""
        begun = time.monotonic()
        if not self._is_good(wanted) or not self._link(wanted, to):
            return None
        return Taken(wanted, to, to.stat().st_ino, "cache", time.monotonic() - begun)

    def is_changed(self, taken: Taken) -> bool:
        """Whether the bytes that others share were changed through a job's link; if so the entry is gone now."""
        for path in (taken.path, self._entry(taken.object)):
            try:
                status = path.lstat()
            except OSError:
                continue
            if status.st_ino != taken.inode:
                continue  # the job replaced its link, or the entry was evicted and came anew
            if (status.st_size, status.st_mtime_ns) != (taken.object.size, VERIFIED_NS):
                self.evict(taken.object)
                return True
            return False
        return False

    def evict(self, wanted: Object) -> None:
        """Forget an object."""
        with contextlib.suppress(FileNotFoundError):
            self._entry(wanted).unlink()
            self._add_size(-wanted.size)

    # One object ------------------------------------------------------------------------------------------------

    def _entry(self, wanted: Object) -> Path:
        return self._objects / wanted.sha256[:2] / wanted.sha256

    def _is_good(self, wanted: Object) -> bool:
        entry = self._entry(wanted)
        try:
            status = entry.stat()
        except FileNotFoundError:
            return False
        # An entry is not synced: one from before a power cut may not be what was verified, so it is fetched again.
        is_whole = status.st_size == wanted.size and status.st_mtime_ns == VERIFIED_NS
        if not is_whole or status.st_ctime_ns < self._booted_ns:
            self.evict(wanted)
            return False
        return True

    def _link(self, wanted: Object, to: Path) -> bool:
        entry = self._entry(wanted)
        try:
            os.utime(entry, ns=(time.time_ns(), VERIFIED_NS))
            os.link(entry, to)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            # Another disk, or too many links: the job gets a copy of its own.
            shutil.copyfile(entry, to)
            os.utime(to, ns=(time.time_ns(), VERIFIED_NS))
        return True

    def _bring(self, wanted: Object) -> str:
        self._make_room(wanted.size)
        try:
            return self._download(wanted)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # The disk is smaller than the bound says: give back what nobody uses, and try once more.
            self._evict_down_to(0)
            return self._download(wanted)

    def _download(self, wanted: Object) -> str:
        part = self._incoming / f"{wanted.sha256}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            with part.open("xb") as stream:
                source = self._fetch(wanted, stream)
            part.chmod(0o444)
            os.utime(part, ns=(time.time_ns(), VERIFIED_NS))
            crash_point("cache.before-rename")
            entry = self._entry(wanted)
            entry.parent.mkdir(exist_ok=True)
            part.rename(entry)
        finally:
            part.unlink(missing_ok=True)
        self._add_size(wanted.size)
        return source

    # The bound -------------------------------------------------------------------------------------------------

    def _make_room(self, size: int) -> None:
        if self._read_size() + size > self.limit_bytes:
            self._evict_down_to(max(0, int(self.limit_bytes * KEEP_FRACTION) - size))

    def _evict_down_to(self, size_bytes: int) -> None:
        """Evict those used longest ago; first those that no job holds, since only they free space now."""
        with self._locked("evict"):
            found = []
            for entry in self._entries():
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    found.append((status.st_nlink > 1, status.st_atime_ns, status.st_size, entry))
            total = sum(size for _, _, size, _ in found)
            for _, _, size, entry in sorted(found, key=lambda one: one[:2]):
                if total <= size_bytes:
                    break
                entry.unlink(missing_ok=True)
                total -= size
            with self._locked("size"):
                self._write_size(total)

    def _entries(self) -> Iterator[Path]:
        return self._objects.glob("??/*")

    def size_bytes(self) -> int:
        """How much it holds, as counted."""
        return self._read_size()

    def _add_size(self, change: int) -> None:
        with self._locked("size"):
            self._write_size(max(0, self._read_size() + change))

    def _read_size(self) -> int:
        try:
            return int((self.folder / "size").read_text() or 0)
        except (FileNotFoundError, ValueError):
            return 0

    def _write_size(self, size: int) -> None:
        (self.folder / "size").write_text(str(size))

    def _remove_unfinished(self) -> None:
        for part in self._incoming.iterdir():
            pid = part.name.split(".")[1]
            if not psutil.pid_exists(int(pid)) or int(pid) == os.getpid():
                part.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold a lock among all processes and threads; its file goes when the last holder goes."""
        path = self._locks / name
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever held it before us may have removed the file: then we hold a lock that nobody else will see.
            try:
                is_ours = os.fstat(handle).st_ino == path.stat().st_ino
            except FileNotFoundError:
                is_ours = False
            if is_ours:
                break
            os.close(handle)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)
