import asyncio

from armillary.algorithms.algorithm import Resources
from armillary.base.wakes import QUEUE
from armillary.pools.waiting import Waiting

FREE = Resources(1, 100, 100, 0)


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


async def settle(wakes, number):
    while wakes.waiters != number:
        await asyncio.sleep(0)


async def test_many_that_wait_look_once_per_wake():
    wakes, jobs, looks = Wakes(), [], []

    async def look():
        looks.append(1)
        await asyncio.sleep(0)
        return jobs.pop() if jobs else None

    waiting = Waiting(wakes, clock=lambda: 0.0)
    polls = [asyncio.create_task(waiting.until("p", FREE, 10, look)) for _ in range(100)]
    await settle(wakes, 100)
    assert len(looks) == 1
    wakes.wake()
    await asyncio.sleep(0)
    await settle(wakes, 100)
    assert len(looks) == 2
    jobs.extend(["a", "b"])
    wakes.wake()
    await settle(wakes, 98)
    assert len(looks) == 5  # two that found something, and one that found nothing for all the others
    assert sorted(poll.result() for poll in polls if poll.done()) == ["a", "b"]
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)


async def test_who_has_more_free_looks_for_itself():
    wakes, looks = Wakes(), []

    async def look():
        looks.append(1)
        return

    waiting = Waiting(wakes, clock=lambda: 0.0)
    for free in (FREE, FREE, Resources(8, 800, 800, 0), FREE):
        assert await waiting.until("p", free, 0, look) is None
    assert len(looks) == 2


async def test_it_is_polled_once_a_second_in_case_a_wake_was_lost():
    wakes, looks, now = Wakes(), [], [0.0]

    async def look():
        looks.append(now[0])
        return

    waiting = Waiting(wakes, clock=lambda: now[0])
    for now[0] in (0.0, 0.5, 0.9, 1.1, 1.5, 2.2):
        await waiting.until("p", FREE, 0, look)
    assert looks == [0.0, 1.1, 2.2]
