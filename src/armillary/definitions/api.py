"""Definitions over HTTP: apply, plan, export, history."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from armillary.accounts.api import SignedIn
from armillary.algorithms import register
from armillary.base.db import Row
from armillary.base.errors import NotFound
from armillary.base.http import Web, Wire
from armillary.definitions import apply

router = APIRouter(prefix="/api/definitions", tags=["definitions"])


class DocumentsWire(Wire):
    """YAML documents as JSON; an algorithm carries the `bundle` that was put before."""

    documents: list[dict[str, Any]] = Field(max_length=10_000)
    dry_run: bool = False


class _Planned(Exception):
    """Rolls a plan back."""


@router.post("")
async def apply_documents(web: Web, actor: SignedIn, body: DocumentsWire) -> dict[str, Any]:
    """Apply all or nothing; with `dry_run` only say what would change."""
    algorithms = [document for document in body.documents if document.get("kind") == "algorithm"]
    others = [document for document in body.documents if document.get("kind") != "algorithm"]
    bundles = [await register.bundle_of(web.store, document) for document in algorithms]
    changes: list[dict[str, Any]] = []
    try:
        async with web.database.transaction() as tx:
            collections = [document for document in others if document.get("kind") == "collection"]
            rest = [document for document in others if document.get("kind") != "collection"]
            changes += map(_change, await apply.apply(tx, actor, collections))
            for document, bundle in zip(algorithms, bundles, strict=True):
                changes.append(await _register(tx, actor, document, bundle))
            changes += map(_change, await apply.apply(tx, actor, rest))
            if body.dry_run:
                raise _Planned
    except _Planned:
        pass
    return {"changes": changes}


@router.get("")
async def definitions(web: Web, actor: SignedIn, kind: str | None = None) -> dict[str, Any]:
    """What is defined now."""
    async with web.database.transaction() as tx:
        rows = await apply.in_force(tx, actor, kind)
    return {"definitions": [_shown(row) for row in rows]}


@router.get("/{kind}/{id}")
async def definition(web: Web, actor: SignedIn, kind: str, id: str, version: int | None = None) -> dict[str, Any]:  # noqa: A002
    """One definition, as it is or was at a version."""
    async with web.database.transaction() as tx:
        rows = await apply.history(tx, actor, kind, id)
    for row in rows:
        if row["version"] == (version or rows[0]["version"]):
            return _shown(row)
    raise NotFound(f"{kind} {id} has no version {version}.")


@router.get("/{kind}/{id}/history")
async def history(web: Web, actor: SignedIn, kind: str, id: str) -> dict[str, Any]:  # noqa: A002
    """Every version, newest first."""
    async with web.database.transaction() as tx:
        rows = await apply.history(tx, actor, kind, id)
    return {"history": [_shown(row) for row in rows]}


@router.delete("/{kind}/{id}", status_code=204)
async def remove(web: Web, actor: SignedIn, kind: str, id: str) -> None:  # noqa: A002
    """Delete a definition that nothing depends on."""
    async with web.database.transaction() as tx:
        await apply.remove(tx, actor, kind, id)


async def _register(tx: Any, actor: SignedIn, document: dict[str, Any], bundle: Any) -> dict[str, Any]:
    document = {name: value for name, value in document.items() if name != "bundle"}
    registration = await register.register(tx, actor, document, bundle)
    identity = f"{registration.registered.algorithm.id}@{registration.registered.algorithm.version}"
    return {
        "kind": "algorithm",
        "id": identity,
        "action": "create" if registration.is_new else "same",
        "differences": [],
    }


def _change(change: apply.Change) -> dict[str, Any]:
    return {
        "kind": change.kind, "id": change.id, "action": change.action, "differences": list(change.differences),
    }  # fmt: skip


def _shown(row: Row) -> dict[str, Any]:
    return {
        "kind": row["kind"],
        "id": row["id"],
        "version": row["version"],
        "spec": row["spec"],
        "group": row["group"],
        "applied_by": row["applied_by"],
        "applied": row["applied_at"],
    }
