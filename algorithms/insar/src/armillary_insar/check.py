"""Invariants that hold on anyone's data, truth or no truth: geometry, carrier, registration, seams, sign, baseline.

Coherence is not among them: it stays the same under most faults of an interferometric processor.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from armillary_insar import esd, geocode, kernels
from armillary_insar.geometry import geo2rdr, to_ecef
from armillary_insar.interferogram import Faults, Tile, form_tile, set_up
from armillary_insar.job import Job, read_job
from armillary_insar.measurement import Measurement
from armillary_insar.orbit import OrbitPolynomial, polynomial
from armillary_insar.pairing import BurstPair, plan_pair
from armillary_insar.process import Prepared, geometry_closure, prepare, tile_of
from armillary_insar.safe import Burst, Floats, Product, StateVectors, Swath
from armillary_insar.tops import Carrier, carrier
from armillary_insar.viewing import viewing


@dataclass(frozen=True)
class Finding:
    """One invariant: what was measured, what is allowed, and what a failure means."""

    name: str
    value: float
    limit: float
    unit: str
    means: str

    @property
    def passed(self) -> bool:
        return bool(abs(self.value) <= self.limit)


def run(path: Path, as_json: bool, echo: Callable[[str], object]) -> int:
    """Print the report; 0 if every invariant holds, 1 if not."""
    job = read_job(path if path.is_file() else path / "job.json")
    findings = examine(job)
    if as_json:
        echo(json.dumps([asdict(f) | {"passed": f.passed} for f in findings], indent=2))
    else:
        for f in findings:
            echo(
                f"{'ok  ' if f.passed else 'FAIL'} {f.name:46} {f.value:12.6g} (limit {f.limit:g}) {f.unit}"
                + ("" if f.passed else f"\n     {f.means}")
            )
    return 0 if all(f.passed for f in findings) else 1


def examine(job: Job) -> list[Finding]:
    """All invariants of a job's pair; the first burst stands for those that need samples again."""
    prepared = prepare(job)
    first = prepared.plan.bursts[0]
    tile = tile_of(prepared, first, job.threads)
    return [
        *geometry_findings(prepared),
        *carrier_findings(prepared, first),
        *registration_findings(prepared, first, tile, job.threads),
        *symmetry_findings(prepared, first, tile, job.threads),
        *seam_findings(job, prepared),
    ]


def geometry_findings(prepared: Prepared) -> list[Finding]:
    """Closure of the geometry, the annotation's grid points, and the flat-earth fringes against the baseline."""
    points = grid_errors(prepared.plan.bursts[0].swath, prepared.orbits[0])
    return [
        Finding("rdr2geo then geo2rdr", geometry_closure(prepared), 1e-6, "m", "The orbit or the solver is broken."),
        Finding(
            "annotation's grid points, range",
            points[0],
            0.02,
            "m",
            "The orbit is not this product's, or its times are off.",
        ),
        Finding(
            "annotation's grid points, azimuth", points[1], 1e-3, "s", "The orbit's times and the product's disagree."
        ),
        Finding(
            "flat-earth fringes against the baseline",
            fringe_error(prepared),
            1e-3,
            "relative",
            "The baseline and the range differences disagree: orbits are mixed up.",
        ),
    ]


def grid_errors(swath: Swath, vectors: StateVectors) -> tuple[float, float]:
    """Largest range (m) and azimuth (s) error of the annotation's own points under the given orbit."""
    g = swath.grid
    orbit = polynomial(vectors, float(g.azimuth_time_s.min()) - 1, float(g.azimuth_time_s.max()) + 1, 9)
    t, r = geo2rdr(orbit, to_ecef(g.latitude_deg, g.longitude_deg, g.height_m))
    return (float(np.abs(r - g.range_time_s * 299_792_458.0 / 2).max()), float(np.abs(t - g.azimuth_time_s).max()))


def fringe_error(prepared: Prepared) -> float:
    """Relative difference of the flat-earth fringes across the swath: from ranges, and from 2/λ ∫ B⊥ dθ."""
    from armillary_insar.geometry import rdr2geo, to_geodetic

    one, two = prepared.polynomials
    swath = prepared.plan.bursts[0].swath
    t = prepared.plan.bursts[0].burst.azimuth_time_s + 0.5
    r = swath.near_range_m + np.linspace(0, swath.samples_per_burst * swath.range_spacing_m, 401)
    points = rdr2geo(one, np.full(r.shape, t), r, np.zeros(r.shape))
    lat, lon, height = to_geodetic(points)
    _, r2 = geo2rdr(two, points)
    counted = 2 * ((r2 - r)[-1] - (r2 - r)[0]) / swath.wavelength_m
    seen = viewing(lat, lon, height, one, two)
    # Going out in range turns the line of sight by dθ; each turn changes the range difference by B⊥ dθ.
    formula = 2 * np.trapezoid(seen.perpendicular_baseline_m, np.radians(seen.look_deg)) / swath.wavelength_m
    return float(abs(abs(formula) - abs(counted)) / max(abs(counted), 1.0))


