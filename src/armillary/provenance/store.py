"""The SQL of provenance."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb
from armillary.granules.granule import Reference
from armillary.provenance.activity import Activity

Direction = Literal["up", "down"]


async def insert(tx: Transaction, activities: Sequence[Activity]) -> None:
    """Activities with their edges, in one statement."""
    await tx.execute(
        """with a as materialized (
               select * from jsonb_to_recordset(%(activities)s) as a (
                   job_id uuid, attempt integer, algorithm text, algorithm_version text, algorithm_digest text,
                   parameters jsonb, host text, "group" text, agent text, started_at timestamptz, ended_at timestamptz,
                   used jsonb, generated jsonb)),
           happened as (
               insert into activity (job_id, attempt, algorithm, algorithm_version, algorithm_digest, parameters, host,
                                     "group", agent, started_at, ended_at)
               select job_id, attempt, algorithm, algorithm_version, algorithm_digest, parameters, host, "group", agent,
                      started_at, ended_at
               from a),
           sources as (
               insert into used (job_id, role, collection, granule, revision)
               select job_id, e->>0, e->>1, e->>2, (e->>3)::integer from a, jsonb_array_elements(used) as e)
           insert into generated (job_id, output, collection, granule, revision)
           select job_id, e->>0, e->>1, e->>2, (e->>3)::integer from a, jsonb_array_elements(generated) as e
           on conflict do nothing""",
        {"activities": jsonb([_row(activity) for activity in activities])},
    )


async def walk(
    tx: Transaction, scope: dict[str, Any], root: Reference, direction: Direction, depth: int, limit: int
) -> list[Row]:
    """Granules reached from `root` through activities that may be seen, each at its smallest depth."""
    here, there = ("generated", "used") if direction == "up" else ("used", "generated")
    return await tx.rows(
        f"""with recursive step (collection, granule, revision, depth) as (
               select %(collection)s::text, %(granule)s::text, %(revision)s::integer, 0
               union
               select there.collection, there.granule, there.revision, step.depth + 1
               from step
               join {here} as here using (collection, granule, revision)
               join activity on activity.job_id = here.job_id and {VISIBLE}
               join {there} as there on there.job_id = here.job_id
               where step.depth < %(depth)s)
           select collection, granule, revision, min(depth) as depth from step
           group by collection, granule, revision order by min(depth), collection, granule, revision limit %(limit)s""",
        scope
        | {
            "collection": root.collection,
            "granule": root.id,
            "revision": root.revision,
            "depth": depth,
            "limit": limit,
        },
    )


async def makers(tx: Transaction, scope: dict[str, Any], references: Sequence[Reference]) -> dict[Reference, UUID]:
    """Which activity made each of these."""
    rows = await tx.rows(
        f"""select collection, granule, revision, job_id from generated
            join unnest(%(collections)s::text[], %(granules)s::text[], %(revisions)s::integer[])
                as asked (collection, granule, revision) using (collection, granule, revision)
            join activity using (job_id) where {VISIBLE}""",
        scope | _arrays(references),
    )
    return {Reference(row["collection"], row["granule"], row["revision"]): row["job_id"] for row in rows}


async def users(tx: Transaction, scope: dict[str, Any], references: Sequence[Reference]) -> list[UUID]:
    """Which activities used any of these."""
    rows = await tx.rows(
        f"""select distinct job_id from used
            join unnest(%(collections)s::text[], %(granules)s::text[], %(revisions)s::integer[])
                as asked (collection, granule, revision) using (collection, granule, revision)
            join activity using (job_id) where {VISIBLE}""",
        scope | _arrays(references),
    )
    return [row["job_id"] for row in rows]


async def ancestors(tx: Transaction, scope: dict[str, Any], granule: Reference, limit: int) -> list[UUID]:
    """The activities, of those that may be seen, that a granule and all that it came from were made by."""
    rows = await tx.rows(
        f"""with recursive step (job_id) as (
               select job_id from generated join activity using (job_id)
               where collection = %(collection)s and granule = %(granule)s and revision = %(revision)s and {VISIBLE}
               union
               select generated.job_id
               from step
               join used on used.job_id = step.job_id
               join generated using (collection, granule, revision)
               join activity on activity.job_id = generated.job_id and {VISIBLE})
           select job_id from step limit %(limit)s""",
        scope | {"collection": granule.collection, "granule": granule.id, "revision": granule.revision, "limit": limit},
    )
    return [row["job_id"] for row in rows]


async def hidden_makers(tx: Transaction, scope: dict[str, Any], jobs: Sequence[UUID]) -> bool:
    """Whether something that these activities used was made by one that may not be seen."""
    return bool(
        await tx.value(
            f"""select exists (
                   select from used join generated using (collection, granule, revision)
                   join activity on activity.job_id = generated.job_id
                   where used.job_id = any(%(jobs)s) and not {VISIBLE})""",
            scope | {"jobs": list(jobs)},
        )
    )


async def activities(tx: Transaction, jobs: Sequence[UUID]) -> list[Activity]:
    """Activities with all their edges, in the order they ended."""
    rows = await tx.rows(
        """select activity.*,
                  (select coalesce(jsonb_agg(jsonb_build_array(role, collection, granule, revision)
                                             order by role, collection, granule), '[]')
                   from used where used.job_id = activity.job_id) as used,
                  (select coalesce(jsonb_agg(jsonb_build_array(output, collection, granule, revision)
                                             order by output, collection, granule), '[]')
                   from generated where generated.job_id = activity.job_id) as generated
           from activity where job_id = any(%s) order by ended_at, job_id""",
        [list(jobs)],
    )
    return [Activity(**row | {edge: [(one[0], Reference(*one[1:])) for one in row[edge]] for edge in ("used", "generated")})
            for row in rows]  # fmt: skip


def _row(activity: Activity) -> dict[str, Any]:
    return vars(activity) | {
        "used": [[role, one.collection, one.id, one.revision] for role, one in activity.used],
        "generated": [[output, one.collection, one.id, one.revision] for output, one in activity.generated],
    }


def _arrays(references: Sequence[Reference]) -> dict[str, Any]:
    return {
        "collections": [one.collection for one in references],
        "granules": [one.id for one in references],
        "revisions": [one.revision for one in references],
    }
