"""The SQL of jobs, their queue, attempts and logs.

Locks are taken in one order everywhere: the job's row in `job_queue` first (while it lives), then its row in `job`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.algorithms.algorithm import ErrorClass, Resources
from armillary.base.db import Row, Transaction, about, jsonb
from armillary.base.wakes import WORK
from armillary.granules.granule import Reference
from armillary.jobs.job import Ending, Held, JobKey, JobState, resources_json
from armillary.jobs.select import Condition

# Submitting ----------------------------------------------------------------------------------------------------


async def insert(tx: Transaction, jobs: Sequence[Mapping[str, Any]]) -> dict[UUID, JobState]:
    """Enqueue all that have no twin, with inputs and events, in one statement; returns those that were."""
    rows = await tx.rows(
        """with wanted as materialized (
               select * from jsonb_to_recordset(%(jobs)s) as w (
                   id uuid, algorithm text, algorithm_version text, algorithm_digest text, parameters jsonb,
                   identity text, twins text, reuses boolean, state text, pool text, priority integer,
                   resources jsonb, cause jsonb, "group" text, created_by text, inputs jsonb, reason text,
                   is_held boolean, waits integer, deadline timestamptz, on_deadline text)),
           queued as (
               insert into job_queue (job_id, pool, identity, "group", is_shared, priority, ready_at,
                                      cpu, memory_bytes, disk_bytes, is_held, waits, deadline_at,
                                      gpu, needs_seconds, algorithm)
               select id, pool, identity, "group", twins <> 'again', priority,
                      case state when 'held' then 'infinity' else armillary_now() end,
                      (resources->>'cpu')::real, (resources->>'memory_bytes')::bigint,
                      (resources->>'disk_bytes')::bigint, is_held, waits, deadline, (resources->>'gpu')::integer,
                      case when (resources->>'resumable')::boolean then 0 else (resources->>'time_seconds')::real end, algorithm
               from wanted
               where not (reuses and exists (
                   select from job where job.identity = wanted.identity and job."group" = wanted."group"
                       and job.state = 'succeeded'))
               order by identity
               on conflict (identity, "group") where is_shared do nothing
               returning job_id),
           made as (
               insert into job (id, algorithm, algorithm_version, algorithm_digest, parameters, identity, twins, state,
                                pool, priority, resources, cause, "group", created_by, reason, deadline_at, on_deadline)
               select id, algorithm, algorithm_version, algorithm_digest, parameters, identity, twins, state,
                      pool, priority, resources, cause, "group", created_by, reason, deadline, on_deadline
               from wanted join queued on queued.job_id = wanted.id),
           inputs as (
               insert into job_input (job_id, role, position, collection, granule, revision)
               select queued.job_id, i.role, i.position, i.collection, i.granule, i.revision
               from queued join wanted on wanted.id = queued.job_id,
                   jsonb_to_recordset(wanted.inputs)
                       as i (role text, position integer, collection text, granule text, revision integer)),
           told as materialized (
               select armillary_emit_all(array_agg('job:' || wanted.id), array_agg(1::bigint),
                          array_agg('job.submitted'::text), array_agg(created_by), array_agg("group"),
                          array_agg(jsonb_build_object('job', wanted.id, 'algorithm', algorithm,
                              'version', algorithm_version, 'pool', pool, 'state', state, 'cause', cause)))
               from wanted join queued on queued.job_id = wanted.id having count(*) > 0)
           select wanted.id, wanted.state
           from wanted join queued on queued.job_id = wanted.id left join told on true""",
        {"jobs": jsonb(jobs)},
    )
    return {row["id"]: JobState(row["state"]) for row in rows}


async def live_twins(tx: Transaction, group: str, identities: Sequence[str]) -> dict[str, JobKey]:
    """The live jobs that an equal submission shares."""
    rows = await tx.rows(
        """select queue.identity, job.id, job.state from job_queue as queue join job on job.id = queue.job_id
           where queue.identity = any(%s) and queue."group" = %s and is_shared""",
        [list(identities), group],
    )
    return {row["identity"]: JobKey(row["id"], JobState(row["state"])) for row in rows}


async def done_twins(
    tx: Transaction, group: str, identities: Sequence[str]
) -> dict[str, tuple[JobKey, list[Reference]]]:
    """The newest equal jobs that succeeded, with what they made."""
    rows = await tx.rows(
        """select distinct on (identity) identity, id, state,
                  (select coalesce(jsonb_agg(jsonb_build_array(collection, granule, revision)), '[]')
                   from job_output where job_id = job.id) as outputs
           from job where identity = any(%s) and "group" = %s and state = 'succeeded' order by identity, id desc""",
        [list(identities), group],
    )
    return {
        row["identity"]: (JobKey(row["id"], JobState(row["state"])), [Reference(*one) for one in row["outputs"]])
        for row in rows
    }


# Leasing -------------------------------------------------------------------------------------------------------


async def lease(
    tx: Transaction, worker_id: UUID, host: str, pool: str, free: Resources, count: int, more: Row
) -> list[Row]:
    """Give a worker the first jobs that fit into what it has free together, or each by itself (`in_turn`)."""
    return await tx.rows(
        """with candidate as materialized (
               select job_id, priority, ready_at, cpu, memory_bytes, disk_bytes, gpu from job_queue
               where pool = %(pool)s and worker_id is null and ready_at < 'infinity'
                   and ready_at <= (select armillary_now())
                   -- cpu is a real: 0.05 of it is a little more than 0.05
                   and cpu <= %(cpu)s + 1e-6 and memory_bytes <= %(memory)s and disk_bytes <= %(disk)s
                   and gpu <= %(gpu)s and needs_seconds <= %(seconds_left)s and (%(only)s::uuid is null or job_id = %(only)s)
               order by priority desc, ready_at, job_id limit %(count)s
               for update skip locked),
           fitting as (
               select job_id from (
                   select job_id, sum(cpu) over before as cpu, sum(memory_bytes) over before as memory_bytes,
                          sum(disk_bytes) over before as disk_bytes, sum(gpu) over before as gpu
                   from candidate window before as (order by priority desc, ready_at, job_id)) as together
               where %(in_turn)s or (cpu <= %(cpu)s + 1e-6 and memory_bytes <= %(memory)s
                   and disk_bytes <= %(disk)s and gpu <= %(gpu)s)),
           claimed as (
               update job_queue as queue
               set worker_id = %(worker)s, lease = lease + 1, leased_at = armillary_now(), stop = null
               from fitting where queue.job_id = fitting.job_id
               returning queue.job_id, queue.lease, queue.leased_at, queue.priority, queue.ready_at),
           started as (
               update job set state = 'running', version = version + 1, reason = '', attempts = claimed.lease,
                   progress = '{}', started_at = coalesce(started_at, claimed.leased_at)
               from claimed where job.id = claimed.job_id
               returning job.id, claimed.lease, claimed.leased_at, claimed.priority, claimed.ready_at,
                   job.algorithm_digest, job.parameters, job.resources, job."group"),
           tried as (
               insert into attempt (job_id, number, leased_at, worker_id, host, pool, resources, cost_per_hour)
               select id, lease, leased_at, %(worker)s, %(host)s, %(pool)s, resources,
                      %(price)s::float8 * least(1, greatest(  -- what it holds most of, nobody else can have
                          (resources->>'cpu')::float8 / nullif(%(all_cpu)s, 0),
                          (resources->>'memory_bytes')::float8 / nullif(%(all_memory)s, 0),
                          (resources->>'disk_bytes')::float8 / nullif(%(all_disk)s, 0),
                          (resources->>'gpu')::float8 / nullif(%(all_gpu)s, 0)))
               from started)
           select started.*, checkpoint.key as checkpoint_key, checkpoint.sha256 as checkpoint_sha256,
                  checkpoint.size_bytes as checkpoint_size,
                  (select jsonb_agg(jsonb_build_array(role, collection, granule, revision) order by role, position)
                   from job_input where job_id = started.id) as inputs
           from started left join checkpoint on checkpoint.job_id = started.id
           order by started.priority desc, started.ready_at, started.id""",
        {
            "worker": worker_id,
            "host": host,
            "pool": pool,
            "cpu": free.cpu,
            "memory": free.memory_bytes,
            "disk": free.disk_bytes,
            "gpu": free.gpu,
            "seconds_left": free.time_seconds,
            "count": count,
        }
        | more,
    )


async def first_waiting(tx: Transaction, pool: str, limit: int) -> list[Row]:
    """The first that could run now, with what they need."""
    return await tx.rows(
        """select job_id, cpu, memory_bytes, disk_bytes, gpu, needs_seconds from job_queue
           where pool = %s and worker_id is null and ready_at < 'infinity' and ready_at <= (select armillary_now())
           order by priority desc, ready_at, job_id limit %s""",
        [pool, limit],
    )


async def lock_waiting(tx: Transaction, job: UUID) -> bool:
    """Lock a job that waits; false if it does not, or somebody else has it."""
    return bool(
        await tx.execute("select from job_queue where job_id = %s and worker_id is null for update skip locked", [job])
    )


async def held(tx: Transaction, workers: Sequence[UUID]) -> list[Row]:
    """What the leases of each of these workers take together."""
    return await tx.rows(
        """select worker_id, sum(cpu)::real as cpu, sum(memory_bytes)::bigint as memory_bytes,
                  sum(disk_bytes)::bigint as disk_bytes, sum(gpu)::integer as gpu, max(needs_seconds) as needs_seconds
           from job_queue where worker_id = any(%s) group by worker_id""",
        [list(workers)],
    )


async def leases_of(tx: Transaction, worker_id: UUID) -> list[Row]:
    """What a worker holds, with what it is asked to stop."""
    return await tx.rows(
        """select job_id, lease, stop, armillary_now() - leased_at as age from job_queue where worker_id = %s""",
        [worker_id],
    )


async def workers_to_stop(tx: Transaction) -> list[UUID]:
    """Workers that are asked to stop something."""
    rows = await tx.rows("select distinct worker_id from job_queue where worker_id is not null and stop is not null")
    return [row["worker_id"] for row in rows]


async def running(tx: Transaction, workers: Sequence[UUID]) -> dict[UUID, int]:
    """Leases per worker."""
    rows = await tx.rows(
        "select worker_id, count(*) as jobs from job_queue where worker_id = any(%s) group by worker_id",
        [list(workers)],
    )
    return {row["worker_id"]: row["jobs"] for row in rows}


async def holders(tx: Transaction) -> list[UUID]:
    """Workers that hold a lease."""
    rows = await tx.rows("select distinct worker_id from job_queue where worker_id is not null")
    return [row["worker_id"] for row in rows]


async def lock_leases(tx: Transaction, jobs: Sequence[UUID]) -> dict[UUID, Held]:
    """These jobs, if they are leased, locked in the order of their ids."""
    return await _held(tx, f"queue.job_id in (select unnest(%s::uuid[]) limit {about(len(jobs))})", [list(jobs)])


async def lock_leases_of(tx: Transaction, workers: Sequence[UUID]) -> dict[UUID, Held]:
    """All that these workers hold, locked in the order of the jobs' ids."""
    return await _held(tx, "queue.worker_id = any(%s)", [list(workers)])


