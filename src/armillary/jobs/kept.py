"""Folders of attempts that failed, kept to be looked at: recorded, then written, read file by file, collected in time."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from armillary.algorithms.specfile import MAX_KEEP_BYTES, MAX_KEEP_SECONDS
from armillary.base.crash import crash_point
from armillary.base.db import Database, Row, Transaction
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.base.ids import new_id
from armillary.base.storage import Store
from armillary.jobs import store

PREFIX = "kept/"
MAX_INDEX_BYTES = 2 << 20
MAX_FILES = 2000
HELP = "Send one line of JSON, {files, whole, for_seconds}, and then the bytes of the files that are kept."


@dataclass(frozen=True)
class Index:
    """What comes first: every file, and whether its bytes follow."""

    files: list[dict[str, Any]]
    is_whole: bool
    kept_for: timedelta

    @property
    def size_bytes(self) -> int:
        """How many bytes follow."""
        return sum(file["size"] for file in self.files if file["kept"])


@dataclass(frozen=True)
class Place:
    """Where the bytes of a file are."""

    key: str
    start: int
    end: int


async def save(
    database: Database, objects: Store, worker: UUID, job: UUID, lease: int, chunks: AsyncIterator[bytes]
) -> None:
    """Keep what a worker sends, if it holds the lease."""
    line, rest = await _first_line(chunks)
    index = read_index(line)
    key = f"{PREFIX}{job}/{new_id()}"
    async with database.transaction() as tx:
        if not await store.begin_kept(tx, worker, job, lease, key, index.files, index.is_whole, index.kept_for):
            raise Conflict("This worker does not hold that lease, or has sent its folder before.", "Go on.")
    crash_point("kept.before-write")
    written = await objects.write(key, _bounded(rest, index.size_bytes))
    if written.size_bytes != index.size_bytes:
        raise UsageError(f"{written.size_bytes} bytes came instead of {index.size_bytes}.", HELP)
    crash_point("kept.before-record")
    async with database.transaction() as tx:
        is_wanted = await store.end_kept(tx, key, written.size_bytes)
    if not is_wanted:  # its time was over before it had arrived
        await objects.delete([key])


async def find(tx: Transaction, job: UUID, attempt: int | None) -> Row:
    """What is kept of an attempt: of the last that left something, unless one is named."""
    row = await store.kept(tx, job, attempt)
    if row is None:
        of = f"attempt {attempt} of job {job}" if attempt else f"job {job}"
        raise NotFound(
            f"Nothing is kept of {of}.",
            "Folders of attempts that failed are kept for a day, or as the algorithm's `keep:` says.",
        )
    return row


def place(kept: Row, path: str) -> Place:
    """Where a file of a kept folder is; `NotFound` if it is not kept."""
    start = 0
    for file in kept["files"]:
        if file["path"] == path:
            if file["kept"]:
                return Place(kept["key"], start, start + file["size"])
            reason = "Inputs are in the catalogue." if path.startswith("inputs/") else "Raise `keep: {most: …}`."
            raise NotFound(f"{path} was there, but is not kept.", reason)
        start += file["size"] if file["kept"] else 0
    raise NotFound(f"There was no file {path}.", "`armillary job files` lists them.")


async def collect(database: Database, objects: Store, limit: int = 100) -> int:
    """Delete what has been kept long enough; returns how many folders."""
    async with database.transaction() as tx:
        keys = await store.expired_kept(tx, limit)
    crash_point("kept.before-delete")
    await objects.delete(keys)
    # The row goes last: bytes without one would never be found again.
    async with database.transaction() as tx:
        await store.drop_kept(tx, keys)
    return len(keys)


def read_index(line: bytes) -> Index:
    """Check what a worker says of a folder."""
    try:
        said = json.loads(line)
        files = [
            {"path": _path(one["path"]), "size": _size(one["size"]), "kept": one["kept"] is True}
            for one in said["files"]
        ]
        seconds = float(said["for_seconds"])
        index = Index(files, said["whole"] is True, timedelta(seconds=min(max(seconds, 60.0), MAX_KEEP_SECONDS)))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(f"The index is not understood: {error}.", HELP) from error
    if len(files) > MAX_FILES or index.size_bytes > MAX_KEEP_BYTES + MAX_INDEX_BYTES:
        raise UsageError("That is more than 2000 files or 5 GiB.", "Keep less.", field="keep.most")
    return index


def _path(path: Any) -> str:
    if not isinstance(path, str) or not path.isprintable() or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no path in a folder")
    return path


def _size(size: Any) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{size!r} is no size")
    return size


async def _first_line(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    begun = b""
    async for chunk in chunks:
        begun += chunk
        if b"\n" in chunk or len(begun) > MAX_INDEX_BYTES:
            break
    line, newline, first = begun.partition(b"\n")
    if not newline:
        raise UsageError("The index has no end.", HELP)

    async def rest() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for chunk in chunks:
            yield chunk

    return line, rest()


async def _bounded(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    left = most
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise UsageError(f"More than the {most} bytes came that were announced.", HELP)
        yield chunk
