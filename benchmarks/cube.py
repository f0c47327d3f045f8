"""What the cube imager costs beside the bare gridder, beside one core, beside CASA, and beside its own predictions.

`make bench ARGS="cube [part …]"`; parts: pipeline, dask, memory, clean, x1a36. It changes to the imager's own environment
(`make -C algorithms/cube env`). CASA's side is `benchmarks/cube_casa.py`. Every figure stands beside a bound or a
peer of the same run.
"""
# ruff: noqa: E402  (the environment is chosen before anything is loaded from it)

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONWARNINGS="ignore")
ENVIRONMENT = "cube"
QUICK = ("pipeline", "memory", "--channels", "8")
ROOT = Path(__file__).resolve().parents[1]
if Path(sys.prefix) != ROOT / ".venvs" / ENVIRONMENT:
    python = ROOT / ".venvs" / ENVIRONMENT / "bin" / "python"
    if not python.exists():
        sys.exit("The imager's environment is not there: make -C algorithms/cube env")
    os.execv(python, [str(python), *sys.argv])

import numpy as np

from armillary_cube import cost, simulate, store
from armillary_cube.block import Places, image_block
from armillary_cube.clean import CleanSettings
from armillary_cube.gridder import dirty_image
from armillary_cube.plan import Plan, Request, make_plan
from armillary_cube.run import Executor, dask_client, run
from armillary_cube.visibilities import describe, read_rows

warnings.filterwarnings("ignore", module="zarr")  # of the names of its string types, which xradio's schema needs
REQUEST = Request(cell_arcsec=0.05, size=(512, 512))
PARTS = ("pipeline", "dask", "memory", "clean", "x1a36")


def main() -> None:
    """Run the parts that are asked for and print a table and one line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="Of which the best counts; more find a quiet moment.")
    parser.add_argument("--work", type=Path, default=None)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
        for part in chosen.parts:
            others = Others()
            figures = globals()[f"bench_{part}"](Path(folder), chosen.channels, chosen.rounds)
            print(json.dumps({"part": part, **figures, **others.told()}), flush=True)


class Others:
    """What everything else on the machine did meanwhile, the kernel's own work included: whether walls can be trusted."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), self._machine() - self._ours()

    def told(self) -> dict[str, float]:
        wall, busy = time.perf_counter() - self._start[0], self._machine() - self._ours() - self._start[1]
        return {"share of the cores that others used": round(busy / wall / (os.cpu_count() or 1), 2)}

    @staticmethod
    def _machine() -> float:
        """CPU seconds spent since the machine started: user, nice, system, interrupts and stolen (proc(5))."""
        fields = [int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:9]]
        return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _ours() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)


def alma_like(channels: int) -> simulate.Observation:
    """43 antennas over 500 m for an hour at 345 GHz: 108,360 rows."""
    return simulate.Observation(
        sources=(simulate.Source(2.0, 1.5, 1.0), simulate.Source(-3.0, -2.0, 0.3)),
        antennas_enu_m=simulate.spiral(500, 43), latitude_deg=-23.03, dec_deg=-30, hours=1.0, integration_s=30.0,
        channels=channels, first_channel_hz=345e9, channel_width_hz=0.5e6, polarizations=("XX", "YY"), noise_jy=0.05,
        dish_diameter_m=12, rest_frequency_hz=345.8e9, name="alma",
    )  # fmt: skip


def prepared(folder: Path, channels: int) -> Path:
    path = folder / f"alma{channels}.ps.zarr"
    return path if path.exists() else simulate.simulate(alma_like(channels), path, channels_per_chunk=8)


def bare_gridding(path: Path, plan: Plan, channels: int = 16) -> float:
    """CPU seconds of ducc0 alone for image and point spread function of one channel, on the set's own rows."""
    rows = read_rows(describe(path))
    uvw = np.ascontiguousarray(rows.uvw_m)
    values, weights = np.ones(len(uvw), np.complex64), rows.usable.astype(np.float32)
    start = time.thread_time()
    for channel in range(channels):
        for _ in range(2):
            dirty_image(plan.grid, uvw, plan.frequencies_hz()[channel], values, weights)
    return (time.thread_time() - start) / channels


