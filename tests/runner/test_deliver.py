"""The sender: a directory, a bucket and an HTTP endpoint keep the same promises; a kill anywhere is taken up again."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from armillary.testing.object_store import Bucket

ARCHIVE = Path(__file__).parents[2] / "examples" / "archive" / "archive.py"
FILES = {"a b.tif": b"raster" * 1000, "tree/x.dat": b"x", "browse.png": b"picture"}


@dataclass
class Far:
    """A destination under test, and how to see and spoil what is there."""

    kind: str
    to: dict[str, Any]
    folder: Path | None = None  # where its files are, unless they are in a bucket
    bucket: Bucket | None = None

    def sums(self) -> dict[str, str]:
        """The checksum of each file of the product."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self._files().items()}

    def spoil(self, name: str) -> None:
        """Put other bytes there."""
        if self.bucket:
            self.bucket.put(f"in/pictures/one/{name}", b"spoiled")
        else:
            self._path(name).write_bytes(b"spoiled")

    def changed_at(self, name: str) -> object:
        """When a file was written last."""
        if self.bucket:
            return self.bucket.changed_at(f"in/pictures/one/{name}")
        return self._path(name).stat().st_mtime_ns

    def _files(self) -> dict[str, bytes]:
        if self.bucket:
            return {name.removeprefix("in/pictures/one/"): data for name, data in self.bucket.objects().items()}
        root = self._path("")
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def _path(self, name: str) -> Path:
        assert self.folder
        return self.folder / "pictures" / "one" / name


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the example's archive over a folder; its URL."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *flags: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(ARCHIVE), "--folder", str(folder), *flags], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(params=["directory", "s3", "http"])
def far(request: pytest.FixtureRequest, tmp_path: Path, archive: Callable[..., str]) -> Far:
    folder = tmp_path / "far"
    if request.param == "directory":
        return Far("directory", {"path": str(folder)}, folder)
    if request.param == "http":
        return Far("http", {"url": f"{archive(folder)}/files"}, folder)
    bucket: Bucket = request.getfixturevalue("bucket")
    keys = {"access_key": {"env": "AWS_ACCESS_KEY_ID"}, "secret_key": {"env": "AWS_SECRET_ACCESS_KEY"}}
    to = {"bucket": bucket.name, "prefix": "in", "endpoint": bucket.endpoint, **keys}
    return Far("s3", to, bucket=bucket)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job's directory with a product of three files."""
    product = tmp_path / "job" / "inputs" / "granule" / "one"
    for name, data in FILES.items():
        (product / name).parent.mkdir(parents=True, exist_ok=True)
        (product / name).write_bytes(data)
    return tmp_path / "job"


def send(job: Path, far: Far, notify: dict[str, Any] | None = None, **environment: str) -> int:
    """Run the program as a worker would; its exit code."""
    granule = {
        "collection": "pictures", "id": "one", "revision": 1, "path": str(job / "inputs" / "granule" / "one"),
        "item": {"assets": {"browse.png": {"roles": ["overview"]}, "tree": {"roles": ["metadata"]}}},
    }  # fmt: skip
    destination = {"id": "far", "kind": far.kind, "to": far.to, "notify": notify, "layout": "{collection}/{id}"}
    document = {"parameters": {"delivery": "d-1", "destination": destination}, "inputs": {"granule": [granule]}}
    (job / "job.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "armillary.runner.deliver", "job.json"]
    return subprocess.run(command, cwd=job, env={**os.environ, **environment}, check=False, timeout=60).returncode


def expected() -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_every_file_arrives_and_its_checksum_there_is_told(job: Path, far: Far) -> None:
    assert send(job, far) == 0
    assert far.sums() == expected()
    result = json.loads((job / "result.json").read_text())
    assert {one["name"]: one["sha256"] for one in result["files"]} == expected()
    assert {one["name"]: one["roles"] for one in result["files"]}["tree/x.dat"] == ["metadata"]


def test_what_is_there_and_right_is_not_sent_again_and_what_is_wrong_is(job: Path, far: Far) -> None:
    assert send(job, far) == 0
    before = far.changed_at("browse.png")
    far.spoil("a b.tif")
    assert send(job, far) == 0
    assert far.sums() == expected()
    assert far.changed_at("browse.png") == before


@pytest.mark.parametrize(
    ("far", "point"),
    [
        ("directory", "deliver.before-rename"),
        ("directory", "deliver.after-put"),
        ("s3", "deliver.after-put"),
        ("http", "deliver.after-put"),
    ],
    indirect=["far"],
)
def test_a_killed_sender_is_taken_up_where_it_ended(job: Path, far: Far, point: str) -> None:
    killed = {"ARMILLARY_CRASH": point, "ARMILLARY_CRASH_MARK": str(job.parent / "killed")}
    assert send(job, far, **killed) == -signal.SIGKILL
    assert far.sums() != expected()
    assert send(job, far, **killed) == 0
    assert far.sums() == expected()


@pytest.mark.parametrize("far", ["http"], indirect=True)
def test_an_archive_that_was_told_twice_gets_the_same_identifier(job: Path, far: Far) -> None:
    notify = {"url": far.to["url"].replace("/files", "/cnm"), "provider": "HERE"}
    killed = {"ARMILLARY_CRASH": "deliver.after-notify", "ARMILLARY_CRASH_MARK": str(job.parent / "killed")}
    assert send(job, far, notify, **killed) == -signal.SIGKILL
    assert send(job, far, notify, **killed) == 0
    assert far.folder
    received = [json.loads(line) for line in (far.folder / "received.jsonl").read_text().splitlines()]
    assert [one["message"]["identifier"] for one in received] == ["d-1", "d-1"]
    assert {one["answer"]["response"]["status"] for one in received} == {"SUCCESS"}
    result = json.loads((job / "result.json").read_text())
    assert result["receipt"] == received[-1]["answer"]


def test_a_place_that_cannot_be_reached_is_tried_again_later(job: Path) -> None:
    assert send(job, Far("http", {"url": "http://127.0.0.1:9/files"})) == 16
    error = json.loads((job / "error.json").read_text())
    assert error["class"] == "infrastructure"
    assert "far: ConnectError" in error["message"]


def test_a_missing_credential_is_named_and_a_present_one_never(job: Path) -> None:
    far = Far("http", {"url": "http://127.0.0.1:9/files", "token": {"env": "FAR_TOKEN"}})
    assert send(job, far) == 10
    assert "no variable FAR_TOKEN" in (job / "error.json").read_text()
    assert send(job, far, FAR_TOKEN="hidden-away") == 16
    assert not [path for path in job.rglob("*") if path.is_file() and b"hidden-away" in path.read_bytes()]
