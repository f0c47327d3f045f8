"""How bytes travel to the store: as files on the same host, through the server, or to URLs that it signed."""

import contextlib
import ctypes
import hashlib
import io
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from armillary.base.errors import Conflict, TransientError, UsageError, disk_error
from armillary.base.ids import key_segment
from armillary.client.client import Client
from armillary.granules.granule import File

BLOCK_BYTES = 1 << 18  # which stays in a processor's cache between being read, hashed and written
WRITE_BACK_BYTES = 32 << 20  # so many are written before the disk is to begin with them
SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)
LARGE_BYTES = 8 << 20  # from here on a file is synced by itself, while others are still read
MANY_PATHS = 12  # from here on one sync of the file system beats one for each file and folder

TransferName = Literal["file", "relay", "signed"]
Count = Callable[[int], None]


@dataclass(frozen=True)
class Ticket:
    """Leave to write below one prefix."""

    id: str
    prefix: str
    transfer: TransferName
    root: str | None = None


class Content(Protocol):
    """What is sent under one path."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    def blocks(self) -> Iterator[bytes]:
        """Its bytes, from the beginning at each call."""


@dataclass(frozen=True)
class LocalFile:
    """A file here, as it was when it was listed."""

    path: str  # within the granule's folder
    source: Path
    size: int
    mtime_ns: int
    inode: int

    def blocks(self) -> Iterator[bytes]:
        """Its bytes; `Conflict` if it changes while it is read."""
        try:
            with self.source.open("rb", buffering=0) as stream:
                self._check(os.fstat(stream.fileno()))
                done = 0
                while block := stream.read(BLOCK_BYTES):
                    done += len(block)
                    if done > self.size:
                        raise self._changed()
                    yield block
                self._check(os.fstat(stream.fileno()))
        except OSError as error:
            raise UsageError(f"{self.source} cannot be read: {error.strerror}.", field="assets") from error
        if done != self.size:
            raise self._changed()

    def digest(self) -> File:
        """Its path, size and SHA-256."""
        return _digest(self)

    def _check(self, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns, status.st_ino) != (self.size, self.mtime_ns, self.inode):
            raise self._changed()

    def _changed(self) -> Conflict:
        return Conflict(f"{self.source} changed while it was read.", "Upload it again once it is complete.")


@dataclass(frozen=True)
class Bytes:
    """What exists in memory alone: a manifest."""

    path: str
    data: bytes

    @property
    def size(self) -> int:
        """How many."""
        return len(self.data)

    def blocks(self) -> Iterator[bytes]:
        """All at once."""
        yield self.data

    def digest(self) -> File:
        """Its path, size and SHA-256."""
        return _digest(self)


class Transfer(ABC):
    """One way for bytes; every way passes `testing/conformance/transfer.py`."""

    name: ClassVar[TransferName]

    def __init__(self, client: Client) -> None:
        self._client = client

    @staticmethod
    def of(name: TransferName, client: Client) -> "Transfer":
        """The way that a ticket names."""
        return {cls.name: cls for cls in (FileTransfer, RelayTransfer, SignedTransfer)}[name](client)

    def prepare(self, ticket: Ticket, paths: list[str]) -> None:  # noqa: B027 (most ways have nothing to prepare)
        """Learn what will be sent under a ticket."""

    @abstractmethod
    def put(self, ticket: Ticket, content: Content, count: Count) -> File:
        """Send one file, reading it once; what was sent."""

    def settle(self) -> None:  # noqa: B027
        """Return once all that was put will survive a power cut."""


class FileTransfer(Transfer):
    """Write into the store's folder on this host; file and folders are synced before `settle` returns."""

    name = "file"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._lock = threading.Lock()
        self._roots: dict[str, int] = {}  # open, so that a failed write-back is reported to us
        self._unsynced: set[Path] = set()
        self._folders: set[Path] = set()

    def put(self, ticket: Ticket, content: Content, count: Count) -> File:
        """Write the file under its final name, which nobody knows before the commit."""
        assert ticket.root is not None, "a file ticket names the store's root"
        target = Path(ticket.root, ticket.prefix, *map(key_segment, content.path.split("/")))
        try:
            self._make_folders(Path(ticket.root), target.parent)
            with target.open("xb", buffering=0) as stream:
                sent = _send(content, count, _Writing(stream))
                if sent.size >= LARGE_BYTES:
                    os.fsync(stream.fileno())
        except OSError as error:
            raise disk_error(error, "The store") from error
        with self._lock:
            if sent.size < LARGE_BYTES:
                self._unsynced.add(target)
        return sent

    def settle(self) -> None:
        """Sync what was written: one by one, or the whole file system where that is less work."""
        with self._lock:
            files, self._unsynced = self._unsynced, set()
            folders, self._folders = self._folders, set()
        try:
            if len(files) + len(folders) >= MANY_PATHS and _syncfs is not None:
                for descriptor in self._roots.values():
                    _sync_file_system(descriptor)
            else:
                for path in [*files, *sorted(folders, reverse=True)]:
                    _sync(path)
        except OSError as error:
            raise disk_error(error, "The store") from error

    def _make_folders(self, root: Path, folder: Path) -> None:
        with self._lock:
            if str(root) not in self._roots:
                self._roots[str(root)] = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            if folder in self._folders:
                return
            missing = [path for path in (folder, *folder.parents) if path.is_relative_to(root) and not path.exists()]
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # What is new is an entry of its parent, which is synced as well.
            self._folders.update([folder, *(path.parent for path in missing)])

    def __del__(self) -> None:
        for descriptor in self._roots.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)


