"""The SQL of operations on many jobs. Locks are taken as everywhere: a job's row in `job_queue`, then its row in `job`."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb
from armillary.base.errors import NotFound
from armillary.granules.granule import Reference
from armillary.jobs.bulk.operation import Operation, Request, Verb
from armillary.jobs.select import Condition
from armillary.jobs.store import enqueue_again

_VISIBLE = VISIBLE.replace('"group"', 'job."group"')
_LIVE = "job join job_queue as queue on queue.job_id = job.id"
_WAITS = "queue.worker_id is null"
EVENTS_AT_ONCE = 5000

# Whom each verb concerns: from where, on which condition, and what it was before.
_CONCERNED: dict[Verb, tuple[str, str]] = {
    Verb.CANCEL: (_LIVE, "queue.stop is distinct from 'cancel'"),
    Verb.RETRY: ("job", "job.state in ('failed', 'cancelled')"),
    Verb.HOLD: (_LIVE, f"{_WAITS} and not queue.is_held"),
    Verb.RELEASE: (_LIVE, f"{_WAITS} and queue.is_held"),
    Verb.PRIORITY: (_LIVE, f"{_WAITS} and queue.priority <> %(new_priority)s"),
    Verb.MOVE: (_LIVE, f"{_WAITS} and queue.pool <> %(new_pool)s"),
    Verb.PURGE: (
        "job",
        """job.state in ('succeeded', 'failed', 'cancelled')
           and not exists (select from checkpoint where checkpoint.job_id = job.id)
           and not exists (select from job_dependency as open where open.after_id = job.id and not open.is_met)""",
    ),
}
_FORMER = {
    Verb.PRIORITY: "jsonb_build_object('priority', job.priority)",
    Verb.MOVE: "jsonb_build_object('pool', job.pool)",
    Verb.HOLD: """jsonb_build_object('reason', job.reason,
                      'ready_at', case when queue.ready_at < 'infinity' then queue.ready_at end)""",
    Verb.RELEASE: "jsonb_build_object('reason', job.reason)",
}

# Choosing ------------------------------------------------------------------------------------------------------


def _chosen(verb: Verb, chosen: Condition) -> str:
    source, concerned = _CONCERNED[verb]
    return f"from {source} where {_VISIBLE} and ({concerned}) and ({chosen.sql})"


async def counts(tx: Transaction, operation: UUID) -> list[Row]:
    """How many jobs are meant, by algorithm, pool and state."""
    return await tx.rows(
        """select algorithm, algorithm_version as version, pool, state, count(*) as jobs
           from job join job_operation_job on job_id = id
           where operation = %s group by 1, 2, 3, 4 order by 1, 2, 3, 4""",
        [operation],
    )


async def first(tx: Transaction, operation: UUID, limit: int) -> list[Row]:
    """The first of those that are meant."""
    return await tx.rows(
        """select id, algorithm, state, pool, priority, reason from job join job_operation_job on job_id = id
           where operation = %s order by id limit %s""",
        [operation, limit],
    )


async def choose(
    tx: Transaction, operation: UUID, verb: Verb, chosen: Condition, scope: dict[str, Any], limit: int | None
) -> None:
    """Keep which jobs are meant and what they are, and lock them in the order of their ids."""
    locked = "queue" if _CONCERNED[verb][0] == _LIVE else "job"
    await tx.execute(
        f"""with chosen as materialized (
                select job.id, {_FORMER.get(verb, "'{}'::jsonb")} as former {_chosen(verb, chosen)}
                order by job.id limit %(limit)s for update of {locked})
            insert into job_operation_job (operation, job_id, former) select %(operation)s, id, former from chosen""",
        scope | chosen.params | {"limit": limit, "operation": operation},
    )


async def drop_changed(tx: Transaction, operation: UUID, verb: Verb, chosen: Condition, scope: dict[str, Any]) -> None:
    """Leave out what is not meant any more, now that it cannot change."""
    await tx.execute(
        f"""delete from job_operation_job as listed where operation = %(operation)s
                and not exists (select {_chosen(verb, chosen)} and job.id = listed.job_id)""",
        scope | chosen.params | {"operation": operation},
    )


async def drop_twins(tx: Transaction, operation: UUID) -> None:
    """Of jobs that do the same work keep the newest, and none beside one that lives."""
    await tx.execute(
        """delete from job_operation_job as listed using (
               select job.id, row_number() over (partition by job.identity, job."group" order by job.id desc) as place,
                      exists (select from job_queue as queue where queue.identity = job.identity
                                  and queue."group" = job."group" and queue.is_shared) as has_twin
               from job join job_operation_job on job_id = id
               where operation = %(operation)s and twins <> 'again') as equal
           where operation = %(operation)s and listed.job_id = equal.id and (place > 1 or has_twin)""",
        {"operation": operation},
    )


async def inputs(tx: Transaction, operation: UUID) -> list[tuple[UUID, Reference]]:
    """What the listed jobs work on."""
    rows = await tx.rows(
        """select job_id, collection, granule, revision from job_input join job_operation_job using (job_id)
           where operation = %s""",
        [operation],
    )
    return [(row["job_id"], Reference(row["collection"], row["granule"], row["revision"])) for row in rows]


async def drop(tx: Transaction, operation: UUID, jobs: Collection[UUID]) -> None:
    """Leave out some of the listed jobs."""
    await tx.execute("delete from job_operation_job where operation = %s and job_id = any(%s)", [operation, list(jobs)])


async def drop_needy(tx: Transaction, operation: UUID) -> None:
    """Leave out jobs that run after one that did not succeed and is not tried again with them."""
    await tx.execute(
        """with recursive needy as (
               select need.job_id
               from job_operation_job as listed
               join job_dependency as need on need.job_id = listed.job_id and not is_met and on_failure = 'cancel'
               join job as after on after.id = need.after_id and after.state in ('failed', 'cancelled')
               where operation = %(operation)s and not exists (
                   select from job_operation_job as other where other.operation = %(operation)s and other.job_id = after.id)
               union
               select need.job_id from needy
               join job_dependency as need on need.after_id = needy.job_id and not is_met and on_failure = 'cancel'
               join job_operation_job as listed on listed.job_id = need.job_id and listed.operation = %(operation)s)
           delete from job_operation_job using needy
           where operation = %(operation)s and job_operation_job.job_id = needy.job_id""",
        {"operation": operation},
    )


# Changing ------------------------------------------------------------------------------------------------------


async def cancel(tx: Transaction, operation: UUID, why: str) -> None:
    """End what waits; ask the workers of the others to stop."""
    await tx.execute(
        """with listed as materialized (select job_id from job_operation_job where operation = %(operation)s),
           gone as (
               delete from job_queue using listed
               where job_queue.job_id = listed.job_id and worker_id is null returning job_queue.job_id),
           stopped as (
               update job_queue set stop = 'cancel' from listed
               where job_queue.job_id = listed.job_id and worker_id is not null returning job_queue.job_id)
           update job
           set version = version + 1, reason = %(why)s || case when stops then ' Its worker is stopping it.' else '' end,
               state = case when stops then state else 'cancelled' end,
               ended_at = case when stops then ended_at else armillary_now() end
           from (select job_id, false as stops from gone union all select job_id, true from stopped) as told
           where job.id = told.job_id""",
        {"operation": operation, "why": why},
    )


async def awaited(tx: Transaction, operation: UUID) -> list[UUID]:
    """Those cancelled that others run after."""
    rows = await tx.rows(
        """select listed.job_id from job_operation_job as listed join job on job.id = listed.job_id
           where operation = %s and job.state = 'cancelled'
               and exists (select from job_dependency where after_id = listed.job_id and not is_met)""",
        [operation],
    )
    return [row["job_id"] for row in rows]


async def retry(tx: Transaction, operation: UUID, why: str) -> bool:
    """Queue them anew, as `jobs.store.enqueue_again`; false if an equal job came between."""
    params = {"operation": operation, "why": why}
    await tx.execute(
        """update job_dependency as need set is_met = true
           from job_operation_job as listed, job as after
           where operation = %(operation)s and need.job_id = listed.job_id and after.id = need.after_id and not is_met
               and (after.state = 'succeeded' or (on_failure = 'run' and after.state in ('failed', 'cancelled')))""",
        params,
    )
    rows = await tx.rows("select job_id from job_operation_job where operation = %(operation)s", params)
    return await enqueue_again(tx, [row["job_id"] for row in rows], why) == len(rows)


async def hold(tx: Transaction, operation: UUID, why: str) -> None:
    """Nothing of it runs before it is released."""
    await tx.execute(
        """with kept as (
               update job_queue set is_held = true, ready_at = 'infinity' from job_operation_job as listed
               where operation = %(operation)s and job_queue.job_id = listed.job_id returning job_queue.job_id)
           update job set version = version + 1, state = 'held', reason = %(why)s from kept where job.id = kept.job_id""",
        {"operation": operation, "why": why},
    )


async def release(tx: Transaction, operation: UUID, why: str) -> None:
    """Nobody holds them any more; those that wait for others go on waiting."""
    await tx.execute(
        f"""with freed as (
               update job_queue as queue
               set is_held = false, ready_at = case when waits = 0 then armillary_now() else 'infinity' end
               from job_operation_job as listed
               where operation = %(operation)s and queue.job_id = listed.job_id returning queue.job_id, waits)
           {_SETTLED.format(reason="%(why)s || " + _WAITING)} from freed where job.id = freed.job_id""",
        {"operation": operation, "why": why},
    )


_WAITING = "case when waits > 0 then ' It waits for ' || waits || ' it runs after.' else '' end"
_SETTLED = """update job set version = version + 1, state = case when waits = 0 then 'queued' else 'held' end,
               reason = {reason}"""


async def prioritise(tx: Transaction, operation: UUID, priority: int) -> None:
    """Move them within their queue."""
    await tx.execute(
        """with moved as (
               update job_queue set priority = %(priority)s from job_operation_job as listed
               where operation = %(operation)s and job_queue.job_id = listed.job_id returning job_queue.job_id)
           update job set version = version + 1, priority = %(priority)s from moved where job.id = moved.job_id""",
        {"operation": operation, "priority": priority},
    )


async def move(tx: Transaction, operation: UUID, pool: str) -> None:
    """Move them to another pool's queue."""
    await tx.execute(
        """with moved as (
               update job_queue set pool = %(pool)s from job_operation_job as listed
               where operation = %(operation)s and job_queue.job_id = listed.job_id returning job_queue.job_id)
           update job set version = version + 1, pool = %(pool)s from moved where job.id = moved.job_id""",
        {"operation": operation, "pool": pool},
    )


