"""Pairs that several tests share: simulated once a session, small enough for two cores."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from armillary_insar.interferogram import BurstSetup, Faults, Tile, form_tile, set_up
from armillary_insar.job import Job, read_job
from armillary_insar.measurement import Measurement
from armillary_insar.pairing import BurstPair
from armillary_insar.process import Prepared, prepare
from armillary_insar.simulator.annotation import SwathLayout
from armillary_insar.simulator.pair import CROP, MadePair, PairSpec, make_pair

THREE_BURSTS = tuple(replace(s, bursts=3) for s in CROP)
ONE_BURST = (SwathLayout("IW1", 0, 0, 3000, 500, 420, 1, 1.590368784, 12, 60),)


def write_job(folder: Path, made: MadePair, parameters: dict[str, Any] | None = None, **more: list[Path]) -> Path:
    """A job folder whose inputs are links to a simulated pair."""
    roles = {
        "reference": [made.reference],
        "secondary": [made.secondary],
        "elevation": [made.elevation],
        "orbits": list(made.orbits),
        **more,
    }
    inputs: dict[str, list[dict[str, Any]]] = {}
    for role, paths in roles.items():
        for path in paths:
            place = folder / "inputs" / role / path.name
            place.mkdir(parents=True, exist_ok=True)
            (place / path.name).symlink_to(path.resolve())
            inputs.setdefault(role, []).append(
                {"collection": role, "id": path.name, "revision": 1, "path": str(place.relative_to(folder))}
            )
    said = {
        "job": "test",
        "attempt": 1,
        "parameters": parameters or {},
        "inputs": inputs,
        "resources": {"cpu": 2},
        "outputs": {"interferogram": {"collection": "interferogram"}},
    }
    (folder / "job.json").write_text(json.dumps(said))
    return folder / "job.json"


def prepared_pair(folder: Path, made: MadePair, parameters: dict[str, Any] | None = None) -> tuple[Job, Prepared]:
    job = read_job(write_job(folder, made, parameters))
    return job, prepare(job)


def burst_setup(prepared: Prepared, pair: BurstPair) -> BurstSetup:
    """What a burst needs, without faults."""
    return set_up(pair, *prepared.orbits, prepared.elevation)


def burst_tile(prepared: Prepared, index: int = 0, faults: Faults | None = None, **changed: Any) -> Tile:
    """The tile of one burst, with faults or with other orbits or elevation."""
    pair = prepared.plan.bursts[index]
    setup = set_up(
        pair, *changed.get("orbits", prepared.orbits), changed.get("elevation", prepared.elevation), faults=faults
    )
    return form_tile(
        setup,
        prepared.plan.mosaic,
        Measurement(prepared.plan.reference, pair.swath),
        Measurement(prepared.plan.secondary, pair.secondary_swath),
    )


@pytest.fixture(scope="session")
def volcano(tmp_path_factory: pytest.TempPathFactory) -> MadePair:
    """Two subswaths by two bursts over an inflating volcano."""
    return make_pair(PairSpec(), tmp_path_factory.mktemp("volcano") / "pair")


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> MadePair:
    """Two subswaths by three bursts over ground that does not move."""
    spec = PairSpec(source="none", coherence=(0.93, 0.97), swaths=THREE_BURSTS, seed=11, baseline_m=45.0)
    return make_pair(spec, tmp_path_factory.mktemp("still") / "pair")


@pytest.fixture(scope="session")
def still_prepared(still: MadePair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Prepared]:
    folder = tmp_path_factory.mktemp("still-job")
    return prepared_pair(folder, still)


@pytest.fixture(scope="session")
def volcano_prepared(volcano: MadePair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Prepared]:
    return prepared_pair(tmp_path_factory.mktemp("volcano-job"), volcano)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real InSAR data, or a skip that says why."""
    root = os.environ.get("ARMILLARY_TEST_DATA")
    if not root:
        pytest.skip("ARMILLARY_TEST_DATA is not set: real data is needed here")
    return Path(root) / "insar"
