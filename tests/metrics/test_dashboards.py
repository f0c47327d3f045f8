"""Dashboards ask for what a server tells: each query is parsed as PromQL, its metrics and labels looked for in a scrape."""

import importlib.util
import json
import re
from pathlib import Path

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from armillary.metrics import scrape, store
from armillary.metrics.metric import REQUESTS
from armillary.testing.metrics import busy_world

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
spec = importlib.util.spec_from_file_location("dashboards", DASHBOARDS / "generate.py")
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)

FILES = sorted(DASHBOARDS.glob("*.json"))
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$algorithm": ".*", "$pool": ".*"}

# As HySDS's dashboards name them (sdscli, kibana_dashboard_import).
STATISTICS = ("Min", "Mean", "Max")
MEASURED = (
    "CPU", "Per-Core CPU", "Memory", "Swap", "Root Disk", "Work Disk", "Disk I/O Reads", "Disk I/O Writes", "Disk I/O Bytes Read",
    "Disk I/O Bytes Written", "Network Bytes Sent", "Network Bytes Received",
)  # fmt: skip
HYSDS = {
    "workers": {"Instances", "Instance Heartbeats", *(f"{how} {what}" for how in STATISTICS for what in MEASURED)},
    "jobs": {
        "Jobs Executed Over Time", "Jobs Executed By Type", "Jobs Executed By Instance Type", "Jobs Executed By Exit Code",
        "Mean Container Execution Time By Job Type", "Mean Job Execution Time By Job Type", "Mean Work Dir Volume by Job Type",
        "Mean Product Volume by Job Type", "Job Execution Metrics", "Job Execution Distribution", "Container Execution Metrics",
        "Container Execution Distribution", "Container Memory Usage", "Container Memory Usage Distribution",
        "Container Total CPU Usage", "Container Total CPU Usage Distribution", "Products Generated Over Time", "Product Volume",
        "Product Volume Distribution", "Max Product Transfer Rate Over Time", "Product TX Rate", "Product Transfer Time",
        "Product Transfer Time Distribution", "Inputs Downloaded Over Time", "Input Volume", "Input Volume Distribution",
        "Input TX Rate", "Max Input Transfer Rate Over Time", "Input Transfer Time", "Input Transfer Time Distribution",
    },
}  # fmt: skip


def selectors(node):
    """Every vector selector below a node of PromQL."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    for name in ("expr", "lhs", "rhs", "param"):
        child = getattr(node, name, None)
        if isinstance(child, promql_parser.Expr):
            yield from selectors(child)
    for child in getattr(node, "args", None) or ():
        yield from selectors(child)


def groupings(node):
    """The labels by which results are grouped, each with the selectors below it."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        yield set(node.modifier.labels), list(selectors(node))
    for name in ("expr", "lhs", "rhs"):
        child = getattr(node, name, None)
        if isinstance(child, promql_parser.Expr):
            yield from groupings(child)
    for child in getattr(node, "args", None) or ():
        yield from groupings(child)


def queries():
    """Every query of every panel, with where it is, its variables filled in."""
    for file in FILES:
        document = json.loads(file.read_text())
        for panel in document["panels"]:
            for target in panel["targets"]:
                text = target["expr"]
                for name, value in VARIABLES.items():
                    text = text.replace(name, value)
                assert "$" not in text, f"{file.stem}, {panel['title']}: a variable that the dashboard has not"
                yield f"{file.stem}: {panel['title']}", text, target["legendFormat"]


@pytest.fixture
async def told(world):
    """By series name its labels, as a scrape of an instance on which jobs ran has them; and those of requests."""
    await busy_world(world)
    async with world.database.transaction() as tx:
        text = scrape._text(await store.tallies(tx), {**await store.current(tx), **await store.hosts(tx)}).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    of_server = {name: {*REQUESTS.labels, "le"} for name in REQUESTS.series} | {
        "armillary_database_connections": {"state"}
    }
    return {sample.name: set(sample.labels) for sample in samples} | of_server


async def test_every_query_asks_for_what_is_told(told):
    seen = set()
    for where, text, legend in queries():
        tree = promql_parser.parse(text)
        found = list(selectors(tree))
        assert found, where
        for selector in found:
            assert selector.name in told, f"{where}: {selector.name}"
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= told[selector.name], f"{where}: {selector.name} has no {labels - told[selector.name]}"
            seen.add(selector.name)
        for labels, below in groupings(tree):
            for selector in below:
                assert labels <= told[selector.name], f"{where}: by {labels - told[selector.name]} of {selector.name}"
        kept = set().union(*(labels for labels, _ in groupings(tree))) if list(groupings(tree)) else set()
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept, f"{where}: the legend {legend}"
    assert len(seen) > 40


def test_a_query_for_what_is_not_told_would_be_seen():
    (selector,) = selectors(promql_parser.parse("sum by (x) (rate(armillary_nothing_total{a='b'}[5m]))"))
    assert selector.name == "armillary_nothing_total"
    assert [matcher.name for matcher in selector.matchers.matchers] == ["a"]


@pytest.mark.parametrize("name", HYSDS)
def test_each_panel_of_hysds_has_one_of_ours(name):
    panels = json.loads((DASHBOARDS / f"{name}.json").read_text())["panels"]
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    lines = generate.PAGE.read_text().splitlines()
    for theirs in HYSDS[name]:
        (row,) = [line for line in lines if line.startswith(f"| {theirs} |")]
        assert row.split("|")[2].strip() in titles, theirs


def test_there_are_sixty_eight():
    assert {name: len(panels) for name, panels in HYSDS.items()} == {"jobs": 30, "workers": 38}


@pytest.mark.parametrize("name", generate.DASHBOARDS)
def test_a_dashboard_is_as_it_is_made(name):
    assert (DASHBOARDS / f"{name}.json").read_text() == generate.dashboard(name), "run python dashboards/generate.py"
    document = json.loads(generate.dashboard(name))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]]
    assert len(set(places)) == len(places)


def test_the_page_is_as_it_is_made():
    assert generate.PAGE.read_text() == generate.page(), "run python dashboards/generate.py"
