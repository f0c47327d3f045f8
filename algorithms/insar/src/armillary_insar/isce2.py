"""Engine isce2-container: ISCE2's topsApp in a container, with this algorithm's inputs, outputs and metadata.

Not run by any test: no container with ISCE2 is at hand where they run. What is tested is the command line, the files
that topsApp gets, and the reading of files laid out as topsApp leaves them.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import rasterio

from armillary_insar.elevation import Elevation
from armillary_insar.errors import Refusal
from armillary_insar.geocode import MapGrid
from armillary_insar.job import Job
from armillary_insar.pairing import PairPlan
from armillary_insar.process import Prepared, files_in, find_safe, identify, prepare
from armillary_insar.products import NOT_APPLIED, SIGN, Layers, stac_item
from armillary_insar.writing import write_files

RUNTIMES = ("podman", "docker", "apptainer")
MERGED = "merged"


@dataclass(frozen=True)
class Baseline:
    """ISCE2's own figure for one subswath."""

    swath: str
    perpendicular_m: float
    parallel_m: float


def process(job: Job) -> Path:
    """Write topsApp's input, run the container, and turn what it leaves into the product."""
    runtime = find_runtime()
    prepared = prepare(job)
    work = job.folder / "scratch" / "isce2"
    write_inputs(work, job, prepared)
    job.progress(0.05, "topsApp", job.parameters.container)
    run(command(runtime, job.parameters.container, job.folder, work), work)
    job.progress(0.9, "products", "reading topsApp's results")
    folder = publish(job, prepared, work)
    job.progress(1.0, "done", folder.name)
    return folder


def find_runtime() -> str:
    found = next((r for r in RUNTIMES if shutil.which(r)), None)
    if found is None:
        raise Refusal(
            "No container runtime is installed here.",
            f"Install one of {', '.join(RUNTIMES)}, or use the engine armillary.",
            "infrastructure",
        )
    return found


def command(runtime: str, image: str, job_folder: Path, work: Path) -> list[str]:
    """The container's command line: the job's folder is mounted where it is, so that links and paths hold."""
    if runtime == "apptainer":
        return [
            "apptainer",
            "exec",
            "--bind",
            str(job_folder),
            "--pwd",
            str(work),
            f"docker://{image}",
            "topsApp.py",
            "topsApp.xml",
            "--end=geocode",
        ]
    return [
        runtime,
        "run",
        "--rm",
        "--network=none",
        "--volume",
        f"{job_folder}:{job_folder}",
        "--workdir",
        str(work),
        "--entrypoint",
        "topsApp.py",
        image,
        "topsApp.xml",
        "--end=geocode",
    ]


