"""What an instance's history says about its promises: rows and bytes, read after faults and judged without the product's code.

`check` is pure: a history is lists of plain rows, so that tests can write bad ones by hand. Order is taken from lease
numbers and event versions, never from times, which a clock that jumps makes worthless.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = Mapping[str, Any]
Granule = tuple[str, str]
OPEN_STATES = ("open", "committed", "abandoned")  # of uploads whose bytes may still be there
AFTER = {"lost", "preempted", "failed", "cancelled"}  # an attempt that another may follow


@dataclass(frozen=True)
class History:
    """All that happened, as it is stored."""

    jobs: Sequence[Row] = ()
    attempts: Sequence[Row] = ()
    items: Sequence[Row] = ()
    uploads: Sequence[Row] = ()
    outputs: Sequence[Row] = ()
    activities: Sequence[Row] = ()
    firings: Sequence[Row] = ()
    events: Sequence[Row] = ()
    kept: Sequence[Row] = ()
    bytes: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # key → size and SHA-256


QUERIES = {
    "jobs": "select id::text, state, attempts from job",
    "attempts": "select job_id::text as job, number, worker_id::text as worker, outcome, ended_at from attempt",
    "items": """select collection, granule, revision, is_current, upload_id::text as upload,
                       (select jsonb_agg(file) from jsonb_each(assets) as asset (name, body),
                               jsonb_array_elements(body->'files') as file) as files from item""",
    "uploads": "select id::text, prefix, state, job_id::text as job, lease from upload",
    "outputs": "select job_id::text as job, output, collection, granule, revision from job_output",
    "activities": "select job_id::text as job, attempt from activity",
    "firings": "select rule, key, state, job_id::text as job from firing",
    "events": "select subject, version, kind from event",
    "kept": "select key from kept_folder",
}


def read(dsn: str, store: Path) -> History:
    """The history of an instance with a local store; nothing may be at work on it."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        rows = {name: connection.execute(sql.encode()).fetchall() for name, sql in QUERIES.items()}
    return History(**rows, bytes=dict(_stored(store)))


