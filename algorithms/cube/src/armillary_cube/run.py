"""Running a plan: in this process, with threads, or on Dask; the same tasks, the same bits, restartable everywhere."""

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as threads_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from armillary_cube import continuum, store
from armillary_cube.block import Places, image_block
from armillary_cube.errors import RefusalError
from armillary_cube.plan import Plan
from armillary_cube.visibilities import describe

logger = logging.getLogger(__name__)
THREAD_VARIABLES = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


LOCAL_WORKERS = {"distributed.nanny.pre-spawn-environ": THREAD_VARIABLES, "distributed.worker.profile.enabled": False}


@dataclass(frozen=True)
class Executor:
    """How tasks run: `serial`, `threads`, or `dask` with local workers or at a scheduler's address."""

    kind: str = "serial"
    workers: int = 1
    address: str = ""

    @staticmethod
    def parse(text: str) -> "Executor":
        """`serial`, `threads:4`, `dask:2`, or a scheduler's address such as `tcp://10.0.0.1:8786`."""
        kind, _, rest = text.partition(":")
        if kind == "serial" and not rest:
            return Executor()
        if kind in ("threads", "dask") and rest.isdigit() and int(rest) > 0:
            return Executor(kind, int(rest))
        if kind in ("tcp", "tls") and rest.startswith("//"):
            return Executor("dask", 0, text)
        raise RefusalError(f"executor {text!r} is unknown.", "use serial, threads:N, dask:N or a tcp:// address.")


@dataclass
class Progress:
    """What is done so far, for the log, the progress file and the final account."""

    plan: Plan
    wanted_channels: int
    start: float = field(default_factory=time.monotonic)
    channels: int = 0
    resumed_channels: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_read: int = 0

    def add(self, record: store.Record) -> None:
        self.channels += record.stop - record.first
        self.bytes_read += record.bytes_read
        for stage, seconds in record.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def line(self) -> dict[str, Any]:
        elapsed = max(1e-9, time.monotonic() - self.start)
        slowest = max(self.seconds, key=lambda s: self.seconds[s], default="start")
        per_channel = self.plan.rows * len(self.plan.stokes)
        done = self.channels + self.resumed_channels
        return {
            "fraction": round(done / max(1, self.wanted_channels), 4),
            "stage": slowest,
            "message": f"{done} of {self.wanted_channels} channels",
            "channels": done,
            "visibilities_per_second": round(self.channels * per_channel / elapsed),
            "bytes_per_second": round(self.bytes_read / elapsed),
            "cpu_seconds": {stage: round(s, 3) for stage, s in self.seconds.items()},
        }


@dataclass(frozen=True)
class Outcome:
    """What a run did: the account that goes into the product."""

    places: Places
    plan: Plan
    wall_seconds: float
    tasks_done: int
    tasks_resumed: int
    cpu_seconds: dict[str, float]


def run(
    plan: Plan,
    visibilities: Path,
    output: Path,
    executor: Executor | None = None,
    progress_file: Path | None = None,
    stop: threading.Event | None = None,
    share: tuple[int, int] = (1, 1),
) -> Outcome:
    """Image every unfinished block, then seal the cube; with `stop` set, end after the blocks in hand.

    With `share` (i, n) only the i-th of n shares of the blocks is done and the cube is left unsealed for `join`.
    """
    executor = executor or Executor()
    places = Places(visibilities.resolve(), output.resolve(), uuid4().hex)
    start = time.monotonic()
    plan = _prepare(plan, places)
    records = store.read_records(places.records, plan)
    wanted = shared_tasks(plan, *share)
    left = [task for task in wanted if task not in records]
    cpu_at_start = time.process_time()
    progress = Progress(plan, sum(b - a for a, b in wanted), resumed_channels=sum(b - a for a, b in records))
    resumed = len(records)
    for record in _execute(plan, places, left, executor, stop):
        records[record.first, record.stop] = record
        progress.add(record)
        _report(progress, progress_file)
    if executor.kind != "dask":  # what zarr's own threads did for us belongs to the account too
        rest = time.process_time() - cpu_at_start - sum(progress.seconds.values())
        progress.seconds["threads of input and output"] = max(0.0, rest)
    if not set(wanted) <= set(records):
        raise StoppedEarlyError(len(set(wanted) - set(records)))
    if share[1] == 1:
        _require_data(list(records.values()), plan)
        store.seal(places.cube, list(records.values()))
    return Outcome(places, plan, time.monotonic() - start, len(left), resumed, progress.seconds)


def _require_data(records: list[store.Record], plan: Plan) -> None:
    if not any(weight for record in records for channel in record.sum_of_weights for weight in channel):
        raise RefusalError(
            f"In {plan.set_name} every sample is flagged, or has no weight, in the channels chosen.",
            "look at its flags, or choose other channels.",
        )


