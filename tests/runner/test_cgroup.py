"""Limits are kept by the kernel where the machine lets us, and a job over its memory dies alone either way."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.runner.conftest import Bench

from armillary.runner import cgroup, equipment
from armillary.runner.cgroup import Enforcement, Group, Offer, Reading, decide
from armillary.runner.equipment import Equipment
from armillary.runner.lease import Limits
from armillary.runner.run import Orders
from armillary.runner.runtime import Usage
from armillary.testing.memory_server import MemoryServer

V2 = Path("/sys/fs/cgroup/runner.slice")
LIMITS = Limits(1.5, 1 << 30, 2 << 30, 60.0)
HELD = cgroup.decide(cgroup.probe())


@pytest.mark.parametrize(
    ("offer", "way", "kept"),
    [
        (Offer(), "sampling", set()),
        (Offer(V2, frozenset({"cpu", "memory", "pids", "io"})), "cgroup v2", {"cpu", "memory", "pids"}),
        (Offer(V2, frozenset({"memory"})), "cgroup v2", {"memory"}),
        (Offer(V2, frozenset({"cpu", "pids"})), "sampling", set()),
        (Offer(V2, frozenset(), {"memory": V2, "pids": V2}), "cgroup v1", {"memory", "pids"}),
        (Offer(None, frozenset(), {"cpu": V2, "pids": V2}), "sampling", set()),
        (Offer(V2, frozenset({"memory"}), {"memory": Path("/v1")}), "cgroup v2", {"memory"}),
    ],
)
def test_the_best_way_that_a_machine_offers(offer: Offer, way: str, kept: set[str]) -> None:
    enforcement = decide(offer)
    assert (enforcement.way, set(enforcement.places)) == (way, kept)
    assert set(enforcement.told()) == {"memory", "cpu", "processes", "disk", "time"}
    assert ("kernel" in enforcement.told()["memory"]) == (way != "sampling")


def _machine(folder: Path, lines: list[str], mounts: list[str]) -> tuple[Path, Path]:
    (folder / "cgroup").write_text("\n".join(lines) + "\n")
    (folder / "mountinfo").write_text("\n".join(mounts) + "\n")
    return folder, folder / "mountinfo"


def test_a_delegated_group_is_found(tmp_path: Path) -> None:
    own = tmp_path / "fs" / "user.slice" / "runner"
    own.mkdir(parents=True)
    for folder, enabled in ((own, ""), (own.parent, "cpu memory pids")):
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.subtree_control").write_text(enabled)
    proc, mounts = _machine(
        tmp_path, ["0::/user.slice/runner"], [f"41 31 0:38 / {tmp_path}/fs rw - cgroup2 cgroup2 rw"]
    )
    # Its own group has processes in it, so that none can be below; beside it, there is room.
    assert cgroup.probe(proc, mounts) == Offer(own.parent, frozenset({"cpu", "memory", "pids"}))


def test_a_part_of_the_tree_may_be_mounted(tmp_path: Path) -> None:
    own = tmp_path / "memory" / "job"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    proc, mounts = _machine(
        tmp_path, ["4:memory:/docker/c/job"], [f"35 31 0:32 /docker/c {tmp_path}/memory rw - cgroup cgroup rw,memory"]
    )
    assert cgroup.probe(proc, mounts) == Offer(None, frozenset(), {"memory": own})


def test_what_is_written_for_version_2(tmp_path: Path) -> None:
    enforcement = Enforcement("cgroup v2", dict.fromkeys(("memory", "cpu", "pids"), tmp_path))
    group = Group(enforcement, "g")
    group.make(LIMITS)
    written = {file.name: file.read_text() for file in (tmp_path / "g").iterdir()}
    assert written == {
        "memory.max": str(1 << 30), "memory.swap.max": "0", "memory.oom.group": "1", "cpu.weight": "150", "pids.max": "4096",
    }  # fmt: skip
    assert not group.has_passed_memory
    (tmp_path / "g" / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.has_passed_memory


def test_what_is_written_for_version_1() -> None:
    assert cgroup.settings(LIMITS, is_unified=False) == [
        ("memory", "memory.limit_in_bytes", str(1 << 30)), ("memory", "memory.memsw.limit_in_bytes", str(1 << 30)),
        ("cpu", "cpu.shares", "1536"), ("pids", "pids.max", "4096"),
    ]  # fmt: skip


@pytest.mark.parametrize("is_unified", [True, False])
def test_what_a_group_used_is_read(is_unified: bool, tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("usage_usec 2500000\n" if is_unified else "2500000000\n")
    names = ("anon", "shmem") if is_unified else ("total_rss", "total_shmem")
    (tmp_path / "memory").write_text(f"{names[0]} 4096\nfile 99999\n{names[1]} 1024\n")
    usage = Usage()
    Reading(tmp_path / "cpu", tmp_path / "memory", is_unified).read(usage)
    assert (usage.cpu_seconds, usage.peak_memory_bytes) == (2.5, 5120)


# On this machine -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["what the machine offers", "sampling"])
def enforcement(request: pytest.FixtureRequest) -> Enforcement:
    return Enforcement("sampling") if request.param == "sampling" else HELD


@pytest.fixture
def held_bench(enforcement: Enforcement, server: MemoryServer, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(server, tmp_path, Equipment(enforcement, None))
    yield bench
    bench.close()
    left = [
        found for place in enforcement.places.values() for found in place.glob(f"{cgroup._prefix(tmp_path / 'work')}*")
    ]
    assert left == []


GREEDY = """
import os, time
while "{mark}" not in open("/proc/self/cgroup").read():
    time.sleep(0.02)
