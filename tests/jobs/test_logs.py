import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.base.errors import UsageError
from armillary.jobs import logs, queue
from armillary.jobs.logs import HEAD_BYTES, MAX_CHUNK_BYTES, TAIL_BYTES, Chunk, assemble


@pytest.fixture
async def leased(world):
    worker = await world.worker()
    await world.submit(await world.granule("a"))
    (lease,) = await world.lease(worker)
    return worker, lease


async def append(world, worker, *chunks):
    async with world.database.transaction() as tx:
        return await logs.append(tx, worker.worker_id, chunks)


async def read(world, lease, offset=0):
    async with world.database.transaction() as tx:
        return await logs.read(tx, lease.job_id, lease.number, offset)


async def test_chunks_come_in_any_order_and_more_than_once(world, leased):
    worker, lease = leased
    first, second = (Chunk(lease.job_id, 1, position, data) for position, data in ((0, b"one "), (4, b"two")))
    for chunk in (second, first, first, second):
        assert await append(world, worker, chunk) == []
    found = await read(world, lease)
    assert (found.data, found.next_offset) == (b"one two", 7)
    assert (await read(world, lease, 5)).data == b"wo"
    assert (await read(world, lease, 7)) == logs.LogPart(b"", 7)


async def test_a_log_outlives_its_attempt_but_nobody_else_writes_into_it(world, leased):
    worker, lease = leased
    stranger = await world.worker()
    chunk = Chunk(lease.job_id, 1, 0, b"x")
    assert await append(world, stranger, chunk) == [(lease.job_id, 1)]
    assert await append(world, worker, Chunk(lease.job_id, 2, 0, b"x")) == [(lease.job_id, 2)]
    await world.finish(worker, await world.succeed(worker, lease))
    assert await append(world, worker, chunk) == []
    assert (await read(world, lease)).data == b"x"


async def test_a_lost_worker_writes_no_more(world, leased):
    worker, lease = leased
    await append(world, worker, Chunk(lease.job_id, 1, 0, b"early"))
    async with world.database.transaction() as tx:
        await queue.lose(tx, [worker.worker_id], "It was silent.")
    assert await append(world, worker, Chunk(lease.job_id, 1, 5, b"late")) == [(lease.job_id, 1)]
    assert (await read(world, lease)).data == b"early"


async def test_of_a_long_log_head_and_tail_are_kept_and_the_gap_is_named(world, leased):
    worker, lease = leased
    total = 6 * (HEAD_BYTES + TAIL_BYTES)
    for position in range(0, total, MAX_CHUNK_BYTES):
        await append(
            world, worker, Chunk(lease.job_id, 1, position, bytes([position // MAX_CHUNK_BYTES]) * MAX_CHUNK_BYTES)
        )
    assert await world.count("log_chunk") <= (HEAD_BYTES + TAIL_BYTES) / MAX_CHUNK_BYTES + 2
    found = await read(world, lease)
    assert found.next_offset == total
    assert b"bytes left out" in found.data
    assert found.data.startswith(b"\0" * MAX_CHUNK_BYTES)
    assert found.data.endswith(bytes([total // MAX_CHUNK_BYTES - 1]) * MAX_CHUNK_BYTES)


async def test_a_chunk_beyond_the_limit_is_refused(world, leased):
    worker, lease = leased
    with pytest.raises(UsageError):
        await append(world, worker, Chunk(lease.job_id, 1, 0, b"x" * (MAX_CHUNK_BYTES + 1)))


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), max_size=20), st.integers(0, 70))
def test_reading_from_any_offset_gives_the_rest(data, sizes, offset):
    chunks, position = [], 0
    for size in sizes:
        chunks.append({"position": position, "data": data[position : position + size]})
        position += size
    whole = data[:position]
    found = assemble([chunk for chunk in chunks if chunk["data"]], offset)
    assert found.data == whole[offset:]
    assert found.next_offset == max(offset, len(whole))
