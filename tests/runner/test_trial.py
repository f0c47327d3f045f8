"""An algorithm is tried without a server, by the steps of a worker."""

import json
from pathlib import Path
from typing import Any

import pytest

from armillary.base.errors import UsageError
from armillary.runner.trial import trial

ALGORITHM = """
kind: algorithm
id: heights
version: 1.0.0
inputs:
  scene: {collection: c}
  orbit: {collection: o, many: true, optional: true}
parameters:
  unit: {type: string, default: km}
outputs: {out: {collection: heights}}
run: {command: [sh, heights.sh]}
environment: {site: true}
"""
SCRIPT = """
echo working
mkdir -p outputs/out/h; ls -R inputs > outputs/out/h/seen.txt; cp job.json outputs/out/h/
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "heights"
    (folder / "samples" / "scene" / "first").mkdir(parents=True)
    (folder / "samples" / "scene" / "first" / "data.txt").write_text("data")
    item = {"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"datetime": "2026-01-01T00:00:00Z"}}
    (folder / "samples" / "scene" / "first.json").write_text(json.dumps(item))
    (folder / "samples" / "job.json").write_text('{"parameters": {"unit": "m"}}')
    (folder / "algorithm.yaml").write_text(ALGORITHM)
    (folder / "heights.sh").write_text(SCRIPT)
    return folder


@pytest.fixture
def try_it(folder: Path, tmp_path: Path) -> Any:
    return lambda **given: trial(folder, cache=tmp_path / "cache", **given)


def test_the_samples_are_run_and_the_products_kept(try_it: Any, tmp_path: Path) -> None:
    told = try_it(keep=tmp_path / "kept")
    assert told["outcome"] == "succeeded", told
    assert told["log"] == "working\n"
    (made,) = told["outputs"]
    assert (made["output"], made["granule"], made["files"]) == ("out", "h", ["job.json", "seen.txt"])
    assert made["item"]["geometry"] == {"type": "Point", "coordinates": [1, 2]}
    job = json.loads((tmp_path / "kept" / "outputs" / "out" / "h" / "job.json").read_text())
    assert job["parameters"] == {"unit": "m"} and job["inputs"]["orbit"] == []


def test_inputs_and_parameters_may_be_given(try_it: Any, tmp_path: Path) -> None:
    (tmp_path / "scene.SAFE").mkdir()
    (tmp_path / "scene.SAFE" / "manifest.safe").write_text("x")
    (tmp_path / "a b.EOF").write_text("x")
    inputs = {"scene": [tmp_path / "scene.SAFE"], "orbit": [tmp_path / "a b.EOF"]}
    told = try_it(inputs=inputs, parameters={"unit": "cm"}, keep=tmp_path / "kept")
    job = json.loads((tmp_path / "kept" / "outputs" / "out" / "h" / "job.json").read_text())
    assert told["outcome"] == "succeeded" and job["parameters"] == {"unit": "cm"}
    assert job["inputs"]["scene"][0]["path"] == "inputs/scene/scene.SAFE"
    seen = (tmp_path / "kept" / "outputs" / "out" / "h" / "seen.txt").read_text()
    assert "inputs/scene/scene.SAFE/scene.SAFE:\nmanifest.safe" in seen and "a b.EOF" in seen


def test_a_failure_is_told_as_a_job_would_tell_it(try_it: Any, folder: Path) -> None:
    (folder / "heights.sh").write_text("mkdir -p outputs/wrong/h; echo > outputs/wrong/h/f")
    told = try_it()
    assert (told["outcome"], told["error_class"]) == ("failed", "science error")
    assert "outputs/wrong, which it does not declare" in told["reason"]


def test_the_sample_is_safe_from_its_algorithm(try_it: Any, folder: Path) -> None:
    (folder / "heights.sh").write_text("chmod u+w inputs/*/*/*; echo broken > inputs/scene/first/data.txt")
    told = try_it()
    assert told["reason"] == "It modified its inputs: inputs/scene/first/data.txt."
    assert (folder / "samples" / "scene" / "first" / "data.txt").read_text() == "data"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"inputs": {"moon": ["heights"]}}, "no role 'moon'"),
        ({"inputs": {"orbit": ["heights"]}}, "'scene' has no input"),
        ({"inputs": {"scene": ["nothing"]}}, "nothing is not there"),
        ({"parameters": {"size": 1}}, "size"),
        ({"keep": "heights"}, "not empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    try_it: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "inputs" in given:
        given = {"inputs": {role: [Path(path) for path in paths] for role, paths in given["inputs"].items()}}
    if "keep" in given:
        given = {"keep": Path(given["keep"])}
    with pytest.raises(UsageError, match=reason):
        try_it(**given)


def test_a_role_that_takes_one_takes_one(try_it: Any, folder: Path) -> None:
    (folder / "samples" / "scene" / "second").mkdir()
    (folder / "samples" / "scene" / "second" / "f").write_text("")
    with pytest.raises(UsageError, match="takes one granule, not 2"):
        try_it()
