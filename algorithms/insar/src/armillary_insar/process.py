"""From a job to a product: the steps of the processor, in order."""

import json
import math
import shutil
import signal
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from armillary_insar import esd, geocode
from armillary_insar.elevation import Elevation, read_elevation
from armillary_insar.errors import Refusal
from armillary_insar.geometry import Window, geo2rdr, rdr2geo
from armillary_insar.interferogram import Tile, form_tile, set_up, window_footprint
from armillary_insar.job import Job, Stopwatch
from armillary_insar.looks import effective_looks, measured_looks
from armillary_insar.measurement import Measurement
from armillary_insar.merge import Merged, merge
from armillary_insar.orbit import OrbitPolynomial, eof_header, polynomial, read_eof, require_cover
from armillary_insar.pairing import BurstPair, PairPlan, burst_bounds, plan_pair
from armillary_insar.products import (
    NOT_APPLIED,
    SIGN,
    Identity,
    Layers,
    stac_item,
)
from armillary_insar.safe import Product, SafeFiles, StateVectors, read_product
from armillary_insar.unwrap import goldstein, unwrap
from armillary_insar.viewing import viewing
from armillary_insar.writing import write_files

REDO_SHIFT_LINES = 0.05  # a larger timing error is resampled away instead of corrected in phase
DEM_MARGIN_DEG = 0.1


@dataclass(frozen=True)
class Prepared:
    """All that is known before the first sample is used."""

    plan: PairPlan
    orbits: tuple[StateVectors, StateVectors]
    orbit_sources: tuple[str, str]
    elevation: Elevation
    polynomials: tuple[OrbitPolynomial, OrbitPolynomial]  # over the whole mosaic
    footprint: list[tuple[float, float]]


def process(job: Job) -> Path:
    """Run the job; returns the product's folder."""
    stop_gracefully()
    watch = Stopwatch()
    job.progress(0.0, "prepare", "reading annotation, orbits and elevation")
    prepared = prepare(job)
    watch.lap("prepare")
    tiles = form_tiles(job, prepared, watch)
    misregistration, shift = register(job, prepared, tiles, watch)
    merged = merge(prepared.plan.bursts, tiles, prepared.plan.mosaic)
    watch.lap("merge")
    product = finish(job, prepared, tiles, merged, misregistration, shift, watch)
    shutil.rmtree(job.folder / "scratch", ignore_errors=True)
    job.progress(1.0, "done", product.name)
    return product


def stop_gracefully() -> None:
    """SIGTERM ends the job as preempted; finished bursts are already in the checkpoint."""

    def stop(*_: object) -> None:
        raise Refusal("Stopped by SIGTERM.", "The next attempt continues after the last finished burst.", "preempted")

    signal.signal(signal.SIGTERM, stop)


def prepare(job: Job) -> Prepared:
    """Read what is light, and refuse what cannot work before anything heavy."""
    reference, secondary = (open_product(job, role) for role in ("reference", "secondary"))
    if reference.start > secondary.start:
        raise Refusal(
            "The reference is later than the secondary.",
            "Exchange the two roles: the reference is the earlier scene, so that the sign convention holds.",
        )
    p = job.parameters
    area = (p.area[0], p.area[1], p.area[2], p.area[3]) if p.area else None
    plan = plan_pair(reference, secondary, p.looks, p.swaths, p.bursts, area)
    orbits, sources = zip(*(find_orbit(job, product) for product in (reference, secondary)), strict=True)
    for product, vectors in zip((reference, secondary), orbits, strict=True):
        require_cover(vectors, *_times(plan, product), name=f"The orbit of {product.name}")
    polynomials = tuple(
        polynomial(v, *_times(plan, product), degree=9)
        for product, v in zip((reference, secondary), orbits, strict=True)
    )
    elevation, footprint = elevation_under(job, plan, polynomials[0])
    plan = unpacked(job, plan)
    check_samples(plan)
    return Prepared(plan, orbits, sources, elevation, (polynomials[0], polynomials[1]), footprint)


def open_product(job: Job, role: str) -> Product:
    return read_product(find_safe(job.paths(role)[0]), job.parameters.polarisation.lower())


def find_safe(folder: Path) -> Path:
    """The SAFE folder or zip in a granule's folder."""
    if folder.is_file() or (folder / "annotation").is_dir():
        return folder
    candidates = (
        sorted(p for p in folder.iterdir() if p.suffix == ".zip" or (p / "annotation").is_dir())
        if folder.is_dir()
        else []
    )
    if not candidates:
        raise Refusal(
            f"{folder.name} holds no SAFE folder and no zip.",
            "Bind a Sentinel-1 SLC product to the role.",
            "input missing",
        )
    return candidates[0]


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    return [p for p in found if p.name.lower().endswith(suffixes)]


