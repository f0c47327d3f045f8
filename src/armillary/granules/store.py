"""The SQL of granules, their revisions and their uploads."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb
from armillary.granules.granule import Granule, Reference

_GRANULE = """item.collection, item.granule, item.revision, is_current, digest, frame, geometry, bbox, starts_at, ends_at,
    properties, assets, size_bytes, item."group", item.created_by, item.created_at, upload.prefix, retired_at, discarded_at"""
_FROM = "from item join upload on upload.id = item.upload_id"


# Uploads -------------------------------------------------------------------------------------------------------


async def insert_uploads(tx: Transaction, rows: list[dict[str, Any]], expires: timedelta) -> datetime:
    """Record uploads before their first byte; returns when they expire."""
    expires_at: datetime = await tx.value("select armillary_now() + %s", [expires])
    await tx.execute_many(
        """insert into upload (id, collection, granule, prefix, created_by, "group", job_id, lease, expires_at)
           values (%(id)s, %(collection)s, %(granule)s, %(prefix)s, %(created_by)s, %(group)s, %(job)s, %(lease)s,
                   %(expires_at)s)""",
        [row | {"expires_at": expires_at} for row in rows],
    )
    return expires_at


async def uploads(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Uploads by their ids."""
    rows = await tx.rows(
        """select id, collection, granule, prefix, state, created_by, "group", job_id, lease,
                  expires_at <= armillary_now() as is_expired
           from upload where id = any(%s)""",
        [list(ids)],
    )
    return {row["id"]: row for row in rows}


async def abandon(tx: Transaction, ids: Sequence[UUID], created_by: str) -> None:
    """Give up open uploads of this account."""
    await tx.execute(
        """update upload set state = 'abandoned', ended_at = armillary_now()
           where id = any(%s) and state = 'open' and created_by = %s""",
        [list(ids), created_by],
    )


async def abandon_expired(tx: Transaction) -> int:
    """Give up every open upload whose time is over; its commit fails from now on."""
    return await tx.execute(
        """update upload set state = 'abandoned', ended_at = armillary_now()
           where state = 'open' and expires_at <= armillary_now()"""
    )


async def abandoned(tx: Transaction, grace: timedelta, limit: int) -> list[Row]:
    """Abandoned uploads whose bytes may go: no writer that began before is still at it."""
    return await tx.rows(
        """select id, prefix from upload where state = 'abandoned' and ended_at + %s <= armillary_now()
           order by ended_at limit %s""",
        [grace, limit],
    )


async def mark_deleted(tx: Transaction, ids: Sequence[UUID]) -> None:
    """The bytes of these uploads are gone."""
    await tx.execute("update upload set state = 'deleted' where id = any(%s) and state = 'abandoned'", [list(ids)])


async def abandoned_count(tx: Transaction, grace: timedelta) -> Row:
    """Abandoned uploads whose bytes still stand, and how many of them could have been deleted by then."""
    row = await tx.row(
        """select count(*) as waiting, count(*) filter (where ended_at + %s <= armillary_now()) as overdue
           from upload where state = 'abandoned'""",
        [grace],
    )
    assert row is not None
    return row


async def prefixes_in_use(tx: Transaction, prefixes: Sequence[str]) -> set[str]:
    """Those of these prefixes under which bytes may be."""
    rows = await tx.rows("select prefix from upload where prefix = any(%s) and state <> 'deleted'", [list(prefixes)])
    return {row["prefix"] for row in rows}


async def upload_group(tx: Transaction, upload: UUID) -> str | None:
    """To which group the bytes of a committed upload belong."""
    group: str | None = await tx.value("""select item."group" from item where upload_id = %s""", [upload])
    return group


# Commits -------------------------------------------------------------------------------------------------------


async def reserve(tx: Transaction, granules: Sequence[tuple[str, str]]) -> None:
    """Make the rows of granules that have none yet, in the given order; whoever else makes one is waited for."""
    await tx.execute(
        """insert into granule (collection, id, revision, version)
           select collection, id, 0, 0 from unnest(%s::text[], %s::text[]) as wanted (collection, id)
           on conflict (collection, id) do nothing""",
        [[granule[0] for granule in granules], [granule[1] for granule in granules]],
    )


