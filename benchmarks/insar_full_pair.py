"""Measures the interferogram of a full-size Sentinel-1 pair, end to end in one run, beside the machine's own bounds.

Run in the algorithm's environment, which `make -C algorithms/insar bench` does. The pair (27 bursts, 8.3 GB) is simulated
first, into the grid of a real pair where ARMILLARY_TEST_DATA points to one and made from nothing otherwise; it is kept
in the work folder and used again. Times of one run on a shared machine are noise: compare them with the bounds beside
them.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from armillary_insar.accuracy import BurstAccuracy
from armillary_insar.safe import read_product
from armillary_insar.simulator import pair as pairs

ENVIRONMENT = "insar"

REPOSITORY = Path(__file__).resolve().parent.parent
WHOLE = 9  # bursts of a subswath


def main() -> None:
    """Simulate, bound, process, compare with the truth."""
    options = arguments()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    if options.real_burst:
        table("IW1 burst 1 over the real elevation, ARMILLARY_TEST_DATA", real_burst(work / "burst"))
        return
    if options.seams:
        table("seams of two subswaths by three full bursts, coherence 0.93 to 0.97", coherent_seams(work))
        return
    # Subswaths count their bursts from different places: a part of the pair is the same bursts of the first two.
    names = ("IW1", "IW2", "IW3") if options.bursts == WHOLE else ("IW1", "IW2")
    made, told = pair(work, dict.fromkeys(names, options.bursts), (0.45, 0.92))
    print(f"pair: {told}")
    if not options.skip_bounds:
        table("bounds of this machine, one thread", bounds(work))
    chosen = [] if options.bursts == WHOLE else first_bursts(made, options.bursts)
    job = write_job(work / "job", made, options.swaths or list(names), chosen)
    used = run(job)
    product = next((job.parent / "outputs" / "interferogram").iterdir())
    quality = json.loads((product / "quality.json").read_text())
    samples = samples_of(made, quality["bursts"])
    print(
        f"\nprocessed {len(quality['bursts'])} bursts, {samples / 1e6:.0f} million samples a date: {used.wall_s:.1f} s, "
        f"{used.cpu_s:.1f} CPU s, peak {used.peak_gib:.2f} GiB, {used.cpu_s / samples * 34.74e6:.2f} CPU s per 34.7 million "
        f"samples; processors it kept busy {used.cpu_s / used.wall_s:.2f}, and had work for {used.wanted_s / used.wall_s:.2f}; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    table("stages", {k: f"{v['wall_s']:8.1f} s wall {v['cpu_s']:8.1f} s CPU" for k, v in quality["seconds"].items()})
    table(
        "where a burst's time goes: its kernels alone, one thread, CPU s per 34.7 million samples", kernels_alone(job)
    )
    table("against the truth", against_truth(job, made.truth))
    seams = [(abs(s["phase_mrad"]), s["sigma_mrad"]) for s in quality["seams"]]
    print(
        f"\nseams: largest {max(s[0] for s in seams):.2f} mrad (its standard error {max(seams)[1]:.2f}), "
        f"rms {np.sqrt(np.mean([s[0] ** 2 for s in seams])):.2f} of {len(seams)}; esd {quality['esd']['shift_lines']:+.6f} lines"
    )
    if options.two:
        print(side_by_side(work, made))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=REPOSITORY / ".bench" / "insar")
    parser.add_argument("--bursts", type=int, default=WHOLE, help="fewer: so many of two subswaths")
    parser.add_argument("--swaths", nargs="*", default=[])
    parser.add_argument("--skip-bounds", action="store_true")
    parser.add_argument("--two", action="store_true", help="also two jobs side by side against one after the other")
    parser.add_argument("--seams", action="store_true", help="instead: seams where speckle does not hide them")
    parser.add_argument("--real-burst", action="store_true", help="instead: one full burst over real elevation")
    return parser.parse_args()


def real_burst(out: Path) -> dict[str, str]:
    """One full burst of the real grid over its real elevation and 40 rad of displacement, against the truth.

    The elevation ends before one corner of the burst: cells beyond it are left out.
    """
    from armillary_insar.accuracy import Truth, burst_accuracy
    from armillary_insar.elevation import read_elevation
    from armillary_insar.interferogram import form_tile, set_up
    from armillary_insar.measurement import Measurement
    from armillary_insar.orbit import read_eof
    from armillary_insar.pairing import plan_pair
    from armillary_insar.simulator.deformation import Mogi
    from armillary_insar.simulator.scene import make_scene

    data = Path(os.environ["ARMILLARY_TEST_DATA"], "insar/safe_pair_morocco_eo_tools")
    grid, heights = pairs.read_grid(min(data.glob("dem*.tiff")))
    middle = (float(grid.latitudes().mean()), float(grid.longitudes().mean()))
    scene = make_scene(grid, heights + 50, Mogi(0, 0, 6000.0, 3e7), middle, (0.48, 0.92), 3)
    shutil.rmtree(out, ignore_errors=True)
    made = pairs.fill_pair(*sorted(data.glob("*.zip")), scene, out, {"IW1": [0]})
    products = [read_product(p) for p in (made.reference, made.secondary)]
    plan = plan_pair(products[0], products[1], (19, 7), ["IW1"], [products[0].swaths["IW1"].bursts[0].identifier])
    pair, orbits = plan.bursts[0], [read_eof(e, p.epoch) for e, p in zip(made.orbits, products, strict=True)]
    west, east = grid.longitude0_deg, float(grid.longitudes()[-1])
    elevation = read_elevation([made.elevation], (west - 0.1, 31.4, east + 0.1, 32.0), fill=0.0)
    setup = set_up(pair, orbits[0], orbits[1], elevation)
    spent = []
    for _ in range(2):  # the first run compiles
        start = time.process_time()
        tile = form_tile(
            setup, plan.mosaic, Measurement(products[0], pair.swath), Measurement(products[1], pair.secondary_swath)
        )
        spent.append(time.process_time() - start)
    y, x = np.meshgrid(
        np.arange(tile.cross.shape[0]) * 7.0 + 3, np.arange(tile.cross.shape[1]) * 19.0 + 9, indexing="ij"
    )
    row, column, *_ = setup.geometry.at(y, x, np.full(y.shape, 500.0))
    latitude = elevation.latitude0_deg + row * elevation.step_latitude_deg
    longitude = elevation.longitude0_deg + column * elevation.step_longitude_deg
    margin = 0.02  # what higher or lower ground can move a cell by
    known = (
        (longitude > west + margin)
        & (longitude < east - margin)
        & (latitude < grid.latitude0_deg - margin)
        & (latitude > float(grid.latitudes()[-1]) + margin)
    )
    tile.count[~known] = 0
    seen = burst_accuracy(setup, tile, plan.mosaic, Truth.load(made.truth, plan.mosaic))
    return {
        "CPU seconds of the burst, after compilation": f"{spent[1]:.2f}",
        "peak memory with the simulator's (GiB)": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}",
        "rms (rad)": f"{seen.rms_rad:.4f}",
        "rms / bound, looks from the windows": f"{seen.ratio_ideal:.3f}",
        "rms / bound, looks measured on the image": f"{seen.ratio_measured:.3f}",
        "bias (mrad)": f"{seen.bias_mrad:+.2f} ± {seen.bias_sigma_mrad:.2f}",
        "ramp in azimuth, range (mrad)": f"{seen.ramp_mrad[0]:+.2f}, {seen.ramp_mrad[1]:+.2f}",
        "cells": str(seen.cells),
    }


def coherent_seams(work: Path) -> dict[str, str]:
    """Phase steps between bursts and subswaths of one mosaic over ground that does not move."""
    made, told = pair(work, {"IW1": 3, "IW2": 3}, (0.93, 0.97))
    print(f"pair: {told}")
    job = write_job(work / "job-seams", made, ["IW1", "IW2"], first_bursts(made, 3))
    run(job)
    quality = json.loads(next((job.parent / "outputs" / "interferogram").glob("*/quality.json")).read_text())
    rows = {}
    for one in quality["seams"]:
        kind = "along the track" if one["along_track"] else "between subswaths"
        rows[f"{' – '.join(one['between'])}, {kind}"] = f"{one['phase_mrad']:+7.2f} ± {one['sigma_mrad']:.2f} mrad"
    return rows


def pair(work: Path, bursts: dict[str, int], coherence: tuple[float, float]) -> tuple[pairs.MadePair, str]:
    """The pair in the work folder with so many bursts of each subswath, simulated if it is not there yet."""
    data = os.environ.get("ARMILLARY_TEST_DATA")
    real = sorted(Path(data, "insar/safe_pair_morocco_eo_tools").glob("*.zip")) if data else []
    named = "-".join(f"{name.lower()}x{count}" for name, count in bursts.items())
    out = work / f"pair-{'real-grid' if real else 'made-up'}-{named}"
    mark = out / "simulated.json"
    if not mark.exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        start, cpu = time.perf_counter(), time.process_time()
        if real:
            selection = {name: list(range(count)) for name, count in bursts.items()}
            pairs.fill_real(real[0], real[1], out, None, selection, "none", coherence, 5, 2)
        else:
            swaths = tuple(replace(s, bursts=bursts[s.name]) for s in pairs.FULL if s.name in bursts)
            pairs.make_pair(pairs.PairSpec(swaths=swaths, source="none", coherence=coherence, seed=5), out)
        mark.write_text(json.dumps({"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}))
    safes = sorted(out.glob("*.SAFE"))
    made = pairs.MadePair(
        safes[0], safes[1], out / "elevation.tif", tuple(sorted(out.glob("*.EOF"))), out / "truth" / "truth.npz"
    )
    spent = json.loads(mark.read_text())
    return made, (
        f"{out.name}, simulated in {spent['wall_s']:.0f} s wall, {spent['cpu_s']:.0f} CPU s "
        f"({spent['cpu_s'] / sum(bursts.values()):.1f} per burst of both dates)"
    )


def bounds(work: Path) -> dict[str, str]:
    """What the machine can do: memory, FFT, disk, inflate."""
    block = np.ones(1 << 27, np.uint8)
    copy = np.empty_like(block)
    image = np.ones((1024, 8192), np.complex64)
    packed = zlib.compress((np.random.default_rng(0).normal(0, 74, 1 << 23)).astype(np.int16).tobytes(), 1)
    size = len(zlib.decompress(packed))
    file = work / "bound.bin"

    def write() -> None:
        with file.open("wb") as sink:
            for _ in range(8):
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())

    def read() -> None:
        with file.open("rb") as source:
            os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while source.read(1 << 24):
                pass

    found = {
        "memory copy": f"{len(block) / best(lambda: np.copyto(copy, block)) / 1e9:8.1f} GB/s",
        "FFT along rows, complex64": f"{image.size / best(lambda: fft.fft(image, axis=1)) / 1e6:8.0f} M samples/s",
        "FFT along columns, complex64": f"{image.size / best(lambda: fft.fft(image, axis=0)) / 1e6:8.0f} M samples/s",
        "inflate": f"{size / best(lambda: zlib.decompress(packed)) / 1e6:8.0f} MB/s",
        "disk write, synced": f"{8 * len(block) / best(write, 1) / 1e6:8.0f} MB/s",
        "disk read": f"{8 * len(block) / best(read, 1) / 1e6:8.0f} MB/s",
    }
    file.unlink()
    return found


def best(action: Callable[[], Any], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return min(taken)


def write_job(folder: Path, made: pairs.MadePair, swaths: list[str], bursts: list[int] | None = None) -> Path:
    """A job folder with the pair as inputs."""
    shutil.rmtree(folder, ignore_errors=True)
    inputs: dict[str, list[dict[str, Any]]] = {}
    roles = [("reference", made.reference), ("secondary", made.secondary), ("elevation", made.elevation)]
    for role, path in roles + [("orbits", p) for p in made.orbits]:
        place = folder / "inputs" / role / path.name
        place.mkdir(parents=True)
        (place / path.name).symlink_to(path.resolve())
        inputs.setdefault(role, []).append({"id": path.name, "revision": 1, "path": str(place.relative_to(folder))})
    parameters = {"swaths": swaths, "bursts": bursts or []}
    (folder / "job.json").write_text(json.dumps({"parameters": parameters, "inputs": inputs, "resources": {"cpu": 2}}))
    return folder / "job.json"


@dataclass(frozen=True)
class Run:
    """What one job took in a process of its own."""

    wall_s: float
    cpu_s: float
    peak_gib: float
    wanted_s: float  # seconds in which its threads ran, or could have run had other work not had the processor


def run(job: Path) -> Run:
    """Process one job."""
    command = [str(Path(sys.executable).with_name("armillary-insar")), "process", str(job)]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    seen: dict[str, int] = {}
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        seen |= thread_times(process.pid)
        time.sleep(0.1)
    wall = time.perf_counter() - start
    _, status, used = ended
    if status:
        raise SystemExit(f"the job failed with status {status}; see {job.parent / 'error.json'}")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20, sum(seen.values()) / 1e9)


def thread_times(pid: int) -> dict[str, int]:
    """Nanoseconds that each thread has run or waited for a processor (Linux counts both)."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):  # it has just ended
            ran, waited, _ = (thread / "schedstat").read_text().split()
            found[thread.name] = int(ran) + int(waited)
    return found


