"""An object is fetched once however many want it, is what it should be, and the bound holds, whoever is killed when."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armillary.base.errors import TransientError
from armillary.runner.cache import VERIFIED_NS, Cache
from armillary.runner.lease import Object


def _object(data: bytes) -> Object:
    return Object(hashlib.sha256(data).hexdigest(), len(data), "/href")


class Source:
    """Serves objects and counts."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {hashlib.sha256(data).hexdigest(): data for data in contents}
        self.fetched: list[str] = []

    def __call__(self, wanted: Object, to: IO[bytes]) -> str:
        self.fetched.append(wanted.sha256)
        to.write(self.contents[wanted.sha256])
        return "here"


@pytest.fixture
def source() -> Source:
    return Source(b"one", b"two", b"three")


@pytest.fixture
def cache(tmp_path: Path, source: Source) -> Cache:
    return Cache(tmp_path / "cache", 1 << 20, source)


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], Path]:
    numbers = iter(range(1000))
    (tmp_path / "jobs").mkdir()
    return lambda: tmp_path / "jobs" / str(next(numbers))


def test_a_second_job_gets_a_link_to_the_same_read_only_bytes(
    cache: Cache, source: Source, place: Callable[[], Path]
) -> None:
    first, second = (cache.take(_object(b"one"), place()) for _ in range(2))
    assert (first.source, second.source) == ("here", "cache")
    assert first.path.read_bytes() == b"one" and first.path.samefile(second.path)
    assert first.path.stat().st_mode & 0o222 == 0
    assert source.fetched == [_object(b"one").sha256]


def test_many_threads_want_one_object_and_it_is_fetched_once(tmp_path: Path, place: Callable[[], Path]) -> None:
    fetched = []

    def slow(wanted: Object, to: IO[bytes]) -> str:
        fetched.append(wanted)
        threading.Event().wait(0.1)
        to.write(b"one")
        return "here"

    cache = Cache(tmp_path / "cache", 1 << 20, slow)
    threads = [threading.Thread(target=cache.take, args=(_object(b"one"), place())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1
    assert len(list((tmp_path / "jobs").iterdir())) == 20


SCRIPT = """
import sys, time
from pathlib import Path
from armillary.runner.cache import Cache
from armillary.runner.lease import Object
folder, to, sha256, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
def fetch(wanted, stream):
    with count.open("a") as file:
        file.write("x")
    time.sleep(0.2)
    stream.write(b"one")
    return "here"
Cache(folder, 1 << 20, fetch).take(Object(sha256, 3, ""), to)
"""


def _start(tmp_path: Path, to: Path, **variables: str) -> "subprocess.Popen[bytes]":
    words = [str(tmp_path / "cache"), str(to), _object(b"one").sha256, str(tmp_path / "count")]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *words], env=os.environ | variables)


def test_many_processes_want_one_object_and_it_is_fetched_once(tmp_path: Path, place: Callable[[], Path]) -> None:
    processes = [_start(tmp_path, place()) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert (tmp_path / "count").read_text() == "x"


def test_a_process_that_is_killed_as_it_fetches_holds_nobody_up(tmp_path: Path, place: Callable[[], Path]) -> None:
    killed = _start(tmp_path, place(), ARMILLARY_CRASH="cache.before-rename")
    assert killed.wait() == -signal.SIGKILL
    assert list((tmp_path / "cache" / "incoming").iterdir()) != []
    assert _start(tmp_path, to := place()).wait() == 0
    assert to.read_bytes() == b"one"
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []


def test_an_entry_that_was_written_to_is_noticed_even_after_a_restart(
    tmp_path: Path, cache: Cache, source: Source, place: Callable[[], Path]
) -> None:
    taken = cache.take(_object(b"one"), place())
    taken.path.chmod(0o644)
    taken.path.write_bytes(b"eno")
    again = Cache(tmp_path / "cache", 1 << 20, source).take(_object(b"one"), place())
    assert again.path.read_bytes() == b"one"
    assert len(source.fetched) == 2


def test_a_change_is_told_to_every_job_that_held_the_link(cache: Cache, place: Callable[[], Path]) -> None:
    first, second = (cache.take(_object(b"one"), place()) for _ in range(2))
    assert not cache.is_changed(first)
    os.truncate(first.path, 1)
    assert cache.is_changed(first) and cache.is_changed(second)
    third = cache.take(_object(b"one"), place())
    assert third.path.read_bytes() == b"one" and not cache.is_changed(third)


def test_an_entry_from_before_a_power_cut_is_fetched_again(
    cache: Cache, source: Source, place: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.take(_object(b"one"), place())
    monkeypatch.setattr(cache, "_booted_ns", time.time_ns() + 10**12)
    assert cache.take_if_here(_object(b"one"), place()) is None


def test_bytes_that_are_refused_are_not_kept(tmp_path: Path, place: Callable[[], Path]) -> None:
    def wrong(_wanted: Object, to: IO[bytes]) -> str:
        to.write(b"???")
        raise TransientError("other bytes")

    cache = Cache(tmp_path / "cache", 1 << 20, wrong)
    with pytest.raises(TransientError):
        cache.take(_object(b"one"), place())
    assert cache.take_if_here(_object(b"one"), place()) is None
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []


def test_what_was_used_longest_ago_goes_first_and_what_a_job_holds_goes_last(
    tmp_path: Path, place: Callable[[], Path]
) -> None:
    contents = {name: os.urandom(100) for name in "abcd"}
    source = Source(*contents.values())
    cache = Cache(tmp_path / "cache", 350, source)
    held = cache.take(_object(contents["a"]), place())
    for name in "bcb":
        cache.take(_object(contents[name]), place()).path.unlink()
    cache.take(_object(contents["d"]), place()).path.unlink()
    here = {name for name in "abcd" if cache.take_if_here(_object(contents[name]), place())}
    assert here == {"a", "b", "d"}
    assert held.path.read_bytes() == contents["a"]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_the_bound_holds_and_the_count_is_right(uses: list[int]) -> None:
    import tempfile

    contents = [bytes([number]) * 100 for number in range(10)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = Cache(folder / "cache", 450, Source(*contents))
        for number, use in enumerate(uses):
            taken = cache.take(_object(contents[use]), folder / str(number))
            assert taken.path.read_bytes() == contents[use]
            taken.path.unlink()
            held = [entry.stat().st_size for entry in (folder / "cache" / "objects").glob("??/*")]
            assert sum(held) == cache.size_bytes() <= 450


def test_a_job_on_another_disk_gets_a_copy(
    cache: Cache, disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = cache.take(_object(b"one"), disk("1m") / "one")
    assert taken.path.read_bytes() == b"one"
    assert taken.path.stat().st_mtime_ns == VERIFIED_NS
    taken.path.write_bytes(b"two")
    assert cache.is_changed(taken)
