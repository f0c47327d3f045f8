"""Functions run in children of a parent that has imported them: with the contract of a process, and nothing left behind."""

import os
import textwrap
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from armillary.algorithms import specfile
from armillary.base.errors import UsageError
from armillary.runner.run import Orders


@pytest.fixture
def call(jobs, bench):
    """Run a function as a job; returns its report."""

    def run(code: str, orders: Orders | None = None, reuse: bool = False, **changes: Any) -> dict[str, Any]:
        spec = {"python": "work:main"} | ({"reuse": True} if reuse else {})
        return bench.run(jobs.lease([], files={"work.py": textwrap.dedent(code)}, run=spec, **changes), orders)

    return run


COUNT = """
    import json, os
    IMPORTED_BY = os.getpid()
    calls = 0
    def main(job):
        global calls
        calls += 1
        said = {"imported_by": IMPORTED_BY, "pid": os.getpid(), "calls": calls, "looks": job["parameters"]["looks"],
                "cwd": os.getcwd(), "tmp": __import__("tempfile").gettempdir(), "home": os.environ["HOME"]}
        json.dump(said, open("result.json", "w"))
        print("call", calls)
"""


def test_each_job_is_a_child_of_its_own_and_imports_nothing(call, bench) -> None:
    first, second = call(COUNT)["result"], call(COUNT)["result"]
    assert first["imported_by"] == second["imported_by"] not in (first["pid"], second["pid"], os.getpid())
    assert first["pid"] != second["pid"]
    assert (first["calls"], second["calls"]) == (1, 1)
    assert first["looks"] == 4
    assert first["cwd"] != second["cwd"]
    assert second["tmp"] == second["home"] == f"{second['cwd']}/tmp"
    assert bench.log() == b"call 1\n"


def test_what_the_parent_imported_is_not_looked_at_by_the_collectors_of_its_children(call) -> None:
    code = """
        import gc, json
        def main(job):
            json.dump({"frozen": gc.get_freeze_count(), "enabled": gc.isenabled()}, open("result.json", "w"))
    """
    found = call(code)["result"]
    assert found["frozen"] > 1000
    assert found["enabled"]


