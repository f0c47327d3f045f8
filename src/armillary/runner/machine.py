"""How the machine is on which a worker runs: told with a heartbeat now and then."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from armillary.base.clock import iso, utc_now

EVERY_SECONDS = 10.0

Measured = dict[str, float]
Told = dict[str, float | str]


class Machine:
    """Measures at most every ten seconds; what a system does not tell is left out."""

    def __init__(self, work: Path, cache_bytes: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._cache_bytes = cache_bytes
        self._clock = clock
        self._next = 0.0

    def news(self) -> Told | None:
        """What there is to tell, if it is time again."""
        if self._clock() < self._next:
            return None
        self._next = self._clock() + EVERY_SECONDS
        try:
            return {"clock": iso(utc_now()), **_processors(), **_memory(), **self._disks(), **_traffic()}
        except (OSError, psutil.Error):  # a disk that is gone must not keep the worker from saying that it lives
            return None

    def _disks(self) -> Measured:
        root, work = psutil.disk_usage("/"), psutil.disk_usage(os.fspath(self._work))
        return {
            "root_disk_used_bytes": root.used,
            "root_disk_bytes": root.total,
            "work_disk_used_bytes": work.used,
            "work_disk_bytes": work.total,
            "cache_bytes": self._cache_bytes(),
        }


def _processors() -> Measured:
    cores = psutil.cpu_percent(percpu=True)  # since the last call; the first tells 0
    busy = [percent / 100 for percent in cores] or [0.0]
    return {
        "cpu_ratio": round(sum(busy) / len(busy), 4),
        "core_min_ratio": min(busy),
        "core_max_ratio": max(busy),
        "load1": os.getloadavg()[0],
    }


def _memory() -> Measured:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "memory_used_bytes": memory.total - memory.available,
        "memory_bytes": memory.total,
        "swap_used_bytes": swap.used,
        "swap_bytes": swap.total,
    }


def _traffic() -> Measured:
    disks, network = psutil.disk_io_counters(), psutil.net_io_counters()
    found: Measured = {}
    if disks is not None:
        found |= {
            "disk_reads": disks.read_count,
            "disk_writes": disks.write_count,
            "disk_read_bytes": disks.read_bytes,
            "disk_written_bytes": disks.write_bytes,
        }
    if network is not None:
        found |= {"network_received_bytes": network.bytes_recv, "network_sent_bytes": network.bytes_sent}
    return found
