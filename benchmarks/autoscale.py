"""A day of load on the real scaling decision, beside a fixed fleet and one that only counts the queue.

`python benchmarks/autoscale.py` prints the table; `--plot docs/concepts/autoscaling.svg` draws it as well. Time is
simulated, so the figures are the same on every machine: workers take 3 minutes to start, and every job is exactly as
long as its algorithm says. Nothing here is measured; what is compared are decisions.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.jobs.queue import Demand, Share
from armillary.pools.autoscale import Plan, plan
from armillary.pools.pool import Pool, Scale, Start

DAY, STEP, STARTING = 86400, 10, 180  # seconds
SIZE = Resources(2, 8 * 2**30, 100 * 2**30)
POOL = Pool(
    "day", "simulated", 0, 40, SIZE,
    Scale(timedelta(minutes=5), timedelta(minutes=30), cost_per_hour=0.4, max_cost_per_day=150.0),
)  # fmt: skip
SECONDS = {"browse": 30.0, "interferogram": 1500.0}
Decide = Callable[[Demand, Sequence[Start], float, dict[str, float]], Plan]


@dataclass
class Worker:
    """One simulated worker with two places for jobs."""

    start: UUID
    born: int
    ready: int
    busy: list[int] = field(default_factory=list)  # when its jobs end
    idle_since: int = 0
    is_draining: bool = False


@dataclass
class Outcome:
    """How a day went."""

    name: str
    waits: list[int] = field(default_factory=list)
    hours: float = 0.0
    starts: int = 0
    most: int = 0
    workers: list[int] = field(default_factory=list)  # at each step
    waiting: list[int] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Of all worker hours, those of starting included."""
        return self.hours * POOL.scale.cost_per_hour


def load(seed: int = 5) -> list[tuple[int, str]]:
    """Arrivals of a day: a trickle of small jobs, two passes of a satellite, and a campaign in the afternoon."""
    chance = random.Random(seed)  # the same day every time
    jobs = [(chance.randrange(DAY), "browse") for _ in range(600)]
    for begin, number in ((5 * 3600, 60), (17 * 3600, 60)):
        jobs += [(begin + chance.randrange(1200), "interferogram") for _ in range(number)]
    jobs += [(13 * 3600 + chance.randrange(300), "interferogram") for _ in range(150)]
    return sorted(jobs)


def simulate(name: str, decide: Decide, jobs: Sequence[tuple[int, str]]) -> Outcome:
    """Run the day, and as long after it as jobs are left; the budget, which is a day's, is not renewed."""
    outcome, workers, queue = Outcome(name), [], []
    arriving, pace, number = list(jobs), {}, 0
    running: list[tuple[int, str]] = []
    now = 0
    while now < DAY or ((queue or running) and workers and now < 2 * DAY):
        while arriving and arriving[0][0] <= now:
            queue.append(arriving.pop(0))
        for ended in [one for one in running if one[0] <= now]:
            running.remove(ended)
            pace[ended[1]] = SECONDS[ended[1]]  # what the server would have learned
        for worker in workers:
            was_busy = bool(worker.busy)
            worker.busy = [end for end in worker.busy if end > now]
            if was_busy and not worker.busy:
                worker.idle_since = now
        workers = [one for one in workers if not (one.is_draining and not one.busy)]
        for worker in workers:
            while queue and worker.ready <= now and not worker.is_draining and len(worker.busy) < 2:
                arrived, algorithm = queue.pop(0)
                outcome.waits.append(now - arrived)
                worker.busy.append(now + int(SECONDS[algorithm]))
                running.append((worker.busy[-1], algorithm))
        change = decide(_demand(queue, running), [_start(one, now) for one in workers], outcome.cost, pace)
        leaving = {*change.drain, *change.cancel}
        for worker in workers:
            worker.is_draining |= worker.start in leaving
        for _ in range(change.start):
            number += 1
            workers.append(Worker(UUID(int=number), now, now + STARTING, idle_since=now + STARTING))
        outcome.starts += change.start
        outcome.hours += len(workers) * STEP / 3600
        outcome.most = max(outcome.most, len(workers))
        if now < DAY:
            outcome.workers.append(len(workers))
            outcome.waiting.append(len(queue))
        now += STEP
    return outcome


def armillary(demand: Demand, starts: Sequence[Start], cost: float, pace: dict[str, float]) -> Plan:
    """The decision that the server takes."""
    return plan(POOL, SIZE, demand, starts, cost, pace)


def fixed(_demand: Demand, starts: Sequence[Start], _cost: float, _pace: dict[str, float]) -> Plan:
    """Ten workers, whatever comes."""
    return Plan(start=10 - len(starts))


