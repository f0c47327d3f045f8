"""Writes simulated pairs: into the grid of a real SAFE pair, or a complete pair made from nothing; with the truth."""

import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from armillary_insar.errors import Refusal
from armillary_insar.safe import Burst, Product, SafeFiles, StateVectors, Swath, read_product
from armillary_insar.simulator import orbits, tiff
from armillary_insar.simulator.annotation import (
    LINE_INTERVAL_S,
    ProductLayout,
    SwathLayout,
    annotation_xml,
    manifest_xml,
)
from armillary_insar.simulator.deformation import Floats, Mogi, Okada
from armillary_insar.simulator.ground import ecef, geodetic, locate
from armillary_insar.simulator.passes import find_pass
from armillary_insar.simulator.scatter import Lattice, TruthCells, look, simulate_burst
from armillary_insar.simulator.scene import Grid, Scene, made_up_elevation, make_scene

AMPLITUDE = 74.0  # standard deviation of a real product's real and imaginary parts
SCATTERERS_PER_SAMPLE = 1.3
MARK = "Samples made by armillary-insar simulate"
BURST_DELAY = timedelta(microseconds=1337)  # bursts never start in quite the same place
ROOM_DEG = 0.03  # around the annotation's grid: high ground is seen nearer than it is
MOST_APART_M = 1_500.0  # ranges of two orbits of one track
Selection = dict[str, list[int]]  # subswath → burst indices

CROP = (
    SwathLayout("IW1", 0, 0, 3600, 640, 540, 2, 1.590368784, 12, 60),
    SwathLayout("IW2", 3260, 231, 3600, 640, 540, 2, 0.9798633249, 12, 60),
)
FULL = (
    SwathLayout("IW1", 0, 418, 23055, 1507, 1342, 9, 1.590368784, 21, 239),
    SwathLayout("IW2", 19942, 878, 26818, 1519, 1342, 9, 0.9798633249, 26, 221),
    SwathLayout("IW3", 43812, 0, 25769, 1524, 1342, 9, 1.397440818, 30, 197),
)


@dataclass(frozen=True)
class PairSpec:
    """What to make from nothing."""

    latitude_deg: float = 31.05
    longitude_deg: float = -8.4
    start: datetime = datetime(2026, 3, 1, 6, 37, 30)  # noqa: DTZ001  as in annotation: UTC without a zone
    days: int = 12
    ascending: bool = False
    baseline_m: float = 60.0
    coherence: tuple[float, float] = (0.55, 0.92)
    source: str = "mogi"
    swaths: tuple[SwathLayout, ...] = CROP
    near_range_m: float = 805_000.0
    seed: int = 7
    truth_looks: tuple[int, int] = (19, 7)
    timing_error_lines: float = 0.0  # of the secondary's samples against its annotation
    doppler_gap_hz: float = 3.5  # between the dates: bursts that are not quite synchronised


@dataclass(frozen=True)
class MadePair:
    """Where a simulated pair lies."""

    reference: Path
    secondary: Path
    elevation: Path
    orbits: tuple[Path, ...]
    truth: Path


def make_pair(
    spec: PairSpec,
    out: Path,
    threads: int = 2,
    zipped: bool = False,
    orbit_files: tuple[Path, Path] | None = None,
    elevation_file: Path | None = None,
) -> MadePair:
    """A complete pair from nothing: orbits and elevation, made up or given, annotation, samples and truth.

    Given orbits decide the baseline, the direction and the exact time; the spec's date says which pass is meant.
    """
    out.mkdir(parents=True, exist_ok=True)
    if orbit_files:
        layouts, vectors = _on_given_orbits(spec, orbit_files)
    else:
        layouts = _layouts(spec)
        vectors = _orbits(spec, layouts)
    guess = ecef(spec.latitude_deg, spec.longitude_deg, 0.0)
    eofs = tuple(orbits.write_eof(out, p.mission, p.epoch, v) for p, v in zip(layouts, vectors, strict=True))
    folders = [_write_empty(out, p, v, guess) for p, v in zip(layouts, vectors, strict=True)]
    products = [read_product(f) for f in folders]
    scene = given_scene(spec, products[0], elevation_file) if elevation_file else made_up_scene(spec, products[0])
    elevation = write_elevation(out / "elevation.tif", scene)
    truth = fill(
        products[0],
        products[1],
        vectors[0],
        vectors[1],
        scene,
        every_burst(products[0]),
        out / "truth",
        spec.truth_looks,
        threads,
        timing_error_s=spec.timing_error_lines * LINE_INTERVAL_S,
    )
    (truth.parent / "truth.json").write_text(
        json.dumps(
            {"spec": asdict(spec), "sign": "range_change_m > 0: farther from the radar at the secondary date"},
            default=str,
            indent=2,
        )
    )
    paths = [_zip(f) if zipped else f for f in folders]
    return MadePair(paths[0], paths[1], elevation, eofs, truth)


