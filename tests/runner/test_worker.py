"""A real runner against a server: it leases, reports once, and outlives outages, kills and being forgotten."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from armillary.base.errors import NotFound, TransientError

Start = Callable[..., Any]


def _wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_jobs_are_run_side_by_side_as_capacity_allows(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    code = f"touch {tmp_path}/up-$$; while [ $(ls {tmp_path} | grep -c up-) -lt 2 ]; do sleep 0.02; done"
    leases = [jobs.shell(code) for _ in range(2)]
    start_runner()
    server.enqueue(*leases)
    assert [server.report(lease["job"])["outcome"] for lease in leases] == ["succeeded", "succeeded"]


def test_each_job_has_gpus_of_its_own(server: Any, jobs: Any, start_runner: Start, tmp_path: Path) -> None:
    code = f"touch {tmp_path}/up-$$; while [ $(ls {tmp_path} | grep -c up-) -lt 3 ]; do sleep 0.02; done"
    leases = [jobs.shell(f"{code}; echo =$CUDA_VISIBLE_DEVICES=", gpu=gpu, cpu=0.1) for gpu in (1, 2, 0)]
    start_runner("--gpus", "a,b,c")
    server.enqueue(*leases)
    for lease in leases:
        assert server.report(lease["job"])["outcome"] == "succeeded"
    first, second, none = (server.log(lease["job"], 1).decode().strip().strip("=") for lease in leases)
    assert sorted([first, *second.split(",")]) == ["a", "b", "c"]
    assert none == ""


def test_a_job_waits_for_room(server: Any, jobs: Any, start_runner: Start, tmp_path: Path) -> None:
    code = f"set -e; mkdir {tmp_path}/alone; sleep 0.1; rmdir {tmp_path}/alone"
    leases = [jobs.shell(code, cpu=2) for _ in range(3)]
    start_runner()
    server.enqueue(*leases)
    assert {server.report(lease["job"])["outcome"] for lease in leases} == {"succeeded"}


def test_the_log_and_the_progress_are_seen_while_it_runs(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    code = f"""
        echo live; echo '{{"fraction": 0.5, "stage": "half"}}' > progress.jsonl
        while [ ! -e {go_on} ]; do sleep 0.02; done; echo later
    """
    lease = jobs.shell(code)
    start_runner()
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1) == b"live\n")
    server.wait(
        lambda: any(
            one.get("progress") == {"fraction": 0.5, "stage": "half"}
            for beat in server.beats
            for one in beat["running"]
        )
    )
    go_on.touch()
    server.report(lease["job"])
    assert server.log(lease["job"], 1) == b"live\nlater\n"


@pytest.mark.parametrize(("how", "outcome"), [("cancel", "cancelled"), ("preempt", "preempted")])
def test_a_command_stops_a_job(server: Any, jobs: Any, start_runner: Start, how: str, outcome: str) -> None:
    lease = jobs.shell("echo up; sleep 60")
    start_runner()
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    server.stop_job(lease["job"], 1, how)
    assert server.report(lease["job"])["outcome"] == outcome


def test_a_lease_that_is_gone_is_killed_and_not_reported(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    lost, other = jobs.shell(f"echo $$ > {tmp_path}/pid; echo up; sleep 60"), jobs.shell("true")
    start_runner()
    server.enqueue(lost)
    server.wait(lambda: server.log(lost["job"], 1))
    with server.changed:
        server.gone.append({"job": lost["job"], "lease": 1})
    server.enqueue()
    pid = int((tmp_path / "pid").read_text())
    _wait_until(lambda: not _is_alive(pid))
    server.enqueue(other)
    server.report(other["job"])
    assert [report["job"] for report in server.reports] == [other["job"]]


def test_an_outage_loses_neither_what_runs_nor_what_ended_in_it(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    """One job ends while the server is away, another runs through; both are reported once, with their products."""
    ends = f"echo up; while [ ! -e {tmp_path}/away ]; do sleep 0.02; done; mkdir -p outputs/out/a; echo 1 > outputs/out/a/f"
    runs = f"echo up; while [ ! -e {tmp_path}/back ]; do sleep 0.02; done"
    first, second = jobs.shell(ends, outputs={"out": {"collection": "o"}}), jobs.shell(runs)
    runner = start_runner()
    server.enqueue(first, second)
    server.wait(lambda: server.log(first["job"], 1) and server.log(second["job"], 1))
    server.stop()
    (tmp_path / "away").touch()
    _wait_until(lambda: not list(runner.work.glob(f"*/{first['job']}-1/job.json")) or _has_output(runner, first))
    server.start()
    (tmp_path / "back").touch()
    assert server.report(first["job"])["outcome"] == "succeeded"
    assert server.report(second["job"])["outcome"] == "succeeded"
    assert len(server.reports) == 2 and len(server.workers) == 1


def _has_output(runner: Any, lease: Any) -> bool:
    return bool(list(runner.work.glob(f"*/{lease['job']}-1/outputs/out/a/f")))


@pytest.mark.parametrize("fault", ["drop before", "drop after", "busy"])
@pytest.mark.parametrize("call", ["finish", "logs", "heartbeat", "lease", "uploads"])
def test_any_call_may_fail_a_few_times(server: Any, jobs: Any, start_runner: Start, fault: str, call: str) -> None:
    failed: list[str] = []

    def fail_thrice(_method: str, path: str) -> Any:
        if not path.endswith(f"/{call}") or len(failed) == 3 or (call, fault) == ("lease", "drop after"):
            return None  # a lease whose answer was lost is the server's to give back
        failed.append(path)
        return TransientError("Not now.") if fault == "busy" else fault

    server.fault = fail_thrice
    lease = jobs.shell("echo said; mkdir -p outputs/o/a; echo 1 > outputs/o/a/f", outputs={"o": {"collection": "o"}})
    start_runner()
    server.enqueue(lease)
    assert server.report(lease["job"])["outcome"] == "succeeded"
    assert server.log(lease["job"], 1) == b"said\n"


def test_a_worker_that_was_forgotten_kills_what_it_runs_and_registers_anew(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    lost, next_one = jobs.shell(f"echo $$ > {tmp_path}/pid; echo up; sleep 60"), jobs.shell("true")
    start_runner()
    server.enqueue(lost)
    server.wait(lambda: server.log(lost["job"], 1))
    server.workers.clear()
    server.wait(lambda: server.workers)
    pid = int((tmp_path / "pid").read_text())
    _wait_until(lambda: not _is_alive(pid))
    server.enqueue(next_one)
    assert server.report(next_one["job"])["outcome"] == "succeeded"
    assert len(server.reports) == 1


def test_a_report_that_is_refused_is_dropped_and_work_goes_on(server: Any, jobs: Any, start_runner: Start) -> None:
    refused, other = jobs.shell("true"), jobs.shell("true")
    server.refuse.add((refused["job"], 1))
    start_runner()
    server.enqueue(refused, other)
    assert server.report(other["job"])["outcome"] == "succeeded"
    server.wait(lambda: not server.beats[-1]["running"])
    assert len(server.reports) == 1


def test_sigterm_lets_a_short_job_end_and_leaves(server: Any, jobs: Any, start_runner: Start, tmp_path: Path) -> None:
    lease = jobs.shell(f"echo up; while [ ! -e {tmp_path}/go-on ]; do sleep 0.02; done")
    runner = start_runner()
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    runner.process.terminate()
    (tmp_path / "go-on").touch()
    assert runner.process.wait(20) == 0
    assert [report["outcome"] for report in server.reports] == ["succeeded"]
    assert all(worker["has_left"] for worker in server.workers.values())
    assert list(runner.work.glob("runner-*")) == []


def test_sigterm_preempts_a_long_job_and_saves_its_checkpoint(server: Any, jobs: Any, start_runner: Start) -> None:
    code = "trap 'mkdir -p checkpoint; echo 1 > checkpoint/a; exit 15' TERM; echo up; sleep 60 & wait"
    lease = jobs.shell(code)
    runner = start_runner("--drain", "0.1s")
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    assert runner.terminate() == 0
    assert [report["outcome"] for report in server.reports] == ["preempted"]
    assert lease["job"] in server.checkpoints


def test_a_program_whose_child_heard_the_sigterm_first_has_not_failed(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    """As a batch system's scancel does it: the shell's sleep is gone, `wait` returns, and it ends with 0 and no output."""
    code = f"sleep 60 & echo $! > {tmp_path}/child; echo up; wait"
    lease = jobs.shell(code, outputs={"out": {"collection": "product"}})
    runner = start_runner("--drain", "60s")
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    runner.process.send_signal(signal.SIGTERM)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGTERM)
    assert runner.process.wait(20) == 0
    assert [report["outcome"] for report in server.reports] == ["preempted"]


def test_a_server_may_drain_it(server: Any, jobs: Any, start_runner: Start) -> None:
    lease = jobs.shell("echo up; sleep 0.3")
    runner = start_runner()
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    server.is_draining = True
    assert runner.process.wait(20) == 0
    assert [report["outcome"] for report in server.reports] == ["succeeded"]


@pytest.mark.parametrize("options", [["--once"], ["--idle-exit", "0.2s"]])
def test_it_leaves_when_there_is_nothing_more_for_it(
    server: Any, jobs: Any, start_runner: Start, options: list[str]
) -> None:
    leases = [jobs.shell("true"), jobs.shell("true")]
    server.enqueue(*leases)
    runner = start_runner(*options)
    assert runner.process.wait(20) == 0
    assert len(server.reports) == (1 if options == ["--once"] else 2)


def test_a_killed_runner_leaves_processes_that_the_next_one_ends(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    lease = jobs.shell(f"setsid sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; echo up; sleep 300")
    killed = start_runner()
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    killed.kill()
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "child")]
    assert all(_is_alive(pid) for pid in pids)
    left = list(killed.work.glob("runner-*"))
    again = jobs.shell("true", job=lease["job"], lease=2)
    start_runner()
    server.enqueue(again)
    server.wait(lambda: any(report["lease"] == 2 for report in server.reports))
    assert not any(_is_alive(pid) for pid in pids)
    assert not any(folder.exists() for folder in left)


POINTS = [
    "runner.after-lease", "runner.before-start", "runner.before-upload", "upload.after-ticket", "upload.after-file",
    "upload.after-bytes", "runner.after-upload", "runner.before-log", "runner.before-finish", "runner.after-finish",
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_a_runner_killed_anywhere_publishes_once_or_not_at_all(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path, point: str
) -> None:
    def lease(number: int) -> Any:
        code = "echo said; mkdir -p outputs/o/a; echo 1 > outputs/o/a/f"
        return jobs.shell(code, job=job, lease=number, outputs={"o": {"collection": "o"}})

    job = "0195f0c0-0000-7000-8000-000000000001"
    server.enqueue(lease(1))
    killed = start_runner(ARMILLARY_CRASH=point)
    assert killed.process.wait(20) == -signal.SIGKILL
    assert len(server.granules) == (1 if point == "runner.after-finish" else 0)
    server.enqueue(lease(2))
    start_runner()
    server.wait(lambda: any(report["lease"] == 2 for report in server.reports))
    assert server.reports[-1]["outcome"] == "succeeded"
    assert server.granules["o", "a"]["revision"] == 1


def test_its_secrets_stay_its_own(server: Any, jobs: Any, start_runner: Start) -> None:
    lease = jobs.shell("env; tr '\\0' '\\n' < /proc/self/environ")
    start_runner(ARMILLARY_TOKEN="token-in-environment")
    server.enqueue(lease)
    server.report(lease["job"])
    said = server.log(lease["job"], 1)
    assert b"PATH=" in said
    assert b"hush" not in said and b"token-in-environment" not in said


def test_a_lease_that_makes_no_sense_harms_nobody_else(server: Any, jobs: Any, start_runner: Start) -> None:
    bad, good = jobs.shell("true", inputs={"scene": {"../x": b""}}), jobs.shell("true")
    start_runner()
    server.enqueue(bad, {"job": "x"}, good)
    assert server.report(good["job"])["outcome"] == "succeeded"
    assert [report["job"] for report in server.reports] == [good["job"]]


def test_a_wrong_token_or_pool_ends_it_with_the_reason(server: Any, start_runner: Start, tmp_path: Path) -> None:
    server.fault = lambda _method, path: NotFound("There is no pool x.", "Make it.") if "pools" in path else None
    runner = start_runner("--pool", "x")
    assert runner.process.wait(20) == NotFound.exit_code
    assert "There is no pool x. Make it." in (tmp_path / "stderr").read_text()


def test_two_runners_share_a_work_folder_and_a_cache(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    code = "sleep 0.2; cat inputs/scene/scene-1/in"
    leases = [jobs.shell(code, inputs={"scene": {"in": b"shared"}}, cpu=2) for _ in range(6)]
    runners = [start_runner(), start_runner()]
    server.wait(lambda: len(server.workers) == 2)
    server.enqueue(*leases)
    assert {server.report(lease["job"])["outcome"] for lease in leases} == {"succeeded"}
    assert len(server.downloads) == 1
    assert [runner.terminate() for runner in runners] == [0, 0]


def test_many_short_jobs_are_reported_once_each(server: Any, jobs: Any, start_runner: Start) -> None:
    leases = [jobs.lease(["true"], cpu=0.25, memory_bytes=1 << 20, disk_bytes=1 << 20) for _ in range(300)]
    start_runner()
    server.enqueue(*leases)
    server.wait(lambda: len(server.reports) >= 300, 60)
    assert sorted(report["job"] for report in server.reports) == sorted(lease["job"] for lease in leases)
    assert {report["outcome"] for report in server.reports} == {"succeeded"}
    finishes = sum(path.endswith("/finish") for _, path in server.calls)
    leases_asked = sum(path.endswith("/lease") for _, path in server.calls)
    assert finishes < 300 and leases_asked < 150


def test_what_was_taken_ahead_goes_back_when_jobs_fail_in_a_row_and_one_at_a_time_is_tried(
    server: Any, jobs: Any, start_runner: Start, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    small = {"cpu": 2, "memory_bytes": 1 << 20, "disk_bytes": 1 << 20}

    def some(number: int) -> list[Any]:
        return [jobs.shell(f"test ! -e {broken} || exit 16", **small) for _ in range(number)]

    start_runner()
    warm, first = some(40), some(200)
    server.enqueue(*warm)  # short ones, so that it takes them ahead from then on
    server.wait(lambda: len(server.reports) >= 40, 60)
    broken.touch()
    server.enqueue(*first)
    server.wait(lambda: any(report["outcome"] == "preempted" for report in server.reports), 60)
    broken.unlink()
    server.wait(lambda: len(server.reports) >= 240, 60)
    outcomes = [report["outcome"] for report in server.reports[40:]]
    returned = [report for report in server.reports[40:] if report["outcome"] == "preempted"]
    assert {report["reason"] for report in returned} <= {
        f"{number} jobs in a row had failed on its worker, which handed it back." for number in range(3, 200)
    }
    assert returned, "how many depends on how fast the machine was until then"
    assert outcomes[:3].count("preempted") == 0, "it takes three"
    assert 3 <= outcomes.count("failed") < 100, "those taken ahead did not fail one after the other"
    assert outcomes[-1] == "succeeded"


def test_zombies_of_daemons_do_not_pile_up(server: Any, jobs: Any, start_runner: Start) -> None:
    runner = start_runner()
    leases = [jobs.shell("setsid sh -c 'exit 0' & sleep 0.1") for _ in range(3)]
    server.enqueue(*leases)
    for lease in leases:
        server.report(lease["job"])
    children = psutil.Process(runner.process.pid).children()
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []
    assert os.getpid() != runner.process.pid
