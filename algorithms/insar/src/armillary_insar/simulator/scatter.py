"""From scatterers on the ground to the samples of one burst of both dates.

Each cell of a lattice on the ground holds one scatterer at a random place with a complex Gaussian reflectivity that
depends on the cell and the seed alone, so that bursts and subswaths see the same ground. A scatterer is seen at its
zero-Doppler time and range from each orbit; its point response is the annotation's windows, and in azimuth the local
Doppler of a focused TOPS target. The responses are summed by spreading onto the grid with a short Kaiser–Bessel kernel
in the deramped domain, where the response does not depend on place, and by exact filtering there (as in a non-uniform
FFT; Greengard and Lee 2004).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import fft

from armillary_insar.safe import Burst, StateVectors, Swath
from armillary_insar.simulator.scene import Grid, Scene

RANGE_TAPS, AZIMUTH_TAPS = 6, 4
STEPS = 1024
PAD = 16  # samples and lines around the burst that responses may leak into

F: Callable[..., Any] = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
Complexes = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class View:
    """One date's look at a burst: grid, orbit as a polynomial, and the deramping terms per sample."""

    start_s: float
    line_s: float
    near_m: float
    sample_m: float
    wavelength_m: float
    orbit: npt.NDArray[np.floating[Any]]  # (degree + 1, 3) in (t − middle) / scale
    middle_s: float
    scale_s: float
    rate: npt.NDArray[np.floating[Any]]  # k_t
    doppler: npt.NDArray[np.floating[Any]]
    reference: npt.NDArray[np.floating[Any]]  # η_ref


