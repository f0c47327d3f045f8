"""Bad input is refused before any computing, in a sentence that says what to do."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import ONE_BURST, write_job

from armillary_insar.elevation import choose_geoid
from armillary_insar.errors import Refusal
from armillary_insar.job import read_job, read_parameters
from armillary_insar.process import prepare
from armillary_insar.simulator.pair import MadePair, PairSpec, make_pair


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> MadePair:
    return make_pair(PairSpec(swaths=ONE_BURST, source="none"), tmp_path_factory.mktemp("small") / "pair")


def refusal(folder: Path, made: MadePair, parameters: dict[str, object] | None = None) -> Refusal:
    job = read_job(write_job(folder, made, parameters))
    with pytest.raises(Refusal) as caught:
        prepare(job)
    assert not list(folder.glob("checkpoint/*/*.npz")), "refused before computing"
    assert caught.value.remedy.endswith(".")
    return caught.value


def changed(safe: Path, out: Path, edits: dict[str, str], name: str | None = None) -> Path:
    """A copy of a product whose annotation and manifest have text replaced (by regular expression)."""
    copy = out / (name or safe.name)
    shutil.copytree(safe, copy)
    for path in [*copy.glob("annotation/*.xml"), copy / "manifest.safe"]:
        text = path.read_text()
        for pattern, new in edits.items():
            text = re.sub(pattern, new, text)
        path.write_text(text)
    return copy


def test_different_tracks(small: MadePair, tmp_path: Path) -> None:
    other = changed(small.secondary, tmp_path, {r"<absoluteOrbitNumber>\d+": "<absoluteOrbitNumber>61415"})
    assert "different tracks" in refusal(tmp_path / "job", replace(small, secondary=other)).message


def test_different_direction(small: MadePair, tmp_path: Path) -> None:
    other = changed(small.secondary, tmp_path, {"<pass>Descending": "<pass>Ascending"})
    assert "ascending" in refusal(tmp_path / "job", replace(small, secondary=other)).message


def test_no_common_bursts(small: MadePair, tmp_path: Path) -> None:
    other = changed(small.secondary, tmp_path, {r'<burstId absolute="\d+">\d+': '<burstId absolute="9">9'})
    assert "no common bursts" in refusal(tmp_path / "job", replace(small, secondary=other)).message


def test_missing_subswath(small: MadePair, tmp_path: Path) -> None:
    said = refusal(tmp_path, small, {"swaths": ["IW2"]})
    assert "IW2 is missing" in said.message
    assert said.exit_code == 10


def test_orbit_that_does_not_cover(small: MadePair, tmp_path: Path) -> None:
    text = small.orbits[0].read_text()
    old = tmp_path / "S1A_OPER_AUX_POEORB_OPOD_20260301T000000_V20260228T000000_20260301T000000.EOF"
    old.write_text(re.sub(r"<Validity_Stop>UTC=[^<]+", "<Validity_Stop>UTC=2026-03-01T06:00:00", text))
    said = refusal(tmp_path / "job", replace(small, orbits=(old, small.orbits[1])))
    assert "No orbit file covers" in said.message


def test_orbit_file_whose_vectors_end_early(small: MadePair, tmp_path: Path) -> None:
    head, *vectors = small.orbits[0].read_text().split("<OSV>")
    short = tmp_path / small.orbits[0].name
    short.write_text("<OSV>".join([head, *vectors[:28]]) + "</List_of_OSVs></Data_Block></Earth_Explorer_File>")
    assert "does not cover" in refusal(tmp_path / "job", replace(small, orbits=(short, small.orbits[1]))).message


def elevation_with(
    small: MadePair,
    path: Path,
    *,
    hole: bool = False,
    tags: dict[str, str] | None = None,
    epsg: int = 4326,
    crop: int | None = None,
) -> Path:
    with rasterio.open(small.elevation) as file:
        heights, transform = file.read(1), file.transform
    if hole:
        heights[heights.shape[0] // 2, heights.shape[1] // 2] = np.nan
    heights = heights[:, :crop] if crop else heights
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=heights.shape[0],
        width=heights.shape[1],
        count=1,
        dtype="float32",
        crs=f"EPSG:{epsg}",
        transform=transform,
        nodata=np.nan,
    ) as file:
        file.write(heights, 1)
        file.update_tags(**(tags or {}))
    return path


ELLIPSOID = {"VERTICAL_DATUM": "WGS84 ellipsoid"}


def test_elevation_with_a_hole(small: MadePair, tmp_path: Path) -> None:
    holed = elevation_with(small, tmp_path / "elevation.tif", hole=True, tags=ELLIPSOID)
    said = refusal(tmp_path / "job", replace(small, elevation=holed))
    assert "1 posts without a value" in said.message
    assert "elevation_fill" in said.remedy
    filled = read_job(write_job(tmp_path / "filled", replace(small, elevation=holed), {"elevation_fill": 300.0}))
    assert np.isfinite(prepare(filled).elevation.at(np.array([31.05]), np.array([-8.4]))).all()


def test_elevation_that_does_not_cover(small: MadePair, tmp_path: Path) -> None:
    narrow = elevation_with(small, tmp_path / "elevation.tif", tags=ELLIPSOID, crop=120)
    said = refusal(tmp_path / "job", replace(small, elevation=narrow))
    assert "posts without a value" in said.message or "does not cover" in said.message


def test_elevation_without_a_datum(small: MadePair, tmp_path: Path) -> None:
    silent = elevation_with(small, tmp_path / "elevation.tif")
    said = refusal(tmp_path / "job", replace(small, elevation=silent))
    assert "vertical datum" in said.message
    assert "elevation_datum" in said.remedy


@pytest.mark.parametrize(("epsg", "tags"), [(4326, {"VERTICAL_DATUM": "EGM96"}), (9518, {}), (9707, {})])
def test_elevation_above_a_geoid_without_the_geoid(
    small: MadePair, tmp_path: Path, epsg: int, tags: dict[str, str]
) -> None:
    raised = elevation_with(small, tmp_path / "elevation.tif", tags=tags, epsg=epsg)
    said = refusal(tmp_path / "job", replace(small, elevation=raised))
    assert "no geoid grid" in said.message
    assert said.exit_code == 10


def test_the_geoid_of_the_elevation_is_chosen_among_several() -> None:
    grids = [Path("egm96_15.gtx"), Path("us_nga_egm08_25.tif")]
    assert choose_geoid(grids, "egm2008") == grids[1]
    assert choose_geoid(grids, "egm96") == grids[0]
    assert choose_geoid([Path("mine.tif")], "egm96") == Path("mine.tif")
    assert choose_geoid([], "egm96") is None
    with pytest.raises(Refusal, match="of 2 geoid grids none is named so"):
        choose_geoid([Path("a.tif"), Path("b.tif")], "egm96")


def test_antenna_pattern_of_ipf_002_36(small: MadePair, tmp_path: Path) -> None:
    old = changed(small.reference, tmp_path, {'version="003.61"': 'version="002.36"'})
    assert "002.36" in refusal(tmp_path / "job", replace(small, reference=old)).message


def test_truncated_measurement(small: MadePair, tmp_path: Path) -> None:
    cut = changed(small.secondary, tmp_path, {})
    tiff = next(cut.glob("measurement/*.tiff"))
    with tiff.open("r+b") as file:
        file.truncate(tiff.stat().st_size - 5000)
    assert "truncated" in refusal(tmp_path / "job", replace(small, secondary=cut)).message


def test_missing_measurement(small: MadePair, tmp_path: Path) -> None:
    cut = changed(small.secondary, tmp_path, {})
    next(cut.glob("measurement/*.tiff")).unlink()
    assert "missing" in refusal(tmp_path / "job", replace(small, secondary=cut)).message


def test_samples_of_nothing_but_zeros(small: MadePair, tmp_path: Path) -> None:
    empty = changed(small.reference, tmp_path, {})
    tiff = next(empty.glob("measurement/*.tiff"))
    data = bytearray(tiff.read_bytes())
    data[20_000:] = bytes(len(data) - 20_000)
    tiff.write_bytes(data)
    assert "only zeros" in refusal(tmp_path / "job", replace(small, reference=empty)).message


def test_real_placeholder_product_is_refused(real_data: Path, tmp_path: Path) -> None:
    """The real pair in the data has full-size files of zeros; nothing may be computed from them."""
    pair = sorted((real_data / "safe_pair_morocco_eo_tools").glob("*.zip"))
    made = MadePair(
        pair[0], pair[1], sorted((real_data / "safe_pair_morocco_eo_tools").glob("dem*.tiff"))[0], (), pair[0]
    )
    said = refusal(
        tmp_path, made, {"swaths": ["IW1"], "bursts": [110431], "elevation_datum": "ellipsoid", "elevation_fill": 50.0}
    )
    assert "only zeros" in said.message or "does not cover" in said.message


def test_reference_after_secondary(small: MadePair, tmp_path: Path) -> None:
    backwards = MadePair(small.secondary, small.reference, small.elevation, small.orbits, small.truth)
    assert "later than the secondary" in refusal(tmp_path, backwards).message


def test_no_elevation_and_no_secondary(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"inputs": {"reference": [{"path": "x"}]}}))
    with pytest.raises(Refusal, match="no input in the role secondary"):
        read_job(tmp_path / "job.json")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"looks": [0, 7]}, "looks"),
        ({"looks": [19]}, "looks"),
        ({"area": [1, 2, 0, 3]}, "area"),
        ({"filter_strength": 2}, "filter_strength"),
        ({"engine": "abacus"}, "engine"),
        ({"loooks": [1, 1]}, "loooks"),
        ({"unwrap": "by hand"}, "unwrap"),
        ({"posting_arcsec": 0}, "posting_arcsec"),
    ],
)
def test_parameters_are_named_when_wrong(said: dict[str, object], field: str) -> None:
    with pytest.raises(Refusal, match=field):
        read_parameters(said)
