"""Kill the process at every marked step between two outside effects: nothing is lost, doubled or half visible."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from armillary.base.errors import TransientError

SOURCES = Path(__file__).parents[2] / "src" / "armillary"
INGEST = """
import sys
from pathlib import Path
from armillary.client import auth
from armillary.client.client import Client
from armillary.client.upload import AssetSource, GranuleSource, Uploader
found = auth.find(home=Path(sys.argv[1]))
file = Path(sys.argv[2])
with Client(found.url, found.token) as client, Uploader(client) as uploader:
    for outcome in uploader.upload([GranuleSource("raw", file.stem, (AssetSource(file.name, file),))]):
        if outcome.problem:
            raise outcome.problem
"""
# These are passed by no product's way from file to product; each is killed at in a test of its own part.
ELSEWHERE = {
    "checkpoint.before-delete": "tests/jobs",
    "collect.abandoned": "below",
    "collect.deleted": "below",
    "deliver.after-notify": "tests/runner/test_deliver.py",
    "deliver.after-put": "tests/runner/test_deliver.py",
    "deliver.before-rename": "tests/runner/test_deliver.py",
    "environment.before-complete": "tests/runner",
    "pools.before-reference": "below",
    "pools.recorded": "below",
    "pools.started": "below",
    "runner.before-sweep": "tests/runner",
    "store.before-link": "below",
    "bundle.before-write": "below",
    "checkpoint.before-record": "tests/runner",
    "checkpoint.after-record": "tests/runner",
    "environment.before-bundle-rename": "below",
}


def all_points() -> list[str]:
    """Every point that the sources mark."""
    return sorted(
        {name for file in SOURCES.rglob("*.py") for name in re.findall(r'crash_point\("([^"]+)"\)', file.read_text())}
    )


POINTS = [name for name in all_points() if name not in ELSEWHERE]


def ingest(instance, name: str) -> int:
    """Ingest one file in a process of its own; its exit code."""
    file = instance.home / f"{name}.raw"
    file.write_bytes(b"x" * 1000)
    command = [sys.executable, "-c", INGEST, str(instance.home), str(file)]
    return subprocess.run(command, env=instance.environment, check=False, capture_output=True, timeout=120).returncode


def product(instance, name: str) -> dict | None:
    """The product made of a file."""
    instance.ensure()
    try:
        found = instance.get("/stac/search", collections="counted", ids=f"{name}-counted")["features"]
    except TransientError:
        return None  # the server died at the point while it was asked
    return found[0] if found else None


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_this_point_loses_nothing(instance, point):
    instance.ensure()
    crash = instance.home / "crash"
    crash.write_text(point)
    name = point.replace(".", "-")
    for _ in range(5):
        instance.ensure()
        if ingest(instance, name) == 0:
            break
    instance.wait(lambda: product(instance, name), f"the product after a kill at {point}")
    assert not crash.exists(), f"nothing passed {point}"
    revisions = instance.get(f"/api/granules/counted/{name}-counted/revisions")["revisions"]
    assert [one["revision"] for one in revisions] == [1]
    jobs = [job for job in instance.get("/api/jobs", limit=1000)["jobs"] if job["algorithm"] == "count"]
    mine = [instance.get(f"/api/jobs/{job['id']}") for job in jobs]
    mine = [job for job in mine if any(one["id"] == name for one in job["inputs"])]
    assert [job["state"] for job in mine] == ["succeeded"]
    assert instance.doctor() == []


def test_every_upload_and_commit_site_has_a_point():
    sites = {
        "client/upload.py": ("ticket", "bytes", "commit"),
        "granules/ingest.py": ("verified", "before-commit", "after-commit"),
        "runner/run.py": ("before-start", "before-upload", "after-upload"),
        "jobs/finish.py": ("before-commit",),
        "rules/fire.py": ("expanded", "fired"),
        "pools/reconcile.py": ("recorded", "before-reference"),
        "granules/collect.py": ("abandoned", "deleted"),
        "base/storage.py": ("before-link",),
    }
    for file, wanted in sites.items():
        points = re.findall(r'crash_point\("[a-z]+\.([^"]+)"\)', (SOURCES / file).read_text())
        for name in wanted:
            assert any(name in point for point in points), f"{file} has no crash point {name}"
