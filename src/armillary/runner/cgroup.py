"""Control groups: a job's memory, processor share and number of processes kept by the kernel, where this machine lets us.

Version 2 is used where memory is delegated to the runner, version 1 where its controllers can be written to; elsewhere
memory is sampled. `decide` says which, from what `probe` found.
"""

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from armillary.runner.lease import Limits
from armillary.runner.runtime import MAX_PROCESSES, Usage

Way = Literal["cgroup v2", "cgroup v1", "sampling"]
V1_CONTROLLERS = ("memory", "cpu", "pids")
V1_USAGE = ("memory", "cpuacct")
REMOVE_TRIES, REMOVE_SECONDS = 50, 0.01


@dataclass(frozen=True)
class Offer:
    """What this machine lets the runner do: folders in which it may make groups."""

    unified: Path | None = None
    unified_controllers: frozenset[str] = frozenset()
    legacy: Mapping[str, Path] = field(default_factory=dict)  # by controller


@dataclass(frozen=True)
class Enforcement:
    """How limits are kept."""

    way: Way
    places: Mapping[str, Path] = field(default_factory=dict)  # by controller; one folder for all in version 2

    def told(self) -> dict[str, str]:
        """What holds each limit, for people."""
        kept = "by the kernel, in a control group, from the first sample on" if self.way != "sampling" else ""
        return {
            "memory": kept or "sampled five times a second, and by RLIMIT_DATA between samples",
            "cpu": f"a share of the machine by what is granted, {kept}" if "cpu" in self.places else
            "not kept: programs are told how many threads to use",
            "processes": f"at most {MAX_PROCESSES}, {kept}" if "pids" in self.places else "not kept",
            "disk": "sampled, and by RLIMIT_FSIZE for each file",
            "time": "by the runner",
        }  # fmt: skip


SAMPLING = Enforcement("sampling")


def decide(offer: Offer) -> Enforcement:
    """The best way that a machine offers: a way that cannot keep memory is none."""
    if offer.unified is not None and "memory" in offer.unified_controllers:
        usable = [one for one in V1_CONTROLLERS if one in offer.unified_controllers]
        return Enforcement("cgroup v2", dict.fromkeys(usable, offer.unified))
    if "memory" in offer.legacy:
        return Enforcement("cgroup v1", dict(offer.legacy))
    return SAMPLING


def probe(proc: Path = Path("/proc/self"), mounts: Path = Path("/proc/self/mountinfo")) -> Offer:
    """What the machine offers to this process, found without changing anything."""
    unified, legacy = _places(proc, mounts)
    controllers: frozenset[str] = frozenset()
    if unified is not None:
        # Groups can be made beside our own as well, where that is allowed: one with processes in it has none below it.
        candidates = [unified, unified.parent]
        unified = next((one for one in candidates if _can_make(one) and "memory" in _enabled(one)), None)
        controllers = _enabled(unified) if unified else frozenset()
    writable = {name: place for name, place in legacy.items() if name in V1_CONTROLLERS and _can_make(place)}
    return Offer(unified, controllers, writable)