def find_orbit(job: Job, product: Product) -> tuple[StateVectors, str]:
    """The orbit file that covers the product (precise before restituted), or else the annotation's vectors."""
    files = [f for folder in job.paths("orbits") for f in files_in(folder, (".eof", ".eof.gz"))]
    covering = []
    for file in files:
        mission, kind, start, stop = eof_header(file)
        if mission == product.mission and start <= product.start and stop >= product.stop:
            covering.append((kind, file))
    if covering:
        chosen = min(covering)[1]  # AUX_POEORB sorts before AUX_RESORB
        return read_eof(chosen, product.epoch, around=(product.start, product.stop)), chosen.name
    if files and any(
        eof_header(f)[0] == product.mission and abs((eof_header(f)[2] - product.start).days) < 3 for f in files
    ):
        raise Refusal(
            f"No orbit file covers {product.name}.",
            "Give the orbit file whose validity spans it, or give none to use the annotation's orbit.",
            "input missing",
        )
    return product.orbit, "annotation"


def _times(plan: PairPlan, product: Product) -> tuple[float, float]:
    """First and last azimuth time of the chosen bursts, with the margin that the geometry uses."""
    reference = product is plan.reference or product.name == plan.reference.name
    bursts = [(p.swath, p.burst) if reference else (p.secondary_swath, p.secondary_burst) for p in plan.bursts]
    return (
        min(b.azimuth_time_s for _, b in bursts) - 2.0,
        max(b.azimuth_time_s + s.lines_per_burst * s.line_interval_s for s, b in bursts) + 2.0,
    )


def elevation_under(job: Job, plan: PairPlan, orbit: OrbitPolynomial) -> tuple[Elevation, list[tuple[float, float]]]:
    """Ellipsoidal heights under the chosen bursts, refused where they leave a part uncovered."""
    boxes = np.array([burst_bounds(p.swath, p.burst) for p in plan.bursts])
    bounds = (
        float(boxes[:, 0].min()) - DEM_MARGIN_DEG,
        float(boxes[:, 1].min()) - DEM_MARGIN_DEG,
        float(boxes[:, 2].max()) + DEM_MARGIN_DEG,
        float(boxes[:, 3].max()) + DEM_MARGIN_DEG,
    )
    tiles = [
        f for folder in job.paths("elevation") for f in files_in(folder, (".tif", ".tiff", ".dem", ".hgt", ".vrt"))
    ]
    geoids = [f for folder in job.paths("geoid") for f in files_in(folder, (".gtx", ".tif", ".tiff"))]
    p = job.parameters
    elevation = read_elevation(tiles, bounds, p.elevation_datum, geoids, p.elevation_fill)
    rings = []
    for pair in plan.bursts:
        (near, far), (top, bottom) = pair.burst.valid_samples, pair.burst.valid_lines
        window = Window(
            pair.burst.azimuth_time_s + top * pair.swath.line_interval_s,
            pair.swath.line_interval_s,
            bottom - top,
            pair.swath.near_range_m + near * pair.swath.range_spacing_m,
            pair.swath.range_spacing_m,
            far - near,
        )
        low, high = elevation.span(*burst_bounds(pair.swath, pair.burst))
        ring = window_footprint(window, orbit, (low, high))
        elevation.require_whole(ring, f"burst {pair.name}")
        rings.append(ring)
    return elevation, outline(rings)


