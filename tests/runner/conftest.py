"""A server in memory, algorithms written for a test, and real runners against them."""

import contextlib
import gzip
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from armillary.base.errors import ArmillaryError
from armillary.client.client import Client
from armillary.client.upload import GranuleSource, Uploader
from armillary.runner.cache import Cache
from armillary.runner.cgroup import Enforcement
from armillary.runner.checkpoint import Packed
from armillary.runner.container import find_engine
from armillary.runner.environment import Environments
from armillary.runner.equipment import Equipment
from armillary.runner.family import Family
from armillary.runner.fetch import Fetcher
from armillary.runner.function import FunctionRuntime
from armillary.runner.jobfolder import JobFolders
from armillary.runner.keep import Folder
from armillary.runner.lease import Lease, read_lease
from armillary.runner.run import Orders, Workplace, run
from armillary.testing.disk import small_disk
from armillary.testing.memory_server import MemoryServer

Json = dict[str, Any]
IMAGE = f"localhost/armillary-test-{os.getpid()}"
SAMPLING = Equipment(Enforcement("sampling"), None)


class Jobs:
    """Makes leases."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def script(self, code: str, **changes: Any) -> Json:
        """A lease whose algorithm is a Python script in a bundle."""
        return self.lease(["python", "main.py"], files={"main.py": textwrap.dedent(code)}, **changes)

    def shell(self, code: str, **changes: Any) -> Json:
        """A lease whose algorithm is a shell script."""
        return self.lease(["sh", "-c", textwrap.dedent(code)], **changes)

    def lease(
        self,
        command: list[str],
        files: dict[str, str] | None = None,
        inputs: dict[str, dict[str, bytes]] | None = None,
        outputs: dict[str, Json] | None = None,
        lease: int = 1,
        **resources: Any,
    ) -> Json:
        """A lease as a server writes it; inputs are role → file → bytes."""
        environment = resources.pop("environment", {"site": True})
        bundle = self._bundle(files) if files else None
        outputs = {} if outputs is None else outputs
        return {
            "job": resources.pop("job", str(uuid.uuid4())),
            "lease": lease,
            "leased_at": "2026-03-01T12:00:00Z",
            "algorithm": {
                "id": "test", "version": "1.0.0", "digest": "d",
                "spec": {"run": resources.pop("run", {"command": command}), "outputs": outputs,
                         "inputs": {role: {} for role in inputs or {}}},
            },
            "bundle": bundle,
            "environment": environment,
            "parameters": {"looks": 4},
            "inputs": {
                role: [self._granule(role, contents)] for role, contents in (inputs or {}).items()
            },
            "outputs": outputs,
            "checkpoint": resources.pop("checkpoint", None),
            "group": "g",
            "resources": {"cpu": 1, "memory_bytes": 1 << 30, "disk_bytes": 1 << 30, "time_seconds": 60} | resources,
        }  # fmt: skip

    def _granule(self, role: str, contents: dict[str, bytes]) -> Json:
        files = [{"path": path, **self._server.add_object(data)} for path, data in contents.items()]
        item = {
            "id": f"{role}-1",
            "geometry": {"type": "Point", "coordinates": [1, 2]},
            "properties": {"datetime": "2026-03-01T12:00:00Z"},
        }
        return {"collection": "c", "id": f"{role}-1", "revision": 1, "item": item, "files": files}

    def _bundle(self, files: dict[str, str]) -> Json:
        packed = io.BytesIO()
        # Without a time in its header, so that equal files are an equal bundle.
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                member.mode = 0o755 if text.startswith("#!") else 0o644
                archive.addfile(member, io.BytesIO(text.encode()))
        return self._server.add_object(packed.getvalue(), "bundle")


class Runner:
    """A real `armillary-runner`."""

    def __init__(self, server: MemoryServer, folder: Path, *options: str, **variables: str) -> None:
        self.work, self.cache = folder / "work", folder / "cache"
        token = folder / "token"
        token.write_text("start\n")
        given = {
            "--url": server.url, "--token-file": token, "--work": self.work, "--cache": self.cache, "--cpu": "2",
            "--memory": "4GiB", "--disk": "4GiB", "--grace": "1s", "--checkpoint": "1s",
        }  # fmt: skip
        words = [str(word) for pair in given.items() for word in pair]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "armillary.runner.main", *words, *options],
            env=os.environ | {"OWNER_SECRET": "hush"} | variables,
            stderr=(folder / "stderr").open("w"),
        )

    def terminate(self, timeout_seconds: float = 20) -> int:
        self.process.terminate()
        return self.process.wait(timeout_seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    server = MemoryServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def jobs(server: MemoryServer) -> Jobs:
    return Jobs(server)


@pytest.fixture
def start_runner(server: MemoryServer, tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    started: list[Runner] = []

    def start(*options: str, folder: Path = tmp_path, **variables: str) -> Runner:
        started.append(Runner(server, folder, *options, **variables))
        return started[-1]

    yield start
    for runner in started:
        if runner.process.poll() is None:
            runner.process.send_signal(signal.SIGKILL)
            runner.process.wait()
    print((tmp_path / "stderr").read_text() if (tmp_path / "stderr").exists() else "")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small disk."""
    with contextlib.ExitStack() as mounted:
        count = itertools.count()
        yield lambda size: mounted.enter_context(small_disk(tmp_path / f"disk-{next(count)}", size))