async def _held(tx: Transaction, condition: str, params: list[Any]) -> dict[UUID, Held]:
    rows = await tx.rows(
        f"""select queue.job_id, queue.lease, queue.worker_id, queue.leased_at, queue.stop, job.algorithm,
                   job.algorithm_version, job.algorithm_digest, job.parameters, job.resources, job.failures, job.pool,
                   job."group", job.created_by, job.cause
            from job_queue as queue join job on job.id = queue.job_id
            where queue.worker_id is not null and {condition}
            order by queue.job_id for update of queue""",
        params,
    )
    return {row["job_id"]: Held(**row | {"resources": Resources(**row["resources"])}) for row in rows}


async def progress(tx: Transaction, worker_id: UUID, beats: Sequence[Mapping[str, Any]]) -> None:
    """Note how far the jobs of a worker are, under its leases."""
    await tx.execute(
        """with beat as materialized (
               select * from jsonb_to_recordset(%(beats)s) as b (job uuid, lease integer, progress jsonb,
                                                                started_at timestamptz)),
           held as (
               select beat.*, queue.leased_at from beat join job_queue as queue on queue.job_id = beat.job
                   and queue.lease = beat.lease and queue.worker_id = %(worker)s),
           started as (
               update attempt set started_at = held.started_at from held
               where attempt.job_id = held.job and attempt.number = held.lease and attempt.leased_at = held.leased_at
                   and attempt.started_at is null and attempt.ended_at is null and held.started_at is not null)
           update job set progress = held.progress from held
           where job.id = held.job and held.progress is not null and job.progress <> held.progress""",
        {"worker": worker_id, "beats": jsonb(beats)},
    )


# Ending --------------------------------------------------------------------------------------------------------


async def classes(tx: Transaction, job: UUID, last: int) -> list[ErrorClass]:
    """Of which classes the last counted failures of a job were."""
    rows = await tx.rows(
        """select error_class from attempt where job_id = %s and outcome = 'failed' order by number desc limit %s""",
        [job, last],
    )
    return [ErrorClass(row["error_class"]) for row in rows]


async def has_pool(tx: Transaction, pool: str) -> bool:
    """Whether the queue may name this pool."""
    return bool(await tx.value("select exists (select from pool where id = %s)", [pool]))


