"""Reads Sentinel-1 IW SLC products in SAFE format (a folder or its zip) into frozen dataclasses."""

import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from armillary_insar.errors import Refusal

Floats = npt.NDArray[np.floating[Any]]

SPEED_OF_LIGHT = 299_792_458.0  # m/s
REPEAT_CYCLE_DAYS = 12
ORBITS_PER_CYCLE = 175
# Sentinel-1 burst identifier map, ESA S1-TN-MDA-52-7445: the bursts' grid in time along the relative orbits.
BURST_PREAMBLE_S = 2.299849
BURST_CYCLE_S = 2.758273
ORBIT_PERIOD_S = REPEAT_CYCLE_DAYS * 86400.0 / ORBITS_PER_CYCLE
MISSION_ORBIT_OFFSETS = {"S1A": 73, "S1B": 27, "S1C": 172, "S1D": 42}


@dataclass(frozen=True)
class TimedPolynomial:
    """A polynomial in two-way range time, valid around one azimuth time."""

    azimuth_time_s: float
    t0_s: float
    coefficients: tuple[float, ...]

    def at(self, range_time_s: Floats) -> Floats:
        return np.asarray(np.polynomial.polynomial.polyval(range_time_s - self.t0_s, self.coefficients))


@dataclass(frozen=True)
class Burst:
    """One burst of a subswath. Times are seconds after the product's epoch."""

    index: int
    identifier: int
    azimuth_time_s: float
    anx_time_s: float
    first_line: int  # of the burst in the measurement file
    valid_lines: tuple[int, int]  # half-open, within the burst
    valid_samples: tuple[int, int]  # half-open


@dataclass(frozen=True)
class GridPoints:
    """The annotation's own geolocation grid, flattened."""

    azimuth_time_s: Floats
    range_time_s: Floats
    line: Floats
    pixel: Floats
    latitude_deg: Floats
    longitude_deg: Floats
    height_m: Floats


@dataclass(frozen=True)
class Swath:
    """One subswath in one polarisation: what the annotation says, and where its samples are."""

    name: str
    polarisation: str
    measurement: str  # member path below the SAFE folder
    lines_per_burst: int
    samples_per_burst: int
    range_time_s: float  # two-way, of the first sample
    range_sampling_hz: float
    line_interval_s: float
    frequency_hz: float
    steering_rad_s: float
    range_bandwidth_hz: float
    range_window: float
    azimuth_bandwidth_hz: float
    azimuth_window: float
    doppler: tuple[TimedPolynomial, ...]
    fm_rate: tuple[TimedPolynomial, ...]
    bursts: tuple[Burst, ...]
    grid: GridPoints

    @property
    def wavelength_m(self) -> float:
        return SPEED_OF_LIGHT / self.frequency_hz

    @property
    def near_range_m(self) -> float:
        return self.range_time_s * SPEED_OF_LIGHT / 2

    @property
    def range_spacing_m(self) -> float:
        return SPEED_OF_LIGHT / (2 * self.range_sampling_hz)

    def middle_s(self, burst: Burst) -> float:
        """Azimuth time of the burst's middle line."""
        return burst.azimuth_time_s + (self.lines_per_burst - 1) / 2 * self.line_interval_s


@dataclass(frozen=True)
class StateVectors:
    """Earth-fixed positions and velocities at times after an epoch."""

    time_s: Floats
    position_m: Floats  # (n, 3)
    velocity_m_s: Floats  # (n, 3)


@dataclass(frozen=True)
class Product:
    """One SAFE product."""

    path: Path
    name: str
    mission: str
    epoch: datetime  # midnight before the first line; every time in seconds counts from here
    start: datetime
    stop: datetime
    absolute_orbit: int
    relative_orbit: int
    ascending: bool
    ipf_version: str
    orbit: StateVectors
    swaths: dict[str, Swath]

    @cached_property
    def files(self) -> "SafeFiles":
        return SafeFiles(self.path)


