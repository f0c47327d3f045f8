"""What an attempt saves, the next one finds."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from armillary.runner import checkpoint
from armillary.runner.run import Orders


def _names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()


def test_a_checkpoint_saved_on_sigterm_is_restored_to_the_next_attempt(bench: Any, jobs: Any, server: Any) -> None:
    code = """
        trap 'mkdir -p checkpoint/deep; echo 7 > checkpoint/deep/step; exit 15' TERM
        if [ -e checkpoint/deep/step ]; then echo "going on from $(cat checkpoint/deep/step)"; exit 0; fi
        touch ready; sleep 60 & wait
    """
    orders = Orders()
    orders.on_change = lambda: setattr(orders, "stop", "preempt")
    first = jobs.shell(code)
    report = bench.run(first, orders)
    assert (report["outcome"], report["error_class"]) == ("preempted", "preempted")
    saved = bench.checkpoints[first["job"]]
    assert _names(saved) == ["deep/step"]
    again = bench.run(jobs.shell(code, job=first["job"], lease=2, checkpoint=server.add_object(saved)))
    assert again["outcome"] == "succeeded"
    assert bench.log() == b"going on from 7\n"


def test_checkpoints_are_saved_now_and_then_while_it_runs(bench: Any, jobs: Any) -> None:
    lease = jobs.shell(
        "mkdir checkpoint; echo 1 > checkpoint/a; sleep 0.6; rm checkpoint/a; echo 2 > checkpoint/b; sleep 0.6"
    )
    assert bench.run(lease)["outcome"] == "succeeded"
    assert _names(bench.checkpoints[lease["job"]]) == ["b"]


def test_what_a_wrong_program_saved_is_not_kept(bench: Any, jobs: Any) -> None:
    lease = jobs.shell("mkdir checkpoint; echo poison > checkpoint/a; exit 11")
    bench.run(lease)
    assert lease["job"] not in bench.checkpoints


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape"])
def test_a_checkpoint_cannot_write_elsewhere(bench: Any, jobs: Any, server: Any, tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    report = bench.run(jobs.shell("true", checkpoint=server.add_object(packed.getvalue())))
    assert report["outcome"] == "failed" or not (tmp_path / "escape").exists()
    assert not Path("/tmp/escape").exists()


def test_one_that_changes_as_it_is_packed_waits_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "a").write_text("1")
    states = iter([(("a", 1, 1),), (("a", 1, 2),)])
    monkeypatch.setattr(checkpoint, "signature", lambda _: next(states))
    assert checkpoint.pack(tmp_path, ()) is None
    assert not (tmp_path / ".checkpoint.tar").exists()


def test_the_same_is_not_packed_twice(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    assert checkpoint.pack(tmp_path, ()) is None
    (tmp_path / "checkpoint" / "a").write_text("1")
    packed = checkpoint.pack(tmp_path, ())
    assert packed is not None and checkpoint.pack(tmp_path, packed.signature) is None