def shared_tasks(plan: Plan, number: int, of: int) -> tuple[tuple[int, int], ...]:
    """The tasks of one of several shares, each a run of neighbouring channels; a share may be empty."""
    if not 1 <= number <= of:
        raise RefusalError(f"share {number} of {of} does not exist.", "count shares from 1.")
    count = len(plan.tasks)
    return plan.tasks[(number - 1) * count // of : number * count // of]


def join(parts: list[Path], output: Path) -> Outcome:
    """Put the shares of one plan together: their planes and records are other files, so this is copying.

    What they cost is told by their records, in which threads of input and output are not counted.
    """
    places = Places(Path(), output.resolve())
    plans = [store.Cube(part / "cube.img.zarr").plan for part in parts]
    if not parts or len({plan.digest for plan in plans}) != 1:
        raise RefusalError("The parts are of different plans, or there are none.", "join the parts of one run.")
    places.output.mkdir(parents=True, exist_ok=True)
    for part in parts:
        shutil.copytree(part / "cube.img.zarr", places.cube, dirs_exist_ok=True)
        if (part / "work" / "done").is_dir():  # a share of fewer blocks than shares may have had none
            shutil.copytree(part / "work" / "done", places.records, dirs_exist_ok=True)
    plan = max(plans, key=lambda p: len(p.tasks))
    records = store.read_records(places.records, plan)
    missing = [task for task in plan.tasks if task not in records]
    if missing:
        raise RefusalError(
            f"{len(missing)} of {len(plan.tasks)} blocks are in none of the parts.",
            "wait for all parts, or image the missing ones.", missing_input=True,
        )  # fmt: skip
    store.seal(places.cube, list(records.values()))
    spent = Progress(plan, plan.channels)
    for record in records.values():
        spent.add(record)
    return Outcome(places, plan, math.nan, len(plan.tasks), 0, spent.seconds)


class StoppedEarlyError(Exception):
    """The run was asked to stop; what is done is kept and the next run continues."""

    def __init__(self, left: int) -> None:
        super().__init__(f"stopped with {left} blocks left; run again to continue")
        self.left = left


def _prepare(plan: Plan, places: Places) -> Plan:
    """Lay out the cube or adopt the one that is there; fit the continuum if it has not been."""
    if places.cube.exists():
        plan = store.require_same_plan(places.cube, plan)
    else:
        shutil.rmtree(places.work, ignore_errors=True)
        store.create(places.cube, plan)
        (places.output / "plan.json").write_text(plan.to_json())
    if plan.continuum and not continuum.is_complete(places.continuum):
        continuum.fit(describe(places.visibilities, plan.partitions), plan.continuum, places.continuum)
    return plan


def _execute(
    plan: Plan, places: Places, tasks: list[tuple[int, int]], executor: Executor, stop: threading.Event | None
) -> Iterator[store.Record]:
    if not tasks:
        return iter(())
    work: Callable[..., Iterator[store.Record]] = {"serial": _serially, "threads": _threaded, "dask": _on_dask}[
        executor.kind
    ]
    return work(plan.to_json(), places, tasks, executor, stop or threading.Event())


def _serially(
    plan: str, places: Places, tasks: list[tuple[int, int]], _executor: Executor, stop: threading.Event
) -> Iterator[store.Record]:
    for first, last in tasks:
        if stop.is_set():
            return
        yield image_block(plan, places, first, last)


def _threaded(
    plan: str, places: Places, tasks: list[tuple[int, int]], executor: Executor, stop: threading.Event
) -> Iterator[store.Record]:
    def unless_stopped(first: int, last: int) -> store.Record | None:
        return None if stop.is_set() else image_block(plan, places, first, last)

    with ThreadPoolExecutor(executor.workers) as pool:
        waiting = [pool.submit(unless_stopped, first, last) for first, last in tasks]
        try:
            for done in threads_completed(waiting):
                record = done.result()
                if record is not None:
                    yield record
        finally:
            for future in waiting:
                future.cancel()


def _on_dask(
    plan: str, places: Places, tasks: list[tuple[int, int]], executor: Executor, stop: threading.Event
) -> Iterator[store.Record]:
    from distributed import as_completed

    with dask_client(executor) as client:
        # A worker that is killed costs only its blocks: they are pure, so they are simply run again elsewhere.
        waiting = [
            client.submit(image_block, plan, places, first, last, key=f"image-{first}-{last}", pure=False, retries=3)
            for first, last in tasks
        ]
        for future in as_completed(waiting):
            yield future.result()
            if stop.is_set():
                client.cancel(waiting)
                return


@contextmanager
def dask_client(executor: Executor) -> Iterator[Any]:
    """A client of the address, or of local workers with one thread each.

    What Dask's nanny sets for the allocator does not matter: see `allocator`. Its profiler, which looks at the Python stack
    a hundred times a second, is off: it sees nothing of the gridder and costs several per cent of a core.
    """
    import dask
    from distributed import Client, LocalCluster

    if executor.address:
        with Client(executor.address) as client:
            yield client
        return
    with (
        dask.config.set(LOCAL_WORKERS),
        LocalCluster(
            n_workers=executor.workers, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address=None, memory_limit=0, silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


def _report(progress: Progress, path: Path | None) -> None:
    line = progress.line()
    logger.info("%s, slowest stage %s", line["message"], line["stage"])
    if path is not None:
        with path.open("a") as out:
            out.write(json.dumps(line) + "\n")
