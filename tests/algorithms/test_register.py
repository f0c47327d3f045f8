import hashlib
import io
import tarfile

import pytest

from armillary.accounts.actor import Actor
from armillary.accounts.authenticate import make_owner
from armillary.algorithms import bundle as bundles
from armillary.algorithms.bundle import Bundle
from armillary.algorithms.register import by_digest, register, register_builtin, resolve
from armillary.base.errors import Conflict, NotAllowed, NotFound, UsageError
from armillary.base.storage import Store

OWNER = Actor("owner", "owners", is_owner=True)


def document(version="1.0.0", **more):
    return {
        "kind": "algorithm",
        "id": "stats",
        "version": version,
        "run": {"command": ["stats"]},
        "environment": {"site": True},
        **more,
    }


@pytest.fixture
async def tx(database):
    async with database.transaction() as tx:
        await make_owner(tx)
        yield tx


async def test_the_same_version_again_is_the_same(tx):
    first = await register(tx, OWNER, document(), None)
    again = await register(tx, OWNER, document(), None)
    assert first.is_new and not again.is_new
    assert first.registered.digest == again.registered.digest
    assert await by_digest(tx, first.registered.digest) == again.registered


async def test_other_content_under_the_same_version_is_refused(tx):
    await register(tx, OWNER, document(), None)
    with pytest.raises(Conflict, match="Raise the version"):
        await register(tx, OWNER, document(title="another"), None)
    with pytest.raises(Conflict, match="another bundle"):
        await register(tx, OWNER, document(), Bundle("a" * 64, 3))


async def test_a_selector_means_the_newest_version_that_begins_with_it(tx):
    for version in ("1.9.0", "1.10.0", "2.0.0", "1.2"):
        await register(tx, OWNER, document(version), None)
    found = {
        selector: (await resolve(tx, OWNER, "stats", selector)).algorithm.version
        for selector in (None, "1", "1.9", "1.2", "2")
    }
    assert found == {None: "2.0.0", "1": "1.10.0", "1.9": "1.9.0", "1.2": "1.2", "2": "2.0.0"}
    with pytest.raises(NotFound, match="its newest is"):
        await resolve(tx, OWNER, "stats", "3")
    with pytest.raises(NotFound, match="no algorithm"):
        await resolve(tx, OWNER, "nothing")
    with pytest.raises(UsageError):
        await resolve(tx, OWNER, "stats", "x")


async def test_another_groups_algorithm_is_not_there(tx):
    await register(tx, OWNER, document(), None)
    with pytest.raises(NotFound):
        await resolve(tx, Actor("ann", "ocean"), "stats")


async def test_a_worker_registers_nothing(tx):
    with pytest.raises(NotAllowed):
        await register(tx, Actor("worker:1", "owners", kind="worker"), document(), None)


async def test_a_lock_without_its_folder_is_refused(tx):
    with pytest.raises(UsageError, match="no bundle"):
        await register(tx, OWNER, document(environment={"lock": "requirements.lock"}), None)


async def test_built_in_algorithms_are_registered_at_every_start(tx):
    first = await register_builtin(tx, document())
    assert first.is_new and not (await register_builtin(tx, document())).is_new


def archive(name="algorithm.yaml", kind=tarfile.REGTYPE):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.size = 3 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"abc"))
    return file.getvalue()


async def chunks(data):
    yield data[:10]
    yield data[10:]


async def test_a_bundle_is_kept_under_its_digest(tmp_path):
    store, data = Store(str(tmp_path / "store")), archive()
    sha256 = hashlib.sha256(data).hexdigest()
    for _ in range(2):
        bundle = await bundles.receive(store, sha256, chunks(data))
    assert b"".join([part async for part in store.read(bundle.key)]) == data
    assert await bundles.known(store, sha256, len(data)) == bundle
    with pytest.raises(UsageError):
        await bundles.known(store, sha256, 1)
    with pytest.raises(NotFound):
        await bundles.known(store, "0" * 64, 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"text", archive()[:-12], archive("../out"), archive("/etc/passwd"), archive("x", tarfile.SYMTYPE)],
    ids=["empty", "text", "cut", "upwards", "absolute", "link"],  # the bytes hold the time, and so would the names
)
async def test_a_bundle_that_is_none_is_refused_and_leaves_nothing(tmp_path, data):
    store = Store(str(tmp_path / "store"))
    with pytest.raises(UsageError):
        await bundles.receive(store, hashlib.sha256(data).hexdigest(), chunks(data))
    with pytest.raises(UsageError, match="another SHA-256"):
        await bundles.receive(store, "0" * 64, chunks(archive()))
    assert [entry async for entry in store.list("bundles")] == []
