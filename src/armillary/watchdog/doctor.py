"""`armillary doctor`: does what the database says agree with the bytes, the leases and the firings? One query per check.

The checks read all nouns' tables, which only an observer may; they change nothing.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from armillary.base.db import Database, Row
from armillary.base.storage import Store, object_key
from armillary.granules import collect

LATE = timedelta(minutes=2)  # what a sweep should long have done
PREFIXES = ("bundles/", "checkpoints/", "kept/")  # keys that belong to other rows than uploads


@dataclass(frozen=True)
class Flaw:
    """Something that is not as it should be, and what to do."""

    check: str
    subject: str
    message: str
    remedy: str


@dataclass
class Report:
    """What was looked at and what was found."""

    flaws: list[Flaw] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)


Check = Callable[[Database, Store, bool], AsyncIterator["Flaw | None"]]


async def examine(database: Database, store: Store, *, checksums: bool = False) -> Report:
    """Run every check; with `checksums` read every byte again."""
    report = Report()
    for name, check in CHECKS.items():
        report.looked_at[name] = 0
        async for flaw in check(database, store, checksums):
            report.looked_at[name] += 1
            if flaw:
                report.flaws.append(flaw)
    return report


async def missing_bytes(database: Database, store: Store, checksums: bool) -> AsyncIterator[Flaw | None]:
    """Every row's bytes exist with their size and, on request, their checksum."""
    remedy = "Restore the object from a backup, or ingest the granule again."
    async for row in _pages(database, _ITEMS):
        name = f"{row['collection']}/{row['granule']} revision {row['revision']}"
        files = {object_key(row["prefix"], file["path"]): file for file in row["files"]}
        sizes = await store.sizes(files)
        for key, file in files.items():
            found = sizes[key]
            if found != file["size"]:
                state = "are missing" if found is None else f"are {found} instead of {file['size']}"
                yield Flaw("bytes", name, f"The bytes of {file['path']} {state} ({key}).", remedy)
            elif checksums and await store.sha256(key) != file["sha256"]:
                yield Flaw("bytes", name, f"The bytes of {file['path']} have changed ({key}).", remedy)
            else:
                yield None


async def orphan_bytes(database: Database, store: Store, _checksums: bool) -> AsyncIterator[Flaw | None]:
    """Every byte under a published key belongs to a row."""
    batch: list[str] = []
    async for key, _size in store.list():
        if not key.startswith(PREFIXES):
            batch.append(key)
        if len(batch) == 1000:
            for flaw in await _orphans(database, batch):
                yield flaw
            batch = []
    for flaw in await _orphans(database, batch):
        yield flaw


async def kept_folders(database: Database, store: Store, _checksums: bool) -> AsyncIterator[Flaw | None]:
    """Every folder that is kept has its bytes, none is past its time, and every byte under their keys has a row."""
    async with database.transaction() as tx:
        rows = await tx.rows(
            "select *, expires_at + %(late)s < armillary_now() as is_late from kept_folder", {"late": LATE}
        )
    sizes = await store.sizes([row["key"] for row in rows])
    for row in rows:
        subject = f"job:{row['job_id']}, attempt {row['number']}"
        if row["is_late"]:
            remedy = "Is the watchdog's role running? It deletes such folders."
            yield Flaw("kept", subject, f"Its folder is kept past its time ({row['expires_at']}).", remedy)
        elif row["size_bytes"] is not None and sizes[row["key"]] != row["size_bytes"]:
            yield Flaw("kept", subject, f"The bytes of its folder are missing ({row['key']}).", "It goes in time.")
        else:
            yield None
    known = set(sizes)
    async for key, _size in store.list("kept/"):
        if key not in known:
            yield Flaw("kept", key, "These bytes of a kept folder belong to no row.", "Delete them.")


async def _orphans(database: Database, keys: list[str]) -> list[Flaw | None]:
    async with database.transaction() as tx:
        stray = set(await collect.strays(tx, keys))
    remedy = "Delete the object; nothing refers to it."
    return [Flaw("orphans", key, "These bytes belong to no upload.", remedy) if key in stray else None for key in keys]


async def _query(database: Database, check: str, sql: str, message: str, remedy: str) -> AsyncIterator[Flaw | None]:
    async with database.transaction() as tx:
        rows = await tx.rows(sql, {"late": LATE})
    for row in rows:
        yield Flaw(check, row["subject"], message.format(**row), remedy)


def _check(name: str, sql: str, message: str, remedy: str) -> Check:
    def run(database: Database, _store: Store, _checksums: bool) -> AsyncIterator[Flaw | None]:
        return _query(database, name, sql, message, remedy)

    return run