def fill_pair(
    reference: Path,
    secondary: Path,
    scene: Scene,
    out: Path,
    selection: Selection | None = None,
    truth_looks: tuple[int, int] = (19, 7),
    threads: int = 2,
    shift_m: float = 0.0,
) -> MadePair:
    """Copies of a real pair whose chosen bursts hold simulated samples; the others hold zeros.

    The orbits are the annotation's, smoothed and written as orbit files, the secondary's moved by `shift_m` across the
    line of sight: what is simulated follows these files, not the annotation's vectors.
    """
    folders = [copy_without_samples(p, out) for p in (reference, secondary)]
    products = [read_product(f) for f in folders]
    vectors = [orbits.smoothed(p.orbit) for p in products]
    if shift_m:
        swath = next(iter(products[0].swaths.values()))
        target = ecef(float(swath.grid.latitude_deg.mean()), float(swath.grid.longitude_deg.mean()), 0.0)
        vectors[1] = orbits.shifted(vectors[1], target, float(np.mean(vectors[1].time_s)), shift_m)
    elevation = write_elevation(out / "elevation.tif", scene)
    eofs = tuple(orbits.write_eof(out, p.mission, p.epoch, v) for p, v in zip(products, vectors, strict=True))
    truth = fill(
        products[0],
        products[1],
        vectors[0],
        vectors[1],
        scene,
        selection or every_burst(products[0]),
        out / "truth",
        truth_looks,
        threads,
    )
    return MadePair(folders[0], folders[1], elevation, eofs, truth)


def fill(
    reference: Product,
    secondary: Product,
    orbit1: StateVectors,
    orbit2: StateVectors,
    scene: Scene,
    selection: Selection,
    truth_folder: Path,
    truth_looks: tuple[int, int],
    threads: int,
    secondary_seed: int = 0,
    timing_error_s: float = 0.0,
) -> Path:
    """Write the samples of the chosen bursts of both products, and the truth.

    `timing_error_s` shifts the secondary's true azimuth times against its annotation: what ESD has to find.
    """
    truth = _truth_cells(reference, selection, truth_looks)
    lattice = _lattice(reference, orbit1, selection, scene)
    files = {}
    for product in (reference, secondary):
        for name in selection:
            swath = product.swaths[name]
            path = product.path / swath.measurement
            path.parent.mkdir(exist_ok=True)
            files[product.name, name] = tiff.create(
                path, swath.lines_per_burst * len(swath.bursts), swath.samples_per_burst, MARK
            )
    scale = AMPLITUDE * np.sqrt(2 / SCATTERERS_PER_SAMPLE)

    def one(name: str, index: int) -> TruthCells:
        swath1, swath2 = reference.swaths[name], secondary.swaths[name]
        burst1, burst2 = swath1.bursts[index], _twin(swath1.bursts[index], swath2)
        view2 = look(swath2, burst2, orbit2)
        view2 = replace(view2, start_s=view2.start_s + timing_error_s)
        mine = replace(truth, sums=np.zeros_like(truth.sums))
        extent = _extent(lattice, swath1, burst1, orbit1, scene)
        pair = simulate_burst(scene, lattice, extent, look(swath1, burst1, orbit1), view2, swath1, mine, secondary_seed)
        for samples, product, burst in zip(pair, (reference, secondary), (burst1, burst2), strict=True):
            _store(files[product.name, name], burst, samples, scale)
        return mine

    with ThreadPoolExecutor(threads) as pool:
        for cells in pool.map(lambda job: one(*job), [(n, i) for n, chosen in selection.items() for i in chosen]):
            truth.sums[...] += cells.sums
    return write_truth(truth_folder, truth, scene, reference)


