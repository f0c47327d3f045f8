"""Geometry against independent implementations, closures and hold-outs."""

import gzip
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armillary_insar.check import fringe_error, grid_errors
from armillary_insar.elevation import Elevation
from armillary_insar.geometry import (
    Window,
    geo2rdr,
    pair_geometry,
    rdr2geo,
    to_ecef,
    to_geodetic,
)
from armillary_insar.job import Job
from armillary_insar.orbit import interpolate, polynomial, read_eof
from armillary_insar.process import Prepared
from armillary_insar.safe import StateVectors, read_product
from armillary_insar.simulator.deformation import Mogi, Okada
from armillary_insar.simulator.ground import ecef, geodetic, locate
from armillary_insar.simulator.orbits import orbit_over, shifted


@given(st.floats(-85, 85), st.floats(-179, 179), st.floats(-400, 9000))
@settings(max_examples=50, deadline=None)
def test_geodetic_conversion_closes_and_agrees_with_the_simulators(lat: float, lon: float, height: float) -> None:
    there = to_ecef(np.array(lat), np.array(lon), np.array(height))
    back = [float(v) for v in to_geodetic(there)]
    assert back == pytest.approx([lat, lon, height], abs=1e-6)
    assert np.allclose(ecef(lat, lon, height), there, atol=1e-6)
    assert geodetic(there) == pytest.approx((lat, lon, height), abs=1e-6)


@given(st.floats(-60, 60), st.floats(-170, 170), st.booleans(), st.floats(0, 4000))
@settings(max_examples=20, deadline=None)
def test_radar_to_ground_and_back_closes_and_agrees_with_the_simulators(
    lat: float, lon: float, ascending: bool, height: float
) -> None:
    vectors = orbit_over(lat, lon, 870_000.0, 40_000.0, ascending)
    orbit = polynomial(vectors, 39_990, 40_010)
    t, r = np.array([39_995.0, 40_000.0, 40_004.0]), np.array([820_000.0, 870_000.0, 930_000.0])
    x = rdr2geo(orbit, t, r, np.full(3, height))
    t2, r2 = geo2rdr(orbit, x)
    assert np.abs(r2 - r).max() < 1e-6
    assert np.abs(t2 - t).max() * 7000 < 1e-6
    assert np.abs(to_geodetic(x)[2] - height).max() < 1e-6
    # The simulator solves three equations on an inflated ellipsoid, which departs from height by millimetres a kilometre.
    other = locate(vectors, 40_000.0, 870_000.0, height, ecef(lat, lon, 0))
    assert np.linalg.norm(other - x[1]) < 0.1


def test_polynomials_of_a_full_burst_are_exact_to_two_micrometres() -> None:
    """The kernels' approximation: tensor polynomials, and lines of 32 samples between their nodes."""
    vectors = orbit_over(31.0, -8.0, 830_000.0, 24_000.0, ascending=False)
    target = ecef(31.0, -8.0, 0.0)
    second = shifted(vectors, target, 24_000.0, 150.0, 60.0)
    window = Window(23_998.5, 2.0555563e-3, 1507, 800_000.0, 2.3295621, 26_818)
    one, two = (polynomial(v, 23_995, 24_005) for v in (vectors, second))
    geometry = pair_geometry(window, one, two, 23_998.5, (-100.0, 4000.0), (32.0, -10.0), (-1 / 3600, 1 / 3600))
    rng = np.random.default_rng(1)
    line, sample = rng.uniform(0, 1506, 4000), rng.uniform(0, 26_817, 4000)
    height = rng.uniform(-100, 4000, 4000)
    x = rdr2geo(one, window.start_s + line * window.line_s, window.near_m + sample * window.sample_m, height)
    t2, r2 = geo2rdr(two, x)
    lat, lon, _ = to_geodetic(x)
    exact = np.stack(
        [(lat - 32) * -3600, (lon + 10) * 3600, t2 - 23_998.5, r2 - window.near_m - sample * window.sample_m]
    )
    base = np.floor(sample / 32) * 32
    low, high = (geometry.at(line, s, height) for s in (base, base + 32))
    seen = low + (high - low) * (sample - base) / 32
    error = np.abs(seen - exact).max(axis=1)
    assert error[3] < 2e-6, "range difference, m: 0.45 mrad at a baseline of 160 m and heights of 4 km"
    assert error[2] < 2e-8, "azimuth time, s: 1e-5 lines"
    assert error[:2].max() < 1e-2, "place in the elevation, arc seconds"
    lines, samples = np.arange(3.0, 1500, 131), np.arange(9.0, 26_800, 977)
    y, x = np.meshgrid(lines, samples, indexing="ij")
    scaled = 0.4
    grid = sum(p * scaled**k for k, p in enumerate(np.moveaxis(geometry.on_grid(lines, samples), 1, 0)))
    apart = grid - geometry.at(y, x, np.full(y.shape, geometry.height_mid_m + scaled * geometry.height_half_m))
    assert np.abs(apart).max() < 1e-8, "the grid's way is the points'"