def first_bursts(made: pairs.MadePair, count: int) -> list[int]:
    return [b.identifier for b in read_product(made.reference).swaths["IW1"].bursts[:count]]


def samples_of(made: pairs.MadePair, bursts: list[str]) -> int:
    swaths = read_product(made.reference).swaths
    return sum(swaths[b.split("-")[0]].lines_per_burst * swaths[b.split("-")[0]].samples_per_burst for b in bursts)


def kernels_alone(job: Path) -> dict[str, str]:
    """Each kernel on lines in the middle of the first burst: what the stage of the bursts is made of."""
    from armillary_insar import interferogram, kernels
    from armillary_insar.geometry import SEGMENT
    from armillary_insar.job import read_job
    from armillary_insar.measurement import Measurement
    from armillary_insar.process import prepare

    prepared = prepare(read_job(job))
    pair = prepared.plan.bursts[0]
    setup = interferogram.set_up(pair, *prepared.orbits, prepared.elevation)
    source = Measurement(prepared.plan.secondary, pair.secondary_swath)
    first, lines, samples = pair.swath.lines_per_burst // 2, 84, pair.swath.samples_per_burst
    raw = source.lines(pair.secondary_burst.first_line + first, lines)
    carrier, line_s, geometry = setup.carrier.table(), pair.swath.line_interval_s, setup.geometry
    re, im = np.empty(raw.shape, np.float32), np.empty(raw.shape, np.float32)
    nodes_at = geometry.range_basis()
    nodes = np.empty((4, geometry.coefficients.shape[1], nodes_at.shape[1]))
    basis = geometry.azimuth_basis(np.arange(first, first + lines, dtype=float))
    heights, time2, difference = np.zeros(samples), np.empty(samples), np.empty(samples)
    y, x = np.full(samples, 40.3), np.linspace(8.4, samples - 8.6, samples)
    one, two, three, four = (np.empty(samples, np.float32) for _ in range(4))
    inside, table_ = np.array([0, lines, 0, samples]), kernels.kernel_table()
    mid, half, dem = geometry.height_mid_m, geometry.height_half_m, setup.elevation
    steps: dict[str, tuple[Callable[[], Any], int]] = {
        "read int16 and convert, both dates": (
            lambda: source.lines(pair.secondary_burst.first_line + first, lines), raw.size // 2,
        ),
        "deramp": (lambda: kernels.deramp(raw, carrier, -0.2, line_s, re, im), raw.size),
        "geometry: polynomials of a line": (
            lambda: kernels.segment_nodes(geometry.coefficients, basis[0], nodes_at, nodes), samples,
        ),
        "geometry: heights (Newton)": (
            lambda: kernels.solve_heights(nodes, SEGMENT, samples, dem, mid, half, heights[0], heights), samples,
        ),
        "geometry: secondary time and range": (
            lambda: kernels.pair_offsets(nodes, SEGMENT, samples, heights, time2, difference), samples,
        ),
        "resample 8 × 8": (lambda: kernels.resample_line(re, im, y, x, inside, table_, one, two), samples),
        "reramp, flatten, multiply": (
            lambda: kernels.interfere_line(
                raw[0], one, two, time2, x, difference, carrier, -0.2, 2 / pair.swath.wavelength_m, three, four
            ),
            samples,
        ),
    }  # fmt: skip
    found = {}
    for name, (action, count) in steps.items():
        action()  # compiles
        found[name] = 34.74e6 / count * best(action, 7)
    image = np.ones((1024, 8192), np.complex64)
    one_fft = 34.74e6 / image.size * best(lambda: fft.fft(image, axis=1))
    found["together"] = sum(found.values())
    return {n: f"{s:8.2f} s, {s / one_fft:5.1f} times an FFT along rows" for n, s in found.items()}


