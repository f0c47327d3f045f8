"""Every check of `doctor`: break exactly that, and see it named; a sound instance has no finding."""

from datetime import timedelta
from uuid import uuid4

import pytest

from armillary.base.ids import new_id
from armillary.rules import fire
from armillary.rules.fire import Rules
from armillary.testing.catalogue import Catalogue
from armillary.watchdog import doctor


@pytest.fixture
async def catalogue(database, tmp_path, clock):
    made = await Catalogue.make(database, tmp_path / "store")
    await made.collections("a", "b")
    await made.algorithm(inputs={"a": {}}, outputs={"b": {"collection": "b"}})
    await made.apply({"kind": "rule", "id": "r", "when": {"a": {"collection": "a"}}, "then": {"run": "noop"}})
    await made.granule("a", "one", content=b"content")
    rules = Rules()
    while await fire.react(database, rules):
        pass
    return made


async def named(catalogue, **options):
    report = await doctor.examine(catalogue.database, catalogue.store, **options)
    assert set(report.looked_at) == set(doctor.CHECKS)
    return {flaw.check for flaw in report.flaws}


async def sql(catalogue, *statements):
    async with catalogue.database.transaction() as tx:
        await tx.execute("set local session_replication_role = replica")  # past every trigger and foreign key
        for statement in statements:
            await tx.execute(statement)


async def test_a_sound_instance_has_no_finding(catalogue):
    assert await named(catalogue, checksums=True) == set()


async def test_bytes_that_are_gone_changed_or_short(catalogue):
    [key] = [key async for key, _ in catalogue.store.list()]
    path = catalogue.store.path(key)
    path.write_bytes(b"CONTENT")
    assert await named(catalogue) == set()
    assert await named(catalogue, checksums=True) == {"bytes"}
    path.write_bytes(b"short")
    assert await named(catalogue) == {"bytes"}
    path.unlink()
    assert await named(catalogue) == {"bytes"}


async def test_bytes_that_belong_to_nothing(catalogue):
    stray = catalogue.store.path(f"a/one/{uuid4()}/data.bin")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    assert await named(catalogue) == {"orphans"}


async def test_an_upload_that_nobody_abandoned(catalogue, clock):
    await catalogue.uploaded("a", "two", b"x", None, {})
    clock.advance(timedelta(days=2))
    assert "uploads" in await named(catalogue)


async def test_a_held_job_is_as_it_should_be(catalogue):
    await sql(catalogue, "update job set state = 'held'", "update job_queue set ready_at = 'infinity'")
    assert await named(catalogue) == set()


async def test_a_kept_folder_that_is_gone_late_or_nobodys(catalogue, clock):
    key = catalogue.store.path("kept/job/one")
    key.parent.mkdir(parents=True)
    key.write_bytes(b"bytes")
    assert await named(catalogue) == {"kept"}
    row = """insert into kept_folder (job_id, number, key, files, is_whole, size_bytes, expires_at)
             select id, 1, 'kept/job/one', '[]', true, 5, armillary_now() + interval '1 day' from job"""
    await sql(catalogue, row)
    assert await named(catalogue) == set()
    key.unlink()
    assert await named(catalogue) == {"kept"}
    key.write_bytes(b"bytes")
    await sql(catalogue, "update kept_folder set expires_at = armillary_now() - interval '1 hour'")
    assert await named(catalogue) == {"kept"}


BREAKS = {
    "leases": (
        f"update job_queue set worker_id = '{new_id()}', lease = 1, leased_at = armillary_now()",
        "update job set state = 'running'",
        """insert into attempt (job_id, number, leased_at, worker_id, host, pool, resources)
           select job_id, 1, leased_at, worker_id, 'here', 'default', '{}' from job_queue""",
    ),
    "queue": ("delete from job_queue",),
    "firings": ("update firing set job_id = null",),
    "outputs": ("update job set state = 'succeeded'", "delete from job_queue"),
    "attempts": (
        f"""insert into attempt (job_id, number, leased_at, worker_id, host, pool, resources)
            select id, 1, armillary_now(), '{new_id()}', 'here', 'default', '{{}}' from job""",
    ),
    "wakes": ("insert into wake (consumer, subject, tries) values ('rules', 'granule:a/one', 9)",),
    "timers": ("update firing set state = 'waiting', due_at = armillary_now() - interval '1 hour'",),
}


@pytest.mark.parametrize("check", BREAKS)
async def test_what_is_broken_is_named(catalogue, check):
    await sql(catalogue, *BREAKS[check])
    assert await named(catalogue) == {check}


def test_every_check_is_broken_by_a_test_here():
    assert set(doctor.CHECKS) == set(BREAKS) | {"bytes", "orphans", "uploads", "kept", "retired"}


async def test_a_retired_revision_that_a_job_needs_and_one_whose_upload_says_otherwise(catalogue, clock):
    await sql(catalogue, "update item set is_current = false, retired_at = armillary_now()")
    assert await named(catalogue) == set()
    clock.advance(timedelta(minutes=13))
    assert await named(catalogue) == {"retired"}
    await sql(catalogue, "delete from job_input")
    assert await named(catalogue) == set()
    await sql(catalogue, "update upload set state = 'abandoned'")
    assert await named(catalogue) == {"retired"}
    await sql(catalogue, "update item set discarded_at = retired_at")
    assert await named(catalogue) == set(), "its bytes may be there or not"
