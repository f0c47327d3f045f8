"""The HTTP face of algorithms."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from armillary.accounts.api import SignedIn
from armillary.accounts.permit import permit
from armillary.algorithms import bundle as bundles
from armillary.algorithms import store
from armillary.algorithms.bundle import Bundle, check_sha256
from armillary.algorithms.parameters import schema_of
from armillary.algorithms.register import resolve
from armillary.base.clock import iso
from armillary.base.db import Row
from armillary.base.errors import NotFound
from armillary.base.http import Web

router = APIRouter(prefix="/api", tags=["algorithms"])


@router.get("/algorithms")
async def algorithms(web: Web, actor: SignedIn, limit: int = 100, after: str = "") -> dict[str, Any]:
    """The newest version of each algorithm."""
    limit = max(1, min(limit, 1000))
    async with web.database.transaction() as tx:
        rows = await store.newest(tx, actor.scope, after, limit)
    return {
        "algorithms": [_brief(row) for row in rows],
        "next": rows[-1]["id"] if len(rows) == limit else None,
    }


@router.get("/algorithms/{id}")
async def algorithm(web: Web, actor: SignedIn, id: str, version: str | None = None) -> dict[str, Any]:  # noqa: A002
    """One algorithm: the version that `version` selects, and which others there are."""
    async with web.database.transaction() as tx:
        found = await resolve(tx, actor, id, version)
        rows = await store.versions(tx, actor.scope, id)
    row = next(row for row in rows if row["digest"] == found.digest)
    return _brief(row) | {
        "spec": row["spec"],
        "parameters": schema_of(found.algorithm),
        "versions": [_brief(row) for row in rows],
    }


@router.put("/bundles/{sha256}", status_code=201)
async def put_bundle(web: Web, actor: SignedIn, sha256: str, request: Request) -> dict[str, Any]:
    """Store the folder of an algorithm, a gzipped tar; sending it again does no harm."""
    permit(actor, "change", actor.group)
    bundle = await bundles.receive(web.store, sha256, request.stream())
    return {"sha256": bundle.sha256, "size": bundle.size_bytes}


@router.get("/bundles/{sha256}")
async def get_bundle(web: Web, _actor: SignedIn, sha256: str) -> StreamingResponse:
    """A bundle that a registered version names."""
    key = Bundle(check_sha256(sha256), 0).key
    async with web.database.transaction() as tx:
        size = await store.bundle_size(tx, sha256)
    if size is None:
        raise NotFound(f"No algorithm has the bundle {sha256}.", "")
    headers = {"Content-Length": str(size), "ETag": f'"{sha256}"'}
    return StreamingResponse(web.store.read(key), media_type="application/gzip", headers=headers)


def _brief(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "version": row["version"],
        "digest": row["digest"],
        "title": row["spec"].get("title", ""),
        "group": row["group"],
        "registered_by": row["registered_by"],
        "registered_at": iso(row["registered_at"]),
        "bundle": row["bundle_sha256"] and {"sha256": row["bundle_sha256"], "size": row["bundle_size"]},
    }
