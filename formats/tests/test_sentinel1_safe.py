"""Sentinel-1 products, as folders and zips, synthetic and real."""

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from armillary_formats import sentinel1_safe
from armillary_formats.refusal import Refused

DOCTYPE = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.fixture
def product(samples, tmp_path) -> Path:
    """A product folder of one's own to spoil."""
    return Path(shutil.copytree(samples[0], tmp_path / samples[0].name))


def zipped(product: Path, folder: Path, *, root: bool = True) -> Path:
    path = folder / f"{product.stem}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(product.rglob("*")):
            archive.write(file, file.relative_to(product.parent if root else product))
    return path


def edit(product: Path, old: str, new: str, name: str = "manifest.safe") -> None:
    (path,) = product.glob(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_folder_tells_its_place_time_orbit_and_radar(samples) -> None:
    item = sentinel1_safe.read(samples[0])
    assert item["id"] == samples[0].stem
    assert item["frame"] == "earth"
    assert item["bbox"] == pytest.approx([-11.83, 30.9, -8.98, 31.86], abs=0.01)
    expected = {
        "start_datetime": "2026-01-05T06:30:50Z",
        "end_datetime": "2026-01-05T06:30:59Z",
        "platform": "sentinel-1a",
        "sat:orbit_state": "descending",
        "sat:absolute_orbit": 62000,
        "sat:relative_orbit": 153,
        "sar:instrument_mode": "IW",
        "sar:product_type": "SLC",
        "sar:polarizations": ["VV"],
        "sar:center_frequency": 5.405000454,
        "processing:software": {"Armillary samples": "1"},
        "s1:swaths": ["IW1", "IW2", "IW3"],
        "s1:bursts": {"IW1-VV": 3, "IW2-VV": 3, "IW3-VV": 3},
    }
    assert expected.items() <= item["properties"].items()
    data = [name for name, asset in item["assets"].items() if asset["roles"] == ["data"]]
    assert len(data) == 3
    assert len(item["properties"]["s1:burst_ids"]) == 9
    assert item["properties"]["s1:burst_ids"] == sorted(item["properties"]["s1:burst_footprints"])
    assert all((samples[0] / name).is_file() for name in item["assets"])


@pytest.mark.parametrize("root", [True, False])
def test_a_zip_tells_the_same_without_being_unpacked(product, tmp_path, root) -> None:
    folder = sentinel1_safe.read(product)
    archive = sentinel1_safe.read(zipped(product, tmp_path, root=root))
    assert {**archive, "assets": None} == {**folder, "assets": None}
    prefix = f"{product.name}/" if root else ""
    assert archive["assets"] == {prefix + name: asset for name, asset in folder["assets"].items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([product.name, f"{product.stem}.zip"])


def test_a_renamed_product_has_no_id_of_its_own(product, tmp_path) -> None:
    assert "id" not in sentinel1_safe.read(product.rename(tmp_path / "renamed.SAFE"))


def test_files_that_the_manifest_lists_and_that_are_missing_are_named(product) -> None:
    edit(product, "</dataObjectSection>", "<dataObject><byteStream><fileLocation href='./preview/quick-look.png'/>"
         "</byteStream></dataObject></dataObjectSection>")  # fmt: skip
    assert sentinel1_safe.read(product)["properties"]["s1:missing_files"] == ["preview/quick-look.png"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('<?xml version="1.0" encoding="UTF-8"?>', DOCTYPE, "declares a document type"),
        ("</xfdu:XFDU>", "", "manifest.safe is not whole XML"),
        ("<safe:startTime>2026-01-05T", "<safe:startTime>the 5th ", "startTime in manifest.safe is 'the 5th 06:30"),
        ("<safe:startTime>2026-", "<safe:startTime>2027-", "ends .* before it starts"),
        ("DESCENDING", "SIDEWAYS", "neither ascending nor descending"),
        ("<s1:pass>DESCENDING</s1:pass>", "", "manifest.safe lacks orbitReference//pass"),
        ('<safe:relativeOrbitNumber type="start">153', '<safe:relativeOrbitNumber type="start">-7', "whole number"),
        ("<gml:coordinates>", "<gml:coordinates>here ", "not pairs of latitude and longitude"),
        ("<gml:coordinates>3", "<gml:coordinates>3333", "not on the sphere"),
        ("safe:processing", "safe:nothing", "does not say what processed"),
    ],
)
def test_a_spoilt_manifest_is_refused_with_what_is_wrong(product, old, new, reason) -> None:
    edit(product, old, new)
    with pytest.raises(Refused, match=reason):
        sentinel1_safe.read(product)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<swath>IW1</swath>", "", "lacks product/adsHeader/swath"),
        ("<radarFrequency>5.4", "<radarFrequency>five", "radarFrequency in the annotation is 'five"),
        ("</product>", "", "is not whole XML"),
        ('<burstList count="3">', '<burstList count="three">', "number of bursts"),
        ('<?xml version="1.0" encoding="UTF-8"?>', DOCTYPE, "declares a document type"),
    ],
)
def test_a_spoilt_annotation_is_refused_with_what_is_wrong(product, old, new, reason) -> None:
    edit(product, old, new, "annotation/*iw1*.xml")
    with pytest.raises(Refused, match=reason):
        sentinel1_safe.read(product)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("manifest.safe", "0 files manifest.safe"),
        ("measurement/*iw2*", "the measurement of .*iw2.* is missing"),
        ("annotation/*iw3*", "the annotation of .*iw3.* is missing"),
        ("annotation/*", "holds no annotation"),
    ],
)
def test_an_incomplete_product_is_refused_with_what_is_missing(product, tmp_path, missing, reason) -> None:
    for path in product.glob(missing):
        path.unlink()
    for path in (product, zipped(product, tmp_path)):
        with pytest.raises(Refused, match=reason):
            sentinel1_safe.read(path)


