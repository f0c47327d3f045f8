"""List, read and extract archives without trusting what they say about themselves.

Refused are names that could leave the folder or mislead a person, links and devices, and archives whose
number of members, size or expansion is out of proportion. Sizes are checked again as the bytes come out.
"""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from armillary_formats.refusal import Refused, brief

GIB = 1024**3
CHUNK_BYTES = 1024 * 1024
MOST_TRAILING_CHUNKS = 16
# What the libraries raise at damaged archives, beside their own errors.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error,
          NotImplementedError, OverflowError)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What an archive may ask; zeros compress well, so expansion counts beyond `always_allowed_bytes`."""

    members: int = 100_000
    total_bytes: int = 256 * GIB
    expansion: int = 100
    always_allowed_bytes: int = GIB // 4

    def most_bytes(self, archive_bytes: int) -> int:
        """The sum of sizes that an archive of this size may have."""
        return min(self.total_bytes, max(self.always_allowed_bytes, self.expansion * archive_bytes))


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive; `name` is normalised, `stored_name` is what the archive calls it."""

    name: str
    size_bytes: int
    is_folder: bool
    stored_name: str


def members(path: Path, limits: Limits = DEFAULT_LIMITS) -> list[Member]:
    """All members of a zip or tar archive, each of them safe to extract."""
    if zipfile.is_zipfile(path):
        with _open_zip(path, limits) as archive:
            return _zip_members(path, archive, limits)
    with _open_tar(path) as archive:
        found = _checked(path, (_tar_member(path, info) for info in archive), limits)
        _check_tar_end(path, archive)
        return found


def extract(path: Path, folder: Path, limits: Limits = DEFAULT_LIMITS) -> list[Path]:
    """Write every member below `folder`, which must not exist; nothing stays if the archive is refused."""
    folder.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(path):
            with _open_zip(path, limits) as archive:
                found = _zip_members(path, archive, limits)
                files = [member for member in found if _is_file(folder, member)]
                return [_write(path, folder, file, archive.open(file.stored_name)) for file in files]
        return _extract_tar(path, folder, limits)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, DAMAGE):
            raise Refused(f"{path.name} is damaged: {brief(error)}.") from error
        raise


def safe_name(name: str) -> str:
    """The member's name in normal form, or a refusal that says what is wrong with it."""
    shown = ascii(name if len(name) <= 120 else name[:117] + "…")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise Refused(f"The name {shown} holds a control character.")
    if "\\" in name:
        raise Refused(f"The name {shown} holds a backslash, which some systems take for a folder.")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise Refused(f"The name {shown} is an absolute path.")
    normal = unicodedata.normalize("NFC", name).removesuffix("/")
    parts = [part for part in normal.split("/") if part != "."]
    if ".." in parts:
        raise Refused(f"The name {shown} leads out of the archive with '..'.")
    if "" in parts:
        raise Refused(f"The name {shown} has an empty part.")
    if any(len(part.encode()) > 255 for part in parts):
        raise Refused(f"The name {shown} has a part longer than 255 bytes.")
    return "/".join(parts)


class Tree(Protocol):
    """A folder, or a zip that is read as if it were one."""

    name: str
    sizes: dict[str, int]

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """The bytes of one file; damage that shows while they are read is a refusal."""
        ...


@contextmanager
def open_tree(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Tree]:
    """A folder or zip as one `Tree`; a zip is not unpacked."""
    if path.is_dir():
        yield _FolderTree(path, limits)
        return
    with _open_zip(path, limits) as archive:
        yield _ZipTree(path, archive, limits)


def read_bytes(tree: Tree, name: str, most_bytes: int) -> bytes:
    """A whole file of a tree, or a refusal when it is larger than it may be or damaged."""
    if tree.sizes[name] > most_bytes:
        raise Refused(f"{name} in {tree.name} has {tree.sizes[name]} bytes; at most {most_bytes} are read.")
    with tree.open(name) as stream:
        data = stream.read(most_bytes + 1)
    if len(data) != tree.sizes[name]:
        raise Refused(f"{name} in {tree.name} has {len(data)} bytes where {tree.sizes[name]} are announced.")
    return data


class _FolderTree:
    def __init__(self, path: Path, limits: Limits) -> None:
        self.name = path.name
        self._path = path
        self.sizes: dict[str, int] = {}
        for folder, _, files in os.walk(path):
            for file in files:
                entry = Path(folder, file)
                self.sizes[safe_name(entry.relative_to(path).as_posix())] = entry.stat().st_size
            if len(self.sizes) > limits.members:
                raise Refused(f"{path.name} holds more than {limits.members} files.")

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return (self._path / name).open("rb")


class _ZipTree:
    def __init__(self, path: Path, archive: zipfile.ZipFile, limits: Limits) -> None:
        self.name = path.name
        self._archive = archive
        found = [member for member in _zip_members(path, archive, limits) if not member.is_folder]
        self.sizes = {member.name: member.size_bytes for member in found}
        self._stored = {member.name: member.stored_name for member in found}

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._archive.open(self._stored[name]) as stream:
                yield stream
        except DAMAGE as error:
            raise Refused(f"{name} in {self.name} is damaged: {brief(error)}.") from error


@contextmanager
def _open_zip(path: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    _check_zip_directory(path, limits)
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGE, ValueError, OSError) as error:
        raise Refused(f"{path.name} is not a whole zip archive: {brief(error)}.") from error
    with archive:
        yield archive


