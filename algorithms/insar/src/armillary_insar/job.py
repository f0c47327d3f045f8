"""The contract with whoever runs a job: job.json and inputs in; outputs, progress, checkpoint and errors out."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from armillary_insar.errors import Refusal

ENGINES = ("armillary", "isce2-container")


@dataclass(frozen=True)
class Parameters:
    """The algorithm's parameters, as in algorithm.yaml."""

    looks: tuple[int, int] = (19, 7)
    polarisation: str = "vv"
    swaths: list[str] = field(default_factory=list)
    bursts: list[int] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    filter_strength: float = 0.5
    unwrap: str = "whirlwind"
    posting_arcsec: float = 3.0
    esd: bool = True
    elevation_datum: str = "auto"
    elevation_fill: float | None = None
    engine: str = "armillary"
    container: str = "ghcr.io/access-cloud-based-insar/dockerizedtopsapp:latest"


@dataclass(frozen=True)
class Job:
    folder: Path
    parameters: Parameters
    inputs: dict[str, list[dict[str, Any]]]
    threads: int

    def paths(self, role: str) -> list[Path]:
        return [self.folder / entry["path"] for entry in self.inputs.get(role, [])]

    @property
    def checkpoint(self) -> Path:
        """Kept between attempts; a folder for each set of inputs and parameters, so that nothing foreign is reused."""
        path = self.folder / "checkpoint" / self.key
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def key(self) -> str:
        """Digest of what decides the product."""
        said = {
            "parameters": self.parameters.__dict__,
            "inputs": {r: [(e.get("id"), e.get("revision")) for e in v] for r, v in sorted(self.inputs.items())},
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def progress(self, fraction: float, stage: str, message: str) -> None:
        """Say how far it is: to the runner as data, and in words to the job's log."""
        print(f"{100 * fraction:3.0f} %  {stage}: {message}", flush=True)
        with (self.folder / "progress.jsonl").open("a") as log:
            log.write(json.dumps({"fraction": round(fraction, 4), "stage": stage, "message": message}) + "\n")

    def fail(self, refusal: Refusal) -> None:
        (self.folder / "error.json").write_text(
            json.dumps({"class": refusal.error_class, "message": refusal.message, "remedy": refusal.remedy})
        )


def read_job(path: Path) -> Job:
    """Read and validate job.json."""
    try:
        said = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise Refusal(f"{path} cannot be read: {error}.", "Give the path of a job.json.", "input missing") from error
    inputs = said.get("inputs", {})
    for role in ("reference", "secondary", "elevation"):
        if not inputs.get(role):
            raise Refusal(f"The job has no input in the role {role}.", "Bind a granule to it.", "input missing")
    cpu = int(said.get("resources", {}).get("cpu", 2) or 2)
    return Job(path.resolve().parent, read_parameters(said.get("parameters", {})), inputs, max(1, cpu))


def read_parameters(said: dict[str, Any]) -> Parameters:
    """Checked parameters; every refusal names the field."""
    unknown = sorted(set(said) - set(Parameters.__dataclass_fields__))
    if unknown:
        raise Refusal(
            f"Unknown parameter: {', '.join(unknown)}.",
            f"The parameters are {', '.join(Parameters.__dataclass_fields__)}.",
        )
    looks = said.get("looks", [19, 7])
    if len(looks) != 2 or not all(isinstance(n, int) and 1 <= n <= 100 for n in looks):
        raise Refusal(f"looks is {looks!r}.", "Give two whole numbers from 1 to 100: range, azimuth.")
    area = said.get("area") or []
    if area and (len(area) != 4 or area[0] >= area[2] or area[1] >= area[3]):
        raise Refusal(f"area is {area!r}.", "Give west, south, east, north in degrees.")
    checks: dict[str, Callable[[Any], bool]] = {
        "filter_strength": lambda v: 0 <= v <= 1,
        "posting_arcsec": lambda v: 0.3 <= v <= 60,
        "unwrap": lambda v: v in ("whirlwind", "snaphu"),
        "engine": lambda v: v in ENGINES,
        "elevation_datum": lambda v: v in ("auto", "ellipsoid", "egm96", "egm2008"),
        "polarisation": lambda v: v.lower() in ("vv", "hh", "vh", "hv"),
    }
    for name, accepts in checks.items():
        if name in said and not accepts(said[name]):
            raise Refusal(f"{name} is {said[name]!r}.", "See algorithm.yaml for what it may be.")
    return Parameters(**{**said, "looks": (looks[0], looks[1])})


class Stopwatch:
    """Wall and CPU seconds of each stage, for the quality summary."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._mark = (time.perf_counter(), time.process_time())

    def lap(self, stage: str) -> None:
        now = (time.perf_counter(), time.process_time())
        kept = self.stages.setdefault(stage, {"wall_s": 0.0, "cpu_s": 0.0})
        kept["wall_s"] = round(kept["wall_s"] + now[0] - self._mark[0], 3)
        kept["cpu_s"] = round(kept["cpu_s"] + now[1] - self._mark[1], 3)
        self._mark = now
