"""Pack the folder of an algorithm: the same program always gives the same bytes, and so the same name.

Definitions that lie in the folder are no part of it: they reach the server as documents of their own, so that a rule beside
an algorithm can be added or mended without making another version of it.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from armillary.base.errors import ArmillaryError, UsageError

MAX_BYTES = 256 << 20  # what a server takes
TESTS = "tests"  # in the folder itself: a package of that name within a package may be imported
# What making, testing and editing leave behind; nothing that a job needs.
JUNK = (
    ".*", "__pycache__", "*.pyc", "*.pyo", "*.egg-info", "build", "dist", "node_modules", "*~", "*.swp", "venv",
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A packed folder."""

    data: bytes

    @property
    def sha256(self) -> str:
        """Its name in the store."""
        return hashlib.sha256(self.data).hexdigest()

    def document(self) -> dict[str, object]:
        """What an algorithm's document carries of it."""
        return {"sha256": self.sha256, "size": len(self.data)}


def pack(folder: Path) -> Bundle:
    """Pack all that is no junk, test or definition; modes, owners and times are left out, so that only content counts."""
    tar = io.BytesIO()
    total = 0
    # A link within the folder is packed as what it leads to.
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for path in files(folder):
            if path.relative_to(folder).parts[0] == TESTS or (path.parent == folder and is_definition(path)):
                continue
            total += path.stat().st_size
            if total > 4 * MAX_BYTES:
                break
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_anonymous)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(tar.getbuffer())
    if total > 4 * MAX_BYTES or packed.tell() > MAX_BYTES:
        raise UsageError(f"{folder} is larger than 256 MiB when packed.", "Keep data out of an algorithm's folder.")
    return Bundle(packed.getvalue())


def files(folder: Path, root: Path | None = None) -> Iterator[Path]:
    """The files that belong to an algorithm, in the order in which they are packed."""
    root = root or folder.resolve()
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if any(fnmatch(path.name, pattern) for pattern in JUNK):
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise UsageError(f"{path} leads out of the algorithm's folder.", "Put what it leads to in its place.")
        if path.is_dir() and not path.is_symlink():
            yield from files(path, root)
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"{path} is not a file.", "Remove it, or replace it by a file.")


def is_definition(path: Path) -> bool:
    """Whether a file holds nothing but documents that `armillary apply` takes."""
    if path.suffix not in (".yaml", ".yml"):
        return False
    from armillary.base.yamlfile import load_all

    try:
        documents = load_all(path.read_bytes(), str(path))
    except ArmillaryError:
        return False
    return bool(documents) and all(isinstance(one.value, dict) and "kind" in one.value for one in documents)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    # Executable or not is all of a mode that counts.
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member
