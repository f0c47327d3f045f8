"""How many jobs that do nothing get done in a second, with durable results: ours beside five others in the same run.

Run `.venv/bin/python benchmarks/job_throughput.py [--jobs N] [--only NAME…]`. Each system gets the machine to itself, with its
database, broker and workers in a folder of its own under `.bench/`. Jobs are queued first, then run; a rate is that between
the first and the last end that was seen. The peers' packages are pinned by hash in `benchmarks/peers/` and installed
under `.bench/peers`; RabbitMQ and Redis are Debian's, started as processes of ours on free ports. What is not installed is said
to be missing. Beside the rates stands what a job costs in CPU, which other work on the machine disturbs less.

Durable means: PostgreSQL with fsync and synchronous commits; RabbitMQ with persistent messages; Redis with its append-only file,
synced every second. Dask keeps nothing. Only Armillary keeps a history: job, attempt, two events, provenance.
"""

import argparse
import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from instance import CAPACITY, POOL, Instance, cpu_seconds, instance, register, until

from armillary.base import postgres
from armillary.client.client import Client

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / ".bench"
PEERS = Path(__file__).with_name("peers")
QUICK = ["--jobs", "500", "--only", "armillary http"]
BATCH = 500
# What waits before the jobs that only make the queue long, and what is being run: each by its index.
WAITING = f"""select (select count(*) from job_queue where worker_id is null and pool = '{POOL}' and priority > -1000)
                   + (select count(*) from job_queue where worker_id is not null and priority > -1000)"""
LEASES = 200