def bench_pipeline(folder: Path, channels: int, rounds: int) -> dict[str, Any]:
    """The whole pipeline's CPU time over bare ducc0's, the best of some rounds each, and what was predicted before."""
    path = prepared(folder, channels)
    plan = make_plan(path, REQUEST)
    image_once(path, make_plan(path, replace(REQUEST, channels=(0, 7))), folder / "warm")
    predicted = cost.predict(plan, cost.measure_gridding(plan), 1)
    bares, runs = [], []
    for _ in range(rounds):
        bares.append(bare_gridding(path, plan) * plan.channels)
        runs.append(image_once(path, plan, folder / "pipeline"))
    bare, (wall, outcome) = min(bares), min(runs, key=lambda one: sum(one[1].cpu_seconds.values()))
    seconds = sum(outcome.cpu_seconds.values())
    stages = {k: round(v, 2) for k, v in outcome.cpu_seconds.items()}
    return {
        "whole over bare ducc0 (aim 1.5)": round(seconds / bare, 3),
        "million Stokes I visibilities per second and core (aim 3.5)": round(plan.visibilities / seconds / 1e6, 2),
        "bare ducc0's": round(plan.visibilities / bare / 1e6, 2),
        "cpu_seconds": round(seconds, 2), "bare_seconds": round(bare, 2), "wall_seconds": round(wall, 2),
        "predicted core-seconds over measured": round(predicted.core_seconds / seconds, 2),
        "share not gridding": round(1 - stages["grid"] / seconds, 3),
        "stages": stages, "shape": f"{plan.rows} rows x {plan.channels} channels, 512x512",
    }  # fmt: skip


def image_once(path: Path, plan: Plan, out: Path, executor: Executor | None = None) -> tuple[float, Any]:
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    outcome = run(plan, path, out, executor)
    return time.perf_counter() - start, outcome


def tasks_on(client: Any, path: Path, plan: Plan, out: Path) -> tuple[float, float]:
    """Wall seconds of all tasks on a client that is up and has loaded the program, and the CPU seconds of its workers."""
    from distributed import wait

    shutil.rmtree(out, ignore_errors=True)
    places = Places(path.resolve(), out.resolve())
    store.create(places.cube, plan)
    start, cpu = time.perf_counter(), sum(client.run(time.process_time).values())
    done = [client.submit(image_block, plan.to_json(), places, a, b, pure=False) for a, b in plan.tasks]
    wait(done)
    for future in done:
        future.result()
    wall = time.perf_counter() - start
    return wall, sum(client.run(time.process_time).values()) - cpu


def bench_dask(folder: Path, channels: int, rounds: int) -> dict[str, Any]:
    """The same tasks in a bare loop, on one Dask worker, on two, and on one that Dask started in its own way."""
    path = prepared(folder, channels)
    plan = make_plan(path, REQUEST)
    bare, bare_cpu = best([loop(path, plan, folder / "loop") for _ in range(rounds)])
    untended, untended_cpu = loop_untended(path, plan, folder / "loop", rounds)
    walls, cpus = {}, {}
    for workers in (1, 2):
        with dask_client(Executor("dask", workers)) as client:
            walls[workers], cpus[workers] = best_on(client, path, plan, folder, rounds)
    default_wall, default_cpu = on_dasks_own_worker(path, plan, folder, rounds)
    return {
        "one worker over bare loop (aim 1.05)": round(walls[1] / bare, 3),
        "two workers' efficiency (aim 0.85)": round(bare / (2 * walls[2]), 3),
        "worker with Dask's environment over bare loop": round(default_wall / bare, 3),
        "loop with Dask's MALLOC_TRIM_THRESHOLD_ and nothing done about it, over bare loop": round(untended / bare, 3),
        "the same four by CPU time": [
            round(cpus[1] / bare_cpu, 3), round(bare_cpu / cpus[2], 3), round(default_cpu / bare_cpu, 3),
            round(untended_cpu / bare_cpu, 3),
        ],
        "loop_seconds": round(bare, 2), "dask1_seconds": round(walls[1], 2), "dask2_seconds": round(walls[2], 2),
    }  # fmt: skip


