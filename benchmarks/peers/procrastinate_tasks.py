"""The task of procrastinate."""

import os

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DSN"]))


@app.task(name="noop")
async def noop(n: int) -> int:
    """Nothing."""
    return n


if __name__ == "__main__":
    with app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=os.environ["DSN"])) as sync, sync.open():
        for start in range(0, int(os.environ["JOBS"]), 500):
            sync.tasks["noop"].batch_defer(*({"n": number} for number in range(start, start + 500)))
