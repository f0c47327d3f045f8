"""Write the Grafana dashboards and the page that maps HySDS's panels to them: `python dashboards/generate.py`; a test compares.

Import the JSON files in Grafana (Dashboards, New, Import) and choose the Prometheus that reads `/metrics`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reference" / "dashboards.md"
PANELS_A_ROW, PANEL_HEIGHT, GRID_WIDTH = 3, 8, 24

PER_ALGORITHM = 'algorithm=~"$algorithm"'
PER_POOL = 'pool=~"$pool"'


@dataclass(frozen=True)
class Panel:
    """One panel: queries with the legend of each, and the panel of HySDS that it stands for."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    hysds: str = ""


def total(metric: str, by: str, *, kind: str = "bargauge", unit: str = "short", title: str, hysds: str) -> Panel:
    """How often within the time that is shown, by a label."""
    expression = f"sum by ({by}) (increase({metric}{{{PER_ALGORITHM}}}[$__range]))"
    return Panel(title, ((expression, f"{{{{{by}}}}}"),), unit, kind, hysds)


def over_time(metric: str, by: str, *, title: str, hysds: str, unit: str = "short") -> Panel:
    """How often in each step of time."""
    expression = f"sum by ({by}) (increase({metric}{{{PER_ALGORITHM}}}[$__rate_interval]))"
    return Panel(title, ((expression, f"{{{{{by}}}}}"),), unit, "timeseries", hysds)


def mean(histogram: str, *, title: str, hysds: str, unit: str) -> Panel:
    """The mean by algorithm over the time that is shown."""
    sums, counts = (
        f"sum by (algorithm) (increase({histogram}_{part}{{{PER_ALGORITHM}}}[$__range]))" for part in ("sum", "count")
    )
    return Panel(title, ((f"{sums} / {counts}", "{{algorithm}}"),), unit, "bargauge", hysds)


def quantiles(histogram: str, *, title: str, hysds: str, unit: str, wanted: Sequence[float] = (0.5, 0.95, 1)) -> Panel:
    """Median, 95 % and the bucket of the largest, with the mean."""
    rate = f"sum by (le) (rate({histogram}_bucket{{{PER_ALGORITHM}}}[$__rate_interval]))"
    queries = [(f"histogram_quantile({part}, {rate})", "max" if part == 1 else f"{part:.0%}") for part in wanted]
    sums, counts = (f"sum(rate({histogram}_{part}{{{PER_ALGORITHM}}}[$__rate_interval]))" for part in ("sum", "count"))
    return Panel(title, (*queries, (f"{sums} / {counts}", "mean")), unit, "timeseries", hysds)


def distribution(histogram: str, *, title: str, hysds: str, unit: str) -> Panel:
    """How many fell into each bucket, over time."""
    expression = f"sum by (le) (increase({histogram}_bucket{{{PER_ALGORITHM}}}[$__rate_interval]))"
    return Panel(title, ((expression, "{{le}}"),), unit, "heatmap", hysds)


def measure(histogram: str, title: str, hysds: str, unit: str) -> tuple[Panel, Panel]:
    """A quantity over time beside its distribution."""
    return (
        quantiles(histogram, title=title, hysds=hysds, unit=unit),
        distribution(histogram, title=f"{title}, distribution", hysds=f"{hysds} Distribution", unit=unit),
    )


ATTEMPTS, RUN, WHOLE = "armillary_attempts_total", "armillary_attempt_run_seconds", "armillary_attempt_duration_seconds"
PRODUCT_RATE = "armillary_product_transfer_bytes_per_second"
INPUT_RATE = "armillary_input_transfer_bytes_per_second"