@dataclass
class Figure:
    """What was measured of one system."""

    submitted: float  # a second
    ran: float  # a second
    cpu_us: dict[str, float] = field(default_factory=dict)  # for each job, by part

    @property
    def both(self) -> float:
        """Jobs a second if they are queued and then run."""
        return 1 / (1 / self.submitted + 1 / self.ran)


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument(
        "--queued", type=int, nargs="*", default=[], help="ours over HTTP again with so many jobs behind"
    )
    parser.add_argument("--history", type=int, nargs="*", default=[], help="and with so many finished jobs kept")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        http_worker(*chosen.worker)
        return
    figures: dict[str, Figure] = {}
    for name in chosen.only:
        jobs = max(BATCH, chosen.jobs // SLOWER.get(name, 1))
        try:
            figures[name] = SYSTEMS[name](jobs)
        except MissingError as missing:
            print(f"{name}: not measured, {missing}", flush=True)
            continue
        show(name, figures[name])
    for queued, history in [*((number, 0) for number in chosen.queued), *((0, number) for number in chosen.history)]:
        name = f"http, {queued:,} queued" if queued else f"http, {history:,} in history"
        figures[name] = ours_http(chosen.jobs, queued, history)
        show(name, figures[name])
    print(json.dumps({
        "load": os.getloadavg()[0], "jobs": chosen.jobs,
        "rates": {name: {"submit": round(one.submitted), "run": round(one.ran), "cpu_us": one.cpu_us}
                  for name, one in figures.items()},
    }))  # fmt: skip


def show(name: str, figure: Figure) -> None:
    """One line of the table."""
    cost = ", ".join(f"{part} {us:.0f}" for part, us in figure.cpu_us.items())
    print(
        f"{name:24} submit {figure.submitted:8,.0f}/s   run {figure.ran:8,.0f}/s   µs of CPU a job: {cost}", flush=True
    )


class MissingError(Exception):
    """It is not installed here."""


# Ours ----------------------------------------------------------------------------------------------------------


def ours_http(jobs: int, queued: int = 0, history: int = 0) -> Figure:
    """Three processes that lease, do nothing and report, over HTTP in batches: the engine without a runner."""
    with instance(parent=folder()) as made:
        register(made, "noop", {"command": ["true"]})
        words = [sys.executable, __file__, "--worker", made.url, made.token]
        if queued or history:
            submit(made, 1, first=10**9)
            lengthen(made, queued, history)
        return measure(made, jobs, [words] * 3)


def ours_functions(jobs: int) -> Figure:
    """A whole runner: each job has its folder, log and limits; a warm function runs one after another."""
    with instance(parent=folder()) as made:
        register(made, "noop", {"python": "noop:main", "reuse": True}, {"noop.py": "def main(job):\n    pass\n"})
        return measure(made, jobs, [runner(made)])


def ours_forked(jobs: int) -> Figure:
    """The same with a fork for each job."""
    with instance(parent=folder()) as made:
        register(made, "noop", {"python": "noop:main"}, {"noop.py": "def main(job):\n    pass\n"})
        return measure(made, jobs, [runner(made)])


def ours_processes(jobs: int) -> Figure:
    """The same with a program for each job, /bin/true."""
    with instance(parent=folder()) as made:
        register(made, "noop", {"command": ["true"]})
        return measure(made, jobs, [runner(made)])


def measure(made: Instance, jobs: int, workers: Sequence[Sequence[str]]) -> Figure:
    """Queue, then run."""
    before = made.cpu()
    submitted = submit(made, jobs)
    middle = made.cpu()
    with started(workers, {"ARMILLARY_TOKEN": made.token}) as processes:
        ran = rate(lambda: jobs - made.query(WAITING)[0], jobs)
        used = sum(cpu_seconds(process.pid) for process in processes)
    after = made.cpu()
    kept = made.query("select count(*) from attempt where outcome = 'succeeded' and host <> 'history'")[0]
    assert kept >= jobs or made.query("select count(*) from job_queue where priority < 0")[0], (
        f"{kept} of {jobs} are kept"
    )
    cost = {f"{part} to submit": (middle[part] - before[part]) * 1e6 / jobs for part in before}
    cost |= {f"{part} to run": (after[part] - middle[part]) * 1e6 / jobs for part in before}
    return Figure(submitted, ran, cost | {"workers": used * 1e6 / jobs})


def lengthen(made: Instance, queued: int, history: int) -> None:
    """Put many jobs behind those that will be measured, or behind us: copies of one, written by the database itself."""
    copy = """insert into job (id, algorithm, algorithm_version, algorithm_digest, parameters, identity, twins, state,
                               pool, priority, resources, cause, "group", created_by, created_at, started_at, ended_at)
              select uuidv7(), algorithm, algorithm_version, algorithm_digest, parameters, md5(n::text) || md5(n::text),
                     'again', %(state)s, pool, -1000, resources, cause, "group", created_by, created_at, created_at,
                     created_at
              from (select * from job limit 1) as one, generate_series(1, %(number)s) as n
              returning id, identity, pool, "group", resources, created_at, algorithm"""
    queue = f"""with made as ({copy})
                insert into job_queue (job_id, pool, identity, "group", is_shared, priority, ready_at, cpu, memory_bytes,
                                       disk_bytes)
                select id, pool, identity, "group", false, -1000, created_at, (resources->>'cpu')::real,
                       (resources->>'memory_bytes')::bigint, (resources->>'disk_bytes')::bigint
                from made"""
    past = f"""with made as ({copy}),
                    tried as (
                        insert into attempt (job_id, number, leased_at, worker_id, host, pool, resources, started_at,
                                             ended_at, outcome)
                        select id, 1, created_at, id, 'history', pool, resources, created_at, created_at, 'succeeded'
                        from made)
               insert into event (at, subject, version, kind, actor, "group", detail)
               select created_at, 'job:' || id, version, kind, 'history', "group",
                      jsonb_build_object('job', id, 'algorithm', algorithm)
               from made, (values (1, 'job.submitted'), (3, 'job.finished')) as told (version, kind)"""
    for statement, number, state in ((queue, queued, "queued"), (past, history, "succeeded")):
        for start in range(0, number, 500_000):
            given = {"state": state, "number": min(500_000, number - start)}
            made.connection.execute(statement, given)  # type: ignore[arg-type]
    made.connection.execute("vacuum analyze")


def submit(made: Instance, jobs: int, first: int = 0, pool: str = POOL) -> float:
    """Queue jobs that differ, in batches over HTTP; how many a second."""
    begun = time.perf_counter()
    with made.client() as client:
        for start in range(first, first + jobs, BATCH):
            numbers = range(start, min(start + BATCH, first + jobs))
            client.submit_many([{"algorithm": "noop", "pool": pool, "parameters": {"n": n}} for n in numbers])
    return jobs / (time.perf_counter() - begun)


def runner(made: Instance) -> list[str]:
    """The words that start a runner with room for many small jobs."""
    place = made.home / "runner"
    return [sys.executable, "-m", "armillary.runner.main", "--url", made.url, "--pool", POOL, "--work", f"{place}/work",
            "--cache", f"{place}/cache", "--cpu", "0.04", "--memory", "4GiB", "--disk", "4GiB"]  # fmt: skip


def http_worker(url: str, token: str) -> None:
    """Lease, do nothing, report; the next leases are fetched while the last reports are sent."""
    with Client(url, token) as owner:
        wire = {"host": "bench", "pid": os.getpid(), "protocol": 1, "capacity": CAPACITY}
        registered = owner.register_worker(POOL, wire)
    worker = registered["worker"]
    done: queue.Queue[list[dict[str, Any]]] = queue.Queue(maxsize=2)

    def report() -> None:
        with Client(url, registered["token"]) as line:
            while True:
                results = line.finish(worker, done.get())
                assert all(result["outcome"] == "recorded" for result in results)

    threading.Thread(target=report, daemon=True).start()
    with Client(url, registered["token"]) as line:
        while True:
            leases = line.lease(worker, CAPACITY, LEASES, 5)["leases"]
            if leases:
                done.put(
                    [
                        {"job": one["job"], "lease": one["lease"], "outcome": "succeeded", "exit_code": 0}
                        for one in leases
                    ]
                )


# The peers -----------------------------------------------------------------------------------------------------


def celery_rabbitmq(jobs: int) -> Figure:
    """RabbitMQ carries, Redis keeps the results, as in HySDS."""
    with rabbitmq() as (broker, carrier), redis() as (backend, keeper):
        return celery(jobs, broker, backend, [carrier, keeper])


def celery_redis(jobs: int) -> Figure:
    """Redis carries and keeps."""
    with redis() as (broker, keeper):
        return celery(jobs, f"{broker}/1", f"{broker}/0", [keeper])


def celery(jobs: int, broker: str, backend: str, carriers: Sequence[int]) -> Figure:
    """Two processes of a prefork pool, many tasks ahead."""
    given = {"BROKER": broker, "BACKEND": backend, "JOBS": str(jobs)}
    begun = time.perf_counter()
    subprocess.run([python(), "celery_tasks.py"], cwd=PEERS, env=os.environ | given, check=True)
    submitted = jobs / (time.perf_counter() - begun)
    worker = [python(), "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "--without-gossip",
              "--without-mingle", "--loglevel", "ERROR"]  # fmt: skip
    port = int(backend.rpartition(":")[2].partition("/")[0])
    before = sum(map(cpu_seconds, carriers))
    with started([worker], given, PEERS) as processes:
        ran = rate(lambda: redis_keys(port), jobs)
        cost = {"workers": cpu_seconds(processes[0].pid), "carriers": sum(map(cpu_seconds, carriers)) - before}
    return Figure(submitted, ran, {part: used * 1e6 / jobs for part, used in cost.items()})


def procrastinate(jobs: int) -> Figure:
    """Twenty coroutines in one process."""
    with database() as (dsn, _, postmaster):
        given = {"DSN": dsn, "JOBS": str(jobs)}
        base = [python(), "-m", "procrastinate", "--app", "procrastinate_tasks.app", "--log-level", "error"]
        subprocess.run([*base, "schema", "--apply"], cwd=PEERS, env=os.environ | given, check=True)
        begun = time.perf_counter()
        subprocess.run([python(), "procrastinate_tasks.py"], cwd=PEERS, env=os.environ | given, check=True)
        submitted = jobs / (time.perf_counter() - begun)
        before = cpu_seconds(postmaster)
        with started([[*base, "worker", "--concurrency", "20"]], given, PEERS) as processes:
            ran = rate(counter(dsn, "select count(*) from procrastinate_jobs where status = 'succeeded'"), jobs)
            cost = {"workers": cpu_seconds(processes[0].pid), "database": cpu_seconds(postmaster) - before}
        return Figure(submitted, ran, {part: used * 1e6 / jobs for part, used in cost.items()})


def dask(jobs: int) -> Figure:
    """Two processes and a scheduler; what is lost is lost. Submitting and running cannot be told apart."""
    said = subprocess.run([python(), "dask_tasks.py"], cwd=PEERS, env=os.environ | {"JOBS": str(jobs)}, check=True,
                          capture_output=True, text=True)  # fmt: skip
    both = jobs / float(said.stdout.split()[-1])
    return Figure(2 * both, 2 * both)


def graphile(jobs: int) -> Figure:
    """One by one: a claim and a completion for each job."""
    return _graphile(jobs, "single")


def graphile_batched(jobs: int) -> Figure:
    """Claims and completions in batches, inside one process; a finished job is deleted."""
    return _graphile(jobs, "batched")


def _graphile(jobs: int, how: str) -> Figure:
    place = BENCH / "peers"
    if not (place / "node_modules" / "graphile-worker").is_dir():
        npm = needed("npm")
        place.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PEERS / name, place)
        subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--silent"], cwd=place, check=True)
    shutil.copy(PEERS / "graphile.mjs", place)
    words = [needed("node"), "graphile.mjs"]
    with database() as (dsn, given, postmaster):
        begun = time.perf_counter()
        subprocess.run([*words, "submit", str(jobs)], cwd=place, env=os.environ | given, check=True)
        submitted = jobs / (time.perf_counter() - begun)
        before = cpu_seconds(postmaster)
        with started([[*words, how]], given, place) as processes:
            ran = rate(counter(dsn, f"select {jobs} - count(*) from graphile_worker._private_jobs"), jobs)
            cost = {"workers": cpu_seconds(processes[0].pid), "database": cpu_seconds(postmaster) - before}
        return Figure(submitted, ran, {part: used * 1e6 / jobs for part, used in cost.items()})