async def ended_attempts(tx: Transaction, pairs: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], Row]:
    """How attempts ended that no lease stands for any more."""
    rows = await tx.rows(
        """select attempt.job_id, number, worker_id, outcome, reason from attempt
           join unnest(%s::uuid[], %s::integer[]) as wanted (job_id, lease)
               on wanted.job_id = attempt.job_id and wanted.lease = attempt.number
           where ended_at is not null""",
        [[pair[0] for pair in pairs], [pair[1] for pair in pairs]],
    )
    return {(row["job_id"], row["number"]): row for row in rows}


async def end(tx: Transaction, endings: Sequence[Ending]) -> None:
    """Write the ends of attempts whose leases are locked, what becomes of their jobs, and the events of it.

    Whoever subscribed to one of these is woken; most have no subscriber.
    """
    woken = await tx.value(
        f"""with ending as materialized (
               select * from jsonb_to_recordset(%(endings)s) as e (
                   job_id uuid, lease integer, leased_at timestamptz, outcome text, state text, reason text,
                   job_reason text, error_class text, exit_code integer, started_at timestamptz, ended_at timestamptz,
                   usage jsonb, result jsonb, failures integer, delay_seconds float8, resources jsonb, outputs jsonb,
                   pool text, actor text)
               limit {about(len(endings))}),  -- tells the planner how few they are
           gone as (
               delete from job_queue using ending
               where job_queue.job_id = ending.job_id and ending.state <> 'queued'),
           back as (
               update job_queue as queue
               set worker_id = null, leased_at = null, stop = null, pool = coalesce(ending.pool, queue.pool),
                   ready_at = armillary_now() + make_interval(secs => ending.delay_seconds),
                   cpu = (ending.resources->>'cpu')::real,
                   memory_bytes = (ending.resources->>'memory_bytes')::bigint,
                   disk_bytes = (ending.resources->>'disk_bytes')::bigint
               from ending where queue.job_id = ending.job_id and ending.state = 'queued'),
           closed as (
               update attempt
               set outcome = ending.outcome, reason = ending.reason, error_class = ending.error_class,
                   exit_code = ending.exit_code, usage = ending.usage,
                   started_at = coalesce(ending.started_at, attempt.started_at),
                   ended_at = coalesce(ending.ended_at, armillary_now()),
                   cost = cost_per_hour * greatest(0, extract(epoch from armillary_now() - attempt.leased_at)) / 3600
               from ending
               where attempt.job_id = ending.job_id and attempt.number = ending.lease
                   and attempt.leased_at = ending.leased_at),
           made as (
               insert into job_output (job_id, output, collection, granule, revision)
               select ending.job_id, o.output, o.collection, o.granule, o.revision
               from ending, jsonb_to_recordset(ending.outputs)
                   as o (output text, collection text, granule text, revision integer)),
           ended as (
               update job
               set state = ending.state, version = version + 1, reason = ending.job_reason,
                   error_class = ending.error_class, failures = ending.failures, result = ending.result,
                   resources = ending.resources, pool = coalesce(ending.pool, job.pool),
                   ended_at = case when ending.state = 'queued' then null else armillary_now() end
               from ending where job.id = ending.job_id
               returning job.id, job.version, job."group", ending.state, ending.actor,
                   jsonb_build_object('job', job.id, 'algorithm', job.algorithm, 'version', job.algorithm_version,
                       'attempt', ending.lease, 'state', ending.state, 'outcome', ending.outcome,
                       'error_class', ending.error_class, 'reason', ending.job_reason, 'cause', job.cause,
                       'outputs', ending.outputs) as detail)
           select armillary_emit_all(array_agg('job:' || id), array_agg(version),
                      array_agg(case state when 'queued' then 'job.requeued' else 'job.finished' end),
                      array_agg(actor), array_agg("group"), array_agg(detail))
           from ended having count(*) > 0""",
        {"endings": jsonb([_ending(ending) for ending in endings])},
    )
    if woken:
        tx.wake(WORK)


def _ending(ending: Ending) -> dict[str, Any]:
    held = ending.held
    return {
        "job_id": held.job_id,
        "lease": held.lease,
        "leased_at": held.leased_at,
        "outcome": ending.outcome,
        "state": ending.state,
        "reason": ending.reason,
        "job_reason": ending.job_reason,
        # A success keeps no class, so that its update stays within the page.
        "error_class": ending.error_class,
        "exit_code": ending.exit_code,
        "started_at": ending.started_at,
        "ended_at": ending.ended_at,
        "usage": ending.usage,
        "result": ending.result,
        "failures": ending.failures,
        "delay_seconds": ending.delay_seconds,
        "resources": resources_json(ending.resources or held.resources),
        "pool": ending.pool,
        "outputs": [
            {
                "output": made.output,
                "collection": made.committed.collection,
                "granule": made.committed.id,
                "revision": made.committed.revision,
            }
            for made in ending.outputs
        ],
        "actor": f"worker:{held.worker_id}",
    }


# Steering ------------------------------------------------------------------------------------------------------


async def lock(tx: Transaction, job: UUID, scope: dict[str, Any]) -> Row | None:
    """A job for a change by hand: its queue row is locked first, then its own."""
    await tx.execute("select from job_queue where job_id = %s for update", [job])
    return await tx.row(
        f"""select job.id, job.version, job.state, job.identity, job.twins, job.pool, job.priority, job.resources,
                   job.attempts, job.failures, job.algorithm, job.algorithm_version, job.cause, job."group",
                   queue.worker_id, queue.stop, queue.is_held, queue.waits
            from job left join job_queue as queue on queue.job_id = job.id
            where job.id = %(job)s and {VISIBLE.replace('"group"', 'job."group"')} for update of job""",
        scope | {"job": job},
    )


async def set_state(tx: Transaction, job: UUID, state: JobState, reason: str) -> None:
    """Move a locked job that is not leased; its queue row follows. One that is queued waits for nothing any more."""
    await tx.execute(
        """update job set state = %(state)s, version = version + 1, reason = %(reason)s,
               error_class = case when %(state)s = 'cancelled' then error_class end,
               ended_at = case when %(state)s = 'cancelled' then armillary_now() end
           where id = %(job)s""",
        {"job": job, "state": state, "reason": reason},
    )
    if not state.is_live:
        await tx.execute("delete from job_queue where job_id = %s", [job])
    elif state is JobState.HELD:
        await tx.execute("update job_queue set ready_at = 'infinity', is_held = true where job_id = %s", [job])
    else:
        await tx.execute(
            "update job_queue set ready_at = armillary_now(), is_held = false, waits = 0 where job_id = %s", [job]
        )


async def set_reason(tx: Transaction, job: UUID, reason: str, *, is_held: bool) -> None:
    """Say why a locked job is held, by whom or for what."""
    await tx.execute("update job set version = version + 1, reason = %s where id = %s", [reason, job])
    await tx.execute("update job_queue set is_held = %s where job_id = %s", [is_held, job])