def against_truth(job: Path, truth: Path) -> dict[str, str]:
    """Wrapped-phase error of the tiles in the checkpoint against the simulator's truth and the Cramér–Rao bound."""
    from armillary_insar.accuracy import against_truth as compare

    rows = compare(job, truth)
    farthest = max(rows, key=lambda r: r.ratio_measured)
    torn = max(rows, key=lambda r: r.ratio_ground)
    worst = {
        "coherence seen less foreseen": max((r.mean_coherence - r.foreseen_coherence for r in rows), key=abs),
        "rms / bound, looks from the windows": max(r.ratio_ideal for r in rows),
        "rms / bound, looks measured on the image": max(r.ratio_measured for r in rows),
        "… as if the dates' spectra were not shifted": torn.ratio_ground,
        "largest |bias| (mrad)": max(abs(r.bias_mrad) for r in rows),
        "its standard error (mrad)": max(r.bias_sigma_mrad for r in rows),
        "largest |ramp| over a burst (mrad)": max(max(map(abs, r.ramp_mrad)) for r in rows),
    }
    return {f"{k}, worst of {len(rows)} bursts": f"{v:9.3f}" for k, v in worst.items()} | {
        "the burst farthest from its bound": told(farthest),
        "… from that of spectra that are not shifted": told(torn),
        "wrong cycles in the mosaic": f"{rows[0].wrong_cycles}",
    }


def told(row: BurstAccuracy) -> str:
    return (
        f"{row.name}: {row.ratio_measured:.3f} ({row.ratio_ground:.3f}), coherence {row.mean_coherence:.4f} seen, "
        f"{row.foreseen_coherence:.4f} foreseen; of the ground's the baseline leaves {row.baseline_coherence:.4f}, "
        f"the Doppler {row.doppler_coherence:.4f}"
    )


def side_by_side(work: Path, made: pairs.MadePair) -> str:
    """Two jobs of a few bursts at once, against one after the other."""
    jobs = [write_job(work / f"two-{k}", made, ["IW1"], first_bursts(made, 3)) for k in range(4)]
    start = time.perf_counter()
    for job in jobs[:2]:
        run(job)
    one_by_one = time.perf_counter() - start
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, jobs[2:]))
    return f"\ntwo jobs of three bursts: one after the other {one_by_one:.1f} s, side by side {time.perf_counter() - start:.1f} s"


def table(title: str, rows: dict[str, str]) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:58} {value}")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tempfile.tempdir = None
    main()