def _store(
    file: "np.memmap[Any, np.dtype[np.int16]]",
    burst: Burst,
    samples: "np.ndarray[Any, np.dtype[np.complex64]]",
    scale: float,
) -> None:
    """The valid part of a burst; lines and samples outside hold zeros, as real products do."""
    (top, bottom), (near, far) = burst.valid_lines, burst.valid_samples
    for first in range(top, bottom, 128):
        last = min(first + 128, bottom)
        file[burst.first_line + first : burst.first_line + last, near:far] = tiff.quantise(
            np.ascontiguousarray(samples[first:last, near:far]), scale
        )


def _twin(burst: Burst, swath: Swath) -> Burst:
    return next(b for b in swath.bursts if b.identifier == burst.identifier)


def every_burst(product: Product) -> Selection:
    return {name: [b.index for b in swath.bursts] for name, swath in product.swaths.items()}


def _layouts(spec: PairSpec) -> list[ProductLayout]:
    first = ProductLayout(
        "S1A",
        61_235,
        spec.ascending,
        spec.start,
        spec.near_range_m,
        spec.swaths,
        (-10.0, 11_781.0),
        first_burst_id=110_431,
    )
    later = spec.start + timedelta(days=spec.days) + BURST_DELAY
    second = replace(
        first,
        start=later,
        absolute_orbit=first.absolute_orbit + 175 * spec.days // 12,
        doppler=(-10.0 + spec.doppler_gap_hz, 11_200.0),
    )
    return [first, second]


def _middle(spec: PairSpec) -> tuple[float, float]:
    """The line and the sample of the common grid where the spec's place is."""
    line = float(np.mean([s.first_line + s.bursts * s.burst_step / 2 for s in spec.swaths]))
    return line, max(s.first_sample + s.samples for s in spec.swaths) / 2


def _orbits(spec: PairSpec, layouts: list[ProductLayout]) -> list[StateVectors]:
    """Both orbits, each in seconds after its own product's epoch."""
    middle_line, middle_sample = _middle(spec)
    middle_range = spec.near_range_m + middle_sample * layouts[0].sample_m
    starts = [(p.start - p.epoch).total_seconds() + middle_line * LINE_INTERVAL_S for p in layouts]
    # Orbit files give times to a microsecond: vectors lie on whole ones, so that file and simulation agree.
    first = orbits.orbit_over(spec.latitude_deg, spec.longitude_deg, middle_range, round(starts[0], 6), spec.ascending)
    target = ecef(spec.latitude_deg, spec.longitude_deg, 300.0)
    second = orbits.shifted(first, target, starts[0], spec.baseline_m, 0.4 * spec.baseline_m)
    # The same place at the same time of the pass; the bursts start 1.3 ms later.
    return [first, orbits.delayed(second, round(starts[1] - starts[0] - 1.1e-3, 6))]


def _on_given_orbits(spec: PairSpec, files: tuple[Path, Path]) -> tuple[list[ProductLayout], list[StateVectors]]:
    """Products laid out around the spec's place as two orbits pass it."""
    moments = (spec.start, spec.start + timedelta(days=spec.days))
    one, two = (find_pass(f, spec.latitude_deg, spec.longitude_deg, m) for f, m in zip(files, moments, strict=True))
    if one.ascending != two.ascending or abs(one.range_m - two.range_m) > MOST_APART_M:
        raise Refusal(
            f"At the place the two orbits are not of one track: {one.range_m / 1000:.1f} km "
            f"{'ascending' if one.ascending else 'descending'} and {two.range_m / 1000:.1f} km "
            f"{'ascending' if two.ascending else 'descending'}.",
            "Give two orbits of one relative orbit, and their days apart.",
        )
    middle_line, middle_sample = _middle(spec)
    first, second = _layouts(replace(spec, ascending=one.ascending))
    earlier = timedelta(seconds=middle_line * LINE_INTERVAL_S)
    near_range_m = one.range_m - middle_sample * first.sample_m
    layouts = [
        replace(p, mission=seen.mission, start=seen.broadside - earlier + late, near_range_m=near_range_m)
        for p, seen, late in ((first, one, timedelta()), (second, two, BURST_DELAY))
    ]
    return layouts, [seen.since(p.epoch) for p, seen in zip(layouts, (one, two), strict=True)]