@pytest.mark.parametrize("keep", [0, 1, 5, 100, -1, -1000])
def test_a_measurement_that_is_still_being_copied_is_refused(product, keep) -> None:
    (path,) = product.glob("measurement/*iw2*")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Refused, match=r"measurement/.*iw2.* (is empty|is not a TIFF|is cut short)"):
        sentinel1_safe.read(product)


def test_a_zip_cut_anywhere_is_refused(product, tmp_path) -> None:
    data = zipped(product, tmp_path).read_bytes()
    short = tmp_path / "short.zip"
    for cut in range(0, len(data), len(data) // 40):
        short.write_bytes(data[:cut])
        with pytest.raises(Refused):
            sentinel1_safe.read(short)


@pytest.mark.real_data
def test_real_products_of_a_pair_agree_with_what_is_known_of_them(test_data) -> None:
    folder = test_data / "insar" / "safe_pair_morocco_eo_tools"
    first, second = (sentinel1_safe.read(path) for path in sorted(folder.glob("*.zip")))
    assert first["id"] == "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"
    expected = {
        "start_datetime": "2023-09-04T06:37:30.213065Z",
        "sat:relative_orbit": 52,
        "sat:absolute_orbit": 50174,
        "sat:orbit_state": "descending",
        "processing:software": {"Sentinel-1 IPF": "003.61"},
        "s1:bursts": {"IW1-VV": 9, "IW2-VV": 9, "IW3-VV": 9},
        "sar:pixel_spacing_range": 2.329562,
    }
    assert expected.items() <= first["properties"].items()
    assert any("-vh-" in name for name in first["properties"]["s1:missing_files"]), "VH was left out of the test data"
    assert second["properties"]["sat:absolute_orbit"] - first["properties"]["sat:absolute_orbit"] == 175
    assert first["bbox"] == pytest.approx(second["bbox"], abs=0.001)


@pytest.mark.real_data
def test_a_real_product_of_two_polarisations(test_data) -> None:
    (path,) = (test_data / "insar" / "safe_annotations_other").glob("S1B*.zip")
    properties = sentinel1_safe.read(path)["properties"]
    assert properties["platform"] == "sentinel-1b"
    assert properties["sar:polarizations"] == ["VV", "VH"]
    assert properties["s1:bursts"] == {"IW1-VH": 9, "IW1-VV": 9, "IW2-VH": 10}


@pytest.mark.real_data
def test_a_real_archive_without_a_manifest_is_no_product(test_data) -> None:
    (path,) = (test_data / "insar" / "safe_annotations_other").glob("S1A*.zip")
    with pytest.raises(Refused, match="is not a SAFE product"):
        sentinel1_safe.read(path)


@pytest.mark.real_data
def test_real_bursts_have_their_identifiers_and_lie_within_the_product(test_data) -> None:
    folder = test_data / "insar" / "safe_pair_morocco_eo_tools"
    first, second = (sentinel1_safe.read(path) for path in sorted(folder.glob("*.zip")))
    identifiers = first["properties"]["s1:burst_ids"]
    assert len(identifiers) == 27
    assert {"110431_IW1", "110431_IW2", "110430_IW3"} <= set(identifiers)
    assert second["properties"]["s1:burst_ids"] == identifiers, "the same ground at both passes"
    west, south, east, north = first["bbox"]
    for geometry in first["properties"]["s1:burst_footprints"].values():
        [ring] = geometry["coordinates"]
        assert len(ring) == 5
        assert all(west - 0.05 < x < east + 0.05 and south - 0.05 < y < north + 0.05 for x, y in ring)


@pytest.mark.real_data
def test_identifiers_of_older_products_follow_from_time_and_track(test_data, tmp_path) -> None:
    """Burst by burst the definition gives what the processor has written since version 3.40."""
    path = min((test_data / "insar" / "safe_pair_morocco_eo_tools").glob("*.zip"))
    old = tmp_path / path.name
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, re.sub(rb"<burstId.*?</burstId>", b"", data) if name.endswith(".xml") else data)
    written, worked_out = (sentinel1_safe.read(each)["properties"] for each in (path, old))
    assert worked_out["s1:burst_ids"] == written["s1:burst_ids"]


def test_a_burst_number_that_is_none_is_refused(product) -> None:
    edit(product, "<azimuthAnxTime>", "<burstId>x</burstId><azimuthAnxTime>", "annotation/*iw1*.xml")
    with pytest.raises(Refused, match=r"burstId in annotation.*iw1.* is 'x', not a whole number"):
        sentinel1_safe.read(product)
