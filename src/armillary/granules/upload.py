"""Tickets: where the bytes of an upload go, who may write them there, and until when."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict, NotAllowed, NotFound
from armillary.base.ids import check_name, key_segment, new_id
from armillary.base.storage import Store, Written, object_key
from armillary.collections import define
from armillary.granules import store
from armillary.granules.granule import File, check_file

Transfer = Literal["file", "relay", "signed"]


@dataclass(frozen=True)
class Wish:
    """A client wants to upload a granule; the runner says for which lease."""

    collection: str
    granule: str
    job: UUID | None = None
    lease: int | None = None


@dataclass(frozen=True)
class Ticket:
    """Permission to write below a prefix that nobody else was or will be given."""

    id: UUID
    prefix: str
    transfer: Transfer
    expires_at: datetime


async def open_uploads(
    tx: Transaction, actor: Actor, wishes: list[Wish], transfer: Transfer, expires: timedelta
) -> list[Ticket]:
    """Record one open upload per wish, before the first byte of any."""
    groups: dict[str, str] = {}
    rows = []
    for wish in wishes:
        if wish.collection not in groups:
            groups[wish.collection] = await _group(tx, actor, wish.collection)
        rows.append(_row(wish, actor, groups[wish.collection]))
    expires_at = await store.insert_uploads(tx, rows, expires)
    return [Ticket(row["id"], row["prefix"], transfer, expires_at) for row in rows]


async def receive(tx_row: Row, objects: Store, path: str, chunks: AsyncIterator[bytes]) -> Written:
    """Take the bytes of one file of an open upload through the server."""
    check_file(File(path, 0, "0" * 64), "path")
    return await objects.write(object_key(tx_row["prefix"], path), chunks)


async def open_upload(tx: Transaction, actor: Actor, upload: UUID) -> Row:
    """The upload, if it is the actor's and still open."""
    found = (await store.uploads(tx, [upload])).get(upload)
    if found is None or found["created_by"] != actor.account:
        raise NotFound(f"There is no upload {upload} of yours.", "Ask for a new one.")
    if found["state"] != "open" or found["is_expired"]:
        message = f"Upload {upload} is {found['state']}, or its time is over."
        raise Conflict(message, "Ask for a new one.", field="upload")
    return found


def transfer_for(objects: Store, proof: str | None) -> Transfer:
    """How the bytes travel: by file for who sees the store's disk, signed URLs for object stores, else through us."""
    if objects.is_same_host(proof):
        return "file"
    return "relay" if objects.root else "signed"


async def _group(tx: Transaction, actor: Actor, collection: str) -> str:
    found = await define.row(tx, actor, collection)
    if actor.kind == "worker-start":
        raise NotAllowed("This token only registers a worker.", "Use the worker's own.")
    if actor.kind == "user":
        permit(actor, "change", found["group"])
    group: str = found["group"]
    return group


def _row(wish: Wish, actor: Actor, group: str) -> dict[str, Any]:
    upload, granule = new_id(), check_name(wish.granule, "granule")
    return {
        "id": upload,
        "collection": wish.collection,
        "granule": granule,
        "prefix": f"{key_segment(wish.collection)}/{key_segment(granule)}/{upload}",
        "created_by": actor.account,
        "group": group,
        "job": wish.job,
        "lease": wish.lease,
    }