_ITEMS = """
    select item.collection, item.granule, item.revision, upload.prefix,
           (select jsonb_agg(file) from jsonb_each(assets) as asset (name, body),
                   jsonb_array_elements(body->'files' || coalesce(jsonb_build_array(body->'manifest') - 'null', '[]')) as file
            where file <> 'null'::jsonb) as files
    from item join upload on upload.id = item.upload_id
    where discarded_at is null and (item.collection, item.granule, item.revision) > (%(collection)s, %(granule)s, %(revision)s)
    order by item.collection, item.granule, item.revision limit 500"""


async def _pages(database: Database, sql: str) -> AsyncIterator[Row]:
    after: dict[str, object] = {"collection": "", "granule": "", "revision": 0}
    while True:
        async with database.transaction() as tx:
            rows = await tx.rows(sql, after)
        for row in rows:
            yield row
        if not rows:
            return
        after = {name: rows[-1][name] for name in after}


CHECKS: dict[str, Check] = {
    "bytes": missing_bytes,
    "orphans": orphan_bytes,
    "kept": kept_folders,
    "uploads": _check(
        "uploads",
        """select id::text as subject, expires_at from upload where state = 'open' and expires_at + %(late)s < armillary_now()""",
        "This upload has been open past its expiry ({expires_at}).",
        "Is the watchdog's role running? It abandons such uploads.",
    ),
    "leases": _check(
        "leases",
        """select 'job:' || job_id as subject, worker_id from job_queue
           where worker_id is not null
             and not exists (select from worker where worker.id = worker_id and state <> 'gone')""",
        "It is leased to worker {worker_id}, which is gone.",
        "Is the pools role running? It takes such leases back.",
    ),
    "queue": _check(
        "queue",
        """select 'job:' || job.id as subject, job.state from job
           left join job_queue on job_queue.job_id = job.id
           where (job.state in ('held', 'queued', 'running')) <> (job_queue.job_id is not null)
              or (job.state = 'running') <> (job_queue.worker_id is not null and job_queue.job_id is not null)""",
        "The job is {state}, and the queue disagrees.",
        "Report this: it is a bug that no retry mends.",
    ),
    "firings": _check(
        "firings",
        """select 'firing:' || firing.id as subject, rule from firing
           join rule on rule.id = firing.rule
           where state = 'submitted' and job_id is null and rule.spec->'then' ? 'run'""",
        "It was submitted by rule {rule} without a job.",
        "Report this: it is a bug.",
    ),
    "timers": _check(
        "timers",
        """select 'firing:' || id as subject, due_at from firing where state = 'waiting' and due_at + %(late)s < armillary_now()""",
        "It has waited past its time ({due_at}).",
        "Is the reactor's role running? It decides such firings.",
    ),
    "outputs": _check(
        "outputs",
        """select 'job:' || job.id as subject, missing.name from job
           join algorithm on algorithm.digest = job.algorithm_digest
           cross join lateral jsonb_each(coalesce(algorithm.spec->'outputs', '{}')) as missing (name, body)
           where job.state = 'succeeded' and not coalesce((missing.body->>'optional')::boolean, false)
             and not exists (select from job_output where job_id = job.id and output = missing.name)""",
        "It succeeded without its output {name!r}.",
        "Report this: it is a bug.",
    ),
    "retired": _check(
        "retired",
        """select distinct 'job:' || job_queue.job_id as subject, item.collection, item.granule, item.revision
           from item join job_input using (collection, granule, revision) join job_queue using (job_id)
           where retired_at + interval '10 minutes' + %(late)s < armillary_now()
           union all
           select 'granule:' || item.collection || '/' || item.granule, item.collection, item.granule, item.revision
           from item join upload on upload.id = item.upload_id
           where (discarded_at is null) <> (upload.state = 'committed') or (is_current and retired_at is not null)""",
        "Revision {revision} of {collection}/{granule} is retired though it is needed, or not as its upload says.",
        "Is the watchdog's role running? It takes back what came to be needed in the moment it was retired.",
    ),
    "attempts": _check(
        "attempts",
        """select 'job:' || attempt.job_id as subject, number from attempt
           where ended_at is null and not exists (
               select from job_queue where job_queue.job_id = attempt.job_id and lease = number and worker_id is not null)""",
        "Attempt {number} has not ended, and nobody holds its lease.",
        "Report this: it is a bug.",
    ),
    "wakes": _check(
        "wakes",
        """select 'wake:' || consumer || ':' || id as subject, tries, coalesce(error, 'nobody claimed it') as error
           from wake where due_at + %(late)s < armillary_now() or tries > 5
           union all
           select 'rule:' || rule, tries, coalesce(error, 'nobody claimed it') from rule_wake
           where due_at + %(late)s < armillary_now() or tries > 5""",
        "Work waits after {tries} tries: {error}.",
        "Is the reactor's role running? Its log says more.",
    ),
}
