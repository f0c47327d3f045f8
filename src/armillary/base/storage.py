"""Bytes by key: a local folder, S3 and its like, Google or Azure, through obstore; written once, never replaced.

A store's root names the instance it belongs to; another instance's store is refused. What a local store is given is on
disk (file and folders synced) before anyone learns of it: obstore's own local store does not sync, so that part is ours.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, from_url

from armillary.base.crash import crash_point
from armillary.base.errors import FULL_DISK, Conflict, NotFound, UsageError, disk_error
from armillary.base.ids import key_segment

INSTANCE_KEY = ".armillary-instance"
LINKS_KEY = ".links.key"  # signs links to what is stored here: who can read it can read all of that anyway
NONCE_NAME = ".nonce"  # who can read it, sees the same disk as the server does
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Written:
    """What arrived under a key."""

    size_bytes: int
    sha256: str


class Store:
    """One object store."""

    def __init__(self, url: str, options: dict[str, str] | None = None) -> None:
        self.url = url
        self.root = Path(url).absolute() if "://" not in url else None
        if self.root:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._objects: Any = LocalStore(self.root) if self.root else _remote(url, options or {})
        self._nonce = ""

    async def claim(self, instance: str) -> None:
        """Make this the store of `instance`, or refuse because it is another's."""
        read = await self._read_small(INSTANCE_KEY)
        owner = read.decode() if read is not None else None
        if owner is None:
            await obstore.put_async(self._objects, INSTANCE_KEY, instance.encode(), mode="create")
        elif owner != instance:
            raise Conflict(
                f"The store {self.url} belongs to another instance ({owner}).",
                "Give this one a store of its own (store.url).",
            )
        if self.root:
            self._nonce = read_or_make_secret(self.root / NONCE_NAME).hex()

    async def secret(self, name: str, first: bytes | None = None) -> bytes:
        """Bytes that all servers of this store share, made once: of `first`, or at random."""
        if self.root:
            return await asyncio.to_thread(read_or_make_secret, self.root / name, first)
        found = await self._read_small(name)
        if found is None:
            with contextlib.suppress(
                obstore.exceptions.AlreadyExistsError
            ):  # another server was faster: its secret counts
                made = first or secrets.token_bytes(32)
                await obstore.put_async(self._objects, name, made, mode="create")
            found = await self._read_small(name)
        assert found is not None, "it was just made or was there"
        return found

    def is_same_host(self, proof: str | None) -> bool:
        """Whether whoever sends `proof` has read the nonce in the store's root."""
        return bool(self.root and proof and secrets.compare_digest(proof, self._nonce))

    def path(self, key: str) -> Path:
        """Where a key's bytes are in a local store."""
        assert self.root, "only a local store has paths"
        return self.root / key

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> Written:
        """Store a stream under a key that has never been used; `Conflict` if it has."""
        return await (self._write_local(key, chunks) if self.root else self._write_remote(key, chunks))

    async def size(self, key: str) -> int | None:
        """Bytes under the key, or None."""
        try:
            return int((await obstore.head_async(self._objects, key))["size"])
        except FileNotFoundError:
            return None

    async def sizes(self, keys: Iterable[str]) -> dict[str, int | None]:
        """The same for many keys; one thread looks at a local store."""
        keys = list(keys)
        if self.root:
            # A stat takes microseconds; a thread for it takes longer.
            if len(keys) <= 64:
                return {key: _size_or_none(self.path(key)) for key in keys}
            return await asyncio.to_thread(lambda: {key: _size_or_none(self.path(key)) for key in keys})
        found = await asyncio.gather(*(self.size(key) for key in keys))
        return dict(zip(keys, found, strict=True))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream the bytes from `start` to before `end`."""
        options: Any = {"range": (start, end)} if end is not None else {"range": {"offset": start}} if start else None
        try:
            found = await obstore.get_async(self._objects, key, options=options)
        except FileNotFoundError as error:
            raise NotFound(f"The store holds nothing under {key}.", "Run `armillary doctor`.") from error
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)

    async def sha256(self, key: str) -> str:
        """The SHA-256 of what is stored."""
        digest = hashlib.sha256()
        async for chunk in self.read(key):
            digest.update(chunk)
        return digest.hexdigest()

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete; a key that is gone already is fine."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._objects, key)
            if self.root:
                _remove_empty_folders(self.path(key).parent, self.root)

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """Every key below `prefix` with its size."""
        async for batch in obstore.list(self._objects, prefix or None):
            for entry in batch:
                if not entry["path"].startswith("."):
                    yield entry["path"], int(entry["size"])

    def sign(self, method: str, key: str, expires: timedelta) -> str:
        """A URL of the object store itself that works for a while; not for a local store."""
        if self.root:
            raise UsageError("A local store has no URLs of its own.", "Use the file or relay transfer.")
        return str(obstore.sign(self._objects, method, key, expires))  # type: ignore[call-overload]

    async def _read_small(self, key: str) -> bytes | None:
        try:
            return bytes(await (await obstore.get_async(self._objects, key)).bytes_async())
        except FileNotFoundError:
            return None

    async def _write_remote(self, key: str, chunks: AsyncIterator[bytes]) -> Written:
        digest, size = hashlib.sha256(), 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        await obstore.put_async(self._objects, key, counted())
        return Written(size, digest.hexdigest())

    async def _write_local(self, key: str, chunks: AsyncIterator[bytes]) -> Written:
        path = self.path(key)
        part = path.with_name(f".part-{secrets.token_hex(8)}")
        digest, size = hashlib.sha256(), 0
        try:
            make_folders(path.parent)
            with part.open("xb") as file:
                async for chunk in chunks:
                    await asyncio.to_thread(_hash_and_write, digest, file.write, chunk)
                    size += len(chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            crash_point("store.before-link")
            os.link(part, path)  # fails where the key was used before
        except FileExistsError as error:
            raise Conflict(f"The key {key} has been written before.", "Ask for a new upload.") from error
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise  # the stream's own, perhaps
            raise disk_error(error, "The store") from error
        finally:
            part.unlink(missing_ok=True)
        await asyncio.to_thread(sync_folder, path.parent)
        return Written(size, digest.hexdigest())


def _remote(url: str, options: dict[str, str]) -> Any:
    """The object store of a URL; `UsageError` where the URL or an option is not understood."""
    for name in options:
        if any(word in name.lower() for word in ("secret", "password", "token", "access_key")):
            raise UsageError(
                f"store.options.{name} is a credential.",
                "Put it into the server's environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY …).",
                field=f"store.options.{name}",
            )
    # An endpoint without TLS is one's own: a test's server, or one behind a proxy on this host.
    is_plain = options.get("endpoint", "").startswith("http:")
    try:
        return from_url(url, config=options, client_options={"allow_http": True} if is_plain else None)  # type: ignore[call-overload]
    except obstore.exceptions.BaseError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"The store {url} cannot be opened: {reason}.",
            "Check store.url (s3://, gs://, az:// or a folder) and store.options.",
            field="store.options" if "Configuration key" in reason else "store.url",
        ) from error


def read_or_make_secret(path: Path, first: bytes | None = None) -> bytes:
    """32 random bytes (or `first`) in a file that only we can read, the same for every process that asks."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(f".part-{secrets.token_hex(8)}")
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(first or secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):  # another process was faster: its secret counts
            os.link(part, path)
        part.unlink()
    return path.read_bytes()


def object_key(prefix: str, path: str) -> str:
    """The key of one file of an upload; each segment of its path percent-encoded."""
    return "/".join([prefix, *(key_segment(segment) for segment in path.split("/"))])


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, each synced into its parent."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hash_and_write(digest: Any, write: Callable[[bytes], int], chunk: bytes) -> None:
    digest.update(chunk)
    write(chunk)


def _size_or_none(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove_empty_folders(folder: Path, root: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty, or gone
        folder = folder.parent