async def enqueue_again(tx: Transaction, jobs: Sequence[UUID], reason: str) -> int:
    """Give locked jobs that have ended a place in the queue and a fresh budget; their lease numbers go on.

    They wait for what they run after and has not ended well; a deadline that has passed counts no more. Returns how many: those
    with a twin that lives stay as they are.
    """
    count = await tx.execute(
        """insert into job_queue (job_id, pool, identity, "group", is_shared, priority, ready_at, cpu, memory_bytes,
                                  disk_bytes, lease, waits, deadline_at, gpu, needs_seconds, algorithm)
           select id, pool, identity, "group", twins <> 'again', priority,
                  case when waits > 0 then 'infinity' else armillary_now() end,
                  (resources->>'cpu')::real, (resources->>'memory_bytes')::bigint, (resources->>'disk_bytes')::bigint,
                  attempts, waits, case when deadline_at > armillary_now() then deadline_at end,
                  coalesce((resources->>'gpu')::integer, 0),
                  case when (resources->>'resumable')::boolean then 0 else (resources->>'time_seconds')::real end, algorithm
           from job, lateral (select count(*) as waits from job_dependency where job_id = job.id and not is_met) as open
           where id = any(%s)
           on conflict (identity, "group") where is_shared do nothing""",
        [list(jobs)],
    )
    await tx.execute(
        """update job
           set state = case when waits > 0 then 'held' else 'queued' end, version = version + 1, failures = 0,
               result = null, error_class = null, ended_at = null,
               reason = %s || case when waits > 0 then ' It waits for ' || waits || ' it runs after.' else '' end
           from job_queue where job_id = id and id = any(%s)""",
        [reason, list(jobs)],
    )
    return count


async def set_failures(tx: Transaction, job: UUID, failures: int) -> None:
    """How many failures of a locked job count."""
    await tx.execute("update job set failures = %s where id = %s", [failures, job])


async def set_stop(tx: Transaction, job: UUID, reason: str) -> None:
    """Ask the worker of a locked, leased job to cancel it."""
    await tx.execute("update job_queue set stop = 'cancel' where job_id = %s", [job])
    await tx.execute("update job set version = version + 1, reason = %s where id = %s", [reason, job])


async def preempt(tx: Transaction, worker_id: UUID) -> int:
    """Ask a worker to give up all that it runs."""
    return await tx.execute("update job_queue set stop = 'preempt' where worker_id = %s and stop is null", [worker_id])


async def set_priority(tx: Transaction, job: UUID, priority: int) -> None:
    """Move a locked job within its queue."""
    await tx.execute("update job set priority = %s, version = version + 1 where id = %s", [priority, job])
    await tx.execute("update job_queue set priority = %s where job_id = %s", [priority, job])


# Dependencies --------------------------------------------------------------------------------------------------


async def lock_states(tx: Transaction, jobs: Sequence[UUID], scope: dict[str, Any]) -> dict[UUID, JobState]:
    """How these jobs stand, those that may be seen; the live ones do not end before the transaction does."""
    await tx.execute("select from job_queue where job_id = any(%s) order by job_id for share", [list(jobs)])
    rows = await tx.rows(
        f"select id, state from job where id = any(%(jobs)s) and {VISIBLE}", scope | {"jobs": list(jobs)}
    )
    return {row["id"]: JobState(row["state"]) for row in rows}


async def insert_dependencies(tx: Transaction, rows: Sequence[tuple[UUID, UUID, str, bool]]) -> None:
    """Record what new jobs run after: (job, after, on_failure, is_met) each."""
    await tx.execute_many(
        "insert into job_dependency (job_id, after_id, on_failure, is_met) values (%s, %s, %s, %s)", rows
    )


async def dependencies(tx: Transaction, job: UUID) -> list[Row]:
    """What a job runs after, with how that stands."""
    return await tx.rows(
        """select after_id, on_failure, is_met, job.state, job.algorithm
           from job_dependency join job on job.id = after_id where job_id = %s order by after_id""",
        [job],
    )


async def open_dependents(tx: Transaction, ended: Sequence[tuple[UUID, JobState]]) -> list[Row]:
    """The jobs that still wait for these, locked in the order of their ids."""
    rows = await tx.rows(
        """select job_id, after_id, on_failure, state
           from job_dependency join unnest(%s::uuid[], %s::text[]) as ended (id, state) on after_id = ended.id
           where not is_met order by job_id""",
        [[job for job, _ in ended], [str(state) for _, state in ended]],
    )
    if rows:
        jobs = [row["job_id"] for row in rows]
        await tx.execute("select from job_queue where job_id = any(%s) order by job_id for update", [jobs])
    return rows


