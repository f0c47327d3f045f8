"""The SQL of pools, their workers and what their providers started."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.algorithms.algorithm import Resources
from armillary.base.db import Row, Transaction, jsonb
from armillary.pools.pool import Arrival, MachineSeen, Seen, Start, Worker, WorkerState
from armillary.pools.provider import Found

_WORKER = """worker.id, worker.pool, worker.host, worker.pid, worker.state, worker.reason, worker.capacity,
    worker.registered_at, worker.beat_at, worker.idle_since, worker.ended_at, worker.ends_at"""

# The job that a worker is kept free for, as long as it waits in the worker's pool.
_KEPT_FOR = """(select job_id from job_queue as queue where job_id = worker.reserved_for and queue.worker_id is null
    and queue.pool = worker.pool and ready_at <= armillary_now())"""

_SIZE = ("cpu", "memory_bytes", "disk_bytes", "gpu")

# Pools ---------------------------------------------------------------------------------------------------------


async def put(tx: Transaction, pool: str, version: int, spec: dict[str, Any], group: str) -> None:
    """Make or replace a pool."""
    await tx.execute(
        """insert into pool (id, version, spec, "group") values (%s, %s, %s, %s)
           on conflict (id) do update set version = excluded.version, spec = excluded.spec""",
        [pool, version, jsonb(spec), group],
    )


async def delete(tx: Transaction, pool: str) -> None:
    """Delete a pool that nothing refers to."""
    await tx.execute("delete from pool where id = %s", [pool])


async def find(tx: Transaction, pool: str) -> Row | None:
    """One pool."""
    return await tx.row("select * from pool where id = %s", [pool])


async def visible(tx: Transaction, scope: dict[str, Any]) -> list[Row]:
    """Every pool that may be seen."""
    return await tx.rows(f"select * from pool where {VISIBLE} order by id", scope)


# Workers -------------------------------------------------------------------------------------------------------


async def insert_worker(tx: Transaction, worker: UUID, pool: str, arrival: Arrival) -> int:
    """Register; returns the worker's epoch."""
    capacity = {name: getattr(arrival.capacity, name) for name in _SIZE}
    epoch: int = await tx.value(
        """insert into worker (id, pool, host, pid, protocol, capacity, ends_at)
           values (%s, %s, %s, %s, %s, %s, armillary_now() + %s) returning epoch""",
        [worker, pool, arrival.host, arrival.pid, arrival.protocol, jsonb(capacity), arrival.ends_in],
    )
    return epoch


async def hold(tx: Transaction, worker: UUID) -> Row | None:
    """A worker that is not gone, and will not go or drain before the transaction ends; several may hold it at once.

    Whoever changes it meanwhile does so last, so that a worker's calls do not wait for each other.
    """
    return await tx.row(
        f"""select host, pool, state, capacity, streak, record, trial_at is not null as is_on_trial,
               coalesce(trial_at > armillary_now(), false) as is_suspect, {_KEPT_FOR} as reserved_for,
               (select (spec->'scale'->>'cost_per_hour')::float8 from pool where pool.id = worker.pool) as price
           from worker where id = %s and state <> 'gone' for key share""",
        [worker],
    )


async def roomy(tx: Transaction, pool: str) -> list[Row]:
    """The workers of a pool that take work: how large they are, and how long they have."""
    return await tx.rows(
        """select id, host, capacity || jsonb_build_object('time_seconds',
                      coalesce(extract(epoch from ends_at - armillary_now()), 1e9)) as size
           from worker where pool = %s and state = 'live' and trial_at is null order by id""",
        [pool],
    )


async def reserve(tx: Transaction, worker: UUID, job: UUID) -> None:
    """Let a worker take nothing but this job."""
    await tx.execute("update worker set reserved_for = %s where id = %s and state = 'live'", [job, worker])


async def end_reservation(tx: Transaction, worker: UUID) -> None:
    """Let a worker take whatever fits again."""
    await tx.execute("update worker set reserved_for = null where id = %s", [worker])


async def end_reservations(tx: Transaction) -> set[str]:
    """End those whose job waits no more, or whose worker takes none; returns the pools of the others."""
    rows = await tx.rows(
        f"""with kept as (
               select id, pool, state = 'live' and trial_at is null and {_KEPT_FOR} is not null as lasts
               from worker where reserved_for is not null),
           over as (
               update worker set reserved_for = null from kept where worker.id = kept.id and not kept.lasts)
           select pool from kept where lasts"""
    )
    return {row["pool"] for row in rows}


