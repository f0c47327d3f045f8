"""What a server hands to a worker: one attempt of a job, with all that is needed to run it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from armillary.base.errors import UsageError
from armillary.base.ids import check_name
from armillary.granules.granule import File, check_file

Json = dict[str, Any]
Key = tuple[str, int]


@dataclass(frozen=True)
class Limits:
    """What the attempt may use."""

    cpu: float
    memory_bytes: int
    disk_bytes: int
    time_seconds: float
    soft_time_seconds: float | None = (
        None  # when it is asked to stop; as late as it is killed, and then given some time
    )
    gpu: int = 0


@dataclass(frozen=True)
class Object:
    """Bytes behind a link."""

    sha256: str
    size: int
    href: str


@dataclass(frozen=True)
class InputFile:
    """A file of an input; its path is within the granule's folder."""

    path: str
    object: Object


@dataclass(frozen=True)
class InputGranule:
    """A granule that plays a role."""

    role: str
    collection: str
    id: str
    revision: int
    item: Json
    files: tuple[InputFile, ...]


@dataclass(frozen=True)
class Lease:
    """One attempt, fenced by its number."""

    job: str
    number: int
    algorithm: Mapping[str, str]  # id, version, digest
    spec: Mapping[str, Any]
    bundle: Object | None
    environment: Mapping[str, Any]
    parameters: Mapping[str, Any]
    inputs: tuple[InputGranule, ...]
    outputs: Mapping[str, Mapping[str, Any]]
    limits: Limits
    checkpoint: Object | None

    @property
    def key(self) -> Key:
        """What identifies the attempt."""
        return self.job, self.number

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.job}-{self.number}"

    @property
    def wire(self) -> Json:
        """The key as the server reads it."""
        return {"job": self.job, "lease": self.number}


def read_lease(wire: Json) -> Lease:
    """A lease from its JSON; `UsageError` if it could lead outside the job's folder."""
    algorithm, resources = wire["algorithm"], wire["resources"]
    return Lease(
        job=check_name(str(wire["job"]), "job"),
        number=int(wire["lease"]),
        algorithm={name: str(algorithm[name]) for name in ("id", "version", "digest")},
        spec=algorithm["spec"],
        bundle=_object(wire.get("bundle")),
        environment=wire.get("environment") or {},
        parameters=wire["parameters"],
        inputs=tuple(_inputs(wire["inputs"])),
        outputs=wire["outputs"],
        limits=Limits(
            float(resources["cpu"]),
            int(resources["memory_bytes"]),
            int(resources["disk_bytes"]),
            float(resources["time_seconds"]),
            resources.get("soft_time_seconds"),
            int(resources.get("gpu", 0)),
        ),
        checkpoint=_object(wire.get("checkpoint")),
    )


def _inputs(roles: Mapping[str, Sequence[Json]]) -> Sequence[InputGranule]:
    return [
        InputGranule(
            check_name(role, "role"),
            granule["collection"],
            check_name(granule["id"], "granule"),
            granule["revision"],
            granule["item"],
            tuple(_file(file) for file in granule["files"]),
        )
        for role, granules in roles.items()
        for granule in granules
    ]


def _file(wire: Json) -> InputFile:
    check_file(File(wire["path"], wire["size"], wire["sha256"]), "inputs")
    return InputFile(wire["path"], Object(wire["sha256"], wire["size"], wire["href"]))


def _object(wire: Json | None) -> Object | None:
    if wire is None:
        return None
    if len(wire["sha256"]) != 64 or not wire["sha256"].isalnum():
        raise UsageError(f"{wire['sha256']!r} is not a SHA-256.", field="sha256")
    return Object(wire["sha256"], wire["size"], wire["href"])