def outline(rings: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The convex hull of the bursts' footprints, counter-clockwise (Andrew's monotone chain)."""
    points = sorted({(round(x, 6), round(y, 6)) for ring in rings for x, y in ring})

    def half(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
        hull: list[tuple[float, float]] = []
        for p in ordered:
            while (
                len(hull) > 1
                and (
                    (hull[-1][0] - hull[-2][0]) * (p[1] - hull[-2][1])
                    - (hull[-1][1] - hull[-2][1]) * (p[0] - hull[-2][0])
                )
                <= 0
            ):
                hull.pop()
            hull.append(p)
        return hull[:-1]

    return half(points) + half(points[::-1])


def unpacked(job: Job, plan: PairPlan) -> PairPlan:
    """Zipped products are inflated to scratch once, two files at a time: bursts are then read in any order."""
    wanted = {p.swath.name for p in plan.bursts}
    work = [
        (product, swath.measurement)
        for product in (plan.reference, plan.secondary)
        if product.files.zipped
        for swath in product.swaths.values()
        if swath.name in wanted
    ]
    if not work:
        return plan

    def inflate(item: tuple[Product, str]) -> None:
        product, member = item
        target = job.folder / "scratch" / product.name / member
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                zipfile.ZipFile(product.path) as archive,
                archive.open(product.files.member(member)) as source,
                target.open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, 1 << 22)
        except (KeyError, zipfile.BadZipFile, EOFError) as error:
            raise Refusal(
                f"{member} cannot be read from {product.path.name}: {error}.", "Fetch the product again."
            ) from error

    with ThreadPoolExecutor(min(job.threads, 2)) as pool:
        list(pool.map(inflate, work))
    local = [
        replace(p, path=job.folder / "scratch" / p.name) if p.files.zipped else p
        for p in (plan.reference, plan.secondary)
    ]
    return replace(plan, reference=local[0], secondary=local[1])


def check_samples(plan: PairPlan) -> None:
    for name in dict.fromkeys(p.swath.name for p in plan.bursts):
        mine = [p for p in plan.bursts if p.swath.name == name]
        Measurement(plan.reference, mine[0].swath).check([p.burst for p in mine], mine[0].swath.lines_per_burst)
        Measurement(plan.secondary, mine[0].secondary_swath).check(
            [p.secondary_burst for p in mine], mine[0].secondary_swath.lines_per_burst
        )


def form_tiles(
    job: Job, prepared: Prepared, watch: Stopwatch, shift_s: float = 0.0, label: str = "tile"
) -> dict[str, Tile]:
    """Each burst's tile, from the checkpoint where an earlier attempt left it."""
    tiles, pairs = {}, prepared.plan.bursts
    for k, pair in enumerate(pairs):
        kept = job.checkpoint / f"{label}-{pair.name}.npz"
        message = f"burst {k + 1} of {len(pairs)} ({pair.name})"
        if kept.exists():
            tiles[pair.name] = Tile.load(kept)
            job.progress(0.05 + 0.75 * (k + 1) / len(pairs), "bursts", message + " from the checkpoint")
            continue
        tiles[pair.name] = tile_of(prepared, pair, job.threads, shift_s)
        tiles[pair.name].save(kept)
        job.progress(0.05 + 0.75 * (k + 1) / len(pairs), "bursts", message)
        watch.lap("bursts")
    return tiles


def tile_of(prepared: Prepared, pair: BurstPair, threads: int, shift_s: float = 0.0) -> Tile:
    setup = set_up(pair, *prepared.orbits, prepared.elevation, shift_s)
    return form_tile(
        setup,
        prepared.plan.mosaic,
        Measurement(prepared.plan.reference, pair.swath),
        Measurement(prepared.plan.secondary, pair.secondary_swath),
        threads,
    )


def register(
    job: Job, prepared: Prepared, tiles: dict[str, Tile], watch: Stopwatch
) -> tuple[esd.Misregistration | None, float]:
    """Find the pair's azimuth timing error from its burst overlaps and take it out of the tiles, in place."""
    looks = job.parameters.looks[0] * job.parameters.looks[1]
    if not job.parameters.esd:
        return None, 0.0
    found = esd.estimate(esd.all_overlaps(prepared.plan.bursts, tiles, looks))
    if found is None:
        return None, 0.0
    shift = found.shift_s
    if abs(shift) > REDO_SHIFT_LINES * prepared.plan.mosaic.line_s:
        tiles.update(form_tiles(job, prepared, watch, shift, label="shifted"))
        rest = esd.estimate(esd.all_overlaps(prepared.plan.bursts, tiles, looks))
        residual = rest.shift_s if rest else 0.0
        shift += residual
    else:
        residual = shift
    for name, tile in tiles.items():
        tiles[name] = esd.corrected(tile, residual)
    watch.lap("esd")
    job.progress(0.82, "esd", f"azimuth misregistration {shift / prepared.plan.mosaic.line_s:+.5f} lines")
    return found, shift