def best(runs: list[tuple[float, float]]) -> tuple[float, float]:
    """The least wall and the least CPU seconds."""
    walls, cpus = zip(*runs, strict=True)
    return min(walls), min(cpus)


def loop(path: Path, plan: Plan, out: Path) -> tuple[float, float]:
    """Wall and CPU seconds of all tasks one after another in this process."""
    shutil.rmtree(out, ignore_errors=True)
    places = Places(path.resolve(), out.resolve())
    store.create(places.cube, plan)
    start, cpu = time.perf_counter(), time.process_time()
    for first, stop in plan.tasks:
        image_block(plan.to_json(), places, first, stop)
    return time.perf_counter() - start, time.process_time() - cpu


def loop_untended(path: Path, plan: Plan, out: Path, rounds: int) -> tuple[float, float]:
    """The same in a process whose allocator is as Dask's nanny has it."""
    script = (
        "import json, sys; from pathlib import Path; from armillary_cube import allocator; from armillary_cube.plan import Plan; "
        "import cube; allocator.keep_freed_memory = bool; path, out = map(Path, sys.argv[1:3]); "
        "plan = Plan.from_json(sys.stdin.read()); "
        "print(json.dumps(cube.best([cube.loop(path, plan, out) for _ in range(int(sys.argv[3]))])))"
    )
    command = [sys.executable, "-c", script, str(path), str(out), str(rounds)]
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, input=plan.to_json(), env=environment, stdout=subprocess.PIPE, text=True, check=True)
    wall, cpu = json.loads(done.stdout)
    return wall, cpu


def best_on(client: Any, path: Path, plan: Plan, folder: Path, rounds: int) -> tuple[float, float]:
    """The best of some rounds on workers that have loaded the program."""
    tasks_on(client, path, make_plan(path, replace(REQUEST, channels=(0, 15))), folder / "warm")
    return best([tasks_on(client, path, plan, folder / "dask") for _ in range(rounds)])


def on_dasks_own_worker(path: Path, plan: Plan, folder: Path, rounds: int) -> tuple[float, float]:
    """On a worker with the environment that Dask's nanny gives it."""
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as cluster, Client(cluster) as client:  # fmt: skip
        return best_on(client, path, plan, folder, rounds)


def bench_memory(folder: Path, channels: int, _rounds: int) -> dict[str, Any]:
    """Peak resident memory of one process that does one task after another, beside the formula; without and with CLEAN."""
    path = prepared(folder, channels)
    figures: dict[str, Any] = {}
    for name, clean in (("dirty", None), ("clean", CleanSettings(sigma=3.0))):
        plan = make_plan(path, replace(REQUEST, channels=(0, min(31, channels - 1)), clean=clean))
        peak = peak_resident_bytes(path, plan, folder / f"memory-{name}")
        figures |= {
            f"{name}: peak resident over formula (aim 1.5)": round(peak / plan.task_bytes, 2),
            f"{name}: peak_mb": round(peak / 1e6), f"{name}: formula_mb": round(plan.task_bytes / 1e6),
        }  # fmt: skip
    return figures


