"""Ten thousand workers on one server, and the campaign of a mission in simulated time.

Run `.venv/bin/python benchmarks/scale.py [fleet | campaign]`.

`fleet`: simulated workers speak HTTP to a real server on this machine: each idle one holds a poll for work and beats when it
was told to; each busy one leases, holds its command poll, waits as long as its job lasts, and reports. For each size of the
idle fleet: how long from the submission of one job until a worker has it. Then busy workers beside them: are heartbeats and
leases on time, and what does the server use? A process may open some 20,000 files here, so heartbeats share connections.

`campaign`: the reprocessing of OCO-2 by HySDS, 6 million jobs of 14.4 s on 1,000 workers in one day, through the functions
and statements that the server runs for each call, with the database's clock moved along. A part of the day is replayed
(`--jobs`), each lease, heartbeat and report as a transaction of its own; CPU time is given for each job and for the whole.
"""

import argparse
import asyncio
import contextlib
import gc
import heapq
import itertools
import json
import math
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from instance import POOL, Instance, cpu_seconds, instance, register

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Resources
from armillary.base import postgres
from armillary.base.db import Database
from armillary.base.migrate import migrate
from armillary.jobs.job import AttemptOutcome, JobRequest, Report
from armillary.jobs.queue import Beat
from armillary.jobs.submit import submit_many
from armillary.pools import worker as workers
from armillary.pools.pool import Arrival, pulse
from armillary.runner.session import HELD_SECONDS, spread
from armillary.testing.world import OWNER, World, algorithm

ONE = {"cpu": 0.01, "memory_bytes": 32 << 20, "disk_bytes": 32 << 20}
QUICK = [
    "--idle",
    "1",
    "20",
    "--busy",
    "5",
    "--job-seconds",
    "1",
    "--seconds",
    "5",
    "--probes",
    "3",
    "--jobs",
    "30",
    "--workers",
    "10",
]
BUSY_POOL = "busy"
ARRIVING = 400  # workers a second
FREE = Resources(1, 2**40, 2**40, math.inf)
CAMPAIGN_JOBS, CAMPAIGN_WORKERS, DAY_SECONDS = 6_000_000, 1_000, 86_400


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("fleet", "campaign", "all"), default="all")
    parser.add_argument("--idle", type=int, nargs="*", default=[1, 100, 1_000, 10_000], help="sizes of the idle fleet")
    parser.add_argument("--busy", type=int, default=1_000)
    parser.add_argument("--job-seconds", type=float, default=14.4)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the busy ones are looked at")
    parser.add_argument("--probes", type=int, default=30, help="jobs submitted one by one for each size")
    parser.add_argument("--workers", type=int, default=CAMPAIGN_WORKERS, help="of the campaign")
    parser.add_argument("--jobs", type=int, default=3_000, help="how much of the campaign is replayed")
    chosen = parser.parse_args()
    said: dict[str, Any] = {"load": os.getloadavg()[0]}
    if chosen.what != "campaign":
        said["fleet"] = fleet(chosen.idle, chosen.busy, chosen.job_seconds, chosen.seconds, chosen.probes)
    if chosen.what != "fleet":
        said["campaign"] = asyncio.run(campaign(chosen.jobs, chosen.workers))
    print(json.dumps(said))


# The fleet -----------------------------------------------------------------------------------------------------


def fleet(idle: Sequence[int], busy: int, job_seconds: float, seconds: float, probes: int) -> dict[str, Any]:
    """Lease latency at each size, then the busy ones."""
    said: dict[str, Any] = {}
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with instance() as made:
        register(made, "noop", {"command": ["true"]})
        known: list[tuple[str, str]] = []
        with contextlib.ExitStack() as stack:
            arrived: multiprocessing.Queue[float] = multiprocessing.Queue()
            late: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
            stop = multiprocessing.Event()
            for size in idle:
                new = enrol(made, size - len(known))
                known += new
                stack.enter_context(simulated(made.url, new, 0.0, told(size), arrived, late, stop))
                time.sleep(1 + len(new) / ARRIVING)
                latencies = [probe(made, arrived) for _ in range(probes)]
                said[f"{size} idle"] = summary(latencies)
                print(f"{size:6,} idle workers: a job is leased after {said[f'{size} idle']}", flush=True)
            # In a pool of their own, or the idle ones, who stand in line, would take their work.
            with made.client() as client:
                client.apply([{"kind": "pool", "id": BUSY_POOL, "provider": "none"}])
            working = enrol(made, busy, BUSY_POOL)
            every_seconds = told(len(known) + busy)
            stack.enter_context(simulated(made.url, working, job_seconds, every_seconds, arrived, late, stop))
            said["busy"] = look_at(made, len(known), busy, job_seconds, seconds)
            stop.set()
            beats = list(itertools.chain.from_iterable(late.get(timeout=120) for _ in range(len(idle) + 1)))
            said["heartbeats"] = summary(beats) | {
                "number": len(beats), "every_seconds": every_seconds,
                "later than the next was due": sum(one > every_seconds * 1e3 for one in beats),
            }  # fmt: skip
            print(f"heartbeats, answered after they were due: {said['heartbeats']}", flush=True)
        lost = made.query("select count(*) from worker where state = 'gone'")[0]
        said["workers declared gone"] = lost
        print(f"workers declared gone: {lost}")
    return said


