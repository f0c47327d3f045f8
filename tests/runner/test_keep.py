"""What a failed attempt left is sent, bounded and without secrets; what it used over time is told."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from armillary.algorithms.specfile import keep_policy
from armillary.runner import keep
from armillary.runner.curve import COLUMNS, MAX_POINTS, Curve
from armillary.runner.lease import Limits
from armillary.runner.runtime import Command, Usage

Json = dict[str, Any]
FAIL = 'mkdir -p outputs/out/g; echo half > outputs/out/g/f; echo \'{"message": "no"}\' > error.json; exit 11'


def _with_keep(lease: Json, policy: Json) -> Json:
    lease["algorithm"]["spec"]["keep"] = policy
    return lease


def _read(sent: bytes) -> tuple[Json, dict[str, bytes]]:
    line, _, data = sent.partition(b"\n")
    index, files = json.loads(line), {}
    for file in index["files"]:
        if file["kept"]:
            files[file["path"]], data = data[: file["size"]], data[file["size"] :]
    assert data == b""
    return index, files


def test_what_a_failure_left_is_sent(bench: Any, jobs: Any) -> None:
    lease = jobs.shell(FAIL, inputs={"scene": {"f": b"bytes"}})
    assert bench.run(lease)["outcome"] == "failed"
    index, files = _read(bench.folders[lease["job"]])
    assert set(files) == {"environment.json", "error.json", "job.json", "outputs/out/g/f"}
    assert files["outputs/out/g/f"] == b"half\n"
    assert json.loads(files["job.json"])["job"] == lease["job"]
    assert {"path": "inputs/scene/scene-1/f", "size": 5, "kept": False} in index["files"]
    assert (index["whole"], index["for_seconds"]) == (True, 86400)
    environment = json.loads(files["environment.json"])
    assert environment["arguments"][0] == "sh" and environment["variables"]["OMP_NUM_THREADS"] == "1"
    assert b"Its folder is kept" in bench.log()


@pytest.mark.parametrize(
    ("policy", "code", "is_sent"),
    [
        ({"on": "failure"}, "true", False),
        ({"on": "always"}, "true", True),
        ({"true": "never"}, "exit 11", False),
        ({}, "exit 11", True),
    ],
)
def test_the_algorithm_says_when(bench: Any, jobs: Any, policy: Json, code: str, is_sent: bool) -> None:
    lease = _with_keep(jobs.shell(code), policy)
    bench.run(lease)
    assert (lease["job"] in bench.folders) == is_sent


def test_small_files_go_first_where_not_all_fit(tmp_path: Path) -> None:
    for name, size in (("big", 900), ("small", 10), ("medium", 80)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "link").symlink_to("/etc/passwd")
    folder = keep.collect(tmp_path, {"keep": {"most": "100B"}}, "failed", None, is_built_in=False)
    assert folder is not None
    assert (folder.kept, {path for path, _ in folder.files}) == ({"small", "medium"}, {"big", "small", "medium"})


def test_a_file_that_shrinks_meanwhile_leaves_the_others_in_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * 100)
    (tmp_path / "b").write_bytes(b"2" * 10)
    folder = keep.collect(tmp_path, {}, "failed", None, is_built_in=False)
    assert folder is not None
    (tmp_path / "a").write_bytes(b"1")
    sent = b"".join(folder.chunks())
    assert len(sent) == folder.size_bytes
    assert _read(sent)[1] == {"a": b"1" + bytes(99), "b": b"2" * 10}


@pytest.mark.parametrize(("is_built_in", "told"), [(False, "plain"), (True, "(not kept)")])
def test_secrets_are_not_kept(is_built_in: bool, told: str, tmp_path: Path) -> None:
    variables = {"ORDINARY": "plain", "S3_SECRET_ACCESS_KEY": "hush", "ARCHIVE_TOKEN": "hush", "password": "hush"}
    command = Command(["x"], tmp_path, variables, Limits(1, 1, 1, 1), 1)
    said = json.loads(keep.describe(command, is_built_in=is_built_in))["variables"]
    assert said == {
        "ORDINARY": told, "S3_SECRET_ACCESS_KEY": "(not kept)", "ARCHIVE_TOKEN": "(not kept)", "password": "(not kept)",
    }  # fmt: skip


def test_a_server_that_does_not_take_it_changes_nothing(bench: Any, jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("cut")

    monkeypatch.setattr(bench, "keep_folder", refuse)
    report = bench.run(jobs.shell(FAIL))
    assert (report["error_class"], report["reason"]) == ("science error", "no")


def test_what_a_job_used_is_a_curve(bench: Any, jobs: Any) -> None:
    code = """
    import time
    held, until = b"x" * (50 << 20), time.process_time() + 0.3
    while time.process_time() < until:
        pass
    open("data", "wb").write(held)
    time.sleep(0.3)
    """
    curve = bench.run(jobs.script(code))["usage"]["curve"]
    assert tuple(curve) == COLUMNS
    assert max(curve["memory_bytes"]) > 50 << 20
    assert max(curve["cpu_seconds"]) >= 0.25
    assert max(curve["written_bytes"]) >= 50 << 20
    for name in ("seconds", "cpu_seconds", "written_bytes"):
        assert curve[name] == sorted(curve[name])


@pytest.mark.parametrize("samples", [0, 1, 2, MAX_POINTS - 1, MAX_POINTS, 10 * MAX_POINTS, 100_003])
def test_a_curve_stays_bounded_and_even(samples: int) -> None:
    curve = Curve()
    for number in range(1, samples + 1):
        curve.add(Usage(cpu_seconds=number))
    told = curve.wire().get("cpu_seconds", [])
    assert len(told) < MAX_POINTS and bool(told) == (samples > 1)
    assert len({right - left for left, right in itertools.pairwise(told)}) <= 1
    assert not told or told[-1] > samples - curve.every


def test_the_defaults_are_a_day_and_64_mebibytes() -> None:
    policy = keep_policy({})
    assert (policy.on, policy.for_seconds, policy.most_bytes) == ("failure", 86400, 64 << 20)