JOBS = (
    over_time(ATTEMPTS, "outcome", title="Attempts over time", hysds="Jobs Executed Over Time"),
    total(ATTEMPTS, "algorithm", title="Attempts by algorithm", hysds="Jobs Executed By Type"),
    total(ATTEMPTS, "pool", title="Attempts by pool", hysds="Jobs Executed By Instance Type"),
    total(ATTEMPTS, "exit_code", title="Attempts by exit code", hysds="Jobs Executed By Exit Code"),
    mean(RUN, title="Mean run time by algorithm", hysds="Mean Container Execution Time By Job Type", unit="s"),
    mean(WHOLE, title="Mean attempt time by algorithm", hysds="Mean Job Execution Time By Job Type", unit="s"),
    mean("armillary_attempt_disk_bytes", title="Mean work folder by algorithm",
         hysds="Mean Work Dir Volume by Job Type", unit="bytes"),
    mean("armillary_product_bytes", title="Mean product by algorithm", hysds="Mean Product Volume by Job Type", unit="bytes"),
    quantiles(WHOLE, title="Attempt time", hysds="Job Execution Metrics", unit="s"),
    distribution(WHOLE, title="Attempt time, distribution", hysds="Job Execution Distribution", unit="s"),
    quantiles(RUN, title="Run time", hysds="Container Execution Metrics", unit="s"),
    distribution(RUN, title="Run time, distribution", hysds="Container Execution Distribution", unit="s"),
    *measure("armillary_attempt_memory_bytes", "Memory", "Container Memory Usage", "bytes"),
    *measure("armillary_attempt_cpu_seconds", "CPU time", "Container Total CPU Usage", "s"),
    over_time("armillary_product_bytes_count", "collection", title="Products over time", hysds="Products Generated Over Time"),
    *measure("armillary_product_bytes", "Size of products", "Product Volume", "bytes"),
    quantiles(PRODUCT_RATE, title="Fastest product transfer", hysds="Max Product Transfer Rate Over Time", unit="Bps", wanted=(1,)),
    quantiles(PRODUCT_RATE, title="Rate of product transfers", hysds="Product TX Rate", unit="Bps", wanted=(0.5,)),
    *measure("armillary_attempt_stage_out_seconds", "Time of product transfers", "Product Transfer Time", "s"),
    over_time("armillary_input_files_total", "source", title="Inputs over time", hysds="Inputs Downloaded Over Time"),
    *measure("armillary_attempt_input_bytes", "Size of inputs", "Input Volume", "bytes"),
    quantiles(INPUT_RATE, title="Rate of input transfers", hysds="Input TX Rate", unit="Bps", wanted=(0.5,)),
    quantiles(INPUT_RATE, title="Fastest input transfer", hysds="Max Input Transfer Rate Over Time", unit="Bps", wanted=(1,)),
    *measure("armillary_attempt_stage_in_seconds", "Time of input transfers", "Input Transfer Time", "s"),
)  # fmt: skip

_SELECTED = f"{{{PER_POOL}}}"


def _rate(metric: str) -> str:
    return f"rate(armillary_host_{metric}_total{_SELECTED}[$__rate_interval])"


def _ratio(part: str, whole: str) -> str:
    return f"armillary_host_{part}_bytes{_SELECTED} / armillary_host_{whole}_bytes{_SELECTED}"


# Title, HySDS's word, unit, and what is measured on each machine; of cores the least and the most busy one count.
MEASURED = (
    ("CPU", "CPU", "percentunit", f"armillary_host_cpu_ratio{_SELECTED}"),
    ("Cores", "Per-Core CPU", "percentunit", f"armillary_host_core_{{core}}_ratio{_SELECTED}"),
    ("Memory", "Memory", "percentunit", _ratio("memory_used", "memory")),
    ("Swap", "Swap", "bytes", f"armillary_host_swap_used_bytes{_SELECTED}"),
    ("Root disk", "Root Disk", "percentunit", _ratio("root_disk_used", "root_disk")),
    ("Work disk", "Work Disk", "percentunit", _ratio("work_disk_used", "work_disk")),
    ("Disk reads", "Disk I/O Reads", "iops", _rate("disk_reads")),
    ("Disk writes", "Disk I/O Writes", "iops", _rate("disk_writes")),
    ("Bytes read", "Disk I/O Bytes Read", "Bps", _rate("disk_read_bytes")),
    ("Bytes written", "Disk I/O Bytes Written", "Bps", _rate("disk_written_bytes")),
    ("Bytes sent", "Network Bytes Sent", "Bps", _rate("network_sent_bytes")),
    ("Bytes received", "Network Bytes Received", "Bps", _rate("network_received_bytes")),
)


