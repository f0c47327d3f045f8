"""Whatever an algorithm does, the attempt ends, says why in a sentence, and leaves neither processes nor folders behind."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from armillary.runner.runtime import Why

Json = dict[str, Any]
OUT = {"out": {"collection": "o"}}


def _marked(folder: Path) -> list[int]:
    """Processes of jobs below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and f"ARMILLARY_JOB_FOLDER={folder}".encode() in (
                Path(f"/proc/{process.pid}/environ").read_bytes()
            ):
                found.append(process.pid)
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Any:
    yield
    assert _marked(tmp_path) == []
    kept = [path.relative_to(tmp_path / "work") for path in (tmp_path / "work").rglob("*")]
    assert {path.parts[0][:7] for path in kept} <= {".spare-"}
    assert {path.parts[1:] for path in kept} <= {(), ("inputs",), ("outputs",), ("tmp",), ("job.json",)}


# What it does, what it is recorded as, and a part of the reason that is stored.
TABLE: list[tuple[str, str, Json, str, str]] = [
    ("writes nothing", "true", {"outputs": OUT}, "science error", "left no output 'out'"),
    ("writes elsewhere", "echo x > product.tif", {"outputs": OUT}, "science error", "left no output 'out'"),
    ("writes an undeclared output", "mkdir -p outputs/other/a; echo > outputs/other/a/f", {"outputs": OUT},
     "science error", "outputs/other, which it does not declare (it declares: out)"),
    ("writes a file where a granule belongs", "mkdir outputs/out; echo > outputs/out/f", {"outputs": OUT},
     "science error", "outputs/out/f is not a folder"),
    ("writes a file where an output belongs", "echo > outputs/out", {"outputs": OUT},
     "science error", "outputs/out is not a folder"),
    ("writes an empty granule", "mkdir -p outputs/out/a", {"outputs": OUT}, "science error", "holds no files"),
    ("writes two where one was promised", "for g in a b; do mkdir -p outputs/out/$g; echo > outputs/out/$g/f; done",
     {"outputs": OUT}, "science error", "left 2 granules"),
    ("publishes by a link", "mkdir -p outputs/out/a; ln -s /etc/passwd outputs/out/a/f", {"outputs": OUT},
     "science error", "is a link"),
    ("publishes a folder by a link", "mkdir outputs/out; ln -s /etc outputs/out/a", {"outputs": OUT},
     "science error", "is a link"),
    ("publishes a tree with a link out of it", "mkdir -p outputs/out/a/t.zarr; ln -s /etc/passwd outputs/out/a/t.zarr/f",
     {"outputs": OUT}, "science error", "leaves its folder"),
    ("replaces its outputs by a link", "rmdir outputs; ln -s /etc outputs", {"outputs": OUT},
     "science error", "outputs is not a folder"),
    ("removes its outputs", "rmdir outputs", {"outputs": OUT}, "science error", "outputs is not a folder"),
    ("names a granule by a line break", "mkdir -p 'outputs/out/a\nb'; echo > 'outputs/out/a\nb/f'", {"outputs": OUT},
     "science error", "control character"),
    ("names a file by a line break", "mkdir -p outputs/out/a; echo > 'outputs/out/a/f\ng'", {"outputs": OUT},
     "science error", "is refused"),
    ("names a hidden granule", "mkdir -p outputs/out/.a; echo > outputs/out/.a/f", {"outputs": OUT},
     "science error", "begins with a dot"),
    ("writes no JSON", "mkdir -p outputs/out/a; echo > outputs/out/a/f; echo '{' > outputs/out/a/granule.json",
     {"outputs": OUT}, "science error", "granule.json is not a JSON object"),
    ("describes what is not there",
     "mkdir -p outputs/out/a; echo > outputs/out/a/f; echo '{\"assets\": {\"g\": {}}}' > outputs/out/a/granule.json",
     {"outputs": OUT}, "science error", "'g', which is not there"),
    ("claims an unknown frame",
     "mkdir -p outputs/out/a; echo > outputs/out/a/f; echo '{\"frame\": \"moon\"}' > outputs/out/a/granule.json",
     {"outputs": OUT}, "science error", "'moon'"),
    ("runs out of memory", "exec python -c 'a = [bytearray(1 << 20) for _ in range(3000)]; input()' < /dev/zero",
     {"memory_bytes": 100 << 20}, "out of memory", "was granted 100.0 MiB"),
    ("runs out of memory in a child", "python -c 'a = bytearray(200 << 20); import time; time.sleep(60)' & wait",
     {"memory_bytes": 100 << 20}, "out of memory", "was granted 100.0 MiB"),
    ("is refused memory", "echo MemoryError; exit 1", {}, "out of memory", "exited with code 1"),
    ("is killed from outside", "kill -9 $$", {}, "out of memory", "killed from outside"),
    ("fills its disk with one file", "exec python -c 'open(\"big\", \"wb\").write(bytes(20 << 20))'",
     {"disk_bytes": 10 << 20}, "out of disk", "File too large"),
    ("fills its disk with many files", "for i in 1 2 3 4 5 6; do head -c 5000000 /dev/zero > tmp/$i; done; sleep 60",
     {"disk_bytes": 10 << 20}, "out of disk", "was granted 10.0 MiB"),
    ("takes too long", "sleep 60", {"time_seconds": 0.3}, "timed out", "longer than the 0.3 s"),
    ("ignores SIGTERM", "trap '' TERM; sleep 60; sleep 60", {"time_seconds": 0.3}, "timed out", "longer than"),
    ("ends with 0 when it is told that its time is up", "trap 'exit 0' TERM; sleep 60 & wait", {"time_seconds": 0.3},
     "timed out", "longer than"),
    ("is asked to stop and saves what it has", "trap 'touch checkpoint/a; exit 15' TERM; sleep 60 & wait",
     {"time_seconds": 60, "soft_time_seconds": 0.3}, "timed out", "asked to stop"),
    ("is asked to stop and does not", "trap '' TERM; sleep 60; sleep 60",
     {"time_seconds": 0.8, "soft_time_seconds": 0.3}, "timed out", "asked to stop"),
    ("cannot be started", "", {"run": {"command": ["no-such-program"]}}, "science error", "'no-such-program' cannot be"),
    ("crashes", "kill -SEGV $$", {}, "science error", "SIGSEGV"),
    ("needs a container", "", {"run": {"container": {"command": ["x"]}}, "environment": {"image": f"x@sha256:{64 * '0'}"}},
     "infrastructure", "cannot run containers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "changes", "error_class", "reason"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_an_algorithm_that(bench: Any, jobs: Any, code: str, changes: Json, error_class: str, reason: str) -> None:
    report = bench.run(jobs.shell(code, **changes))
    assert (report["outcome"], report["error_class"]) == ("failed", error_class)
    assert reason in report["reason"]
    assert report["outputs"] == []


EXITS = [
    (10, "input missing"), (11, "science error"), (12, "out of memory"), (13, "out of disk"), (14, "timed out"),
    (15, "preempted"), (16, "infrastructure"), (1, "science error"), (17, "science error"), (255, "science error"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "error_class"), EXITS)
def test_an_exit_code_says_whose_fault_it_was(bench: Any, jobs: Any, code: int, error_class: str) -> None:
    report = bench.run(jobs.shell(f"echo first; echo the last words >&2; exit {code}"))
    assert (report["error_class"], report["exit_code"]) == (error_class, code)
    assert report["outcome"] == ("preempted" if code == 15 else "failed")
    assert report["reason"] == f"It exited with code {code}: the last words"


@pytest.mark.parametrize(
    ("said", "error_class", "reason"),
    [
        ('{"class": "input missing", "message": "No orbit.", "remedy": "Wait."}', "input missing", "No orbit."),
        ('{"class": "lost", "message": "Me?"}', "science error", "Me?"),
        ('{"message": 5}', "science error", "It exited with code 1."),
        ("[", "science error", "It exited with code 1."),
        ('"text"', "science error", "It exited with code 1."),
    ],
)
def test_an_algorithm_explains_its_failure(bench: Any, jobs: Any, said: str, error_class: str, reason: str) -> None:
    report = bench.run(jobs.shell(f"cat > error.json <<'END'\n{said}\nEND\nexit 1"))
    assert (report["error_class"], report["reason"]) == (error_class, reason)


def test_an_error_file_that_never_ends_holds_nobody_up(bench: Any, jobs: Any) -> None:
    report = bench.run(jobs.shell("mkfifo error.json progress.jsonl; exit 1"))
    assert report["error_class"] == "science error"


def test_a_gigabyte_of_words_leaves_beginning_and_end(bench: Any, jobs: Any) -> None:
    code = "echo the beginning; head -c 40000000 /dev/zero | tr '\\0' x; echo; echo the end"
    report = bench.run(jobs.shell(code))
    assert report["outcome"] == "succeeded"
    said = bench.log()
    assert said.startswith(b"the beginning\n") and said.endswith(b"the end\n")
    assert b"bytes are left out here" in said
    assert len(said) < 6 << 20


@pytest.mark.parametrize(
    "write",
    [
        "echo changed > {}",
        "echo more >> {}",
        'python -c \'import mmap; f = open("{}", "r+b"); m = mmap.mmap(f.fileno(), 0); m[:1] = b"X"; m.flush()\'',
    ],
)
def test_changed_inputs_fail_the_attempt_and_reach_nobody_else(bench: Any, jobs: Any, server: Any, write: str) -> None:
    path = "inputs/scene/scene-1/in.txt"
    report = bench.run(jobs.shell(f"chmod u+w {path}; {write.format(path)}", inputs={"scene": {"in.txt": b"precious"}}))
    assert (report["outcome"], report["error_class"]) == ("failed", "science error")
    assert report["reason"] == f"It modified its inputs: {path}."
    report = bench.run(jobs.shell(f"grep -q precious {path}", inputs={"scene": {"in.txt": b"precious"}}))
    assert report["outcome"] == "succeeded"
    assert len(server.downloads) == 2


@pytest.mark.parametrize("code", ["rm {}", "rm {}; echo mine > {}", "echo > inputs/scene/beside", "mv {} tmp/"])
def test_an_algorithm_may_do_with_its_links_what_it_likes(bench: Any, jobs: Any, server: Any, code: str) -> None:
    code = code.replace("{}", "inputs/scene/scene-1/in.txt")
    for _ in range(2):
        assert bench.run(jobs.shell(code, inputs={"scene": {"in.txt": b"precious"}}))["outcome"] == "succeeded"
    assert len(server.downloads) == 1


LEAVERS = {
    "a background process": "sleep 300 &",
    "a daemon": "setsid sleep 300 < /dev/null > /dev/null 2>&1 &",
    "a daemon's daemon": "setsid sh -c 'setsid sleep 300 & sleep 300' &",
    "many": "for i in 1 2 3 4 5 6 7 8; do setsid sleep 300 & done",
    "one that ignores all it can": "setsid sh -c 'trap \"\" TERM HUP INT; sleep 300; sleep 300' &",
    "one without our mark": "env -i setsid sleep 300 & sleep 0.5",
}


@pytest.mark.parametrize("code", LEAVERS.values(), ids=LEAVERS.keys())
def test_children_that_are_left_behind_are_ended(bench: Any, jobs: Any, code: str) -> None:
    before = {process.pid for process in psutil.process_iter()}
    report = bench.run(jobs.shell(code + "\nsleep 0.1"))
    assert report["outcome"] == "succeeded"
    left = [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.pid not in before
        and process.info["cmdline"] == ["sleep", "300"]
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
    assert left == []


def test_a_job_whose_child_holds_its_output_open_still_ends(bench: Any, jobs: Any) -> None:
    report = bench.run(jobs.shell("echo said; setsid sleep 300 & exit 0"))
    assert report["outcome"] == "succeeded"
    assert bench.log().startswith(b"said\n")


@pytest.mark.parametrize(
    ("why", "outcome", "error_class"),
    [("cancel", "cancelled", "cancelled"), ("preempt", "preempted", "preempted"), ("gone", "preempted", "preempted")],
)
@pytest.mark.parametrize("code", ["sleep 300", "trap '' TERM; sleep 300; sleep 300"])
def test_a_running_job_is_stopped(
    bench: Any, jobs: Any, orders: Any, why: Why, outcome: str, error_class: str, code: str
) -> None:
    def stop() -> None:
        orders.stop = why

    orders.on_change = stop
    report = bench.run(jobs.shell(code), orders)
    assert (report["outcome"], report["error_class"]) == (outcome, error_class)


def test_a_job_that_was_stopped_before_it_ran_is_not_started(
    bench: Any, jobs: Any, orders: Any, tmp_path: Path
) -> None:
    orders.stop = "cancel"
    report = bench.run(jobs.shell(f"touch {tmp_path}/ran"), orders)
    assert report["outcome"] == "cancelled"
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def orders() -> Any:
    from armillary.runner.run import Orders

    return Orders()


@pytest.mark.parametrize("place", ["work", "cache"])
def test_a_full_disk_is_told_from_a_wrong_program(
    bench: Any, jobs: Any, disk: Callable[[str], Path], tmp_path: Path, place: str
) -> None:
    small = disk("2m")
    (tmp_path / place).mkdir(exist_ok=True)
    if place == "cache":
        for child in (tmp_path / "cache").iterdir():
            subprocess.run(["rm", "-rf", child], check=True)
        subprocess.run(["mount", "--bind", small, tmp_path / "cache"], check=True)
        for name in ("objects", "incoming", "locks"):
            (tmp_path / "cache" / name).mkdir()
    else:
        subprocess.run(["mount", "--bind", small, tmp_path / "work"], check=True)
    try:
        if place == "cache":
            lease = jobs.shell("true", inputs={"scene": {"in": os.urandom(4 << 20)}})
        else:
            lease = jobs.shell("head -c 9000000 /dev/zero > tmp/full; exit 1")
        report = bench.run(lease)
        assert report["error_class"] == "out of disk"
    finally:
        subprocess.run(["umount", "-l", tmp_path / place], check=True)


def test_a_small_cache_disk_gives_way_to_what_is_needed_now(
    server: Any, jobs: Any, bench: Any, disk: Callable[[str], Path]
) -> None:
    from armillary.runner.cache import Cache
    from armillary.runner.fetch import Fetcher
    from armillary.runner.lease import read_lease

    cache = Cache(disk("3m"), 1 << 30, Fetcher(bench.client))
    folder = disk("64m")
    for number in range(4):
        lease = read_lease(jobs.shell("", inputs={"scene": {f"{number}": os.urandom(2 << 20)}}))
        cache.take(lease.inputs[0].files[0].object, folder / str(number))
        (folder / str(number)).unlink()


def test_several_jobs_run_side_by_side_and_keep_to_themselves(bench: Any, jobs: Any) -> None:
    from armillary.runner.lease import read_lease
    from armillary.runner.run import Orders, run

    codes = ["setsid sleep 300 & exit 3", "sleep 0.5; echo done", "sleep 300", "setsid sleep 0.4 & wait; echo fine"]
    all_orders = [Orders() for _ in codes]
    reports: list[Json] = [{} for _ in codes]

    def one(index: int) -> None:
        lease = read_lease(jobs.shell(codes[index], time_seconds=1.0))
        reports[index] = run(lease, bench.workplace, all_orders[index]).wire()

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(codes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report["outcome"] for report in reports] == ["failed", "succeeded", "failed", "succeeded"]
    assert reports[2]["error_class"] == "timed out"
