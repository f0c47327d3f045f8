"""Granules and collections as STAC 1.1 shows them, and the STAC API's documents about itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from armillary.base.clock import iso
from armillary.base.links import file_path
from armillary.collections.collection import Collection
from armillary.granules import cql2
from armillary.granules.granule import Granule

Document = dict[str, Any]

VERSION = "1.1.0"
_EXTENSIONS = "https://stac-extensions.github.io"
FILE_EXTENSION = f"{_EXTENSIONS}/file/v2.1.0/schema.json"
GEOJSON = "application/geo+json"
JSON = "application/json"
SCHEMA = "application/schema+json"
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

_API = "https://api.stacspec.org/v1.0.0"
_CQL2 = "http://www.opengis.net/spec/cql2/1.0/conf"
_FEATURES = "http://www.opengis.net/spec/ogcapi-features"
CONFORMS_TO = (
    *(f"{_API}/{part}" for part in ("core", "collections", "ogcapi-features", "item-search")),
    *(f"{_API}/{part}#{more}" for part in ("item-search", "ogcapi-features") for more in ("fields", "sort", "filter")),
    *(f"{_FEATURES}-1/1.0/conf/{part}" for part in ("core", "geojson", "oas30")),
    *(f"{_FEATURES}-3/1.0/conf/{part}" for part in ("filter", "features-filter", "queryables")),
    *(
        f"{_CQL2}/{part}"
        for part in (
            "cql2-text", "cql2-json", "basic-cql2", "advanced-comparison-operators", "case-insensitive-comparison",
            "accent-insensitive-comparison", "basic-spatial-functions", "basic-spatial-functions-plus",
            "temporal-functions", "array-functions", "property-property", "arithmetic",
        )
    ),
)  # fmt: skip

_MULTIHASH_SHA256 = "1220"


@dataclass(frozen=True)
class Extension:
    """A published schema of properties that extractors and algorithms write."""

    schema: str
    prefix: str
    required: frozenset[str]
    optional: frozenset[str]

    def holds_for(self, names: Iterable[str]) -> bool:
        """Whether some names are its own, none is missing and none is one that its schema forbids."""
        own = {name.removeprefix(f"{self.prefix}:") for name in names if name.startswith(f"{self.prefix}:")}
        return bool(own) and self.required <= own <= self.required | self.optional


def _extension(schema: str, prefix: str, optional: str, required: str = "") -> Extension:
    url = f"{_EXTENSIONS}/{schema}/schema.json"
    return Extension(url, prefix, frozenset(required.split()), frozenset(optional.split()))


EXTENSIONS = (
    _extension("processing/v1.2.0", "processing", "expression lineage level facility datetime version software"),
    _extension("projection/v2.0.0", "proj", "code wkt2 projjson geometry bbox centroid shape transform"),
    _extension(
        "sar/v1.0.0", "sar",
        "center_frequency resolution_range resolution_azimuth pixel_spacing_range pixel_spacing_azimuth looks_range "
        "looks_azimuth looks_equivalent_number observation_direction",
        required="instrument_mode frequency_band polarizations product_type",
    ),
    _extension(
        "sat/v1.0.0", "sat",
        "platform_international_designator orbit_state absolute_orbit relative_orbit anx_datetime",
    ),
    _extension("view/v1.0.0", "view", "off_nadir incidence_angle azimuth sun_azimuth sun_elevation"),
)  # fmt: skip


def item(granule: Granule, url: str, sign: Callable[[str], str] | None = None) -> Document:
    """One revision of a granule; `sign` makes a file's path one that works without a token."""
    here = f"{url}/stac/collections/{quote(granule.collection)}"
    on_earth = granule.frame == "earth" and granule.geometry is not None
    properties = _properties(granule)
    bands = properties.pop("bands", None)  # STAC has them where the samples are
    document: Document = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [FILE_EXTENSION, *(e.schema for e in EXTENSIONS if e.holds_for(granule.properties))],
        "id": granule.granule,
        "collection": granule.collection,
        "geometry": granule.geometry if on_earth else None,
        "properties": properties,
        "links": [
            _link("self", f"{here}/items/{quote(granule.granule)}", GEOJSON),
            _link("parent", here),
            _link("collection", here),
            _link("root", f"{url}/stac"),
        ],
        "assets": {} if granule.retired_at else _assets(granule, bands, url, sign),
    }
    return document | ({"bbox": granule.bbox} if on_earth and granule.bbox else {})


def _assets(granule: Granule, bands: Any, url: str, sign: Callable[[str], str] | None) -> Document:
    return {name: _asset(asset, bands, url, sign) for name, asset in granule.assets.items()}


def _properties(granule: Granule) -> Document:
    own: Document = {
        "created": iso(granule.created_at),
        "armillary:frame": granule.frame,
        "armillary:revision": granule.revision,
        "armillary:size_bytes": granule.size_bytes,
        "armillary:digest": granule.digest,
    }
    if granule.retired_at:
        own |= {"armillary:retired": iso(granule.retired_at)}
    if granule.frame == "sky" and granule.geometry is not None:
        own |= {"armillary:sky_geometry": granule.geometry, "armillary:sky_bbox": granule.bbox}
    return {**granule.properties, **_times(granule), **own}


def _times(granule: Granule) -> Document:
    """STAC wants a time of every item: that of one without any is when it was catalogued, and it says so."""
    if granule.starts_at is None or granule.ends_at is None:
        return {"datetime": iso(granule.created_at), "armillary:is_timeless": True}
    if granule.starts_at == granule.ends_at:
        return {"datetime": iso(granule.starts_at)}
    span = {"start_datetime": iso(granule.starts_at), "end_datetime": iso(granule.ends_at)}
    return {"datetime": granule.properties.get("datetime"), **span}


