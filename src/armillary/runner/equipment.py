"""What this machine gives a runner: an engine for containers, and a way to keep limits."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armillary.base.errors import UsageError
from armillary.runner import apptainer, cgroup, container
from armillary.runner.apptainer import ApptainerRuntime
from armillary.runner.cgroup import Enforcement
from armillary.runner.container import ContainerRuntime, Engine
from armillary.runner.family import Family
from armillary.runner.process import ProcessRuntime
from armillary.runner.runtime import Kind, Runtime, Runtimes

CONTAINERS = ("auto", "podman", "docker", "apptainer", "none")
LIMITS = ("auto", "sampling")


@dataclass(frozen=True)
class Equipment:
    """What was found, and how jobs are run with it."""

    enforcement: Enforcement
    engine: Engine | None

    def runtimes(self, family: Family) -> Runtimes:
        """A runtime of each kind that this machine can run."""
        found: dict[Kind, Runtime] = {"process": ProcessRuntime(family, self.enforcement)}
        if self.engine is not None:
            found["container"] = _container_runtime(self.engine, family, self.enforcement)
        return found

    def fetch_image(self, family: Family) -> Callable[[str], Mapping[str, Any]] | None:
        """What has an image at hand."""
        return _container_runtime(self.engine, family, self.enforcement).prepare if self.engine else None

    def sweep(self, work: Path) -> None:
        """End what a dead runner left in its control groups and containers."""
        cgroup.sweep(self.enforcement, work)
        if self.engine is not None and self.engine.name != "apptainer":
            ContainerRuntime(self.engine, Family()).sweep(work)

    def told(self) -> dict[str, Any]:
        """For people, and for the server."""
        limits: Mapping[str, str] = self.enforcement.told()
        engine = f"{self.engine.name} ({self.engine.program})" if self.engine else "none: no jobs in containers"
        return {"limits": self.enforcement.way, **limits, "containers": engine}


def find(containers: str = "", limits: str = "") -> Equipment:
    """Look what this machine has; `UsageError` if what was asked for is not there."""
    wanted = containers or os.environ.get("ARMILLARY_CONTAINERS", "auto")
    way = limits or os.environ.get("ARMILLARY_LIMITS", "auto")
    _known(wanted, CONTAINERS, "--containers")
    _known(way, LIMITS, "--limits")
    engine = None if wanted == "none" else _engine(wanted)
    if engine is None and wanted not in ("auto", "none"):
        raise UsageError(f"{wanted} is not installed here.", f"Install it, or give {' or '.join(CONTAINERS)}.")
    enforcement = Enforcement("sampling") if way == "sampling" else cgroup.decide(cgroup.probe())
    return Equipment(enforcement, engine)


def _engine(wanted: str) -> Engine | None:
    by_containers = container.find_engine(wanted) if wanted != "apptainer" else None
    return by_containers or (apptainer.find_engine() if wanted in ("auto", "apptainer") else None)


def _container_runtime(engine: Engine, family: Family, enforcement: Enforcement) -> ContainerRuntime | ApptainerRuntime:
    if engine.name == "apptainer":
        return ApptainerRuntime(engine, family, enforcement, Path("~/.cache/armillary/images").expanduser())
    return ContainerRuntime(engine, family)


def _known(given: str, allowed: tuple[str, ...], field: str) -> None:
    if given not in allowed:
        raise UsageError(f"{field} {given!r} is not known.", f"Give {', '.join(allowed)}.", field=field)
