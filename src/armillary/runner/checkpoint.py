"""Keep what an algorithm saves in `checkpoint/`, so that the next attempt of the job can go on from there."""

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from armillary.base.errors import ArmillaryError
from armillary.runner.cache import Cache
from armillary.runner.failure import from_error, from_os_error
from armillary.runner.lease import Object

FOLDER = "checkpoint"
Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Packed:
    """A checkpoint as one file."""

    file: Path
    sha256: str
    signature: Signature


def pack(folder: Path, known: Signature) -> Packed | None:
    """Pack the checkpoint if it is another than the known one; None if not, or if it is being written just now."""
    before = signature(folder)
    if not before or before == known:
        return None
    file = folder / ".checkpoint.tar"
    with tarfile.open(file, "w") as archive:
        for name, _, _ in before:
            archive.add(folder / FOLDER / name, name, recursive=False)
    if signature(folder) != before:
        file.unlink()
        return None
    with file.open("rb") as stream:
        return Packed(file, hashlib.file_digest(stream, "sha256").hexdigest(), before)


def signature(folder: Path) -> Signature:
    """What tells two states of a checkpoint apart: names, sizes and times. Links and special files are left out."""
    root = folder / FOLDER
    found = []
    for parent, _, names in os.walk(root, followlinks=False):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if path.is_file() and not path.is_symlink():
                found.append((str(path.relative_to(root)), status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def restore(saved: Object, folder: Path, cache: Cache) -> None:
    """Put an earlier attempt's checkpoint where the algorithm looks for it."""
    archive = folder / ".restored.tar"
    try:
        cache.take(saved, archive)
        with tarfile.open(archive) as members:
            members.extractall(folder / FOLDER, filter="data")
    except ArmillaryError as error:
        raise from_error(error, "Fetching the checkpoint") from error
    except (OSError, tarfile.TarError) as error:
        raise from_os_error(
            error if isinstance(error, OSError) else OSError(str(error)), "Restoring the checkpoint"
        ) from error
    finally:
        archive.unlink(missing_ok=True)
        cache.evict(saved)  # it is used once
