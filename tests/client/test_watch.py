"""A watched folder: what arrives is taken once it is whole, told once, and found again after a restart."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from armillary.base.errors import TransientError
from armillary.client.client import Client
from armillary.client.find import Found, PathOutcome, Signature
from armillary.client.ingest import Options, Silence
from armillary.client.watch import Memory, watch
from armillary.collections.collection import read
from armillary.testing.memory_server import MemoryServer, busy


class Listener(Silence):
    """What was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.changed = threading.Condition()

    def ended(self, outcome: PathOutcome) -> None:
        with self.changed:
            self.told.append((outcome.path.name, outcome.state))
            self.changed.notify_all()

    def wait_for(self, *expected: tuple[str, str]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: set(expected) <= set(self.told), 30), self.told


class Catalogue(MemoryServer):
    def answer(
        self, method: str, path: str, body: bytes, headers: object, is_there: Callable[[], bool] = lambda: True
    ) -> object:
        if path == "/api/collections":
            return {"collections": [{"id": "data", "spec": {"id": "data", "recognise": {"name": r"\.dat$"}}}]}
        if method == "GET" and path.startswith("/api/granules/data/"):
            assets = self.granules["data", path.rpartition("/")[2]]["commit"]["assets"]
            return {"files": [file | {"asset": name} for name, asset in assets.items() for file in asset["files"]]}
        return super().answer(method, path, body, headers, is_there)


@pytest.fixture
def server() -> Iterator[Catalogue]:
    server = Catalogue()
    server.start()
    yield server
    server.stop()


class Watching:
    """A watch in a thread."""

    def __init__(self, url: str, folder: Path) -> None:
        self.listener = Listener()
        self.troubles: list[str] = []
        self.stop = threading.Event()
        self._client = Client(url, "token", patience_seconds=0.2)
        self._thread = threading.Thread(target=self._run, args=(folder,))

    def _run(self, folder: Path) -> None:
        def trouble(error: TransientError) -> None:
            with self.listener.changed:
                self.troubles.append(error.message)
                self.listener.changed.notify_all()

        watch(self._client, [folder], Options(), self.listener, self.stop, sweep_seconds=0.05, trouble=trouble)

    def __enter__(self) -> "Watching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(20)
        self._client.close()
        assert not self._thread.is_alive()


def long_ago(path: Path) -> Path:
    """As if it had been written some time ago, so that it counts as quiet."""
    past = time.time() - 60
    os.utime(path, (past, past))
    return path


def test_what_arrives_is_taken_and_told_once(server: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("a")
    long_ago(tmp_path / "a.dat")
    (tmp_path / "readme.txt").write_text("not data")
    with Watching(server.url, tmp_path) as watching:
        watching.listener.wait_for(("a.dat", "created"), ("readme.txt", "skipped"))
        arriving = tmp_path / "b.dat.part"
        arriving.write_text("b")
        long_ago(arriving).rename(tmp_path / "b.dat")
        watching.listener.wait_for(("b.dat", "created"))
        (tmp_path / "a.dat").write_text("other")
        long_ago(tmp_path / "a.dat")
        watching.listener.wait_for(("a.dat", "revised"))
    told = watching.listener.told
    assert sorted(told) == [("a.dat", "created"), ("a.dat", "revised"), ("b.dat", "created"), ("readme.txt", "skipped")]


def test_after_a_restart_what_is_known_is_the_same(server: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("a")
    long_ago(tmp_path / "a.dat")
    with Watching(server.url, tmp_path) as watching:
        watching.listener.wait_for(("a.dat", "created"))
    with Watching(server.url, tmp_path) as watching:
        watching.listener.wait_for(("a.dat", "same"))
    assert len(server.uploads) == 1


def test_a_server_that_is_away_is_waited_for(server: Catalogue, tmp_path: Path) -> None:
    server.fault = lambda _method, _path: busy()
    (tmp_path / "a.dat").write_text("a")
    long_ago(tmp_path / "a.dat")
    with Watching(server.url, tmp_path) as watching:
        with watching.listener.changed:
            assert watching.listener.changed.wait_for(lambda: watching.troubles, 30)
        server.fault = lambda _method, _path: None
        watching.listener.wait_for(("a.dat", "created"))


# What is remembered --------------------------------------------------------------------------------------------


def seen(path: Path, size: int, seen_at: float = 0.0) -> Found:
    return Found(path, read({"id": "data"}), path.stem, Signature(1, size, 1), seen_at)


def test_one_that_is_done_is_looked_at_again_only_when_it_has_changed() -> None:
    listener = Listener()
    memory = Memory(listener)
    one = seen(Path("/a.dat"), 1)
    assert memory.look(one) is one
    memory.ended(one.outcome("failed", reason="It is damaged."))
    assert memory.look(seen(Path("/a.dat"), 1)) is None
    assert memory.look(seen(Path("/a.dat"), 2)) is not None


def test_the_quiet_time_of_one_that_waits_goes_on_from_sweep_to_sweep() -> None:
    memory = Memory(Listener())
    first = seen(Path("/a.dat"), 1, seen_at=1.0)
    memory.remember_waiting([first])
    assert memory.look(seen(Path("/a.dat"), 1, seen_at=2.0)) is first


def test_the_same_news_is_told_once() -> None:
    listener = Listener()
    memory = Memory(listener)
    nobody = PathOutcome(Path("/x.txt"), "skipped", reason="No collection recognises 'x.txt'.")
    memory.ended(nobody)
    memory.ended(nobody)
    assert listener.told == [("x.txt", "skipped")]


def test_that_a_watched_folder_is_empty_is_no_news() -> None:
    listener = Listener()
    Memory(listener, [Path("/in")]).ended(PathOutcome(Path("/in"), "skipped", reason="/in holds nothing to ingest."))
    assert listener.told == []


def test_quiet_is_at_least_two_seconds(server: Catalogue, tmp_path: Path) -> None:
    """A file that has just been written is not taken at the first sweep, whatever its collection says."""
    (tmp_path / "a.dat").write_text("a")
    waiting: list[str] = []

    class Waiter(Listener):
        def waiting(self, path: Path, reason: str) -> None:
            waiting.append(reason)
            stop.set()

    stop = threading.Event()
    with Client(server.url, "token", patience_seconds=1) as client:
        watch(client, [tmp_path], Options(quiet=timedelta(0)), Waiter(), stop)
    assert waiting == ["it changed less than 2 s ago"]
