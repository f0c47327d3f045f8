"""The task of Dask distributed: nothing of it outlives its scheduler."""

import os
import time

from distributed import Client, LocalCluster


def noop(n: int) -> int:
    """Nothing."""
    return n


if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(noop, range(100), pure=False))
        begun = time.perf_counter()
        client.gather(client.map(noop, range(int(os.environ["JOBS"])), pure=False))
        print(time.perf_counter() - begun)
