"""Write all metrics in the text format of Prometheus."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from armillary.base.db import Database, Row
from armillary.metrics import store
from armillary.metrics.metric import CONNECTIONS, CURRENT, HOSTS, TALLIED, Metric, Part

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
FRESH_SECONDS = 2.0
WORK_FRACTION = 0.1  # of the time, at most, the database spends on being asked how it is

Series = Mapping[str, list[tuple[list[str], float]]]


class Scrape:
    """What one server has to tell: of itself at once, of the instance as of a moment ago."""

    def __init__(self, database: Callable[[], Database], registry: CollectorRegistry) -> None:
        self._database = database
        self._registry = registry
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        registry.register(_Connections(database))
        self._asking = asyncio.Lock()
        self._fresh_until = 0.0
        self._instance = b""

    async def text(self, part: Part | None = None) -> bytes:
        """The exposition: of the whole instance, of this server, or both."""
        found = b""
        if part != "server":
            found += await self._of_instance()
        if part != "instance":
            found += await asyncio.to_thread(generate_latest, self._registry)
        return found

    async def _of_instance(self) -> bytes:
        """However often it is asked, and however long the queue is, that takes a small part of the time."""
        async with self._asking:
            begun = time.monotonic()
            if begun >= self._fresh_until:
                async with self._database().transaction() as tx:
                    tallies = await store.tallies(tx)
                    current = {**await store.current(tx), **await store.hosts(tx)}
                self._instance = await asyncio.to_thread(_text, tallies, current)
                now = time.monotonic()
                self._fresh_until = now + max(FRESH_SECONDS, (now - begun) / WORK_FRACTION)
            return self._instance


class _Connections:
    """The database connections of this server."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def collect(self) -> Iterator[Family]:
        """As the library asks for it."""
        yield _family(CONNECTIONS, [([state], number) for state, number in self._database().connections().items()])


class _Fixed:
    """Families that are known already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> list[Family]:
        """As the library asks for it."""
        return self._families


def _text(tallies: list[Row], current: Series) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Fixed(families(tallies, current)))
    return generate_latest(registry)


def families(tallies: list[Row], current: Series) -> Iterator[Family]:
    """All metrics of the instance; those that nothing was counted of are there without a series."""
    by_metric = {name: list(rows) for name, rows in groupby(tallies, lambda row: row["metric"])}
    for metric in TALLIED:
        rows = by_metric.get(metric.name, [])
        if metric.kind == "histogram":
            yield _histogram(metric, rows)
        else:
            yield _family(metric, [(row["labels"], row["total"]) for row in rows])
    for metric in (*CURRENT, *HOSTS):
        yield _family(metric, current.get(metric.name, []))


def _family(metric: Metric, series: Iterable[tuple[list[str], float]]) -> Family:
    make: Any = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in series:
        family.add_metric(labels, value)
    return family  # type: ignore[no-any-return]


def _histogram(metric: Metric, rows: list[Row]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, buckets in groupby(rows, lambda row: row["labels"]):
        counted = {row["bucket"]: row for row in buckets}
        below = 0
        cumulated = []
        for place, bound in enumerate((*map(str, metric.bounds), "+Inf")):
            below += counted[place]["count"] if place in counted else 0
            cumulated.append((bound, below))
        family.add_metric(labels, cumulated, sum(row["total"] for row in counted.values()))
    return family
