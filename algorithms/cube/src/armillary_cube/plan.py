"""Deciding how a set will be imaged, from its metadata alone, and refusing with the reason what cannot be done.

The plan is stored with the product: it is the whole recipe, and two equal plans give the same bits.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path

from armillary_cube import __version__
from armillary_cube.clean import CleanSettings
from armillary_cube.errors import RefusalError
from armillary_cube.gridder import SPEED_OF_LIGHT_M_S, Grid
from armillary_cube.visibilities import Description, describe, verify_chunks
from armillary_cube.weights import correlations_for

FORMAT = "armillary-cube plan 1"
W_PHASE_TOLERANCE_RAD = 0.01  # a w-term that turns no phase further than this is left out
SMALLEST_SIDE = 32
ARCSEC_RAD = math.radians(1 / 3600)
LIBRARY_BYTES = 150_000_000
GRIDDER_BYTES_PER_PIXEL = {False: 27, True: 44}  # measured from 1,024 to 8,192 pixels a side
STOKES = "IQUV"


@dataclass(frozen=True)
class Continuum:
    """Which channels of the file hold no line (counted from 0, ends included) and the polynomial's order."""

    ranges: tuple[tuple[int, int], ...]
    order: int = 0

    def channels(self) -> tuple[int, ...]:
        return tuple(sorted({c for first, last in self.ranges for c in range(first, last + 1)}))


@dataclass(frozen=True)
class Request:
    """What a person asks for; whatever is left out is chosen from the data."""

    cell_arcsec: float | None = None
    size: tuple[int, int] | None = None
    channels: tuple[int, int] | None = None  # in the file's order, from 0, ends included
    stokes: str = "I"
    weighting: str = "natural"
    robust: float = 0.5
    w_term: str = "auto"
    continuum: Continuum | None = None
    clean: CleanSettings | None = None
    epsilon: float = 5e-5
    double: bool = False
    keep: tuple[str, ...] = ("psf",)
    partitions: tuple[str, ...] = ()
    field_name: str = ""
    rest_frequency_hz: float | None = None
    memory_bytes: int | None = None
    workers: int = 1
    task_channels: int | None = None
    # What is not done here; asking for it is refused rather than ignored.
    gridder: str = "standard"
    spectral_frame: str | None = None
    primary_beam_correction: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything decided. Channels of the product run upward in frequency whatever the file's order."""

    set_name: str
    partitions: tuple[str, ...]
    field_name: str
    grid: Grid
    first_channel: int  # of the file
    channels: int
    descending: bool
    first_frequency_hz: float
    channel_width_hz: float
    rest_frequency_hz: float | None
    spectral_frame: str
    ra_rad: float
    dec_rad: float
    sky_frame: str
    telescope: str
    observed_mjd: float
    stokes: str
    weighting: str
    robust: float
    continuum: Continuum | None
    clean: CleanSettings | None
    keep: tuple[str, ...]
    rows: int
    hands: int
    task_channels: int
    tasks: tuple[tuple[int, int], ...]  # [first, stop) in the product's channels
    task_bytes: int
    w_phase_rad: float
    reasons: tuple[str, ...]
    software: dict[str, str]

    @property
    def visibilities(self) -> int:
        """Stokes samples to be gridded, each once for the image and once for the point spread function."""
        return self.rows * self.channels * len(self.stokes)

    def frequencies_hz(self) -> list[float]:
        return [self.first_frequency_hz + i * self.channel_width_hz for i in range(self.channels)]

    def file_channels(self, first: int, stop: int) -> tuple[int, int]:
        """The file's channels [first, stop) behind the product's."""
        if self.descending:
            return self.first_channel + self.channels - stop, self.first_channel + self.channels - first
        return self.first_channel + first, self.first_channel + stop

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True)

    @property
    def digest(self) -> str:
        """Names the recipe; how the work is cut into tasks is no part of it, for it does not change a bit."""
        recipe = dataclasses.asdict(self)
        for name in ("task_channels", "tasks", "task_bytes", "reasons"):
            del recipe[name]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()

    @staticmethod
    def from_json(text: str) -> "Plan":
        raw = json.loads(text)
        if raw.pop("format", None) != FORMAT:
            raise RefusalError("The plan has another format.", f"make it again; this program writes {FORMAT!r}.")
        raw["grid"] = Grid(**raw["grid"])
        raw["clean"] = CleanSettings(**raw["clean"]) if raw["clean"] else None
        if raw["continuum"]:
            ranges = tuple((a, b) for a, b in raw["continuum"]["ranges"])
            raw["continuum"] = Continuum(ranges, raw["continuum"]["order"])
        for name in ("partitions", "keep", "reasons"):
            raw[name] = tuple(raw[name])
        raw["tasks"] = tuple((a, b) for a, b in raw["tasks"])
        return Plan(**raw)


