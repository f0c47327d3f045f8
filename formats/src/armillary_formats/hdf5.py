"""netCDF-4 and HDF5: global attributes, extent, time and variables, through h5py, without reading the data.

The extent comes from the attributes of the Attribute Convention for Data Discovery (geospatial_*, time_coverage_*),
else from one-dimensional coordinates as the CF conventions mark them.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from armillary_formats import footprint, times
from armillary_formats.refusal import Refused, brief

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_OBJECTS = 20_000
MOST_DESCRIBED = 200
MOST_COORDINATES = 1_000_000
MOST_TEXT = 10_000
GLOBAL_TEXTS = {"title": "title", "summary": "description", "institution": "nc:institution", "source": "nc:source"}
LATITUDE_UNITS = {"degrees_north", "degree_north", "degrees_n", "degreesn"}
LONGITUDE_UNITS = {"degrees_east", "degree_east", "degrees_e", "degreese"}
SECONDS = {
    "second": 1,
    "sec": 1,
    "s": 1,
    "minute": 60,
    "min": 60,
    "hour": 3600,
    "hr": 3600,
    "h": 3600,
    "day": 86_400,
    "d": 86_400,
}
CALENDARS = {"standard", "gregorian", "proleptic_gregorian"}


def read_netcdf(path: Path) -> dict[str, Any]:
    """The STAC item of a netCDF-4 file."""
    item = read(path)
    if not item["properties"]["nc:variables"]:
        raise Refused(f"{path.name} holds no variable.")
    item["assets"][path.name]["type"] = "application/netcdf"
    return item


def read(path: Path) -> dict[str, Any]:
    """The STAC item of an HDF5 file; without an extent that it declares, its frame is none."""
    _check_signature(path)
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = _attributes(file)
            variables = _variables(file, path.name)
            geometry = _footprint(attributes, variables, path.name)
            properties = {
                **_time(attributes, variables, path.name),
                **_texts(attributes),
                "nc:variables": [
                    _described(name, variable) for name, variable in list(variables.items())[:MOST_DESCRIBED]
                ],
            }
    except Refused:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        # h5py answers types and names that it cannot show with any of these.
        raise Refused(f"{path.name} is not a whole HDF5 file: {brief(error)}.") from error
    return {
        "geometry": geometry,
        **({"bbox": footprint.bbox(geometry)} if geometry else {}),
        "frame": "earth" if geometry else "none",
        "properties": properties,
        "assets": {path.name: {"roles": ["data"], "type": "application/x-hdf5"}},
    }


def _check_signature(path: Path) -> None:
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        # Behind a block of the user's own, the signature stands at 512 bytes or a doubling of it.
        offset = 512
        while start != SIGNATURE and offset + 8 <= min(size_bytes, 1 << 24):
            stream.seek(offset)
            if stream.read(8) == SIGNATURE:
                return
            offset *= 2
    if start[:3] == b"CDF":
        raise Refused(f"{path.name} is in the classic netCDF format; convert it to netCDF-4 (nccopy -k nc4).")
    if start != SIGNATURE:
        raise Refused(f"{path.name} is not an HDF5 file." if size_bytes else f"{path.name} is empty.")


def _variables(file: Any, name: str) -> dict[str, Any]:
    """Every dataset by its path; links out of the file are not followed."""
    import h5py

    found: dict[str, Any] = {}
    visited = 0

    def visit(path: str | bytes, node: Any) -> None:
        nonlocal visited
        visited += 1
        if visited > MOST_OBJECTS:
            raise Refused(f"{name} holds more than {MOST_OBJECTS} groups and variables.")
        if isinstance(node, h5py.Dataset):
            found[path if isinstance(path, str) else path.decode("utf-8", "replace")] = node

    file.visititems(visit)
    return found


def _attributes(node: Any) -> dict[str, Any]:
    """The attributes that are a short text or one number."""
    kept: dict[str, Any] = {}
    for key in node.attrs:
        try:
            value = node.attrs[key]
        except (OSError, TypeError, ValueError):  # a type that h5py cannot show is not one of ours
            continue
        if hasattr(value, "size") and value.size == 1:
            value = value.reshape(-1)[0] if hasattr(value, "reshape") else value
            value = value.item() if hasattr(value, "item") else value
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            kept[key] = value.replace("\0", "")[:MOST_TEXT]
        elif isinstance(value, int | float):
            kept[key] = value
    return kept


def _texts(attributes: dict[str, Any]) -> dict[str, Any]:
    found = {field: attributes[key] for key, field in GLOBAL_TEXTS.items() if isinstance(attributes.get(key), str)}
    conventions = attributes.get("Conventions")
    return {**found, **({"nc:conventions": conventions} if isinstance(conventions, str) else {})}


def _footprint(attributes: dict[str, Any], variables: dict[str, Any], name: str) -> footprint.Geometry | None:
    keys = ("geospatial_lon_min", "geospatial_lat_min", "geospatial_lon_max", "geospatial_lat_max")
    if all(key in attributes for key in keys):
        west, south, east, north = (_number(attributes[key], f"{key} of {name}") for key in keys)
        return footprint.box(west, south, east, north, f"The extent in the attributes of {name}")
    longitude = _range(_coordinate(variables, "longitude", LONGITUDE_UNITS))
    latitude = _range(_coordinate(variables, "latitude", LATITUDE_UNITS))
    if longitude is None or latitude is None:
        return None
    (west, east, column), (south, north, row) = longitude, latitude
    # Coordinates are the centres of cells; a cell at a pole ends there.
    west, east = west - column / 2, min(east + column / 2, west - column / 2 + 360)
    south, north = max(-90.0, south - row / 2), min(90.0, north + row / 2)
    return footprint.box(west, south, east, north, f"The extent of the coordinates of {name}")


def _coordinate(variables: dict[str, Any], standard_name: str, units: set[str]) -> Any:
    """The first one-dimensional variable that is marked as this coordinate."""
    for variable in _at_the_top(variables):
        if variable.ndim == 1 and 0 < variable.size <= MOST_COORDINATES and variable.dtype.kind in "iuf":
            attributes = _attributes(variable)
            is_named = attributes.get("standard_name") == standard_name
            # Bytes in another file are not this file's to tell.
            if (is_named or str(attributes.get("units", "")).lower() in units) and not (
                variable.external or variable.is_virtual
            ):
                return variable
    return None


def _at_the_top(variables: dict[str, Any]) -> list[Any]:
    """The variables outside every group: what is in a group describes that group, not the file."""
    return [variable for name, variable in variables.items() if "/" not in name]


def _range(variable: Any) -> tuple[float, float, float] | None:
    """The least and greatest value of a coordinate, and the width of its cells."""
    if variable is None:
        return None
    import numpy as np

    values = np.asarray(variable[...], dtype=float)
    if not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    return low, high, (high - low) / (values.size - 1) if values.size > 1 else 0.0


def _time(attributes: dict[str, Any], variables: dict[str, Any], name: str) -> dict[str, Any]:
    start, end = attributes.get("time_coverage_start"), attributes.get("time_coverage_end")
    if isinstance(start, str) and isinstance(end, str) and start.strip() and end.strip():
        first = times.utc(start, f"time_coverage_start of {name}")
        last = times.utc(end, f"time_coverage_end of {name}")
        times.check_order(first, last, f"The time coverage of {name}")
        return {"datetime": first, "start_datetime": first, "end_datetime": last}
    return _time_of_coordinate(variables) or {"datetime": None}


def _time_of_coordinate(variables: dict[str, Any]) -> dict[str, Any] | None:
    for variable in _at_the_top(variables):
        attributes = _attributes(variable)
        match = re.match(r"\s*([a-z]+?)s?\s+since\s+(.+)", str(attributes.get("units", "")), re.IGNORECASE)
        is_time = attributes.get("standard_name", "time") == "time" and variable.ndim <= 1 and variable.size > 0
        if not match or not is_time or variable.size > MOST_COORDINATES or variable.dtype.kind not in "iuf":
            continue
        seconds = SECONDS.get(match[1].lower())
        ends = _range(variable)
        if seconds is None or ends is None or str(attributes.get("calendar", "standard")).lower() not in CALENDARS:
            continue
        first, last = (_since(match[2], value * seconds) for value in ends[:2])
        if first and last:
            return {"datetime": first, "start_datetime": first, "end_datetime": last}
    return None


def _since(reference: str, seconds: float) -> str | None:
    text = re.sub(r"\s*(UTC|Z)\s*$", "", reference.strip())
    try:
        origin = datetime.fromisoformat(text)
        origin = origin.replace(tzinfo=UTC) if origin.tzinfo is None else origin
        return times.rfc3339(origin + timedelta(seconds=seconds))
    except (ValueError, OverflowError):
        return None


def _number(value: Any, field: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise Refused(f"{field} is {str(value)[:40]!a}, not a number.") from error
    if not math.isfinite(number):
        raise Refused(f"{field} is {number}, not a place.")
    return number


def _described(name: str, variable: Any) -> dict[str, Any]:
    attributes = _attributes(variable)
    kept = {
        key: attributes[key] for key in ("standard_name", "long_name", "units") if isinstance(attributes.get(key), str)
    }
    return {"name": name, "shape": list(variable.shape or ()), "data_type": str(variable.dtype)[:100], **kept}
