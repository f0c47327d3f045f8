"""The same bits under any chunking, any workers, after a kill and after a restart."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from observations import REQUEST, Imaged, image, small

from armillary_cube import simulate, store
from armillary_cube.block import Places
from armillary_cube.clean import CleanSettings
from armillary_cube.errors import RefusalError
from armillary_cube.plan import Continuum, make_plan
from armillary_cube.run import Executor, StoppedEarlyError, dask_client, join, run

CLEANED = replace(
    REQUEST, weighting="briggs", keep=("psf", "model", "residual"), clean=CleanSettings(sigma=0, threshold_jy=0.02),
    continuum=Continuum(((0, 5), (13, 15))),
)  # fmt: skip


def assert_same_bits(one: Imaged, other: Imaged) -> None:
    for name in one.cube.names():
        assert np.array_equal(one.planes(name), other.planes(name), equal_nan=True), name
    assert np.array_equal(one.cube.sum_of_weights(), other.cube.sum_of_weights())
    assert np.array_equal(one.cube.beams(), other.cube.beams(), equal_nan=True)
    assert np.array_equal(one.cube.statistics(), other.cube.statistics(), equal_nan=True)


@pytest.fixture(scope="module")
def reference(noiseless: Path, tmp_path_factory: pytest.TempPathFactory) -> Imaged:
    return image(noiseless, tmp_path_factory.mktemp("reference"), CLEANED)


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_how_tasks_are_cut_changes_no_bit(noiseless: Path, reference: Imaged, tmp_path: Path, channels: int) -> None:
    assert_same_bits(reference, image(noiseless, tmp_path, replace(CLEANED, task_channels=channels)))


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_how_the_file_is_chunked_changes_no_bit(reference: Imaged, tmp_path: Path, chunk: int) -> None:
    path = simulate.simulate(small(), tmp_path / "small.ps.zarr", channels_per_chunk=chunk)
    assert_same_bits(reference, image(path, tmp_path / "out", replace(CLEANED, task_channels=None)))


def test_threads_change_no_bit(noiseless: Path, reference: Imaged, tmp_path: Path) -> None:
    assert_same_bits(reference, image(noiseless, tmp_path, CLEANED, Executor("threads", 3)))


def test_shares_joined_are_the_whole(noiseless: Path, reference: Imaged, tmp_path: Path) -> None:
    plan = make_plan(noiseless, CLEANED)
    for number in (1, 2, 3):
        run(plan, noiseless, tmp_path / f"share{number}", share=(number, 3))
    with pytest.raises(RefusalError, match="in none of the parts"):
        join([tmp_path / "share1", tmp_path / "share2"], tmp_path / "partial")
    join([tmp_path / f"share{number}" for number in (3, 1, 2)], tmp_path / "joined")
    whole = store.Cube(Places(Path(), tmp_path / "joined").cube)
    assert_same_bits(reference, Imaged(plan, whole, reference.outcome))


def test_a_restart_does_only_what_is_missing(noiseless: Path, reference: Imaged, tmp_path: Path) -> None:
    plan = make_plan(noiseless, CLEANED)
    stop = threading.Event()
    stop_after_two = Executor()
    stop.set()
    with pytest.raises(StoppedEarlyError):
        run(plan, noiseless, tmp_path, stop_after_two, stop=stop)
    run(plan, noiseless, tmp_path, share=(1, 2))  # the first two of four blocks
    places = Places(noiseless, tmp_path)
    torn = sorted(places.records.glob("*.json"))[1]
    torn.write_text(torn.read_text()[:40])  # as if the machine had died while it was written
    with pytest.raises(RefusalError, match="unfinished"):
        store.Cube(places.cube).require_sealed()
    outcome = run(plan, noiseless, tmp_path)
    assert (outcome.tasks_resumed, outcome.tasks_done) == (1, 3)
    assert_same_bits(reference, Imaged(plan, store.Cube(places.cube), outcome))
    assert run(plan, noiseless, tmp_path).tasks_done == 0


def test_of_one_block_the_second_share_has_nothing_to_do(noiseless: Path, tmp_path: Path) -> None:
    request = replace(CLEANED, channels=(9, 9))
    plan = make_plan(noiseless, request)
    for number in (1, 2):
        run(plan, noiseless, tmp_path / f"share{number}", share=(number, 2))
    join([tmp_path / "share1", tmp_path / "share2"], tmp_path / "joined")
    whole = image(noiseless, tmp_path / "whole", request)
    assert_same_bits(whole, Imaged(plan, store.Cube(Places(Path(), tmp_path / "joined").cube), whole.outcome))


KILLED_AT_THE_THIRD_RECORD = """
import os, signal, sys
from pathlib import Path
from armillary_cube import store
from armillary_cube.plan import Plan
from armillary_cube.run import run

write = store.write_record

def until_killed(folder, record):
    if len(list(folder.glob("*.json"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder, record)

store.write_record = until_killed
run(Plan.from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_process_killed_between_planes_and_record_is_continued(
    noiseless: Path, reference: Imaged, tmp_path: Path
) -> None:
    plan = make_plan(noiseless, CLEANED)
    (tmp_path / "plan.json").write_text(plan.to_json())
    command = [sys.executable, "-c", KILLED_AT_THE_THIRD_RECORD, tmp_path / "plan.json", noiseless, tmp_path / "out"]
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == -signal.SIGKILL
    outcome = run(plan, noiseless, tmp_path / "out")
    assert (outcome.tasks_resumed, outcome.tasks_done) == (2, 2)
    assert_same_bits(reference, Imaged(plan, store.Cube(outcome.places.cube), outcome))


def test_another_plan_does_not_continue_a_cube(noiseless: Path, tmp_path: Path) -> None:
    image(noiseless, tmp_path, replace(REQUEST, channels=(0, 3)))
    with pytest.raises(RefusalError, match="another plan"):
        image(noiseless, tmp_path, replace(REQUEST, channels=(0, 3), weighting="briggs"))


def test_dask_changes_no_bit_even_when_a_worker_is_killed(noiseless: Path, reference: Imaged, tmp_path: Path) -> None:
    from armillary_cube import run as running

    plan = make_plan(noiseless, replace(CLEANED, task_channels=1))
    killed: list[int] = []

    def kill_first_worker(client: object) -> None:
        process = next(iter(client.run(os.getpid).values()))  # type: ignore[attr-defined]
        os.kill(process, signal.SIGKILL)
        killed.append(process)

    with dask_client(Executor("dask", 2)) as client:
        address = client.scheduler.address
        timer = threading.Timer(0.3, kill_first_worker, [client])
        timer.start()
        outcome = running.run(plan, noiseless, tmp_path / "killed", Executor("dask", 0, address))
        timer.join()
    assert killed
    assert_same_bits(reference, Imaged(plan, store.Cube(outcome.places.cube), outcome))
