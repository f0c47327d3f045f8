"""Bundles: the folder of an algorithm as one archive, kept under its own SHA-256."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from armillary.base.crash import crash_point
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.base.storage import Store

MAX_BYTES = 256 * 2**20
MAX_UNPACKED_BYTES = 4 * 2**30
MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class Bundle:
    """One archive, named by what it holds."""

    sha256: str
    size_bytes: int

    @property
    def key(self) -> str:
        return f"bundles/{self.sha256}"


async def receive(store: Store, sha256: str, chunks: AsyncIterator[bytes]) -> Bundle:
    """Check an archive and store it; one that is there already is taken as it is."""
    data = await _read(check_sha256(sha256), chunks)
    bundle = Bundle(sha256, len(data))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UsageError(
            "The bundle that arrived has another SHA-256 than its address.", "Send it again.", field="sha256"
        )
    await asyncio.to_thread(check_archive, data)
    if await store.size(bundle.key) is None:
        crash_point("bundle.before-write")
        with contextlib.suppress(Conflict):  # somebody sent the same bundle at the same time
            await store.write(bundle.key, _once(data))
    return bundle


async def known(store: Store, sha256: str, size_bytes: int) -> Bundle:
    """The bundle that a document names; refused unless its bytes are in the store."""
    bundle = Bundle(check_sha256(sha256), size_bytes)
    found = await store.size(bundle.key)
    if found is None:
        raise NotFound(
            f"Bundle {sha256} is not here.",
            f"Send it first: PUT /api/bundles/{sha256}.",
            field="bundle.sha256",
        )
    if found != size_bytes:
        raise UsageError(
            f"Bundle {sha256} has {found} bytes, not {size_bytes}.", "Correct the size.", field="bundle.size"
        )
    return bundle


def check_sha256(sha256: str) -> str:
    """64 lower-case hexadecimal digits, or `UsageError`."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UsageError(
            f"{sha256[:80]!r} is not a SHA-256.", "Write 64 lower-case hexadecimal digits.", field="sha256"
        )
    return sha256


def check_archive(data: bytes) -> None:
    """Refuse what is not a gzipped tar of plain files and folders inside one folder."""
    try:
        with gzip.open(io.BytesIO(data)) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as archive:
            unpacked = 0
            for count, member in enumerate(archive):
                unpacked += member.size
                _check_member(member)
                if unpacked > MAX_UNPACKED_BYTES or count >= MAX_MEMBERS:
                    raise UsageError("The bundle unpacks to more than 4 GiB or 100,000 files.", "Keep data out of it.")
            while unzipped.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UsageError(f"The bundle is not a whole .tar.gz: {error}.", "Send it again.") from error


def _check_member(member: tarfile.TarInfo) -> None:
    if not (member.isfile() or member.isdir()):
        raise UsageError(f"The bundle's {member.name!r} is neither a file nor a folder.", "Replace it by a file.")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise UsageError(f"The bundle's {member.name!r} lies outside of it.", "Pack relative paths.")


async def _read(sha256: str, chunks: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > MAX_BYTES:
            raise UsageError(f"Bundle {sha256} is larger than 256 MiB.", "Keep data out of the algorithm's folder.")
    return bytes(data)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