async def lock(tx: Transaction, worker: UUID) -> bool:
    """Keep everybody else from holding a worker that is not gone; false if it is."""
    return bool(await tx.execute("select from worker where id = %s and state <> 'gone' for update", [worker]))


async def heard(
    tx: Transaction, worker: UUID, *, is_idle: bool | None = None, silent_after: timedelta | None = None
) -> None:
    """The worker was heard of: written once a second, or if anything else is new. `is_idle` if it said so.

    `silent_after`: how long it may be silent from now on, said with a heartbeat. Of a worker that hung up nothing else counts,
    as it may have been on its way.
    """
    await tx.execute(
        """update worker set beat_at = armillary_now(), silent_after = coalesce(%(silent_after)s, silent_after),
               idle_since = case when %(idle)s then coalesce(idle_since, armillary_now())
                                 when not %(idle)s then null else idle_since end
           where id = %(worker)s and state <> 'gone'
               and case when beat_at <= hung_up_at then %(silent_after)s::interval is not null
                        else beat_at < armillary_now() - interval '1 second' or silent_after <> %(silent_after)s
                             or %(idle)s <> (idle_since is not null) end""",
        {"worker": worker, "idle": is_idle, "silent_after": silent_after},
    )


async def hung_up(tx: Transaction, worker: UUID) -> None:
    """The worker's line was closed from its side."""
    await tx.execute("update worker set hung_up_at = armillary_now() where id = %s and state <> 'gone'", [worker])


async def lock_conduct(tx: Transaction, worker: UUID) -> Row:
    """How a held worker has done, for a change."""
    row = await tx.row(
        "select streak, record, armillary_now() as now from worker where id = %s for no key update", [worker]
    )
    assert row is not None
    return row


async def set_conduct(
    tx: Transaction, worker: UUID, streak: Sequence[Any], record: Mapping[str, Any], trial_at: datetime | str | None
) -> None:
    """How a worker has done, and from when on it may be given work again."""
    await tx.execute(
        "update worker set streak = %s, record = %s, trial_at = %s where id = %s",
        [jsonb(streak), jsonb(record), trial_at, worker],
    )


async def to_judge(tx: Transaction) -> list[Row]:
    """Workers whose failures nobody has judged yet, and those that are to be tried once more; locked."""
    return await tx.rows(
        """select id, pool, host, streak, record, armillary_now() as now, nullif(trial_at, 'infinity') as pauses_until
           from worker where trial_at is not null and state = 'live' order by id for update skip locked"""
    )


async def conducts(tx: Transaction, digests: Sequence[str]) -> list[Row]:
    """How workers have done that ran one of these algorithms lately, those that are gone since an hour included."""
    return await tx.rows(
        """select id, pool, state, streak, record from worker
           where (state <> 'gone' or ended_at > armillary_now() - interval '1 hour') and record->'tallies' ?| %s""",
        [list(digests)],
    )


async def forgive(tx: Transaction, digest: str) -> None:
    """Forget the failures of an algorithm in every worker's streak: they were not the workers' fault."""
    await tx.execute(
        """update worker set trial_at = null, streak = (
               select coalesce(jsonb_agg(failure order by position), '[]')
               from jsonb_array_elements(streak) with ordinality as s (failure, position)
               where failure->>'digest' <> %(digest)s)
           where state <> 'gone' and streak @> jsonb_build_array(jsonb_build_object('digest', %(digest)s::text))""",
        {"digest": digest},
    )


async def set_quarantined(tx: Transaction, worker: UUID, reason: str) -> Row:
    """Set a live, locked worker apart."""
    row = await tx.row(
        """update worker set state = 'quarantined', reason = %s, trial_at = null, version = version + 1
           where id = %s returning id, pool, host, version""",
        [reason, worker],
    )
    assert row is not None
    return row


async def release(tx: Transaction, worker: UUID) -> Row | None:
    """Take a quarantined worker back, its failures forgotten; nothing if it is not quarantined."""
    return await tx.row(
        """update worker set state = 'live', reason = '', streak = '[]', record = '{}', trial_at = null,
               version = version + 1
           where id = %s and state = 'quarantined' returning id, pool, host, version""",
        [worker],
    )