def carrier_findings(prepared: Prepared, pair: BurstPair) -> list[Finding]:
    """The deramped spectrum must be centred, and stay where it is along the burst."""
    out = []
    for label, product, swath, burst, vectors in (
        ("reference", prepared.plan.reference, pair.swath, pair.burst, prepared.orbits[0]),
        ("secondary", prepared.plan.secondary, pair.secondary_swath, pair.secondary_burst, prepared.orbits[1]),
    ):
        middle, drift = carrier_residual(product, swath, burst, vectors)
        out += [
            Finding(f"deramped Doppler, {label}", middle, 15.0, "Hz", "The Doppler polynomial is wrong or unused."),
            Finding(
                f"deramped Doppler drift over the burst, {label}",
                drift,
                15.0,
                "Hz",
                "The steering rate, the velocity or the FM rate is wrong.",
            ),
        ]
    return out


def carrier_residual(
    product: Product, swath: Swath, burst: Burst, vectors: StateVectors, used: Carrier | None = None
) -> tuple[float, float]:
    """Doppler centroid left after deramping (Hz), and its change from the burst's first to its last third.

    The centroid is the phase of the azimuth autocorrelation at one line's lag (Madsen 1989).
    """
    orbit = burst_orbit(swath, burst, vectors)
    table = (used or carrier(swath, burst, orbit)).table()
    top, bottom = burst.valid_lines
    raw = Measurement(product, swath).lines(burst.first_line + top, bottom - top)
    re, im = np.empty(raw.shape, np.float32), np.empty(raw.shape, np.float32)
    eta = (top - (swath.lines_per_burst - 1) / 2) * swath.line_interval_s
    kernels.deramp(raw, table, eta, swath.line_interval_s, re, im)
    flat = re + 1j * im
    third = len(flat) // 3
    parts = [
        np.sum(flat[a + 1 : b] * np.conj(flat[a : b - 1]))
        for a, b in ((0, third), (0, len(flat)), (len(flat) - third, len(flat)))
    ]
    hertz = np.angle(parts) / (2 * np.pi * swath.line_interval_s)
    return float(hertz[1]), float(hertz[2] - hertz[0])


def burst_orbit(swath: Swath, burst: Burst, vectors: StateVectors) -> OrbitPolynomial:
    duration = swath.lines_per_burst * swath.line_interval_s
    return polynomial(vectors, burst.azimuth_time_s - 2, burst.azimuth_time_s + duration + 2)


def registration_findings(
    prepared: Prepared, pair: BurstPair, tile: Tile, threads: int, faults: Faults | None = None
) -> list[Finding]:
    """Where coherence peaks when the secondary is moved: at zero, or the samples are misregistered."""
    base = faults or Faults()
    step = 0.3
    line_s = pair.swath.line_interval_s

    def seen(samples: float = 0.0, lines: float = 0.0) -> Tile:
        moved = replace(
            base,
            range_shift_samples=base.range_shift_samples + samples,
            azimuth_timing_s=base.azimuth_timing_s + lines * line_s,
        )
        return form_tile(
            set_up(pair, *prepared.orbits, prepared.elevation, faults=moved),
            prepared.plan.mosaic,
            Measurement(prepared.plan.reference, pair.swath),
            Measurement(prepared.plan.secondary, pair.secondary_swath),
            threads,
        )

    across = peak(strength(seen(samples=-step)), strength(tile), strength(seen(samples=step)), step)
    along = peak(strength(seen(lines=-step)), strength(tile), strength(seen(lines=step)), step)
    return [
        Finding("range misregistration", across, 0.02, "samples", "Range timing or the range difference is wrong."),
        Finding("azimuth misregistration (coarse)", along, 0.1, "lines", "Azimuth timing is wrong; see also ESD."),
    ]


def strength(tile: Tile) -> float:
    """Mean coherence of full cells."""
    full = tile.count == tile.count.max()
    return float(np.mean(np.abs(tile.cross[full]) / np.sqrt(tile.power1[full] * tile.power2[full])))


def peak(before: float, at: float, after: float, step: float) -> float:
    """Vertex of the parabola through three values."""
    return step * (before - after) / (2 * (before - 2 * at + after))


def symmetry_findings(prepared: Prepared, pair: BurstPair, tile: Tile, threads: int) -> list[Finding]:
    """A scene with itself, the pair swapped, and the sign: a centimetre more range must turn the phase as the product says."""
    same = identity_tile(prepared, pair, threads)
    full = same.count == same.count.max()
    swapped = swap_residual(prepared, pair, tile, threads)
    turned = sign_residual(prepared, pair, tile, threads)
    return [
        Finding(
            "reference with itself: phase",
            float(np.abs(np.angle(same.cross[full])).max()),
            1e-5,
            "rad",
            "Resampling or flattening is not neutral.",
        ),
        Finding("reference with itself: 1 - coherence", 1 - strength(same), 1e-5, "1", "Resampling is not neutral."),
        Finding("swapped pair: sum of phases", swapped, 5e-3, "rad", "Reference and secondary are not treated alike."),
        Finding("sign: 1 cm more range", turned, 1e-3, "rad", "The product's sign convention does not hold."),
    ]


