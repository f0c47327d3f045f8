"""Items and collections as STAC shows them, against the published schemas."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from armillary.collections.collection import Collection
from armillary.granules import stac
from armillary.granules.granule import Granule
from armillary.testing.catalogue import square
from armillary_formats import geotiff, sentinel1_orbit, sentinel1_safe
from armillary_formats.samples.write import write

Validate = Callable[[dict[str, Any]], None]
URL = "http://example.test:7117"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILE = {
    "kind": "file", "type": "image/tiff; application=geotiff", "roles": ["data"], "size": 5, "sha256": "ab" * 32,
    "files": [{"path": "a b.tif", "size": 5, "sha256": "ab" * 32}], "key": "slc/one/u/a%20b.tif", "title": "Amplitude",
}  # fmt: skip
TREE = {
    "kind": "tree", "type": "application/x-safe", "roles": ["data"], "size": 500, "sha256": "cd" * 32,
    "files": [], "key": "slc/one/u/safe.manifest.json",
    "manifest": {"path": "safe.manifest.json", "size": 70, "sha256": "cd" * 32},
}  # fmt: skip
ONE = Granule(
    "slc", "one", 2, True, "ef" * 32, "earth", square(0, 0), [0, 0, 1, 1], NOON, NOON,
    {"datetime": "2026-03-01T12:00:00Z", "platform": "sentinel-1a"}, {"amplitude": FILE, "safe": TREE},
    505, "owners", "owner", NOON + timedelta(days=1), "slc/one/u",
)  # fmt: skip

RADAR = {
    "sar:instrument_mode": "IW", "sar:frequency_band": "C", "sar:polarizations": ["VV"], "sar:product_type": "GUNW",
    "sar:looks_range": 19, "sat:relative_orbit": 52, "sat:orbit_state": "descending", "processing:level": "L2",
    "processing:software": {"armillary-insar": "1.0.0"}, "view:incidence_angle": 39.1,
}  # fmt: skip


@pytest.mark.parametrize(
    "granule",
    [
        ONE,
        replace(ONE, frame="none", geometry=None, bbox=None),
        replace(ONE, frame="sky", geometry=square(350, 0), bbox=[350, 0, 351, 1]),
        replace(ONE, starts_at=NOON, ends_at=NOON + timedelta(hours=1), properties={}),
        replace(ONE, starts_at=None, ends_at=None, properties={}),
        replace(ONE, granule="a name, with spaces", assets={}),
        replace(ONE, properties=RADAR),
    ],
    ids=["earth", "no place", "sky", "range", "timeless", "bare", "radar"],
)
def test_every_item_is_valid(granule: Granule, validate: Validate) -> None:
    validate(stac.item(granule, URL))


@pytest.mark.parametrize(
    ("properties", "listed"),
    [
        ({}, []),
        (RADAR, ["processing/v1.2.0", "sar/v1.0.0", "sat/v1.0.0", "view/v1.0.0"]),
        ({"proj:code": "EPSG:4326", "proj:shape": [2, 3]}, ["projection/v2.0.0"]),
        ({"proj:epsg": 4326}, []),
        ({"sar:polarizations": ["VV"], "sat:relative_orbit": 52}, ["sat/v1.0.0"]),
        ({"satellite": "x", "processing": "y"}, []),
    ],
    ids=["none", "radar", "map", "of an older version", "not all that is required", "no prefix"],
)
def test_an_item_lists_the_extensions_whose_word_it_keeps(
    properties: dict[str, Any], listed: list[str], validate: Validate
) -> None:
    item = stac.item(replace(ONE, properties=properties), URL)
    assert item["stac_extensions"] == [
        f"https://stac-extensions.github.io/{e}/schema.json" for e in ["file/v2.1.0", *listed]
    ]
    validate(item)


def test_what_the_readers_write_is_valid_under_the_extensions(tmp_path: Path, validate: Validate) -> None:
    """Scenes, orbits and elevation as the readers of this project describe them."""
    write(tmp_path, pairs=1, width=32, height=12)
    listed = set()
    for path in sorted(tmp_path.iterdir()):
        reader = {".SAFE": sentinel1_safe, ".tif": geotiff, ".EOF": sentinel1_orbit}.get(path.suffix)
        if reader is None:
            continue
        item = stac.item(replace(ONE, properties=reader.read(path)["properties"]), URL)
        validate(item)
        listed |= {uri.split("/")[3] for uri in item["stac_extensions"]}
    assert listed >= {"file", "processing", "projection", "sar", "sat", "view"}


def test_bands_are_where_the_samples_are(validate: Validate) -> None:
    picture = FILE | {"roles": ["overview"]}
    bands = [{"name": "elevation", "data_type": "float32", "unit": "m"}]
    item = stac.item(replace(ONE, properties={"bands": bands}, assets={"data": FILE, "browse": picture}), URL)
    assert (item["assets"]["data"]["bands"], "bands" in item["assets"]["browse"]) == (bands, False)
    assert "bands" not in item["properties"]
    validate(item)


def test_an_invalid_item_would_be_found(validate: Validate) -> None:
    broken = stac.item(ONE, URL) | {"geometry": {"type": "Polygon", "coordinates": [[0, 0]]}}
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)
    for name, wrong in (("sar:frequency_band", "Q"), ("sat:orbit_state", "up"), ("processing:level", 2)):
        with pytest.raises(jsonschema.ValidationError):
            validate(stac.item(replace(ONE, properties=RADAR | {name: wrong}), URL))


def test_an_asset_says_where_how_large_and_what_checksum() -> None:
    assets = stac.item(ONE, URL)["assets"]
    assert assets["amplitude"] == {
        "href": f"{URL}/api/files/slc/one/u/a%2520b.tif",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "title": "Amplitude",
        "file:size": 5,
        "file:checksum": "1220" + "ab" * 32,
    }
    assert assets["safe"]["type"] == "application/json"
    assert (assets["safe"]["file:size"], assets["safe"]["armillary:size_bytes"]) == (70, 500)


def test_links_are_signed_where_that_is_asked_for() -> None:
    signed = stac.item(ONE, URL, lambda path: f"{path}?signature=x")
    assert signed["assets"]["amplitude"]["href"].endswith("a%2520b.tif?signature=x")


def test_a_place_in_the_sky_is_a_property_and_no_place_on_earth() -> None:
    sky = stac.item(replace(ONE, frame="sky", geometry=square(350, 0), bbox=[350, 0, 351, 1]), URL)
    assert sky["geometry"] is None
    assert "bbox" not in sky
    assert sky["properties"]["armillary:sky_geometry"] == square(350, 0)
    assert "armillary:sky_geometry" not in stac.item(ONE, URL)["properties"]


def test_times_are_an_instant_a_range_or_said_to_be_missing() -> None:
    hour = replace(ONE, ends_at=NOON + timedelta(hours=1), properties={})
    assert stac.item(hour, URL)["properties"] | {"datetime": None} == stac.item(hour, URL)["properties"]
    assert stac.item(hour, URL)["properties"]["end_datetime"] == "2026-03-01T13:00:00Z"
    timeless = stac.item(replace(ONE, starts_at=None, ends_at=None, properties={}), URL)["properties"]
    assert (timeless["datetime"], timeless["armillary:is_timeless"]) == ("2026-03-02T12:00:00Z", True)


def test_what_an_extractor_calls_created_does_not_hide_when_it_was_catalogued() -> None:
    odd = replace(ONE, properties=dict(ONE.properties) | {"created": "x", "armillary:revision": 99})
    assert stac.item(odd, URL)["properties"]["created"] == "2026-03-02T12:00:00Z"
    assert stac.item(odd, URL)["properties"]["armillary:revision"] == 2


def test_collections_and_the_landing_page_are_valid(validate: Validate) -> None:
    bare, full = Collection("slc"), Collection("dem", "Elevation", "Heights above the ellipsoid.", "CC-BY-4.0")
    shown = [stac.collection(bare, URL), stac.collection(full, URL, NOON)]
    for document in (*shown, stac.landing(shown, URL, "i")):
        validate(document)
    assert shown[0]["description"]
    assert shown[1]["extent"]["temporal"]["interval"] == [["2026-03-01T12:00:00Z", None]]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], {"type": 1, "id": 2, "collection": 3, "properties": {"a": 4, "b": 5}, "assets": {}}),
        (["properties.a"], [], {"type": 1, "id": 2, "collection": 3, "properties": {"a": 4}}),
        (["properties"], ["properties.a"], {"type": 1, "id": 2, "collection": 3, "properties": {"b": 5}}),
        ([], ["properties", "id"], {"type": 1, "id": 2, "collection": 3, "assets": {}}),
        (["none"], [], {"type": 1, "id": 2, "collection": 3}),
    ],
)
def test_fields_are_chosen(include: list[str], exclude: list[str], expected: dict[str, Any]) -> None:
    document = {"type": 1, "id": 2, "collection": 3, "properties": {"a": 4, "b": 5}, "assets": {}}
    assert stac.select(document, include, exclude) == expected