def run(argv: list[str], work: Path) -> None:
    """Run topsApp; the end of its log goes into the refusal."""
    with (work / "topsApp.log").open("w") as log:
        status = subprocess.run(argv, cwd=work, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        tail = "\n".join((work / "topsApp.log").read_text().splitlines()[-15:])
        raise Refusal(
            f"topsApp ended with status {status}:\n{tail}",
            "See topsApp.log in the job's folder.",
            "out of memory" if status == 137 else "science error",
        )


def write_inputs(work: Path, job: Job, prepared: Prepared) -> None:
    """topsApp.xml, and the elevation on the ellipsoid in ISCE2's form."""
    work.mkdir(parents=True, exist_ok=True)
    write_dem(work / "dem.wgs84", prepared.elevation)
    orbits = [f for folder in job.paths("orbits") for f in files_in(folder, (".eof",))]
    (work / "topsApp.xml").write_text(
        tops_app_xml(
            prepared.plan,
            [find_safe(job.paths(role)[0]) for role in ("reference", "secondary")],
            sorted({str(f.parent) for f in orbits})[:1],
            job.parameters.looks,
            job.parameters.filter_strength,
            work / "dem.wgs84",
        )
    )


def tops_app_xml(
    plan: PairPlan,
    safes: list[Path],
    orbit_folders: list[str],
    looks: tuple[int, int],
    filter_strength: float,
    dem: Path,
) -> str:
    """ISCE2's input. Its region of interest is left out: the bursts are those that both scenes share."""

    def scene(name: str, safe: Path) -> str:
        orbit = (
            f'\n      <property name="orbit directory">{escape(orbit_folders[0])}</property>' if orbit_folders else ""
        )
        return (
            f'    <component name="{name}">\n      <property name="safe">{escape(str(safe))}</property>{orbit}\n'
            f'      <property name="output directory">{name}</property>\n    </component>\n'
        )

    swaths = sorted({int(p.swath.name[-1]) for p in plan.bursts})
    properties = {
        "sensor name": "SENTINEL1",
        "swaths": str(swaths),
        "range looks": str(looks[0]),
        "azimuth looks": str(looks[1]),
        "filter strength": str(filter_strength),
        "do ESD": "True",
        "do unwrap": "True",
        "unwrapper name": "snaphu_mcf",
        "demfilename": str(dem),
        "geocode list": str(
            [
                f"{MERGED}/phsig.cor",
                f"{MERGED}/filt_topophase.unw",
                f"{MERGED}/filt_topophase.flat",
                f"{MERGED}/filt_topophase.unw.conncomp",
            ]
        ),
    }
    lines = "".join(f'    <property name="{k}">{escape(v)}</property>\n' for k, v in properties.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<topsApp>\n  <component name="topsinsar">\n{lines}'
        f"{scene('reference', safes[0])}{scene('secondary', safes[1])}  </component>\n</topsApp>\n"
    )


def write_dem(path: Path, elevation: Elevation) -> None:
    """Raw float32 with the ISCE2 and VRT headers beside it."""
    heights = np.nan_to_num(elevation.heights_m).astype("<f4")
    rows, columns = heights.shape
    heights.tofile(path)
    step_y, step_x = elevation.step_latitude_deg, elevation.step_longitude_deg
    west, north = elevation.longitude0_deg - step_x / 2, elevation.latitude0_deg - step_y / 2
    path.with_name(path.name + ".vrt").write_text(
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>EPSG:4326</SRS>'
        f"<GeoTransform>{west!r}, {step_x!r}, 0.0, {north!r}, 0.0, {step_y!r}</GeoTransform>"
        f'<VRTRasterBand dataType="Float32" band="1" subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="1">'
        f"{path.name}</SourceFilename><ByteOrder>LSB</ByteOrder><ImageOffset>0</ImageOffset><PixelOffset>4</PixelOffset>"
        f"<LineOffset>{4 * columns}</LineOffset></VRTRasterBand></VRTDataset>\n"
    )

    def axis(name: str, start: float, step: float, size: int) -> str:
        return (
            f'<component name="{name}"><property name="delta"><value>{step!r}</value></property>'
            f'<property name="size"><value>{size}</value></property>'
            f'<property name="startingvalue"><value>{start!r}</value></property></component>'
        )

    simple = {
        "byte_order": "l",
        "data_type": "FLOAT",
        "file_name": str(path),
        "image_type": "dem",
        "length": str(rows),
        "number_bands": "1",
        "reference": "WGS84",
        "scheme": "BIP",
        "width": str(columns),
        "access_mode": "read",
        "family": "demimage",
    }
    body = "".join(f'<property name="{k}"><value>{escape(v)}</value></property>' for k, v in simple.items())
    path.with_name(path.name + ".xml").write_text(
        f"<imageFile>{axis('coordinate1', west, step_x, columns)}{axis('coordinate2', north, step_y, rows)}{body}"
        "</imageFile>\n"
    )


def read_baselines(text: str) -> list[Baseline]:
    """The baselines in topsProc.xml: elements IW-n_Bperp_at_midrange_for_first_common_burst and …Bpar…."""
    root = ElementTree.fromstring(text)  # noqa: S314
    found = {}
    for element in root.iter():
        named = re.fullmatch(r"IW-(\d)_(Bperp|Bpar)_at_midrange_for_first_common_burst", element.tag)
        if named and element.text:
            found[int(named[1]), named[2]] = float(element.text)
    swaths = sorted({n for n, _ in found})
    if not swaths:
        raise Refusal(
            "topsProc.xml holds no baseline.", "topsApp did not reach the step computeBaselines; see its log."
        )
    return [Baseline(f"IW{n}", found[n, "Bperp"], found.get((n, "Bpar"), float("nan"))) for n in swaths]


def read_layers(folder: Path, wavelength_m: float) -> tuple[MapGrid, Layers]:
    """topsApp's geocoded rasters as the product's layers.

    filt_topophase.unw.geo holds amplitude and phase; ISCE2 forms reference × conj(secondary) too, so the sign is ours.
    """
    unwrapped, grid = _band(folder / "filt_topophase.unw.geo.vrt", 2)
    amplitude, _ = _band(folder / "filt_topophase.unw.geo.vrt", 1)
    coherence, _ = _band(folder / "phsig.cor.geo.vrt", 1)
    wrapped, _ = _band(folder / "filt_topophase.flat.geo.vrt", 1)
    components, _ = _band(folder / "filt_topophase.unw.conncomp.geo.vrt", 1)
    there = amplitude.real > 0
    phase = np.where(there, unwrapped.real, np.nan).astype(np.float32)
    return grid, Layers(
        unwrapped_rad=phase,
        wrapped_rad=np.where(there, np.angle(wrapped), np.nan).astype(np.float32),
        coherence=np.where(there, coherence.real, np.nan).astype(np.float32),
        amplitude=np.where(there, amplitude.real, np.nan).astype(np.float32),
        components=np.where(there, components.real, 0).astype(np.uint16),
        displacement_m=(-wavelength_m / (4 * np.pi) * phase).astype(np.float32),
    )


def _band(path: Path, band: int) -> tuple["np.ndarray[Any, Any]", MapGrid]:
    if not path.exists():
        raise Refusal(f"topsApp left no {path.name}.", "See topsApp.log in the job's folder.")
    with rasterio.open(path) as file:
        t = file.transform
        grid = MapGrid(t.f + t.e / 2, t.c + t.a / 2, t.a, file.height, file.width)
        return np.asarray(file.read(band)), grid


def publish(job: Job, prepared: Prepared, work: Path) -> Path:
    """The product's folder, with the same files as the other engine's."""
    identity = identify(job, prepared)
    identity = replace(identity, product_id=identity.product_id + "-isce2")
    grid, layers = read_layers(work / MERGED, prepared.plan.wavelength_m)
    baselines = read_baselines((work / "topsProc.xml").read_text())
    good = layers.coherence[np.isfinite(layers.coherence)]
    quality = {
        "engine": "isce2-container",
        "image": job.parameters.container,
        "sign_convention": SIGN,
        "corrections_not_applied": list(NOT_APPLIED),
        "bursts": [p.name for p in prepared.plan.bursts],
        "coherence": {"mean": round(float(good.mean()), 4), "median": round(float(np.median(good)), 4)},
        "baseline": {"perpendicular_m": baselines[0].perpendicular_m, "parallel_m": baselines[0].parallel_m},
    }
    folder = job.folder / "outputs" / "interferogram" / identity.product_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lon, lat = np.array(prepared.footprint).T
    bounds = (lon.min(), lat.min(), lon.max(), lat.max())
    write_files(folder, grid, layers, identity, prepared.polynomials, bounds, quality)
    (folder / "quality.json").write_text(json.dumps(quality, indent=2))
    item = stac_item(identity, prepared.footprint, quality, {"engine": job.parameters.container})
    (folder / "granule.json").write_text(json.dumps(item, indent=2))
    return folder
