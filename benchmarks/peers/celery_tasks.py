"""The task of Celery, as HySDS would run it: acknowledged late, its result kept."""

import os

from celery import Celery

app = Celery("peers", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop(n: int) -> int:
    """Nothing."""
    return n


if __name__ == "__main__":
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(int(os.environ["JOBS"])):
            noop.apply_async((number,), producer=producer)
