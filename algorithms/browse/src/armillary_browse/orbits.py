"""What an orbit file says of the time that a raster was seen: state vectors, height and speed of the satellite."""

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import hypot
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from armillary_browse.failure import Failure

EARTH_RADIUS_M = 6_371_000.0


def described(path: Path, start: str | None, end: str | None) -> dict[str, Any]:
    """The number of state vectors, in all and during the raster's time, and the extremes of radius and speed."""
    count, inside = 0, 0
    radii: list[float] = []
    speeds: list[float] = []
    for moment, position, velocity in _state_vectors(path):
        count += 1
        radii = _extremes(radii, hypot(*position))
        speeds = _extremes(speeds, hypot(*velocity))
        inside += bool(start and end and start[:19] <= moment <= end[:19])
    if not count:
        raise Failure("science error", f"{path.name} holds no state vector.", "Give an orbit file (EOF).")
    return {
        "file": path.name,
        "state_vectors": count,
        "state_vectors_during_the_raster": inside,
        "height_above_mean_radius_m": [radius - EARTH_RADIUS_M for radius in radii],
        "speed_m_s": speeds,
    }


def _extremes(known: list[float], value: float) -> list[float]:
    return [min([*known, value]), max([*known, value])]


def _state_vectors(path: Path) -> Iterator[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Time, position and velocity of each vector, one in memory at a time."""
    try:
        with _opened(path) as stream:
            # A verified input, and expat bounds what entities may expand to.
            for _, element in ElementTree.iterparse(stream):  # noqa: S314
                if element.tag == "OSV":
                    yield (
                        element.findtext("UTC", "").removeprefix("UTC=")[:19],
                        tuple(float(element.findtext(axis, "nan")) for axis in ("X", "Y", "Z")),
                        tuple(float(element.findtext(axis, "nan")) for axis in ("VX", "VY", "VZ")),
                    )
                    element.clear()
    except (ElementTree.ParseError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise Failure("science error", f"{path.name} cannot be read: {error}.", "Ingest it again.") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as stream:
            yield stream  # type: ignore[misc]
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as stream:
            yield stream
    else:
        with path.open("rb") as stream:
            yield stream
