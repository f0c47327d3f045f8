"""Collections over HTTP; they are defined through `/api/definitions`."""

from typing import Any

from fastapi import APIRouter

from armillary.accounts.api import SignedIn
from armillary.base.db import Row
from armillary.base.http import Web
from armillary.collections import define

router = APIRouter(prefix="/api/collections", tags=["collections"])


@router.get("")
async def collections(web: Web, actor: SignedIn) -> dict[str, Any]:
    """The collections, with what clients recognise granules by."""
    async with web.database.transaction() as tx:
        rows = await define.visible(tx, actor)
    return {"collections": [_shown(row) for row in rows]}


@router.get("/{collection}")
async def collection(web: Web, actor: SignedIn, collection: str) -> dict[str, Any]:
    """One collection."""
    async with web.database.transaction() as tx:
        return _shown(await define.row(tx, actor, collection))


def _shown(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "title": row["spec"].get("title", ""),
        "version": row["version"],
        "group": row["group"],
        "spec": row["spec"],
        "created": row["created_at"],
        "updated": row["updated_at"],
    }