def peak_resident_bytes(path: Path, plan: Plan, out: Path) -> int:
    """Of a process of its own. Not ru_maxrss: a new process inherits in it the size of the one that started it."""
    script = (
        "import sys; from pathlib import Path; from armillary_cube.block import Places, image_block; "
        "plan = Path(sys.argv[1]).read_text(); places = Places(Path(sys.argv[2]), Path(sys.argv[3])); "
        "[image_block(plan, places, a, b) for a, b in eval(sys.argv[4])]; "
        "print(*[int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    places = Places(path.resolve(), out.resolve())
    store.create(places.cube, plan)
    (out / "plan.json").write_text(plan.to_json())
    command = [sys.executable, "-c", script, str(out / "plan.json"), str(path.resolve()), str(out), str(plan.tasks)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def bench_clean(folder: Path, channels: int, _rounds: int) -> dict[str, Any]:
    """CLEAN to three times the noise in one process and with two threads."""
    path = prepared(folder, channels)
    plan = make_plan(path, replace(REQUEST, channels=(0, 31), clean=CleanSettings(sigma=3.0)))
    one, outcome = image_once(path, plan, folder / "clean1")
    two, _ = image_once(path, plan, folder / "clean2", Executor("threads", 2))
    predicted = cost.predict(plan, cost.measure_gridding(plan), 1)
    statistics = store.Cube(outcome.places.cube).statistics()[:, 0]
    seconds = sum(outcome.cpu_seconds.values())
    return {
        "seconds per channel, one core": round(one / plan.channels, 3),
        "two threads' efficiency": round(one / (2 * two), 3),
        "predicted core-seconds over measured": round(predicted.core_seconds / seconds, 2),
        "median major cycles": float(np.median(statistics[:, store.COLUMNS.index("majors")])),
        "residual rms mJy": round(float(np.median(statistics[:, store.COLUMNS.index("rms_jy")])) * 1e3, 4),
    }  # fmt: skip


def bench_x1a36(folder: Path, _channels: int, _rounds: int) -> dict[str, Any]:
    """The shape of CNGI's X1a36 (31,020 rows x 1,025 channels x 2) from simulated visibilities to products."""
    from armillary_cube.products import write_products

    observation = replace(
        alma_like(1025), antennas_enu_m=simulate.spiral(45, 10), autos=True, times=564, integration_s=10.0,
        noise_jy=0.2, name="x1a36", dish_diameter_m=7,
    )  # fmt: skip
    start = time.perf_counter()
    path = simulate.simulate(observation, folder / "x1a36.ps.zarr")
    simulated = time.perf_counter() - start
    plan = make_plan(path, Request(cell_arcsec=0.5, size=(600, 1000)))
    assert plan.rows == 31_020
    predicted = cost.predict(plan, cost.measure_gridding(plan), 2, egress=True)
    wall, outcome = image_once(path, plan, folder / "x1a36", Executor("threads", 2))
    start = time.perf_counter()
    write_products(store.Cube(outcome.places.cube), folder / "x1a36" / "products", outcome)
    seconds = sum(outcome.cpu_seconds.values())
    return {
        "wall seconds on 2 cores": round(wall, 1), "core_seconds": round(seconds, 1),
        "core-seconds per 1e9 visibilities": round(seconds / plan.visibilities * 1e9, 1),
        "predicted core-seconds over measured": round(predicted.core_seconds / seconds, 2),
        "predicted wall over measured": round(predicted.wall_seconds / wall, 2),
        "price on one m5dn.4xlarge, whole node, $": round(wall / 3600 * cost.Prices().node_per_hour, 4),
        "requests predicted": predicted.requests, "request price $": round(predicted.request_price, 4),
        "egress price $ (if all planes leave)": round(predicted.egress_price, 3),
        "written GB": round(predicted.written_bytes / 1e9, 2),
        "products seconds": round(time.perf_counter() - start, 1), "simulation seconds": round(simulated, 1),
        "CNGI published, 128 threads, 97 s": "same shape, not like for like: a mosaic of 141 pointings, 2012 cores",
        "stages": {k: round(v, 2) for k, v in outcome.cpu_seconds.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
