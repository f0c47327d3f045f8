"""One burst pair to a tile of multilook cells: geometry, deramping, resampling, flattening and summing, by blocks of lines."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from armillary_insar import kernels
from armillary_insar.elevation import Elevation
from armillary_insar.geometry import SEGMENT, PairGeometry, Window, pair_geometry, rdr2geo, to_geodetic
from armillary_insar.measurement import Measurement
from armillary_insar.orbit import polynomial
from armillary_insar.pairing import BurstPair, Mosaic
from armillary_insar.safe import Floats, StateVectors, Swath
from armillary_insar.tops import Carrier, carrier

ROWS_PER_BLOCK = 12  # multilook rows a thread works on at a time
ORBIT_MARGIN_S = 2.0


@dataclass(frozen=True)
class Tile:
    """Sums over one burst's valid samples in multilook cells of the mosaic."""

    first_row: int
    first_column: int
    cross: npt.NDArray[np.complex64]
    power1: npt.NDArray[np.float32]
    power2: npt.NDArray[np.float32]
    count: npt.NDArray[np.uint16]
    doppler_hz: npt.NDArray[np.float32]  # local Doppler frequency of the secondary at each cell's centre
    doppler_gap_hz: npt.NDArray[
        np.float32
    ]  # … less the reference's there: how far apart the dates' azimuth spectra lie
    unsolved: int  # samples whose height did not converge (layover)

    def save(self, path: Path) -> None:
        """Written aside and renamed: a file that is there is whole."""
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            first_row=self.first_row,
            first_column=self.first_column,
            cross=self.cross,
            power1=self.power1,
            power2=self.power2,
            count=self.count,
            doppler_hz=self.doppler_hz,
            doppler_gap_hz=self.doppler_gap_hz,
            unsolved=self.unsolved,
        )
        part.rename(path)

    @staticmethod
    def load(path: Path) -> "Tile":
        with np.load(path) as kept:
            return Tile(
                int(kept["first_row"]),
                int(kept["first_column"]),
                kept["cross"],
                kept["power1"],
                kept["power2"],
                kept["count"],
                kept["doppler_hz"],
                kept["doppler_gap_hz"],
                int(kept["unsolved"]),
            )


@dataclass(frozen=True)
class Faults:
    """Errors that tests put in to show that a check catches them; all off in use."""

    deramp: bool = True
    azimuth_timing_s: float = 0.0
    range_shift_samples: float = 0.0
    drop_doppler: bool = False
    flatten: bool = True


@dataclass(frozen=True)
class BurstSetup:
    """Everything a burst pair needs before its samples are read."""

    pair: BurstPair
    geometry: PairGeometry
    carrier: Carrier  # of the secondary, whose samples are moved
    reference_carrier: Carrier
    elevation: npt.NDArray[np.float32]
    azimuth_shift_s: float = 0.0
    faults: Faults = field(default_factory=Faults)


def set_up(
    pair: BurstPair,
    orbit1: StateVectors,
    orbit2: StateVectors,
    elevation: Elevation,
    azimuth_shift_s: float = 0.0,
    faults: Faults | None = None,
) -> BurstSetup:
    """Orbit polynomials, pair geometry and the secondary's carrier. `azimuth_shift_s` is what ESD found."""
    swath, burst, twin = pair.swath, pair.burst, pair.secondary_burst
    duration = swath.lines_per_burst * swath.line_interval_s
    one = polynomial(orbit1, burst.azimuth_time_s - ORBIT_MARGIN_S, burst.azimuth_time_s + duration + ORBIT_MARGIN_S)
    two = polynomial(orbit2, twin.azimuth_time_s - ORBIT_MARGIN_S, twin.azimuth_time_s + duration + ORBIT_MARGIN_S)
    window = Window(
        burst.azimuth_time_s,
        swath.line_interval_s,
        swath.lines_per_burst,
        swath.near_range_m,
        swath.range_spacing_m,
        swath.samples_per_burst,
    )
    heights = _heights_near(window, one, elevation)
    geometry = pair_geometry(
        window,
        one,
        two,
        twin.azimuth_time_s,
        heights,
        (elevation.latitude0_deg, elevation.longitude0_deg),
        (elevation.step_latitude_deg, elevation.step_longitude_deg),
    )
    faults = faults or Faults()
    other = pair.secondary_swath
    if faults.drop_doppler:
        other = replace(other, doppler=tuple(replace(p, coefficients=(0.0,)) for p in other.doppler))
    return BurstSetup(
        pair,
        geometry,
        carrier(other, twin, two),
        carrier(swath, burst, one),
        elevation.heights_m,
        azimuth_shift_s + faults.azimuth_timing_s,
        faults,
    )