def make_plan(path: Path, request: Request) -> Plan:
    """Read the metadata, refuse what cannot be done, and decide the rest."""
    _refuse_unsupported(request)
    about = describe(path, request.partitions, request.field_name)
    verify_chunks(about)
    first, count = _channels(about, request)
    hands = _hands(about, request)
    low, high = _band(about, first, count)
    grid, reasons, w_phase = _grid(about, request, high, low)
    _check_continuum(about, request)
    task_channels, tasks, task_bytes = _tasks(about, request, grid, first, count, hands)
    _refuse_other_frame(about, request)
    return Plan(
        set_name=path.name,
        partitions=tuple(p.name for p in about.partitions),
        field_name=about.field_name,
        grid=grid,
        first_channel=first,
        channels=count,
        descending=about.descending,
        first_frequency_hz=low,
        channel_width_hz=about.channel_width_hz,
        rest_frequency_hz=request.rest_frequency_hz or about.rest_frequency_hz,
        spectral_frame=about.spectral_frame,
        ra_rad=about.ra_rad,
        dec_rad=about.dec_rad,
        sky_frame=about.sky_frame,
        telescope=about.telescope,
        observed_mjd=40_587.0 + about.start_unix_s / 86_400.0,
        stokes=request.stokes,
        weighting=request.weighting,
        robust=request.robust,
        continuum=request.continuum,
        clean=request.clean,
        keep=tuple(sorted(set(request.keep))),
        rows=about.rows,
        hands=len(about.polarizations),
        task_channels=task_channels,
        tasks=tasks,
        task_bytes=task_bytes,
        w_phase_rad=w_phase,
        reasons=reasons,
        software={"armillary-cube": __version__, **{n: metadata.version(n) for n in ("ducc0", "radler", "numpy")}},
    )


def memory_bytes(rows: int, channels: int, hands: int, grid: Grid, stokes: int, planes: int, *, clean: bool) -> int:
    """The most that one task holds: raw block, one product of it, Stokes samples twice, uvw, gridder, planes."""
    pixels = grid.width * grid.height
    samples = rows * channels
    return int(
        LIBRARY_BYTES
        + samples * hands * 13 * (1 + 8 / 13)
        + samples * stokes * 12 * 2
        + rows * 24
        + GRIDDER_BYTES_PER_PIXEL[grid.double] * pixels
        + planes * channels * stokes * 4 * pixels
        + (6 * 4 * pixels if clean else 0)
    )


def w_phase_rad(about_w_m: float, highest_hz: float, width: int, height: int, cell_rad: float) -> float:
    """How far the w-term turns a phase at the image's corner: 2π·w·(1 − n)."""
    l, m = width / 2 * cell_rad, height / 2 * cell_rad  # noqa: E741
    if l * l + m * m >= 1:
        raise RefusalError("The image reaches beyond the hemisphere.", "choose a smaller size or cell.")
    one_minus_n = (l * l + m * m) / (1 + math.sqrt(1 - l * l - m * m))
    return 2 * math.pi * about_w_m * highest_hz / SPEED_OF_LIGHT_M_S * one_minus_n


def good_size(least: float) -> int:
    """The smallest even number not below `least` with no prime factor above 5: quick to transform."""
    size = max(SMALLEST_SIDE, 2 * math.ceil(least / 2))
    while _largest_factor(size) > 5:
        size += 2
    return size


def _largest_factor(number: int) -> int:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number