class Group:
    """One job's control group."""

    def __init__(self, enforcement: Enforcement, name: str) -> None:
        self._is_unified = enforcement.way == "cgroup v2"
        self._folders = {one: place / name for one, place in enforcement.places.items()}

    def make(self, limits: Limits) -> None:
        """Make it; `OSError` if the kernel refuses."""
        for folder in set(self._folders.values()):
            folder.mkdir(exist_ok=True)
        for controller, file, value in settings(limits, is_unified=self._is_unified):
            if controller in self._folders:
                # Swap may not be accounted for here, or a group's parent may forbid a value: memory alone is a must.
                with contextlib.suppress(OSError) if file not in _MUST else contextlib.nullcontext():
                    (self._folders[controller] / file).write_text(value)

    def add(self, pid: int) -> None:
        """Put a process into it; what it starts from now on belongs to it too."""
        for folder in set(self._folders.values()):
            with contextlib.suppress(ProcessLookupError):
                (folder / "cgroup.procs").write_text(str(pid))

    @property
    def has_passed_memory(self) -> bool:
        """Whether the kernel has killed for its limit."""
        file = "memory.events" if self._is_unified else "memory.oom_control"
        return _numbers(self._folders["memory"] / file).get("oom_kill", 0) > 0

    def pids(self) -> list[int]:
        """Who is in it."""
        try:
            return [int(pid) for pid in (self._folders["memory"] / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def remove(self) -> int:
        """Kill who is in it, and remove it; how many were killed."""
        killed: set[int] = set()
        for _ in range(REMOVE_TRIES):
            for pid in self.pids():
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if all(_is_removed(folder) for folder in set(self._folders.values())):
                break
            time.sleep(REMOVE_SECONDS)  # what was killed needs a moment to be gone
        return len(killed)


_MUST = ("memory.max", "memory.limit_in_bytes")


def settings(limits: Limits, *, is_unified: bool) -> list[tuple[str, str, str]]:
    """What is written where: controller, file, value."""
    memory = str(limits.memory_bytes)
    if is_unified:
        return [
            ("memory", "memory.max", memory),
            ("memory", "memory.swap.max", "0"),
            ("memory", "memory.oom.group", "1"),
            ("cpu", "cpu.weight", str(min(10_000, max(1, round(100 * limits.cpu))))),
            ("pids", "pids.max", str(MAX_PROCESSES)),
        ]
    return [
        ("memory", "memory.limit_in_bytes", memory),
        ("memory", "memory.memsw.limit_in_bytes", memory),
        ("cpu", "cpu.shares", str(min(262_144, max(2, round(1024 * limits.cpu))))),
        ("pids", "pids.max", str(MAX_PROCESSES)),
    ]


def group_name(folder: Path) -> str:
    """The name of a job's group: the runner's folder in it, so that the next runner knows what a dead one left."""
    return f"{_prefix(folder.parent)}{folder.name}"


def sweep(enforcement: Enforcement, work: Path) -> int:
    """Kill and remove what a dead runner's jobs left in groups; how many processes that were."""
    places = set(enforcement.places.values())
    names = {found.name for place in places for found in place.glob(f"{_prefix(work)}*")}
    return sum(Group(enforcement, name).remove() for name in names)


# What a container's group has used ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """The files that tell what a group uses."""

    cpu: Path
    memory: Path
    is_unified: bool

    def read(self, usage: Usage) -> None:
        """Raise `usage` to what the group has used."""
        stat = _numbers(self.memory)
        if self.is_unified:
            held = stat.get("anon", 0) + stat.get("shmem", 0)
            seconds = _numbers(self.cpu).get("usage_usec", 0) / 1e6
        else:
            held = stat.get("total_rss", 0) + stat.get("total_shmem", 0)
            seconds = _number(self.cpu) / 1e9
        usage.hold(held)
        usage.raise_to(seconds, 0, 0)


def of_process(pid: int) -> Reading | None:
    """The group of a process of another's making."""
    unified, legacy = _places(Path(f"/proc/{pid}"), Path("/proc/self/mountinfo"))
    if "memory" in legacy and "cpuacct" in legacy:
        return Reading(legacy["cpuacct"] / "cpuacct.usage", legacy["memory"] / "memory.stat", False)
    return Reading(unified / "cpu.stat", unified / "memory.stat", True) if unified else None


def _places(proc: Path, mountinfo: Path) -> tuple[Path | None, dict[str, Path]]:
    """The folders of a process's groups: of version 2, and of version 1 by controller."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = mountinfo.read_text().splitlines()
    except OSError:
        return None, {}
    below: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below |= dict.fromkeys(controllers.split(","), path)
    unified: Path | None = None
    legacy: dict[str, Path] = {}
    for line in mounts:
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind == "cgroup2" and "" in below:
            unified = _folder(point, root, below[""])
        elif kind == "cgroup":
            for controller in set(options.split(",")) & {*V1_CONTROLLERS, *V1_USAGE} & set(below):
                legacy[controller] = _folder(point, root, below[controller])
    return unified, legacy


def _folder(point: str, root: str, path: str) -> Path:
    # A mount may show only a part of the tree, as in a container.
    inside = path.removeprefix(root) if root != "/" else path
    return Path(point, inside.lstrip("/"))


def _prefix(work: Path) -> str:
    return f"armillary-{hashlib.sha256(os.fsencode(work)).hexdigest()[:12]}-"


def _can_make(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _enabled(folder: Path) -> frozenset[str]:
    """The controllers that groups below a folder have."""
    try:
        return frozenset((folder / "cgroup.subtree_control").read_text().split())
    except OSError:
        return frozenset()


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _numbers(file: Path) -> dict[str, int]:
    try:
        pairs = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