async def lock(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Uploads and their granules, locked in the order of the granules, with the current revisions' digests."""
    await tx.execute(
        """select from upload join granule on granule.collection = upload.collection and granule.id = upload.granule
           where upload.id = any(%s) order by granule.collection, granule.id for update of upload, granule""",
        [list(ids)],
    )
    # A statement of its own, which sees what was committed while the locks were waited for.
    rows = await tx.rows(
        """select upload.id, upload.state, upload.collection, upload.granule, upload.prefix, upload.created_by,
                  upload."group", upload.job_id, upload.lease, upload.expires_at <= armillary_now() as is_expired,
                  granule.revision, granule.version, item.digest,
                  (select revision from item as own where own.upload_id = upload.id) as own_revision
           from upload
           join granule on granule.collection = upload.collection and granule.id = upload.granule
           left join item on item.collection = granule.collection and item.granule = granule.id
               and item.revision = granule.revision
           where upload.id = any(%s)""",
        [list(ids)],
    )
    return {row["id"]: row for row in rows}


async def abandon_unchanged(tx: Transaction, ids: Sequence[UUID]) -> None:
    """Give up uploads, locked by this transaction, of what the catalogue has already."""
    await tx.execute(
        "update upload set state = 'abandoned', ended_at = armillary_now() where id = any(%s)", [list(ids)]
    )


async def insert_revisions(tx: Transaction, revisions: Sequence[dict[str, Any]]) -> None:
    """Turn locked uploads into the current revisions of their granules and announce each, in one statement."""
    await tx.execute(
        """with new as materialized (
               select * from jsonb_to_recordset(%(revisions)s) as n (
                   upload uuid, collection text, granule text, revision integer, version bigint, digest text, frame text,
                   geometry jsonb, bbox double precision[], cells bigint[], starts_at timestamptz, ends_at timestamptz,
                   properties jsonb, assets jsonb, size_bytes bigint, "group" text, created_by text)),
           committed as (
               update upload set state = 'committed', ended_at = armillary_now() from new where upload.id = new.upload),
           moved as (
               update granule set revision = new.revision, version = new.version from new
               where granule.collection = new.collection and granule.id = new.granule),
           superseded as (
               update item set is_current = false, superseded_at = armillary_now() from new
               where item.collection = new.collection and item.granule = new.granule and new.revision > 1
                   and is_current),
           added as (
               insert into item (collection, granule, revision, upload_id, digest, frame, geometry, bbox, cells,
                                 starts_at, ends_at, properties, assets, size_bytes, "group", created_by)
               select collection, granule, revision, upload, digest, frame, geometry, bbox, cells,
                      starts_at, ends_at, properties, assets, size_bytes, "group", created_by
               from new)
           select armillary_emit_all(
               array_agg('granule:' || collection || '/' || granule), array_agg(version),
               array_agg('granule.committed'::text), array_agg(created_by), array_agg("group"),
               array_agg(jsonb_build_object('collection', collection, 'granule', granule, 'revision', revision)))
           from new""",
        {"revisions": jsonb(revisions)},
    )


# Retention -----------------------------------------------------------------------------------------------------


async def surplus(tx: Transaction, collection: str, keep: int, after: Reference, limit: int) -> list[Reference]:
    """Revisions of a collection beyond the newest `keep` of their granules, that are not retired yet."""
    rows = await tx.rows(
        """select item.collection, item.granule, item.revision
           from item join granule on granule.collection = item.collection and granule.id = item.granule
           where item.collection = %(of)s and not is_current and retired_at is null
               and item.revision <= granule.revision - %(keep)s
               and (item.granule, item.revision) > (%(granule)s, %(revision)s)
           order by item.granule, item.revision limit %(limit)s""",
        {"of": collection, "keep": keep, "granule": after.id, "revision": after.revision, "limit": limit},
    )
    return [Reference(*row.values()) for row in rows]


async def retired(tx: Transaction, after: Reference, limit: int) -> list[Reference]:
    """Retired revisions whose bytes are still kept."""
    return await _retired(tx, "true", {}, after, limit)


async def discardable(tx: Transaction, after: Reference, grace: timedelta, limit: int) -> list[Reference]:
    """Those whose grace is over, with no transaction open that may have read of them before they were retired."""
    condition = """retired_at + %(grace)s <= armillary_now() and not exists (
        select from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and xact_start < retired_at + %(grace)s)"""
    return await _retired(tx, condition, {"grace": grace}, after, limit)


async def _retired(
    tx: Transaction, condition: str, params: dict[str, Any], after: Reference, limit: int
) -> list[Reference]:
    rows = await tx.rows(
        f"""select collection, granule, revision from item
            where retired_at is not null and discarded_at is null and {condition}
                and (collection, granule, revision) > (%(collection)s, %(granule)s, %(revision)s)
            order by collection, granule, revision limit %(limit)s""",
        params | {"collection": after.collection, "granule": after.id, "revision": after.revision, "limit": limit},
    )
    return [Reference(*row.values()) for row in rows]


async def retired_since(tx: Transaction, revisions: Sequence[Reference]) -> dict[Reference, datetime]:
    """When those of these revisions were retired that were."""
    rows = await tx.rows(
        """select collection, granule, revision, retired_at from item
           join unnest(%s::text[], %s::text[], %s::integer[]) as asked (collection, granule, revision)
               using (collection, granule, revision)
           where retired_at is not null""",
        _columns(revisions),
    )
    return {Reference(row["collection"], row["granule"], row["revision"]): row["retired_at"] for row in rows}


async def retire(tx: Transaction, revisions: Sequence[Reference]) -> int:
    """Hide revisions; returns how many were not hidden yet."""
    change = "retired_at = armillary_now() where retired_at is null and not is_current"
    return await _mark(tx, revisions, change, "granule.retired")


async def recall(tx: Transaction, revisions: Sequence[Reference]) -> int:
    """Take back retirements."""
    return await _mark(tx, revisions, "retired_at = null where discarded_at is null", "granule.recalled")


async def discard(tx: Transaction, revisions: Sequence[Reference]) -> int:
    """Give up the bytes of retired revisions: the collector takes their uploads for abandoned ones."""
    change = "discarded_at = armillary_now() where retired_at is not null and discarded_at is null"
    count = await _mark(tx, revisions, change, "granule.discarded")
    if count:
        await tx.execute(
            """update upload set state = 'abandoned', ended_at = armillary_now()
               from item join unnest(%s::text[], %s::text[], %s::integer[]) as named (collection, granule, revision)
                   using (collection, granule, revision)
               where upload.id = item.upload_id and upload.state = 'committed' and discarded_at is not null""",
            _columns(revisions),
        )
    return count


async def _mark(tx: Transaction, revisions: Sequence[Reference], change: str, kind: str) -> int:
    """Change some of these revisions and tell it, under the locks of their granules, taken in the order of a commit."""
    if not revisions:
        return 0
    columns = _columns(revisions)
    await tx.execute(
        """select from granule where (collection, id) in (select * from unnest(%s::text[], %s::text[]))
           order by collection, id for update""",
        columns[:2],
    )
    assignment, _, condition = change.partition(" where ")
    count: int = await tx.value(
        f"""with changed as (
               update item set {assignment}
               from unnest(%s::text[], %s::text[], %s::integer[]) as named (collection, granule, revision)
               where item.collection = named.collection and item.granule = named.granule
                   and item.revision = named.revision and {condition}
               returning item.collection, item.granule, item.revision, item."group"),
           told as (
               select collection, granule, "group", jsonb_agg(revision order by revision) as revisions
               from changed group by collection, granule, "group"),
           moved as (
               update granule set version = version + 1 from told
               where granule.collection = told.collection and granule.id = told.granule
               returning granule.collection, granule.id, granule.version, told."group", told.revisions),
           emitted as materialized (
               select armillary_emit_all(
                   array_agg('granule:' || collection || '/' || id), array_agg(version), array_agg(%s::text),
                   array_agg('system:retention'::text), array_agg("group"),
                   array_agg(jsonb_build_object('collection', collection, 'granule', id, 'revisions', revisions)))
               from moved having count(*) > 0)
           select (select count(*) from changed) + 0 * (select count(*) from emitted)""",
        [*columns, kind],
    )
    return count


def _columns(revisions: Sequence[Reference]) -> list[Any]:
    return [
        [one.collection for one in revisions],
        [one.id for one in revisions],
        [one.revision for one in revisions],
    ]


# Reading -------------------------------------------------------------------------------------------------------


async def find(
    tx: Transaction, collection: str, granule: str, revision: int | None, scope: dict[str, Any]
) -> Granule | None:
    """One revision (the current one unless named) that the actor may see."""
    which = "is_current" if revision is None else "item.revision = %(revision)s"
    return await tx.one(
        Granule,
        f"""select {_GRANULE} {_FROM} where item.collection = %(collection)s and item.granule = %(granule)s and {which}
            and {VISIBLE.replace('"group"', 'item."group"')}""",
        scope | {"collection": collection, "granule": granule, "revision": revision},
    )


async def of_prefix(tx: Transaction, prefix: str) -> Granule | None:
    """The revision whose bytes are, or were, below a prefix."""
    return await tx.one(Granule, f"select {_GRANULE} {_FROM} where upload.prefix = %s", [prefix])


async def current(tx: Transaction, keys: Sequence[tuple[str, str]]) -> list[Granule]:
    """The current revisions of many granules, in no order."""
    return await tx.all(
        Granule,
        f"""select {_GRANULE} {_FROM} join unnest(%s::text[], %s::text[]) as wanted (collection, granule)
            on wanted.collection = item.collection and wanted.granule = item.granule where is_current""",
        [[key[0] for key in keys], [key[1] for key in keys]],
    )


async def at_revisions(tx: Transaction, keys: Sequence[tuple[str, str, int]]) -> list[Granule]:
    """Exactly these revisions, in no order."""
    return await tx.all(
        Granule,
        f"""select {_GRANULE} {_FROM} join unnest(%s::text[], %s::text[], %s::integer[]) as wanted (collection, granule, revision)
            on wanted.collection = item.collection and wanted.granule = item.granule and wanted.revision = item.revision""",
        [[key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]],
    )


async def proposed(tx: Transaction, condition: str, params: dict[str, Any], limit: int) -> list[Granule]:
    """Granules that satisfy a condition on `item`, newest first."""
    return await tx.all(
        Granule,
        f"select {_GRANULE} {_FROM} where {condition} order by starts_at desc nulls last, item.granule limit %(limit)s",
        params | {"limit": limit},
    )


async def revisions(tx: Transaction, collection: str, granule: str, scope: dict[str, Any]) -> list[Granule]:
    """All revisions, newest first."""
    return await tx.all(
        Granule,
        f"""select {_GRANULE} {_FROM} where item.collection = %(collection)s and item.granule = %(granule)s
            and {VISIBLE.replace('"group"', 'item."group"')} order by revision desc""",
        scope | {"collection": collection, "granule": granule},
    )


async def known(tx: Transaction, collection: str, ids: Sequence[str], scope: dict[str, Any]) -> list[Row]:
    """Which of these granules are catalogued, with their digests."""
    return await tx.rows(
        f"""select granule, revision, digest, size_bytes from item
            where collection = %(collection)s and granule = any(%(ids)s) and is_current and {VISIBLE}""",
        scope | {"collection": collection, "ids": list(ids)},
    )


async def count(tx: Transaction) -> int:
    """Granules catalogued."""
    total: int = await tx.value("select count(*) from granule where revision > 0")
    return total
