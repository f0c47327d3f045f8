"""The published schemas of STAC, offline: the core's, which pystac carries, and the extensions' after their specifications."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from armillary.granules import stac

Schema = dict[str, Any]
URL = "https://stac-extensions.github.io/{}/schema.json"

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
NUMBER: Schema = {"type": "number"}
LENGTH: Schema = {"type": "number", "minimum": 0}
LOOKS: Schema = {"type": "integer", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 1}


def numbers(*sizes: int) -> Schema:
    return {"type": "array", "items": NUMBER, "anyOf": [{"minItems": n, "maxItems": n} for n in sizes]}


def one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def item_fields(name: str, fields: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """An extension of an item's properties: it must be listed, and fields of its prefix must be among its own."""
    prefix = next(iter(fields)).partition(":")[0]
    return {
        "type": "object",
        "required": ["stac_extensions", "properties"],
        "properties": {
            "stac_extensions": {"type": "array", "contains": {"const": URL.format(name)}},
            "properties": {
                "required": list(required),
                "properties": fields,
                "patternProperties": {f"^(?!{prefix}:)": {}},
                "additionalProperties": False,
            },
        },
    }


FILE: Schema = {
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

PROCESSING: dict[str, Schema] = {
    "processing:expression": {"type": "object", "required": ["format", "expression"]},
    "processing:lineage": TEXT,
    "processing:level": TEXT,
    "processing:facility": TEXT,
    "processing:datetime": TIME,
    "processing:version": TEXT,
    "processing:software": {"type": "object", "additionalProperties": TEXT},
}

PROJECTION: dict[str, Schema] = {
    "proj:code": {"type": ["string", "null"]},
    "proj:wkt2": {"type": ["string", "null"]},
    "proj:projjson": {"type": ["object", "null"]},
    "proj:geometry": {"type": "object"},
    "proj:bbox": numbers(4, 6),
    "proj:centroid": {"type": "object", "required": ["lat", "lon"]},
    "proj:shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    "proj:transform": numbers(6, 9),
}

SAR: dict[str, Schema] = {
    "sar:instrument_mode": {"type": "string", "minLength": 1},
    "sar:frequency_band": one_of("P", "L", "S", "C", "X", "Ku", "K", "Ka"),
    "sar:polarizations": {
        "type": "array",
        "items": one_of("HH", "VV", "HV", "VH"),
        "minItems": 1,
        "maxItems": 4,
        "uniqueItems": True,
    },
    "sar:product_type": {"type": "string", "minLength": 1},
    "sar:center_frequency": NUMBER,
    "sar:resolution_range": LENGTH,
    "sar:resolution_azimuth": LENGTH,
    "sar:pixel_spacing_range": LENGTH,
    "sar:pixel_spacing_azimuth": LENGTH,
    "sar:looks_range": LOOKS,
    "sar:looks_azimuth": LOOKS,
    "sar:looks_equivalent_number": LENGTH,
    "sar:observation_direction": one_of("left", "right"),
}

SATELLITE: dict[str, Schema] = {
    "sat:platform_international_designator": TEXT,
    "sat:orbit_state": one_of("ascending", "descending", "geostationary"),
    "sat:absolute_orbit": COUNT,
    "sat:relative_orbit": COUNT,
    "sat:anx_datetime": TIME,
}

VIEW: dict[str, Schema] = {
    "view:off_nadir": {"type": "number", "minimum": 0, "maximum": 90},
    "view:incidence_angle": {"type": "number", "minimum": 0, "maximum": 90},
    "view:azimuth": {"type": "number", "minimum": 0, "maximum": 360},
    "view:sun_azimuth": {"type": "number", "minimum": 0, "maximum": 360},
    "view:sun_elevation": {"type": "number", "minimum": -90, "maximum": 90},
}

EXTENSIONS: dict[str, Schema] = {
    URL.format("file/v2.1.0"): FILE,
    URL.format("processing/v1.2.0"): item_fields("processing/v1.2.0", PROCESSING),
    URL.format("projection/v2.0.0"): item_fields("projection/v2.0.0", PROJECTION),
    URL.format("sar/v1.0.0"): item_fields("sar/v1.0.0", SAR, tuple(SAR)[:4]),
    URL.format("sat/v1.0.0"): item_fields("sat/v1.0.0", SATELLITE),
    URL.format("view/v1.0.0"): item_fields("view/v1.0.0", VIEW),
}


@pytest.fixture
def schemas() -> dict[str, Schema]:
    """Every schema by its address."""
    return get_local_schema_cache() | EXTENSIONS


@pytest.fixture
def validate(schemas: dict[str, Schema]) -> Callable[[dict[str, Any]], None]:
    """Refuses a document that its core schema or one of the extensions that it lists does not allow."""
    registry: Registry[Any] = Registry().with_resources(
        [(uri, Resource.from_contents(schema, DRAFT7)) for uri, schema in schemas.items()]
    )

    def check(document: dict[str, Any]) -> None:
        kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[document["type"]]
        core = f"https://schemas.stacspec.org/v{stac.VERSION}/{kind}-spec/json-schema/{kind}.json"
        written = json.loads(json.dumps(document))
        for uri in (core, *document.get("stac_extensions", ())):
            jsonschema.Draft7Validator(schemas[uri], registry=registry).validate(written)

    return check