def _heights_near(window: Window, orbit: object, elevation: Elevation) -> tuple[float, float]:
    """Lowest and highest elevation under a burst, with room for the polynomials."""
    footprint = np.array(window_footprint(window, orbit, elevation.span(*elevation.bounds)))
    low, high = elevation.span(*footprint.min(axis=0), *footprint.max(axis=0))
    return low - 20, high + 20


def window_footprint(window: Window, orbit: object, heights_m: tuple[float, float]) -> list[tuple[float, float]]:
    """Corners (longitude, latitude) that a burst's samples can reach between two heights."""
    t = window.start_s + np.linspace(0, window.lines, 5) * window.line_s
    r = window.near_m + np.array([0.0, window.samples * window.sample_m])
    # Higher ground lies nearer to the radar: the near edge at the highest, the far edge at the lowest.
    near = to_geodetic(rdr2geo(orbit, t, np.full(5, r[0]), np.full(5, heights_m[1])))  # type: ignore[arg-type]
    far = to_geodetic(rdr2geo(orbit, t, np.full(5, r[1]), np.full(5, heights_m[0])))  # type: ignore[arg-type]
    ring = [(float(x), float(y)) for y, x in zip(near[0], near[1], strict=True)]
    return ring + [(float(x), float(y)) for y, x in zip(far[0][::-1], far[1][::-1], strict=True)]


