"""Products of a finished cube: FITS, moment maps, spectrum, statistics and cost, made plane by plane.

Nothing here holds a whole cube: planes stream through, so that a cube larger than memory is no obstacle.
"""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from armillary_cube import store
from armillary_cube.plan import Plan
from armillary_cube.run import Outcome
from armillary_cube.store import Cube

SPEED_OF_LIGHT_KMS = 299_792.458
STOKES_CODE = {"I": 1, "Q": 2, "U": 3, "V": 4}
SPECSYS = {"lsrk": "LSRK", "lsrd": "LSRD", "topo": "TOPOCENT", "bary": "BARYCENT", "barycentric": "BARYCENT",
           "gcrs": "GEOCENTR", "galactocentric": "GALACTOC", "lg": "LOCALGRP", "cmb": "CMBDIPOL", "rest": "SOURCE"}  # fmt: skip


@dataclass(frozen=True)
class Moments:
    """Maps of (x, y): intensity, mean velocity and width, and the spectrum of what they hold."""

    intensity: NDArray[np.float64]  # Jy/beam × spectral unit
    velocity: NDArray[np.float64]
    width: NDArray[np.float64]
    flux_jy: NDArray[np.float64]  # per channel, of the voxels above the clip
    unit: str
    clip_sigma: float

    @property
    def total(self) -> float:
        """Σ flux × channel width, in Jy × spectral unit."""
        return float(np.nansum(self.flux_jy)) * self.step

    step: float = 1.0


def spectral_axis(plan: Plan) -> tuple[NDArray[np.float64], float, str]:
    """Velocities (radio convention) where the rest frequency is known, else frequencies in MHz; and the step."""
    frequency = np.array(plan.frequencies_hz())
    if plan.rest_frequency_hz:
        velocity = SPEED_OF_LIGHT_KMS * (1 - frequency / plan.rest_frequency_hz)
        return velocity, SPEED_OF_LIGHT_KMS * plan.channel_width_hz / plan.rest_frequency_hz, "km/s"
    return frequency / 1e6, plan.channel_width_hz / 1e6, "MHz"


def noise_jy(plane: NDArray[np.float32]) -> float:
    """The plane's noise by the median absolute deviation, which sources hardly touch."""
    return float(1.4826 * np.median(np.abs(plane - np.median(plane))))


def beam_pixels(cube: Cube, channel: int, stokes: int = 0) -> float:
    """The restoring (or fitted) beam's area in pixels."""
    major, minor, _ = cube.beams()[channel, stokes]
    return float(math.pi / (4 * math.log(2)) * major * minor / cube.plan.grid.cell_rad**2)


def moments(cube: Cube, clip_sigma: float = 4.0, clip_jy: float | None = None, window: Any = None) -> Moments:
    """Moments 0, 1 and 2 of the voxels above the clip, in one pass over the planes."""
    plan = cube.plan
    axis, step, unit = spectral_axis(plan)
    sums = np.zeros((3, plan.grid.width, plan.grid.height))
    flux = np.zeros(plan.channels)
    inside = window if window is not None else (slice(None), slice(None))
    for channel in range(plan.channels):
        plane = cube.plane(channel)
        if not np.isfinite(plane).all():
            flux[channel] = np.nan
            continue
        clip = clip_jy if clip_jy is not None else clip_sigma * noise_jy(plane)
        kept = np.where(plane > clip, plane, 0).astype(np.float64)
        for power in range(3):
            sums[power] += kept * axis[channel] ** power
        flux[channel] = kept[inside].sum() / beam_pixels(cube, channel)
    with np.errstate(invalid="ignore", divide="ignore"):
        velocity = np.where(sums[0] > 0, sums[1] / sums[0], np.nan)
        width = np.sqrt(np.maximum(sums[2] / sums[0] - velocity**2, 0))
    return Moments(sums[0] * step, velocity, width, flux, unit, clip_sigma, step)


