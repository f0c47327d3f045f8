"""Real containers: what is in their reach and what is not, how they end, and that nothing of them is left."""

import json
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from armillary.algorithms.algorithm import ErrorClass
from armillary.runner import apptainer, container
from armillary.runner.container import Engine, ending, run_arguments
from armillary.runner.lease import Limits
from armillary.runner.run import Orders
from armillary.runner.runtime import Command, Why
from armillary.testing.memory_server import MemoryServer

Json = dict[str, Any]
OUT = {"out": {"collection": "o"}}
PROBE = """
seen() { mkdir -p outputs/out/g; echo "$1: $2" >> outputs/out/g/seen.txt; }
seen here "$(pwd) $(cat inputs/scene/scene-1/f)"
seen root "$(touch /x 2>&1)"
seen inputs "$(touch inputs/scene/scene-1/x 2>&1)"
seen tmp "$(echo > /tmp/x && echo > tmp/x && echo writable)"
seen network "$(echo $(ls /sys/class/net)) $(ping -c 1 -W 1 192.0.2.1 2>&1 | grep -c "bytes from")"
while read -r name value; do case $name in Cap*|NoNewPrivs:) seen "$name" "$value";; esac; done < /proc/self/status
env | while read -r line; do seen env "$line"; done
seen user "$(id -u)"
seen bundle "$(echo $(cat /algorithm/words.txt; touch /algorithm/x 2>&1))"
seen socket "$(echo $(ls /var/run /run 2>&1))"
"""


def _left(folder: Path) -> list[str]:
    words = ["podman", "ps", "--all", "--format", "{{.Names}}", "--filter", f"label=armillary.work={folder}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def _lease(jobs: Any, image: str, command: list[str], **given: Any) -> Json:
    environment = {"image": image} | given.pop("environment", {})
    return jobs.lease([], run={"container": {"command": command}}, environment=environment, **given)


def test_a_container_reaches_its_job_and_nothing_else(
    container_bench: Any, jobs: Any, image: str, server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNER_SECRET", "hush")
    files = {"probe.sh": PROBE, "words.txt": "of the algorithm"}
    inputs = {"scene": {"f": b"bytes"}}
    lease = _lease(jobs, image, ["sh", "probe.sh"], files=files, inputs=inputs, outputs=OUT)
    report = container_bench.run(lease)
    assert report["outcome"] == "succeeded", (report, container_bench.log())
    sent = server.read_upload(report["outputs"][0]["commit"]["upload"], "seen.txt")
    lines = [line.split(": ", 1) for line in sent.decode().splitlines()]
    seen = {name: value for name, value in lines if name != "env"}
    assert seen["here"] == "/job bytes"
    assert "Read-only" in seen["root"] and "Read-only" in seen["inputs"] and seen["tmp"] == "writable"
    assert seen["network"] == "lo 0"
    assert {value.strip("0") for name, value in seen.items() if name.startswith("Cap")} == {""}
    assert seen["NoNewPrivs:"] == "1"
    assert seen["bundle"].startswith("of the algorithm") and "Read-only" in seen["bundle"]
    assert ".sock" not in seen["socket"]
    variables = dict(value.split("=", 1) for name, value in lines if name == "env")
    assert "OWNER_SECRET" not in variables and variables["HOME"] == "/job/tmp" and variables["OMP_NUM_THREADS"] == "1"
    assert report["usage"]["environment"]["image"] == image
    assert report["usage"]["environment"]["engine"].startswith("podman ")
    assert _left(tmp_path / "work") == []


def test_a_container_over_its_memory_is_out_of_memory(
    container_bench: Any, jobs: Any, image: str, tmp_path: Path
) -> None:
    fill = ["dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=256"]
    report = container_bench.run(_lease(jobs, image, fill, memory_bytes=64 << 20))
    assert (report["outcome"], report["error_class"]) == ("failed", "out of memory"), container_bench.log()
    # Not every engine notices what the kernel did: Debian's podman does not where both versions of control groups are.
    assert "granted 64" in report["reason"] or "as the kernel does" in report["reason"]
    assert _left(tmp_path / "work") == []


@pytest.mark.parametrize(
    ("code", "why", "said"),
    [
        ("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done", "cancel", b"bye"),
        ("trap '' TERM; echo up; while :; do sleep 0.1; done", "cancel", b""),
        ("trap '' TERM; echo up; while :; do sleep 0.1; done", "gone", b""),
    ],
    ids=["it stops when asked", "it is killed after the grace", "its lease is gone"],
)
def test_a_container_is_stopped(
    code: str, why: Why, said: bytes, container_bench: Any, jobs: Any, image: str, tmp_path: Path
) -> None:
    orders = Orders()
    is_up = threading.Event()

    def stop() -> None:
        if (chunk := orders.log.pending()) and b"up" in chunk.data:
            is_up.set()
            orders.stop = why

    orders.log.on_write = stop  # the log is live: what is printed is heard before the end
    report = container_bench.run(_lease(jobs, image, ["sh", "-c", code]), orders)
    assert is_up.is_set()
    assert report["outcome"] == ("cancelled" if why == "cancel" else "preempted")
    assert said in container_bench.log()
    assert _left(tmp_path / "work") == []


@pytest.mark.parametrize(
    ("image_name", "command", "error_class", "reason"),
    [
        (None, ["sh", "-c", "echo broken >&2; exit 11"], "science error", "exited with code 11: broken"),
        (None, ["absent"], "science error", "(holds no program 'absent'|No such file)"),
        (f"localhost:1/absent@sha256:{64 * '0'}", ["true"], "infrastructure", "cannot be fetched"),
    ],
)
def test_a_container_that_fails(
    image_name: str | None,
    command: list[str],
    error_class: str,
    reason: str,
    container_bench: Any,
    jobs: Any,
    image: str,
) -> None:
    report = container_bench.run(_lease(jobs, image_name or image, command))
    assert (report["outcome"], report["error_class"]) == ("failed", error_class)
    assert re.search(reason, report["reason"])


def test_the_next_runner_ends_the_containers_of_one_that_was_killed(
    image: str, engine: None, jobs: Any, server: MemoryServer, start_runner: Callable[..., Any], tmp_path: Path
) -> None:
    server.enqueue(_lease(jobs, image, ["sh", "-c", "echo up; sleep 1000"]))
    first = start_runner(ARMILLARY_CONTAINERS="podman")
    server.wait(lambda: any(b"up" in data for chunks in server.logs.values() for data in chunks.values()), 60)
    first.kill()
    (work,) = first.work.glob("runner-*")
    assert len(_left(work)) == 1
    second = start_runner("--once", ARMILLARY_CONTAINERS="podman")
    server.wait(lambda: len(server.workers) == 2, 60)
    assert _left(work) == []
    second.kill()


# Arguments: no docker and no Apptainer run here, so that what they are given is compared word by word -----------------

ROOT = Engine("podman", "/usr/bin/podman", (0, 0), True, {"nofile": 1024})
COMMAND = Command(
    ["run.sh", "job.json"], Path("/w/runner-1/j-2"), {"LANG": "C.UTF-8"}, Limits(1.5, 1 << 30, 2 << 30, 60.0), 30.0,
    Path("/b"), {"image": "registry/name@sha256:0"},
)  # fmt: skip
SHARED = (
    "run --name armillary-runner-1-j-2 --label armillary.work=/w/runner-1 --pull missing --log-driver none --read-only "
    "--tmpfs /tmp:rw,mode=1777 --cap-drop all --security-opt no-new-privileges --security-opt label=disable "
    "--memory 1073741824 --memory-swap 1073741824 --cpus 1.5 --pids-limit 4096 --ulimit nofile=1024:1024 --ulimit "
    "core=0:0 --ulimit fsize=2147483648:2147483648 "
)
MOUNTS = (
    "--mount type=bind,source=/w/runner-1/j-2,target=/job "
    "--mount type=bind,source=/w/runner-1/j-2/inputs,target=/job/inputs,readonly "
    "--mount type=bind,source=/b,target=/algorithm,readonly --workdir /job --env LANG=C.UTF-8 "
    "--entrypoint run.sh registry/name@sha256:0 job.json"
)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (ROOT, f"/usr/bin/podman {SHARED}--user 0:0 --network none --init {MOUNTS}"),
        (replace(ROOT, user=(1000, 100), has_init=False),
         f"/usr/bin/podman {SHARED}--user 1000:100 --userns keep-id --network none {MOUNTS}"),
        (replace(ROOT, name="docker", program="docker", user=(1000, 100)),
         f"docker {SHARED}--user 1000:100 --network none --init {MOUNTS}"),
    ],
    ids=["podman as root", "podman without root", "docker"],
)  # fmt: skip
def test_engines_are_given(engine: Engine, expected: str) -> None:
    assert " ".join(run_arguments(engine, COMMAND, container.container_name(COMMAND.folder))) == expected


