"""Whatever is killed, frozen, cut, filled or turned back under load: the history that is left keeps every promise.

`make chaos` injects a thousand faults; the suite a few. ARMILLARY_CHAOS_SEED repeats a run, ARMILLARY_CHAOS_FAULTS sets
how many.
"""

import os
import shutil
import time

import pytest

from armillary.testing import history
from armillary.testing.chaos import Chaos
from armillary.testing.faults import faults
from armillary.testing.instance import Instance, attempts, kill_session
from armillary.testing.proxy import Proxy, free_port

SEED = int(os.environ.get("ARMILLARY_CHAOS_SEED", "1"))
FAULTS = int(os.environ.get("ARMILLARY_CHAOS_FAULTS", "10"))
IS_LONG = FAULTS > 100
# Points on the way from a file to a product, which the load passes all the time.
POINTS = [
    "finish.before-commit", "ingest.after-commit", "ingest.before-commit", "ingest.verified", "pools.before-reference",
    "pools.recorded", "pools.started", "rules.expanded", "rules.fired", "runner.after-finish", "runner.after-lease",
    "runner.after-upload", "runner.before-finish", "runner.before-log", "runner.before-start", "runner.before-sweep",
    "runner.before-upload", "upload.after-bytes", "upload.after-commit", "upload.after-file", "upload.after-ticket",
]  # fmt: skip


@pytest.mark.slow
def test_no_fault_loses_doubles_or_halves_anything(tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("chaos")
    begun = time.monotonic()

    def tell(line):
        if IS_LONG:
            with capsys.disabled():
                print(f"{time.monotonic() - begun:7.1f} s {line}", flush=True)

    with Chaos(folder, SEED) as chaos:
        chaos.run(faults(SEED, FAULTS, POINTS), tell)
        findings = chaos.server.doctor()
        chaos.stop()
        found = history.read(chaos.dsn, chaos.store)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(chaos.done.items()))
    ended = sum(attempt["outcome"] == "lost" for attempt in found.attempts)
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {told}; {len(chaos.acknowledged)} granules, {len(found.jobs)} jobs, {len(found.attempts)} "
            f"attempts ({ended} lost) in {time.monotonic() - begun:.0f} s"
        )
    broken = history.check(found, chaos.acknowledged)
    assert not broken, "\n".join(broken[:100])
    assert len(found.jobs) == len(chaos.acknowledged) > 0
    assert findings == []
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("program", ["armillary.serve", "armillary.testing.unfenced"])
def test_a_build_without_fences_is_caught(tmp_path, program):
    """A report that comes after its lease was lost: refused by a sound server, and seen by the judge in a broken one."""
    proxy = Proxy(free_port())
    flags = ("--port", str(proxy.port), "--public-url", proxy.url)
    instance = Instance(tmp_path / "home", *flags, program=program)
    try:
        instance.start()
        instance.apply(tmp_path / "definitions")
        proxy.swallows_reports = True
        assert instance.ingest("one").returncode == 0
        first = instance.wait(lambda: proxy.reports and proxy.reports[0], "a report that does not arrive")
        [job] = instance.jobs_of("one")
        kill_session(instance.runner_of(job["id"]))
        instance.wait(lambda: len(instance.job(job["id"])["attempts"]) == 2, "a second attempt")
        proxy.deliver(first)
        proxy.swallows_reports = False
        assert attempts(instance.ended(job["id"]))[0] == "lost"
        found = history.check(history.read(instance.dsn, instance.home / "store"), [("raw", "one")])
        is_broken = program != "armillary.serve"
        assert any("which is lost" in one for one in found) == is_broken, found
        assert is_broken or found == []
    finally:
        instance.close()
        proxy.close()