def finish(
    job: Job,
    prepared: Prepared,
    tiles: dict[str, Tile],
    merged: Merged,
    found: esd.Misregistration | None,
    shift: float,
    watch: Stopwatch,
) -> Path:
    """Filter, unwrap, geocode and write."""
    plan, p = prepared.plan, job.parameters
    looks = effective_looks(plan.bursts[0].swath, p.looks)
    coherence = merged.coherence
    filtered = goldstein(np.where(merged.valid, merged.normalised, 0).astype(np.complex64), p.filter_strength)
    watch.lap("filter")
    job.progress(0.84, "unwrap", p.unwrap)
    unwrapped, components = unwrap(filtered, coherence, looks, merged.valid, p.unwrap)
    watch.lap("unwrap")
    job.progress(0.92, "geocode", f"{p.posting_arcsec} arc seconds")
    lon, lat = np.array(prepared.footprint).T
    bounds = (lon.min(), lat.min(), lon.max(), lat.max())
    grid = geocode.map_grid(bounds, p.posting_arcsec)
    layers = map_layers(prepared, merged, filtered, unwrapped, components, grid, job.threads)
    watch.lap("geocode")
    identity = identify(job, prepared)
    folder = job.folder / "outputs" / "interferogram" / identity.product_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    quality = summarise(prepared, tiles, merged, unwrapped, filtered, found, shift, looks)
    write_files(folder, grid, layers, identity, prepared.polynomials, bounds, quality)
    watch.lap("products")
    quality["seconds"] = watch.stages
    (folder / "quality.json").write_text(json.dumps(quality, indent=2))
    lineage = {
        "reference": plan.reference.name,
        "secondary": plan.secondary.name,
        "reference orbit": prepared.orbit_sources[0],
        "secondary orbit": prepared.orbit_sources[1],
        "elevation datum": prepared.elevation.datum,
        "calibration": ", ".join(e.get("id", "?") for e in job.inputs.get("calibration", [])) or "none given",
    }
    (folder / "granule.json").write_text(
        json.dumps(stac_item(identity, prepared.footprint, quality, lineage), indent=2)
    )
    (job.folder / "result.json").write_text(json.dumps({"id": identity.product_id, "quality": quality}))
    return folder


def map_layers(
    prepared: Prepared,
    merged: Merged,
    filtered: "np.ndarray[Any, np.dtype[np.complex64]]",
    unwrapped: "np.ndarray[Any, np.dtype[np.float32]]",
    components: "np.ndarray[Any, np.dtype[np.uint16]]",
    grid: geocode.MapGrid,
    threads: int,
) -> Layers:
    """Every layer on the map grid."""
    places, heights = geocode.mosaic_coordinates(
        grid, prepared.elevation, prepared.polynomials[0], prepared.plan.mosaic, threads
    )
    places[:, ~np.isfinite(heights)] = -10
    valid = merged.valid
    phase = geocode.resample_unwrapped(unwrapped, filtered, valid, places)
    wrapped = np.angle(geocode.resample_complex(merged.normalised, valid, places)).astype(np.float32)
    amplitude = np.sqrt(np.sqrt(merged.power1 * merged.power2) / math.prod(prepared.plan.mosaic.looks))
    moved = -prepared.plan.wavelength_m / (4 * np.pi) * phase
    return Layers(
        unwrapped_rad=phase,
        wrapped_rad=wrapped,
        coherence=geocode.resample(merged.coherence, valid, places),
        amplitude=geocode.resample(amplitude.astype(np.float32), valid, places),
        components=geocode.nearest(components.astype(np.float32), places, 0).astype(np.uint16),
        displacement_m=(moved - still_ground(moved)).astype(np.float32),
    )


