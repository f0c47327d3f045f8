"""Logs: what an attempt wrote, in bounded chunks that survive the worker; of a long one head and tail are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from armillary.base.db import Row, Transaction
from armillary.base.errors import UsageError
from armillary.base.wakes import JOBS
from armillary.jobs import store

MAX_CHUNK_BYTES = 256 * 1024
HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 20
READ_CHUNKS = 64  # in one answer


@dataclass(frozen=True)
class Chunk:
    """A piece of an attempt's log; its position is in bytes from the log's beginning."""

    job_id: UUID
    lease: int
    position: int
    data: bytes


@dataclass(frozen=True)
class LogPart:
    """A part of a log; `next_offset` is where to read on."""

    data: bytes
    next_offset: int


async def append(tx: Transaction, worker_id: UUID, chunks: Sequence[Chunk]) -> list[tuple[UUID, int]]:
    """Keep chunks; the same again changes nothing. Returns the leases that this worker does not hold, nor held."""
    for chunk in chunks:
        if len(chunk.data) > MAX_CHUNK_BYTES or chunk.position < 0:
            raise UsageError(
                "A chunk of a log has at most 256 KiB and a position.", "Send it in parts.", field="chunks"
            )
    taken = await store.append_log(tx, worker_id, chunks)
    for attempt in taken:
        if attempt["log_end"] > HEAD_BYTES + TAIL_BYTES:
            await store.trim_log(tx, attempt, HEAD_BYTES, TAIL_BYTES)
    if taken:
        tx.wake(JOBS)
    known = {(attempt["job_id"], attempt["number"]) for attempt in taken}
    return sorted({(chunk.job_id, chunk.lease) for chunk in chunks} - known)


async def read(tx: Transaction, job: UUID, attempt: int, offset: int) -> LogPart:
    """The log from `offset` on, as much as fits in one answer; what was left out is said in its place."""
    return assemble(await store.read_log(tx, job, attempt, offset, READ_CHUNKS), offset)


def assemble(chunks: Sequence[Row], offset: int) -> LogPart:
    """Bytes of ordered chunks from `offset` on."""
    parts = []
    for chunk in chunks:
        position, data = chunk["position"], chunk["data"]
        if position + len(data) <= offset:
            continue
        if position > offset:
            parts.append(f"\n[… {position - offset:,} bytes left out …]\n".encode())
            offset = position
        parts.append(data[offset - position :])
        offset = position + len(data)
    return LogPart(b"".join(parts), offset)
