"""Sentinel-1 orbit files in the Earth Explorer format (EOF): precise, restituted and predicted orbits.

They may be as delivered, gzipped (`.EOF.gz`) or zipped (`.EOF.zip`, one member).
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from armillary_formats import archive, markup, times
from armillary_formats.refusal import Refused, brief

MOST_BYTES = 256 * 1024**2
HEADER = "Earth_Explorer_File/Earth_Explorer_Header/Fixed_Header"
FIELDS = {
    "name": f"{HEADER}/File_Name",
    "mission": f"{HEADER}/Mission",
    "type": f"{HEADER}/File_Type",
    "start": f"{HEADER}/Validity_Period/Validity_Start",
    "stop": f"{HEADER}/Validity_Period/Validity_Stop",
    "created": f"{HEADER}/Source/Creation_Date",
    "software": f"{HEADER}/Source/Creator_Version",
    "vectors": "Earth_Explorer_File/Data_Block/List_of_OSVs@count",
}
OPTIONAL = {"created", "software"}


def read(path: Path) -> dict[str, Any]:
    """The STAC item of an orbit file: its validity, satellite and kind; it has no footprint."""
    texts = markup.first_texts(_chunks(path), FIELDS.values(), path.name)
    fields = {field: texts[element] for field, element in FIELDS.items() if texts.get(element)}
    for field in FIELDS.keys() - OPTIONAL:
        if field not in fields:
            raise Refused(f"{path.name} is not an orbit file: it lacks {FIELDS[field].replace('@', ' with its ')}.")
    start, end = _time(fields["start"], "Validity_Start"), _time(fields["stop"], "Validity_Stop")
    times.check_order(start, end, f"The validity of {path.name}")
    return {
        "id": fields["name"].removesuffix(".EOF"),
        "geometry": None,
        "frame": "none",
        "properties": {
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "platform": _platform(fields["mission"]),
            "constellation": "sentinel-1",
            "s1:orbit_type": fields["type"].removeprefix("AUX_"),
            "s1:state_vectors": _count(fields["vectors"]),
            **({"created": _time(fields["created"], "Creation_Date")} if "created" in fields else {}),
        },
        "assets": {path.name: {"roles": ["data"], "title": "Orbit state vectors", "type": _media_type(path)}},
    }


def _chunks(path: Path) -> Iterator[bytes]:
    """The document's bytes; the whole of it is read, as a cut is seen only at the end."""
    read_bytes = 0
    try:
        with _opened(path) as stream:
            while chunk := stream.read(256 * 1024):
                read_bytes += len(chunk)
                if read_bytes > MOST_BYTES:
                    raise Refused(f"{path.name} holds more than {MOST_BYTES} bytes, far more than an orbit file has.")
                yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Refused(f"{path.name} is damaged: {brief(error)}.") from error
    if not read_bytes:
        raise Refused(f"{path.name} is empty.")


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    return _opened_zip(path) if magic == b"PK\x03\x04" else path.open("rb")


def _opened_zip(path: Path) -> IO[bytes]:
    with archive.open_tree(path) as tree:
        orbits = [name for name in tree.sizes if name.upper().endswith(".EOF")]
        if len(orbits) != 1:
            raise Refused(f"{path.name} holds {len(orbits)} files .EOF; one is expected.")
        return io.BytesIO(archive.read_bytes(tree, orbits[0], MOST_BYTES))


def _time(text: str, field: str) -> str:
    return times.utc(text.strip().removeprefix("UTC="), field)


def _platform(mission: str) -> str:
    match = re.fullmatch(r"Sentinel-1([A-Z])", mission)
    if match is None:
        raise Refused(f"The orbit file is for {mission[:40]!a}, not for a Sentinel-1 satellite.")
    return f"sentinel-1{match[1].lower()}"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise Refused(f"The orbit file announces {text[:40]!a} state vectors; an orbit needs two.")
    return int(text)


def _media_type(path: Path) -> str:
    return {".gz": "application/gzip", ".zip": "application/zip"}.get(path.suffix.lower(), "application/xml")