def told(workers: int) -> float:
    """How often a registration tells a worker to beat in a fleet of this size, in seconds."""
    return pulse(workers, timedelta(seconds=2), timedelta(seconds=15)).every.total_seconds()


def look_at(made: Instance, idle: int, busy: int, job_seconds: float, seconds: float) -> dict[str, Any]:
    """Keep the queue filled while the busy ones work; what they got done and what it cost."""
    from job_throughput import submit

    wished = int(busy * (seconds + 60) / job_seconds)
    submit(made, wished, first=1_000_000_000, pool=BUSY_POOL)
    time.sleep(max(10.0, job_seconds))  # until each has its first job
    before, begun = made.cpu(), time.perf_counter()
    done = made.query("select count(*) from attempt where ended_at is not null")[0]
    time.sleep(seconds)
    passed = time.perf_counter() - begun
    ended = made.query("select count(*) from attempt where ended_at is not null")[0] - done
    after = made.cpu()
    said = {"jobs a second": round(ended / passed, 1), "possible": round(busy / job_seconds, 1)}
    said |= {f"{part} cores": round((after[part] - before[part]) / passed, 2) for part in before}
    print(f"{busy:6,} busy beside {idle:,} idle: {said}", flush=True)
    return said


def enrol(made: Instance, number: int, pool: str = POOL) -> list[tuple[str, str]]:
    """Register workers, in the database, as so many registrations over HTTP would only measure themselves."""

    async def do() -> list[tuple[str, str]]:
        database = Database(postgres.dsn(made.home), connections=2)
        await database.open()
        found = []
        capacity = Resources(ONE["cpu"], int(ONE["memory_bytes"]), int(ONE["disk_bytes"]), 0)
        for start in range(0, number, 500):
            async with database.transaction() as tx:
                for _ in range(start, min(start + 500, number)):
                    one = await workers.register(tx, OWNER, pool, Arrival("simulated", 1, 1, capacity))
                    found.append((str(one.worker), one.token))
                    patience = timedelta(minutes=5)  # until its simulation has begun
                    await workers.heartbeat(tx, one.worker, [], patience, patience)
        await database.close()
        return found

    return asyncio.run(do())


def probe(made: Instance, arrived: "multiprocessing.Queue[float]") -> float:
    """Submit one job; milliseconds until a worker has it in its hands."""
    with made.client() as client:
        begun = time.time()
        job = {"algorithm": "noop", "pool": POOL, "parameters": {"n": int(begun * 1e6)}, "twins": "again"}
        client.submit(job)
        return (arrived.get(timeout=60) - begun) * 1000


@contextlib.contextmanager
def simulated(
    url: str,
    known: Sequence[tuple[str, str]],
    job_seconds: float,
    beat_seconds: float,
    arrived: "multiprocessing.Queue[float]",
    late: "multiprocessing.Queue[list[float]]",
    stop: Event,
) -> Iterator[None]:
    """Workers in a process of their own."""
    process = multiprocessing.Process(
        target=lambda: simulate(Simulation(url, job_seconds, beat_seconds, arrived, stop).run(known, late)),
        daemon=True,
    )
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(10)
        process.kill()


def simulate(workers: Coroutine[Any, Any, None]) -> None:
    """Run them; a pause of their process for its garbage would be measured as one of the server."""
    gc.disable()
    asyncio.run(workers)