def _stored(store: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    for path in store.rglob("*"):
        key = path.relative_to(store).as_posix()
        if path.is_file() and not path.name.startswith(".") and not key.startswith(("bundles/", "checkpoints/")):
            with path.open("rb") as file:
                yield key, (path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def check(history: History, acknowledged: Iterable[Granule]) -> list[str]:
    """Every broken promise, in words; `acknowledged` are the granules whose ingest was answered with success."""
    return [
        *_lost_granules(history, acknowledged),
        *_lost_jobs(history),
        *_attempts(history),
        *_publications(history),
        *_halves(history),
        *_doubles(history),
        *_events(history),
    ]


def _lost_granules(history: History, acknowledged: Iterable[Granule]) -> Iterator[str]:
    there = {(item["collection"], item["granule"]) for item in history.items}
    for granule in sorted(set(acknowledged) - there):
        yield f"granule {'/'.join(granule)} was acknowledged and is not there"


def _lost_jobs(history: History) -> Iterator[str]:
    known = {job["id"] for job in history.jobs}
    for job in history.jobs:
        if job["state"] != "succeeded":
            yield f"job {job['id']} is {job['state']}"
    for firing in history.firings:
        if firing["job"] not in known:
            yield f"firing {firing['key']} of {firing['rule']} is {firing['state']} and has no job"


def _attempts(history: History) -> Iterator[str]:
    """One after the other, each with an end, and only the last a success."""
    for job, attempts in _by_job(history.attempts).items():
        ordered = sorted(attempts, key=lambda one: one["number"])
        if [one["number"] for one in ordered] != list(range(1, len(ordered) + 1)):
            yield f"job {job} has attempts {[one['number'] for one in ordered]}"
        for one in ordered[:-1]:
            if one["outcome"] not in AFTER:
                yield f"attempt {one['number']} of job {job} is {one['outcome'] or 'open'} and another followed"
        if ordered[-1]["outcome"] != "succeeded":
            yield f"the last attempt of job {job} is {ordered[-1]['outcome'] or 'open'}"
    leased = {job["id"]: job["attempts"] for job in history.jobs}
    counted = Counter(attempt["job"] for attempt in history.attempts)
    for job, count in leased.items():
        if counted[job] != count:
            yield f"job {job} was leased {count} times and has {counted[job]} attempts"


def _publications(history: History) -> Iterator[str]:
    """A product is published by the attempt that succeeded, and by no other."""
    outcomes = {(one["job"], one["number"]): one["outcome"] for one in history.attempts}
    uploads = {upload["id"]: upload for upload in history.uploads}
    published = {item["upload"] for item in history.items}
    for upload in history.uploads:
        is_committed = upload["state"] == "committed"
        if is_committed != (upload["id"] in published):
            yield f"upload {upload['id']} is {upload['state']} and its granule is {'not ' * is_committed}there"
    for item in history.items:
        upload = uploads.get(item["upload"], {})
        if upload.get("job") and outcomes.get((upload["job"], upload["lease"])) != "succeeded":
            outcome = outcomes.get((upload["job"], upload["lease"]))
            yield f"{_name(item)} was published by attempt {upload['lease']} of job {upload['job']}, which is {outcome}"
    succeeded = {(one["job"], one["number"]) for one in history.attempts if one["outcome"] == "succeeded"}
    recorded = Counter((one["job"], one["attempt"]) for one in history.activities)
    for key in succeeded | set(recorded):
        if recorded[key] != (key in succeeded):
            yield f"attempt {key[1]} of job {key[0]} has {recorded[key]} records of provenance"


def _halves(history: History) -> Iterator[str]:
    """Every file of every granule is there with its bytes, and no byte is without its row."""
    prefixes = {upload["prefix"]: upload["state"] for upload in history.uploads}
    of_upload = {upload["id"]: upload["prefix"] for upload in history.uploads}
    for item in history.items:
        for file in item["files"]:
            found = history.bytes.get(f"{of_upload.get(item['upload'])}/{file['path']}")
            if found != (file["size"], file["sha256"]):
                yield f"{file['path']} of {_name(item)} is {'not there' if found is None else 'other bytes'}"
    kept = {folder["key"] for folder in history.kept}
    for key in history.bytes.keys() - kept:
        if prefixes.get("/".join(key.split("/")[:3])) not in OPEN_STATES:
            yield f"{key} belongs to nothing"


def _doubles(history: History) -> Iterator[str]:
    current = Counter((one["collection"], one["granule"]) for one in history.items if one["is_current"])
    revisions = Counter((one["collection"], one["granule"]) for one in history.items)
    for (collection, granule), count in revisions.items():
        if count != 1 or current[collection, granule] != 1:
            yield f"{collection}/{granule} was published {count} times and shows {current[collection, granule]} of them"
    for (job, output), count in Counter((one["job"], one["output"]) for one in history.outputs).items():
        if count != 1:
            yield f"job {job} has {count} outputs {output}"
    for (rule, key), count in Counter((one["rule"], one["key"]) for one in history.firings).items():
        if count != 1:
            yield f"rule {rule} fired {count} times for {key}"
    succeeded = {job["id"] for job in history.jobs if job["state"] == "succeeded"}
    made = {one["job"] for one in history.outputs}
    yield from (f"job {job} succeeded without an output" for job in sorted(succeeded - made))
    yield from (f"job {job} has outputs and did not succeed" for job in sorted(made - succeeded))


def _events(history: History) -> Iterator[str]:
    """Each subject's events are numbered, each number once; a job ends once."""
    versions: dict[str, list[int]] = defaultdict(list)
    for event in history.events:
        versions[event["subject"]].append(event["version"])
    for subject, found in versions.items():
        if len(set(found)) != len(found):
            yield f"{subject} has several events of one version: {sorted(found)}"
    finished = Counter(event["subject"] for event in history.events if event["kind"] == "job.finished")
    for job in history.jobs:
        count = finished[f"job:{job['id']}"]
        if count != 1:
            yield f"job {job['id']} was announced as finished {count} times"
    announced = Counter(event["subject"] for event in history.events if event["kind"].startswith("granule."))
    for item in history.items:
        subject = f"granule:{_name(item)}"
        if announced[subject] != 1:
            yield f"{subject} was announced {announced[subject]} times"


def _by_job(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["job"]].append(row)
    return found


def _name(item: Row) -> str:
    return f"{item['collection']}/{item['granule']}"