async def live_others(tx: Transaction, pool: str, worker: UUID) -> int:
    """How many other workers of a pool take work."""
    return int(
        await tx.value("select count(*) from worker where pool = %s and state = 'live' and id <> %s", [pool, worker])
    )


async def state(tx: Transaction, worker: UUID) -> Row | None:
    """A worker that is not gone."""
    return await tx.row("select pool, host, state from worker where id = %s and state <> 'gone'", [worker])


async def drain(tx: Transaction, worker: UUID, reason: str) -> bool:
    """Let a worker finish what it has and take nothing new, whatever it is being given in this moment."""
    return await lock(tx, worker) and bool(
        await tx.execute(
            """update worker set state = 'draining', drained_at = armillary_now(), reason = %s
               where id = %s and state = 'live'""",
            [reason, worker],
        )
    )


async def mark_gone(tx: Transaction, workers: Sequence[UUID], reason: str) -> list[Row]:
    """These workers are no more; returns those that were until now. Waits for whoever holds them."""
    return await tx.rows(
        """with locked as (select id from worker where id = any(%s) and state <> 'gone' order by id for update)
           update worker set state = 'gone', reason = %s, ended_at = armillary_now(), version = version + 1
           from locked where worker.id = locked.id returning worker.id, pool, host, version""",
        [list(workers), reason],
    )


async def put_machine(
    tx: Transaction, worker: UUID, measured: Mapping[str, float], clock: datetime | None = None
) -> None:
    """What a live worker has measured of its machine; several workers of one machine tell the same."""
    await tx.execute(
        """insert into machine (pool, host, measured)
           select pool, host, %s || jsonb_strip_nulls(jsonb_build_object(
               'clock_ahead_seconds', extract(epoch from %s::timestamptz - armillary_now())))
           from worker where id = %s
           on conflict (pool, host) do update set measured = excluded.measured, at = excluded.at""",
        [jsonb(measured), clock, worker],
    )


async def forget_machines(tx: Transaction, gone: Sequence[Row]) -> None:
    """Forget the machines of these workers where no other is left."""
    await tx.execute(
        """delete from machine using unnest(%s::text[], %s::text[]) as left_behind (pool, host)
           where machine.pool = left_behind.pool and machine.host = left_behind.host and not exists (
               select from worker where worker.pool = machine.pool and worker.host = machine.host and worker.state <> 'gone')""",
        [[row["pool"] for row in gone], [row["host"] for row in gone]],
    )


async def set_lost(tx: Transaction, workers: Sequence[UUID], held: Mapping[UUID, int]) -> None:
    """These workers, which are gone, have died, each with so many jobs in hand."""
    await tx.execute(
        """update worker set lost_jobs = dead.jobs from unnest(%s::uuid[], %s::integer[]) as dead (id, jobs)
           where worker.id = dead.id""",
        [list(workers), [held.get(worker, 0) for worker in workers]],
    )


async def silent(tx: Transaction, time_to_live: timedelta, gap: timedelta) -> list[tuple[UUID, bool]]:
    """Workers that are dead, and whether they had hung up; locked.

    Not heard of for a time to live, during all of which they could have reached us. Or for a good third of it (a beat and
    somewhat more) since they hung up, if the way to us is open: others of their pool beat meanwhile, who have not hung up
    lately. A proxy that goes takes many lines with it and no worker.
    """
    rows = await tx.rows(
        """with known as (
                   select id, pool, beat_at, hung_up_at, greatest(%(ttl)s, silent_after) as patience
                   from worker where state <> 'gone'),
               witness as (
                   select pool, max(beat_at) as beat_at from known
                   where hung_up_at is null or hung_up_at < armillary_now() - greatest(interval '1 minute', patience)
                   group by pool)
           select worker.id, worker.beat_at >= armillary_now() - patience as has_hung_up
           from reachable, worker join known using (id) left join witness on witness.pool = worker.pool
           where reachable.since < armillary_now() - patience and reachable.beat_at >= armillary_now() - %(gap)s
               and (worker.beat_at < armillary_now() - patience
                    or (worker.beat_at <= worker.hung_up_at and witness.beat_at > worker.hung_up_at
                        and worker.hung_up_at < armillary_now() - patience / 3 - %(ttl)s / 10))
               and worker.state <> 'gone'
           order by worker.id for update of worker skip locked""",
        {"ttl": time_to_live, "gap": gap},
    )
    return [(row["id"], row["has_hung_up"]) for row in rows]