def naive(demand: Demand, starts: Sequence[Start], _cost: float, _pace: dict[str, float]) -> Plan:
    """As many workers as jobs would fill now, and none more: what a scaler on the queue's length does."""
    staying = [one for one in starts if one.worker_state != "draining"]
    wanted = min(POOL.max_workers, -(-(demand.waiting + demand.running) // 2))
    idle = [one.worker_id for one in staying if one.is_idle and one.worker_id]
    surplus = max(0, len(staying) - wanted)
    return Plan(start=max(0, wanted - len(staying)), drain=tuple(idle[:surplus]))


def _demand(queue: Sequence[tuple[int, str]], running: Sequence[tuple[int, str]]) -> Demand:
    shares = []
    for algorithm in SECONDS:
        waits, runs = (sum(one[1] == algorithm for one in part) for part in (queue, running))
        jobs = waits + runs
        if jobs:
            shares.append(Share(algorithm, waits, runs, jobs * 1.0, jobs * 2**30, jobs * 2**30, 0))
    return Demand(len(queue), len(running), algorithms=tuple(shares))


def _start(worker: Worker, now: int) -> Start:
    is_registered = worker.ready <= now
    is_idle = is_registered and not worker.busy
    return Start(
        worker.start, "day", "simulated", "x", datetime(2026, 3, 1, tzinfo=UTC), worker.start if is_registered else None,
        ("draining" if worker.is_draining else "live") if is_registered else None, is_idle,
        timedelta(seconds=now - worker.idle_since) if is_idle else None, "running", age=timedelta(seconds=now - worker.born),
    )  # fmt: skip


def table(outcomes: Sequence[Outcome]) -> str:
    """As Markdown."""
    lines = [
        "| policy | cost | worker hours | starts | most at once | wait: median | 95 % | longest |",
        "|---|" + "---:|" * 7,
    ]
    for one in outcomes:
        waits = sorted(one.waits)
        median, late, longest = (waits[min(len(waits) - 1, int(len(waits) * part))] / 60 for part in (0.5, 0.95, 1))
        lines.append(
            f"| {one.name} | {one.cost:.1f} | {one.hours:.0f} | {one.starts} | {one.most} "
            f"| {median:.1f} min | {late:.1f} min | {longest:.1f} min |"
        )
    return "\n".join(lines)


def plot(outcomes: Sequence[Outcome]) -> str:
    """Workers over the day, one panel a policy, jobs that wait in grey behind: an SVG of a few kilobytes."""
    width, height, colours = 720, 110, ("#1864ab", "#868e96", "#c92a2a")
    box = f'viewBox="0 0 {width + 60} {height * len(outcomes) + 30}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    highest = max(max(one.waiting) for one in outcomes)
    for number, (one, colour) in enumerate(zip(outcomes, colours, strict=False)):
        base = height * (number + 1)
        parts.append(f'<path d="{_area(one.waiting, highest, base, width, height)}" fill="#e9ecef"/>')
        line = _area(one.workers, POOL.max_workers, base, width, height)
        parts.append(f'<path d="{line}" fill="{colour}" fill-opacity="0.35" stroke="{colour}"/>')
        parts.append(
            f'<text x="48" y="{base - height + 22}">{one.name}: at most {one.most} workers, cost {one.cost:.1f}</text>'
        )
        parts.append(f'<text x="40" y="{base}" text-anchor="end">0</text>')
        parts.append(f'<text x="40" y="{base - height + 30}" text-anchor="end">{POOL.max_workers}</text>')
    for hour in range(0, 25, 3):
        x = 44 + width * hour / 24
        parts.append(f'<text x="{x:.0f}" y="{height * len(outcomes) + 18}" text-anchor="middle">{hour}:00</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _area(values: Sequence[int], highest: int, base: int, width: int, height: int) -> str:
    every = 30  # steps: five minutes
    points = [
        (44 + width * place / len(values), base - (height - 30) * min(1, max(values[place : place + every]) / highest))
        for place in range(0, len(values), every)
    ]
    return f"M44 {base} " + " ".join(f"L{x:.0f} {y:.1f}" for x, y in points) + f" L{44 + width} {base} Z"


def main() -> None:
    """Simulate all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="Write the plot here.")
    asked, _ = parser.parse_known_args()
    jobs = load()
    outcomes = [
        simulate(name, decide, jobs)
        for name, decide in (("Armillary", armillary), ("ten workers, always", fixed), ("by the queue's length", naive))
    ]
    print(table(outcomes))
    if asked.plot:
        asked.plot.write_text(plot(outcomes))


if __name__ == "__main__":
    main()
