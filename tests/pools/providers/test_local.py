import os
import sys
from uuid import uuid4

import psutil
import pytest

from armillary.algorithms.algorithm import Resources
from armillary.base.errors import TransientError
from armillary.pools.provider import Known, StartRequest
from armillary.pools.providers.local import LocalProvider, words
from armillary.testing.conformance.pool_provider import PoolProviderConformance

# A program that takes its token, says so, and stays.
SLEEPER = "import sys, time; print('token', sys.stdin.readline().strip(), flush=True); time.sleep(600)"


class TestLocalProvider(PoolProviderConformance):
    @pytest.fixture
    def provider(self, tmp_path):
        self.home = tmp_path
        provider = LocalProvider(tmp_path / "workers", [sys.executable, "-c", SLEEPER])
        yield provider
        for child in provider._children.values():
            child.kill()
            child.wait()

    async def reborn(self, provider):
        return LocalProvider(self.home / "workers", [sys.executable, "-c", SLEEPER])

    async def test_a_worker_has_a_session_of_its_own_and_its_token_from_a_pipe(self, provider, tmp_path):
        (request,) = self.requests()
        reference = (await provider.start([request]))[request.start]
        pid = int(reference.split(":")[1])
        assert os.getsid(pid) == pid != os.getsid(0)
        assert request.token not in psutil.Process(pid).cmdline()
        assert request.token not in psutil.Process(pid).environ().values()
        log = tmp_path / "workers" / f"{request.start}.log"

        async def has_token():
            return log.read_text() == f"token {request.token}\n"

        await self.until(has_token)

    async def test_another_process_with_the_same_number_is_not_the_worker(self, provider):
        (request,) = self.requests()
        host, pid, started = (await provider.start([request]))[request.start].rsplit(":", 2)
        for other in (f"{host}:{pid}:{float(started) - 100}", f"elsewhere:{pid}:{started}"):
            assert await provider.check([Known(request.start, other)]) == {}
            await provider.stop([other], force=True)
        assert psutil.pid_exists(int(pid))

    @pytest.mark.parametrize("seconds", [-3600.0, 1.0, 3600.0])
    async def test_a_clock_that_is_set_makes_no_other_process_of_a_worker(self, provider, monkeypatch, seconds):
        known = await self.start(provider)
        boot = psutil.boot_time()
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot + seconds)
        assert (await provider.check([known]))[known.start].reference == known.reference
        assert (await provider.check([Known(known.start, None)]))[known.start].reference == known.reference

    async def test_one_that_has_the_number_of_another_before_it_is_found(self, provider, monkeypatch):
        known = await self.start(provider)
        pid = int(known.reference.split(":")[1])
        before = psutil.Process(pid)
        monkeypatch.setattr(before, "_ident", (pid, 1.0))  # what psutil still thinks of that number
        monkeypatch.setitem(psutil._pmap, pid, before)
        assert set(await provider.check([Known(known.start, None)])) == {known.start}


async def test_a_program_that_is_not_there_is_said_so(tmp_path):
    provider = LocalProvider(tmp_path, ["/nowhere/armillary-runner"])
    with pytest.raises(TransientError, match="could not be started"):
        await provider.start([StartRequest(uuid4(), "default", "http://127.0.0.1:1", "token", None)])


def test_sizes_are_handed_over_where_the_pool_has_them(tmp_path):
    request = StartRequest(uuid4(), "default", "http://127.0.0.1:1", "secret", Resources(2, 2**30, 2**31, 0))
    said = words(request, tmp_path)
    assert said[said.index("--memory") + 1] == str(2**30)
    assert "secret" not in said
    assert "--cpu" not in words(StartRequest(request.start, "default", request.url, "x", None), tmp_path)
