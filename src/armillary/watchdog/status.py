"""`armillary status`: what runs, what waits, and what is wrong, each with its reason and remedy."""

import shutil
from typing import Any

from armillary.base.db import Transaction
from armillary.base.settings import Settings
from armillary.base.units import human_size

LOW_DISK_BYTES = 1 << 30


async def status(tx: Transaction, settings: Settings) -> dict[str, Any]:
    """The state of the whole instance in a few numbers."""
    jobs = await tx.rows("select state, count(*) as n from job group by state")
    servers = await tx.rows(
        "select host, pid, roles, version, started_at from server where beat_at > armillary_now() - interval '10 seconds'"
    )
    return {
        "servers": servers,
        "granules": await tx.value("select count(*) from granule where revision > 0"),
        "jobs": {row["state"]: row["n"] for row in jobs},
        "pools": await tx.rows(_POOLS),
        "firings": {
            row["state"]: row["n"] for row in await tx.rows("select state, count(*) as n from firing group by state")
        },
        "deliveries": {
            row["state"]: row["n"] for row in await tx.rows("select state, count(*) as n from delivery group by state")
        },
        "problems": await _problems(tx, settings),
    }


_POOLS = """
    select pool.id,
        (select count(*) from worker where worker.pool = pool.id and state <> 'gone') as workers,
        (select count(*) from job_queue where job_queue.pool = pool.id and worker_id is null) as waiting,
        (select count(*) from job_queue where job_queue.pool = pool.id and worker_id is not null) as running
    from pool order by id"""

# Each gives rows of (what, why) and has a remedy.
_QUESTIONS = (
    (
        """select 'pool ' || pool as what, count(*) || ' jobs wait and no worker lives' as why from job_queue
           where worker_id is null and ready_at < armillary_now() - interval '30 seconds'
             and not exists (select from worker where worker.pool = job_queue.pool and state <> 'gone') group by pool""",
        "Start workers: `armillary pool show POOL` tells what its provider says.",
    ),
    (
        """select 'wakes of ' || consumer as what, count(*) || ' wait, the oldest since ' || min(created_at) as why from wake
           where due_at < armillary_now() - interval '30 seconds' group by consumer""",
        "Is a server with the reactor's role running? See its log.",
    ),
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


async def _problems(tx: Transaction, settings: Settings) -> list[dict[str, str]]:
    problems = [
        {"what": row["what"], "why": row["why"], "remedy": remedy}
        for sql, remedy in _QUESTIONS
        for row in await tx.rows(sql)
    ]
    free = shutil.disk_usage(settings.home).free
    if free < LOW_DISK_BYTES:
        problems.append(
            {
                "what": f"disk of {settings.home}",
                "why": f"only {human_size(free)} are free",
                "remedy": "Free some space.",
            }
        )
    return problems