def _asset(stored: Mapping[str, Any], bands: Any, url: str, sign: Callable[[str], str] | None) -> Document:
    """A file, or a tree as its manifest; what holds the data holds the granule's bands."""
    path = file_path(stored["key"])
    manifest = stored.get("manifest")
    asset: Document = {
        "href": f"{url}{sign(path) if sign else path}",
        "type": JSON if manifest else stored["type"],
        "roles": list(stored.get("roles", [])),
        "file:size": manifest["size"] if manifest else stored["size"],
        "file:checksum": _MULTIHASH_SHA256 + stored["sha256"],
    }
    if manifest:
        asset |= {"armillary:kind": "tree", "armillary:type": stored["type"], "armillary:size_bytes": stored["size"]}
    if bands and "data" in asset["roles"]:
        asset["bands"] = bands
    return asset | {name: stored[name] for name in ("title", "description") if stored.get(name)}


def collection(shown: Collection, url: str, starts_at: datetime | None = None) -> Document:
    """A collection; it goes on growing, so that its extent in time is open and in space the whole Earth."""
    here = f"{url}/stac/collections/{quote(shown.id)}"
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "id": shown.id,
        "title": shown.title or shown.id,
        "description": shown.description or shown.title or f"The granules of {shown.id}.",
        "license": shown.licence,
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[iso(starts_at) if starts_at else None, None]]},
        },
        "links": [
            _link("self", here),
            _link("parent", f"{url}/stac"),
            _link("root", f"{url}/stac"),
            _link("items", f"{here}/items", GEOJSON),
            _link(QUERYABLES, f"{here}/queryables", SCHEMA),
        ],
    }


def collections(shown: Sequence[Document], url: str) -> Document:
    """All collections."""
    links = [_link("self", f"{url}/stac/collections"), _link("root", f"{url}/stac"), _link("parent", f"{url}/stac")]
    return {"collections": list(shown), "links": links, "numberReturned": len(shown), "numberMatched": len(shown)}


def landing(shown: Sequence[Document], url: str, instance: str) -> Document:
    """Where a STAC client begins."""
    root = f"{url}/stac"
    search = [_link("search", f"{root}/search", GEOJSON) | {"method": method} for method in ("GET", "POST")]
    children = [_link("child", f"{root}/collections/{quote(one['id'])}") | {"title": one["title"]} for one in shown]
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": f"armillary-{instance}",
        "title": "Armillary",
        "description": "The granules of this instance, on Earth, in the sky and without a place.",
        "conformsTo": list(CONFORMS_TO),
        "links": [
            _link("self", root),
            _link("root", root),
            _link("conformance", f"{root}/conformance"),
            _link("data", f"{root}/collections"),
            *search,
            _link(QUERYABLES, f"{root}/queryables", SCHEMA),
            _link("service-desc", f"{url}/openapi.json", "application/vnd.oai.openapi+json;version=3.1"),
            _link("service-doc", f"{url}/docs", "text/html"),
            *children,
        ],
    }


def found(items: Sequence[Document], links: Sequence[Document], url: str) -> Document:
    """One page of a search."""
    return {
        "type": "FeatureCollection",
        "features": list(items),
        "links": [_link("root", f"{url}/stac"), *links],
        "numberReturned": len(items),
    }


def queryables(names: Mapping[str, str], url: str, title: str) -> Document:
    """What filters may ask for, as JSON Schema; `names` are properties that granules have, with their JSON types."""
    place = {"$ref": "https://geojson.org/schema/Geometry.json"}
    types: Mapping[str, Document] = {
        "text": {"type": "string"},
        "number": {"type": "number"},
        "time": {"type": "string", "format": "date-time"},
        "geometry": place,
    }
    columns = {name: types[column.kind] | {"title": name} for name, column in cql2.COLUMNS.items()}
    others = {name: {"title": name, "type": kind} for name, kind in sorted(names.items()) if name not in columns}
    return {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$id": url,
        "type": "object",
        "title": title,
        "properties": columns | others,
        "additionalProperties": True,
    }


def select(document: Document, include: Iterable[str], exclude: Iterable[str]) -> Document:
    """The part of an item that the fields extension asks for; id and collection always stay."""
    included, excluded = [name.split(".") for name in include], [name.split(".") for name in exclude]
    chosen = document
    if included:
        wanted = [*([name] for name in ("id", "collection", "type")), *included]
        chosen = _only(document, wanted)
    return _without(chosen, [path for path in excluded if path not in (["id"], ["collection"])])


def _only(document: Document, paths: Sequence[Sequence[str]]) -> Document:
    chosen: Document = {}
    for name, value in document.items():
        below = [path[1:] for path in paths if path[0] == name]
        if any(not path for path in below):
            chosen[name] = value
        elif below and isinstance(value, dict):
            chosen[name] = _only(value, below)
    return chosen


def _without(document: Document, paths: Sequence[Sequence[str]]) -> Document:
    left: Document = {}
    for name, value in document.items():
        below = [path[1:] for path in paths if path[0] == name]
        if any(not path for path in below):
            continue
        left[name] = _without(value, below) if below and isinstance(value, dict) else value
    return left


def _link(rel: str, href: str, media_type: str = JSON) -> Document:
    return {"rel": rel, "href": href, "type": media_type}
