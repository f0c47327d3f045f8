"""Describe a product: what its maker wrote in granule.json, completed from the inputs that it was made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from armillary.base import clock

Json = Mapping[str, Any]
FRAMES = ("earth", "sky", "none")
TIMES = ("datetime", "start_datetime", "end_datetime")
KNOWN = {
    "geometry",
    "bbox",
    "frame",
    "properties",
    "assets",
    "id",
    "collection",
    "type",
    "stac_version",
    "links",
    *TIMES,
}


class ItemError(ValueError):
    """granule.json cannot be used; the text says why."""


def item(written: Json, inputs: Sequence[Json]) -> dict[str, Any]:
    """The item of a product. What granule.json does not say is taken from the inputs:

    the footprint of the first input that has one, with its frame; and the span of time that all inputs cover.
    """
    properties = _properties(written)
    if not any(properties.get(name) for name in TIMES):
        properties |= _span(inputs)
    geometry, frame = _footprint(written, inputs)
    made: dict[str, Any] = {"geometry": geometry, "frame": frame, "properties": properties}
    return made | ({"bbox": written["bbox"]} if "bbox" in written else {})


def frame_of(item: Json) -> str:
    """The frame of a catalogued item."""
    properties = item.get("properties") or {}
    found = item.get("frame") or properties.get("armillary:frame")
    return str(found) if found in FRAMES else "earth" if item.get("geometry") else "none"


def _properties(written: Json) -> dict[str, Any]:
    unknown = sorted(set(written) - KNOWN)
    if unknown:
        raise ItemError(f"granule.json has {unknown[0]!r}, which is not part of an item; put it in properties")
    properties = written.get("properties", {})
    if not isinstance(properties, Mapping):
        raise ItemError("properties in granule.json is not an object")
    return {**properties, **{name: written[name] for name in TIMES if name in written}}


def _footprint(written: Json, inputs: Sequence[Json]) -> tuple[Any, str]:
    frame = written.get("frame")
    if frame is not None and frame not in FRAMES:
        raise ItemError(f"frame {frame!r} in granule.json is not earth, sky or none")
    if "geometry" in written:
        geometry = written["geometry"]
        if geometry is not None and not isinstance(geometry, Mapping):
            raise ItemError("geometry in granule.json is neither GeoJSON nor null")
        return geometry, frame or ("earth" if geometry else "none")
    if frame == "none":
        return None, "none"
    source = next((one for one in inputs if _own_footprint(one) and frame in (None, frame_of(one))), None)
    if source is None:
        return None, frame or "none"
    return _own_footprint(source), frame_of(source)


def _own_footprint(item: Json) -> Any:
    # STAC's geometry is null for the sky, whose footprint is a property.
    return item.get("geometry") or (item.get("properties") or {}).get("armillary:sky_geometry")


def _span(inputs: Sequence[Json]) -> dict[str, str]:
    """From the first start to the last end of the inputs."""
    starts, ends = [], []
    for one in inputs:
        properties = one.get("properties") or {}
        if properties.get("armillary:is_timeless"):
            continue  # its datetime is when it was catalogued
        start = properties.get("start_datetime") or properties.get("datetime")
        end = properties.get("end_datetime") or properties.get("datetime")
        if start and end:
            starts.append(clock.parse(start))
            ends.append(clock.parse(end))
    if not starts:
        return {}
    first, last = min(starts), max(ends)
    if first == last:
        return {"datetime": clock.iso(first)}
    return {"start_datetime": clock.iso(first), "end_datetime": clock.iso(last)}