async def purge(tx: Transaction, operation: UUID) -> None:
    """Delete them with their logs; attempts stay as history, provenance too, and what they cost is added up."""
    await tx.execute(
        """insert into job_ledger as ledger (day, "group", account, algorithm, pool, rule, attempts, seconds, cost)
           select (attempt.ended_at at time zone 'UTC')::date, job."group", job.created_by, job.algorithm, attempt.pool,
                  coalesce(job.cause->>'rule', ''), count(*),
                  sum(extract(epoch from attempt.ended_at - attempt.leased_at)), coalesce(sum(attempt.cost), 0)
           from job_operation_job as listed join job on job.id = listed.job_id join attempt on attempt.job_id = job.id
           where operation = %s group by 1, 2, 3, 4, 5, 6
           on conflict (day, "group", account, algorithm, pool, rule) do update
               set attempts = ledger.attempts + excluded.attempts, seconds = ledger.seconds + excluded.seconds,
                   cost = ledger.cost + excluded.cost""",
        [operation],
    )
    for table, column in (("log_chunk", "job_id"), ("job", "id")):
        await tx.execute(
            f"delete from {table} using job_operation_job as listed where operation = %s and {table}.{column} = listed.job_id",
            [operation],
        )


async def announce(tx: Transaction, operation: UUID, kind: str, actor: str) -> None:
    """An event for each job that was changed, or is about to be purged."""
    await tx.execute(
        """select armillary_emit_all(array_agg('job:' || id), array_agg(version), array_agg(kind), array_agg(%(actor)s::text),
                                     array_agg("group"), array_agg(detail))
           from (select job.id, job."group", (row_number() over () - 1) / %(many)s as part,
                        job.version + case %(kind)s when 'job.purged' then 1 else 0 end as version,
                        case when %(kind)s = 'job.finished' and state = 'running' then 'job.cancelling'
                             else %(kind)s end as kind,
                        jsonb_build_object('job', id, 'algorithm', algorithm, 'version', algorithm_version,
                            'attempt', attempts, 'state', state, 'reason', job.reason, 'cause', cause,
                            'operation', %(operation)s::uuid) as detail
                 from job join job_operation_job as listed on listed.job_id = job.id
                 where operation = %(operation)s) as told
           group by part""",
        {"operation": operation, "kind": kind, "actor": actor, "many": EVENTS_AT_ONCE},
    )


