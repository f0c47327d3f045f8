"""Input and requests that must be refused with the field's name and a remedy, and never guessed at."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from observations import REQUEST, image, small

from armillary_cube import simulate
from armillary_cube.clean import CleanSettings
from armillary_cube.errors import RefusalError
from armillary_cube.plan import Continuum, make_plan
from armillary_cube.run import Executor


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (127, 128)}, "127 is not an even number"),
        ({"size": (30, 30)}, "30 is not an even number of at least 32"),
        ({"channels": (9, 3)}, "empty or impossible selection"),
        ({"channels": (0, 16)}, "empty or impossible selection"),
        ({"channels": (-1, 3)}, "empty or impossible selection"),
        ({"field_name": "Andromeda"}, "selection of .* is empty"),
        ({"partitions": ("nowhere",)}, "does not hold"),
        ({"cell_arcsec": 60.0}, "longest baseline needs at most"),
        ({"cell_arcsec": -1.0}, "longest baseline needs at most"),
        ({"gridder": "mosaic"}, "no mosaics"),
        ({"gridder": "awproject"}, "no A-projection"),
        ({"spectral_frame": "bary"}, "regridding is not done"),
        ({"primary_beam_correction": True}, "primary_beam_correction is not done"),
        ({"stokes": "IP"}, "not a set of I, Q, U, V"),
        ({"stokes": "VI"}, "out of order"),
        ({"stokes": "Q"}, "cannot be made of the correlations RR, LL"),
        ({"weighting": "uniform"}, "weighting 'uniform' is unknown"),
        ({"robust": 5.0}, "robust is 5"),
        ({"epsilon": 1e-9}, "epsilon is 1e-09"),
        ({"w_term": "maybe"}, "w_term 'maybe' is unknown"),
        ({"keep": ("weights",)}, "keep .* is unknown"),
        ({"clean": CleanSettings(method="mem")}, "clean method 'mem' is unknown"),
        ({"clean": CleanSettings(sigma=0)}, "neither sigma nor threshold"),
        ({"clean": CleanSettings(gain=0)}, "gain must lie"),
        ({"continuum": Continuum(((10, 20),))}, "outside the set"),
        ({"continuum": Continuum(((3, 3),), order=1)}, "cannot be fitted to 1 channels"),
        ({"memory_bytes": 100_000_000}, "needs .* GB and a worker has"),
        ({"task_channels": -2}, "task_channels is -2"),
        ({"size": (60_000, 60_000), "cell_arcsec": 14.0}, "beyond the hemisphere"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(noiseless: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusalError, match=message) as refused:
        make_plan(noiseless, replace(REQUEST, **changes))
    assert refused.value.remedy


def attribute(array: str, **values: Any) -> Callable[[Any], None]:
    def change(group: Any) -> None:
        group[array].attrs.update(values)

    return change


def frequencies(values: Any) -> Callable[[Any], None]:
    def change(group: Any) -> None:
        group["frequency"][:] = values

    return change


AXIS = 1.4126e9 + np.arange(16) * 24_414.0625


def width(value: float) -> dict[str, Any]:
    return {"channel_width": {"data": value, "dims": [], "attrs": {}}}


def two_phase_centres(group: Any) -> None:
    source = group["field_and_source_base_xds"]
    old = source["FIELD_PHASE_CENTER_DIRECTION"]
    attributes, first = dict(old.attrs), old[:]
    del source["FIELD_PHASE_CENTER_DIRECTION"]
    created = source.create_array("FIELD_PHASE_CENTER_DIRECTION", data=np.concatenate([first, first + 0.01]))
    created.attrs.update(attributes)


def without(name: str) -> Callable[[Any], None]:
    def change(group: Any) -> None:
        del group[name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (attribute("frequency", observer="martian"), "spectral frame 'martian' is unknown"),
        (attribute("frequency", **width(-24_414.0625)), "channel_width is negative"),
        (attribute("frequency", **width(1e6)), "channels are .* apart"),
        (frequencies(np.where(np.arange(16) == 7, np.nan, AXIS)), "not positive"),
        (frequencies(-AXIS), "not positive"),
        (frequencies(AXIS[np.random.default_rng(0).permutation(16)]), "do not run one way"),
        (frequencies(AXIS + np.where(np.arange(16) > 8, 9_000.0, 0.0)), "unevenly spaced"),
        (
            attribute("field_and_source_base_xds/FIELD_PHASE_CENTER_DIRECTION", frame="fk4"),
            "sky frame 'fk4' is unknown",
        ),
        (two_phase_centres, "mosaic"),
        (without("frequency"), "lacks"),
        (without("WEIGHT"), "lacks"),
    ],
)
def test_a_set_that_cannot_be_trusted_is_refused(
    edited: Callable[..., Path], change: Callable[[Any], None], message: str
) -> None:
    with pytest.raises(RefusalError, match=message) as refused:
        make_plan(edited(change), REQUEST)
    assert refused.value.remedy


@pytest.mark.parametrize("array", ["VISIBILITY", "FLAG", "WEIGHT"])
def test_a_missing_chunk_is_refused_and_not_read_as_zeros(edited: Callable[..., Path], array: str) -> None:
    path = edited(lambda _: None)
    next(p for p in sorted((path / "simulated_0" / array / "c").rglob("*")) if p.is_file()).unlink()
    with pytest.raises(RefusalError, match=f"{array} is truncated: 3 of 4 chunks") as refused:
        make_plan(path, REQUEST)
    assert refused.value.missing_input


def test_a_torn_chunk_is_refused_by_name(edited: Callable[..., Path], tmp_path: Path) -> None:
    path = edited(lambda _: None)
    chunk = next(p for p in sorted((path / "simulated_0" / "VISIBILITY" / "c").rglob("*")) if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(RefusalError, match="VISIBILITY cannot be decoded"):
        image(path, tmp_path / "out")


@pytest.mark.parametrize("content", [None, "", '{"attributes": {"ty'])
def test_what_is_no_processing_set_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "broken.ps.zarr"
    path.mkdir()
    if content is not None:
        (path / "zarr.json").write_text(content)
    with pytest.raises(RefusalError, match=r"no zarr.json|cannot be read|is empty"):
        make_plan(path, REQUEST)


def test_an_empty_processing_set_is_refused(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "empty.ps.zarr", attributes={"type": "processing_set"})
    with pytest.raises(RefusalError, match="is empty: no partition"):
        make_plan(tmp_path / "empty.ps.zarr", REQUEST)


def test_fields_with_different_centres_must_be_chosen_from(tmp_path: Path) -> None:
    path = tmp_path / "two.ps.zarr"
    simulate.simulate(small(channels=2, name="north"), path)
    simulate.simulate(small(channels=2, name="south", dec_deg=-5.0), path)
    with pytest.raises(RefusalError, match="different phase centres"):
        make_plan(path, REQUEST)
    assert make_plan(path, replace(REQUEST, field_name="south")).partitions == ("south_0",)


def test_windows_with_different_channels_must_be_chosen_from(tmp_path: Path) -> None:
    path = tmp_path / "two.ps.zarr"
    simulate.simulate(small(channels=2, name="low"), path)
    simulate.simulate(small(channels=2, name="high", first_channel_hz=1.5e9), path)
    with pytest.raises(RefusalError, match="different channels"):
        make_plan(path, REQUEST)


def test_a_set_that_is_flagged_throughout_is_refused(edited: Callable[..., Path], tmp_path: Path) -> None:
    def flag(group: Any) -> None:
        group["FLAG"][:] = True

    with pytest.raises(RefusalError, match="every sample is flagged"):
        image(edited(flag), tmp_path / "out")


@pytest.mark.parametrize("text", ["", "fast", "threads", "threads:0", "dask:x", "serial:2", "http://x"])
def test_an_unknown_executor_is_refused(text: str) -> None:
    with pytest.raises(RefusalError, match="executor"):
        Executor.parse(text)


def test_executors_are_read() -> None:
    assert Executor.parse("serial") == Executor()
    assert Executor.parse("threads:3") == Executor("threads", 3)
    assert Executor.parse("dask:2") == Executor("dask", 2)
    assert Executor.parse("tcp://10.0.0.1:8786") == Executor("dask", 0, "tcp://10.0.0.1:8786")


def test_a_refusal_comes_whole_from_another_process() -> None:
    sent = pickle.loads(pickle.dumps(RefusalError("It is torn.", "copy it again.", missing_input=True)))
    assert (sent.message, sent.remedy, sent.missing_input) == ("It is torn.", "copy it again.", True)
