"""Workers by the site's own commands, and over a real sshd on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from armillary.base.errors import TransientError, UsageError
from armillary.pools.provider import Known
from armillary.pools.providers import command, ssh
from armillary.testing.conformance.pool_provider import PoolProviderConformance

SITE = """
import os, signal, subprocess, sys
what = sys.argv[1]
if what == "start":
    token = sys.stdin.readline()
    words = [sys.executable, "-c", "import time; time.sleep(600)", os.environ["ARMILLARY_START"]]
    print(subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).pid)
elif what == "stop":
    for line in sys.stdin:
        try:
            os.kill(int(line), signal.SIGKILL if os.environ["ARMILLARY_FORCE"] == "1" else signal.SIGTERM)
        except ProcessLookupError:
            pass
elif what == "check":
    wanted = {line.split()[0] for line in sys.stdin}
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        pid, *words = line.split()
        if wanted & set(words):
            print(words[-1], pid)
"""


class TestCommandProvider(PoolProviderConformance):
    wait_seconds = 60.0

    @pytest.fixture
    def provider(self, tmp_path):
        script = tmp_path / "site.py"
        script.write_text(SITE)
        return command.make(
            {name: [sys.executable, str(script), name] for name in ("start", "stop", "check")}, tmp_path
        )

    async def test_what_is_not_understood_is_said(self, tmp_path):
        odd = command.make({"start": "echo", "stop": "true", "check": "echo so what"}, tmp_path)
        with pytest.raises(TransientError, match="printed"):
            await odd.start(self.requests())
        with pytest.raises(TransientError, match="so what"):
            await odd.check([Known(self.requests()[0].start, None)])
        with pytest.raises(UsageError, match=r"command\.check is missing"):
            command.make({"start": "a", "stop": "b"}, tmp_path)


class Sshd:
    """A real sshd on a port of its own, with keys of its own, for this user alone."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "ListenAddress": "127.0.0.1", "Port": self.port, "HostKey": folder / "host", "PidFile": "none",
            "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no", "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password", "MaxStartups": "100",
        }  # fmt: skip
        config = folder / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config], stderr=(folder / "log").open("w"))
        deadline = time.monotonic() + 30
        while "Server listening" not in (folder / "log").read_text():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)

    def options(self, **more):
        words = ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.folder / "user")]
        for one in (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={self.folder / 'known'}",
            "LogLevel=ERROR",
        ):
            words += ["-o", one]
        return {
            "hosts": [f"{getpass.getuser()}@127.0.0.1"], "per_host": 5, "ssh": words,
            "folder": str(self.folder / "far"), "command": ["sh", "-c", "sleep 600; true", "worker"],
        } | more  # fmt: skip


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    if not Path("/usr/sbin/sshd").exists() or not shutil.which("ssh") or os.geteuid():
        pytest.skip("a real sshd needs root and: apt install openssh-server openssh-client")
    running = Sshd(tmp_path_factory.mktemp("sshd"))
    yield running
    running.process.terminate()
    running.process.wait(10)


class TestSshProvider(PoolProviderConformance):
    wait_seconds = 60.0

    @pytest.fixture
    def provider(self, sshd, tmp_path):
        self.make = lambda **more: ssh.make(sshd.options(**more), tmp_path)
        return self.make()

    async def reborn(self, provider):
        return self.make()

    async def test_full_hosts_are_said_to_be_full(self, provider):
        full = self.make(per_host=1)
        requests = self.requests(2)
        started = await full.start(requests)
        assert set(started) == {requests[0].start}
        with pytest.raises(UsageError, match="have 1 workers"):
            await full.start(self.requests())
        await full.stop(list(started.values()), force=True)

    async def test_a_token_lies_in_a_file_for_its_owner_alone(self, provider, sshd):
        (request,) = self.requests()
        reference = (await provider.start([request]))[request.start]
        file = sshd.folder / "far" / f"{request.start}.token"
        assert file.read_text() == f"{request.token}\n"
        assert file.stat().st_mode & 0o777 == 0o600
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
        assert request.token not in listed
        await provider.stop([reference], force=True)

    async def test_a_host_that_does_not_answer_is_not_taken_for_dead(self, provider):
        known = await self.start(provider)
        cut = self.make(ssh=["false"])
        found = (await cut.check([known]))[known.start]
        assert found.state == "running"
        assert "does not answer" in found.note
        await provider.stop([known.reference], force=True)

    async def test_a_worker_that_ends_at_once_leaves_its_last_words(self, sshd, tmp_path):
        odd = ssh.make(sshd.options(setup=["echo no such module; exit 1"]), tmp_path)
        with pytest.raises(UsageError, match="no such module"):
            await odd.start(self.requests())


def test_hosts_must_be_named(tmp_path):
    for hosts in (None, [], ["-oProxyCommand=evil"], ["a b"]):
        with pytest.raises(UsageError, match=r"ssh\.hosts"):
            ssh.make({"hosts": hosts}, tmp_path)