def test_flat_earth_fringes_follow_the_baseline(still_prepared: tuple[Job, Prepared]) -> None:
    assert abs(fringe_error(still_prepared[1])) < 1e-3


def test_real_annotation_grid_is_met(real_data: Path) -> None:
    for path in sorted((real_data / "safe_pair_morocco_eo_tools").glob("*.zip")):
        product = read_product(path)
        for swath in product.swaths.values():
            range_m, azimuth_s = grid_errors(swath, product.orbit)
            assert range_m < 1e-3
            assert azimuth_s < 4e-4  # ESA's grid holds a bistatic term that grows with range, the same on both dates


def test_hermite_orbit_predicts_left_out_vectors_of_a_real_orbit_file(real_data: Path) -> None:
    path = sorted((real_data / "poeorb_sentineleof").glob("*20231102*.EOF.gz"))[0]
    epoch = datetime(2023, 10, 13)
    full = read_eof(path, epoch, around=(datetime(2023, 10, 13, 5), datetime(2023, 10, 13, 6)), margin_s=0)
    half = StateVectors(full.time_s[::2], full.position_m[::2], full.velocity_m_s[::2])
    errors = [
        np.linalg.norm(interpolate(half, t) - p)
        for t, p in zip(full.time_s[5:-5:2], full.position_m[5:-5:2], strict=True)
    ]
    assert len(errors) > 100
    assert max(errors) < 1e-3


def test_geo2rdr_agrees_with_sarsen(volcano_prepared: tuple[Job, Prepared]) -> None:
    """sarsen fits its own polynomial to the state vectors and solves for zero Doppler its own way."""
    orbit_module = pytest.importorskip("sarsen.orbit")
    geocoding = pytest.importorskip("sarsen.geocoding")
    xr = pytest.importorskip("xarray")
    prepared = volcano_prepared[1]
    vectors, mosaic = prepared.orbits[0], prepared.plan.mosaic
    near = np.abs(vectors.time_s - mosaic.start_s) < 60
    epoch = np.datetime64(prepared.plan.reference.epoch, "ns")
    times = epoch + (vectors.time_s[near] * 1e9).astype("timedelta64[ns]")
    dims = {"axis": [0, 1, 2], "azimuth_time": times}
    position = xr.DataArray(vectors.position_m[near].T, dims=("axis", "azimuth_time"), coords=dims)
    theirs = orbit_module.OrbitPolyfitInterpolator.from_position(position)
    lat, lon = np.meshgrid(np.linspace(30.95, 31.1, 12), np.linspace(-8.5, -8.25, 15), indexing="ij")
    points = to_ecef(lat, lon, np.full(lat.shape, 400.0))
    dem = xr.DataArray(
        np.moveaxis(points, -1, 0), dims=("axis", "y", "x"), coords={"axis": [0, 1, 2], "y": lat[:, 0], "x": lon[0]}
    )
    seen = geocoding.backward_geocode(dem, theirs)
    their_t = (seen.azimuth_time.values - epoch) / np.timedelta64(1, "ns") * 1e-9
    their_r = np.sqrt((seen.dem_distance.values**2).sum(axis=seen.dem_distance.dims.index("axis")))
    t, r = geo2rdr(prepared.polynomials[0], points)
    assert np.abs(their_t - t).max() / mosaic.line_s < 5e-4
    assert np.abs(their_r - r).max() < 2e-3