def made_up_scene(spec: PairSpec, reference: Product, relief_m: float = 500.0, step_deg: float = 1 / 1200) -> Scene:
    """Hills and a volcano under the product, with the source below the crater or the fault beside it."""
    lat = np.concatenate([s.grid.latitude_deg for s in reference.swaths.values()])
    lon = np.concatenate([s.grid.longitude_deg for s in reference.swaths.values()])
    margin = 0.06
    rows = int((np.ptp(lat) + 2 * margin) / step_deg) + 1
    columns = int((np.ptp(lon) + 2 * margin) / step_deg) + 1
    grid = Grid(float(lat.max()) + margin, float(lon.min()) - margin, -step_deg, step_deg, rows, columns)
    centre = (float(np.mean([lat.min(), lat.max()])), float(np.mean([lon.min(), lon.max()])))
    cone = centre if spec.source == "mogi" else None
    elevation = made_up_elevation(grid, spec.seed, relief_m, cone=cone)
    return make_scene(grid, elevation, source(spec.source), centre, spec.coherence, spec.seed)


def given_scene(spec: PairSpec, reference: Product, path: Path) -> Scene:
    """The ground of an elevation file; refused where it does not reach under the whole product."""
    grid, heights = read_grid(path)
    lat = np.concatenate([s.grid.latitude_deg for s in reference.swaths.values()])
    lon = np.concatenate([s.grid.longitude_deg for s in reference.swaths.values()])
    has, needs = (grid.longitudes(), grid.latitudes()), (lon, lat)
    if any(h.min() > n.min() - ROOM_DEG or h.max() < n.max() + ROOM_DEG for h, n in zip(has, needs, strict=True)):
        wanted = [lon.min() - ROOM_DEG, lat.min() - ROOM_DEG, lon.max() + ROOM_DEG, lat.max() + ROOM_DEG]
        raise Refusal(
            f"{path.name} does not cover the scene.",
            f"Give ellipsoidal heights from {', '.join(f'{w:.2f}' for w in wanted)} (west, south, east, north).",
        )
    centre = (float(np.mean([lat.min(), lat.max()])), float(np.mean([lon.min(), lon.max()])))
    return make_scene(grid, heights, source(spec.source), centre, spec.coherence, spec.seed)


def source(name: str) -> Mogi | Okada | None:
    """The sources that the command line offers."""
    known: dict[str, Mogi | Okada | None] = {
        "mogi": Mogi(0.0, 0.0, 3200.0, 5.5e6),
        "okada": Okada(0.0, 0.0, 1500.0, 9000.0, 6000.0, 245.0, 60.0, 80.0, 0.35),
        "none": None,
    }
    return known[name]


def _write_empty(out: Path, layout: ProductLayout, vectors: StateVectors, guess: Floats) -> Path:
    folder = out / f"{layout.name()}.SAFE"
    (folder / "annotation").mkdir(parents=True)
    (folder / "measurement").mkdir()
    stems = [layout.stem(s, i + 1) for i, s in enumerate(layout.swaths)]
    for swath, stem in zip(layout.swaths, stems, strict=True):
        (folder / "annotation" / f"{stem}.xml").write_text(annotation_xml(layout, swath, vectors, guess))
    product = read_product(folder)
    corners = _corners(product)
    (folder / "manifest.safe").write_text(manifest_xml(layout, stems, corners))
    return folder