def _of_machines(title: str, hysds: str, unit: str, expression: str) -> list[Panel]:
    panels = []
    for statistic, function, word in (("Min", "min", "least"), ("Mean", "avg", "mean"), ("Max", "max", "most")):
        core = "armillary_host_cpu_ratio" if function == "avg" else f"armillary_host_core_{function}_ratio"
        measured = expression.replace("armillary_host_core_{core}_ratio", core)
        query = (f"{function} by (pool) ({measured})", "{{pool}}")
        panels.append(Panel(f"{title}, {word}", (query,), unit, hysds=f"{statistic} {hysds}"))
    return panels


WORKERS = (
    Panel(
        "Machines and workers",
        (
            (f"sum by (pool) (armillary_hosts{_SELECTED})", "machines of {{pool}}"),
            (f"sum by (pool, state) (armillary_workers{_SELECTED})", "{{state}} workers of {{pool}}"),
            (f"max by (pool) (armillary_workers_wanted{_SELECTED})", "wanted in {{pool}}"),
        ),
        hysds="Instances",
    ),
    Panel(
        "Most silent worker",
        ((f"max by (pool) (armillary_worker_heartbeat_age_seconds{_SELECTED})", "{{pool}}"),),
        "s",
        hysds="Instance Heartbeats",
    ),
    *(panel for one in MEASURED for panel in _of_machines(*one)),
)


def counted(title: str, metric: str, by: str, *, where: str = "", unit: str = "short") -> Panel:
    """How much of the whole instance in each step of time."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Panel(title, ((f"sum by ({by}) (increase({metric}{where}[$__rate_interval]))", legend),), unit)


def now(title: str, metric: str, by: str, *, function: str = "sum", unit: str = "short") -> Panel:
    """How it is."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Panel(title, ((f"{function} by ({by}) ({metric})", legend),), unit)


def latency(title: str, histogram: str, by: str = "", where: str = "") -> Panel:
    """The time within which half, and nearly all, were done."""
    labels = ", ".join(filter(None, ["le", by]))
    rate = f"sum by ({labels}) (rate({histogram}_bucket{where}[$__rate_interval]))"
    legend = f"{{{{{by}}}}} " if by else ""
    queries = tuple((f"histogram_quantile({part}, {rate})", f"{legend}{part:.0%}") for part in (0.5, 0.95))
    return Panel(title, queries, "s")


REQUEST = "armillary_http_request_duration_seconds"
NOT_HELD = '{route!~".*/(lease|commands)"}'  # those wait for work

