"""The SQL of collections."""

from typing import Any

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb

_COLUMNS = 'id, version, spec, "group", created_at, updated_at'


async def put(tx: Transaction, collection: str, version: int, spec: dict[str, Any], group: str) -> None:
    """Make or replace a collection."""
    await tx.execute(
        """insert into collection (id, version, spec, "group") values (%s, %s, %s, %s)
           on conflict (id) do update set version = excluded.version, spec = excluded.spec, updated_at = armillary_now()""",
        [collection, version, jsonb(spec), group],
    )


async def delete(tx: Transaction, collection: str) -> None:
    """Delete a collection; the database refuses where granules are left."""
    await tx.execute("delete from collection where id = %s", [collection])


async def find(tx: Transaction, collection: str) -> Row | None:
    """One collection, whoever asks."""
    return await tx.row(f"select {_COLUMNS} from collection where id = %s", [collection])


async def visible(tx: Transaction, scope: dict[str, Any]) -> list[Row]:
    """The collections that the actor may see."""
    return await tx.rows(f"select {_COLUMNS} from collection where {VISIBLE} order by id", scope)