def _corners(product: Product) -> list[tuple[float, float]]:
    """The footprint's corners: first and last lines of the nearest and the farthest subswath."""
    swaths = sorted(product.swaths.values(), key=lambda s: s.range_time_s)
    near, far = swaths[0].grid, swaths[-1].grid
    picks = [
        (near, near.line.min(), near.pixel.min()),
        (far, far.line.min(), far.pixel.max()),
        (far, far.line.max(), far.pixel.max()),
        (near, near.line.max(), near.pixel.min()),
    ]
    chosen = [(g, int(np.flatnonzero((g.line == line) & (g.pixel == pixel))[0])) for g, line, pixel in picks]
    return [(float(g.latitude_deg[k]), float(g.longitude_deg[k])) for g, k in chosen]


def copy_without_samples(product: Path, out: Path) -> Path:
    """A folder with everything of a product but its measurement files."""
    files = SafeFiles(product)
    name = product.name.removesuffix(".zip").removesuffix(".SAFE") + ".SAFE"
    folder = out / name
    for member in files.names:
        if not member.startswith("measurement/"):
            (folder / member).parent.mkdir(parents=True, exist_ok=True)
            content = files.read(member)
            if member == "manifest.safe":
                content += f"<!-- {MARK} -->\n".encode()
            (folder / member).write_bytes(content)
    (folder / "measurement").mkdir(parents=True, exist_ok=True)
    return folder


def _zip(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
    shutil.rmtree(folder)
    return path


def write_elevation(path: Path, scene: Scene) -> Path:
    """The scene's elevation as a GeoTIFF of heights above the WGS84 ellipsoid."""
    grid = scene.elevation_grid
    step_y, step_x = -grid.step_latitude_deg, grid.step_longitude_deg
    transform = from_origin(grid.longitude0_deg - step_x / 2, grid.latitude0_deg + step_y / 2, step_x, step_y)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=grid.columns,
        height=grid.rows,
        count=1,
        dtype="float32",
        crs=CRS.from_epsg(4979),
        transform=transform,
        compress="deflate",
        predictor=3,
    ) as file:
        file.write(scene.elevation_m, 1)
        file.update_tags(VERTICAL_DATUM="WGS84 ellipsoid", SOURCE=MARK)
    return path


def write_truth(folder: Path, truth: TruthCells, scene: Scene, reference: Product) -> Path:
    """truth.npz: per multilook cell the mean range change and coherence; on the map the displacement east, north, up."""
    folder.mkdir(parents=True, exist_ok=True)
    count = truth.sums[2]
    safe = np.maximum(count, 1)
    grid = scene.field_grid
    np.savez_compressed(
        folder / "truth.npz",
        range_change_m=np.where(count > 0, truth.sums[0] / safe, np.nan),
        coherence=np.where(count > 0, truth.sums[1] / safe, np.nan),
        scatterers=count,
        azimuth_delay_s=np.where(count > 0, truth.sums[3] / safe, np.nan),
        start_s=truth.start_s,
        near_m=truth.near_m,
        looks=truth.looks,
        epoch=reference.epoch.isoformat(),
        enu_m=scene.enu_m,
        enu_latitude_deg=grid.latitudes(),
        enu_longitude_deg=grid.longitudes(),
    )
    return folder / "truth.npz"


