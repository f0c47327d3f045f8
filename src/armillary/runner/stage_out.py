"""Look at what an algorithm left, check it against what it declared, and describe it for the upload."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.errors import UsageError
from armillary.base.ids import check_name
from armillary.client import media
from armillary.client.upload import AssetSource, GranuleSource, plan
from armillary.runner.failure import AttemptError
from armillary.runner.item import ItemError, item
from armillary.runner.lease import Lease
from armillary.runner.verdict import read_small_json

DESCRIPTION = "granule.json"


def outputs(lease: Lease, folder: Path) -> list[GranuleSource]:
    """Every product that was left; `AttemptError` (a science error) names the first thing that is wrong."""
    places = _declared_places(lease, folder / "outputs")
    made = [_granule(lease, name, place) for name, place in places]
    _check_counts(lease, [name for name, _ in places])
    return made


def _declared_places(lease: Lease, folder: Path) -> list[tuple[str, Path]]:
    places = []
    for output in _entries(folder, "outputs"):
        if output.name not in lease.outputs:
            known = ", ".join(lease.outputs) or "none"
            raise _wrong(f"It left outputs/{output.name}, which it does not declare (it declares: {known}).")
        _must_be_folder(output, f"outputs/{output.name}")
        for granule in _entries(output, f"outputs/{output.name}"):
            _must_be_folder(granule, f"outputs/{output.name}/{granule.name}")
            places.append((output.name, granule))
    return places


def _check_counts(lease: Lease, names: Sequence[str]) -> None:
    for name, declared in lease.outputs.items():
        spec = {**lease.spec.get("outputs", {}).get(name, {}), **declared}
        if name not in names and not spec.get("optional"):
            raise _wrong(f"It left no output {name!r}.", f"Write outputs/{name}/<granule id>/, or declare it optional.")
        if names.count(name) > 1 and not spec.get("many"):
            raise _wrong(f"It left {names.count(name)} granules as {name!r}.", "Write one, or declare it many: true.")


def _granule(lease: Lease, output: str, folder: Path) -> GranuleSource:
    where = f"outputs/{output}/{folder.name}"
    try:
        identifier = check_name(folder.name, "granule id")
    except UsageError as error:
        raise _wrong(f"{where}: {error.message}", error.remedy) from error
    written = _description(folder, where)
    names = [entry for entry in _entries(folder, where) if entry.name != DESCRIPTION]
    if not names:
        raise _wrong(f"{where} holds no files.", "Write the product there.")
    described = written.get("assets", {})
    _check_described(described, {entry.name for entry in names}, where)
    try:
        made = item(written, [granule.item for granule in lease.inputs])
    except (ItemError, ValueError) as error:
        raise _wrong(f"{where}: {error}.", "Correct granule.json.") from error
    source = GranuleSource(
        collection=str(lease.outputs[output]["collection"]),
        id=identifier,
        assets=tuple(_asset(entry, described.get(entry.name, {})) for entry in names),
        item=made,
        job=lease.job,
        lease=lease.number,
        output=output,
    )
    try:
        plan(source)
    except UsageError as error:
        raise _wrong(f"{where}: {error.message}", error.remedy) from error
    return source


def _description(folder: Path, where: str) -> Mapping[str, Any]:
    if not (folder / DESCRIPTION).exists():
        return {}
    written = read_small_json(folder / DESCRIPTION)
    if not isinstance(written, Mapping):
        raise _wrong(f"{where}/{DESCRIPTION} is not a JSON object of at most 64 KiB.", "Correct it.")
    return written


def _check_described(described: Any, names: set[str], where: str) -> None:
    if not isinstance(described, Mapping) or not all(isinstance(one, Mapping) for one in described.values()):
        raise _wrong(
            f"{where}/{DESCRIPTION}: assets is not an object of objects.", "Write assets: {FILE: {roles: […]}}."
        )
    for name in described:
        if name not in names:
            raise _wrong(f"{where}/{DESCRIPTION} describes {name!r}, which is not there.", "Write it, or leave it out.")


def _asset(path: Path, described: Mapping[str, Any]) -> AssetSource:
    is_tree = stat.S_ISDIR(path.lstat().st_mode)
    roles = described.get("roles")
    return AssetSource(
        name=path.name,
        path=path,
        kind="tree" if is_tree else "file",
        media_type=str(described.get("type") or media.media_type(path.name, is_tree=is_tree)),
        roles=tuple(map(str, roles)) if isinstance(roles, list) else media.roles(path.name),
        title=str(described.get("title", "")),
        description=str(described.get("description", "")),
    )


def _entries(folder: Path, where: str) -> list[Path]:
    """What a folder holds; a link could lead to what is not the algorithm's to publish, so none is taken."""
    try:
        if folder.is_symlink():
            raise _wrong(f"{where} is not a folder.", "Leave the folder as it was.")
        found = sorted(_listed(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _wrong(f"{where} is not a folder.", "Leave the folder as it was.") from error
    for entry in found:
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise _wrong(f"{where}/{entry.name!r} is a link.", "Write the file itself.")
    return found


def _listed(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield Path(entry.path)


def _must_be_folder(path: Path, where: str) -> None:
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise _wrong(f"{where} is not a folder.", "Put products in outputs/<output name>/<granule id>/.")


def _wrong(reason: str, remedy: str = "Correct the algorithm.") -> AttemptError:
    return AttemptError(ErrorClass.SCIENCE_ERROR, f"It exited with code 0, but its outputs are wrong. {reason}", remedy)