def test_the_network_is_there_when_the_algorithm_asks() -> None:
    asking = replace(COMMAND, image={**COMMAND.image, "network": True})
    assert "none" not in " ".join(run_arguments(ROOT, asking, "n")).replace("--log-driver none", "")
    assert "--net" not in apptainer.exec_arguments(ROOT, asking, Path("/i.sif"))


def test_apptainer_is_given() -> None:
    engine = Engine("apptainer", "/usr/bin/apptainer", (1000, 100), has_init=False)
    assert " ".join(apptainer.exec_arguments(engine, COMMAND, Path("/i.sif"))) == (
        "/usr/bin/apptainer --quiet exec --containall --cleanenv --no-home --no-privs --net --network none "
        "--bind /w/runner-1/j-2:/job:rw --bind /w/runner-1/j-2/inputs:/job/inputs:ro --bind /b:/algorithm:ro "
        "--pwd /job --env LANG=C.UTF-8 /i.sif run.sh job.json"
    )


RAN = {"StartedAt": "2026-03-01T12:00:00Z"}
NOT_RAN = {"StartedAt": "0001-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("code", "state", "means", "passed", "problem"),
    [
        (0, RAN, 0, None, None),
        (11, RAN, 11, None, None),
        (137, {**RAN, "OOMKilled": True}, -9, "memory", None),
        (0, {**RAN, "OOMKilled": True}, 0, None, None),
        (137, RAN, -9, None, None),
        (127, RAN, 127, None, None),
        (127, NOT_RAN, 127, None, ErrorClass.SCIENCE_ERROR),
        (126, NOT_RAN, 126, None, ErrorClass.INFRASTRUCTURE),
        (125, {}, 125, None, ErrorClass.INFRASTRUCTURE),
    ],
)
def test_an_end_means(code: int, state: Json, means: int, passed: Why | None, problem: ErrorClass | None) -> None:
    end = ending(code, state, "x")
    assert (end.code, end.passed, end.problem and end.problem.error_class) == (means, passed, problem)


def test_a_function_is_called_by_the_images_own_python() -> None:
    assert container.words({"python": "a.b:c"}, None)[::3] == ["python3", "a.b:c"]
    assert json.dumps(container.words({"command": ["x", "job.json"]}, Path("/absent"))) == '["x", "job.json"]'