def _truth_cells(reference: Product, selection: Selection, looks: tuple[int, int]) -> TruthCells:
    """Cells over the chosen bursts' common grid: its origin is the earliest line and the nearest sample among them."""
    chosen = [(reference.swaths[n], reference.swaths[n].bursts[i]) for n, indices in selection.items() for i in indices]
    start = min(b.azimuth_time_s for _, b in chosen)
    near = min(s.near_range_m for s, _ in chosen)
    lines = max((b.azimuth_time_s - start) / s.line_interval_s + s.lines_per_burst for s, b in chosen)
    samples = max((s.near_range_m - near) / s.range_spacing_m + s.samples_per_burst for s, _ in chosen)
    shape = (int(lines) // looks[1] + 1, int(samples) // looks[0] + 1)
    return TruthCells(start, near, looks, np.zeros((4, *shape)))


def _lattice(reference: Product, orbit: StateVectors, selection: Selection, scene: Scene) -> Lattice:
    """Axes along and across the track at the middle of the chosen bursts, one cell a scatterer."""
    name, indices = list(selection.items())[len(selection) // 2]
    swath = reference.swaths[name]
    time_s = swath.middle_s(swath.bursts[indices[len(indices) // 2]])
    range_m = swath.near_range_m + swath.samples_per_burst / 2 * swath.range_spacing_m
    height = float(np.mean(scene.elevation_m))
    guess = ecef(float(swath.grid.latitude_deg.mean()), float(swath.grid.longitude_deg.mean()), 0.0)

    def place(dt: float, dr: float) -> Floats:
        return np.array(geodetic(locate(orbit, time_s + dt, range_m + dr, height, guess))[:2])

    lines, samples = 200, 200
    along = (place(lines * swath.line_interval_s, 0) - place(0, 0)) / lines
    across = (place(0, samples * swath.range_spacing_m) - place(0, 0)) / samples / SCATTERERS_PER_SAMPLE
    origin = place(0, 0)
    return Lattice(
        float(origin[0]), float(origin[1]), (float(along[0]), float(along[1])), (float(across[0]), float(across[1]))
    )


def _extent(
    lattice: Lattice, swath: Swath, burst: Burst, orbit: StateVectors, scene: Scene
) -> tuple[int, int, int, int]:
    """Lattice indices that can fall into the burst at any height of the scene near it."""
    guess = ecef(float(swath.grid.latitude_deg.mean()), float(swath.grid.longitude_deg.mean()), 0.0)
    times = burst.azimuth_time_s + np.linspace(-20, swath.lines_per_burst + 20, 4) * swath.line_interval_s
    ranges = swath.near_range_m + np.linspace(-20, swath.samples_per_burst + 20, 8) * swath.range_spacing_m
    heights = (float(scene.elevation_m.min()), float(scene.elevation_m.max()))
    matrix = np.linalg.inv(np.array([lattice.along_deg, lattice.across_deg]).T)
    places = np.array([geodetic(locate(orbit, t, r, h, guess))[:2] for t in times for r in ranges for h in heights])
    ij = (places - [lattice.latitude0_deg, lattice.longitude0_deg]) @ matrix.T
    low, high = np.floor(ij.min(axis=0)) - 2, np.ceil(ij.max(axis=0)) + 3
    return int(low[0]), int(high[0]), int(low[1]), int(high[1])


def fill_real(
    reference: Path,
    secondary: Path,
    out: Path,
    elevation: Path | None,
    selection: Selection | None,
    source_name: str,
    coherence: tuple[float, float],
    seed: int,
    threads: int,
) -> MadePair:
    """Fill a real pair's grid over a given elevation, or over made-up hills."""
    if elevation is None:
        made = made_up_scene(PairSpec(source="none", seed=seed), read_product(reference))
        grid, heights = made.elevation_grid, made.elevation_m
    else:
        grid, heights = read_grid(elevation)
    middle = (float(grid.latitudes().mean()), float(grid.longitudes().mean()))
    scene = make_scene(grid, heights, source(source_name), middle, coherence, seed)
    return fill_pair(reference, secondary, scene, out, selection, threads=threads)


def read_grid(path: Path) -> tuple[Grid, "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]:
    """A latitude–longitude elevation, whose heights are taken as above the ellipsoid; holes become zero."""
    with rasterio.open(path) as file:
        heights = file.read(1, masked=True, out_dtype="float32").filled(0.0)
        t = file.transform
    grid = Grid(t.f + t.e / 2, t.c + t.a / 2, t.e, t.a, *heights.shape)
    return grid, heights


def read_selection(written: str | None) -> Selection | None:
    """iw1:1,2;iw2:1 → {"IW1": [0, 1], "IW2": [0]}."""
    if not written:
        return None
    parts = [p.split(":") for p in written.split(";") if p]
    return {name.upper(): [int(n) - 1 for n in numbers.split(",")] for name, numbers in parts}
