"""An S3 server for tests: versitygw, a real one, where it is installed, else moto's; a new bucket for each test."""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Bucket:
    """A bucket and who may use it."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str

    @property
    def options(self) -> dict[str, str]:
        """Options of a store at `s3://<name>`; credentials come from the environment, as in production."""
        return {"endpoint": self.endpoint, "region": "us-east-1"}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that hold the credentials."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def objects(self) -> dict[str, bytes]:
        """All that is in it."""
        names = [entry["path"] for batch in obstore.list(self._store) for entry in batch]
        return {name: bytes(obstore.get(self._store, name).bytes()) for name in names}

    def put(self, name: str, data: bytes) -> None:
        """Put an object there, as somebody else would."""
        obstore.put(self._store, name, data)

    def changed_at(self, name: str) -> object:
        """When an object was written last."""
        return obstore.head(self._store, name)["last_modified"]

    @property
    def _store(self) -> S3Store:
        return S3Store(
            self.name, endpoint=self.endpoint, region="us-east-1", access_key_id=self.access_key,
            secret_access_key=self.secret_key, client_options={"allow_http": True},
        )  # fmt: skip


@pytest.fixture(scope="session")
def new_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Bucket]]:
    """Make an empty bucket of a name of its own."""
    folder, port = tmp_path_factory.mktemp("s3"), _free_port()
    endpoint, keys = f"http://127.0.0.1:{port}", ("tester", secrets.token_hex(16))
    command, make = _server(folder, port, endpoint)
    process = subprocess.Popen(
        command,
        env={**os.environ, "ROOT_ACCESS_KEY": keys[0], "ROOT_SECRET_KEY": keys[1]},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def new() -> Bucket:
        bucket = Bucket(f"bucket-{secrets.token_hex(4)}", endpoint, *keys)
        make(bucket.name)
        return bucket

    try:
        _wait(process, port)
        yield new
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(new_bucket: Callable[[], Bucket], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; this process holds its credentials."""
    made = new_bucket()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def _server(folder: Path, port: int, endpoint: str) -> tuple[list[str], Callable[[str], None]]:
    """What to start, and how a bucket is made there."""
    if program := shutil.which("versitygw"):
        return [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder)], lambda name: (
            folder / name
        ).mkdir()
    if importlib.util.find_spec("moto") is None:
        pytest.skip("no S3 server is installed: neither versitygw nor moto")

    def make(name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()  # noqa: S310

    return [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)], make


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the S3 server ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"The S3 server did not listen within {PATIENCE_SECONDS:g} s.")
