"""Lay out a job's folder: its inputs as links into the cache, its description, and what an earlier attempt saved."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.errors import ArmillaryError, NotFound
from armillary.runner.cache import Cache, Taken
from armillary.runner.failure import AttemptError, from_error, from_os_error
from armillary.runner.jobfolder import JobFolders
from armillary.runner.lease import InputGranule, Lease, Object


@dataclass(frozen=True)
class Staged:
    """What a job's folder was given."""

    folder: Path
    inputs: tuple[Taken, ...]

    @property
    def transfers(self) -> list[dict[str, Any]]:
        """Rates by file, for the report; cached ones as well, so that reuse can be seen."""
        return [
            {
                "name": taken.path.name,
                "bytes": taken.object.size,
                "seconds": round(taken.seconds, 6),
                "from": taken.source,
            }
            for taken in self.inputs[:100]
        ]


@dataclass(frozen=True)
class Waiting:
    """What to do about bytes that must be waited for."""

    threads: Executor
    let_others: Callable[[], AbstractContextManager[None]]
    check: Callable[[], None]  # between files; raises if the job is to stop


def stage_in(lease: Lease, folder: Path, folders: JobFolders, cache: Cache, waiting: Waiting) -> Staged:
    """Make the folder of a job."""
    try:
        places = _places(lease)
        folders.make(folder, description(lease, places))
        taken = _take_all(_wanted(lease, folder, places), cache, waiting)
    except OSError as error:
        raise from_os_error(error, "Staging in") from error
    return Staged(folder, taken)


def description(lease: Lease, places: list[str]) -> dict[str, Any]:
    """What the algorithm finds in `job.json`."""
    inputs: dict[str, list[dict[str, Any]]] = {role: [] for role in lease.spec.get("inputs", {})}
    for granule, place in zip(lease.inputs, places, strict=True):
        entry = {"collection": granule.collection, "id": granule.id, "revision": granule.revision}
        inputs.setdefault(granule.role, []).append({**entry, "path": place, "item": granule.item})
    limits = lease.limits
    return {
        "job": lease.job,
        "attempt": lease.number,
        "algorithm": dict(lease.algorithm),
        "parameters": dict(lease.parameters),
        "inputs": inputs,
        "outputs": {name: {"collection": output["collection"]} for name, output in lease.outputs.items()},
        "resources": {
            "cpu": limits.cpu,
            "memory_bytes": limits.memory_bytes,
            "disk_bytes": limits.disk_bytes,
            "time_seconds": limits.time_seconds,
            "gpu": limits.gpu,
        },
    }


def _places(lease: Lease) -> list[str]:
    """A folder for each input; granules of two collections may have one id, so the second gets a number."""
    places: list[str] = []
    for granule in lease.inputs:
        place = wished = f"inputs/{granule.role}/{granule.id}"
        number = 2
        while place in places:
            place, number = f"{wished}-{number}", number + 1
        places.append(place)
    return places


def _wanted(lease: Lease, folder: Path, places: list[str]) -> list[tuple[InputGranule, Object, Path]]:
    wanted = []
    for granule, place in zip(lease.inputs, places, strict=True):
        home = folder / place
        home.mkdir(parents=True)
        for file in granule.files:
            path = home / file.path
            if "/" in file.path:
                path.parent.mkdir(parents=True, exist_ok=True)
            wanted.append((granule, file.object, path))
    return wanted


def _take_all(wanted: list[tuple[InputGranule, Object, Path]], cache: Cache, waiting: Waiting) -> tuple[Taken, ...]:
    """What is cached is linked at once; only what must be fetched is worth a thread."""
    here = [cache.take_if_here(object_, path) for _, object_, path in wanted]

    def fetch(one: tuple[InputGranule, Object, Path]) -> Taken:
        granule, object_, path = one
        waiting.check()
        try:
            return cache.take(object_, path)
        except NotFound as error:
            raise AttemptError(
                ErrorClass.INPUT_MISSING,
                f"{path.name} of {granule.collection}/{granule.id} is not in the store: {error.message}",
                "Run `armillary doctor`.",
            ) from error
        except ArmillaryError as error:
            raise from_error(error, f"Fetching {path.name} of {granule.collection}/{granule.id}") from error

    missing = [one for one, taken in zip(wanted, here, strict=True) if taken is None]
    if not missing:
        return tuple(taken for taken in here if taken is not None)
    with waiting.let_others():
        # One thread fewer to switch to when there is only one.
        fetched = iter([fetch(missing[0])] if len(missing) == 1 else list(waiting.threads.map(fetch, missing)))
    return tuple(taken or next(fetched) for taken in here)