# What they need ------------------------------------------------------------------------------------------------


def python() -> str:
    """The Python of the peers' own environment, made at first."""
    place = BENCH / "peers" / "venv"
    here, lock = place / "bin" / "python", PEERS / "requirements.lock"
    done = place / f".{hash_of(lock)}"
    if not done.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        words = [uv, "pip", "install", "--quiet", "--python", here, "--require-hashes", "-r", lock]
        subprocess.run(words, check=True)
        done.touch()
    return str(here)


def hash_of(file: Path) -> str:
    """What tells two lock files apart."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


@contextlib.contextmanager
def database() -> Iterator[tuple[str, dict[str, str], int]]:
    """The PostgreSQL that we use ourselves, with the same settings: its DSN, libpq's variables, its process."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir=folder()) as place:
        dsn = postgres.start(Path(place)).dsn
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        if "passfile" in parts:  # which Node.js does not look up for a socket
            parts["password"] = Path(str(parts["passfile"])).read_text().strip().rpartition(":")[2]
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        try:
            postmaster = int(next(Path(place).rglob("postmaster.pid")).read_text().splitlines()[0])
            yield dsn, {variable: str(parts[name]) for name, variable in names.items() if parts.get(name)}, postmaster
        finally:
            postgres.stop(Path(place))


