"""Compares a finished job on a simulated pair with the simulator's truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from armillary_insar import esd
from armillary_insar.interferogram import BurstSetup, Tile, set_up
from armillary_insar.job import read_job
from armillary_insar.looks import (
    SharedSpectrum,
    cramer_rao_rad,
    effective_looks,
    measured_looks,
    multilook_phase_rad,
    shared_spectrum,
)
from armillary_insar.merge import merge
from armillary_insar.pairing import BurstPair, Mosaic
from armillary_insar.process import prepare
from armillary_insar.safe import Floats
from armillary_insar.unwrap import goldstein, unwrap

EVERY_ROW = 8  # of cells, for what the baseline leaves: its mean over a burst is wanted


@dataclass(frozen=True)
class BurstAccuracy:
    """The wrapped phase of one burst against the truth. No offset or ramp is removed."""

    name: str
    rms_rad: float
    ratio_ideal: float  # to the Cramér–Rao bound of this pair, with the looks that the windows leave
    ratio_measured: float  # … with the looks measured on the image
    ratio_ground: float  # … as if the dates' spectra lay on one another
    bias_mrad: float
    bias_sigma_mrad: float
    ramp_mrad: tuple[float, float]  # azimuth, range; over the whole burst
    mean_coherence: float
    foreseen_coherence: float  # the ground's, times what baseline and Doppler leave
    baseline_coherence: float
    doppler_coherence: float  # with the little that orbits lose that are not parallel
    cells: int
    wrong_cycles: int  # of the whole mosaic


@dataclass(frozen=True)
class Truth:
    """truth.npz on the grid of a job's mosaic."""

    range_change_m: npt.NDArray[np.float64]
    coherence: npt.NDArray[np.float64]
    azimuth_delay_s: npt.NDArray[np.float64]

    @staticmethod
    def load(path: Path, mosaic: Mosaic) -> "Truth":
        """The part that the mosaic covers; both must share looks and have whole cells between their origins."""
        with np.load(path) as kept:
            lines = (mosaic.start_s - float(kept["start_s"])) / mosaic.line_s
            samples = (mosaic.near_m - float(kept["near_m"])) / mosaic.sample_m
            row, column = round(lines) / mosaic.looks[1], round(samples) / mosaic.looks[0]
            if tuple(kept["looks"]) != mosaic.looks or row % 1 or column % 1:
                raise ValueError("the truth's cells are not the mosaic's: simulate and process the same selection")
            rows = slice(int(row), int(row) + mosaic.shape[0])
            columns = slice(int(column), int(column) + mosaic.shape[1])
            return Truth(*(kept[n][rows, columns] for n in ("range_change_m", "coherence", "azimuth_delay_s")))

    def phase(self, tile: Tile, wavelength_m: float) -> npt.NDArray[np.float64]:
        """Expected phase: range change, and the azimuth motion that a TOPS burst turns into phase."""
        cut = _cut(tile)
        return np.asarray(
            4 * np.pi / wavelength_m * self.range_change_m[cut]
            + 2 * np.pi * tile.doppler_hz * self.azimuth_delay_s[cut]
        )


def _cut(tile: Tile) -> tuple[slice, slice]:
    return (
        slice(tile.first_row, tile.first_row + tile.cross.shape[0]),
        slice(tile.first_column, tile.first_column + tile.cross.shape[1]),
    )


def against_truth(job_file: Path, truth_file: Path) -> list[BurstAccuracy]:
    """Accuracy of each burst of a finished job, from the tiles that its checkpoint holds."""
    job = read_job(job_file)
    prepared = prepare(job)
    plan = prepared.plan
    truth = Truth.load(truth_file, plan.mosaic)
    tiles = {b.name: Tile.load(job.checkpoint / f"tile-{b.name}.npz") for b in plan.bursts}
    wrong = wrong_cycles(plan.bursts, tiles, plan.mosaic, truth, plan.wavelength_m)
    return [
        burst_accuracy(set_up(b, *prepared.orbits, prepared.elevation), tiles[b.name], plan.mosaic, truth, wrong)
        for b in plan.bursts
    ]