held = b"x" * (200 << 20)
time.sleep({seconds})
"""


def test_a_job_over_its_memory_dies_alone(held_bench: Bench, jobs: Any, enforcement: Enforcement) -> None:
    is_held = enforcement.way != "sampling"
    # Where the kernel holds it, it needs no second sample to be seen.
    code = GREEDY.format(mark="armillary-" if is_held else "", seconds=0 if is_held else 60)
    modest = jobs.shell("echo up; while [ ! -e go ]; do sleep 0.05; done; echo done", memory_bytes=64 << 20)
    orders, reports = Orders(), []
    neighbour = threading.Thread(target=lambda: reports.append(held_bench.run(modest, orders)))
    up = threading.Event()
    orders.log.on_write = up.set
    neighbour.start()
    assert up.wait(30)
    report = held_bench.run(jobs.script(code, memory_bytes=64 << 20))
    (held_bench.workplace.folders.parent / f"{modest['job']}-1" / "go").touch()
    neighbour.join(30)
    assert (report["outcome"], report["error_class"]) == ("failed", "out of memory")
    assert "granted 64" in report["reason"]
    assert [one["outcome"] for one in reports] == ["succeeded"]


def test_a_child_over_memory_ends_the_job(held_bench: Bench, jobs: Any) -> None:
    code = """
    import subprocess, sys, time
    subprocess.run([sys.executable, "-c", "held = b'x' * (200 << 20); import time; time.sleep(60)"])
    time.sleep(60)
    """
    report = held_bench.run(jobs.script(code, memory_bytes=64 << 20))
    assert (report["outcome"], report["error_class"]) == ("failed", "out of memory")


def test_a_process_that_hides_is_ended_where_groups_are(server: MemoryServer, jobs: Any, tmp_path: Path) -> None:
    bench = Bench(server, tmp_path, Equipment(HELD, None))
    mark = "armillary-" if HELD.way != "sampling" else ""
    # It clears its environment and leaves its parent at once.
    code = f"""
    until grep -q "{mark}" /proc/self/cgroup; do sleep 0.02; done
    (env -i setsid sh -c 'echo $$ > hidden; exec sleep 1000' &)
    until [ -s hidden ]; do sleep 0.02; done
    cat hidden
    """
    report = bench.run(jobs.shell(code))
    hidden = int(bench.log().split()[0])
    bench.close()
    assert report["outcome"] == "succeeded"
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(hidden)
        is_left = process.status() != psutil.STATUS_ZOMBIE
        process.kill()
        assert not is_left or HELD.way == "sampling"


def test_the_next_runner_removes_the_groups_of_one_that_was_killed(
    server: MemoryServer, jobs: Any, start_runner: Callable[..., Any]
) -> None:
    server.enqueue(jobs.shell("echo up; sleep 1000"))
    first = start_runner()
    server.wait(lambda: any(b"up" in data for chunks in server.logs.values() for data in chunks.values()), 60)
    first.kill()
    (work,) = first.work.glob("runner-*")
    groups = [found for place in HELD.places.values() for found in place.glob(f"{cgroup._prefix(work)}*")]
    assert bool(groups) == (HELD.way != "sampling")
    second = start_runner()
    server.wait(lambda: len(server.workers) == 2, 60)
    assert not any(group.exists() for group in groups)
    second.kill()


def test_a_runner_says_how_limits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert equipment.find("none", "sampling").told()["limits"] == "sampling"
    assert equipment.find("none").told()["limits"] == HELD.way
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(equipment.UsageError, match="podman is not installed here"):
        equipment.find("podman")
    assert equipment.find().told()["containers"].startswith("none")