def form_tile(
    setup: BurstSetup,
    mosaic: Mosaic,
    reference: Measurement,
    secondary: Measurement,
    threads: int = 2,
    full: npt.NDArray[np.complex64] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Tile:
    """The burst's tile; `full`, if given, takes the flattened interferogram at full resolution."""
    tile = _empty_tile(setup, mosaic)
    rows = range(0, tile.cross.shape[0], ROWS_PER_BLOCK)
    with ThreadPoolExecutor(threads) as pool:
        unsolved = 0
        for done, failed in enumerate(
            pool.map(lambda row: _form_block(setup, mosaic, reference, secondary, tile, row, full), rows)
        ):
            unsolved += failed
            progress((done + 1) / len(rows))
    return replace(tile, unsolved=unsolved)


def _empty_tile(setup: BurstSetup, mosaic: Mosaic) -> Tile:
    pair, looks = setup.pair, mosaic.looks
    first_row, first_column = pair.first_line // looks[1], pair.first_sample // looks[0]
    end_row = min(-(-(pair.first_line + pair.swath.lines_per_burst) // looks[1]), mosaic.shape[0])
    end_column = min(-(-(pair.first_sample + pair.swath.samples_per_burst) // looks[0]), mosaic.shape[1])
    shape = (end_row - first_row, end_column - first_column)
    rows = (first_row + np.arange(shape[0]) + 0.5) * looks[1] - 0.5 - pair.first_line
    columns = (first_column + np.arange(shape[1]) + 0.5) * looks[0] - 0.5 - pair.first_sample
    one, two = _local_doppler(setup, rows, columns)
    return Tile(
        first_row,
        first_column,
        np.zeros(shape, np.complex64),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.uint16),
        two.astype(np.float32),
        (two - one).astype(np.float32),
        unsolved=0,
    )


def _local_doppler(setup: BurstSetup, lines: Floats, samples: Floats) -> tuple[Floats, Floats]:
    """f_DC of both dates at cell centres: times 2π and a timing error, the phase error of misregistration."""
    _, _, time2, difference = setup.geometry.on_grid(lines, samples, powers=1)[:, 0]
    y, x = lines[:, None], samples[None, :]
    swath, other = setup.pair.swath, setup.pair.secondary_swath
    one = setup.reference_carrier.frequency_hz(y * swath.line_interval_s - _half_duration(swath), x)
    two = setup.carrier.frequency_hz(time2 - _half_duration(other), _secondary_sample(setup, x, difference))
    return one, two


def _half_duration(swath: Swath) -> float:
    return (swath.lines_per_burst - 1) / 2 * swath.line_interval_s


def _secondary_sample(setup: BurstSetup, sample: Floats, difference_m: Floats) -> Floats:
    swath, other = setup.pair.swath, setup.pair.secondary_swath
    return sample + (swath.near_range_m - other.near_range_m + difference_m) / swath.range_spacing_m


def _form_block(
    setup: BurstSetup,
    mosaic: Mosaic,
    reference: Measurement,
    secondary: Measurement,
    tile: Tile,
    row: int,
    full: npt.NDArray[np.complex64] | None,
) -> int:
    """Sum the lines of a few multilook rows; returns the samples without a solved height."""
    pair, looks = setup.pair, mosaic.looks
    swath, burst, other, twin = pair.swath, pair.burst, pair.secondary_swath, pair.secondary_burst
    end_row = min(row + ROWS_PER_BLOCK, tile.cross.shape[0])
    first = max((tile.first_row + row) * looks[1] - pair.first_line, 0)
    last = min((tile.first_row + end_row) * looks[1] - pair.first_line, swath.lines_per_burst)
    if full is None:
        first, last = max(first, burst.valid_lines[0]), min(last, burst.valid_lines[1])
    if last <= first:
        return 0
    lines = np.arange(first, last)
    first2, last2 = _secondary_lines(setup, lines)
    re = np.empty((last2 - first2, other.samples_per_burst), np.float32)
    im = np.empty_like(re)
    table = setup.carrier.table() if setup.faults.deramp else np.zeros((3, other.samples_per_burst))
    kernels.deramp(
        secondary.lines(twin.first_line + first2, last2 - first2),
        table,
        first2 * other.line_interval_s - _half_duration(other),
        other.line_interval_s,
        re,
        im,
    )
    valid2 = np.array(
        [
            twin.valid_lines[0] - first2,
            min(twin.valid_lines[1], last2) - first2,
            twin.valid_samples[0],
            twin.valid_samples[1],
        ]
    )
    valid2[0] = max(valid2[0], 0)
    shift = setup.azimuth_shift_s
    return int(
        kernels.form_lines(
            reference.lines(burst.first_line + first, last - first),
            re,
            im,
            first2 - shift / other.line_interval_s,
            valid2,
            setup.geometry.coefficients,
            setup.geometry.azimuth_basis(lines.astype(float)),
            setup.geometry.range_basis(),
            SEGMENT,
            setup.geometry.height_mid_m,
            setup.geometry.height_half_m,
            setup.elevation,
            table,
            shift - _half_duration(other),
            other.line_interval_s,
            float(_secondary_sample(setup, np.array(0.0), np.array(0.0))) + setup.faults.range_shift_samples,
            swath.range_spacing_m,
            2 / swath.wavelength_m if setup.faults.flatten else 0.0,
            _TABLE,
            _cells(lines, burst.valid_lines, pair.first_line, looks[1], tile.first_row, tile.cross.shape[0]),
            _cells(
                np.arange(swath.samples_per_burst),
                burst.valid_samples,
                pair.first_sample,
                looks[0],
                tile.first_column,
                tile.cross.shape[1],
            ),
            tile.cross,
            tile.power1,
            tile.power2,
            tile.count,
            full[first:last] if full is not None else np.empty((0, 0), np.complex64),
        )
    )


_TABLE = kernels.kernel_table()


def _secondary_lines(setup: BurstSetup, lines: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Secondary lines that the taps of these reference lines touch."""
    other = setup.pair.secondary_swath
    edges = np.array([lines[0], lines[-1]], float)
    samples = np.linspace(0, setup.geometry.window.samples - 1, 9)
    y, x, h = np.meshgrid(
        edges,
        samples,
        setup.geometry.height_mid_m + setup.geometry.height_half_m * np.array([-1.0, 0.0, 1.0]),
        indexing="ij",
    )
    line2 = (setup.geometry.at(y, x, h)[2] + setup.azimuth_shift_s) / other.line_interval_s
    first = int(np.clip(np.floor(line2.min()) - kernels.TAPS // 2, 0, other.lines_per_burst - 1))
    last = int(np.clip(np.ceil(line2.max()) + kernels.TAPS // 2 + 1, first + 1, other.lines_per_burst))
    return first, last


def _cells(
    index: npt.NDArray[np.int64], valid: tuple[int, int], offset: int, looks: int, first: int, count: int
) -> npt.NDArray[np.int64]:
    """Tile cell of each line or sample, −1 where it is invalid or beyond the tile."""
    cell = (index + offset) // looks - first
    return np.where((index >= valid[0]) & (index < valid[1]) & (cell >= 0) & (cell < count), cell, -1)
