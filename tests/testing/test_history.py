"""The judge of histories: a good one passes, and each bad one is told by what is wrong with it."""

from dataclasses import replace

import pytest

from armillary.testing.history import History, check

FILE = {"path": "count.json", "size": 3, "sha256": "s"}
GOOD = History(
    jobs=[{"id": "j", "state": "succeeded", "attempts": 2}],
    attempts=[
        {"job": "j", "number": 1, "worker": "w1", "outcome": "lost", "ended_at": 1},
        {"job": "j", "number": 2, "worker": "w2", "outcome": "succeeded", "ended_at": 2},
    ],
    items=[{"collection": "c", "granule": "g", "revision": 1, "is_current": True, "upload": "u", "files": [FILE]}],
    uploads=[
        {"id": "u", "prefix": "c/g/u", "state": "committed", "job": "j", "lease": 2},
        {"id": "v", "prefix": "c/g/v", "state": "open", "job": "j", "lease": 1},
    ],
    outputs=[{"job": "j", "output": "o", "collection": "c", "granule": "g", "revision": 1}],
    activities=[{"job": "j", "attempt": 2}],
    firings=[{"rule": "r", "key": "k", "state": "submitted", "job": "j"}],
    events=[
        {"subject": "granule:c/g", "version": 1, "kind": "granule.created"},
        {"subject": "job:j", "version": 1, "kind": "job.submitted"},
        {"subject": "job:j", "version": 2, "kind": "job.requeued"},
        {"subject": "job:j", "version": 3, "kind": "job.finished"},
    ],
    bytes={"c/g/u/count.json": (3, "s"), "c/g/v/count.json": (3, "s")},
)


def changed(name, index, **fields):
    rows = list(getattr(GOOD, name))
    rows[index] = {**rows[index], **fields}
    return replace(GOOD, **{name: rows})


def without(name, index=0):
    rows = list(getattr(GOOD, name))
    del rows[index]
    return replace(GOOD, **{name: rows})


def twice(name, index=0, **fields):
    rows = list(getattr(GOOD, name))
    return replace(GOOD, **{name: [*rows, {**rows[index], **fields}]})


BAD = {
    "a granule that was acknowledged is gone": (without("items"), "c/g was acknowledged and is not there"),
    "a job failed by our fault": (changed("jobs", 0, state="failed"), "job j is failed"),
    "a job waits for ever": (changed("jobs", 0, state="queued"), "job j is queued"),
    "a job has vanished": (without("jobs"), "firing k of r is submitted and has no job"),
    "a firing never submitted": (changed("firings", 0, job=None), "has no job"),
    "an attempt is missing": (without("attempts"), "job j has attempts [2]"),
    "an attempt was never recorded": (changed("jobs", 0, attempts=3), "was leased 3 times and has 2 attempts"),
    "an attempt never ended": (changed("attempts", 0, outcome=None), "attempt 1 of job j is open and another followed"),
    "an attempt after the success": (changed("attempts", 0, outcome="succeeded"), "is succeeded and another followed"),
    "the last attempt is open": (changed("attempts", 1, outcome=None), "the last attempt of job j is open"),
    "a lost attempt published": (changed("uploads", 0, lease=1), "c/g was published by attempt 1 of job j, which is lost"),
    "an upload without its granule": (changed("uploads", 1, state="committed"), "upload v is committed and its granule is not"),
    "a granule of an upload that was given up": (changed("uploads", 0, state="abandoned"), "upload u is abandoned"),
    "provenance twice": (twice("activities"), "has 2 records of provenance"),
    "no provenance": (without("activities"), "has 0 records of provenance"),
    "provenance of a lost attempt": (twice("activities", attempt=1), "attempt 1 of job j has 1 records"),
    "bytes are gone": (replace(GOOD, bytes={}), "count.json of c/g is not there"),
    "half of the bytes": (replace(GOOD, bytes={"c/g/u/count.json": (2, "t")}), "is other bytes"),
    "a kept folder of nobody": (replace(GOOD, bytes={**GOOD.bytes, "kept/j/1": (1, "s")}), "kept/j/1 belongs to nothing"),
    "bytes of nobody": (replace(GOOD, bytes={**GOOD.bytes, "c/g/x/f": (1, "s")}), "c/g/x/f belongs to nothing"),
    "bytes of what was deleted": (changed("uploads", 1, state="deleted"), "c/g/v/count.json belongs to nothing"),
    "a product twice": (twice("items", revision=2), "c/g was published 2 times and shows 2"),
    "a reader sees a hole": (changed("items", 0, is_current=False), "shows 0 of them"),
    "an output twice": (twice("outputs", revision=2), "job j has 2 outputs o"),
    "a success without output": (without("outputs"), "job j succeeded without an output"),
    "a rule fired twice": (twice("firings"), "rule r fired 2 times for k"),
    "two events of one version": (twice("events", 2), "job:j has several events of one version"),
    "a job finished twice": (twice("events", 3, version=4), "job j was announced as finished 2 times"),
    "a granule was never announced": (without("events"), "granule:c/g was announced 0 times"),
}  # fmt: skip


def test_a_good_history_passes():
    assert check(GOOD, [("c", "g")]) == []


@pytest.mark.parametrize(("history", "words"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_with_a_history_is_told(history, words):
    found = check(history, [("c", "g")])
    assert any(words in one for one in found), found


def test_a_kept_folder_that_has_its_row_is_no_broken_promise():
    kept = replace(GOOD, bytes={**GOOD.bytes, "kept/j/1": (1, "s")}, kept=[{"key": "kept/j/1"}])
    assert check(kept, [("c", "g")]) == []