async def meet(tx: Transaction, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """These dependencies (job, after) are met; locked jobs that wait for nothing else may run."""
    await tx.execute(
        """with met as (
               update job_dependency as open set is_met = true
               from unnest(%(jobs)s::uuid[], %(after)s::uuid[]) as pair (job_id, after_id)
               where open.job_id = pair.job_id and open.after_id = pair.after_id and not is_met
               returning open.job_id),
           freed as (
               update job_queue as queue
               set waits = waits - number,
                   ready_at = case when waits = number and not is_held then armillary_now() else ready_at end
               from (select job_id, count(*) as number from met group by job_id) as part
               where queue.job_id = part.job_id and waits > 0
               returning queue.job_id, waits, is_held),
           moved as (
               update job
               set version = version + 1, state = case when waits = 0 and not is_held then 'queued' else state end,
                   reason = case when is_held then reason
                                 when waits = 0 then 'What it runs after has ended.'
                                 else 'Waits for ' || waits || case waits when 1 then ' more job.' else ' more jobs.' end
                            end
               from freed where job.id = freed.job_id and (waits = 0 or not is_held)
               returning job.*)
           select armillary_emit('job:' || id, version, 'job.released', 'system:jobs', "group",
                      jsonb_build_object('job', id, 'algorithm', algorithm, 'version', algorithm_version,
                          'attempt', attempts, 'state', state, 'cause', cause))
           from moved where state = 'queued'""",
        {"jobs": [job for job, _ in pairs], "after": [after for _, after in pairs]},
    )


async def waive(tx: Transaction, job: UUID) -> None:
    """A locked job does not wait for others any more."""
    await tx.execute("update job_dependency set is_met = true where job_id = %s", [job])


async def explain(tx: Transaction, reasons: Mapping[UUID, str]) -> None:
    """Say why these locked jobs wait."""
    await tx.execute(
        """update job set version = version + 1, reason = told.reason
           from unnest(%s::uuid[], %s::text[]) as told (id, reason)
           where job.id = told.id and job.state in ('held', 'queued')""",
        [list(reasons), list(reasons.values())],
    )


async def cancel_waiting(tx: Transaction, reasons: Mapping[UUID, str]) -> list[UUID]:
    """Cancel these locked jobs, unless they run or have ended; returns those that were."""
    return await _end_waiting(tx, reasons, JobState.CANCELLED, None)


async def _end_waiting(
    tx: Transaction, reasons: Mapping[UUID, str], state: JobState, error_class: str | None
) -> list[UUID]:
    rows = await tx.rows(
        """with gone as (
               delete from job_queue using unnest(%(jobs)s::uuid[], %(reasons)s::text[]) as told (id, reason)
               where job_queue.job_id = told.id and worker_id is null returning told.*),
           ended as (
               update job set state = %(state)s, version = version + 1, reason = gone.reason,
                   error_class = coalesce(%(class)s, error_class), ended_at = armillary_now()
               from gone where job.id = gone.id returning job.*)
           select id, armillary_emit('job:' || id, version, 'job.finished', 'system:jobs', "group",
                      jsonb_build_object('job', id, 'algorithm', algorithm, 'version', algorithm_version,
                          'attempt', attempts, 'state', state, 'error_class', error_class, 'reason', reason,
                          'cause', cause))
           from ended""",
        {"jobs": list(reasons), "reasons": list(reasons.values()), "state": state, "class": error_class},
    )
    return [row["id"] for row in rows]


# Deadlines -----------------------------------------------------------------------------------------------------


async def overdue(tx: Transaction, limit: int) -> list[Row]:
    """Live jobs past their deadline that nothing was done about yet, locked."""
    return await tx.rows(
        """select queue.job_id, queue.worker_id, queue.deadline_at, job.state, job.on_deadline
           from job_queue as queue join job on job.id = queue.job_id
           -- said in the words of its index, and the time asked for once: else the whole queue is gone through
           where queue.deadline_at is not null and queue.deadline_at <= (select armillary_now())
           order by queue.deadline_at limit %s for update of queue skip locked""",
        [limit],
    )


async def warn_late(tx: Transaction, reasons: Mapping[UUID, str]) -> None:
    """Say that these locked jobs are late, once."""
    await _tell_late(tx, reasons, "stop")


async def stop_late(tx: Transaction, reasons: Mapping[UUID, str]) -> None:
    """Ask the workers of these locked jobs to stop them."""
    await _tell_late(tx, reasons, "'deadline'")


async def fail_late(tx: Transaction, reasons: Mapping[UUID, str]) -> list[UUID]:
    """These locked jobs, which do not run, have failed."""
    return await _end_waiting(tx, reasons, JobState.FAILED, ErrorClass.TIMED_OUT)


async def _tell_late(tx: Transaction, reasons: Mapping[UUID, str], stop: str) -> None:
    await tx.execute(
        f"""with late as (
               update job_queue set deadline_at = null, stop = {stop}
               from unnest(%s::uuid[], %s::text[]) as told (id, reason)
               where job_queue.job_id = told.id returning told.*),
           told as (
               update job set version = version + 1, reason = late.reason from late where job.id = late.id
               returning job.*)
           select armillary_emit('job:' || id, version, 'job.late', 'system:jobs', "group",
                      jsonb_build_object('job', id, 'algorithm', algorithm, 'version', algorithm_version,
                          'attempt', attempts, 'state', state, 'reason', reason, 'cause', cause))
           from told""",
        [list(reasons), list(reasons.values())],
    )


# Pauses --------------------------------------------------------------------------------------------------------


async def set_pause(tx: Transaction, digest: str, reason: str, account: str) -> int | None:
    """Pause an algorithm's version; the pause's new version, or None if it is paused already."""
    version: int | None = await tx.value(
        """insert into algorithm_pause (digest, reason, paused_by) values (%s, %s, %s)
           on conflict (digest) do update set is_paused = true, version = algorithm_pause.version + 1,
               reason = excluded.reason, paused_by = excluded.paused_by, paused_at = armillary_now()
           where not algorithm_pause.is_paused returning version""",
        [digest, reason, account],
    )
    return version


async def end_pause(tx: Transaction, digest: str) -> int | None:
    """End a pause; its new version, or None if there was none."""
    version: int | None = await tx.value(
        """update algorithm_pause set is_paused = false, version = version + 1
           where digest = %s and is_paused returning version""",
        [digest],
    )
    return version


async def pauses(tx: Transaction, scope: dict[str, Any]) -> list[Row]:
    """Every pause, the newest first."""
    return await tx.rows(
        f"""select algorithm.id as algorithm, algorithm.version, pause.digest, pause.reason, paused_by, paused_at,
                   algorithm."group"
            from algorithm_pause as pause join algorithm using (digest)
            where is_paused and {VISIBLE} order by paused_at desc""",
        scope,
    )


async def hold_paused(tx: Transaction) -> int:
    """Hold the queued jobs of paused algorithms; one that somebody released since is let through."""
    # Asked first: without a pause the planner, who cannot know, would go through every queued job.
    if not await tx.value("select exists (select from algorithm_pause where is_paused)"):
        return 0
    return int(
        await tx.value(
            """with waiting as (
                   select queue.job_id, 'Its algorithm is paused: ' || pause.reason as reason
                   from algorithm_pause as pause
                       join job on job.algorithm_digest = pause.digest and job.state = 'queued'
                       join job_queue as queue on queue.job_id = job.id
                   where pause.is_paused and queue.worker_id is null and not queue.is_paused
                   order by queue.job_id for update of queue skip locked),
               stopped as (
                   update job_queue as queue set ready_at = 'infinity', is_paused = true
                   from waiting where queue.job_id = waiting.job_id),
               held as (
                   update job set state = 'held', version = version + 1, reason = waiting.reason
                   from waiting where job.id = waiting.job_id returning job.id, job.version, job."group", job.reason),
               told as (
                   select armillary_emit_all(array_agg('job:' || id), array_agg(version), array_agg('job.held'::text),
                              array_agg('system:pools'::text), array_agg("group"),
                              array_agg(jsonb_build_object('job', id, 'state', 'held', 'reason', reason)))
                   from held having count(*) > 0)
               select count(*) + 0 * (select count(*) from told) from held"""
        )
    )


async def release_paused(tx: Transaction, digest: str, reason: str) -> int:
    """Queue again what was held by an algorithm's pause."""
    return int(
        await tx.value(
            """with waiting as (
                   select queue.job_id from job_queue as queue join job on job.id = queue.job_id
                   where queue.is_paused and not queue.is_held and job.state = 'held'
                       and job.algorithm_digest = %(digest)s
                   order by queue.job_id for update of queue),
               freed as (
                   update job_queue as queue set ready_at = armillary_now(), is_paused = false
                   from waiting where queue.job_id = waiting.job_id),
               queued as (
                   update job set state = 'queued', version = version + 1, reason = %(reason)s
                   from waiting where job.id = waiting.job_id returning job.id, job.version, job."group"),
               told as (
                   select armillary_emit_all(array_agg('job:' || id), array_agg(version), array_agg('job.released'::text),
                              array_agg('system:pools'::text), array_agg("group"),
                              array_agg(jsonb_build_object('job', id, 'state', 'queued')))
                   from queued having count(*) > 0)
               select count(*) + 0 * (select count(*) from told) from queued""",
            {"digest": digest, "reason": reason},
        )
    )


# Logs and checkpoints ------------------------------------------------------------------------------------------


async def append_log(tx: Transaction, worker_id: UUID, chunks: Sequence[Any]) -> list[Row]:
    """Keep chunks of the attempts that this worker has or had; one that came before is the same row.

    Returns each attempt taken, with the end of its log.
    """
    return await tx.rows(
        """with chunk as materialized (
               select * from unnest(%(jobs)s::uuid[], %(leases)s::integer[], %(positions)s::bigint[], %(data)s::bytea[])
                   as c (job_id, number, position, data)),
           live as (
               select queue.job_id, queue.lease as number, queue.leased_at from job_queue as queue
               where queue.job_id = any(%(jobs)s) and queue.worker_id = %(worker)s),
           ended as (
               select attempt.job_id, attempt.number, attempt.leased_at from attempt
               where attempt.job_id = any(%(jobs)s) and attempt.worker_id = %(worker)s and attempt.outcome <> 'lost'),
           owned as (select * from live union select * from ended),
           kept as (
               insert into log_chunk (job_id, number, position, leased_at, data)
               select chunk.job_id, chunk.number, chunk.position, owned.leased_at, chunk.data
               from chunk join owned using (job_id, number)
               on conflict do nothing)
           select chunk.job_id, chunk.number, owned.leased_at, max(chunk.position + length(chunk.data)) as log_end
           from chunk join owned using (job_id, number) group by 1, 2, 3""",
        {
            "worker": worker_id,
            "jobs": [chunk.job_id for chunk in chunks],
            "leases": [chunk.lease for chunk in chunks],
            "positions": [chunk.position for chunk in chunks],
            "data": [chunk.data for chunk in chunks],
        },
    )


async def trim_log(tx: Transaction, attempt: Row, head_bytes: int, tail_bytes: int) -> None:
    """Drop the middle of a long log: whole chunks between its head and its tail."""
    await tx.execute(
        """delete from log_chunk where job_id = %s and number = %s and leased_at = %s
               and position >= %s and position + length(data) <= %s""",
        [attempt["job_id"], attempt["number"], attempt["leased_at"], head_bytes, attempt["log_end"] - tail_bytes],
    )


async def read_log(tx: Transaction, job: UUID, number: int, offset: int, limit: int) -> list[Row]:
    """Chunks from the one that holds `offset` on."""
    return await tx.rows(
        """select position, data from log_chunk
           where job_id = %(job)s and number = %(number)s and position >= coalesce(
               (select max(position) from log_chunk
                where job_id = %(job)s and number = %(number)s and position <= %(offset)s), 0)
           order by position limit %(limit)s""",
        {"job": job, "number": number, "offset": offset, "limit": limit},
    )


async def save_checkpoint(
    tx: Transaction, worker_id: UUID, job: UUID, lease_number: int, key: str, sha256: str, size: int
) -> tuple[bool, str | None]:
    """Record a checkpoint under its lease; whether it was taken, and the key of the one that it replaces."""
    row = await tx.row(
        """with held as (
               select job_id from job_queue where job_id = %(job)s and lease = %(lease)s and worker_id = %(worker)s
               for update),
           old as (select key from checkpoint where job_id = %(job)s),
           saved as (
               insert into checkpoint (job_id, lease, key, sha256, size_bytes)
               select job_id, %(lease)s, %(key)s, %(sha256)s, %(size)s from held
               on conflict (job_id) do update set lease = excluded.lease, key = excluded.key, sha256 = excluded.sha256,
                   size_bytes = excluded.size_bytes, saved_at = armillary_now()
               returning 1)
           select exists (select from saved) as saved, (select key from old) as old""",
        {"job": job, "lease": lease_number, "worker": worker_id, "key": key, "sha256": sha256, "size": size},
    )
    assert row is not None
    return row["saved"], row["old"]


async def begin_kept(
    tx: Transaction,
    worker_id: UUID,
    job: UUID,
    lease_number: int,
    key: str,
    files: Sequence[Mapping[str, Any]],
    is_whole: bool,
    kept_for: timedelta,
) -> bool:
    """Record under its lease that a folder is about to be kept; whether it is."""
    row = await tx.row(
        """insert into kept_folder (job_id, number, key, files, is_whole, expires_at)
           select job_id, lease, %(key)s, %(files)s, %(whole)s, armillary_now() + %(for)s from job_queue
           where job_id = %(job)s and lease = %(lease)s and worker_id = %(worker)s
           on conflict (job_id, number) do nothing returning 1""",
        {"job": job, "lease": lease_number, "worker": worker_id, "key": key, "files": jsonb(files), "whole": is_whole,
         "for": kept_for},
    )  # fmt: skip
    return row is not None


async def end_kept(tx: Transaction, key: str, size_bytes: int) -> bool:
    """All bytes of a folder are in the store; false if it was collected meanwhile."""
    row = await tx.row("update kept_folder set size_bytes = %s where key = %s returning 1", [size_bytes, key])
    return row is not None


async def kept(tx: Transaction, job: UUID, number: int | None) -> Row | None:
    """What is kept of an attempt, or of the last of a job that left something."""
    return await tx.row(
        """select * from kept_folder where job_id = %(job)s and (%(number)s::integer is null or number = %(number)s)
               and size_bytes is not null and expires_at > armillary_now() order by number desc limit 1""",
        {"job": job, "number": number},
    )


async def expired_kept(tx: Transaction, limit: int) -> list[str]:
    """The keys of folders that have been kept long enough."""
    rows = await tx.rows(
        "select key from kept_folder where expires_at <= armillary_now() order by expires_at limit %s", [limit]
    )
    return [row["key"] for row in rows]


async def drop_kept(tx: Transaction, keys: Sequence[str]) -> None:
    """Forget folders whose bytes are deleted."""
    await tx.execute("delete from kept_folder where key = any(%s)", [list(keys)])


async def drop_ended_checkpoints(tx: Transaction, limit: int) -> list[str]:
    """Forget checkpoints that no attempt will take up; returns their keys."""
    rows = await tx.rows(
        """delete from checkpoint where job_id in (
               select checkpoint.job_id from checkpoint join job on job.id = checkpoint.job_id
               where job.state in ('succeeded', 'failed', 'cancelled') limit %s for update of checkpoint skip locked)
           returning key""",
        [limit],
    )
    return [row["key"] for row in rows]


# Reading -------------------------------------------------------------------------------------------------------

_JOB = """job.id, job.version, job.algorithm, job.algorithm_version, job.algorithm_digest, job.parameters, job.state,
    job.reason, job.error_class, job.pool, job.priority, job.twins, job.resources, job.failures, job.attempts,
    job.progress, job.result, job.cause, job."group", job.created_by, job.created_at, job.started_at, job.ended_at,
    job.deadline_at, job.on_deadline"""


async def job(tx: Transaction, id: UUID, scope: dict[str, Any]) -> Row | None:  # noqa: A002
    """One job, with what only the queue knows of it."""
    return await tx.row(
        f"""select {_JOB}, nullif(queue.ready_at, 'infinity') as ready_at, queue.worker_id, queue.stop,
                   coalesce(queue.is_held, false) as is_held, coalesce(queue.waits, 0) as waits
            from job left join job_queue as queue on queue.job_id = job.id
            where job.id = %(id)s and {VISIBLE.replace('"group"', 'job."group"')}""",
        scope | {"id": id},
    )


async def jobs(
    tx: Transaction,
    scope: dict[str, Any],
    wanted: Condition,
    state: str | None,
    *,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Row]:
    """Jobs, newest first. What is live is few, and found through the queue however long the history is."""
    conditions = [VISIBLE.replace('"group"', 'job."group"'), f"({wanted.sql})"]
    if after:
        conditions.append("job.id < %(after)s")
    if state == JobState.FAILED:
        conditions.append("job.error_class is not null")
    source = "job join job_queue on job_queue.job_id = job.id" if state and JobState(state).is_live else "job"
    return await tx.rows(
        f"select {_JOB} from {source} where {' and '.join(conditions)} order by job.id desc limit %(limit)s",
        scope | wanted.params | {"after": after, "limit": limit},
    )


async def attempts(tx: Transaction, id: UUID) -> list[Row]:  # noqa: A002
    """Every attempt of a job, in order."""
    return await tx.rows("select * from attempt where job_id = %s order by number", [id])


async def costs(
    tx: Transaction,
    scope: dict[str, Any],
    keys: Mapping[str, tuple[str, str]],
    since: datetime | None,
    until: datetime | None,
) -> list[Row]:
    """What ended attempts cost in all, by keys; what was purged is read from the ledger."""
    live = ", ".join(f'{column} as "{key}"' for key, (column, _) in keys.items())
    purged = ", ".join(f'{column} as "{key}"' for key, (_, column) in keys.items())
    names = ", ".join(f'"{key}"' for key in keys)
    return await tx.rows(
        f"""select {names}, sum(attempts)::bigint as attempts, sum(seconds)::float8 as seconds, sum(cost)::float8 as cost
            from (select {live}, 1 as attempts, extract(epoch from attempt.ended_at - attempt.leased_at) as seconds,
                         coalesce(attempt.cost, 0) as cost
                  from attempt join job on job.id = attempt.job_id
                  where attempt.ended_at >= coalesce(%(since)s, '-infinity'::timestamptz)
                      and attempt.ended_at < coalesce(%(until)s, 'infinity'::timestamptz)
                      and {VISIBLE.replace('"group"', 'job."group"')}
                  union all
                  select {purged}, attempts, seconds, cost from job_ledger
                  where day >= coalesce((%(since)s::timestamptz at time zone 'UTC')::date, '-infinity'::date)
                      and day < coalesce((%(until)s::timestamptz at time zone 'UTC')::date, 'infinity'::date)
                      and {VISIBLE}) as part
            group by {names} order by {names}""",
        scope | {"since": since, "until": until},
    )


async def spent(tx: Transaction, jobs: Sequence[UUID]) -> list[Row]:
    """What each of these jobs took, purged ones too: their attempts are history."""
    return await tx.rows(
        """select job_id, count(*) as attempts, sum(cost)::float8 as cost,
                  sum(extract(epoch from ended_at - leased_at))::float8 as seconds
           from attempt where job_id = any(%s) and ended_at is not null group by job_id""",
        [list(jobs)],
    )


async def durations(tx: Transaction, scope: dict[str, Any], algorithm: str, digest: str, limit: int) -> Row | None:
    """How long the newest jobs of an algorithm took that succeeded: of one version, unless that never did."""
    return await tx.row(
        f"""with newest as (
               select id, algorithm_digest = %(digest)s as is_of_version from job
               where algorithm = %(algorithm)s and state = 'succeeded' and {VISIBLE}
               order by id desc limit %(limit)s),
           took as (
               select id, is_of_version, sum(extract(epoch from ended_at - leased_at))::float8 as seconds
               from newest join attempt on attempt.job_id = id group by id, is_of_version)
           select is_of_version, count(*) as runs, avg(seconds) as mean_seconds,
                  percentile_cont(0.5) within group (order by seconds) as median_seconds,
                  percentile_cont(0.9) within group (order by seconds) as p90_seconds
           from took group by is_of_version order by is_of_version desc limit 1""",
        scope | {"algorithm": algorithm, "digest": digest, "limit": limit},
    )


async def inputs(tx: Transaction, id: UUID) -> list[Row]:  # noqa: A002
    """What a job works on."""
    return await tx.rows("select * from job_input where job_id = %s order by role, position", [id])


async def inputs_of(tx: Transaction, jobs: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """What many jobs work on."""
    found: dict[UUID, list[Row]] = {}
    rows = await tx.rows("select * from job_input where job_id = any(%s) order by job_id, role, position", [list(jobs)])
    for row in rows:
        found.setdefault(row["job_id"], []).append(row)
    return found


async def outputs(tx: Transaction, id: UUID) -> list[Row]:  # noqa: A002
    """What a job made."""
    return await tx.rows("select * from job_output where job_id = %s order by output, collection, granule", [id])


async def live_references(tx: Transaction, references: Sequence[Reference]) -> set[Reference]:
    """Those of these revisions that a live job refers to."""
    rows = await tx.rows(
        """select distinct input.collection, input.granule, input.revision
           from job_input as input
           join unnest(%s::text[], %s::text[], %s::integer[]) as asked (collection, granule, revision)
               using (collection, granule, revision)
           join job_queue on job_queue.job_id = input.job_id""",
        [
            [one.collection for one in references],
            [one.id for one in references],
            [one.revision for one in references],
        ],
    )
    return {Reference(row["collection"], row["granule"], row["revision"]) for row in rows}


async def explain_unfit(tx: Transaction, pool: str, size: Resources, reason: str) -> int:
    """Say why these wait; locked in the order that everybody locks in."""
    return await tx.execute(
        """with unfit as (
               select job_id from job_queue
               where pool = %(pool)s and worker_id is null and ready_at < 'infinity'
                   and (cpu > %(cpu)s + 1e-6 or memory_bytes > %(memory)s or disk_bytes > %(disk)s or gpu > %(gpu)s
                        or needs_seconds > %(seconds)s)
               order by job_id for update skip locked)
           update job set reason = %(reason)s from unfit where job.id = unfit.job_id and job.reason <> %(reason)s""",
        {
            "pool": pool,
            "cpu": size.cpu,
            "memory": size.memory_bytes,
            "disk": size.disk_bytes,
            "gpu": size.gpu,
            "seconds": size.time_seconds,
            "reason": reason,
        },
    )


async def demand(tx: Transaction) -> list[Row]:
    """Per pool and algorithm: jobs that wait and could run now, jobs that run, and the resources of both together."""
    return await tx.rows(
        """select pool, algorithm,
                  count(*) filter (where is_waiting) as waiting, count(*) filter (where worker_id is not null) as running,
                  sum(cpu)::float8 as cpu, sum(memory_bytes)::bigint as memory_bytes,
                  sum(disk_bytes)::bigint as disk_bytes, sum(gpu)::bigint as gpu,
                  coalesce(max(cpu) filter (where is_waiting), 0) as largest_cpu,
                  coalesce(max(memory_bytes) filter (where is_waiting), 0) as largest_memory_bytes,
                  coalesce(max(disk_bytes) filter (where is_waiting), 0) as largest_disk_bytes,
                  coalesce(max(gpu) filter (where is_waiting), 0) as largest_gpu,
                  coalesce(max(needs_seconds) filter (where is_waiting), 0) as largest_seconds,
                  min(ready_at) filter (where is_waiting) as oldest
           from (select *, worker_id is null as is_waiting from job_queue
                 where worker_id is not null or ready_at <= armillary_now()) as live
           group by pool, algorithm"""
    )


# What an observer asks -----------------------------------------------------------------------------------------


async def overlong(tx: Transaction, late: timedelta, limit: int) -> list[Row]:
    """Jobs that still run so long after their time was over, the longest first."""
    return await tx.rows(
        """select job.id, job.algorithm, job.pool, job."group", queue.worker_id, queue.stop,
                  armillary_now() - queue.leased_at as age, (job.resources->>'time_seconds')::float8 as time_seconds
           from job_queue as queue join job on job.id = queue.job_id
           where queue.worker_id is not null
               and queue.leased_at < armillary_now() - %(late)s
                   - make_interval(secs => (job.resources->>'time_seconds')::float8)
           order by queue.leased_at, job.id limit %(limit)s""",
        {"late": late, "limit": limit},
    )


async def unfit(tx: Transaction, pool: str, size: Resources) -> list[Row]:
    """Per algorithm, the waiting jobs of a pool that no worker of this size can run, and the most that one needs."""
    return await tx.rows(
        """select algorithm, count(*) as jobs, min(ready_at) as oldest, max(cpu)::float8 as cpu,
                  max(memory_bytes) as memory_bytes, max(disk_bytes) as disk_bytes, max(gpu) as gpu,
                  max(needs_seconds)::float8 as time_seconds
           from job_queue
           where pool = %(pool)s and worker_id is null and ready_at <= armillary_now()
               and (cpu > %(cpu)s or memory_bytes > %(memory)s or disk_bytes > %(disk)s or gpu > %(gpu)s
                    or needs_seconds > %(seconds)s)
           group by algorithm order by algorithm""",
        {"pool": pool, "cpu": size.cpu, "memory": size.memory_bytes, "disk": size.disk_bytes, "gpu": size.gpu,
         "seconds": size.time_seconds},
    )  # fmt: skip


async def due(tx: Transaction, limit: int) -> list[Row]:
    """Waiting jobs with a deadline, together by pool, priority, algorithm and minute; the first due come first."""
    return await tx.rows(
        """select pool, priority, algorithm, date_trunc('minute', deadline_at) as deadline, count(*) as jobs
           from job_queue
           where deadline_at is not null and worker_id is null and ready_at <= armillary_now()
           group by 1, 2, 3, 4 order by deadline, pool, priority desc, algorithm limit %s""",
        [limit],
    )


async def waiting_reasons(tx: Transaction, scope: dict[str, Any], among: int, limit: int) -> list[Row]:
    """Why jobs wait, the most frequent reasons first, among so many that wait."""
    return await tx.rows(
        f"""select job.pool, job.algorithm, job.state, job.reason, count(*) as jobs
            from (select job_id from job_queue where worker_id is null limit %(among)s) as queue
                join job on job.id = queue.job_id
            where {VISIBLE.replace('"group"', 'job."group"')}
            group by 1, 2, 3, 4 order by jobs desc, 1, 2, 3, 4 limit %(limit)s""",
        scope | {"among": among, "limit": limit},
    )


async def lines(tx: Transaction, pools: Sequence[str]) -> list[Row]:
    """What waits and what runs in these pools, together by priority and algorithm, the first to run first."""
    return await tx.rows(
        """select pool, priority, algorithm,
                  count(*) filter (where worker_id is null) as waiting,
                  count(*) filter (where worker_id is not null) as running, sum(cpu)::float8 as cpu,
                  sum(memory_bytes)::bigint as memory_bytes, sum(disk_bytes)::bigint as disk_bytes,
                  sum(gpu)::bigint as gpu
           from job_queue where pool = any(%s) and (worker_id is not null or ready_at <= armillary_now())
           group by pool, priority, algorithm order by pool, priority desc, algorithm""",
        [list(pools)],
    )


# Paces ---------------------------------------------------------------------------------------------------------


async def learn_pace(tx: Transaction, ended: Sequence[tuple[UUID, int]], memory: int) -> None:
    """Mix how long these attempts took into the mean of their algorithms, whose weight never exceeds `memory` jobs."""
    await tx.execute(
        """insert into pace as known (algorithm, seconds, jobs)
           select job.algorithm, avg(extract(epoch from attempt.ended_at - attempt.leased_at)), count(*)
           from unnest(%(jobs)s::uuid[], %(leases)s::integer[]) as one (job, lease)
           join job on job.id = one.job
           join attempt on attempt.job_id = one.job and attempt.number = one.lease and attempt.outcome = 'succeeded'
               and attempt.ended_at >= attempt.leased_at  -- unless the clock was set back meanwhile
           group by job.algorithm order by job.algorithm
           on conflict (algorithm) do update set
               seconds = known.seconds + (excluded.seconds - known.seconds)
                   * least(1.0, excluded.jobs::float8 / least(known.jobs + excluded.jobs, %(memory)s)),
               jobs = known.jobs + excluded.jobs, seen_at = armillary_now()""",
        {"jobs": [job for job, _ in ended], "leases": [lease for _, lease in ended], "memory": memory},
    )


async def pace(tx: Transaction) -> dict[str, float]:
    """Seconds that a job of each algorithm takes, as far as that is known."""
    return {row["algorithm"]: row["seconds"] for row in await tx.rows("select algorithm, seconds from pace")}