class Simulation:
    """Many workers in one event loop."""

    def __init__(
        self, url: str, job_seconds: float, beat_seconds: float, arrived: "multiprocessing.Queue[float]", stop: Event
    ) -> None:
        self._host = urlsplit(url)
        self._job_seconds = job_seconds
        self._beat_seconds = beat_seconds
        self._arrived = arrived
        self._stop = stop
        self._late: list[float] = []
        self._beating: asyncio.Queue[Line] = asyncio.Queue()

    async def run(self, known: Sequence[tuple[str, str]], late: "multiprocessing.Queue[list[float]]") -> None:
        """Until told to stop; then says by how many milliseconds each heartbeat was late."""
        for _ in range(min(32, len(known))):
            self._beating.put_nowait(Line(self._host.hostname or "", self._host.port or 80))
        arriving_seconds = max(self._job_seconds, len(known) / ARRIVING)
        tasks = [asyncio.create_task(self._worker(*one, arriving_seconds)) for one in known]
        while not self._stop.is_set():
            await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        late.put(self._late)

    async def _worker(self, worker: str, token: str, within_seconds: float) -> None:
        await asyncio.sleep(random.random() * within_seconds)
        running: dict[str, dict[str, Any]] = {}
        loops = [self._lease(worker, token, running), self._beat(worker, token, running)]
        if self._job_seconds:
            loops.append(self._listen(worker, token))
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)

    async def _lease(self, worker: str, token: str, running: dict[str, dict[str, Any]]) -> None:
        line = Line(self._host.hostname or "", self._host.port or 80)
        while True:
            body = {"free": ONE, "count": 1, "wait_seconds": spread(HELD_SECONDS)}
            answer = await line.post(f"/api/workers/{worker}/lease", token, body)
            for lease in answer["leases"]:
                key = {"job": lease["job"], "lease": lease["lease"]}
                if not self._job_seconds:
                    self._arrived.put(time.time())
                running[lease["job"]] = key
                await asyncio.sleep(self._job_seconds)
                report = key | {"outcome": "succeeded", "exit_code": 0}
                await line.post(f"/api/workers/{worker}/finish", token, {"reports": [report]})
                del running[lease["job"]]

    async def _beat(self, worker: str, token: str, running: dict[str, dict[str, Any]]) -> None:
        every = self._beat_seconds
        due = time.monotonic() + random.random() * every
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            line = await self._beating.get()
            try:
                body = {"running": list(running.values())}
                every = (await line.post(f"/api/workers/{worker}/heartbeat", token, body))["heartbeat_seconds"]
            finally:
                self._beating.put_nowait(line)
            self._late.append((time.monotonic() - due) * 1000)
            due = max(due + spread(every), time.monotonic())

    async def _listen(self, worker: str, token: str) -> None:
        line = Line(self._host.hostname or "", self._host.port or 80)
        while True:
            await line.post(f"/api/workers/{worker}/commands", token, {"wait_seconds": spread(HELD_SECONDS)})


class Line:
    """One kept connection; no more of HTTP than this needs, so that the simulation costs little."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, token: str, body: Any) -> Any:
        """Send JSON, get JSON."""
        self._streams = self._streams or await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(answer.split(" ", 2)[1])
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        content = await reader.readexactly(length)
        if status >= 400:
            raise RuntimeError(f"{path}: {status} {content.decode()}")
        return json.loads(content)


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and worst."""
    ordered = sorted(milliseconds)
    return {
        "median ms": round(statistics.median(ordered), 1),
        "p99 ms": round(ordered[int(len(ordered) * 0.99) - (len(ordered) < 100)], 1),
        "worst ms": round(ordered[-1], 1),
    }


# The campaign --------------------------------------------------------------------------------------------------


async def campaign(jobs: int, fleet_size: int) -> dict[str, Any]:
    """Replay so many of the campaign's jobs on as many of its workers as keep busy; CPU time for each and for all."""
    job_seconds = CAMPAIGN_WORKERS * DAY_SECONDS / CAMPAIGN_JOBS
    every = pulse(CAMPAIGN_WORKERS, timedelta(seconds=2), timedelta(seconds=15)).every.total_seconds()
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as folder:
        home = Path(folder)
        dsn = postgres.start(home).dsn
        try:
            await migrate(dsn)
            database = Database(dsn, connections=1)
            await database.open()
            replay = Replay(database, job_seconds, every)
            await replay.prepare(home, fleet_size, jobs)
            postmaster = int(next(home.rglob("postmaster.pid")).read_text().splitlines()[0])
            before = time.process_time(), cpu_seconds(postmaster)
            begun = time.perf_counter()
            await replay.run()
            passed = time.perf_counter() - begun
            after = time.process_time(), cpu_seconds(postmaster)
            await database.close()
        finally:
            postgres.stop(home)
    python, base = ((end - start) / jobs for start, end in zip(before, after, strict=True))
    said = {
        "jobs replayed": jobs, "of": CAMPAIGN_JOBS, "workers": fleet_size, "job seconds": job_seconds,
        "simulated seconds": round(replay.now_seconds), "heartbeats": replay.beats, "wall seconds": round(passed),
        "server CPU ms a job": round(python * 1e3, 2), "database CPU ms a job": round(base * 1e3, 2),
        "cores for the day": round((python + base) * CAMPAIGN_JOBS / DAY_SECONDS, 2),
        "CPU hours for the campaign": round((python + base) * CAMPAIGN_JOBS / 3600, 1),
    }  # fmt: skip
    print(f"campaign: {said}", flush=True)
    return said