async def alive(tx: Transaction) -> int:
    """How many workers there are in all pools."""
    number: int = await tx.value("select count(*) from worker where state <> 'gone'")
    return number


async def draining(tx: Transaction) -> list[UUID]:
    """Workers that are to take nothing new."""
    return [row["id"] for row in await tx.rows("select id from worker where state = 'draining'")]


async def gone_among(tx: Transaction, workers: Sequence[UUID]) -> list[UUID]:
    """Those of these that are gone."""
    rows = await tx.rows("select id from worker where id = any(%s) and state = 'gone'", [list(workers)])
    return [row["id"] for row in rows]


async def workers(tx: Transaction, pool: str, *, with_gone: bool = False, limit: int = 1000) -> list[Worker]:
    """The workers of a pool, newest first."""
    return _workers(
        await tx.rows(
            f"""select {_WORKER} from worker where pool = %s and (%s or state <> 'gone')
                order by registered_at desc, id limit %s""",
            [pool, with_gone, limit],
        )
    )


async def newest_workers(
    tx: Transaction, scope: dict[str, Any], pool: str | None, after: UUID | None, limit: int
) -> list[Worker]:
    """Workers that were ever registered, newest first."""
    return _workers(
        await tx.rows(
            f"""select {_WORKER} from worker join pool on pool.id = worker.pool
                where (%(pool)s::text is null or worker.pool = %(pool)s)
                    and (%(after)s::uuid is null or worker.id < %(after)s) and {VISIBLE}
                order by worker.id desc limit %(limit)s""",
            scope | {"pool": pool, "after": after, "limit": limit},
        )
    )


def _workers(rows: list[Row]) -> list[Worker]:
    return [Worker(**row | {"capacity": Resources(**row["capacity"], time_seconds=math.inf)}) for row in rows]


# What an observer asks -----------------------------------------------------------------------------------------

_SEEN = """select worker.id, worker.pool, pool."group", worker.host, worker.state, worker.reason, worker.capacity,
        armillary_now() - worker.beat_at as silent_for, armillary_now() - worker.idle_since as idle_for,
        worker.lost_jobs
    from worker join pool on pool.id = worker.pool"""
MOST_SEEN = 1000


async def seen_silent(tx: Transaction, time_to_live: timedelta, late: timedelta) -> list[Seen]:
    """Workers that should have been declared gone so long ago."""
    condition = """worker.state <> 'gone' and worker.beat_at < armillary_now() - %(late)s
        - greatest(%(ttl)s, worker.silent_after)"""
    return await _seen(tx, condition, {"ttl": time_to_live, "late": late})


async def seen_dead(tx: Transaction, within: timedelta) -> list[Seen]:
    """Workers that died lately."""
    return await _seen(
        tx, "worker.lost_jobs is not null and worker.ended_at > armillary_now() - %(within)s", {"within": within}
    )


async def seen_quarantined(tx: Transaction) -> list[Seen]:
    """Workers that are set apart."""
    return await _seen(tx, "worker.state = 'quarantined'", {})


async def seen_short_of_disk(tx: Transaction, below_bytes: int) -> list[MachineSeen]:
    """Machines whose disk, where jobs run, has less free than this."""
    return await _machines(tx, "disk_size_bytes - used_bytes < %(below)s", {"below": below_bytes})


async def seen_off_clock(tx: Transaction, beyond_seconds: float) -> list[MachineSeen]:
    """Machines whose clock differs from the database's by more than this."""
    return await _machines(tx, "abs(clock_ahead_seconds) > %(beyond)s", {"beyond": beyond_seconds})


async def _machines(tx: Transaction, condition: str, params: Mapping[str, Any]) -> list[MachineSeen]:
    return await tx.all(
        MachineSeen,
        f"""select pool, "group", host, clock_ahead_seconds, disk_size_bytes - used_bytes as disk_free_bytes, disk_size_bytes
            from (select machine.pool, pool."group", machine.host,
                      coalesce((measured->>'clock_ahead_seconds')::float8, 0) as clock_ahead_seconds,
                      (measured->>'work_disk_bytes')::bigint as disk_size_bytes,
                      (measured->>'work_disk_used_bytes')::bigint as used_bytes
                  from machine join pool on pool.id = machine.pool) as told
            where disk_size_bytes is not null and {condition} order by pool, host limit {MOST_SEEN}""",
        params,
    )