def read_product(path: Path, polarisation: str = "vv", swaths: tuple[str, ...] | None = None) -> Product:
    """Read the annotation of every subswath (or of those named) in one polarisation."""
    files = SafeFiles(path)
    annotations = [n for n in files.names if re.fullmatch(rf"annotation/s1.-iw\d-slc-{polarisation}-.*\.xml", n)]
    if not annotations:
        raise Refusal(
            f"{path.name} has no {polarisation.upper()} annotation.",
            "Choose another polarisation, or fetch the whole product again.",
            "input missing",
        )
    trees = [(name, ElementTree.fromstring(files.read(name))) for name in sorted(annotations)]  # noqa: S314
    first = trees[0][1]
    epoch = parse_time(text(first, "adsHeader/startTime")).replace(hour=0, minute=0, second=0, microsecond=0)
    read = [_read_swath(tree, name, files.names, epoch) for name, tree in trees]
    wanted = [s for s in read if swaths is None or s.name.lower() in {w.lower() for w in swaths}]
    mission = text(first, "adsHeader/missionId")
    absolute = int(text(first, "adsHeader/absoluteOrbitNumber"))
    return Product(
        path=path,
        name=path.name.removesuffix(".zip").removesuffix(".SAFE"),
        mission=mission,
        epoch=epoch,
        start=min(parse_time(text(t, "adsHeader/startTime")) for _, t in trees),
        stop=max(parse_time(text(t, "adsHeader/stopTime")) for _, t in trees),
        absolute_orbit=absolute,
        relative_orbit=relative_orbit(mission, absolute),
        ascending=text(first, "generalAnnotation/productInformation/pass").lower() == "ascending",
        ipf_version=ipf_version(files),
        orbit=_read_state_vectors(first, epoch),
        swaths={s.name: s for s in wanted},
    )


def relative_orbit(mission: str, absolute_orbit: int) -> int:
    """Track number of an absolute orbit (Sentinel-1 mission guide)."""
    offset = MISSION_ORBIT_OFFSETS.get(mission, MISSION_ORBIT_OFFSETS["S1A"])
    return (absolute_orbit - offset) % ORBITS_PER_CYCLE + 1


def burst_identifier(anx_time_middle_s: float, track: int) -> int:
    """ESA's burst number from the burst's middle sensing time after the ascending node crossing."""
    along = anx_time_middle_s + (track - 1) * ORBIT_PERIOD_S - BURST_PREAMBLE_S
    return 1 + math.floor(along / BURST_CYCLE_S)


def ipf_version(files: "SafeFiles") -> str:
    """Version of the ground processor in the manifest; empty where it does not say."""
    if "manifest.safe" not in files.names:
        return ""
    found = re.search(rb'name="Sentinel-1 IPF"\s+version="([^"]+)"', files.read("manifest.safe"))
    return found.group(1).decode() if found else ""


def parse_time(value: str) -> datetime:
    return datetime.fromisoformat(value.removeprefix("UTC="))


def seconds_after(epoch: datetime, value: str) -> float:
    return (parse_time(value) - epoch) / timedelta(seconds=1)


def text(tree: ElementTree.Element, path: str) -> str:
    """The text at a path that the format requires."""
    found = tree.find(path)
    if found is None or found.text is None:
        raise Refusal(
            f"The annotation has no {path}.", "It is not a Sentinel-1 SLC annotation; fetch the product again."
        )
    return found.text.strip()


def _read_swath(tree: ElementTree.Element, annotation: str, names: list[str], epoch: datetime) -> Swath:
    info = "imageAnnotation/imageInformation"
    processing = "imageAnnotation/processingInformation/swathProcParamsList/swathProcParams"
    lines = int(text(tree, "swathTiming/linesPerBurst"))
    track = relative_orbit(text(tree, "adsHeader/missionId"), int(text(tree, "adsHeader/absoluteOrbitNumber")))
    stem = Path(annotation).stem
    measurement = next((n for n in names if n.startswith(f"measurement/{stem}.tif")), f"measurement/{stem}.tiff")
    return Swath(
        name=text(tree, "adsHeader/swath"),
        polarisation=text(tree, "adsHeader/polarisation"),
        measurement=measurement,
        lines_per_burst=lines,
        samples_per_burst=int(text(tree, "swathTiming/samplesPerBurst")),
        range_time_s=float(text(tree, f"{info}/slantRangeTime")),
        range_sampling_hz=float(text(tree, "generalAnnotation/productInformation/rangeSamplingRate")),
        line_interval_s=float(text(tree, f"{info}/azimuthTimeInterval")),
        frequency_hz=float(text(tree, "generalAnnotation/productInformation/radarFrequency")),
        steering_rad_s=math.radians(float(text(tree, "generalAnnotation/productInformation/azimuthSteeringRate"))),
        range_bandwidth_hz=float(text(tree, f"{processing}/rangeProcessing/processingBandwidth")),
        range_window=float(text(tree, f"{processing}/rangeProcessing/windowCoefficient")),
        azimuth_bandwidth_hz=float(text(tree, f"{processing}/azimuthProcessing/processingBandwidth")),
        azimuth_window=float(text(tree, f"{processing}/azimuthProcessing/windowCoefficient")),
        doppler=tuple(_polynomials(tree, "dopplerCentroid/dcEstimateList/dcEstimate", "dataDcPolynomial", epoch)),
        fm_rate=tuple(
            _polynomials(tree, "generalAnnotation/azimuthFmRateList/azimuthFmRate", "azimuthFmRatePolynomial", epoch)
        ),
        bursts=tuple(_bursts(tree, lines, track, epoch)),
        grid=_grid(tree, epoch),
    )


