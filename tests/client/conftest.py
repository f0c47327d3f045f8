"""A server in memory for each test of the client."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from armillary.client.client import Client
from armillary.testing.memory_server import MemoryServer


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[[str], MemoryServer]]:
    """Start a server whose tickets name the given transfer."""
    started = []

    def start(transfer: str = "relay") -> MemoryServer:
        root = tmp_path / "store" if transfer == "file" else None
        if root:
            root.mkdir()
        server = MemoryServer(root, transfer)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(make_server: Callable[[str], MemoryServer]) -> MemoryServer:
    """One whose tickets say relay."""
    return make_server("relay")


@pytest.fixture
def client(server: MemoryServer) -> Iterator[Client]:
    """A client that does not wait long."""
    with Client(server.url, "token", patience_seconds=5) as client:
        yield client