# Undoing -------------------------------------------------------------------------------------------------------

# What still is as the operation left it.
_UNTOUCHED = {
    Verb.PRIORITY: "queue.priority = (operation.arguments->>'priority')::integer",
    Verb.MOVE: "queue.pool = operation.arguments->>'pool'",
    Verb.HOLD: "queue.is_held",
    Verb.RELEASE: "not queue.is_held",
}
_BACK = {
    Verb.PRIORITY: ("priority = (former->>'priority')::integer", "priority = (former->>'priority')::integer"),
    Verb.MOVE: ("pool = former->>'pool'", "pool = former->>'pool'"),
    Verb.HOLD: (
        """is_held = false, ready_at = case when waits > 0 then 'infinity'
               else coalesce((former->>'ready_at')::timestamptz, armillary_now()) end""",
        "state = case when waits > 0 then 'held' else 'queued' end, reason = former->>'reason'",
    ),
    Verb.RELEASE: ("is_held = true, ready_at = 'infinity'", "state = 'held', reason = former->>'reason'"),
}


async def keep_untouched(tx: Transaction, operation: UUID, verb: Verb) -> None:
    """Lock those that wait and are as the operation left them; forget the others, which have moved on."""
    condition = f"""from job_queue as queue, job_operation as operation
        where operation.id = %(operation)s and {_WAITS} and {_UNTOUCHED[verb]}"""
    await tx.execute(
        f"""select {condition} and queue.job_id in (
                select job_id from job_operation_job where operation = %(operation)s)
            order by queue.job_id for update of queue""",
        {"operation": operation},
    )
    await tx.execute(
        f"""delete from job_operation_job as listed where listed.operation = %(operation)s
                and not exists (select {condition} and queue.job_id = listed.job_id)""",
        {"operation": operation},
    )