def still_ground(displacement_m: "np.ndarray[Any, np.dtype[np.float32]]") -> float:
    """The constant to take off: the median along the map's outer tenth, where sources in the middle do least."""
    rows, columns = displacement_m.shape
    rim = np.ones(displacement_m.shape, bool)
    rim[rows // 10 : rows - rows // 10, columns // 10 : columns - columns // 10] = False
    values = displacement_m[rim & np.isfinite(displacement_m)]
    return float(np.median(values)) if values.size else 0.0


def identify(job: Job, prepared: Prepared) -> Identity:
    """A name that the same inputs and parameters always give."""
    plan = prepared.plan
    reference, secondary = plan.reference, plan.secondary
    swaths = "".join(sorted({p.swath.name[-1] for p in plan.bursts}))
    direction = "A" if reference.ascending else "D"
    name = (
        f"S1-GUNW-{direction}-R-{reference.relative_orbit:03d}-{reference.start:%Y%m%d}_{secondary.start:%Y%m%d}-"
        f"{reference.start:%H%M%S}-IW{swaths}-{job.key[:8]}"
    )
    facility = SafeFiles(reference.path).read("manifest.safe") if "manifest.safe" in reference.files.names else b""
    return Identity(
        name,
        reference.name,
        secondary.name,
        reference.start,
        secondary.start,
        secondary.stop,
        reference.relative_orbit,
        reference.ascending,
        job.parameters.polarisation,
        plan.wavelength_m,
        job.parameters.looks,
        simulated=b"armillary-insar simulate" in facility,
    )


def summarise(
    prepared: Prepared,
    tiles: dict[str, Tile],
    merged: Merged,
    unwrapped: "np.ndarray[Any, np.dtype[np.float32]]",
    filtered: "np.ndarray[Any, np.dtype[np.complex64]]",
    found: esd.Misregistration | None,
    shift: float,
    looks: float,
) -> dict[str, Any]:
    """What a scientist asks first about a product."""
    plan, mosaic = prepared.plan, prepared.plan.mosaic
    coherence = merged.coherence[merged.valid]
    whole = mosaic.looks[0] * mosaic.looks[1]
    after = esd.all_overlaps(plan.bursts, tiles, whole)
    rewrapped = np.angle(np.exp(1j * unwrapped) * np.conj(filtered))
    middle = _middle(prepared)
    lat, lon, height = (np.array([v]) for v in middle)
    seen = viewing(lat, lon, height, *prepared.polynomials)
    quarter = [round(float(np.mean(coherence >= level)), 4) for level in (0.3, 0.5, 0.7)]
    return {
        "sign_convention": SIGN,
        "corrections_not_applied": list(NOT_APPLIED),
        "dates": [f"{plan.reference.start:%Y-%m-%d}", f"{plan.secondary.start:%Y-%m-%d}"],
        "days": round((plan.secondary.start - plan.reference.start) / timedelta(days=1), 3),
        "coherence": {
            "mean": round(float(coherence.mean()), 4),
            "median": round(float(np.median(coherence)), 4),
            "share_above_0.3_0.5_0.7": quarter,
        },
        "looks": {
            "nominal": whole,
            "effective_from_windows": round(looks, 2),
            "measured_on_image": round(measured_looks(merged.power1, merged.valid), 2),
        },
        "bursts": [p.name for p in plan.bursts],
        # Bursts whose dates were not pointed alike: what coherence they lose is not the ground's.
        "doppler_gap_hz": {n: round(float(t.doppler_gap_hz.mean()), 1) for n, t in tiles.items()},
        "unsolved_heights": {n: t.unsolved for n, t in tiles.items() if t.unsolved},
        "esd": None
        if found is None
        else {
            "shift_lines": round(shift / mosaic.line_s, 7),
            "sigma_lines": round(found.sigma_s / mosaic.line_s, 7),
            "overlaps": [_told(o) for o in found.overlaps],
        },
        "seams": [_told(o) for o in after],
        "closure": {
            "rdr2geo_geo2rdr_m": geometry_closure(prepared),
            "rewrapped_minus_wrapped_rad": round(float(np.nanmax(np.abs(rewrapped))), 9),
        },
        "baseline": {
            "perpendicular_m": round(float(seen.perpendicular_baseline_m[0]), 2),
            "parallel_m": round(float(seen.parallel_baseline_m[0]), 2),
            "incidence_deg": round(float(seen.incidence_deg[0]), 3),
        },
        "orbits": list(prepared.orbit_sources),
        "elevation_datum": prepared.elevation.datum,
    }


def _told(o: esd.Overlap) -> dict[str, Any]:
    return {
        "between": [o.first, o.second],
        "along_track": o.along_track,
        "phase_mrad": round(1e3 * o.phase_rad, 3),
        "sigma_mrad": round(1e3 * o.sigma_rad, 3),
        "doppler_difference_hz": round(o.doppler_difference_hz, 1),
        "cells": o.cells,
    }


def _middle(prepared: Prepared) -> tuple[float, float, float]:
    lon, lat = np.array(prepared.footprint).mean(axis=0)
    return float(lat), float(lon), float(np.nan_to_num(prepared.elevation.at(np.array([lat]), np.array([lon]))[0]))


def geometry_closure(prepared: Prepared) -> float:
    """Largest distance, in range, between a point and where geo2rdr finds it again (m)."""
    mosaic, orbit = prepared.plan.mosaic, prepared.polynomials[0]
    t = mosaic.start_s + np.linspace(0, mosaic.lines, 5) * mosaic.line_s
    r = mosaic.near_m + np.linspace(0, mosaic.samples, 7) * mosaic.sample_m
    tt, rr, hh = np.meshgrid(t, r, [0.0, 1000.0], indexing="ij")
    t2, r2 = geo2rdr(orbit, rdr2geo(orbit, tt, rr, hh))
    return float(max(np.abs(r2 - rr).max(), np.abs(t2 - tt).max() * 7000))
