"""A real server that is killed, a real worker that is killed: the product's trace is whole, and every counter is right."""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from armillary.metrics.metric import ALL, HOSTS, SERVER, TALLIED
from armillary.testing.instance import DEFINITIONS, Instance, kill_session
from armillary.testing.otlp import receiver
from armillary.testing.proxy import free_port

DASHBOARDS = Path(__file__).parents[2] / "dashboards"

RULES = """\
---
kind: delivery
id: archive
to: {{directory: {archive}}}
---
kind: rule
id: archive-all
when: {{one: {{collection: counted}}}}
then: {{deliver: archive}}
"""


@pytest.fixture(scope="module")
def far():
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def story(tmp_path_factory, far):
    """The instance after it: a scene whose first worker dies, and a server that dies meanwhile."""
    home = tmp_path_factory.mktemp("instance")
    made = Instance(home, ARMILLARY_TRACES__ENDPOINT=far.url)
    made.start()
    made.apply(home / "definitions")
    documents = list(yaml.safe_load_all(DEFINITIONS + RULES.format(archive=home / "archive")))
    documents[2]["then"]["parameters"] = {"seconds": 600}
    with made.client as client:
        client.apply(documents)
    # The first round of each reader decides where it begins.
    made.wait(lambda: len(made.rows("select from history_reader")) == 2, "readers of the history")
    (home / "one.raw").write_bytes(b"one")
    made.armillary("ingest", home / "one.raw")
    job = made.wait(lambda: next(iter(made.jobs_of("one")), None), "a job")["id"]
    made.wait(
        lambda: made.job(job)["state"] == "running" and made.rows("select from attempt where started_at is not null"),
        "a run",
    )
    made.kill()
    made.start()
    kill_session(made.runner_of(job))
    assert made.ended(job)["state"] == "succeeded"
    made.wait(lambda: made.rows("select from delivery where state = 'sent'"), "a delivery")
    made.wait(lambda: any(span["name"] == "deliver to archive" for span in far.spans), "its span")
    yield made
    made.close()
    shutil.rmtree(home, ignore_errors=True)


def test_the_product_is_one_connected_trace_from_ingest_to_delivery(story, far):
    spans = {span["spanId"]: span for span in far.spans}  # what was sent twice has one id
    assert len({span["traceId"] for span in spans.values()}) == 1
    assert all(span["parentSpanId"] in spans for span in spans.values() if "parentSpanId" in span)
    (root,) = [span for span in spans.values() if "parentSpanId" not in span]
    assert root["name"] == "ingest raw"
    names = Counter(span["name"] for span in spans.values())
    assert names["attempt 1"] == 2, "the lost one, and the delivery's"
    assert names["attempt 2"] == 1
    assert {"fire count-all", "job count", "publish counted", "fire archive-all", "job deliver"} <= set(names)
    assert names["stage in"] == names["run"] == names["stage out"] == names["finish"] == 2, (
        "of those that ran to their end"
    )
    lost = [span for span in spans.values() if span["name"] == "attempt 1" and span["status"]]
    assert len(lost) == 1
    assert "lost" in lost[0]["status"]["message"]


@pytest.fixture(scope="module")
def exposition(story):
    """What Prometheus reads there, by a token of its own."""
    token = story.armillary("metrics", "token").stdout.strip()
    with story.client as client:
        url = f"{client.url}/metrics"

    def scrape():
        return httpx2.get(url, headers={"Authorization": f"Bearer {token}"}).raise_for_status().text

    story.wait(
        lambda: 'armillary_deliveries_total{destination="archive",state="sent"}' in scrape(), "the delivery counted"
    )
    return scrape()


def test_counters_say_what_happened(exposition):
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }
    count = ("algorithm", "count")
    outcomes = {
        dict(labels)["outcome"]: value
        for (name, *labels), value in found.items()
        if name == "armillary_attempts_total" and count in labels
    }
    assert outcomes == {"lost": 1, "succeeded": 1}
    assert found["armillary_jobs_ended_total", count, ("state", "succeeded")] == 1
    assert found["armillary_product_bytes_count", count, ("collection", "counted")] == 1
    assert found["armillary_attempt_run_seconds_count", count] == 1
    assert found["armillary_granules_total", ("collection", "raw")] == 1
    # The lost attempt had fetched it; nobody heard of that.
    assert found["armillary_input_files_total", count, ("source", "cache")] == 1


def test_the_machine_and_the_server_tell_of_themselves(exposition):
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(exposition)
    }
    assert {metric.name for metric in ALL} <= set(families)
    silent = {metric.name for metric in (*HOSTS, *SERVER) if not families[metric.name].samples}
    # A machine may have no disk of its own to tell of.
    assert not {name for name in silent if not name.startswith("armillary_host_disk_")}
    assert sum(bool(families[metric.name].samples) for metric in TALLIED) > 15


def test_promtool_finds_nothing_to_complain_of(exposition):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=exposition, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def prometheus(story, exposition, tmp_path_factory):
    """A real Prometheus that has read the instance a few times; asks it a query."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: apt install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "token").write_text(story.armillary("metrics", "token").stdout.strip())
    with story.client as client:
        target = client.url.removeprefix("http://")
    port = free_port()
    reads = {
        "job_name": "armillary",
        "scrape_interval": "1s",
        "authorization": {"credentials_file": str(folder / "token")},
        "static_configs": [{"targets": [target]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [reads]}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
        )  # fmt: skip

    def ask(query):
        try:
            answer = httpx2.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query})
        except httpx2.TransportError:
            return None  # it starts
        return answer.json()

    def has_read(times):
        answer = ask('count_over_time(up{job="armillary"}[1m])')
        return answer and answer.get("data", {}).get("result") and int(answer["data"]["result"][0]["value"][1]) >= times

    try:
        story.wait(lambda: has_read(4), "four scrapes")
        yield ask
    finally:
        process.terminate()
        process.wait()


# Of what did not happen in this story.
SILENT = {
    "Rate of input transfers", "Fastest input transfer", "Firings that wait", "Cost", "Refused and failed requests",
    "Deliveries not yet there", "Longest wait", "Jobs that wait and run", "Work for the reactor that is due",
    "What the watchdog has found",
}  # fmt: skip


def test_prometheus_answers_every_query_of_every_dashboard(prometheus):
    empty = set()
    asked = 0
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h")
                answer = prometheus(query.replace("$algorithm", ".*").replace("$pool", ".*"))
                assert answer["status"] == "success", f"{panel['title']}: {answer}"
                asked += 1
                if not answer["data"]["result"]:
                    empty.add(panel["title"])
    assert asked > 100
    disks = {title for title in empty if title.startswith(("Disk ", "Bytes read", "Bytes written"))}
    assert empty - disks <= SILENT
