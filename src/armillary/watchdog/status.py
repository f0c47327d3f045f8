"""`armillary status` and the health page: what runs, what waits, and what is wrong, each with its reason and remedy."""

from typing import Any

from armillary.accounts.actor import Actor
from armillary.base import servers
from armillary.base.clock import iso
from armillary.base.db import Transaction
from armillary.base.loops import turns
from armillary.jobs import observe as jobs
from armillary.jobs import pause, queue
from armillary.pools import observe
from armillary.pools.pool import PoolSeen
from armillary.watchdog import store
from armillary.watchdog.finding import SEVERITIES, Known
from armillary.watchdog.sweep import Sweep
from armillary.watchdog.watch import SINGLETON


async def status(tx: Transaction, actor: Actor) -> dict[str, Any]:
    """The state of the whole instance in a few numbers."""
    states = await tx.rows("select state, count(*) as n from job group by state")
    return {
        "servers": [
            {"host": one.host, "pid": one.pid, "roles": one.roles, "version": one.version, "started_at": one.started_at}
            for one in await servers.living(tx)
        ],
        "granules": await tx.value("select count(*) from granule where revision > 0"),
        "jobs": {row["state"]: row["n"] for row in states},
        "pools": await tx.rows(_POOLS),
        "firings": {
            row["state"]: row["n"] for row in await tx.rows("select state, count(*) as n from firing group by state")
        },
        "deliveries": {
            row["state"]: row["n"] for row in await tx.rows("select state, count(*) as n from delivery group by state")
        },
        "findings": [shown(one) for one in await store.open_all(tx, actor.scope)],
        "problems": await _problems(tx),
    }


async def health(tx: Transaction, actor: Actor, sweeps: tuple[Sweep, ...]) -> dict[str, Any]:
    """How each part of the machinery is: servers with their loops and disks, pools, queues, the database, the watchdog."""
    watching = await servers.holder(tx, SINGLETON)
    living = await servers.living(tx)
    return {
        "at": iso(await tx.value("select armillary_now()")),
        "findings": [shown(one) for one in await store.open_all(tx, actor.scope)],
        "counts": await store.counts(tx),
        "sweeps": await _sweeps(tx, sweeps),
        "servers": [_server(one, is_watching=one.id == watching) for one in living],
        "pools": await _pools(tx, actor),
        "paused": [
            {name: one[name] for name in ("algorithm", "version", "reason", "paused_by")} | {"since": iso(one["paused_at"])}
            for one in await pause.paused(tx, actor)
        ],
        "waiting": await jobs.waiting_reasons(tx, actor),
        "database": await tx.row(_DATABASE),
        "problems": await _problems(tx),
    }  # fmt: skip


def shown(one: Known) -> dict[str, Any]:
    """A finding as JSON."""
    names = ("sweep", "subject", "severity", "reason", "action", "remedy", "group")
    times = {
        name: iso(time) if (time := getattr(one, name)) else None for name in ("opened_at", "seen_at", "closed_at")
    }
    return {"id": str(one.id), "state": "closed" if one.closed_at else "open"} | {
        name: getattr(one, name) for name in names
    } | times  # fmt: skip


async def _sweeps(tx: Transaction, sweeps: tuple[Sweep, ...]) -> list[dict[str, Any]]:
    ran = await store.sweeps(tx)
    counts = {(row["sweep"], row["severity"]): row["open"] for row in await store.counts(tx)}
    return [
        {
            "name": one.name,
            "about": one.about,
            "every_seconds": one.every.total_seconds(),
            "ran_at": iso(ran[one.name]["ran_at"]) if one.name in ran else None,
            "seconds": ran[one.name]["seconds"] if one.name in ran else None,
            "error": ran[one.name]["error"] if one.name in ran else "",
            "open": {level: counts.get((one.name, level), 0) for level in SEVERITIES},
        }
        for one in sweeps
    ]


def _server(one: servers.Living, *, is_watching: bool) -> dict[str, Any]:
    return {
        "host": one.host,
        "pid": one.pid,
        "roles": list(one.roles),
        "version": one.version,
        "started_at": iso(one.started_at),
        "is_watching": is_watching,
        "clock_ahead_seconds": one.told.get("clock_ahead_seconds"),
        "disks": one.told.get("disks", []),
        "loops": [{"name": name} | vars(turn) for name, turn in turns(one.told.get("loops", {})).items()],
    }


async def _pools(tx: Transaction, actor: Actor) -> list[dict[str, Any]]:
    demand = await queue.demand(tx)
    found = []
    for one in await observe.pools(tx):
        if not (actor.is_owner or actor.group == one.group):
            continue
        wanted = demand.get(one.pool.id, queue.Demand())
        oldest = min((share.oldest for share in wanted.algorithms if share.oldest), default=None)
        found.append(
            {
                "id": one.pool.id,
                "provider": one.pool.provider or "none",
                "max_workers": one.pool.max_workers,
                "wanted": one.wanted,
                "workers": _workers(one),
                "why": one.why,
                "running": wanted.running,
                "waiting": wanted.waiting,
                "waiting_since": iso(oldest) if oldest else None,
            }
        )
    return found


def _workers(one: PoolSeen) -> dict[str, int]:
    """Workers by what they do."""
    apart = {state: one.workers.get(state, 0) for state in ("draining", "quarantined")}
    return {"busy": one.workers.get("live", 0) - one.idle, "idle": one.idle} | apart


_POOLS = """
    select pool.id,
        (select count(*) from worker where worker.pool = pool.id and state <> 'gone') as workers,
        (select count(*) from job_queue where job_queue.pool = pool.id and worker_id is null) as waiting,
        (select count(*) from job_queue where job_queue.pool = pool.id and worker_id is not null) as running
    from pool order by id"""

_DATABASE = """
    select current_setting('server_version') as version, pg_database_size(current_database()) as size_bytes,
        (select count(*) from pg_stat_activity where datname = current_database()) as connections,
        current_setting('max_connections')::integer as max_connections,
        (select max(name) from migration) as migration"""

# What no sweep looks after, as it is no matter of the machinery: each gives rows of (what, why) and has a remedy.
_QUESTIONS = (
    (
        """select 'deliveries to ' || destination as what, count(*) || ' failed: ' || max(reason) as why from delivery
           where state in ('failed', 'rejected') group by destination""",
        "Mend what the reason says, then `armillary delivery send` them again.",
    ),
    (
        """select 'job ' || id as what, 'it failed: ' || reason as why from job
           where state = 'failed' and ended_at > armillary_now() - interval '1 day' order by ended_at desc limit 5""",
        "`armillary job logs ID`, then `armillary job retry ID`.",
    ),
)


async def _problems(tx: Transaction) -> list[dict[str, str]]:
    problems = [
        {"what": row["what"], "why": row["why"], "remedy": remedy}
        for sql, remedy in _QUESTIONS
        for row in await tx.rows(sql)
    ]
    if await servers.holder(tx, SINGLETON) is None:
        remedy = "Start a server with the watchdog's role; one that was killed is followed by another within seconds."
        problems.append({"what": "watchdog", "why": "no server looks after the others now", "remedy": remedy})
    return problems
