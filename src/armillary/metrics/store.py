"""The SQL of metrics: what is added up from the history, and what is asked of the present."""

from collections.abc import Iterator, Mapping

from armillary.base.db import Row, Transaction
from armillary.base.history import Window
from armillary.metrics.metric import CURRENT, HOSTS, TALLIED, Metric

MAX_HOSTS = 1000

# Counters ------------------------------------------------------------------------------------------------------


def _told(name: str) -> str:
    """A number that a worker has told of an attempt; whatever else it has written there counts as nothing."""
    return f"jsonb_path_query_first(usage, '$.{name} ? (@ >= 0 && @ < 1e18)')::float8"


# Where the values of the tallied metrics come from: the source, their labels in order, the value, and which rows count.
_ENDED, _FETCHED, _MADE = "ended", "fetched", "made"
_SOURCES: Mapping[str, tuple[str, str, str, str]] = {
    "armillary_events_total": ("told", "kind", "1", "true"),
    "armillary_attempts_total": (_ENDED, "algorithm; pool; outcome; error_class; exit_code", "1", "true"),
    "armillary_jobs_ended_total": ("job_ended", "algorithm; state", "1", "true"),
    "armillary_attempt_cost_total": (_ENDED, "algorithm; pool", "cost", "cost is not null"),
    "armillary_job_duration_seconds": (_ENDED, "algorithm", "at - created_at", "state = 'succeeded' and created_at is not null"),
    "armillary_job_wait_seconds": (_ENDED, "algorithm", "leased_at - created_at", "number = 1 and created_at is not null"),
    "armillary_attempt_duration_seconds": (_ENDED, "algorithm", "at - leased_at", "true"),
    "armillary_attempt_run_seconds": (_ENDED, "algorithm", _told("run_seconds"), "ran"),
    "armillary_attempt_stage_in_seconds": (_ENDED, "algorithm", _told("stage_in_seconds"), "ran"),
    "armillary_attempt_stage_out_seconds": (_ENDED, "algorithm", _told("stage_out_seconds"), "ran"),
    "armillary_attempt_cpu_seconds": (_ENDED, "algorithm", _told("cpu_seconds"), "ran"),
    "armillary_attempt_memory_bytes": (_ENDED, "algorithm", _told("peak_memory_bytes"), "ran"),
    "armillary_attempt_disk_bytes": (_ENDED, "algorithm", _told("disk_bytes"), "ran"),
    "armillary_attempt_input_bytes": (_ENDED, "algorithm", "input_bytes", "ran"),
    "armillary_input_transfer_bytes_per_second": (
        _FETCHED, "algorithm", "bytes / seconds", "source = 'fetched' and seconds > 0"),
    "armillary_input_files_total": (_FETCHED, "algorithm; source", "1", "true"),
    "armillary_input_bytes_total": (_FETCHED, "algorithm; source", "bytes", "true"),
    "armillary_product_bytes": (_MADE, "algorithm; collection", "size_bytes", "true"),
    "armillary_product_transfer_bytes_per_second": (
        "sent", "algorithm", "size_bytes / seconds", "seconds > 0"),
    "armillary_granules_total": ("committed", "collection", "1", "true"),
    "armillary_granule_bytes_total": ("committed", "collection", "size_bytes", "true"),
    "armillary_firings_total": ("told", "detail->>'rule'; split_part(kind, '.', 2)", "1", "kind like 'firing.%%'"),
    "armillary_deliveries_total": ("told", "detail->>'destination'; split_part(kind, '.', 2)", "1", "kind like 'delivery.%%'"),
    "armillary_delivery_duration_seconds": ("delivered", "destination", "at - created_at", "true"),
    "armillary_worker_events_total": ("told", "detail->>'pool'; split_part(kind, '.', 2)", "1", "kind like 'worker.%%'"),
}  # fmt: skip

