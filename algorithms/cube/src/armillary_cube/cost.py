"""What a run will take and cost, before it starts; and the published runs that the model is held against.

Two models. `predict` knows this program: a measured second per channel on this machine's cores, plus reading and
writing. `published_wall_seconds` is the other program of CNGI's published runs, calibrated on 16 threads and asked for
the largest number: it says whether the shape of the model (work that divides, scheduling that does not) is right.
"""

import time
from dataclasses import dataclass

import numpy as np

from armillary_cube.gridder import dirty_image
from armillary_cube.plan import Plan

READ_BYTES_PER_SECOND = 0.6e9  # decode and reorder, per core; measured by benchmarks/cube.py
WRITE_BYTES_PER_SECOND = 0.7e9
TASK_SECONDS = 0.003  # Dask's own per task
TASK_START_SECONDS = 0.05  # metadata and uvw, per task
CLEAN_GRIDDINGS = 2  # each major cycle degrids and grids
TYPICAL_MAJORS = 5
MINOR_CYCLE_SHARE = 1.0  # radler takes about as long as the griddings between which it works


@dataclass(frozen=True)
class Prices:
    """Of a node per hour, and of what surrounds it; in whatever currency they are given."""

    node_per_hour: float = 1.088
    spot_share: float = 0.35  # what a spot node costs of an on-demand node
    spot: bool = False
    cores_per_node: int = 8
    put_per_1000: float = 0.005
    get_per_1000: float = 0.0004
    egress_per_gb: float = 0.09
    preemption_overhead: float = 0.05  # share of the work that spot nodes repeat

    @property
    def hourly(self) -> float:
        return self.node_per_hour * (self.spot_share if self.spot else 1.0)


@dataclass(frozen=True)
class Prediction:
    """A run before it starts."""

    core_seconds: float
    wall_seconds: float
    read_bytes: int
    written_bytes: int
    requests: int
    compute_price: float
    request_price: float
    egress_price: float
    limit: str

    @property
    def price(self) -> float:
        return self.compute_price + self.request_price + self.egress_price


def measure_gridding(plan: Plan, rows: int | None = None, seed: int = 0) -> float:
    """Seconds of one core to grid one channel's image once, on tracks like the plan's; a second or so of work."""
    rng = np.random.default_rng(seed)
    count = rows or plan.rows
    reach = 0.4 / plan.grid.cell_rad * 299_792_458.0 / plan.first_frequency_hz
    turn = np.linspace(0, np.pi / 2, max(1, count // 200 + 1))
    tracks = rng.uniform(0.02, 1, 200)[:, None] ** 0.8 * reach / 1.3
    phase = rng.uniform(0, 2 * np.pi, 200)[:, None] + turn[None, :]
    uvw = np.stack([tracks * np.cos(phase), tracks * np.sin(phase) * 0.7, tracks * 0.4 * np.cos(phase)], -1)
    uvw = uvw.reshape(-1, 3)[:count]
    values, weights = np.ones(len(uvw), np.complex64), np.ones(len(uvw), np.float32)
    best = np.inf
    for _ in range(3):
        start = time.thread_time()
        dirty_image(plan.grid, uvw, plan.first_frequency_hz, values, weights)
        best = min(best, time.thread_time() - start)
    return best * count / len(uvw)


def predict(
    plan: Plan, gridding_seconds: float, cores: int, prices: Prices | None = None, egress: bool = False
) -> Prediction:
    """From the seconds of one gridding to the whole run on so many cores."""
    prices = prices or Prices()
    planes = plan.channels * len(plan.stokes)
    griddings = 2.0
    if plan.clean:
        griddings += min(plan.clean.majors, TYPICAL_MAJORS) * CLEAN_GRIDDINGS * (1 + MINOR_CYCLE_SHARE)
    read = plan.rows * plan.channels * plan.hands * 13
    written = planes * plan.grid.width * plan.grid.height * 4 * (1 + len(plan.keep))
    stages = {
        "gridding": planes * griddings * gridding_seconds,
        "reading": read / READ_BYTES_PER_SECOND * (2 if plan.continuum else 1),
        "writing": written / WRITE_BYTES_PER_SECOND,
        "starting tasks": len(plan.tasks) * TASK_START_SECONDS,
    }
    core_seconds = sum(stages.values())
    busy = min(cores, len(plan.tasks))
    wall = core_seconds / busy + len(plan.tasks) * TASK_SECONDS
    hours = wall / 3600 * max(1.0, cores / prices.cores_per_node)
    if prices.spot:
        hours *= 1 + prices.preemption_overhead
    requests_get = len(plan.tasks) * 3
    requests_put = planes * (1 + len(plan.keep)) + len(plan.tasks)
    return Prediction(
        core_seconds=core_seconds,
        wall_seconds=wall,
        read_bytes=read,
        written_bytes=written,
        requests=requests_get + requests_put,
        compute_price=hours * prices.hourly,
        request_price=requests_get / 1000 * prices.get_per_1000 + requests_put / 1000 * prices.put_per_1000,
        egress_price=written / 1e9 * prices.egress_per_gb if egress else 0.0,
        limit=max(stages, key=lambda s: stages[s]),
    )


@dataclass(frozen=True)
class PublishedRun:
    """One data set of CNGI's benchmark on AWS spot nodes (read off its plots within about three per cent)."""

    name: str
    rows: int
    channels: int
    hands: int
    chunks: int
    seconds_at_16: float
    threads: int
    seconds: float

    @property
    def correlations(self) -> int:
        return self.rows * self.channels * self.hands


PUBLISHED = (
    PublishedRun("Xc66", 315_831, 7635, 2, 170, 1250, 256, 310),
    PublishedRun("X3be", 646_418, 3853, 2, 81, 4080, 256, 850),
    PublishedRun("X2e3", 100_284, 2048, 2, 128, 630, 128, 265),
    PublishedRun("X1a36", 31_020, 1025, 2, 69, 520, 128, 213),
)
PUBLISHED_TASK_SECONDS = 0.1  # "approximately 100 ms per task"
PUBLISHED_TASKS_PER_CHUNK = 10  # layers of its graph: an assumption, the same for all four data sets


def published_wall_seconds(run: PublishedRun, threads: int) -> float:
    """The model of the published program: work that divides among threads, and scheduling that does not."""
    scheduling = run.chunks * PUBLISHED_TASKS_PER_CHUNK * PUBLISHED_TASK_SECONDS
    work = (run.seconds_at_16 - scheduling) * 16
    return work / min(threads, run.chunks) + scheduling


def published_price(run: PublishedRun, threads: int, prices: Prices | None = None) -> float:
    """What that run costs on nodes of eight threads."""
    prices = prices or Prices(spot=True)
    return published_wall_seconds(run, threads) / 3600 * threads / prices.cores_per_node * prices.hourly