def _refuse_unsupported(request: Request) -> None:
    if request.gridder != "standard":
        raise RefusalError(
            f"gridder {request.gridder!r} is not done here: one pointing, one beam, no A-projection and no mosaics.",
            "use gridder 'standard' (the w-term has its own setting), or image the fields one by one.",
        )
    if request.primary_beam_correction:
        raise RefusalError(
            "primary_beam_correction is not done here: no beam model of the telescope is known.",
            "image without it and divide by your telescope's beam.",
        )
    if request.weighting not in ("natural", "briggs"):
        raise RefusalError(f"weighting {request.weighting!r} is unknown.", "choose natural or briggs.")
    if not -2 <= request.robust <= 2:
        raise RefusalError(f"robust is {request.robust}.", "choose a number from -2 (uniform) to 2 (natural).")
    if request.w_term not in ("auto", "on", "off"):
        raise RefusalError(f"w_term {request.w_term!r} is unknown.", "choose auto, on or off.")
    if not request.stokes or set(request.stokes) - set(STOKES) or len(set(request.stokes)) < len(request.stokes):
        raise RefusalError(f"stokes {request.stokes!r} is not a set of I, Q, U, V.", "for example: I, or IQUV.")
    if request.stokes != "".join(s for s in STOKES if s in request.stokes):
        raise RefusalError(f"stokes {request.stokes!r} is out of order.", "write them in the order I, Q, U, V.")
    if set(request.keep) - {"psf", "model", "residual"}:
        raise RefusalError(f"keep {request.keep} is unknown.", "choose among psf, model and residual.")
    floor = 1e-12 if request.double else 1e-5
    if not floor <= request.epsilon <= 0.01:
        raise RefusalError(
            f"epsilon is {request.epsilon}.", f"choose from {floor} to 0.01 (below 1e-5 needs double precision)."
        )
    _refuse_clean(request)


def _refuse_clean(request: Request) -> None:
    if request.clean is None:
        return
    if request.clean.method not in ("hogbom", "multiscale"):
        raise RefusalError(f"clean method {request.clean.method!r} is unknown.", "choose hogbom or multiscale.")
    if not 0 < request.clean.gain <= 1 or request.clean.majors < 0 or request.clean.minors < 0:
        raise RefusalError("clean: gain must lie in (0, 1], majors and minors must not be negative.", "correct them.")
    if request.clean.sigma <= 0 and request.clean.threshold_jy <= 0:
        raise RefusalError(
            "clean has neither sigma nor threshold_jy.", "give at least one, so that it knows when to end."
        )


def _refuse_other_frame(about: Description, request: Request) -> None:
    if request.spectral_frame and request.spectral_frame.lower() != about.spectral_frame:
        raise RefusalError(
            f"spectral_frame {request.spectral_frame} was asked for and the data are in {about.spectral_frame}: "
            "regridding is not done here.",
            "regrid the measurement set first (for example with CASA's mstransform).",
        )


def _channels(about: Description, request: Request) -> tuple[int, int]:
    if request.channels is None:
        return 0, about.channels
    first, last = request.channels
    if not 0 <= first <= last < about.channels:
        raise RefusalError(
            f"channels {first} to {last} is an empty or impossible selection.",
            f"the set has channels 0 to {about.channels - 1}; the first must not be above the last.",
        )
    return first, last - first + 1


def _hands(about: Description, request: Request) -> int:
    used: set[int] = set()
    for stokes in request.stokes:
        first, second, _, _ = correlations_for(stokes, about.polarizations)
        used |= {i for i in (first, second) if i is not None}
    return len(used)


def _band(about: Description, first: int, count: int) -> tuple[float, float]:
    ends = float(about.frequency_hz[first]), float(about.frequency_hz[first + count - 1])
    return min(ends), max(ends)


