"""All three transfers keep the same promises, and each its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from armillary.base.errors import TransientError
from armillary.client.client import Client
from armillary.client.transfer import Bytes, FileTransfer, Prover, Ticket, Transfer
from armillary.testing.conformance.transfer import Place, TransferConformance, local_file
from armillary.testing.memory_server import MemoryServer, busy


@pytest.fixture(params=["file", "relay", "signed"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(way: str, make_server: Callable[[str], MemoryServer]) -> MemoryServer:
    return make_server(way)


@pytest.fixture
def place(server: MemoryServer, client: Client, way: str) -> Place:
    proof = Prover(client).proof()

    def ticket() -> Ticket:
        answer = client.open_uploads([{"collection": "c", "granule": "g", "size_bytes": 0}], proof)[0]
        assert answer["transfer"] == way
        return Ticket(answer["id"], answer["prefix"], answer["transfer"], answer.get("root"))

    return Place(
        Transfer.of(way, client),  # type: ignore[arg-type]
        ticket,
        lambda ticket, path: server.read_upload(ticket.id, path),
    )


class TestEveryTransfer(TransferConformance):
    """File, relay and signed alike."""


@pytest.mark.parametrize("way", ["relay", "signed"], indirect=True)
@pytest.mark.parametrize("fault", ["drop before", "drop after", "busy"])
def test_a_broken_connection_is_tried_again(place: Place, server: MemoryServer, fault: str, tmp_path: Path) -> None:
    ticket = place.ticket()
    broken: list[str] = []

    def break_twice(method: str, path: str) -> object:
        if method != "PUT" or len(broken) == 2:
            return None
        broken.append(path)
        return busy() if fault == "busy" else fault

    server.fault = break_twice  # type: ignore[assignment]
    source = tmp_path / "source"
    source.write_bytes(data := os.urandom(3 << 20))
    _, counted = place.put(ticket, local_file(source))
    assert len(broken) == 2
    assert place.read(ticket, "data.bin") == data
    assert counted == len(data)


@pytest.mark.parametrize("way", ["relay"], indirect=True)
def test_other_bytes_than_were_sent_are_noticed(
    place: Place, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = server.answer

    def spoil(method: str, path: str, body: bytes, *rest: object) -> object:
        return answer(method, path, body[:-1] + b"?" if method == "PUT" else body, *rest)

    monkeypatch.setattr(server, "answer", spoil)
    with pytest.raises(TransientError, match="other bytes"):
        place.put(place.ticket(), Bytes("a", b"right"))


def test_a_store_that_cannot_be_read_is_not_written(make_server: Callable[[str], MemoryServer]) -> None:
    server = make_server("file")
    assert server.root
    (server.root / ".nonce").unlink()
    with Client(server.url, "token") as client:
        assert Prover(client).proof() is None


SYNC_SCRIPT = """
import sys
from armillary.client.client import Client
from armillary.client.transfer import Bytes, FileTransfer, Ticket
transfer = FileTransfer(Client("http://127.0.0.1:1"))
for number in range(int(sys.argv[2])):
    transfer.put(Ticket("u", f"c/g/{number}", "file", sys.argv[1]), Bytes("a", b"x"), lambda _: None)
transfer.settle()
"""


@pytest.mark.parametrize(("count", "call"), [(2, "fsync"), (100, "syncfs")])
def test_files_and_folders_are_synced_before_the_commit(tmp_path: Path, count: int, call: str) -> None:
    strace = subprocess.run(["sh", "-c", "command -v strace"], capture_output=True, text=True)
    if strace.returncode:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    store = tmp_path / "store"
    store.mkdir()
    script = [sys.executable, "-c", SYNC_SCRIPT, str(store), str(count)]
    subprocess.run(["strace", "-f", "-y", "-e", "trace=fsync,syncfs", "-o", str(trace), *script], check=True)
    synced = trace.read_text()
    if call == "syncfs":
        assert f"<{store}>" in synced and "syncfs(" in synced
        return
    for path in [store, store / "c", store / "c/g", *(store / f"c/g/{n}" for n in range(2)), store / "c/g/1/a"]:
        assert f"<{path}>" in synced, f"{path} was not synced"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs can only be mounted by root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_of_the_store_is_named(small_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(2 << 20))
    ticket = Ticket("u", "c/g/u", "file", str(small_disk))
    with Client("http://127.0.0.1:1") as client, pytest.raises(TransientError, match="disk is full"):
        FileTransfer(client).put(ticket, local_file(source), lambda _: None)