async def seen_idle(tx: Transaction, pools: Sequence[str], at_least: timedelta) -> list[Seen]:
    """Live workers of these pools that have been idle for so long, although nothing kept them from work."""
    condition = """worker.state = 'live' and worker.trial_at is null and worker.pool = any(%(pools)s)
        and worker.idle_since < armillary_now() - %(at_least)s"""
    return await _seen(tx, condition, {"pools": list(pools), "at_least": at_least})


async def idle_counts(tx: Transaction) -> dict[str, int]:
    """How many live workers of each pool do nothing."""
    rows = await tx.rows(
        "select pool, count(*) as number from worker where state = 'live' and idle_since is not null group by pool"
    )
    return {row["pool"]: row["number"] for row in rows}


async def _seen(tx: Transaction, condition: str, params: Mapping[str, Any]) -> list[Seen]:
    rows = await tx.rows(f"{_SEEN} where {condition} order by worker.id limit {MOST_SEEN}", params)
    return [Seen(**row | {"capacity": Resources(**row["capacity"], time_seconds=math.inf)}) for row in rows]


# Starts --------------------------------------------------------------------------------------------------------


async def insert_starts(
    tx: Transaction, starts: Sequence[UUID], pool: str, provider: str, options: Mapping[str, Any]
) -> None:
    """Record workers that are about to be started."""
    await tx.execute(
        """insert into worker_start (id, pool, provider, options) select id, %s, %s, %s from unnest(%s::uuid[]) as id""",
        [pool, provider, jsonb(options), list(starts)],
    )


async def set_found(tx: Transaction, start: UUID, found: Found) -> None:
    """The provider's name for what it started, and how that is."""
    await tx.execute(
        """update worker_start set reference = %s, state = %s, note = %s,
               running_at = case when %s = 'pending' then null else coalesce(running_at, armillary_now()) end
           where id = %s""",
        [found.reference, found.state, found.note, found.state, start],
    )


async def lock_start(tx: Transaction, start: UUID) -> Row | None:
    """A start that has not ended."""
    return await tx.row(
        "select id, pool, worker_id from worker_start where id = %s and ended_at is null for update", [start]
    )


async def set_worker(tx: Transaction, start: UUID, worker: UUID) -> None:
    """What was started has registered."""
    await tx.execute("update worker_start set worker_id = %s where id = %s", [worker, start])


async def end_starts(tx: Transaction, ended: Mapping[UUID, str]) -> None:
    """These are no more, for these reasons."""
    await tx.execute(
        """update worker_start set ended_at = armillary_now(), reason = gone.reason
           from unnest(%s::uuid[], %s::text[]) as gone (id, reason)
           where worker_start.id = gone.id and ended_at is null""",
        [list(ended), list(ended.values())],
    )


_START = """start.id, start.pool, start.provider, start.reference, start.started_at, start.worker_id,
    start.state, start.note, start.options, armillary_now() - start.started_at as age,
    worker.state as worker_state, coalesce(worker.idle_since is not null, false) as is_idle,
    armillary_now() - worker.idle_since as idle_for, coalesce(worker.host, '') as host"""


async def starts(tx: Transaction, pool: str | None = None) -> list[Start]:
    """All that providers have started and that has not ended, oldest first."""
    return await tx.all(
        Start,
        f"""select {_START} from worker_start as start left join worker on worker.id = start.worker_id
            where start.ended_at is null and (%(pool)s::text is null or start.pool = %(pool)s)
            order by start.started_at, start.id""",
        {"pool": pool},
    )


async def doubtful(tx: Transaction, within: timedelta) -> list[Start]:
    """What was to be started elsewhere and ended lately without a word from it: a submission that timed out may come yet."""
    return await tx.all(
        Start,
        f"""select {_START.replace("start.reference", "null as reference")}
            from worker_start as start left join worker on worker.id = start.worker_id
            where start.ended_at > armillary_now() - %s and start.worker_id is null and start.provider <> 'local'
            order by start.started_at, start.id""",
        [within],
    )