def _grid(about: Description, request: Request, high: float, low: float) -> tuple[Grid, tuple[str, ...], float]:
    reasons = []
    finest_rad = SPEED_OF_LIGHT_M_S / high / about.longest_baseline_m
    if request.cell_arcsec is None:
        cell_arcsec = _two_digits(finest_rad / 4 / ARCSEC_RAD)
        reasons.append(f"cell {cell_arcsec:g}″: a quarter of wavelength over the longest baseline, rounded down")
    else:
        cell_arcsec = request.cell_arcsec
    if not 0 < cell_arcsec * ARCSEC_RAD <= finest_rad / 2:
        raise RefusalError(
            f"cell_arcsec is {cell_arcsec}: the longest baseline needs at most {finest_rad / 2 / ARCSEC_RAD:.3g}″.",
            "choose a smaller positive cell, or leave it out.",
        )
    width, height, why = _size(about, request, low, cell_arcsec)
    reasons += why
    cell = cell_arcsec * ARCSEC_RAD
    phase = w_phase_rad(about.largest_w_m, high, width, height, cell)
    w_term = phase >= W_PHASE_TOLERANCE_RAD if request.w_term == "auto" else request.w_term == "on"
    reasons.append(
        f"w-term {'on' if w_term else 'off'} ({request.w_term}): it turns a corner's phase by {phase:.2g} rad, "
        f"the tolerance is {W_PHASE_TOLERANCE_RAD} rad"
    )
    return Grid(width, height, cell, w_term, request.epsilon, request.double), tuple(reasons), phase


def _size(about: Description, request: Request, low: float, cell_arcsec: float) -> tuple[int, int, list[str]]:
    if request.size is None:
        beam_arcsec = 1.1 * SPEED_OF_LIGHT_M_S / low / about.dish_diameter_m / ARCSEC_RAD
        side = good_size(2 * beam_arcsec / cell_arcsec)
        return side, side, [f"size {side}: twice the primary beam of a {about.dish_diameter_m:g} m dish"]
    for side in request.size:
        if side % 2 or side < SMALLEST_SIDE:
            raise RefusalError(
                f"size {request.size[0]}×{request.size[1]}: {side} is not an even number of at least {SMALLEST_SIDE}.",
                f"use {max(SMALLEST_SIDE, side + side % 2)} instead.",
            )
    return request.size[0], request.size[1], []


def _two_digits(value: float) -> float:
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / scale) * scale


def _check_continuum(about: Description, request: Request) -> None:
    if request.continuum is None:
        return
    chosen = request.continuum.channels()
    if not chosen or chosen[0] < 0 or chosen[-1] >= about.channels:
        raise RefusalError(
            f"continuum ranges {request.continuum.ranges} are empty or outside the set.",
            f"give line-free channels between 0 and {about.channels - 1}.",
        )
    if not 0 <= request.continuum.order <= 3 or len(chosen) <= request.continuum.order:
        raise RefusalError(
            f"continuum order {request.continuum.order} cannot be fitted to {len(chosen)} channels.",
            "choose an order from 0 to 3 below the number of line-free channels.",
        )


def _tasks(
    about: Description, request: Request, grid: Grid, first: int, count: int, hands: int
) -> tuple[int, tuple[tuple[int, int], ...], int]:
    """Blocks of channels that follow the storage chunks; a block is split only where it does not fit memory."""
    planes = 1 + len(request.keep)

    def need(channels: int) -> int:
        return memory_bytes(
            about.rows, channels, hands, grid, len(request.stokes), planes, clean=request.clean is not None
        )

    chunk = min(count, request.task_channels or max(p.chunk_channels for p in about.partitions))
    if chunk < 1:
        raise RefusalError(f"task_channels is {request.task_channels}.", "choose at least 1, or leave it out.")
    if request.memory_bytes is not None:
        each = request.memory_bytes // max(1, request.workers)
        while chunk > 1 and need(chunk) > each:
            chunk = (chunk + 1) // 2
        if need(chunk) > each:
            raise RefusalError(
                f"One channel of {about.rows:,} rows on {grid.width}×{grid.height} pixels needs "
                f"{need(1) / 1e9:.2f} GB and a worker has {each / 1e9:.2f} GB.",
                "give more memory, use fewer workers, or make the image smaller.",
            )
    return chunk, tuple(_blocks(about, first, count, chunk)), need(chunk)


def _blocks(about: Description, first: int, count: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Cut at multiples of `chunk` of the file's channels, named in the product's order."""
    edges = sorted({first, first + count, *(c for c in range(0, about.channels, chunk) if first < c < first + count)})
    blocks = list(pairwise(edges))
    if not about.descending:
        return iter([(a - first, b - first) for a, b in blocks])
    return iter(sorted((first + count - b, first + count - a) for a, b in blocks))