# Each event has few rows elsewhere, found by their keys: the cost of a round is that of what happened, not of the history.
_EVENTS = """
    told as materialized (
        select at, kind, subject, detail from event where at >= %(since)s and at < %(until)s),
    job_ended as materialized (
        select detail->>'algorithm' as algorithm, detail->>'state' as state from told
        where kind = 'job.finished' and detail->>'state' in ('succeeded', 'failed', 'cancelled')),
    ended as materialized (
        select told.at, detail->>'algorithm' as algorithm, detail->>'state' as state, attempt.job_id, attempt.number,
               attempt.pool, attempt.leased_at, attempt.outcome, attempt.error_class, attempt.cost, attempt.usage,
               coalesce(attempt.exit_code::text, '') as exit_code, attempt.usage ? 'cpu_seconds' as ran, job.created_at,
               (select sum(size.value::float8)
                from jsonb_path_query(attempt.usage, '$.transfers[*].bytes ? (@ >= 0 && @ < 1e18)') as size (value)
               ) as input_bytes
        from told join attempt on attempt.job_id = (detail->>'job')::uuid and attempt.number = (detail->>'attempt')::integer
                and attempt.leased_at between told.at - interval '100 days' and told.at  -- few partitions to look into
            left join job on job.id = attempt.job_id
        where kind in ('job.finished', 'job.requeued') and detail ? 'outcome' and attempt.ended_at is not null),
    fetched as materialized (
        select algorithm, (file->>'bytes')::float8 as bytes, (file->>'seconds')::float8 as seconds,
               case when file->>'from' = 'cache' then 'cache' else 'fetched' end as source
        from ended, jsonb_path_query(usage,
            '$.transfers[*] ? (@.bytes >= 0 && @.bytes < 1e18 && @.seconds >= 0 && @.seconds < 1e9)') as file),
    made as materialized (
        select ended.algorithm, ended.job_id, item.collection, item.size_bytes, ended.usage
        from ended join job_output on job_output.job_id = ended.job_id and ended.state = 'succeeded'
            join item on item.collection = job_output.collection and item.granule = job_output.granule
                and item.revision = job_output.revision),
    sent as materialized (
        select algorithm, sum(size_bytes) as size_bytes, min({stage_out}) as seconds from made group by algorithm, job_id),
    committed as materialized (
        select item.collection, item.size_bytes
        from told join item on item.collection = detail->>'collection' and item.granule = detail->>'granule'
            and item.revision = (detail->>'revision')::integer
        where kind = 'granule.committed'),
    delivered as materialized (
        select told.at, delivery.destination, delivery.created_at
        from told join delivery on delivery.id = substr(subject, 10)::uuid where kind = 'delivery.sent')
""".format(stage_out=_told("stage_out_seconds"))


def _bucket(metric: Metric) -> str:
    """How many bounds are below the value: a value that is a bound belongs to its bucket."""
    if not metric.bounds:
        return "0"
    falling = ",".join(repr(-bound) for bound in reversed(metric.bounds))
    return f"{len(metric.bounds)} - width_bucket(-value, array[{falling}]::float8[])"


def _values(metric: Metric) -> str:
    source, labels, value, condition = _SOURCES[metric.name]
    texts = ", ".join(f"coalesce(({label})::text, '')" for label in labels.split("; "))
    number = f"({f'extract(epoch from {value})' if ' - ' in value else value})::float8"
    return f"""
        select '{metric.name}'::text as metric, labels, {_bucket(metric)} as bucket, count(*) as count, sum(value) as total
        from (select array[{texts}] as labels, case when {number} < 0 then 0 else {number} end as value
              from {source} where {condition}) as one
        where value is not null group by labels, bucket"""


_TALLY = f"""with {_EVENTS},
    news as ({" union all ".join(map(_values, TALLIED))})
    insert into tally (metric, labels, bucket, count, total) select * from news order by metric, labels, bucket
    on conflict (metric, labels, bucket) do update
        set count = tally.count + excluded.count, total = tally.total + excluded.total"""


async def tally(tx: Transaction, read: Window) -> None:
    """Add up what happened within a window."""
    await tx.execute(_TALLY, read.params)


async def tallies(tx: Transaction) -> list[Row]:
    """Everything that was added up."""
    return await tx.rows("select metric, labels, bucket, count, total from tally order by metric, labels, bucket")


# The present ---------------------------------------------------------------------------------------------------

