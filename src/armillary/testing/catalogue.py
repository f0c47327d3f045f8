"""A catalogue to test against: collections, algorithms and granules put in through the same functions as in production."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from armillary.accounts import authenticate
from armillary.accounts.actor import Actor
from armillary.algorithms import register
from armillary.base.db import Database
from armillary.base.errors import ArmillaryError
from armillary.base.storage import Store, object_key
from armillary.definitions import apply
from armillary.granules import ingest, upload
from armillary.granules.granule import Asset, Commit, Committed, Draft, File, Frame

OWNER = Actor(authenticate.OWNER, authenticate.OWNERS, is_owner=True)

# An algorithm that needs no bundle: only what the server knows of it counts here.
NOOP: Mapping[str, Any] = {
    "kind": "algorithm",
    "id": "noop",
    "version": "1.0.0",
    "inputs": {},
    "outputs": {},
    "run": {"command": ["true"]},
    "environment": {"site": True},
}


class Catalogue:
    """One instance's database and store."""

    def __init__(self, database: Database, store: Store) -> None:
        self.database = database
        self.store = store

    @classmethod
    async def make(cls, database: Database, folder: Path) -> "Catalogue":
        """With an owner and a pool named default."""
        async with database.transaction() as tx:
            await authenticate.make_owner(tx)
        made = cls(database, Store(str(folder)))
        await made.apply({"kind": "pool", "id": "default", "provider": "none"})
        return made

    async def apply(self, *documents: Mapping[str, Any]) -> list[apply.Change]:
        """Apply documents as the owner."""
        async with self.database.transaction() as tx:
            return await apply.apply(tx, OWNER, documents)

    async def collections(self, *names: str, **fields: Any) -> None:
        """Make plain collections."""
        await self.apply(*({"kind": "collection", "id": name, **fields} for name in names))

    async def algorithm(self, **fields: Any) -> None:
        """Register a version of the no-op, with inputs and outputs as given."""
        async with self.database.transaction() as tx:
            await register.register_builtin(tx, {**NOOP, **fields})

    async def granule(
        self,
        collection: str,
        name: str,
        *,
        content: bytes | None = None,
        geometry: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> Committed:
        """Ingest one granule with one small file."""
        result = await self.try_granule(collection, name, content=content, geometry=geometry, **properties)
        if isinstance(result, ArmillaryError):
            raise result
        return result

    async def try_granule(
        self,
        collection: str,
        name: str,
        *,
        content: bytes | None = None,
        geometry: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> Committed | ArmillaryError:
        """The same; a refusal is returned."""
        commit = await self.uploaded(collection, name, content or name.encode(), geometry, properties)
        prepared = await ingest.prepare(self.database, self.store, [commit])
        return (await ingest.commit_all(self.database, OWNER, prepared))[0]

    async def uploaded(
        self,
        collection: str,
        name: str,
        content: bytes,
        geometry: Mapping[str, Any] | None,
        properties: Mapping[str, Any],
    ) -> Commit:
        """The bytes of a granule, uploaded and not yet committed."""
        async with self.database.transaction() as tx:
            ticket = (
                await upload.open_uploads(tx, OWNER, [upload.Wish(collection, name)], "relay", timedelta(hours=1))
            )[0]
        await self.store.write(object_key(ticket.prefix, "data.bin"), _once(content))
        file = File("data.bin", len(content), hashlib.sha256(content).hexdigest())
        frame: Frame = properties.get("frame") or ("earth" if geometry else "none")
        kept = {key: value for key, value in properties.items() if key != "frame"}
        return Commit(ticket.id, Draft(frame, geometry, kept), {"data": Asset("file", (file,))})


async def _once(content: bytes) -> AsyncIterator[bytes]:
    await asyncio.sleep(0)
    yield content


def square(west: float, south: float, size: float = 1.0) -> dict[str, Any]:
    """A square of `size` degrees."""
    east, north = west + size, south + size
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
