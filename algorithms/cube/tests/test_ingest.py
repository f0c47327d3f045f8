"""Importing: UVFITS there and back, a measurement set v2, and processing sets that xradio accepts."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from observations import OFF_CENTRE, REQUEST, image, small

from armillary_cube import metadata, msv4, simulate, uvfits
from armillary_cube.errors import RefusalError
from armillary_cube.gridder import SPEED_OF_LIGHT_M_S
from armillary_cube.ingest import import_set
from armillary_cube.visibilities import describe


def test_a_simulated_set_follows_xradios_schema(noiseless: Path) -> None:
    from xradio.measurement_set import open_processing_set
    from xradio.schema.check import check_datatree

    assert not list(check_datatree(open_processing_set(str(noiseless))))


def test_uvfits_there_and_back_gives_the_same_image(noiseless: Path, tmp_path: Path) -> None:
    observation = small()
    header = simulate.header_of(observation)
    group = zarr.open_group(noiseless / "simulated_0", mode="r")
    samples = [group[name][:] for name in ("VISIBILITY", "FLAG", "WEIGHT")]
    uvfits.write(tmp_path / "small.uvfits", header, *samples)
    imported = import_set(tmp_path / "small.uvfits", tmp_path / "small.ps.zarr")
    about, original = describe(imported), describe(noiseless)
    assert about.polarizations == original.polarizations
    assert about.spectral_frame == original.spectral_frame
    assert about.rest_frequency_hz == original.rest_frequency_hz
    assert about.start_unix_s == pytest.approx(original.start_unix_s, abs=0.01)
    again, first = image(imported, tmp_path / "out"), image(noiseless, tmp_path / "first")
    assert np.abs(again.sky - first.sky).max() < 2e-5


def test_uvfits_flags_are_negative_weights(noiseless: Path, tmp_path: Path) -> None:
    group = zarr.open_group(noiseless / "simulated_0", mode="r")
    values, flags, weights = (group[name][:] for name in ("VISIBILITY", "FLAG", "WEIGHT"))
    flags[2, 7, 3, 1] = True
    uvfits.write(tmp_path / "flagged.uvfits", simulate.header_of(small()), values, flags, weights)
    _, data = uvfits.read(tmp_path / "flagged.uvfits")
    assert data["flags"].sum() == 1
    assert data["flags"][2, 7, 3, 1]


def test_a_measurement_set_is_imported_and_imaged(tmp_path: Path) -> None:
    path = _measurement_set(tmp_path / "point.ms")
    item = metadata.measurement_set(path)
    assert item["properties"]["radio:channels"] == 16
    assert item["properties"]["radio:polarizations"] == ["XX", "YY"]
    assert item["frame"] == "sky"
    imported = import_set(path, tmp_path / "point.ps.zarr")
    about = describe(imported)
    assert about.rows == 3000  # every time × every baseline: nine in ten have no row in the measurement set
    assert about.channels == 16
    made = image(imported, tmp_path / "out", REQUEST)
    plane = made.sky[0]
    assert np.unravel_index(plane.argmax(), plane.shape) == (
        round(64 - OFF_CENTRE.east_arcsec / 15), round(64 + OFF_CENTRE.north_arcsec / 15)
    )  # fmt: skip
    assert plane.max() == pytest.approx(1, abs=1e-2)


def _measurement_set(path: Path) -> Path:
    """A measurement set made by xradio's own generator, with a point source's visibilities put into it."""
    from arcae.lib.arrow_tables import Table
    from xradio.testing.measurement_set.msv2_io import gen_test_ms

    one = {"0": 0}
    state = {"0": {"id": 0, "intent": "OBSERVE_TARGET#ON_SOURCE"}}
    described: dict[str, Any] = {
        "nrows_per_ddi": 300, "nchans": 16, "npols": 2, "data_cols": ["DATA"], "SPECTRAL_WINDOW": one,
        "POLARIZATION": one, "ANTENNA": {str(i): i for i in range(5)}, "FIELD": one, "EPHEMERIDES": {},
        "SCAN": {"1": {"0": {"intent": "OBSERVE_TARGET#ON_SOURCE"}}}, "STATE": state, "OBSERVATION": one,
        "FEED": one, "POINTING": {}, "PROCESSOR": one, "SOURCE": one,
    }  # fmt: skip
    gen_test_ms(str(path), descr=described, opt_tables=False, vlbi_tables=False)
    frequency = 1.4e9 + np.arange(16) * 20_000.0
    uvw = np.random.default_rng(2).normal(size=(300, 3)) * np.array([250, 250, 100])
    l, m = (math.sin(math.radians(a / 3600)) for a in (OFF_CENTRE.east_arcsec, OFF_CENTRE.north_arcsec))  # noqa: E741
    path_m = uvw @ np.array([l, m, math.sqrt(1 - l * l - m * m) - 1])
    values = np.exp(2j * np.pi * path_m[:, None] * frequency[None, :] / SPEED_OF_LIGHT_M_S).astype(np.complex64)
    windows = Table.from_filename(str(path / "SPECTRAL_WINDOW"), readonly=False)
    windows.putcol("CHAN_FREQ", frequency[None, :])
    windows.putcol("MEAS_FREQ_REF", np.array([5], np.int32))
    windows.close()
    hands = Table.from_filename(str(path / "POLARIZATION"), readonly=False)
    hands.putcol("CORR_TYPE", np.array([[9, 12]], np.int32), (np.array([0]),))
    hands.close()
    fields = Table.from_filename(str(path / "FIELD"), readonly=False)
    fields.putcol("EPHEMERIS_ID", np.full((1, 1), -1, np.int32))
    fields.close()
    main = Table.from_filename(str(path), readonly=False)
    main.putcol("UVW", uvw)
    main.putcol("DATA", np.repeat(values[:, :, None], 2, axis=2))
    main.putcol("WEIGHT", np.ones((300, 2), np.float32))
    main.close()
    return path


def test_chunks_are_near_128_megabytes_and_never_empty() -> None:
    assert msv4.chunk_channels(727_272, 2, 30_720) == 11
    assert msv4.chunk_channels(100, 2, 64) == 8
    assert msv4.chunk_channels(10**9, 4, 10) == 1
    assert msv4.chunk_channels(100, 2, 1) == 1


def test_an_import_never_overwrites_and_refuses_the_unknown(noiseless: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="exists already"):
        import_set(noiseless, noiseless)
    (tmp_path / "odd.txt").write_text("hello")
    with pytest.raises(RefusalError, match="neither a measurement set"):
        import_set(tmp_path / "odd.txt", tmp_path / "new.ps.zarr")
    copy = import_set(noiseless, tmp_path / "copy.ps.zarr")
    assert describe(copy).rows == describe(noiseless).rows
    (tmp_path / "cut.uvfits").write_bytes(b"SIMPLE  =                    T" + b" " * 50 + b"BITPIX")
    with pytest.raises(RefusalError, match=r"cannot be read as FITS|not UVFITS"):
        import_set(tmp_path / "cut.uvfits", tmp_path / "cut.ps.zarr")
    assert not (tmp_path / "cut.ps.zarr").exists()
