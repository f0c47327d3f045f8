"""Items and collections as STAC shows them, against the published schemas."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from armillary.collections.collection import Collection
from armillary.granules import stac
from armillary.granules.granule import Granule
from armillary.testing.catalogue import square

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

# The file extension 2.1.0, as its specification words it.
FILE_EXTENSION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "assets": {
            "type": "object",
            "additionalProperties": {
                "properties": {
                    "file:size": {"type": "integer", "minimum": 0},
                    "file:checksum": {"type": "string", "pattern": "^[a-f0-9]+$"},
                }
            },
        }
    },
}


def validate(document: dict[str, Any]) -> None:
    """Against the core schemas of STAC 1.1 and GeoJSON, which pystac carries, and that of the file extension."""
    schemas = get_local_schema_cache()
    registry: Registry[Any] = Registry().with_resources(
        [(uri, Resource.from_contents(schema)) for uri, schema in schemas.items()]
    )
    kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[document["type"]]
    core = schemas[f"https://schemas.stacspec.org/v{stac.VERSION}/{kind}-spec/json-schema/{kind}.json"]
    written = json.loads(json.dumps(document))
    for schema in (core, FILE_EXTENSION):
        jsonschema.Draft7Validator(schema, registry=registry).validate(written)


@pytest.mark.parametrize(
    "granule",
    [
        ONE,
        replace(ONE, frame="none", geometry=None, bbox=None),
        replace(ONE, frame="sky", geometry=square(350, 0), bbox=[350, 0, 351, 1]),
        replace(ONE, starts_at=NOON, ends_at=NOON + timedelta(hours=1), properties={}),
        replace(ONE, starts_at=None, ends_at=None, properties={}),
        replace(ONE, granule="a name, with spaces", assets={}),
    ],
    ids=["earth", "no place", "sky", "range", "timeless", "bare"],
)
def test_every_item_is_valid(granule: Granule) -> None:
    validate(stac.item(granule, URL))


def test_an_invalid_item_would_be_found() -> None:
    broken = stac.item(ONE, URL) | {"geometry": {"type": "Polygon", "coordinates": [[0, 0]]}}
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)


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


def test_collections_and_the_landing_page_are_valid() -> None:
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
