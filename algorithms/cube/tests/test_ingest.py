"""Importing: UVFITS there and back, a measurement set v2, and processing sets that xradio accepts."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from observations import OFF_CENTRE, REQUEST, image, measurement_set, small

from armillary_cube import metadata, msv4, simulate, uvfits
from armillary_cube.errors import RefusalError
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
    path = measurement_set(tmp_path / "point.ms")
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