def write_products(
    cube: Cube, out: Path, outcome: Outcome | None = None, price_per_hour: float | None = None
) -> list[Path]:
    """Write all of them into a folder and name what was written."""
    from armillary_cube import pictures  # matplotlib is slow to load and needed only here

    cube.require_sealed()
    out.mkdir(parents=True, exist_ok=True)
    found = moments(cube)
    written = [write_fits(cube, out / "cube.fits")]
    for name, map_, unit in (
        ("moment0", found.intensity, f"Jy/beam {found.unit}"), ("moment1", found.velocity, found.unit),
        ("moment2", found.width, found.unit),
    ):  # fmt: skip
        written.append(_write_map(cube.plan, out / f"{name}.fits", map_, unit))
    written.append(_write_spectrum(cube, found, out / "spectrum.csv"))
    written.append(_write_json(out / "statistics.json", statistics(cube, found)))
    if outcome is not None:
        written.append(_write_json(out / "cost.json", cost_account(outcome, price_per_hour)))
    written.append(pictures.browse(cube, found, out / "browse.png"))
    written.append(pictures.film(cube, out / "film.gif"))
    (out / "plan.json").write_text(cube.plan.to_json())
    return [*written, out / "plan.json"]


def write_fits(cube: Cube, path: Path) -> Path:
    """The cube as FITS, plane by plane: RA---SIN, DEC--SIN, FREQ and STOKES, with the beams in a table."""
    plan = cube.plan
    header = celestial_header(plan, (plan.channels, len(plan.stokes)))
    header.update(_spectral_cards(plan))
    codes = [STOKES_CODE[s] for s in plan.stokes]
    if len(codes) > 2 and len(set(np.diff(codes))) > 1:
        raise ValueError(f"Stokes {plan.stokes} is no even axis of FITS")
    header.update({
        "CTYPE4": "STOKES", "CRVAL4": float(codes[0]), "CRPIX4": 1.0,
        "CDELT4": float(codes[1] - codes[0]) if len(codes) > 1 else 1.0,
        "BUNIT": "Jy/beam", "BTYPE": "Intensity", "CASAMBM": True,
    })  # fmt: skip
    path.unlink(missing_ok=True)
    stream = fits.StreamingHDU(str(path), header)
    for stokes in range(len(plan.stokes)):
        for channel in range(plan.channels):
            stream.write(np.ascontiguousarray(cube.plane(channel, stokes).T).astype(">f4"))
    stream.close()
    fits.append(path, *_beams_table(cube))
    return path


def celestial_header(plan: Plan, further_axes: tuple[int, ...] = ()) -> fits.Header:
    """The two axes on the sky; a FITS pixel counts from 1 and the phase centre is pixel N/2 counted from 0."""
    header = fits.Header()
    sides = (plan.grid.width, plan.grid.height, *further_axes)
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, len(sides)
    for number, side in enumerate(sides, start=1):
        header[f"NAXIS{number}"] = side
    header["EXTEND"] = True
    cell = math.degrees(plan.grid.cell_rad)
    header.update({
        "CTYPE1": "RA---SIN", "CRVAL1": math.degrees(plan.ra_rad), "CRPIX1": plan.grid.width // 2 + 1.0,
        "CDELT1": -cell, "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRVAL2": math.degrees(plan.dec_rad), "CRPIX2": plan.grid.height // 2 + 1.0,
        "CDELT2": cell, "CUNIT2": "deg",
        "RADESYS": plan.sky_frame.upper(), "OBJECT": plan.field_name, "TELESCOP": plan.telescope,
        "MJD-OBS": plan.observed_mjd, "ORIGIN": "armillary-cube",
    })  # fmt: skip
    if plan.sky_frame == "fk5":
        header["EQUINOX"] = 2000.0
    return header


def _spectral_cards(plan: Plan) -> dict[str, Any]:
    cards: dict[str, Any] = {
        "CTYPE3": "FREQ", "CRVAL3": plan.first_frequency_hz, "CRPIX3": 1.0, "CDELT3": plan.channel_width_hz,
        "CUNIT3": "Hz", "SPECSYS": SPECSYS.get(plan.spectral_frame, plan.spectral_frame.upper()),
    }  # fmt: skip
    if plan.rest_frequency_hz:
        cards["RESTFRQ"] = plan.rest_frequency_hz
    return cards


