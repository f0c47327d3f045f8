"""The contract with a data system: job.json in, outputs out; errors classed; checkpoints; blocks joined."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from observations import small

from armillary_cube import simulate, store

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 900.0
PARAMETERS = {"cell_arcsec": 15, "size": [64, 64], "weighting": "natural", "clean": "none"}


def start(
    folder: Path, algorithm: str, inputs: dict[str, list[Path]], cpu: int = 2, **parameters: Any
) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    given: dict[str, list[dict[str, Any]]] = {}
    for role, paths in inputs.items():
        for path in paths:
            inside = folder / "inputs" / role / path.name
            inside.parent.mkdir(parents=True, exist_ok=True)
            if not inside.exists():
                inside.symlink_to(path, target_is_directory=True)
            item = json.loads((path / "granule.json").read_text()) if (path / "granule.json").exists() else {}
            given.setdefault(role, []).append(
                {
                    "collection": "any",
                    "id": path.name,
                    "revision": 1,
                    "path": str(inside.relative_to(folder)),
                    "item": item,
                }
            )
    job = {
        "job": "00000000-0000-0000-0000-000000000001", "attempt": 1,
        "algorithm": {"id": algorithm, "version": "0.1.0", "digest": "x"},
        "parameters": {**PARAMETERS, **parameters}, "inputs": given,
        "outputs": {name: {"collection": "any"} for name in ("cube", "block", "visibilities")},
        "resources": {"cpu": cpu, "memory_bytes": 4 * 2**30, "disk_bytes": 2**33, "time_seconds": 600},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "armillary_cube.main", "process", "job.json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ARMILLARY")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(folder: Path, *arguments: Any, **parameters: Any) -> int:
    process = start(folder, *arguments, **parameters)
    out, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert out == "", "radler must not write into the job's log"
    if process.returncode not in (0, 10, 11, 15):
        pytest.fail(f"ended with {process.returncode}: {errors}")
    return process.returncode


@pytest.fixture(scope="module")
def granule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("granules") / "galaxy.ps"
    folder.mkdir()
    simulate.simulate(small(channels=8), folder / "galaxy.ps.zarr", channels_per_chunk=2)
    return folder


def output(folder: Path, name: str) -> Path:
    found = list((folder / "outputs" / name).iterdir())
    assert len(found) == 1
    return found[0]


def test_one_job_makes_the_cube_and_its_page(granule: Path, tmp_path: Path) -> None:
    assert finish(tmp_path / "job", "cube", {"visibilities": [granule]}, clean="hogbom", threshold_jy=0.02) == 0
    out = output(tmp_path / "job", "cube")
    item = json.loads((out / "granule.json").read_text())
    assert item["frame"] == "sky"
    assert item["geometry"]["type"] == "Polygon"
    assert "overview" in item["assets"]["browse.png"]["roles"]
    assert {p.name for p in out.iterdir()} == {*item["assets"], "granule.json"}
    assert len(out.name.encode()) <= 200
    lines = [json.loads(line) for line in (tmp_path / "job" / "progress.jsonl").read_text().splitlines()]
    assert lines[-1]["fraction"] == 1.0
    assert all({"fraction", "stage", "message"} <= set(line) for line in lines)
    assert json.loads((tmp_path / "job" / "result.json").read_text())["channels"] == 8


def test_more_than_two_cores_clean_in_processes_to_the_same_bits(granule: Path, tmp_path: Path) -> None:
    made = []
    for cpu in (2, 3):
        folder = tmp_path / str(cpu)
        inputs = {"visibilities": [granule]}
        assert finish(folder, "cube", inputs, cpu=cpu, clean="hogbom", threshold_jy=0.02, executor=None) == 0
        made.append(store.Cube(next(output(folder, "cube").glob("*.img.zarr"))))
    for channel in range(8):
        assert np.array_equal(made[0].plane(channel), made[1].plane(channel))


def test_blocks_joined_are_the_single_jobs_bits(granule: Path, tmp_path: Path) -> None:
    assert finish(tmp_path / "whole", "cube", {"visibilities": [granule]}) == 0
    blocks = []
    for number in (1, 2):
        folder = tmp_path / f"block{number}"
        assert finish(folder, "cube-block", {"visibilities": [granule]}, block=number, blocks=2) == 0
        blocks.append(output(folder, "block"))
    assert finish(tmp_path / "join", "cube-join", {"blocks": blocks[::-1]}) == 0
    one, other = (output(tmp_path / name, "cube") for name in ("whole", "join"))
    assert one.name == other.name  # the same inputs and plan: the same granule
    first, second = (store.Cube(next(out.glob("*.img.zarr"))) for out in (one, other))
    for channel in range(8):
        assert np.array_equal(first.plane(channel), second.plane(channel))
    account = json.loads(next(other.glob("*.cost.json")).read_text())
    assert account["core_seconds"] > 0
    assert account["tasks_done"] == len(second.plan.tasks)
    assert account["wall_seconds"] is None  # of several jobs there is none
    assert finish(tmp_path / "half", "cube-join", {"blocks": blocks[:1]}) == 10
    assert json.loads((tmp_path / "half" / "error.json").read_text())["class"] == "input missing"


def test_a_terminated_job_continues_from_its_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "long.ps"
    folder.mkdir()
    simulate.simulate(small(channels=48), folder / "long.ps.zarr", channels_per_chunk=1)
    job = tmp_path / "job"
    busy = {"clean": "hogbom", "threshold_jy": 0.002, "size": [256, 256]}
    process = start(job, "cube", {"visibilities": [folder]}, **busy)
    done = job / "checkpoint" / "run" / "work" / "done"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list(done.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 15
    assert json.loads((job / "error.json").read_text())["class"] == "preempted"
    kept = len(list(done.glob("*.json")))
    assert 0 < kept < 48
    assert finish(job, "cube", {"visibilities": [folder]}, **busy) == 0
    account = json.loads(next(output(job, "cube").glob("*.cost.json")).read_text())
    assert account["tasks_resumed"] == kept


def test_a_bad_request_is_a_science_error_with_a_remedy(granule: Path, tmp_path: Path) -> None:
    assert finish(tmp_path / "job", "cube", {"visibilities": [granule]}, size=[63, 64]) == 11
    error = json.loads((tmp_path / "job" / "error.json").read_text())
    assert error["class"] == "science error"
    assert "63 is not an even number" in error["message"]
    assert error["remedy"]


def test_a_missing_input_is_said_to_be_missing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert finish(tmp_path / "job", "cube", {"visibilities": [empty]}) == 10


def test_a_processing_set_can_be_imported_by_a_job(granule: Path, tmp_path: Path) -> None:
    assert finish(tmp_path / "job", "cube-import", {"observation": [granule]}) == 0
    out = output(tmp_path / "job", "visibilities")
    assert json.loads((out / "granule.json").read_text())["properties"]["radio:channels"] == 8


def test_the_definitions_name_each_other_and_this_program() -> None:
    documents = [document for name in sorted(ROOT.glob("*.yaml")) for document in yaml.safe_load_all(name.read_text())]
    of_kind = {
        kind: {d["id"]: d for d in documents if d["kind"] == kind} for kind in ("collection", "algorithm", "rule")
    }
    for algorithm in of_kind["algorithm"].values():
        assert algorithm["run"]["command"][0] == "armillary-cube"
        assert (ROOT / algorithm["environment"]["lock"]).is_file()
        for part in (*algorithm["inputs"].values(), *algorithm["outputs"].values()):
            names = part["collection"] if isinstance(part["collection"], list) else [part["collection"]]
            assert set(names) <= set(of_kind["collection"])
    for rule in of_kind["rule"].values():
        assert rule["then"]["run"] in of_kind["algorithm"]
        assert all(role["collection"] in of_kind["collection"] for role in rule["when"].values())
    readers = {"measurement-set", "processing-set", "uvfits", "image-cube"}
    for collection in of_kind["collection"].values():
        if "metadata" in collection:
            program, verb, reader, path = collection["metadata"]["command"]
            assert (program, verb, path) == ("armillary-cube", "metadata", "{path}")
            readers.remove(reader)
    assert not readers