INSTANCE = (
    now("Jobs that wait and run", "armillary_jobs", "state"),
    now("Longest wait", "armillary_queue_oldest_seconds", "pool", function="max", unit="s"),
    counted("Jobs that ended", "armillary_jobs_ended_total", "state"),
    counted("Attempts that did not succeed", ATTEMPTS, "error_class", where='{outcome!="succeeded"}'),
    latency("From submission to success", "armillary_job_duration_seconds"),
    latency("From submission to the first lease", "armillary_job_wait_seconds"),
    counted("Granules", "armillary_granules_total", "collection"),
    counted("Bytes catalogued", "armillary_granule_bytes_total", "collection", unit="bytes"),
    counted("Firings", "armillary_firings_total", "rule, state"),
    now("Firings that wait", "armillary_firings_waiting", "rule"),
    counted("Deliveries", "armillary_deliveries_total", "destination, state"),
    now("Deliveries not yet there", "armillary_deliveries_open", "destination, state"),
    latency("From the intent to the archive", "armillary_delivery_duration_seconds", "destination"),
    now("What the watchdog has found", "armillary_findings", "sweep, severity"),
    counted("Cost", "armillary_attempt_cost_total", "algorithm"),
    counted("Workers that came, went or were quarantined", "armillary_worker_events_total", "kind"),
    now("Work for the reactor that is due", "armillary_wake_oldest_seconds", "consumer", function="max", unit="s"),
    latency("Requests", REQUEST, "route", NOT_HELD),
    counted("Refused and failed requests", f"{REQUEST}_count", "status, route", where='{status=~"[45].."}'),
    now("Database connections", "armillary_database_connections", "state"),
    Panel("Size of the database", (("max(armillary_database_bytes)", "size"),), "bytes"),
    now("Counters behind the history", "armillary_history_lag_seconds", "reader", function="max", unit="s"),
)

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...], tuple[tuple[str, str], ...]]] = {
    "jobs": ("Armillary: jobs", JOBS, (("algorithm", "label_values(armillary_attempts_total, algorithm)"),)),
    "workers": ("Armillary: workers", WORKERS, (("pool", "label_values(armillary_workers, pool)"),)),
    "instance": ("Armillary: instance", INSTANCE, ()),
}


def dashboard(name: str) -> str:
    """One dashboard as Grafana reads it."""
    title, panels, variables = DASHBOARDS[name]
    document = {
        "uid": f"armillary-{name}",
        "title": title,
        "tags": ["armillary"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_data_source(), *(_variable(*one) for one in variables)]},
        "panels": [_panel(place, panel) for place, panel in enumerate(panels)],
    }
    return json.dumps(document, indent=1) + "\n"


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _panel(place: int, panel: Panel) -> dict[str, Any]:
    width = GRID_WIDTH // PANELS_A_ROW
    is_instant = panel.kind == "bargauge"
    return {
        "id": place + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {
            "x": place % PANELS_A_ROW * width, "y": place // PANELS_A_ROW * PANEL_HEIGHT, "w": width, "h": PANEL_HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": _OPTIONS.get(panel.kind, {}) | ({"yAxis": {"unit": panel.unit}} if panel.kind == "heatmap" else {}),
        "targets": [
            {
                "refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend,
                "instant": is_instant, "range": not is_instant,
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
            }
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }  # fmt: skip


_OPTIONS: dict[str, dict[str, Any]] = {
    "bargauge": {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}},
    "heatmap": {"calculate": False, "color": {"mode": "scheme", "scheme": "Blues"}},
    "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
}


def page() -> str:
    """Which of our panels stands for which of HySDS's."""
    lines = [
        "# Dashboards",
        "",
        "Made by `python dashboards/generate.py`. [dashboards/](../../dashboards) holds three dashboards for Grafana:",
        "import the JSON and choose the Prometheus that [reads `/metrics`](../guides/monitor.md). Tests look for the",
        "metrics and labels of each query in what an instance answers on which jobs ran, and let a real Prometheus answer each.",
        "No test opens them in Grafana itself: the JSON is of schema 39 (Grafana 10 and later).",
        "",
        "A *job execution* of HySDS is an attempt here, its *container* the program's run (in a container or not), its",
        "*instance type* a pool, its *instance* a machine. Transfers are timed per input file, and for all products of an",
        "attempt together.",
        "",
    ]
    for name in ("jobs", "workers"):
        _, panels, _ = DASHBOARDS[name]
        lines += [f"## HySDS's {len(panels)} {name[:-1]} panels", "", f"| HySDS | `{name}.json` |", "|---|---|"]
        lines += [f"| {panel.hysds} | {panel.title} |" for panel in panels]
        lines.append("")
    lines += ["## What HySDS has no panel for", "", "`instance.json`:", ""]
    lines += [f"- {panel.title}" for panel in INSTANCE]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (HERE / f"{each}.json").write_text(dashboard(each))
    PAGE.write_text(page())
