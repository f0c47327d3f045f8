"""The SQL of traces: what happened within a window of the history, and what caused it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from armillary.base.db import Row, Transaction
from armillary.base.history import Window

_TOLD = "with told as materialized (select * from event where at >= %(since)s and at < %(until)s)"


async def committed(tx: Transaction, read: Window) -> list[Row]:
    """Revisions of granules, each with the upload that brought it."""
    return await tx.rows(
        f"""{_TOLD}
            select item.collection, item.granule, item.revision, item.size_bytes, item.created_at, item.created_by,
                   upload.created_at as begun_at, upload.job_id, upload.lease
            from told join item on item.collection = detail->>'collection' and item.granule = detail->>'granule'
                and item.revision = (detail->>'revision')::integer
            join upload on upload.id = item.upload_id where kind = 'granule.committed'""",
        read.params,
    )


async def fired(tx: Transaction, read: Window) -> list[Row]:
    """Firings that were decided."""
    return await tx.rows(
        f"""{_TOLD}
            select told.at, firing.id, firing.rule, firing.state, firing.reason, firing.created_at, firing.job_id
            from told join firing on firing.id = substr(subject, 8)::uuid
            where kind in ('firing.submitted', 'firing.refused', 'firing.expired')""",
        read.params,
    )


async def attempted(tx: Transaction, read: Window) -> list[Row]:
    """Attempts that ended, each with its job, and when it began to wait."""
    return await tx.rows(
        f"""{_TOLD}
            select told.at, told.kind, attempt.job_id, attempt.number, attempt.leased_at, attempt.started_at, attempt.outcome,
                   attempt.error_class, attempt.reason, attempt.exit_code, attempt.host, attempt.pool, attempt.worker_id,
                   attempt.usage, detail->>'algorithm' as algorithm,
                   coalesce((select max(earlier.ended_at) from attempt as earlier
                             where earlier.job_id = attempt.job_id and earlier.number = attempt.number - 1),
                            (select job.created_at from job where job.id = attempt.job_id), attempt.leased_at) as waits_since
            from told join attempt on attempt.job_id = (detail->>'job')::uuid and attempt.number = (detail->>'attempt')::integer
                and attempt.leased_at between told.at - interval '100 days' and told.at
            where told.kind in ('job.finished', 'job.requeued') and detail ? 'outcome'""",
        read.params,
    )


async def finished(tx: Transaction, read: Window) -> list[Row]:
    """Jobs that ended."""
    return await tx.rows(
        f"""{_TOLD}
            select told.at, job.id, job.algorithm, job.algorithm_version, detail->>'state' as state,
                   detail->>'reason' as reason, job.error_class, job.pool, job.priority, job.attempts, job.created_at,
                   job."group", job.created_by
            from told join job on job.id = (detail->>'job')::uuid
            where kind = 'job.finished' and detail->>'state' in ('succeeded', 'failed', 'cancelled')""",
        read.params,
    )


async def delivered(tx: Transaction, read: Window) -> list[Row]:
    """Deliveries that came into a state in which they rest."""
    return await tx.rows(
        f"""{_TOLD}
            select told.at, split_part(told.kind, '.', 2) as state, delivery.id, delivery.destination, delivery.collection,
                   delivery.granule, delivery.revision, delivery.reason, delivery.job_id, delivery.created_at, delivery.sent_at
            from told join delivery on delivery.id = substr(subject, 10)::uuid
            where kind in ('delivery.sent', 'delivery.failed', 'delivery.acknowledged', 'delivery.rejected')""",
        read.params,
    )


# Causes --------------------------------------------------------------------------------------------------------


async def causes_of_jobs(tx: Transaction, jobs: Sequence[UUID]) -> list[Row]:
    """What each job was submitted for."""
    return await tx.rows("select id, cause from job where id = any(%s)", [list(jobs)])


async def jobs_of_deliveries(tx: Transaction, deliveries: Sequence[UUID]) -> list[Row]:
    """The granule of each delivery, and what its sending was submitted for."""
    return await tx.rows(
        """select delivery.id, delivery.collection, delivery.granule, delivery.revision, job.cause
           from delivery left join job on job.id = delivery.job_id where delivery.id = any(%s)""",
        [list(deliveries)],
    )


async def makers_of_granules(tx: Transaction, granules: Sequence[tuple[str, str, int]]) -> list[Row]:
    """By which upload each revision came, and of which job."""
    return await tx.rows(
        """select item.collection, item.granule, item.revision, item.upload_id, upload.job_id, upload.lease
           from unnest(%s::text[], %s::text[], %s::integer[]) as wanted (collection, granule, revision)
               join item using (collection, granule, revision) join upload on upload.id = item.upload_id""",
        _columns(granules, 3),
    )


async def granules_of_firings(tx: Transaction, firings: Sequence[UUID]) -> list[Row]:
    """What each firing was given, what came last first, and how long the firing came after it."""
    return await tx.rows(
        """select firing.id, role.collection, role.granule, role.revision,
                  extract(epoch from firing.created_at - item.created_at)::float8 as seconds_later
           from firing join firing_role as role on role.firing = firing.id
               join item on item.collection = role.collection and item.granule = role.granule and item.revision = role.revision
           where firing.id = any(%s) order by firing.id, item.created_at desc, role.collection, role.granule""",
        [list(firings)],
    )


async def inputs_of_jobs(tx: Transaction, jobs: Sequence[UUID]) -> list[Row]:
    """What each job reads."""
    return await tx.rows(
        'select job_id, collection, granule, revision from job_input where job_id = any(%s) order by role, "position"',
        [list(jobs)],
    )


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[place] for row in rows] for place in range(width)]