async def note_leftovers(tx: Transaction, starts: Sequence[UUID], said: str) -> None:
    """Say of starts that were thought to have ended what became of them, once."""
    await tx.execute(
        """update worker_start set reason = concat_ws(' ', nullif(reason, ''), %(said)s::text)
           where id = any(%(starts)s) and position(%(said)s in coalesce(reason, '')) = 0""",
        {"starts": list(starts), "said": said},
    )


async def ended_starts(tx: Transaction, pool: str, limit: int) -> list[Row]:
    """The last that ended, newest first."""
    return await tx.rows(
        """select id, provider, reference, reason, started_at, ended_at, worker_id from worker_start
           where pool = %s and ended_at is not null order by ended_at desc limit %s""",
        [pool, limit],
    )


async def unregistered(tx: Transaction, within: timedelta) -> list[UUID]:
    """Starts that should have registered by now: they run, and nothing was heard of them."""
    rows = await tx.rows(
        """select id from worker_start where ended_at is null and worker_id is null
           and running_at < armillary_now() - %s""",
        [within],
    )
    return [row["id"] for row in rows]


async def overdue_drains(tx: Transaction, pool: str, within: timedelta) -> list[UUID]:
    """Workers that were asked to drain longer ago than the pool allows."""
    rows = await tx.rows(
        """select id from worker where pool = %s and state = 'draining' and drained_at < armillary_now() - %s""",
        [pool, within],
    )
    return [row["id"] for row in rows]


async def decided(tx: Transaction, pool: str, wanted: int, why: str) -> None:
    """Keep what the reconciler wishes and why, for whoever wonders."""
    await tx.execute(
        """update pool set wanted = %(wanted)s, why = %(why)s, decided_at = armillary_now()
           where id = %(pool)s and (wanted is distinct from %(wanted)s or why <> %(why)s)""",
        {"pool": pool, "wanted": wanted, "why": why},
    )


async def set_size(tx: Transaction, pool: str, size: Resources) -> None:
    """How large the workers of a pool are; one that nobody ends lasts for ever, which JSON has no number for."""
    lasts = size.time_seconds if math.isfinite(size.time_seconds) else None
    known = jsonb({name: getattr(size, name) for name in _SIZE} | {"time_seconds": lasts})
    await tx.execute("update pool set size = %s where id = %s and size is distinct from %s", [known, pool, known])


def read_size(size: Mapping[str, Any]) -> Resources:
    """The same the other way."""
    lasts = size["time_seconds"]
    return Resources(**{name: size[name] for name in _SIZE}, time_seconds=math.inf if lasts is None else float(lasts))


async def hours_today(tx: Transaction, pool: str) -> float:
    """Hours that started workers of a pool have run since midnight UTC; what is pending costs nothing."""
    hours = await tx.value(
        """select coalesce(sum(extract(epoch from coalesce(ended_at, armillary_now()) - greatest(running_at, midnight))), 0)
                  / 3600
           from worker_start, (select date_trunc('day', armillary_now(), 'UTC') as midnight) as today
           where pool = %s and running_at is not null and coalesce(ended_at, 'infinity') > midnight""",
        [pool],
    )
    return float(hours)


async def may_start(tx: Transaction, pool: str, longest: timedelta) -> bool:
    """Whether enough time has passed since workers ended before they registered: twice as long after each in a row."""
    allowed: bool = await tx.value(
        """select coalesce(max(ended_at) + least(%(longest)s, make_interval(secs => power(2, least(count(*), 20))))
                           <= armillary_now(), true)
           from worker_start
           where pool = %(pool)s and worker_id is null and ended_at > armillary_now() - 2 * %(longest)s
               and started_at > (select coalesce(max(started_at), '-infinity') from worker_start
                                 where pool = %(pool)s and worker_id is not null)""",
        {"pool": pool, "longest": longest},
    )
    return allowed


async def counts(tx: Transaction) -> dict[str, dict[WorkerState, int]]:
    """Workers per pool and state."""
    found: dict[str, dict[WorkerState, int]] = {}
    for row in await tx.rows(
        "select pool, state, count(*) as number from worker where state <> 'gone' group by pool, state"
    ):
        found.setdefault(row["pool"], {})[row["state"]] = row["number"]
    return found