class Bench:
    """Runs leases in this process, by the steps that a worker takes."""

    def __init__(self, server: MemoryServer, folder: Path, equipment: Equipment = SAMPLING) -> None:
        self.client = Client(server.url, "t", patience_seconds=5)
        self.family = Family()
        self.cache = Cache(folder / "cache", 1 << 30, Fetcher(self.client))
        self.threads = ThreadPoolExecutor(4)
        self.checkpoints: dict[str, bytes] = {}
        self.folders: dict[str, bytes] = {}
        self.uploader = Uploader(self.client)
        self.functions = FunctionRuntime(self.family, patience_seconds=60)
        self.workplace = Workplace(
            folders=JobFolders(folder / "work"),
            cache=self.cache,
            environments=Environments(
                folder / "cache", self.cache, self.family, fetch_image=equipment.fetch_image(self.family)
            ),
            runtimes={**equipment.runtimes(self.family), "function": self.functions},
            threads=self.threads,
            sink=self,
            grace_seconds=0.5,
            checkpoint_seconds=0.2,
            sample_seconds=0.05,
            disk_sample_seconds=0.1,
        )

    def run(self, wire: Json, orders: Orders | None = None) -> Json:
        """The report, as the server would read it."""
        self.orders = orders or Orders()
        return run(read_lease(wire), self.workplace, self.orders).wire()

    def log(self) -> bytes:
        """What the last job's log holds."""
        said = b""
        while (chunk := self.orders.log.pending()) is not None:
            said += chunk.data
            self.orders.log.acknowledge(chunk)
        return said

    def send(self, lease: Lease, granules: Sequence[GranuleSource]) -> list[Json | ArmillaryError]:
        return self.uploader.send(granules)

    def save_checkpoint(self, lease: Lease, packed: Packed) -> None:
        self.checkpoints[lease.job] = packed.file.read_bytes()

    def keep_folder(self, lease: Lease, folder: Folder) -> None:
        self.folders[lease.job] = b"".join(folder.chunks())

    def close(self) -> None:
        self.functions.close()
        self.uploader.close()
        self.threads.shutdown()
        self.client.close()


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that holds one program, busybox, pinned by its digest; made here, so that nothing is fetched."""
    busybox = next((found for name in ("/bin/busybox", "/usr/bin/busybox") if (found := Path(name)).exists()), None)
    if shutil.which("podman") is None or busybox is None:
        pytest.skip("containers need podman, runc and busybox-static")
    root = tmp_path_factory.mktemp("image")
    for name in ("bin", "tmp", "proc", "dev", "etc", "sys", "job", "algorithm"):
        (root / name).mkdir()
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in ["sh", "cat", "dd", "echo", "env", "grep", "id", "ls", "mkdir", "ping", "sleep", "touch", "true"]:
        (root / "bin" / name).symlink_to("busybox")
    packed = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
    subprocess.run(["podman", "import", "-q", "-", IMAGE], input=packed, capture_output=True, check=True)
    digest = ["podman", "image", "inspect", "--format", "{{.Digest}}", IMAGE]
    said = subprocess.run(digest, capture_output=True, text=True, check=True).stdout
    yield f"{IMAGE}@{said.strip()}"
    subprocess.run(["podman", "rmi", "--force", IMAGE], capture_output=True, check=False)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Podman with runc, which runs on machines with both kinds of control groups as well."""
    (tmp_path / "containers.conf").write_text('[engine]\nruntime = "runc"\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))


@pytest.fixture
def container_bench(image: str, engine: None, server: MemoryServer, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(server, tmp_path, Equipment(Enforcement("sampling"), find_engine("podman")))
    yield bench
    bench.close()


@pytest.fixture
def bench(server: MemoryServer, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(server, tmp_path)
    yield bench
    bench.close()
