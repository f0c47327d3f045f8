"""Every metric by name: what it counts or measures, its labels, and the bounds of its buckets."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Part = Literal["instance", "server"]

SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
BYTES = tuple(float(1 << power) for power in (10, 16, 20, 23, 26, 28, 30, 32, 34, 36, 38, 40))
BYTES_PER_SECOND = tuple(float(1 << power) for power in (16, 18, 20, 22, 24, 25, 26, 27, 28, 29, 30, 32))
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0)


@dataclass(frozen=True)
class Metric:
    """One family of series; a counter's name ends in `_total`, and the unit is in the name."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()
    part: Part = "instance"

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which it is queried."""
        endings = ("_bucket", "_sum", "_count") if self.kind == "histogram" else ("",)
        return tuple(self.name + ending for ending in endings)


def _counter(name: str, labels: str, meaning: str) -> Metric:
    return Metric(name, "counter", tuple(labels.split()), meaning)


def _histogram(name: str, labels: str, bounds: tuple[float, ...], meaning: str) -> Metric:
    return Metric(name, "histogram", tuple(labels.split()), meaning, bounds)


def _gauge(name: str, labels: str, meaning: str) -> Metric:
    return Metric(name, "gauge", tuple(labels.split()), meaning)


# Added up from the history by one server at a time; they go on where they were after any restart.
TALLIED = (
    _counter("armillary_events_total", "kind", "Events of all kinds, as the log of events names them."),
    _counter("armillary_attempts_total", "algorithm pool outcome error_class exit_code", "Attempts that ended."),
    _counter("armillary_jobs_ended_total", "algorithm state", "Jobs that ended: succeeded, failed or cancelled."),
    _counter("armillary_attempt_cost_total", "algorithm pool", "What attempts cost, in the site's currency."),
    _histogram("armillary_job_duration_seconds", "algorithm", SECONDS, "From a job's submission to its success."),
    _histogram("armillary_job_wait_seconds", "algorithm", SECONDS, "From a job's submission to its first lease."),
    _histogram("armillary_attempt_duration_seconds", "algorithm", SECONDS, "From an attempt's lease to its end."),
    _histogram("armillary_attempt_run_seconds", "algorithm", SECONDS, "How long the program (or container) ran."),
    _histogram("armillary_attempt_stage_in_seconds", "algorithm", SECONDS, "How long inputs took to be laid out."),
    _histogram("armillary_attempt_stage_out_seconds", "algorithm", SECONDS, "How long products took to be sent."),
    _histogram("armillary_attempt_cpu_seconds", "algorithm", SECONDS, "CPU time of an attempt's program."),
    _histogram("armillary_attempt_memory_bytes", "algorithm", BYTES, "The most memory that an attempt had."),
    _histogram("armillary_attempt_disk_bytes", "algorithm", BYTES, "What an attempt had written to its folder."),
    _histogram("armillary_attempt_input_bytes", "algorithm", BYTES, "Inputs of an attempt, cached ones included."),
    _histogram(
        "armillary_input_transfer_bytes_per_second", "algorithm", BYTES_PER_SECOND, "Rate at which an input was fetched."
    ),
    _counter("armillary_input_files_total", "algorithm source", "Files that attempts read; `cache`: they were there."),
    _counter("armillary_input_bytes_total", "algorithm source", "The bytes of those files."),
    _histogram("armillary_product_bytes", "algorithm collection", BYTES, "Size of a product of a job."),
    _histogram(
        "armillary_product_transfer_bytes_per_second", "algorithm", BYTES_PER_SECOND,
        "Rate at which the products of an attempt were sent.",
    ),
    _counter("armillary_granules_total", "collection", "Revisions of granules that were committed, products included."),
    _counter("armillary_granule_bytes_total", "collection", "The bytes of those revisions."),
    _counter("armillary_firings_total", "rule state", "What rules decided."),
    _counter("armillary_deliveries_total", "destination state", "Deliveries that came into a state."),
    _histogram("armillary_delivery_duration_seconds", "destination", SECONDS, "From the intent to the bytes being there."),
    _counter("armillary_worker_events_total", "pool kind", "Workers that registered, went, or were quarantined."),
)  # fmt: skip

# Asked of the database, at most so often that it takes a tenth of the time.
CURRENT = (
    _gauge("armillary_jobs", "pool algorithm state", "Jobs that wait (queued, held) or run."),
    _gauge("armillary_queue_oldest_seconds", "pool", "How long the job has been ready that has waited longest."),
    _gauge("armillary_workers", "pool state", "Workers: live, draining or quarantined."),
    _gauge("armillary_workers_wanted", "pool", "Workers that the autoscaler wants."),
    _gauge("armillary_worker_heartbeat_age_seconds", "pool", "How long ago the most silent worker was heard of."),
    _gauge("armillary_worker_capacity_cores", "pool", "Cores of all workers."),
    _gauge("armillary_worker_capacity_bytes", "pool", "Memory of all workers."),
    _gauge("armillary_hosts", "pool", "Machines that workers have told of in the last three minutes."),
    _gauge("armillary_wakes", "consumer", "Work that waits for the reactor and is due."),
    _gauge("armillary_wake_oldest_seconds", "consumer", "How long the oldest of it has been due."),
    _gauge("armillary_firings_waiting", "rule", "Firings that wait for more granules."),
    _gauge("armillary_deliveries_open", "destination state", "Deliveries not yet there or not yet acknowledged."),
    _gauge("armillary_uploads_open", "", "Uploads that were begun and neither committed nor abandoned."),
    _gauge("armillary_findings", "sweep severity", "Open findings of the watchdog, those sweeps included that have none."),
    _gauge("armillary_servers", "role", "Servers that were heard of in the last ten seconds."),
    _gauge("armillary_sweep_age_seconds", "sweep", "How long ago a sweep of the watchdog ran."),
    _gauge("armillary_sweep_seconds", "sweep", "How long it took."),
    _gauge("armillary_database_bytes", "", "Size of the database."),
    _gauge("armillary_history_lag_seconds", "reader", "How far counters (metrics) and traces are behind the history."),
)  # fmt: skip

# Told by workers in their heartbeats, of the machine that they run on; the newest thousand machines.
_HOST = "pool host"
HOSTS = (
    _gauge("armillary_host_clock_ahead_seconds", _HOST, "By how much its clock is ahead of the database's."),
    _gauge("armillary_host_cpu_ratio", _HOST, "Part of all cores that is busy."),
    _gauge("armillary_host_core_min_ratio", _HOST, "The same of the least busy core."),
    _gauge("armillary_host_core_max_ratio", _HOST, "The same of the busiest core."),
    _gauge("armillary_host_load1", _HOST, "Load average of a minute."),
    _gauge("armillary_host_memory_used_bytes", _HOST, "Memory in use."),
    _gauge("armillary_host_memory_bytes", _HOST, "Memory that there is."),
    _gauge("armillary_host_swap_used_bytes", _HOST, "Swap in use."),
    _gauge("armillary_host_swap_bytes", _HOST, "Swap that there is."),
    _gauge("armillary_host_root_disk_used_bytes", _HOST, "What the root file system holds."),
    _gauge("armillary_host_root_disk_bytes", _HOST, "Size of the root file system."),
    _gauge("armillary_host_work_disk_used_bytes", _HOST, "What the file system of the jobs' folders holds."),
    _gauge("armillary_host_work_disk_bytes", _HOST, "Size of the file system of the jobs' folders."),
    _gauge("armillary_host_cache_bytes", _HOST, "What the cache of inputs holds."),
    _counter("armillary_host_disk_reads_total", _HOST, "Reads of all disks."),
    _counter("armillary_host_disk_writes_total", _HOST, "Writes of all disks."),
    _counter("armillary_host_disk_read_bytes_total", _HOST, "Bytes read from all disks."),
    _counter("armillary_host_disk_written_bytes_total", _HOST, "Bytes written to all disks."),
    _counter("armillary_host_network_received_bytes_total", _HOST, "Bytes received over the network."),
    _counter("armillary_host_network_sent_bytes_total", _HOST, "Bytes sent over the network."),
)

# Of the server that is asked.
REQUESTS = Metric(
    "armillary_http_request_duration_seconds", "histogram", ("method", "route", "status"),
    "How long requests took, long polls included, by the route that took them.", REQUEST_SECONDS, "server",
)  # fmt: skip
CONNECTIONS = Metric(
    "armillary_database_connections", "gauge", ("state",), "Connections of this server: busy, idle, and requests waiting for one.",
    part="server",
)  # fmt: skip
SERVER = (REQUESTS, CONNECTIONS)

ALL = (*TALLIED, *CURRENT, *HOSTS, *SERVER)