def look(swath: Swath, burst: Burst, vectors: StateVectors) -> View:
    """The view of a burst from its annotation and an orbit.

    The orbit is a least-squares polynomial through the nearest dozen state vectors: another road than the processor's.
    """
    middle_s = burst.azimuth_time_s + (swath.lines_per_burst - 1) / 2 * swath.line_interval_s
    orbit, scale_s = _orbit_polynomial(vectors, middle_s)
    velocity = orbit[1] / scale_s
    tau = swath.range_time_s + np.arange(swath.samples_per_burst) / swath.range_sampling_hz
    dc = min(swath.doppler, key=lambda p: abs(p.azimuth_time_s - middle_s))
    fm = min(swath.fm_rate, key=lambda p: abs(p.azimuth_time_s - middle_s))
    f_dc = sum(c * (tau - dc.t0_s) ** k for k, c in enumerate(dc.coefficients))
    k_a = sum(c * (tau - fm.t0_s) ** k for k, c in enumerate(fm.coefficients))
    k_s = 2 * np.linalg.norm(velocity) / swath.wavelength_m * swath.steering_rad_s
    eta_c = -np.asarray(f_dc) / np.asarray(k_a)
    return View(
        burst.azimuth_time_s,
        swath.line_interval_s,
        swath.near_range_m,
        swath.range_spacing_m,
        swath.wavelength_m,
        orbit,
        middle_s,
        scale_s,
        rate=np.asarray(k_a * k_s / (k_a - k_s)),
        doppler=np.asarray(f_dc),
        reference=eta_c - eta_c[swath.samples_per_burst // 2],
    )


def _orbit_polynomial(vectors: StateVectors, middle_s: float) -> tuple[npt.NDArray[np.floating[Any]], float]:
    """Degree ten through positions and velocities of the twelve nearest vectors, weighted alike in metres."""
    nearest = np.sort(np.argsort(np.abs(vectors.time_s - middle_s))[:12])
    scale = 60.0
    x = (vectors.time_s[nearest] - middle_s) / scale
    degree = 10
    powers = np.vander(x, degree + 1, increasing=True)
    slopes = np.zeros_like(powers)
    slopes[:, 1:] = powers[:, :-1] * np.arange(1, degree + 1)
    rows = np.concatenate([powers, slopes])
    values = np.concatenate([vectors.position_m[nearest], vectors.velocity_m_s[nearest] * scale])
    return np.ascontiguousarray(np.linalg.lstsq(rows, values, rcond=None)[0]), scale


@dataclass(frozen=True)
class Lattice:
    """Cells on the ground: latitude = lat0 + i·a_lat + j·r_lat, and so on; i along the track, j across."""

    latitude0_deg: float
    longitude0_deg: float
    along_deg: tuple[float, float]  # (latitude, longitude) per step i
    across_deg: tuple[float, float]


@dataclass(frozen=True)
class TruthCells:
    """Where truth is summed: multilook cells of the mosaic, as seen at the reference date."""

    start_s: float
    near_m: float
    looks: tuple[int, int]  # range, azimuth
    sums: npt.NDArray[
        np.floating[Any]
    ]  # (4, rows, columns): range change (m), coherence, scatterers, azimuth delay (s)


def simulate_burst(
    scene: Scene,
    lattice: Lattice,
    extent: tuple[int, int, int, int],
    reference: View,
    secondary: View,
    swath: Swath,
    truth: TruthCells,
    secondary_seed: int = 0,
) -> tuple[Complexes, Complexes]:
    """Both dates' samples, (lines, samples) each, of unit mean power per scatterer and sample."""
    shape = (swath.lines_per_burst + 2 * PAD, swath.samples_per_burst + 2 * PAD)
    size = (fft.next_fast_len(shape[0]), fft.next_fast_len(shape[1]))
    grids = [np.zeros(size, np.complex64) for _ in range(2)]
    tables = [
        _kaiser_bessel(RANGE_TAPS, swath.range_sampling_hz / swath.range_bandwidth_hz),
        _kaiser_bessel(AZIMUTH_TAPS, 1 / (swath.line_interval_s * swath.azimuth_bandwidth_hz)),
    ]
    spread(
        scene.elevation_m,
        _origin(scene.elevation_grid),
        scene.fields,
        _origin(scene.field_grid),
        np.array([lattice.latitude0_deg, lattice.longitude0_deg, *lattice.along_deg, *lattice.across_deg]),
        np.array(extent),
        np.uint64(scene.seed),
        np.uint64(secondary_seed),
        _numbers(reference),
        reference.orbit,
        _terms(reference),
        _numbers(secondary),
        secondary.orbit,
        _terms(secondary),
        tables[0],
        tables[1],
        swath.lines_per_burst,
        swath.samples_per_burst,
        grids[0],
        grids[1],
        np.array([truth.start_s, truth.near_m, *truth.looks]),
        truth.sums,
    )
    for grid, view in zip(grids, (reference, secondary), strict=True):
        _filter_range(grid, swath, tables[0])
        _filter_azimuth(grid, swath, view, tables[1])
    inner = (slice(PAD, PAD + swath.lines_per_burst), slice(PAD, PAD + swath.samples_per_burst))
    first, second = grids[0][inner], grids[1][inner]
    for samples, view in ((first, reference), (second, secondary)):
        reramp(samples, _terms(view), view.start_s - view.middle_s, view.line_s)
    return first, second


def _origin(grid: Grid) -> npt.NDArray[np.floating[Any]]:
    return np.array([grid.latitude0_deg, grid.longitude0_deg, 1 / grid.step_latitude_deg, 1 / grid.step_longitude_deg])


def _numbers(view: View) -> npt.NDArray[np.floating[Any]]:
    return np.array(
        [view.start_s, view.line_s, view.near_m, view.sample_m, view.wavelength_m, view.middle_s, view.scale_s]
    )


def _terms(view: View) -> npt.NDArray[np.floating[Any]]:
    return np.ascontiguousarray(np.stack([view.rate, view.doppler, view.reference]))


def _kaiser_bessel(taps: int, oversampling: float) -> npt.NDArray[np.float32]:
    """Weights of each tap for STEPS + 1 fractional positions."""
    beta = math.pi * taps * (1 - 1 / (2 * oversampling))
    x = np.arange(taps)[None, :] - (taps // 2 - 1) - np.arange(STEPS + 1)[:, None] / STEPS
    inside = np.clip(1 - (2 * x / taps) ** 2, 0, None)
    return np.ascontiguousarray((np.i0(beta * np.sqrt(inside)) / np.i0(beta) * (inside > 0)).astype(np.float32))


def _transform(
    table: npt.NDArray[np.float32], frequency: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.floating[Any]]:
    """Fourier transform of the spreading kernel at frequencies in cycles per sample."""
    steps, taps = table.shape[0] - 1, table.shape[1]
    x = (np.arange(taps)[None, :] - (taps // 2 - 1) - np.arange(steps)[:, None] / steps).ravel()
    keep = slice(None, None, 8)  # 128 points per sample suffice for a smooth kernel
    weights = table[:steps].astype(float)[keep].ravel()
    x = x.reshape(steps, taps)[keep].ravel()
    return np.asarray(np.cos(2 * np.pi * frequency[:, None] * x) @ weights / (steps / 8))


def _window(
    frequency_hz: npt.NDArray[np.floating[Any]], bandwidth_hz: float, coefficient: float
) -> npt.NDArray[np.floating[Any]]:
    """Generalised Hamming window over the processed band, zero outside."""
    inside = np.abs(frequency_hz) <= bandwidth_hz / 2
    return np.asarray(inside * (coefficient + (1 - coefficient) * np.cos(2 * np.pi * frequency_hz / bandwidth_hz)))


def _filter_range(grid: Complexes, swath: Swath, table: npt.NDArray[np.float32]) -> None:
    """Give every row the range response: the annotation's window, divided by the kernel's transform."""
    frequency = np.fft.fftfreq(grid.shape[1])
    window = _window(frequency * swath.range_sampling_hz, swath.range_bandwidth_hz, swath.range_window)
    response = np.where(window > 0, window / _transform(table, frequency), 0)
    response /= math.sqrt(float(np.mean(window**2)))  # unit energy
    for first in range(0, grid.shape[0], 64):
        rows = fft.fft(grid[first : first + 64], axis=1, overwrite_x=True)
        rows *= response.astype(np.float32)
        grid[first : first + 64] = fft.ifft(rows, axis=1, overwrite_x=True)


def _filter_azimuth(grid: Complexes, swath: Swath, view: View, table: npt.NDArray[np.float32]) -> None:
    """Give every column the deramped response w(η) exp(−jπ k_t η²), with the k_t of its range."""
    lines = grid.shape[0]
    frequency = np.fft.fftfreq(lines)
    correction = _transform(table, frequency)
    correction = np.where(
        np.abs(frequency) * 1.0 <= 0.5 * swath.azimuth_bandwidth_hz * swath.line_interval_s * 1.2, 1 / correction, 0
    )
    window = _window(np.fft.fftfreq(4096, swath.line_interval_s), swath.azimuth_bandwidth_hz, swath.azimuth_window)
    response = np.fft.fftshift(np.fft.ifft(window).real)
    n = np.arange(-40, 41)
    taper = np.clip((41 - np.abs(n)) / 12, 0, 1)
    kernel = response[2048 + n] * taper
    kernel /= math.sqrt(float(np.sum(kernel**2)))
    for first in range(0, grid.shape[1], 128):
        middle = min(max(first + 64 - PAD, 0), len(view.rate) - 1)
        chirp = kernel * np.exp(-1j * np.pi * view.rate[middle] * (n * swath.line_interval_s) ** 2)
        wrapped = np.zeros(lines, np.complex128)
        wrapped[n] = chirp
        transfer = (np.fft.fft(wrapped) * correction).astype(np.complex64)
        columns = np.ascontiguousarray(grid[:, first : first + 128].T)
        columns = fft.ifft(fft.fft(columns, axis=1, overwrite_x=True) * transfer, axis=1, overwrite_x=True)
        grid[:, first : first + 128] = columns.T


@F
def uniform(key):  # type: ignore[no-untyped-def]
    """A number in (0, 1) from a key: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    z = key * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (float(z >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@F
def zero_doppler(orbit, t, x, y, z):  # type: ignore[no-untyped-def]
    """Scaled time and range at which a point is broadside, by Newton's method from t."""
    degree = orbit.shape[0] - 1
    dx = dy = dz = 0.0
    for _ in range(8):
        px = py = pz = vx = vy = vz = ax = ay = az = 0.0
        for k in range(degree, -1, -1):
            ax = ax * t + 2 * vx
            ay = ay * t + 2 * vy
            az = az * t + 2 * vz
            vx = vx * t + px
            vy = vy * t + py
            vz = vz * t + pz
            px = px * t + orbit[k, 0]
            py = py * t + orbit[k, 1]
            pz = pz * t + orbit[k, 2]
        dx, dy, dz = x - px, y - py, z - pz
        step = (dx * vx + dy * vy + dz * vz) / (dx * ax + dy * ay + dz * az - vx * vx - vy * vy - vz * vz)
        t -= step
        if abs(step) < 1e-10:
            # The range is stationary in time: what the last step changes is below a nanometre.
            break
    return t, math.sqrt(dx * dx + dy * dy + dz * dz)


@F
def bilinear(grid, y, x):  # type: ignore[no-untyped-def]
    iy = min(max(int(y), 0), grid.shape[0] - 2)
    ix = min(max(int(x), 0), grid.shape[1] - 2)
    fy, fx = y - iy, x - ix
    return (1 - fy) * ((1 - fx) * grid[iy, ix] + fx * grid[iy, ix + 1]) + fy * (
        (1 - fx) * grid[iy + 1, ix] + fx * grid[iy + 1, ix + 1]
    )


@F
def spread_one(grid, line, sample, re, im, azimuth_table, range_table):  # type: ignore[no-untyped-def]
    """Add one scatterer's kernel to the grid at fractional (line, sample), both already padded."""
    iy, ix = int(line), int(sample)
    ky = int((line - iy) * STEPS + 0.5)
    kx = int((sample - ix) * STEPS + 0.5)
    iy -= AZIMUTH_TAPS // 2 - 1
    ix -= RANGE_TAPS // 2 - 1
    for m in range(AZIMUTH_TAPS):
        w = azimuth_table[ky, m]
        for k in range(RANGE_TAPS):
            grid[iy + m, ix + k] += complex(w * range_table[kx, k] * re, w * range_table[kx, k] * im)


@F
def deramped_cycles(terms, sample, eta, range_m, wavelength_m):  # type: ignore[no-untyped-def]
    """Phase of a scatterer at its own place in the deramped image: −2R/λ − k_t u²/2 − f_dc u with u = η − η_ref."""
    k = min(max(int(sample), 0), terms.shape[1] - 2)
    w = sample - k
    rate = terms[0, k] + w * (terms[0, k + 1] - terms[0, k])
    doppler = terms[1, k] + w * (terms[1, k + 1] - terms[1, k])
    u = eta - (terms[2, k] + w * (terms[2, k + 1] - terms[2, k]))
    return -2 * range_m / wavelength_m - u * (rate * u / 2 + doppler)


@F
def reramp(samples, terms, eta_first_s, line_s):  # type: ignore[no-untyped-def]
    """Restore the carrier k_t u²/2 + f_dc u on every sample."""
    for i in range(samples.shape[0]):
        for j in range(samples.shape[1]):
            u = eta_first_s + i * line_s - terms[2, j]
            c = u * (terms[0, j] * u / 2 + terms[1, j])
            a = np.float32((c - math.floor(c)) * 2 * math.pi)
            samples[i, j] *= complex(math.cos(a), math.sin(a))


@F
def spread(  # type: ignore[no-untyped-def]
    dem,
    dem_origin,
    fields,
    field_origin,
    lattice,
    extent,
    seed,
    second_seed,
    one,
    orbit1,
    terms1,
    two,
    orbit2,
    terms2,
    range_table,
    azimuth_table,
    lines,
    samples,
    grid1,
    grid2,
    truth,
    sums,
):
    """Visit every cell of the extent (i0, i1, j0, j1) and add its scatterer to both images and to the truth."""
    a2, e2 = 6378137.0, 6.69437999014e-3
    edge = PAD - 6.0
    t1 = t2 = 0.0
    for i in range(extent[0], extent[1]):
        for j in range(extent[2], extent[3]):
            key = (np.uint64(i + 8388608) << np.uint64(32)) ^ np.uint64(j + 8388608) ^ (seed << np.uint64(56))
            key = key * np.uint64(8)
            ai = i + uniform(key)
            aj = j + uniform(key + np.uint64(1))
            lat = lattice[0] + ai * lattice[2] + aj * lattice[4]
            lon = lattice[1] + ai * lattice[3] + aj * lattice[5]
            h = bilinear(dem, (lat - dem_origin[0]) * dem_origin[2], (lon - dem_origin[1]) * dem_origin[3])
            phi, lam = math.radians(lat), math.radians(lon)
            sin_phi, cos_phi = math.sin(phi), math.cos(phi)
            n = a2 / math.sqrt(1 - e2 * sin_phi * sin_phi)
            x = (n + h) * cos_phi * math.cos(lam)
            y = (n + h) * cos_phi * math.sin(lam)
            z = (n * (1 - e2) + h) * sin_phi
            t1, r1 = zero_doppler(orbit1, t1, x, y, z)
            s1 = t1 * one[6] + one[5]
            line1 = (s1 - one[0]) / one[1]
            sample1 = (r1 - one[2]) / one[3]
            if line1 < -64 or line1 > lines + 64 or sample1 < -64 or sample1 > samples + 64:
                continue  # farther than the two dates' grids can differ
            fy, fx = (lat - field_origin[0]) * field_origin[2], (lon - field_origin[1]) * field_origin[3]
            dx, dy, dz = bilinear(fields[0], fy, fx), bilinear(fields[1], fy, fx), bilinear(fields[2], fy, fx)
            gamma = bilinear(fields[3], fy, fx)
            t2, r2 = zero_doppler(orbit2, t2, x + dx, y + dy, z + dz)
            s2 = t2 * two[6] + two[5]
            line2 = (s2 - two[0]) / two[1]
            sample2 = (r2 - two[2]) / two[3]
            amplitude = math.sqrt(-math.log(uniform(key + np.uint64(2))))
            angle = uniform(key + np.uint64(3))
            key2 = key ^ (second_seed << np.uint64(48))
            other = math.sqrt(-math.log(uniform(key2 + np.uint64(4))) * (1 - gamma * gamma))
            angle2 = uniform(key2 + np.uint64(5))
            c1 = deramped_cycles(terms1, sample1, s1 - one[5], r1, one[4]) + angle
            a = np.float32((c1 - math.floor(c1)) * 2 * math.pi)
            if -edge < line1 < lines + edge and -edge < sample1 < samples + edge:
                spread_one(
                    grid1,
                    line1 + PAD,
                    sample1 + PAD,
                    np.float32(amplitude * math.cos(a)),
                    np.float32(amplitude * math.sin(a)),
                    azimuth_table,
                    range_table,
                )
            if -edge < line2 < lines + edge and -edge < sample2 < samples + edge:
                c2 = deramped_cycles(terms2, sample2, s2 - two[5], r2, two[4])
                a = np.float32((c2 + angle - math.floor(c2 + angle)) * 2 * math.pi)
                b = np.float32((c2 + angle2 - math.floor(c2 + angle2)) * 2 * math.pi)
                re = gamma * amplitude * math.cos(a) + other * math.cos(b)
                im = gamma * amplitude * math.sin(a) + other * math.sin(b)
                spread_one(
                    grid2, line2 + PAD, sample2 + PAD, np.float32(re), np.float32(im), azimuth_table, range_table
                )
            row = math.floor((s1 - truth[0]) / one[1] + 0.5) // int(truth[3])
            column = math.floor((r1 - truth[1]) / one[3] + 0.5) // int(truth[2])
            if 0 <= row < sums.shape[1] and 0 <= column < sums.shape[2]:
                # The range changes by the displacement along the line of sight.
                px = py = pz = vx = vy = vz = 0.0
                for k in range(orbit1.shape[0] - 1, -1, -1):
                    vx, vy, vz = vx * t1 + px, vy * t1 + py, vz * t1 + pz
                    px, py, pz = px * t1 + orbit1[k, 0], py * t1 + orbit1[k, 1], pz * t1 + orbit1[k, 2]
                sums[0, row, column] += ((x - px) * dx + (y - py) * dy + (z - pz) * dz) / r1
                sums[1, row, column] += gamma
                sums[2, row, column] += 1.0
                # Motion along the track delays the zero-Doppler time; the ground moves slower than the satellite by S·X/S².
                v2 = (vx * vx + vy * vy + vz * vz) * (px * x + py * y + pz * z) / (px * px + py * py + pz * pz)
                sums[3, row, column] += (dx * vx + dy * vy + dz * vz) / v2 * one[6]