def _polynomials(tree: ElementTree.Element, path: str, field: str, epoch: datetime) -> Iterator[TimedPolynomial]:
    for node in tree.findall(path):
        # Processors before IPF 2.4 wrote the FM rate as c0, c1, c2.
        if node.find(field) is None:
            coefficients = tuple(float(text(node, c)) for c in ("c0", "c1", "c2"))
        else:
            coefficients = tuple(map(float, text(node, field).split()))
        yield TimedPolynomial(seconds_after(epoch, text(node, "azimuthTime")), float(text(node, "t0")), coefficients)


def _bursts(tree: ElementTree.Element, lines: int, track: int, epoch: datetime) -> Iterator[Burst]:
    half_burst_s = lines / 2 * float(text(tree, "imageAnnotation/imageInformation/azimuthTimeInterval"))
    for index, node in enumerate(tree.findall("swathTiming/burstList/burst")):
        first = np.array(text(node, "firstValidSample").split(), dtype=np.int64)
        last = np.array(text(node, "lastValidSample").split(), dtype=np.int64)
        good = np.flatnonzero(first >= 0)
        time_s = seconds_after(epoch, text(node, "azimuthTime"))
        anx_s = float(text(node, "azimuthAnxTime"))
        written = node.find("burstId")
        identifier = (
            int(written.text) if written is not None and written.text else burst_identifier(anx_s + half_burst_s, track)
        )
        yield Burst(
            index=index,
            identifier=identifier,
            azimuth_time_s=time_s,
            anx_time_s=anx_s,
            first_line=index * lines,
            valid_lines=(int(good[0]), int(good[-1]) + 1) if good.size else (0, 0),
            valid_samples=(int(first[good].max()), int(last[good].min()) + 1) if good.size else (0, 0),
        )


def _grid(tree: ElementTree.Element, epoch: datetime) -> GridPoints:
    points = tree.findall("geolocationGrid/geolocationGridPointList/geolocationGridPoint")

    def column(name: str) -> Floats:
        return np.array([float(text(p, name)) for p in points])

    return GridPoints(
        azimuth_time_s=np.array([seconds_after(epoch, text(p, "azimuthTime")) for p in points]),
        range_time_s=column("slantRangeTime"),
        line=column("line"),
        pixel=column("pixel"),
        latitude_deg=column("latitude"),
        longitude_deg=column("longitude"),
        height_m=column("height"),
    )


def _read_state_vectors(tree: ElementTree.Element, epoch: datetime) -> StateVectors:
    nodes = tree.findall("generalAnnotation/orbitList/orbit")

    def triples(field: str) -> Floats:
        return np.array([[float(text(n, f"{field}/{axis}")) for axis in "xyz"] for n in nodes])

    return StateVectors(
        np.array([seconds_after(epoch, text(n, "time")) for n in nodes]), triples("position"), triples("velocity")
    )


class SafeFiles:
    """The files of a SAFE product by their paths below it, whether it is a folder or a zip."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise Refusal(f"There is no product at {path}.", "Give the path of a SAFE folder or zip.", "input missing")
        self.path = path
        self.zipped = path.is_file()
        members = zipfile.ZipFile(path).namelist() if self.zipped else []
        self._prefix = next((m.split("/")[0] + "/" for m in members if ".SAFE/" in m), "")
        self.names = (
            [m.removeprefix(self._prefix) for m in members if not m.endswith("/")]
            if self.zipped
            else [str(p.relative_to(path)) for p in sorted(path.rglob("*")) if p.is_file()]
        )

    def read(self, name: str) -> bytes:
        if not self.zipped:
            return (self.path / name).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self._prefix + name)

    def gdal_path(self, name: str) -> str:
        """A path that rasterio opens."""
        return f"/vsizip/{self.path.resolve()}/{self._prefix}{name}" if self.zipped else str(self.path / name)

    def member(self, name: str) -> str:
        return self._prefix + name