class RelayTransfer(Transfer):
    """Send through the server, which answers with the checksum of what it stored."""

    name = "relay"

    def put(self, ticket: Ticket, content: Content, count: Count) -> File:
        """Stream the bytes; sent again from the beginning if the connection breaks."""
        reading = _Reading(content, count)
        answer = self._client.put_upload_file(ticket.id, content.path, reading.blocks, content.size)
        sent = reading.result()
        if (answer["size"], answer["sha256"]) != (sent.size, sent.sha256):
            raise TransientError(f"{content.path} arrived with other bytes than were sent.", "Send it again.")
        return sent


class SignedTransfer(Transfer):
    """Send to URLs of the object store itself, which the server signed."""

    name = "signed"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._urls: dict[tuple[str, str], str] = {}

    def prepare(self, ticket: Ticket, paths: list[str]) -> None:
        """Get a URL for each path."""
        for start in range(0, len(paths), 1000):
            urls = self._client.sign_upload(ticket.id, paths[start : start + 1000])
            self._urls |= {(ticket.id, path): url for path, url in urls.items()}

    def put(self, ticket: Ticket, content: Content, count: Count) -> File:
        """PUT the bytes; the length is said beforehand, as object stores demand."""
        reading = _Reading(content, count)
        headers = {"Content-Length": str(content.size), "Content-Type": "application/octet-stream"}
        url = self._urls.pop((ticket.id, content.path))
        self._client.request("PUT", url, content=reading.blocks, headers=headers)
        return reading.result()


class Prover:
    """Finds the nonce that proves to the server that we see its store's disk."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._proof: str | None = None
        self._is_known = False

    def proof(self) -> str | None:
        """The nonce, or None where the store is not ours to write."""
        with self._lock:
            if not self._is_known:
                self._proof = self._read()
                self._is_known = True
            return self._proof

    def _read(self) -> str | None:
        place = self._client.store().get("file")
        if not place or not os.access(place["root"], os.W_OK | os.X_OK):
            return None
        try:
            data = Path(place["root"], place["nonce_file"]).read_bytes()
        except OSError:
            return None
        return _as_text(data)


def _as_text(nonce: bytes) -> str:
    """The nonce file holds random bytes; the proof is their hexadecimal form."""
    return nonce.hex()


class _Reading:
    """One file on its way by HTTP: hashed as it is read, from the beginning at each try."""

    def __init__(self, content: Content, count: Count) -> None:
        self._content = content
        self._count = count
        self._counted = 0
        self._sent: File | None = None

    def blocks(self) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        for block in self._content.blocks():
            digest.update(block)
            size += len(block)
            if size > self._counted:  # a second try does not count what was counted before
                self._count(size - self._counted)
                self._counted = size
            if size == self._content.size:
                self._sent = File(self._content.path, size, digest.hexdigest())
            yield block
        self._sent = File(self._content.path, size, digest.hexdigest())

    def result(self) -> File:
        assert self._sent is not None, "the body was read to its end, or the request had failed"
        return self._sent


class _Writing:
    """Writes a file, and has the disk begin with it meanwhile, so that the sync at its end has little left to wait for."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = stream
        self._begun = self._written = 0

    def __call__(self, block: memoryview) -> int:
        count = self._stream.write(block)
        self._written += count
        if self._written - self._begun >= WRITE_BACK_BYTES and _sync_file_range is not None:
            length = self._written - self._begun
            # A hint: whether it can be followed changes nothing, the sync decides.
            _sync_file_range(
                self._stream.fileno(), ctypes.c_int64(self._begun), ctypes.c_int64(length), SYNC_FILE_RANGE_WRITE
            )
            self._begun = self._written
        return count


def _send(content: Content, count: Count, write: Callable[[memoryview], int]) -> File:
    digest, size = hashlib.sha256(), 0
    for block in content.blocks():
        digest.update(block)
        view = memoryview(block)
        while view:
            view = view[write(view) :]
        size += len(block)
        count(len(block))
    return File(content.path, size, digest.hexdigest())


def _digest(content: Content) -> File:
    return _send(content, lambda _: None, len)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find(name: str) -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


_syncfs, _sync_file_range = _find("syncfs"), _find("sync_file_range")


def _sync_file_system(descriptor: int) -> None:
    assert _syncfs is not None
    if _syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