def test_rdr2geo_agrees_with_isce_topo(real_data: Path) -> None:
    """ISCE's golden geometry of a left-looking airborne scene; its elevation is interpolated by another rule."""
    netCDF4 = pytest.importorskip("netCDF4")
    folder = real_data / "isce3_golden"
    shape = (500, 500)
    lon, lat, height = (np.fromfile(folder / "topo_winnipeg" / f"{n}.rdr", np.float64) for n in "xyz")
    with netCDF4.Dataset(folder / "winnipeg.h5") as file:
        root = next(g for name, g in file["science/LSAR"].groups.items() if name in ("SLC", "RSLC"))
        swath, orbit = root["swaths"], root["metadata/orbit"]
        vectors = StateVectors(
            np.array(orbit["time"][:]), np.array(orbit["position"][:]), np.array(orbit["velocity"][:])
        )
        times = np.array(swath["zeroDopplerTime"][:])
        ranges = np.array(swath["frequencyA/slantRange"][:])
    shape = (lon.size // len(ranges), len(ranges))
    lon, lat, height = (v.reshape(shape) for v in (lon, lat, height))
    times = times[: shape[0]]
    path = polynomial(vectors, float(times[0]), float(times[-1]), 5)
    t, r = np.meshgrid(times, ranges, indexing="ij")
    x = rdr2geo(path, t, r, height, right=False)
    ours = to_geodetic(x)
    metres = np.hypot((ours[0] - lat) * 111_200, (ours[1] - lon) * 111_320 * np.cos(np.radians(lat)))
    assert np.median(metres) < 0.005
    assert np.percentile(metres, 99) < 0.05


def test_egm96_is_added_to_orthometric_heights(real_data: Path, tmp_path: Path) -> None:
    from armillary_insar.elevation import add_geoid

    geoid = tmp_path / "egm96_15.gtx"
    geoid.write_bytes(gzip.decompress((real_data / "isce3_golden" / "egm96_15.gtx.gz").read_bytes()))
    flat = Elevation(31.9, -8.9, -0.01, 0.01, np.zeros((20, 30), np.float32), "egm96")
    raised = add_geoid(flat, geoid)
    assert raised.heights_m.min() > 40
    assert raised.heights_m.max() < 55  # Morocco lies about 48 m above the ellipsoid's zero


def test_mogi_and_okada_have_their_known_values() -> None:
    """Okada's table 2 (1985), case 2: x = 2, y = 3, d = 4, dip 70°, L = 3, W = 2."""
    assert Mogi(0, 0, 1000, 1e6).displacement(np.array(0.0), np.array(0.0))[2] == pytest.approx(0.75e6 / np.pi / 1e6)
    # In Okada's frame x is along strike from the fault's start and y toward its left; our fault is given by its upper edge.
    dip = np.radians(70)
    for rake, wanted in ((0.0, (-8.689e-3, -4.298e-3, -2.747e-3)), (90.0, (-4.682e-3, -3.527e-2, -3.564e-2))):
        fault = Okada(0.0, 0.0, 4 - 2 * np.sin(dip), 3.0, 2.0, 90.0, 70.0, rake, 1.0)
        east = np.array(2.0 - 1.5)  # strike 90°: east is along strike, its left is north
        north = np.array(3.0 - 2 * np.cos(dip))
        assert fault.displacement(east, north) == pytest.approx(wanted, rel=2e-3)
