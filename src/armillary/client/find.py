"""Find what can be ingested: which paths are granules of which collection, and whether they are whole yet."""

import errno
import fcntl
import hashlib
import os
import signal
import stat
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from armillary.base.errors import ArmillaryError, NotFound, UsageError
from armillary.base.ids import check_name
from armillary.collections.collection import Collection
from armillary.collections.recognise import Candidate, granule_id, is_complete, is_signal, mismatch, recognise

MAX_MEMBERS = 100_000
UNFINISHED = (".part", ".partial", ".tmp", ".filepart", ".crdownload", "~")

State = Literal["created", "revised", "same", "planned", "skipped", "failed"]


@dataclass(frozen=True)
class PathOutcome:
    """What became of one path, and why."""

    path: Path
    state: State
    collection: str | None = None
    granule: str | None = None
    revision: int | None = None
    size_bytes: int = 0
    reason: str = ""
    problem: ArmillaryError | None = None


@dataclass(frozen=True)
class Signature:
    """What changes when something is written to."""

    files: int
    size_bytes: int
    newest_ns: int


@dataclass(eq=False)
class Found:
    """A path that belongs to a collection, as it was when it was last looked at."""

    path: Path
    collection: Collection
    granule: str
    signature: Signature
    seen_at: float  # when it was first seen to be like that, on the monotonic clock

    @property
    def key(self) -> tuple[str, str]:
        """What the catalogue would call it."""
        return (self.collection.id, self.granule)

    @property
    def scratch(self) -> str:
        """A name for its temporary folder."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:32]

    def outcome(self, state: State, **changes: Any) -> PathOutcome:
        """What became of it."""
        plain = PathOutcome(self.path, state, self.collection.id, self.granule, size_bytes=self.signature.size_bytes)
        return replace(plain, **changes)

    def has_changed(self) -> bool:
        """Whether something was written to it since, or it is gone."""
        try:
            return signature(self.path) != self.signature
        except OSError:
            return True

    def why_not_ready(self, quiet: timedelta) -> str:
        """Why it is not to be taken yet; empty if it is."""
        if not self._is_announced():
            return f"its signal file {self.collection.signal} is not there"
        try:
            now = signature(self.path)
            writer = open_for_writing(self.path)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        if writer is not None:
            return f"another process has {writer.name} open for writing"
        if now != self.signature:
            self.signature, self.seen_at = now, time.monotonic()
            return "it is still changing"
        quiet = max(quiet, self.collection.settle)
        unchanged = max(time.monotonic() - self.seen_at, time.time() - now.newest_ns / 1e9)
        if unchanged < quiet.total_seconds():
            return f"it changed less than {quiet.total_seconds():g} s ago"
        return ""

    def _is_announced(self) -> bool:
        if self.collection.signal is None:
            return True
        beside = [entry.name for entry in os.scandir(self.path.absolute().parent)]
        inside = [entry.name for entry in os.scandir(self.path)] if self.path.is_dir() else beside
        return is_complete(self.collection.signal, self.path.name, beside, inside)


def find(paths: Iterable[Path], specs: Sequence[Collection], *, chosen: bool = False) -> Iterator[Found | PathOutcome]:
    """Every path that belongs to a collection, below those that were named; and why others do not."""
    seen: set[Path] = set()
    for path in paths:
        path = Path(os.path.normpath(path.absolute()))
        for one in _visit(path, specs, chosen=chosen, is_named=True):
            if one.path not in seen:
                seen.add(one.path)
                yield one


def signature(path: Path) -> Signature:
    """Number, size and newest time of a file or of all that a folder holds."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        return Signature(1, status.st_size, status.st_mtime_ns)
    statuses = [file.stat() for file in _files(path)]
    newest = max((one.st_mtime_ns for one in statuses), default=status.st_mtime_ns)
    return Signature(len(statuses), sum(one.st_size for one in statuses), newest)


def open_for_writing(path: Path) -> Path | None:
    """The file, or a file in the folder, that some process has open for writing. Known on local disks only.

    The kernel grants a read lease (fcntl(2)) exactly if nobody has; where it does not tell, nobody is assumed to.
    """
    for file in [path] if path.is_file() else _files(path):
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # A writer that comes while we hold the lease is announced by a signal: by one that nobody minds.
            fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return file
        finally:
            os.close(handle)
    return None