def counter(dsn: str, sql: str) -> Callable[[], int]:
    """Asks a database for a number, again and again over one connection."""
    connection = psycopg.connect(dsn, autocommit=True)
    return lambda: int((connection.execute(sql).fetchone() or [0])[0])  # type: ignore[arg-type]


@contextlib.contextmanager
def redis() -> Iterator[tuple[str, int]]:
    """Debian's Redis with its append-only file."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-", dir=folder()) as place:
        words = [needed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", place, "--appendonly", "yes",
                 "--save", "", "--daemonize", "no", "--loglevel", "warning"]  # fmt: skip
        with started([words]) as (process,):
            until(lambda: answers(port), 30, "Redis")
            yield f"redis://127.0.0.1:{port}", process.pid


def redis_keys(port: int) -> int:
    """How many results Redis holds."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"DBSIZE\r\n")
        return int(line.recv(100).strip()[1:])


@contextlib.contextmanager
def rabbitmq() -> Iterator[tuple[str, int]]:
    """Debian's RabbitMQ, its node and files in a folder of ours."""
    program = next((path for path in ("/usr/lib/rabbitmq/bin/rabbitmq-server",) if Path(path).exists()), None)
    if program is None:
        raise MissingError("rabbitmq-server is not installed: apt install rabbitmq-server")
    port, distribution, mapper = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="rabbitmq-", dir=folder()) as place:
        given = {
            "RABBITMQ_NODENAME": f"bench{port}@localhost", "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(distribution), "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_MNESIA_BASE": place, "RABBITMQ_LOG_BASE": place, "HOME": place,
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/plugins", "RABBITMQ_PID_FILE": f"{place}/pid",
            "RABBITMQ_CONFIG_FILE": f"{place}/none", "RABBITMQ_CONF_ENV_FILE": f"{place}/none",
        }  # fmt: skip
        with started([[program]], given) as (process,):
            until(lambda: answers(port), 300, "RabbitMQ")
            yield f"amqp://guest:guest@127.0.0.1:{port}//", process.pid
        epmd = shutil.which("epmd") or "epmd"
        subprocess.run([epmd, "-port", str(mapper), "-kill"], capture_output=True, check=False)