def burst_accuracy(setup: BurstSetup, tile: Tile, mosaic: Mosaic, truth: Truth, wrong: int = 0) -> BurstAccuracy:
    """Phase error of all full cells, against the least that a multilook phase of this pair has.

    Baseline and Doppler shift the dates' spectra against one another: orbits and pointing decide that, not the
    processor. Whatever the processor loses beyond it is not excused: all is foreseen, nothing taken from the image but looks.
    """
    pair = setup.pair
    expected = truth.phase(tile, pair.swath.wavelength_m)
    ground = truth.coherence[_cut(tile)]
    full = (tile.count == mosaic.looks[0] * mosaic.looks[1]) & np.isfinite(expected)
    error = np.angle(tile.cross * np.exp(-1j * np.nan_to_num(expected)))[full]
    y, x = (v / n - 0.5 for v, n in zip(np.nonzero(full), full.shape, strict=True))
    _, azimuth, across = np.linalg.lstsq(np.stack([np.ones_like(y), y, x], 1), error, rcond=None)[0]
    rms = float(np.sqrt(np.mean(error**2)))
    baseline, doppler = spectra(setup, tile, mosaic.looks)
    unit = multilook_phase_rad(ground, 1.0, baseline, doppler)[full]
    ideal, measured = effective_looks(pair.swath, mosaic.looks), measured_looks(tile.power1, full)

    def ratio(one_look: npt.NDArray[np.float64], looks: float) -> float:
        return rms / float(np.sqrt(np.mean(one_look**2) / looks))

    seen = np.abs(tile.cross[full]) / np.sqrt(tile.power1[full] * tile.power2[full])
    return BurstAccuracy(
        pair.name,
        rms,
        ratio(unit, ideal),
        ratio(unit, measured),
        ratio(cramer_rao_rad(ground[full], 1.0), measured),
        float(1e3 * error.mean()),
        float(1e3 * error.std() / np.sqrt(error.size)),
        (float(1e3 * azimuth), float(1e3 * across)),
        float(seen.mean()),
        float((ground * baseline.coherence * doppler.coherence)[full].mean()),
        float(baseline.coherence[full].mean()),
        float(doppler.coherence[full].mean()),
        int(full.sum()),
        wrong,
    )


def spectra(setup: BurstSetup, tile: Tile, looks: tuple[int, int]) -> tuple[SharedSpectrum, SharedSpectrum]:
    """What the dates share of the ground's spectrum in each cell, along range and along azimuth.

    Along range it is shifted by the fringe frequency, topography included: steep slopes toward the radar lose most (Gatelli
    et al. 1994, doi 10.1109/36.298013). Along azimuth by the Doppler gap, which pointing and burst timing leave, and the
    fringe frequency, since orbits are not quite parallel.
    """
    swath = setup.pair.swath
    across, along = fringe_frequencies(setup, tile, looks)
    along = along + tile.doppler_gap_hz * swath.line_interval_s
    range_band = swath.range_bandwidth_hz / swath.range_sampling_hz
    azimuth_band = swath.azimuth_bandwidth_hz * swath.line_interval_s
    return (
        shared_spectrum(range_band, swath.range_window, across, looks[0]),
        shared_spectrum(azimuth_band, swath.azimuth_window, along, looks[1]),
    )


def fringe_frequencies(
    setup: BurstSetup, tile: Tile, looks: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cycles per sample and per line that flattening takes off, from the range differences at the cells' corners."""
    pair, (rows, columns) = setup.pair, tile.cross.shape
    some = np.arange(0, rows, EVERY_ROW)
    lines = (tile.first_row + np.concatenate([some, some + 1])) * looks[1] - 0.5 - pair.first_line
    edges = (tile.first_column + np.arange(columns + 1)) * looks[0] - 0.5 - pair.first_sample
    functions = setup.geometry.on_grid(lines.astype(float), edges.astype(float))
    heights = _scaled_heights(setup, functions)
    cycles = np.polynomial.polynomial.polyval(heights, functions[3], tensor=False) * 2 / pair.swath.wavelength_m
    upper, lower = np.split(cycles, 2)
    across = (np.diff(upper, axis=1) + np.diff(lower, axis=1)) / 2 / looks[0]
    along = (lower - upper)[:, 1:] / looks[1]
    return np.repeat(across, EVERY_ROW, axis=0)[:rows], np.repeat(along, EVERY_ROW, axis=0)[:rows]


def _scaled_heights(setup: BurstSetup, functions: Floats) -> Floats:
    """Heights where a grid of lines and samples meets the elevation, by damped Newton steps; good to a metre or so."""
    mid, half = setup.geometry.height_mid_m, setup.geometry.height_half_m
    scaled = np.zeros(functions.shape[2:])

    def above(h: Floats) -> Floats:
        place = [np.polynomial.polynomial.polyval(h, function, tensor=False) for function in functions[:2]]
        found = map_coordinates(setup.elevation, np.stack(place), order=1, mode="nearest")
        return np.asarray(found - mid - half * h)

    for _ in range(8):
        here = above(scaled)
        slope = np.minimum((above(scaled + 5 / half) - here) / 5, -0.25)
        scaled = scaled - np.clip(here / slope, -200, 200) / half
    return scaled


def wrong_cycles(
    pairs: tuple[BurstPair, ...], tiles: dict[str, Tile], mosaic: Mosaic, truth: Truth, wavelength_m: float
) -> int:
    """Cells of the unwrapped mosaic whose whole cycles differ from the truth's, after the one free constant."""
    merged = merge(pairs, {n: esd.corrected(t, 0.0) for n, t in tiles.items()}, mosaic)
    filtered = goldstein(np.where(merged.valid, merged.normalised, 0).astype(np.complex64), 0.5)
    phase, _ = unwrap(filtered, merged.coherence, effective_looks(pairs[0].swath, mosaic.looks), merged.valid)
    off = phase - 4 * np.pi / wavelength_m * truth.range_change_m[: phase.shape[0], : phase.shape[1]]
    good = np.isfinite(off)
    cycles = np.rint((off[good] - np.median(off[good])) / (2 * np.pi))
    return int(np.count_nonzero(cycles))