class NoDataError(NotFound):
    """A path that leads to no data."""


# Walking ---------------------------------------------------------------------------------------------------------


def _visit(path: Path, specs: Sequence[Collection], *, chosen: bool, is_named: bool) -> Iterator[Found | PathOutcome]:
    problem = _unfit(path)
    if problem is not None:
        # What is no data is left out where nobody named it; data that cannot be taken is a failure.
        is_data = is_named or not isinstance(problem, NoDataError)
        yield PathOutcome(path, "failed" if is_data else "skipped", reason=problem.message, problem=problem)
        return
    is_folder = path.is_dir()
    if not is_folder and is_signal(specs, path.name) and not is_named:
        return
    match = _match(path, specs, chosen=chosen, is_named=is_named)
    if isinstance(match, Collection):
        yield from _found(path, match)
    elif is_folder and match is None:
        yield from _descend(path, specs, chosen=chosen, is_named=is_named)
    else:
        assert match is not None
        is_mistake = is_named or match.message.startswith("Several")
        yield PathOutcome(path, "failed" if is_mistake else "skipped", reason=match.message, problem=match)


def _match(path: Path, specs: Sequence[Collection], *, chosen: bool, is_named: bool) -> Collection | UsageError | None:
    """The collection of a path; None for a folder that is none itself and is looked into."""
    candidate = Candidate(path.name, path.is_dir(), lambda: _members(path))
    if chosen:
        collection = specs[0]
        reason = mismatch(collection, candidate)
        is_taken = (
            reason is None and (not candidate.is_directory or collection.recognise or collection.asset == "tree")
        ) or (is_named and not candidate.is_directory)
        if is_taken:
            return collection
        return None if candidate.is_directory else UsageError(f"{path.name!r} is not of {collection.id}: {reason}.")
    recognition = recognise(specs, candidate)
    for collection in specs:
        if collection.id == recognition.collection:
            return collection
    return None if candidate.is_directory and not recognition.matches else recognition.problem()


def _found(path: Path, collection: Collection) -> Iterator[Found | PathOutcome]:
    try:
        granule = check_name(granule_id(collection, path.name), "granule")
        yield Found(path, collection, granule, signature(path), time.monotonic())
    except ArmillaryError as problem:
        yield PathOutcome(path, "failed", collection.id, reason=problem.message, problem=problem)
    except OSError as error:
        unreadable = UsageError(f"{path} cannot be read: {error.strerror}.")
        yield PathOutcome(path, "failed", collection.id, reason=unreadable.message, problem=unreadable)


def _descend(path: Path, specs: Sequence[Collection], *, chosen: bool, is_named: bool) -> Iterator[Found | PathOutcome]:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        problem = UsageError(f"{path} cannot be read: {error.strerror}.", "Give yourself leave to read it.")
        yield PathOutcome(path, "failed", reason=problem.message, problem=problem)
        return
    taken = [name for name in names if not name.startswith(".") and not name.endswith(UNFINISHED)]
    if is_named and not taken:
        problem = UsageError(f"{path} holds nothing to ingest.", "Name another folder.")
        yield PathOutcome(path, "skipped", reason=problem.message, problem=problem)
    for name in taken:
        inner = path / name
        # A link to a folder may lead round in a circle.
        if not (inner.is_symlink() and inner.is_dir()):
            yield from _visit(inner, specs, chosen=chosen, is_named=False)


def _unfit(path: Path) -> ArmillaryError | None:
    """Why a path can be no granule, whatever it is called."""
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return UsageError(f"The name {os.fsencode(path)!r} is not UTF-8.", "Rename it.")
    except FileNotFoundError:
        return NoDataError(f"{path} is a link to nothing." if path.is_symlink() else f"{path} does not exist.")
    except OSError as error:
        return UsageError(f"{path} cannot be read: {error.strerror}.", "Give yourself leave to read it.")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return NoDataError(f"{path} is neither a file nor a folder.", "Leave it out.")
    return None


def _members(path: Path) -> Iterator[str]:
    """What a folder or a zip archive holds; nothing of any other file."""
    if path.is_dir():
        names: Iterable[str] = (file.relative_to(path).as_posix() for file in _files(path))
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, NotImplementedError):
            names = ()
    return islice(iter(names), MAX_MEMBERS)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names) if Path(parent, name).is_file())