def identity_tile(prepared: Prepared, pair: BurstPair, threads: int) -> Tile:
    alone = replace(pair, secondary_swath=pair.swath, secondary_burst=pair.burst)
    setup = set_up(alone, prepared.orbits[0], prepared.orbits[0], prepared.elevation)
    samples = Measurement(prepared.plan.reference, pair.swath)
    return form_tile(setup, prepared.plan.mosaic, samples, samples, threads)


def swap_residual(prepared: Prepared, pair: BurstPair, tile: Tile, threads: int) -> float:
    """Mean phase of (pair) × (swapped pair), both brought to one map."""
    plan = prepared.plan
    back = plan_pair(plan.secondary, plan.reference, plan.mosaic.looks, [pair.swath.name], [pair.burst.identifier])
    twin = back.bursts[0]
    setup = set_up(twin, prepared.orbits[1], prepared.orbits[0], prepared.elevation)
    other = form_tile(
        setup,
        back.mosaic,
        Measurement(plan.secondary, twin.swath),
        Measurement(plan.reference, twin.secondary_swath),
        threads,
    )
    lon, lat = np.array(prepared.footprint).T
    grid = geocode.map_grid((lon.min(), lat.min(), lon.max(), lat.max()), 3.0)
    product = np.ones((grid.rows, grid.columns), np.complex128)
    for t, mosaic, orbit in (
        (tile, plan.mosaic, prepared.polynomials[0]),
        (other, back.mosaic, prepared.polynomials[1]),
    ):
        places, _ = geocode.mosaic_coordinates(grid, prepared.elevation, orbit, mosaic, threads)
        places -= np.array([t.first_row, t.first_column])[:, None, None]
        product *= geocode.resample_complex(t.cross, t.count == t.count.max(), places)
    return float(np.angle(np.nansum(product)))


def sign_residual(prepared: Prepared, pair: BurstPair, tile: Tile, threads: int, more_m: float = 0.01) -> float:
    """Telling the geometry that the secondary was 1 cm farther must take 4π/λ · 1 cm off the remaining phase."""
    two = prepared.orbits[1]
    lon, lat = np.array(prepared.footprint).mean(axis=0)
    ground = to_ecef(np.array(lat), np.array(lon), np.array(0.0))
    away = prepared.polynomials[1].at(np.array(prepared.polynomials[1].centre_s))[0] - ground
    moved = StateVectors(two.time_s, two.position_m + more_m * away / np.linalg.norm(away), two.velocity_m_s)
    farther = form_tile(
        set_up(pair, prepared.orbits[0], moved, prepared.elevation),
        prepared.plan.mosaic,
        Measurement(prepared.plan.reference, pair.swath),
        Measurement(prepared.plan.secondary, pair.secondary_swath),
        threads,
    )
    expected = (
        -4
        * np.pi
        / pair.swath.wavelength_m
        * mean_range_change(setup_pair(prepared, pair, two), setup_pair(prepared, pair, moved))
    )
    turned = np.angle(np.sum(farther.cross * np.conj(tile.cross)))
    return float(np.angle(np.exp(1j * (turned - expected))))


def setup_pair(prepared: Prepared, pair: BurstPair, two: StateVectors) -> Floats:
    """Range differences on a few samples of the burst (m)."""
    setup = set_up(pair, prepared.orbits[0], two, prepared.elevation)
    y, x = np.meshgrid(
        np.linspace(0, pair.swath.lines_per_burst - 1, 9),
        np.linspace(0, pair.swath.samples_per_burst - 1, 17),
        indexing="ij",
    )
    return np.asarray(setup.geometry.at(y, x, np.full(y.shape, setup.geometry.height_mid_m))[3])


def mean_range_change(before: Floats, after: Floats) -> float:
    return float(np.mean(after - before))


def seam_findings(job: Job, prepared: Prepared) -> list[Finding]:
    """Phase steps between bursts and subswaths of the finished tiles, and what ESD leaves."""
    tiles: dict[str, Tile] = {}
    for pair in prepared.plan.bursts:
        kept = job.checkpoint / f"tile-{pair.name}.npz"
        tiles[pair.name] = Tile.load(kept) if kept.exists() else tile_of(prepared, pair, job.threads)
    looks = job.parameters.looks[0] * job.parameters.looks[1]
    found = esd.estimate(esd.all_overlaps(prepared.plan.bursts, tiles, looks))
    out = []
    if found:
        lines = found.shift_s / prepared.plan.mosaic.line_s
        out.append(
            Finding(
                "azimuth misregistration by ESD",
                lines,
                0.05,
                "lines",
                "More than a real pair of one mission shows: check the orbits.",
            )
        )
        tiles = {n: esd.corrected(t, found.shift_s) for n, t in tiles.items()}
    means = "Geometry, timing or carrier differ between the two bursts, or the ground moved along the track."
    return out + [
        Finding(f"seam {o.first} | {o.second}", 1e3 * o.phase_rad, 5 + 4e3 * o.sigma_rad, "mrad", means)
        for o in esd.all_overlaps(prepared.plan.bursts, tiles, looks)
    ]
