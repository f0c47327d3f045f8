import asyncio
from uuid import uuid4

from armillary.algorithms.algorithm import Resources
from armillary.base.wakes import QUEUE
from armillary.pools.waiting import Commanded, Waiting

FREE = Resources(1, 100, 100, 0)
LARGE = Resources(8, 800, 800, 0)


class Wakes:
    """Wakes without a database, which say when somebody waits."""

    def __init__(self):
        self.counted = 0
        self.event = asyncio.Event()
        self.waiters = 0

    def count(self, channel):
        assert channel == QUEUE
        return self.counted

    async def wait(self, channel, since, timeout_seconds):
        if self.counted == since:
            self.waiters += 1
            await self.event.wait()
            self.waiters -= 1

    def wake(self):
        self.counted += 1
        self.event.set()
        self.event = asyncio.Event()


class Poll:
    """Held polls, and how often they looked."""

    def __init__(self):
        self.wakes, self.jobs, self.looks, self.resumed = Wakes(), [], 0, 0
        self.waiting = Waiting(self.wakes, clock=lambda: 0.0)
        self.tasks = []

    async def look(self):
        self.looks += 1
        await asyncio.sleep(0)
        return self.jobs.pop() if self.jobs else None

    def start(self, number, free=FREE):
        workers = [uuid4() for _ in range(number)]
        self.tasks += [asyncio.create_task(self.waiting.until(one, "p", free, 10, self.look)) for one in workers]
        return workers

    async def settle(self):
        """Until all that can happen has happened: nothing here waits for anything but a wake."""
        for _ in range(1000):
            await asyncio.sleep(0)

    def found(self):
        return sorted(task.result() for task in self.tasks if task.done())

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.wakes.wake()
        await self.settle()


async def test_many_that_wait_look_once_per_wake():
    polls = Poll()
    polls.start(100)
    await polls.settle()
    assert polls.looks == 1
    polls.wakes.wake()
    await polls.settle()
    assert polls.looks == 2
    polls.jobs.extend(["a", "b"])
    polls.wakes.wake()
    await polls.settle()
    assert polls.looks == 5  # two that found something, and one that found nothing for all the others
    assert polls.found() == ["a", "b"]
    assert polls.wakes.waiters == 1  # one waits for the wake in the name of all
    await polls.end()


async def test_whoever_goes_as_it_is_called_passes_the_call_on():
    polls = Poll()
    polls.start(3)
    await polls.settle()
    polls.jobs.append("a")
    polls.wakes.wake()
    await asyncio.sleep(0)  # the first is called now
    polls.tasks[1].cancel()
    polls.tasks[0].cancel()
    await polls.settle()
    assert polls.tasks[2].result() == "a"
    await polls.end()


async def test_who_has_more_free_looks_for_itself():
    polls = Poll()
    polls.start(2)
    polls.start(1, LARGE)
    polls.start(1)
    await polls.settle()
    assert polls.looks == 2
    polls.wakes.wake()
    await polls.settle()
    assert polls.looks in (3, 4)  # the larger finds nothing for both lines, or each line for itself
    await polls.end()


async def test_a_worker_that_has_more_free_by_now_asks_anew():
    polls = Poll()
    first, second = polls.start(2)
    await polls.settle()
    polls.waiting.ask_anew(first)
    await polls.settle()
    assert [task.done() for task in polls.tasks] == [True, False]
    assert polls.tasks[0].result() is None
    polls.jobs.append("a")
    polls.wakes.wake()
    await polls.settle()
    assert polls.tasks[1].result() == "a"
    polls.waiting.ask_anew(second)  # nobody waits any more


async def test_a_worker_that_has_more_free_while_it_looks_asks_anew():
    polls = Poll()
    (worker,) = polls.start(1)
    while polls.looks == 0:
        await asyncio.sleep(0)
    polls.waiting.ask_anew(worker)
    await polls.settle()
    assert polls.tasks[0].result() is None


async def test_nobody_is_watched_for_once_all_have_gone():
    polls = Poll()
    polls.start(2)
    await polls.settle()
    await polls.end()
    assert polls.waiting._watching == {}


async def test_it_is_polled_once_a_second_in_case_a_wake_was_lost():
    wakes, looks, now = Wakes(), [], [0.0]

    async def look():
        looks.append(now[0])
        return

    waiting = Waiting(wakes, clock=lambda: now[0])
    for now[0] in (0.0, 0.5, 0.9, 1.1, 1.5, 2.2):
        await waiting.until(uuid4(), "p", FREE, 0, look)
    assert looks == [0.0, 1.1, 2.2]


async def test_one_look_tells_all_whether_they_have_commands():
    mine, looks = uuid4(), []

    async def ask():
        looks.append(1)
        await asyncio.sleep(0)
        return frozenset([mine])

    commanded = Commanded()
    others = [uuid4() for _ in range(50)]
    assert await asyncio.gather(*(commanded.has(one, 1, ask) for one in [mine, *others])) == [True] + [False] * 50
    assert len(looks) == 1
    assert await commanded.has(mine, 2, ask) is True
    assert len(looks) == 2