async def restore(tx: Transaction, operation: UUID, verb: Verb) -> int:
    """Make the jobs that are still listed what they were."""
    queue, job = _BACK[verb]
    return await tx.execute(
        f"""with back as (
                update job_queue set {queue} from job_operation_job as listed
                where operation = %(operation)s and job_queue.job_id = listed.job_id
                returning job_queue.job_id, waits, former)
            update job set version = version + 1, {job} from back where job.id = back.job_id""",
        {"operation": operation},
    )


# Operations ----------------------------------------------------------------------------------------------------


async def insert(tx: Transaction, operation: UUID, request: Request, actor: Actor) -> None:
    """Record what is about to be done."""
    await tx.execute(
        """insert into job_operation (id, verb, selection, arguments, reason, actor, "group", jobs)
           values (%s, %s, %s, %s, %s, %s, %s, 0)""",
        [
            operation,
            request.verb,
            jsonb(request.selection.document() | ({"limit": request.limit} if request.limit else {})),
            jsonb(dict(request.arguments)),
            request.reason,
            actor.account,
            actor.group,
        ],
    )


async def count(tx: Transaction, operation: UUID) -> None:
    """Record how many jobs were changed."""
    await tx.execute(
        """update job_operation set jobs = (select count(*) from job_operation_job where operation = id) where id = %s""",
        [operation],
    )


async def get(tx: Transaction, operation: UUID) -> Operation:
    """One operation."""
    found = await tx.one(Operation, "select * from job_operation where id = %s", [operation])
    if found is None:
        raise NotFound(f"There is no operation {operation}.", "`armillary job operations` shows those that are.")
    return found


async def lock(tx: Transaction, operation: UUID) -> None:
    """Nobody else undoes it."""
    await tx.execute("select from job_operation where id = %s for update", [operation])


async def newest(tx: Transaction, scope: dict[str, Any], after: UUID | None, limit: int) -> list[Operation]:
    """Operations, newest first."""
    return await tx.all(
        Operation,
        f"""select * from job_operation where (%(after)s::uuid is null or id < %(after)s) and {VISIBLE}
            order by id desc limit %(limit)s""",
        scope | {"after": after, "limit": limit},
    )


async def jobs(tx: Transaction, operation: UUID, after: UUID | None, limit: int) -> list[Row]:
    """The jobs that it changed, with what they were."""
    return await tx.rows(
        """select job_id, former from job_operation_job
           where operation = %(operation)s and (%(after)s::uuid is null or job_id > %(after)s)
           order by job_id limit %(limit)s""",
        {"operation": operation, "after": after, "limit": limit},
    )


async def mark_undone(tx: Transaction, operation: UUID, by: str, restored: int) -> None:
    """Record who undid it."""
    await tx.execute(
        "update job_operation set undone_at = armillary_now(), undone_by = %s, restored = %s where id = %s",
        [by, restored, operation],
    )