class Replay:
    """Workers as entries of a calendar; the database's clock stands at the entry that is looked at."""

    def __init__(self, database: Database, job_seconds: float, beat_seconds: float) -> None:
        self._database = database
        self._job_seconds = job_seconds
        self._beat_seconds = beat_seconds
        self._start = datetime.now(UTC)
        self.now_seconds = 0.0
        self.beats = 0
        self._calendar: list[tuple[float, int, str]] = []
        self._holds: dict[int, tuple[UUID, int]] = {}
        self._actors: list[Actor] = []
        self._left = 0

    async def prepare(self, home: Path, fleet_size: int, jobs: int) -> None:
        """Workers and jobs, and a clock that can be moved."""
        world = await World(self._database, home).make()
        await world.algorithm(algorithm("retrieve", inputs={}, outputs={}, parameters={"n": {"type": "integer"}}))
        self._actors = [await world.worker(capacity=FREE) for _ in range(fleet_size)]
        for start in range(0, jobs, 500):
            requests = [JobRequest("retrieve", parameters={"n": n}) for n in range(start, min(start + 500, jobs))]
            async with self._database.transaction() as tx:
                await submit_many(tx, OWNER, requests)
        self._left = jobs
        async with self._database.transaction() as tx:
            await tx.execute(
                """create or replace function armillary_now() returns timestamptz language sql stable
                   return current_setting('bench.now')::timestamptz"""
            )
        chance = random.Random(1)
        # In the middle of the campaign: workers are anywhere within their jobs.
        self._calendar = [(chance.random() * self._job_seconds, number, "lease") for number in range(fleet_size)]
        self._calendar += [(chance.random() * self._beat_seconds, number, "beat") for number in range(fleet_size)]
        heapq.heapify(self._calendar)

    async def run(self) -> None:
        """Until every job has ended."""
        while self._left:
            self.now_seconds, number, what = heapq.heappop(self._calendar)
            await getattr(self, f"_{what}")(number)

    def _later(self, seconds: float, number: int, what: str) -> None:
        heapq.heappush(self._calendar, (self.now_seconds + seconds, number, what))

    async def _lease(self, number: int) -> None:
        actor = self._actors[number]
        assert actor.worker_id
        async with self._at_its_time() as tx:
            leases, _ = await workers.lease(tx, actor.worker_id, FREE, 1)
        if leases:
            self._holds[number] = leases[0].job_id, leases[0].number
            self._later(self._job_seconds, number, "finish")

    async def _finish(self, number: int) -> None:
        actor = self._actors[number]
        assert actor.worker_id
        report = Report(*self._holds.pop(number), AttemptOutcome.SUCCEEDED, exit_code=0)
        async with self._at_its_time() as tx:
            (result,) = await workers.finish(tx, actor, actor.worker_id, [report])
        assert result.outcome == "recorded"
        self._left -= 1
        await self._lease(number)

    async def _beat(self, number: int) -> None:
        actor = self._actors[number]
        assert actor.worker_id
        held = [Beat(*self._holds[number])] if number in self._holds else []
        async with self._at_its_time() as tx:
            await workers.heartbeat(tx, actor.worker_id, held, timedelta(seconds=60))
        self.beats += 1
        self._later(self._beat_seconds, number, "beat")

    @contextlib.asynccontextmanager
    async def _at_its_time(self) -> Any:
        async with self._database.transaction() as tx:
            now = self._start + timedelta(seconds=self.now_seconds)
            await tx.execute("select set_config('bench.now', %s, false)", [now.isoformat()])
            yield tx


if __name__ == "__main__":
    main()