def _check_zip_directory(path: Path, limits: Limits) -> None:
    """Refuse a directory that is too large before zipfile reads all of it into memory."""
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise Refused(f"{path.name} is empty.")
    with path.open("rb") as stream:
        stream.seek(max(0, size_bytes - 65_536 - 128))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise Refused(f"{path.name} is not a whole zip archive: the directory at its end is missing.")
    count, directory_bytes = struct.unpack_from("<HL", tail, at + 10)
    wide = tail.rfind(b"PK\x06\x06")
    if wide >= 0 and len(tail) >= wide + 56:
        count, directory_bytes = struct.unpack_from("<QQ", tail, wide + 32)
    if count > limits.members or directory_bytes > limits.members * 1024:
        raise Refused(f"{path.name} holds {count} members; at most {limits.members} are read.")


def _zip_members(path: Path, archive: zipfile.ZipFile, limits: Limits) -> list[Member]:
    return _checked(path, (_zip_member(path, info) for info in archive.infolist()), limits)


def _zip_member(path: Path, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(f"{path.name} holds {info.orig_filename!a}, which is neither a file nor a folder.")
    if info.flag_bits & 1:
        raise Refused(f"{path.name} holds {info.orig_filename!a}, which is encrypted.")
    # zipfile cuts a name at a NUL; the name as stored is what must be clean.
    name = safe_name(info.orig_filename)
    return Member(name, info.file_size, info.is_dir(), info.filename)


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        try:
            with tarfile.open(fileobj=_Measured(_decompressed(raw, magic)), mode="r:") as archive:
                yield archive
        except Refused:
            raise
        except (*DAMAGE, ValueError, OSError) as error:
            raise Refused(f"{path.name} is neither a whole zip nor a whole tar archive: {brief(error)}.") from error


def _decompressed(raw: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if magic.startswith(b"\xfd7zXZ") else raw


class _Measured(io.RawIOBase):
    """A stream that refuses to be read in huge pieces: tarfile reads a header of any size at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > 16 * CHUNK_BYTES:
            raise Refused("The tar archive has a header larger than 16 MiB.")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _check_tar_end(path: Path, archive: tarfile.TarFile) -> None:
    """A whole archive ends with a block of zeros: tarfile takes one that was cut between members for whole.

    What follows is read as well, since the checksum of a compressed archive is behind it.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise Refused(f"{path.name} is cut short: the mark at the end of a tar archive is missing.")
    for _ in range(MOST_TRAILING_CHUNKS):
        if not archive.fileobj.read(CHUNK_BYTES):
            return
    raise Refused(f"{path.name} has more than {MOST_TRAILING_CHUNKS} MiB behind its end.")


def _tar_member(path: Path, info: tarfile.TarInfo) -> Member:
    if not (info.isreg() or info.isdir()):
        raise Refused(f"{path.name} holds {info.name!a}, which is neither a file nor a folder.")
    return Member(safe_name(info.name), info.size if info.isreg() else 0, info.isdir(), info.name)


def _extract_tar(path: Path, folder: Path, limits: Limits) -> list[Path]:
    known = {member.name for member in members(path, limits)}
    written = []
    with _open_tar(path) as archive:
        for info in archive:
            member = _tar_member(path, info)
            if member.name not in known:
                raise Refused(f"{path.name} changed while it was read.")
            stream = archive.extractfile(info)
            if _is_file(folder, member) and stream is not None:
                written.append(_write(path, folder, member, stream))
    return written


def _checked(path: Path, found: Iterable[Member], limits: Limits) -> list[Member]:
    """The members, refused at the first that breaks a limit, repeats a name or is both file and folder."""
    archive_bytes = path.stat().st_size
    most_bytes = limits.most_bytes(archive_bytes)
    kept: dict[str, Member] = {}
    total_bytes = 0
    for member in found:
        total_bytes += member.size_bytes
        if len(kept) >= limits.members:
            raise Refused(f"{path.name} holds more than {limits.members} members.")
        if total_bytes > most_bytes:
            sizes = f"more than {most_bytes} bytes from {archive_bytes}"
            raise Refused(f"{path.name} would unpack to {sizes}, which looks like a bomb.")
        if member.name in kept and not (member.is_folder and kept[member.name].is_folder):
            raise Refused(f"{path.name} holds {member.name!a} twice.")
        if member.name:  # "./" names the archive itself
            kept[member.name] = member
    files = {member.name for member in kept.values() if not member.is_folder}
    for name in kept:
        parents = {name[:at] for at, character in enumerate(name) if character == "/"}
        if inside := parents & files:
            raise Refused(f"{path.name} holds {inside.pop()!a} as a file and as a folder.")
    return list(kept.values())


def _is_file(folder: Path, member: Member) -> bool:
    if member.is_folder:
        (folder / member.name).mkdir(parents=True, exist_ok=True)
    return not member.is_folder


def _write(path: Path, folder: Path, member: Member, stream: IO[bytes]) -> Path:
    target = folder / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    left_bytes = member.size_bytes
    with stream, target.open("xb") as out:
        while chunk := stream.read(CHUNK_BYTES):
            left_bytes -= len(chunk)
            if left_bytes < 0:
                raise Refused(f"{member.name} in {path.name} is larger than announced.")
            out.write(chunk)
    if left_bytes:
        raise Refused(f"{member.name} in {path.name} is shorter than announced.")
    return target