def needed(program: str) -> str:
    """Where a program is."""
    if found := shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
        return found
    raise MissingError(f"{program} is not installed")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def folder() -> Path:
    """Where all that is measured keeps its files: on the disk, not in memory."""
    BENCH.mkdir(exist_ok=True)
    return BENCH


@contextlib.contextmanager
def started(
    commands: Sequence[Sequence[str | Path]], variables: Mapping[str, str] = {}, place: Path | None = None
) -> "Iterator[list[subprocess.Popen[bytes]]]":
    """Programs that run meanwhile, and nothing of them afterwards."""
    processes = [
        subprocess.Popen(list(words), env=os.environ | dict(variables), cwd=place, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, start_new_session=True)
        for words in commands
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def rate(done: Callable[[], int], jobs: int, seconds: float = 900) -> float:
    """Ends a second, between the first look at which some had ended and the one at which all had."""
    began, before = until(lambda: (seen := done()) and (time.perf_counter(), seen), seconds, "the first end", 0.1)
    while (seen := done()) < jobs:
        passed = time.perf_counter() - began
        if passed > seconds:
            raise TimeoutError(f"{seen} of {jobs} jobs ended within {seconds:g} s")
        # To count what waits costs the database as much as many a job: seldom until the end is near.
        left = (jobs - seen) / max(1.0, (seen - before) / passed)
        time.sleep(min(2.0, max(0.05, left / 2)))
    return (jobs - before) / max(1e-3, time.perf_counter() - began)


SYSTEMS: dict[str, Callable[[int], Figure]] = {
    "armillary http": ours_http,
    "armillary functions": ours_functions,
    "armillary forks": ours_forked,
    "armillary processes": ours_processes,
    "celery rabbitmq": celery_rabbitmq,
    "celery redis": celery_redis,
    "procrastinate": procrastinate,
    "dask": dask,
    "graphile": graphile,
    "graphile batched": graphile_batched,
}
# Slower ones run fewer jobs: each system for a comparable time.
SLOWER = {"armillary functions": 4, "armillary forks": 8, "armillary processes": 8, "celery rabbitmq": 4,
          "celery redis": 4, "procrastinate": 8, "graphile": 4}  # fmt: skip

if __name__ == "__main__":
    main()