def _beams_table(cube: Cube) -> tuple[NDArray[Any], fits.Header]:
    """One row per plane, as multi-beam cubes are written by CASA and read by spectral-cube and radio-beam."""
    plan = cube.plan
    beams = np.degrees(cube.beams())
    rows = [
        (float(beams[c, s, 0]) * 3600, float(beams[c, s, 1]) * 3600, float(beams[c, s, 2]), c, s)
        for s in range(len(plan.stokes))
        for c in range(plan.channels)
    ]
    table = fits.BinTableHDU(
        np.array(rows, dtype=[("BMAJ", ">f4"), ("BMIN", ">f4"), ("BPA", ">f4"), ("CHAN", ">i4"), ("POL", ">i4")]),
        name="BEAMS",
    )
    for number, unit in ((1, "arcsec"), (2, "arcsec"), (3, "deg")):
        table.header[f"TUNIT{number}"] = unit
    table.header["NCHAN"], table.header["NPOL"] = plan.channels, len(plan.stokes)
    return table.data, table.header


def _write_map(plan: Plan, path: Path, values: NDArray[np.float64], unit: str) -> Path:
    header = celestial_header(plan)
    header["BUNIT"] = unit
    fits.writeto(path, np.ascontiguousarray(values.T).astype(np.float32), header, overwrite=True)
    return path


def _write_spectrum(cube: Cube, found: Moments, path: Path) -> Path:
    axis, _, unit = spectral_axis(cube.plan)
    statistics_ = cube.statistics()[:, 0]
    with path.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["channel", "frequency_hz", f"axis_{unit.replace('/', '_per_')}", "flux_jy", *store.COLUMNS])
        for channel, frequency in enumerate(cube.plan.frequencies_hz()):
            row = [channel, f"{frequency:.6f}", f"{axis[channel]:.6f}", f"{found.flux_jy[channel]:.6g}"]
            table.writerow([*row, *(f"{v:.6g}" for v in statistics_[channel])])
    return path


def statistics(cube: Cube, found: Moments) -> dict[str, Any]:
    """What a reader wants to know first, and the numbers of every channel."""
    rows = cube.statistics()[:, 0]
    beams = np.degrees(cube.beams()[:, 0])
    peak = rows[:, store.COLUMNS.index("peak_jy")]
    return {
        "channels": cube.plan.channels,
        "empty_channels": int((cube.sum_of_weights()[:, 0] == 0).sum()),
        "peak_jy_per_beam": _number(np.nanmax(peak)) if np.isfinite(peak).any() else None,
        "peak_channel": int(np.nanargmax(peak)) if np.isfinite(peak).any() else None,
        "median_rms_jy_per_beam": _number(np.nanmedian(rows[:, store.COLUMNS.index("rms_jy")])),
        "beam_arcsec": [_number(v) for v in np.nanmedian(beams[:, :2], axis=0) * 3600],
        "beam_angle_deg": _number(np.nanmedian(beams[:, 2])),
        "integrated_flux": _number(found.total),
        "integrated_flux_unit": f"Jy {found.unit}",
        "clip_sigma": found.clip_sigma,
        "channel_columns": ["sum_of_weights", *store.COLUMNS],
        "channel_rows": [
            [_number(v) for v in (w, *row)] for w, row in zip(cube.sum_of_weights()[:, 0], rows, strict=True)
        ],
    }


def cost_account(outcome: Outcome, price_per_hour: float | None) -> dict[str, Any]:
    """What the run cost: core-seconds by stage, per thousand million visibilities and per plane, and money if priced."""
    plan = outcome.plan
    seconds = sum(outcome.cpu_seconds.values())
    imaged = plan.visibilities * outcome.tasks_done / max(1, len(plan.tasks))
    planes = plan.channels * len(plan.stokes) * outcome.tasks_done / max(1, len(plan.tasks))
    return {
        "core_seconds": _number(seconds),
        "core_seconds_by_stage": {k: _number(v) for k, v in outcome.cpu_seconds.items()},
        "wall_seconds": _number(outcome.wall_seconds),
        "visibilities": plan.visibilities,
        "core_seconds_per_1e9_visibilities": _number(seconds / imaged * 1e9) if imaged else None,
        "core_seconds_per_plane": _number(seconds / planes) if planes else None,
        "tasks_done": outcome.tasks_done,
        "tasks_resumed": outcome.tasks_resumed,
        "price": _number(seconds / 3600 * price_per_hour) if price_per_hour is not None else None,
        "price_per_core_hour": price_per_hour,
    }


def _number(value: Any) -> float | None:
    return float(f"{float(value):.9g}") if np.isfinite(value) else None


def _write_json(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=1))
    return path
