"""The inner loops, compiled: sample geometry, deramping, resampling, interferogram and multilooking, geocoding.

They live in one file because numba's cache does not see changes in a callee's file. All release the interpreter lock.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

TAPS = 8
TABLE_STEPS = 1024

F: Callable[..., Any] = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
INLINE: Callable[..., Any] = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy", inline="always")


def kernel_table(taps: int = TAPS, beta: float = 3.0) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Kaiser-windowed sinc weights for TABLE_STEPS + 1 fractional shifts, each normalised to a sum of one."""
    fraction = np.arange(TABLE_STEPS + 1)[:, None] / TABLE_STEPS
    x = np.arange(taps)[None, :] - (taps // 2 - 1) - fraction
    weights = np.sinc(x) * np.i0(beta * np.sqrt(np.clip(1 - (x / (taps / 2)) ** 2, 0, None)))
    return np.ascontiguousarray((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


@INLINE
def sincos_cycles(cycles):  # type: ignore[no-untyped-def]
    """Sine and cosine of 2π·cycles in float32, without branches so that loops vectorise.

    The reduction is in double precision; half the angle is expanded in Taylor polynomials, then doubled (error 3e-7).
    """
    y = np.float32((cycles - np.rint(cycles)) * math.pi)
    z = y * y
    s = y * (
        np.float32(1.0)
        + z
        * (
            np.float32(-1 / 6)
            + z
            * (
                np.float32(1 / 120)
                + z * (np.float32(-1 / 5040) + z * (np.float32(1 / 362880) + z * np.float32(-1 / 39916800)))
            )
        )
    )
    c = np.float32(1.0) + z * (
        np.float32(-0.5)
        + z
        * (
            np.float32(1 / 24)
            + z
            * (
                np.float32(-1 / 720)
                + z * (np.float32(1 / 40320) + z * (np.float32(-1 / 3628800) + z * np.float32(1 / 479001600)))
            )
        )
    )
    return np.float32(2.0) * s * c, c * c - s * s


@F
def deramp(raw, carrier, eta_first_s, eta_step_s, re, im):  # type: ignore[no-untyped-def]
    """Multiply raw lines (complex64) by exp(−j 2π carrier) into separate real and imaginary planes."""
    lines, samples = raw.shape
    for i in range(lines):
        eta = eta_first_s + i * eta_step_s
        for j in range(samples):
            s, c = sincos_cycles(carrier[0, j] + eta * (carrier[1, j] + eta * carrier[2, j]))
            x = raw[i, j]
            re[i, j] = x.real * c + x.imag * s
            im[i, j] = x.imag * c - x.real * s


@F
def segment_nodes(coefficients, azimuth, range_basis, nodes):  # type: ignore[no-untyped-def]
    """Contract the pair polynomials at one azimuth to (4, powers, range nodes)."""
    functions, powers, ranges, azimuths = coefficients.shape
    count = range_basis.shape[1]
    for f in range(functions):
        for k in range(powers):
            for n in range(count):
                nodes[f, k, n] = 0.0
            for j in range(ranges):
                c = 0.0
                for i in range(azimuths):
                    c += coefficients[f, k, j, i] * azimuth[i]
                for n in range(count):
                    nodes[f, k, n] += c * range_basis[j, n]


@F
def solve_heights(nodes, segment, samples, dem, mid, half, start, scaled):  # type: ignore[no-untyped-def]
    """Scaled height of every sample of a line where the bilinear elevation meets the sample's range: Newton's method.

    Each sample starts from the one before. Returns the number that did not converge (layover), kept at the last value.
    """
    rows, columns = dem.shape
    failed = 0
    inverse = 1.0 / segment
    h = start
    for j in range(samples):
        n = j // segment
        w = (j - n * segment) * inverse
        u = 1.0 - w
        a0 = nodes[0, 0, n] * u + nodes[0, 0, n + 1] * w
        a1 = nodes[0, 1, n] * u + nodes[0, 1, n + 1] * w
        a2 = nodes[0, 2, n] * u + nodes[0, 2, n + 1] * w
        a3 = nodes[0, 3, n] * u + nodes[0, 3, n + 1] * w
        a4 = nodes[0, 4, n] * u + nodes[0, 4, n + 1] * w
        b0 = nodes[1, 0, n] * u + nodes[1, 0, n + 1] * w
        b1 = nodes[1, 1, n] * u + nodes[1, 1, n + 1] * w
        b2 = nodes[1, 2, n] * u + nodes[1, 2, n + 1] * w
        b3 = nodes[1, 3, n] * u + nodes[1, 3, n + 1] * w
        b4 = nodes[1, 4, n] * u + nodes[1, 4, n + 1] * w
        done = False
        for turn in range(16):
            y = a0 + h * (a1 + h * (a2 + h * (a3 + h * a4)))
            x = b0 + h * (b1 + h * (b2 + h * (b3 + h * b4)))
            iy = min(max(int(y), 0), rows - 2)
            ix = min(max(int(x), 0), columns - 2)
            fy = y - iy
            fx = x - ix
            z00 = dem[iy, ix]
            zx = dem[iy, ix + 1] - z00
            zy = dem[iy + 1, ix] - z00
            zxy = dem[iy + 1, ix + 1] - z00 - zx - zy
            error = (z00 + fx * zx + fy * (zy + fx * zxy) - mid) - h * half
            slope = (
                (zy + fx * zxy) * (a1 + h * (2 * a2 + h * (3 * a3 + h * 4 * a4)))
                + (zx + fy * zxy) * (b1 + h * (2 * b2 + h * (3 * b3 + h * 4 * b4)))
            ) - half
            if slope > -0.2 * half:
                slope = -0.2 * half  # beyond the layover limit: creep instead of jumping
            if turn > 6:
                error *= 0.5
            h -= error / slope
            if h > 1.0:
                h = 1.0
            elif h < -1.0:
                h = -1.0
            if abs(error) < 0.01:
                done = True
                break
        if not done:
            failed += 1
        scaled[j] = h
    return failed


@F
def pair_offsets(nodes, segment, samples, scaled, time2, difference):  # type: ignore[no-untyped-def]
    """Secondary azimuth time and range difference of every sample, from its scaled height."""
    inverse = 1.0 / segment
    for n in range((samples + segment - 1) // segment):
        first = n * segment
        for j in range(first, min(first + segment, samples)):
            w = (j - first) * inverse
            h = scaled[j]
            p = nodes[2, 4, n]
            q = nodes[3, 4, n]
            p1 = nodes[2, 4, n + 1]
            q1 = nodes[3, 4, n + 1]
            p = p * h + nodes[2, 3, n]
            p1 = p1 * h + nodes[2, 3, n + 1]
            q = q * h + nodes[3, 3, n]
            q1 = q1 * h + nodes[3, 3, n + 1]
            p = p * h + nodes[2, 2, n]
            p1 = p1 * h + nodes[2, 2, n + 1]
            q = q * h + nodes[3, 2, n]
            q1 = q1 * h + nodes[3, 2, n + 1]
            p = p * h + nodes[2, 1, n]
            p1 = p1 * h + nodes[2, 1, n + 1]
            q = q * h + nodes[3, 1, n]
            q1 = q1 * h + nodes[3, 1, n + 1]
            p = p * h + nodes[2, 0, n]
            p1 = p1 * h + nodes[2, 0, n + 1]
            q = q * h + nodes[3, 0, n]
            q1 = q1 * h + nodes[3, 0, n + 1]
            time2[j] = p + (p1 - p) * w
            difference[j] = q + (q1 - q) * w


@F
def resample_line(re, im, y, x, valid, table, out_re, out_im):  # type: ignore[no-untyped-def]
    """Separable 8×8 interpolation of a line at fractional (y, x); samples outside `valid` become zero.

    valid = (first line, end line, first sample, end sample) of the planes that may be touched.
    """
    top, bottom, near, far = valid
    rows = np.empty(TAPS, np.float32)
    rows_im = np.empty(TAPS, np.float32)
    for j in range(len(x)):
        iy = math.floor(y[j])
        ix = math.floor(x[j])
        ky = int((y[j] - iy) * TABLE_STEPS + 0.5)
        kx = int((x[j] - ix) * TABLE_STEPS + 0.5)
        iy -= TAPS // 2 - 1
        ix -= TAPS // 2 - 1
        if iy < top or iy + TAPS > bottom or ix < near or ix + TAPS > far:
            out_re[j] = 0.0
            out_im[j] = 0.0
            continue
        for k in range(TAPS):
            rows[k] = 0.0
            rows_im[k] = 0.0
        for m in range(TAPS):
            w = table[ky, m]
            for k in range(TAPS):
                rows[k] += w * re[iy + m, ix + k]
                rows_im[k] += w * im[iy + m, ix + k]
        s = np.float32(0.0)
        t = np.float32(0.0)
        for k in range(TAPS):
            s += table[kx, k] * rows[k]
            t += table[kx, k] * rows_im[k]
        out_re[j] = s
        out_im[j] = t


@F
def interfere_line(  # type: ignore[no-untyped-def]
    reference,
    re,
    im,
    time2,
    sample2,
    difference,
    carrier,
    eta_first_s,
    cycles_per_metre,
    out_re,
    out_im,
):
    """s₁ s₂* exp(−j 4π (R₂ − R₁)/λ) with the secondary's carrier restored where its samples were taken."""
    last = carrier.shape[1] - 2
    for j in range(len(reference)):
        column = sample2[j]
        k = min(max(int(column), 0), last)
        w = column - k
        eta = eta_first_s + time2[j]
        low = carrier[0, k] + eta * (carrier[1, k] + eta * carrier[2, k])
        high = carrier[0, k + 1] + eta * (carrier[1, k + 1] + eta * carrier[2, k + 1])
        s, c = sincos_cycles(low + (high - low) * w + difference[j] * cycles_per_metre)
        a = reference[j].real * re[j] + reference[j].imag * im[j]
        b = reference[j].imag * re[j] - reference[j].real * im[j]
        out_re[j] = a * c + b * s
        out_im[j] = b * c - a * s


@F
def form_lines(  # type: ignore[no-untyped-def]
    reference,
    re,
    im,
    first_line2,
    valid2,
    coefficients,
    azimuth_basis,
    range_basis,
    segment,
    mid,
    half,
    dem,
    carrier,
    eta_first_s,
    line2_s,
    sample2_first,
    sample_m,
    cycles_per_metre,
    table,
    cell_rows,
    cell_columns,
    cross,
    power1,
    power2,
    count,
    full,
):
    """Interferogram of consecutive reference lines, summed into multilook cells.

    `cell_rows[i]` and `cell_columns[j]` name the cell of each line and sample (−1: none); `full` takes the lines
    themselves where it is as large as they are. Returns the samples without a solved height.
    """
    lines, samples = reference.shape
    nodes = np.empty((4, coefficients.shape[1], range_basis.shape[1]))
    scaled = np.zeros(samples)
    time2 = np.empty(samples)
    difference = np.empty(samples)
    line2 = np.empty(samples)
    sample2 = np.empty(samples)
    s_re = np.empty(samples, np.float32)
    s_im = np.empty(samples, np.float32)
    f_re = np.empty(samples, np.float32)
    f_im = np.empty(samples, np.float32)
    failed = 0
    keep = full.shape[0] == lines
    for i in range(lines):
        row = cell_rows[i]
        if row < 0 and not keep:
            continue
        segment_nodes(coefficients, azimuth_basis[i], range_basis, nodes)
        failed += solve_heights(nodes, segment, samples, dem, mid, half, scaled[0], scaled)
        pair_offsets(nodes, segment, samples, scaled, time2, difference)
        for j in range(samples):
            line2[j] = time2[j] / line2_s - first_line2
            sample2[j] = j + sample2_first + difference[j] / sample_m
        resample_line(re, im, line2, sample2, valid2, table, s_re, s_im)
        interfere_line(
            reference[i], s_re, s_im, time2, sample2, difference, carrier, eta_first_s, cycles_per_metre, f_re, f_im
        )
        if keep:
            for j in range(samples):
                full[i, j] = complex(f_re[j], f_im[j])
        if row < 0:
            continue
        for j in range(samples):
            column = cell_columns[j]
            p2 = s_re[j] * s_re[j] + s_im[j] * s_im[j]
            if column < 0 or p2 == 0.0:
                continue
            cross[row, column] += complex(f_re[j], f_im[j])
            power1[row, column] += reference[i, j].real ** 2 + reference[i, j].imag ** 2
            power2[row, column] += p2
            count[row, column] += 1
    return failed


@F
def geocode_rows(  # type: ignore[no-untyped-def]
    first_row,
    step_lat,
    step_lon,
    lat0,
    lon0,
    heights,
    orbit,
    centre_s,
    scale_s,
    start_s,
    inverse_line,
    near_m,
    inverse_sample,
    line,
    sample,
):
    """Zero-Doppler line and sample of every point of map rows with heights: Newton's method from the point before."""
    a2, e2 = 6378137.0, 6.694379990141316e-3
    degree = orbit.shape[0] - 1
    rows, columns = heights.shape
    t = 0.0
    for i in range(rows):
        phi = math.radians(lat0 + (first_row + i) * step_lat)
        sin_phi, cos_phi = math.sin(phi), math.cos(phi)
        n = a2 / math.sqrt(1 - e2 * sin_phi * sin_phi)
        for j in range(columns):
            lam = math.radians(lon0 + j * step_lon)
            h = heights[i, j]
            x = (n + h) * cos_phi * math.cos(lam)
            y = (n + h) * cos_phi * math.sin(lam)
            z = (n * (1 - e2) + h) * sin_phi
            for _ in range(12):
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
                if t > 3.0:
                    t = 3.0
                elif t < -3.0:
                    t = -3.0
                if abs(step) < 1e-10:
                    break
            line[i, j] = (t * scale_s + centre_s - start_s) * inverse_line
            sample[i, j] = (math.sqrt(dx * dx + dy * dy + dz * dz) - near_m) * inverse_sample
