"""Try an algorithm without a server: the same steps that a worker takes, on sample inputs, products left in a folder."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from armillary.algorithms import specfile
from armillary.algorithms.algorithm import Algorithm, Input
from armillary.base.errors import ArmillaryError, UsageError
from armillary.base.ids import check_name
from armillary.client.upload import GranuleSource
from armillary.runner import equipment
from armillary.runner.cache import Cache
from armillary.runner.checkpoint import Packed
from armillary.runner.environment import Environments, Say
from armillary.runner.equipment import Equipment
from armillary.runner.family import Family
from armillary.runner.fetch import copy_verified
from armillary.runner.function import FunctionRuntime
from armillary.runner.jobfolder import JobFolders
from armillary.runner.keep import Folder
from armillary.runner.lease import InputFile, InputGranule, Lease, Limits, Object
from armillary.runner.run import Orders, Workplace, run
from armillary.runner.runtime import Prepared, Runtimes

Json = dict[str, Any]
SAMPLES = "samples"
CACHE = Path("~/.cache/armillary/cache")
CACHE_BYTES = 20 << 30


def trial(
    folder: Path,
    *,
    inputs: Mapping[str, Sequence[Path]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    keep: Path | None = None,
    cache: Path | None = None,
) -> Json:
    """Run the algorithm in a folder once; how it ended and what it made. Products are left in `keep`.

    Without inputs the samples of the folder are taken: `samples/<role>/<granule id>/…` with the granule's item beside
    it in `<granule id>.json`, and parameters from `samples/job.json`.
    """
    algorithm = _algorithm(folder)
    sampled = not inputs
    granules = _samples(folder / SAMPLES, algorithm) if sampled else _given(inputs or {})
    _check_roles(algorithm, granules)
    values = _parameters(algorithm, {**(_sample_parameters(folder) if sampled else {}), **(parameters or {})})
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UsageError(f"{keep} is not empty.", "Name a new folder.", field="keep")
    with tempfile.TemporaryDirectory(prefix="armillary-trial-") as work:
        return _run(folder, algorithm, granules, values, Path(work), keep, (cache or CACHE).expanduser())


def _run(
    folder: Path,
    algorithm: Algorithm,
    granules: Sequence[InputGranule],
    parameters: Mapping[str, Any],
    work: Path,
    keep: Path | None,
    cache_folder: Path,
) -> Json:
    family = Family()
    cache = Cache(cache_folder, CACHE_BYTES, _copy)
    found = equipment.find()
    environments = _FolderEnvironments(cache_folder, cache, family, folder, found)
    sink, orders = _Sink(keep), Orders()
    with ThreadPoolExecutor(2) as threads:
        functions = FunctionRuntime(family, found.enforcement, patience_seconds=algorithm.resources.time_seconds)
        runtimes: Runtimes = {**found.runtimes(family), "function": functions}
        workplace = Workplace(JobFolders(work), cache, environments, runtimes, threads, sink)
        report = run(_lease(algorithm, granules, parameters), workplace, orders)
        functions.close()
    log = b""
    while (chunk := orders.log.pending()) is not None:
        log += chunk.data
        orders.log.acknowledge(chunk)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / "log.txt").write_bytes(log)
    return _told(report.wire(), sink.made, log, keep)


def _told(wire: Json, made: list[Json], log: bytes, keep: Path | None) -> Json:
    """What a person wants to know of the report, in the order of interest."""
    said: Json = {
        name: wire[name] for name in ("outcome", "error_class", "reason", "remedy", "exit_code") if name in wire
    }
    usage = wire["usage"]
    said |= {name: usage[name] for name in ("run_seconds", "cpu_seconds", "peak_memory_bytes") if name in usage}
    said["outputs"] = made
    if "result" in wire:
        said["result"] = wire["result"]
    said["log"] = log.decode(errors="replace")[-4000:]
    return said | ({"kept": str(keep)} if keep is not None else {})


class _FolderEnvironments(Environments):
    """Takes the algorithm from its folder instead of a bundle."""

    def __init__(self, cache_folder: Path, cache: Cache, family: Family, folder: Path, found: Equipment) -> None:
        super().__init__(cache_folder, cache, family, fetch_image=found.fetch_image(family))
        self._bundle = folder.resolve()

    def known(self, lease: Lease) -> Prepared | None:  # noqa: ARG002
        return None

    def prepare(self, lease: Lease, say: Say = str) -> Prepared:
        return self.prepare_folder(self._bundle, lease.environment, say)


@dataclass
class _Sink:
    """Keeps products in a folder, or only tells of them."""

    keep: Path | None

    def __post_init__(self) -> None:
        self.made: list[Json] = []

    def send(self, _: Lease, granules: Sequence[GranuleSource]) -> list[Json | ArmillaryError]:
        """Copy what would be uploaded."""
        for granule in granules:
            names = [asset.name for asset in granule.assets]
            entry = {"output": granule.output, "granule": granule.id, "files": names, "item": granule.item}
            self.made.append(entry)
            if self.keep is not None:
                place = self.keep / "outputs" / str(granule.output) / granule.id
                shutil.copytree(granule.assets[0].path.parent, place)
                place.with_name(f"{granule.id}.json").write_text(json.dumps(granule.item, indent=1, ensure_ascii=False))
        return [{} for _ in granules]

    def save_checkpoint(self, _: Lease, packed: Packed) -> None:
        """Nothing comes after a trial."""

    def keep_folder(self, _: Lease, folder: Folder) -> None:
        """What a failure left goes beside the log."""
        if self.keep is not None:
            shutil.copytree(folder.root, self.keep / "folder", symlinks=True, ignore=shutil.ignore_patterns("inputs"))


# What the folder says ----------------------------------------------------------------------------------------------


def _algorithm(folder: Path) -> Algorithm:
    file = folder / "algorithm.yaml"
    try:
        return specfile.read(file.read_text(), str(file))
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}.", "Name the folder that holds algorithm.yaml.", field="folder"
        ) from error


def _lease(algorithm: Algorithm, granules: Sequence[InputGranule], parameters: Mapping[str, Any]) -> Lease:
    resources = algorithm.resources
    return Lease(
        job="00000000-0000-7000-8000-000000000000",
        number=1,
        algorithm={"id": algorithm.id, "version": algorithm.version, "digest": ""},
        spec=algorithm.spec,
        bundle=None,
        environment=algorithm.environment,
        parameters=parameters,
        inputs=tuple(granules),
        outputs={name: {"collection": output.collection} for name, output in algorithm.outputs.items()},
        limits=Limits(
            resources.cpu,
            resources.memory_bytes,
            resources.disk_bytes,
            resources.time_seconds,
            resources.soft_time_seconds,
            resources.gpu,
        ),
        checkpoint=None,
    )


def _parameters(algorithm: Algorithm, given: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        # By name, since the light install need not have it: it checks names alone, and the server checks all.
        checking = import_module("armillary.algorithms.parameters")
    except ImportError:
        unknown = next((name for name in given if name not in algorithm.parameters), None)
        if unknown is not None:
            known = ", ".join(algorithm.parameters) or "none"
            raise UsageError(f"There is no parameter {unknown!r}.", f"There are: {known}.", field="param") from None
        defaults = {name: one["default"] for name, one in algorithm.parameters.items() if "default" in one}
        return {**defaults, **given}
    checked: Mapping[str, Any] = checking.check_parameters(algorithm, given)
    return checked


def _sample_parameters(folder: Path) -> Mapping[str, Any]:
    file = folder / SAMPLES / "job.json"
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_bytes()).get("parameters", {}))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{file} is not a JSON object with parameters.", "Correct it.", field="samples") from error


def _samples(folder: Path, algorithm: Algorithm) -> list[InputGranule]:
    places = [
        (role, place) for role in algorithm.inputs if (folder / role).is_dir() for place in (folder / role).iterdir()
    ]
    return [
        _granule(role, place.name, _files_below(place), place.with_name(f"{place.name}.json"))
        for role, place in sorted(places)
        if place.is_dir()
    ]


def _given(inputs: Mapping[str, Sequence[Path]]) -> list[InputGranule]:
    """A file is a granule of one file; a folder is a granule that is this tree, as it would be ingested."""
    granules = []
    for role, paths in inputs.items():
        for path in paths:
            if not path.exists():
                raise UsageError(f"{path} is not there.", "Name a file or folder.", field=f"input.{role}")
            files = {path.name: path} if path.is_file() else _files_below(path, f"{path.name}/")
            name = path.stem if path.is_file() else path.name
            granules.append(_granule(role, name, files, path.with_name(f"{path.name}.json")))
    return granules


def _granule(role: str, name: str, files: Mapping[str, Path], item: Path) -> InputGranule:
    described: Json = {"id": name, "geometry": None, "properties": {}}
    if item.is_file():
        try:
            described |= json.loads(item.read_bytes())
        except (ValueError, TypeError) as error:
            raise UsageError(f"{item} is not a JSON object.", "Correct it.", field="samples") from error
    found = tuple(InputFile(path, _object(file)) for path, file in files.items())
    if not found:
        raise UsageError(f"The input {name!r} of the role {role!r} holds no files.", "Add some.", field=f"input.{role}")
    return InputGranule(role, str(described.get("collection", role)), check_name(name, "granule"), 1, described, found)


def _files_below(folder: Path, prefix: str = "") -> dict[str, Path]:
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _object(file: Path) -> Object:
    with file.open("rb") as stream:
        return Object(hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size, str(file.resolve()))


def _copy(wanted: Object, to: IO[bytes]) -> str:
    with Path(wanted.href).open("rb") as source:
        return copy_verified(source, to, wanted)


def _check_roles(algorithm: Algorithm, granules: Sequence[InputGranule]) -> None:
    for granule in granules:
        if granule.role not in algorithm.inputs:
            known = ", ".join(algorithm.inputs) or "none"
            raise UsageError(
                f"{algorithm.id} has no role {granule.role!r}.",
                f"Its roles are: {known}.",
                field=f"input.{granule.role}",
            )
    for role in algorithm.inputs.values():
        _check_count(role, sum(granule.role == role.role for granule in granules))


def _check_count(role: Input, count: int) -> None:
    field = f"input.{role.role}"
    if count == 0 and not role.optional:
        raise UsageError(
            f"The role {role.role!r} has no input.",
            f"Give --input {role.role}=PATH, or put one into samples/{role.role}/<granule id>/.",
            field=field,
        )
    if count > 1 and not role.many:
        raise UsageError(f"The role {role.role!r} takes one granule, not {count}.", "Give one.", field=field)
