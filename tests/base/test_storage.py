"""A store: written once, whole or not at all, its own instance's."""

import asyncio
import hashlib

import pytest

from armillary.base.errors import Conflict, NotFound, TransientError, UsageError
from armillary.base.storage import Store, object_key
from armillary.testing.disk import small_disk


async def chunks(*parts):
    for part in parts:
        yield part


async def test_what_was_written_is_read_with_ranges_and_sums(tmp_path):
    store = Store(str(tmp_path / "store"))
    written = await store.write("a/b/c", chunks(b"hello ", b"world"))
    assert (written.size_bytes, written.sha256) == (11, hashlib.sha256(b"hello world").hexdigest())
    assert await store.size("a/b/c") == 11
    assert b"".join([part async for part in store.read("a/b/c", 6, 9)]) == b"wor"
    assert await store.sha256("a/b/c") == written.sha256
    assert [key async for key, _ in store.list()] == ["a/b/c"]


async def test_a_key_is_never_written_twice_and_a_broken_stream_leaves_nothing(tmp_path):
    store = Store(str(tmp_path / "store"))
    await store.write("k", chunks(b"1"))
    with pytest.raises(Conflict):
        await store.write("k", chunks(b"2"))

    async def broken():
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.write("other", broken())
    assert [key async for key, _ in store.list()] == ["k"]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["k"]


async def test_another_instance_is_refused_its_own_is_not(tmp_path):
    store = Store(str(tmp_path / "store"))
    await store.claim("one")
    await Store(str(tmp_path / "store")).claim("one")
    with pytest.raises(Conflict, match="another instance"):
        await Store(str(tmp_path / "store")).claim("two")


async def test_who_reads_the_nonce_is_on_this_host(tmp_path):
    store = Store(str(tmp_path / "store"))
    await store.claim("one")
    nonce = (tmp_path / "store" / ".nonce").read_bytes().hex()
    assert store.is_same_host(nonce)
    assert not store.is_same_host("0" * 64)
    assert not store.is_same_host(None)


async def test_a_secret_is_one_for_all_servers_of_a_store_and_is_nobodys_object(tmp_path):
    first, second = Store(str(tmp_path / "store")), Store(str(tmp_path / "store"))
    assert await first.secret(".s", b"first") == await second.secret(".s", b"second") == b"first"
    made = await first.secret(".t")
    assert len(made) == 32
    assert await second.secret(".t") == made
    assert (tmp_path / "store" / ".s").stat().st_mode & 0o777 == 0o600
    assert [key async for key, _ in first.list()] == []


async def test_deleting_takes_empty_folders_along(tmp_path):
    store = Store(str(tmp_path / "store"))
    await store.write("a/b/c", chunks(b"1"))
    await store.delete(["a/b/c", "never/there"])
    assert list((tmp_path / "store").iterdir()) == []
    with pytest.raises(NotFound):
        [part async for part in store.read("a/b/c")]


def test_a_key_keeps_folders_and_encodes_the_rest():
    assert object_key("c/g/1", "A.SAFE/a b#.xml") == "c/g/1/A.SAFE/a%20b%23.xml"


async def test_a_full_disk_is_named_and_keeps_no_half(tmp_path):
    with small_disk(tmp_path / "small", "1m"):
        store = Store(str(tmp_path / "small"))
        with pytest.raises(TransientError, match=r"The store's disk is full\. Free some space"):
            await store.write("a/b", chunks(bytes(1 << 20), bytes(1 << 20)))
        assert [key async for key, _size in store.list()] == []


async def test_a_bucket_keeps_the_same_promises(bucket):
    store = Store(f"s3://{bucket.name}/armillary", bucket.options)
    await store.claim("one")
    written = await store.write("a/with space/c", chunks(b"hello ", b"world"))
    assert (written.size_bytes, written.sha256) == (11, hashlib.sha256(b"hello world").hexdigest())
    assert await store.sizes(["a/with space/c", "a/none"]) == {"a/with space/c": 11, "a/none": None}
    assert b"".join([part async for part in store.read("a/with space/c", 6, 9)]) == b"wor"
    assert await store.sha256("a/with space/c") == written.sha256
    assert [key async for key, _ in store.list()] == ["a/with space/c"]
    other = Store(f"s3://{bucket.name}/armillary", bucket.options)
    with pytest.raises(Conflict, match="another instance"):
        await other.claim("two")
    made = await asyncio.gather(*(one.secret(".s") for one in (store, other, store)))
    assert [len(one) for one in made] == [32] * 3 and len(set(made)) == 1
    assert await other.secret(".s", b"too late") == made[0]
    await other.delete([".s"])
    await store.delete(["a/with space/c", "a/none"])
    assert [key async for key, _ in store.list()] == []


@pytest.mark.parametrize(
    ("url", "options", "field"),
    [
        ("ftp://host/folder", {}, "store.url"),
        ("s3://bucket", {"colour": "red"}, "store.options"),
        ("s3://bucket", {"secret_access_key": "open"}, "store.options.secret_access_key"),
    ],
)
def test_a_store_that_cannot_be_opened_names_the_setting(url, options, field):
    with pytest.raises(UsageError) as refused:
        Store(url, options)
    assert refused.value.field == field
    assert "open" not in str(refused.value).replace("opened", "")