# What gives the series of these gauges: one row for each, with the labels and a column named as the metric.
_CURRENT: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("armillary_jobs",),
        """select pool, algorithm, case when worker_id is not null then 'running'
                      when ready_at = 'infinity' then 'held' else 'queued' end as state, count(*) as armillary_jobs
           from job_queue group by 1, 2, 3""",
    ),
    (
        ("armillary_queue_oldest_seconds",),
        """select pool, extract(epoch from armillary_now() - min(ready_at)) as armillary_queue_oldest_seconds
           from job_queue where worker_id is null and ready_at <= armillary_now() group by pool""",
    ),
    (
        ("armillary_workers",),
        "select pool, state, count(*) as armillary_workers from worker where state <> 'gone' group by 1, 2",
    ),
    (
        ("armillary_workers_wanted",),
        "select id as pool, wanted as armillary_workers_wanted from pool where wanted is not null",
    ),
    (
        (
            "armillary_worker_heartbeat_age_seconds",
            "armillary_worker_capacity_cores",
            "armillary_worker_capacity_bytes",
        ),
        """select pool, extract(epoch from armillary_now() - min(beat_at)) as armillary_worker_heartbeat_age_seconds,
                  sum((capacity->>'cpu')::float8) as armillary_worker_capacity_cores,
                  sum((capacity->>'memory_bytes')::float8) as armillary_worker_capacity_bytes
           from worker where state <> 'gone' group by pool""",
    ),
    (
        ("armillary_hosts",),
        """select pool, count(*) as armillary_hosts from machine where at > armillary_now() - interval '3 minutes' group by pool""",
    ),
    (
        ("armillary_wakes", "armillary_wake_oldest_seconds"),
        """select consumer, count(*) as armillary_wakes,
                  extract(epoch from armillary_now() - min(due_at)) as armillary_wake_oldest_seconds
           from (select consumer, due_at from wake union all select 'rule ' || rule, due_at from rule_wake) as work
           where due_at <= armillary_now() group by consumer""",
    ),
    (
        ("armillary_firings_waiting",),
        "select rule, count(*) as armillary_firings_waiting from firing where state = 'waiting' group by rule",
    ),
    (
        ("armillary_deliveries_open",),
        """select destination, state, count(*) as armillary_deliveries_open from delivery
           where state in ('intended', 'sent', 'failed') group by 1, 2""",
    ),
    (("armillary_uploads_open",), "select count(*) as armillary_uploads_open from upload where state = 'open'"),
    (
        ("armillary_servers",),
        """select role, count(*) as armillary_servers from server, unnest(roles) as role
           where beat_at > armillary_now() - interval '10 seconds' group by role""",
    ),
    (("armillary_findings",), "select sweep, severity, open as armillary_findings from armillary_findings()"),
    (
        ("armillary_sweep_age_seconds", "armillary_sweep_seconds"),
        """select name as sweep, extract(epoch from armillary_now() - ran_at) as armillary_sweep_age_seconds,
                  seconds as armillary_sweep_seconds from sweep""",
    ),
    (("armillary_database_bytes",), "select pg_database_size(current_database()) as armillary_database_bytes"),
    (
        ("armillary_history_lag_seconds",),
        """select name as reader, extract(epoch from armillary_now() - read_until) as armillary_history_lag_seconds
           from history_reader""",
    ),
)


async def current(tx: Transaction) -> dict[str, list[tuple[list[str], float]]]:
    """By metric its series, each with the values of its labels."""
    found: dict[str, list[tuple[list[str], float]]] = {}
    labels = {metric.name: metric.labels for metric in CURRENT}
    for names, sql in _CURRENT:
        rows = await tx.rows(sql)
        for name in names:
            found[name] = [([row[label] for label in labels[name]], float(row[name])) for row in rows]
    return found


# What a worker calls it.
_HOST_FIELDS = {metric.name: metric.name.removeprefix("armillary_host_").removesuffix("_total") for metric in HOSTS}


async def hosts(tx: Transaction) -> dict[str, list[tuple[list[str], float]]]:
    """The same of the machines that were heard of last."""
    rows = await tx.rows(
        """select pool, host, measured from machine where at > armillary_now() - interval '3 minutes'
           order by at desc limit %s""",
        [MAX_HOSTS],
    )
    return {metric.name: list(_of_hosts(metric, rows)) for metric in HOSTS}


def _of_hosts(metric: Metric, rows: list[Row]) -> Iterator[tuple[list[str], float]]:
    field = _HOST_FIELDS[metric.name]
    for row in rows:
        if field in row["measured"]:
            yield [row["pool"], row["host"]], float(row["measured"][field])