def test_a_child_runs_job_after_job_where_the_algorithm_allows_it(call, bench) -> None:
    first, second = call(COUNT, reuse=True)["result"], call(COUNT, reuse=True)["result"]
    assert first["pid"] == second["pid"]
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["cwd"] != second["cwd"]
    assert second["tmp"] == second["home"] == f"{second['cwd']}/tmp"
    assert bench.log() == b"call 2\n"


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize(
    ("body", "outcome", "code", "error_class"),
    [
        ("return None", "succeeded", 0, None),
        ("return 0", "succeeded", 0, None),
        ("return 10", "failed", 10, "input missing"),
        ("raise SystemExit(16)", "failed", 16, "infrastructure"),
        ("raise ValueError('no overlap')", "failed", 1, "science error"),
        ("return 'no overlap'", "failed", 1, "science error"),
        ("raise MemoryError", "failed", 1, "out of memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "failed", -11, "science error"),
        ("import os; os._exit(15)", "preempted", 15, "preempted"),
    ],
)
def test_it_ends_as_a_process_would(call, reuse, body, outcome, code, error_class) -> None:
    said = call(f"def main(job):\n    {body}\n", reuse=reuse)
    assert (said["outcome"], said["exit_code"], said.get("error_class")) == (outcome, code, error_class)


@pytest.mark.parametrize("reuse", [False, True])
def test_the_reason_of_a_failure_is_its_last_line(call, reuse) -> None:
    assert (
        "ValueError: no overlap" in call("def main(job):\n    raise ValueError('no overlap')\n", reuse=reuse)["reason"]
    )


def test_a_child_whose_job_failed_is_not_used_again(call) -> None:
    code = """
        import json, os
        def main(job):
            json.dump({"pid": os.getpid()}, open("result.json", "w"))
            return 1 if os.path.exists("inputs/fail") else 0
    """
    pids = [call(code, reuse=True)["result"]["pid"]]
    failed = call(code, reuse=True, inputs={"fail": {"x": b"x"}})
    assert failed["exit_code"] == 1
    pids.append(call(code, reuse=True)["result"]["pid"])
    assert pids[0] != pids[1]


def test_a_module_that_cannot_be_imported_fails_the_job_with_its_reason(call) -> None:
    said = call("import nothing_of_this_name\n")
    assert said["outcome"] == "failed"
    assert "nothing_of_this_name" in said["reason"]


def test_a_module_that_kills_its_parent_runs_as_a_process(call) -> None:
    code = """
        import os, sys
        if "forkserver" in sys.argv[0]:
            os._exit(3)
        def main(job):
            open("result.json", "w").write('{"cold": true}')
    """
    assert [call(code)["result"] for _ in range(2)] == [{"cold": True}] * 2


@pytest.mark.parametrize("reuse", [False, True])
def test_a_cancelled_function_is_stopped(call, bench, reuse) -> None:
    orders = Orders()
    orders.log.on_write = lambda: setattr(orders, "stop", "cancel")
    said = call("import time\ndef main(job):\n    print('here', flush=True)\n    time.sleep(600)\n", orders, reuse)
    assert said["outcome"] == "cancelled"


@pytest.mark.parametrize("reuse", [False, True])
def test_a_function_that_takes_too_much_memory_dies_alone(call, reuse) -> None:
    hungry = "import time\ndef main(job):\n    x = bytearray(200 << 20)\n    time.sleep(600)\n"
    said = call(hungry, reuse=reuse, memory_bytes=100 << 20)
    assert said["error_class"] == "out of memory"
    assert call(COUNT)["outcome"] == "succeeded"


@pytest.mark.parametrize("reuse", [False, True])
def test_what_a_function_leaves_running_is_killed(call, bench, reuse) -> None:
    code = """
        import json, os, subprocess, time
        def main(job):
            left = subprocess.Popen(["sleep", "600"]).pid
            if os.fork() == 0:  # a daemon: another session, nobody's child
                os.setsid()
                if (child := os.fork()) == 0:
                    time.sleep(600)
                open("daemon", "w").write(str(child))
                os._exit(0)
            os.wait()
            json.dump({"left": left, "daemon": int(open("daemon").read())}, open("result.json", "w"))
    """
    left = call(code, reuse=reuse)["result"]
    assert not runs(left["left"])
    assert not runs(left["daemon"])
    assert b"left running were killed" in bench.log()


def runs(pid: int) -> bool:
    """Whether a process is more than an entry that its new parent has yet to collect."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_functions_run_side_by_side(call) -> None:
    """Each waits for the other: neither could end alone."""
    code = """
        import os, time
        def main(job):
            here = os.path.join(os.path.dirname(os.getcwd()), "meeting")
            os.makedirs(here, exist_ok=True)
            open(os.path.join(here, str(os.getpid())), "w").close()
            while len(os.listdir(here)) < 2:
                time.sleep(0.01)
    """
    ended: list[str] = []
    threads = [threading.Thread(target=lambda: ended.append(call(code, reuse=True)["outcome"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["succeeded", "succeeded"]


def test_closing_leaves_no_process(call, bench) -> None:
    pids = [call(COUNT, reuse=reuse)["result"][name] for reuse in (False, True) for name in ("imported_by", "pid")]
    bench.functions.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def test_children_draw_different_numbers(call) -> None:
    code = """
        import json, random
        random.seed(1)
        def main(job):
            json.dump({"drawn": random.random()}, open("result.json", "w"))
    """
    assert call(code)["result"] != call(code)["result"]


def test_many_algorithms_keep_few_parents(call, bench) -> None:
    parents = [call(COUNT + f"\n    # {number}\n")["result"]["imported_by"] for number in range(6)]
    assert len({*parents}) == 6
    assert [psutil.pid_exists(pid) for pid in parents] == [False, False, True, True, True, True]


def test_only_functions_are_reused(tmp_path: Path) -> None:
    document = {"kind": "algorithm", "id": "a", "version": "1.0.0", "environment": {"site": True}}
    assert specfile.check(document | {"run": {"python": "a:b", "reuse": True}}).spec["run"]["reuse"] is True
    with pytest.raises(UsageError, match=r"run\.reuse is for functions"):
        specfile.check(document | {"run": {"command": ["a"], "reuse": True}})
