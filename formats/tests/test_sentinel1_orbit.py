"""Sentinel-1 orbit files: plain, gzipped and zipped, synthetic and real."""

import gzip
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from armillary_formats import sentinel1_orbit
from armillary_formats.refusal import Refused


@pytest.fixture
def orbit(samples) -> Path:
    return next(path for path in samples if path.suffix == ".EOF")


def test_an_orbit_tells_its_validity_and_has_no_footprint(orbit) -> None:
    item = sentinel1_orbit.read(orbit)
    assert (item["id"], item["geometry"], item["frame"]) == (orbit.stem, None, "none")
    expected = {
        "datetime": None,
        "start_datetime": "2026-01-05T04:10:00Z",
        "end_datetime": "2026-01-05T08:10:59Z",
        "platform": "sentinel-1a",
        "s1:orbit_type": "RESORB",
    }
    assert expected.items() <= item["properties"].items()


def test_packed_orbits_tell_the_same(orbit, tmp_path) -> None:
    plain = sentinel1_orbit.read(orbit)
    (tmp_path / f"{orbit.name}.gz").write_bytes(gzip.compress(orbit.read_bytes()))
    with zipfile.ZipFile(tmp_path / f"{orbit.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(orbit, orbit.name)
    for path in tmp_path.iterdir():
        packed = sentinel1_orbit.read(path)
        assert {**packed, "assets": None} == {**plain, "assets": None}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<Mission>Sentinel-1A", "<Mission>Envisat", "is for 'Envisat'"),
        ("<Validity_Start>UTC=2026-01-05T04:10:00</Validity_Start>", "", "lacks .*Validity_Start"),
        ("<Validity_Start>UTC=2026", "<Validity_Start>UTC=2062", "ends .* before it starts"),
        ("<Validity_Start>UTC=2026", "<Validity_Start>UTC=MMXX", "Validity_Start is 'MMXX"),
        ("List_of_OSVs", "List_of_OSV", "lacks .*List_of_OSVs with its count"),
        ('<List_of_OSVs count="', '<List_of_OSVs count="1" was="', "announces '1' state vectors"),
        ("</Earth_Explorer_File>", "", "is not whole XML"),
        ('<?xml version="1.0" encoding="UTF-8"?>', "<!DOCTYPE x [<!ENTITY a 'a'>]>", "declares a document type"),
    ],
)
def test_a_spoilt_orbit_is_refused_with_what_is_wrong(orbit, tmp_path, old, new, reason) -> None:
    text = orbit.read_text()
    assert old in text
    (tmp_path / orbit.name).write_text(text.replace(old, new))
    with pytest.raises(Refused, match=reason):
        sentinel1_orbit.read(tmp_path / orbit.name)


def test_a_gzip_that_never_ends_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sentinel1_orbit, "MOST_BYTES", 1_000_000)
    path = tmp_path / "bomb.EOF.gz"
    path.write_bytes(gzip.compress(b"<Earth_Explorer_File>" + b" " * 50_000_000))
    with pytest.raises(Refused, match="far more than an orbit file has"):
        sentinel1_orbit.read(path)


def test_a_zip_of_two_orbits_is_refused(orbit, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "two.EOF.zip", "w") as archive:
        archive.write(orbit, "a.EOF")
        archive.write(orbit, "b.EOF")
    with pytest.raises(Refused, match=r"holds 2 files \.EOF; one is expected"):
        sentinel1_orbit.read(tmp_path / "two.EOF.zip")


@pytest.mark.real_data
def test_real_precise_orbits_span_a_day_and_two_hours(test_data) -> None:
    paths = sorted((test_data / "insar" / "poeorb_sentineleof").glob("*.EOF.gz"))
    assert len(paths) == 4
    for path in paths:
        properties = sentinel1_orbit.read(path)["properties"]
        start, end = (datetime.fromisoformat(properties[key]) for key in ("start_datetime", "end_datetime"))
        assert end - start == timedelta(hours=26)
        assert start.tzinfo == UTC
        assert (properties["s1:orbit_type"], properties["s1:state_vectors"]) == ("POEORB", 9361)
        assert properties["platform"] == f"sentinel-1{path.name[2].lower()}"
