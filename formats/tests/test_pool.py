"""Warm reader processes: limits, crashes, threads and no process left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from armillary_formats.pool import ReadError, Readers

HERE = Path(__file__)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write a module `odd_readers` that workers can import."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def write(source: str) -> None:
        (folder / "odd_readers.py").write_text(textwrap.dedent(source))

    return write


@pytest.fixture
def readers() -> Iterator[Readers]:
    with Readers(timeout=timedelta(seconds=20)) as pool:
        yield pool


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pid: int) -> None:
    """Wait for a process that is not our child, as long as it takes to be killed."""
    try:
        psutil.Process(pid).wait(timeout=20)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        assert not is_running(pid)


def test_a_reader_answers_with_metadata_from_one_warm_process(plugins, readers) -> None:
    plugins(
        """
        import os
        def read(path):
            return {"properties": {"pid": os.getpid(), "name": path.name}}
        """
    )
    first = readers.read("odd_readers:read", HERE)
    second = readers.read("odd_readers:read", HERE)
    assert first["properties"]["name"] == HERE.name
    assert first["properties"]["pid"] == second["properties"]["pid"] != os.getpid()
    assert (first["geometry"], first["frame"]) == (None, "none")


def test_a_reader_that_takes_too_long_is_stopped_and_the_next_call_works(plugins, readers) -> None:
    plugins(
        """
        import time
        def hang(path):
            time.sleep(3600)
        def read(path):
            return {"properties": {}}
        """
    )
    limit = timedelta(seconds=0.5)
    with pytest.raises(
        ReadError, match=r"odd_readers:hang took longer than 0.5 s on test_pool.py and was stopped"
    ) as caught:
        readers.read("odd_readers:hang", HERE, timeout=limit)
    assert caught.value.kind == "timeout"
    assert readers.read("odd_readers:read", HERE)["properties"] == {}


def test_a_command_that_hangs_dies_with_its_worker(tmp_path, readers) -> None:
    note = tmp_path / "pid"
    command = ["sh", "-c", f"echo $$ > {note}; exec sleep 3600"]
    with pytest.raises(ReadError, match="took longer"):
        readers.read({"command": command}, HERE, timeout=timedelta(seconds=1))
    wait_until_gone(int(note.read_text()))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os._exit(7)", "it exited with code 7"),
        ("os.closerange(3, 100); time.sleep(3600)", "it closed its output"),
    ],
)
def test_a_crash_is_reported_and_survived(plugins, readers, body, said) -> None:
    plugins(
        f"""
        import os, sys, time
        def crash(path):
            print("last words", file=sys.stderr, flush=True)
            {body}
        def read(path):
            return {{"properties": {{}}}}
        """
    )
    with pytest.raises(ReadError, match=r"odd_readers:crash crashed on test_pool\.py") as caught:
        readers.read("odd_readers:crash", HERE)
    assert said in caught.value.message
    assert caught.value.kind == "crashed"
    assert "last words" in caught.value.detail
    assert readers.read("odd_readers:read", HERE)["properties"] == {}


def test_a_worker_killed_between_calls_is_replaced(plugins, readers) -> None:
    plugins(
        """
        import os
        def read(path):
            return {"properties": {"pid": os.getpid()}}
        """
    )
    first = readers.read("odd_readers:read", HERE)["properties"]["pid"]
    os.kill(first, signal.SIGKILL)
    psutil.Process(first).wait(timeout=20)
    assert readers.read("odd_readers:read", HERE)["properties"]["pid"] != first


def test_printing_does_not_corrupt_the_answers(plugins, readers) -> None:
    plugins(
        """
        import os, sys
        def read(path):
            print('{"call": 1, "metadata": "forged"}')
            sys.stdout.flush()
            os.write(1, b"noise" * 100_000)
            os.system("echo more noise")
            return {"properties": {"stdin": sys.stdin.read()}}
        """
    )
    assert readers.read("odd_readers:read", HERE)["properties"] == {"stdin": ""}


def test_many_threads_share_the_workers_and_get_their_own_answers(plugins, tmp_path) -> None:
    plugins(
        """
        import os
        def read(path):
            return {"properties": {"name": path.name, "pid": os.getpid()}}
        """
    )
    with Readers(workers=2, timeout=timedelta(seconds=30)) as readers, ThreadPoolExecutor(8) as threads:
        names = [f"file-{i}" for i in range(200)]
        answers = list(threads.map(lambda name: readers.read("odd_readers:read", tmp_path / name), names))
    assert [answer["properties"]["name"] for answer in answers] == names
    assert len({answer["properties"]["pid"] for answer in answers}) <= 2


def test_workers_outlive_the_thread_that_asked_first(plugins, readers) -> None:
    plugins(
        """
        import os
        def read(path):
            return {"properties": {"pid": os.getpid()}}
        """
    )
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(readers.read, "odd_readers:read", HERE).result()
    assert readers.read("odd_readers:read", HERE) == first


def test_closing_ends_the_processes_and_the_calls_under_way(plugins, tmp_path) -> None:
    note = tmp_path / "pid"
    os.mkfifo(note)
    plugins(
        f"""
        import os, time
        def hang(path):
            with open({str(note)!r}, "w") as out:
                out.write(str(os.getpid()))
            time.sleep(3600)
        """
    )
    readers = Readers(timeout=timedelta(seconds=60))
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(readers.read, "odd_readers:hang", HERE)
        pid = int(note.read_text())
        readers.close()
        with pytest.raises(ReadError):
            call.result()
    assert not is_running(pid)
    with pytest.raises(ReadError, match="closed"):
        readers.read("odd_readers:hang", HERE)


def test_no_worker_outlives_a_client_that_is_killed(plugins) -> None:
    plugins(
        """
        import os, time
        def hang(path):
            print(os.getpid(), file=open(path, "w"), flush=True)
            time.sleep(3600)
        """
    )
    program = """
        import sys
        from pathlib import Path
        from armillary_formats.pool import Readers
        Readers().read("odd_readers:hang", Path(sys.argv[1]))
    """
    read_end, write_end = os.pipe()
    path = f"/proc/{os.getpid()}/fd/{write_end}"
    client = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), path])
    worker = int(os.read(read_end, 100))
    assert is_running(worker)
    client.kill()
    client.wait()
    wait_until_gone(worker)
    assert not is_running(worker)


def test_a_reader_that_wants_too_much_memory_fails_alone(plugins) -> None:
    plugins(
        """
        def greedy(path):
            return {"properties": {"size": len(bytearray(4 * 1024**3))}}
        def read(path):
            return {"properties": {}}
        """
    )
    with Readers(timeout=timedelta(seconds=20), memory_bytes=1024**3) as readers:
        with pytest.raises(ReadError, match="more memory than it may have") as caught:
            readers.read("odd_readers:greedy", HERE)
        assert caught.value.kind == "failed"
        assert readers.read("odd_readers:read", HERE)["properties"] == {}
