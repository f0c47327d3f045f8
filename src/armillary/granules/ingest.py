"""Commit an upload: check it, record it, announce it; the same content again is the same granule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

from armillary.accounts.actor import Actor
from armillary.base import clock
from armillary.base.crash import crash_point
from armillary.base.db import Database, Row, Transaction
from armillary.base.errors import ArmillaryError, Conflict, NotFound, UsageError
from armillary.base.storage import Store, object_key
from armillary.base.wakes import WORK
from armillary.collections import define
from armillary.collections.collection import Collection
from armillary.granules import footprint, store
from armillary.granules.granule import Asset, Commit, Committed, check_commit


@dataclass(frozen=True)
class Prepared:
    """A commit whose bytes were found in the store and whose footprint was computed, before any transaction."""

    commit: Commit
    geometry: Mapping[str, Any] | None
    bbox: list[float] | None
    cells: list[int]
    starts_at: datetime | None
    ends_at: datetime | None
    assets: dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """A commit to be made; for an upload of a worker with the lease that it was opened for."""

    prepared: Prepared
    job: UUID | None = None
    lease: int | None = None


async def prepare(database: Database, objects: Store, commits: Sequence[Commit]) -> list[Prepared | ArmillaryError]:
    """Check each commit against its upload and the store; nothing is changed."""
    async with database.transaction() as tx:
        uploads = await store.uploads(tx, [commit.upload for commit in commits])
    wanted = {
        object_key(uploads[commit.upload]["prefix"], file.path): file.size
        for commit in commits
        if commit.upload in uploads
        for asset in commit.assets.values()
        for file in asset.stored
    }
    sizes = await objects.sizes(wanted)
    crash_point("ingest.verified")
    return [_prepare(commit, uploads.get(commit.upload), sizes) for commit in commits]


def _prepare(commit: Commit, upload: Row | None, sizes: Mapping[str, int | None]) -> Prepared | ArmillaryError:
    try:
        if upload is None:
            raise NotFound(f"There is no upload {commit.upload}.", "Ask for a new one.")
        check_commit(commit)
        for asset in commit.assets.values():
            for file in asset.stored:
                found = sizes[object_key(upload["prefix"], file.path)]
                if found != file.size:
                    state = "is missing" if found is None else f"has {found} bytes instead of {file.size}"
                    raise UsageError(f"File {file.path!r} {state} in the store.", "Upload it again.", field="assets")
        starts_at, ends_at = times(commit.draft.properties)
        geometry = footprint.check(commit.draft.geometry, commit.draft.frame) if commit.draft.geometry else None
        return Prepared(
            commit,
            geometry,
            footprint.bbox(geometry) if geometry else None,
            footprint.cells(geometry, commit.draft.frame) if geometry else [],
            starts_at,
            ends_at,
            {name: _stored(asset, upload["prefix"]) for name, asset in commit.assets.items()},
        )
    except ArmillaryError as error:
        return error


async def commit(tx: Transaction, actor: Actor, wanted: Sequence[Wanted]) -> list[Committed]:
    """Turn uploads into revisions of their granules, all or none, in the caller's transaction and in one helping of SQL.

    Raises what is wrong with the first that cannot be; `Transaction.together` finds out which that was. A worker's upload
    is committed only by the finish of the lease that it was opened for.
    """
    locked = await _lock(tx, [one.prepared.commit.upload for one in wanted])
    collections = {name: await define.get(tx, actor, name) for name in {row["collection"] for row in locked.values()}}
    results, new, unchanged = [], [], []
    for one in wanted:
        upload = locked[one.prepared.commit.upload]
        collection = collections[upload["collection"]]
        outcome = _outcome(one, actor, upload, collection)
        if outcome.outcome == "same":
            unchanged.append(one.prepared.commit.upload)
        elif upload["own_revision"] is None:
            new.append(_revision(actor, one.prepared, upload, outcome))
        results.append(outcome)
    if unchanged:
        await store.abandon_unchanged(tx, unchanged)
    if new:
        await store.insert_revisions(tx, new)
        tx.wake(WORK)
    return results


async def commit_all(
    database: Database, actor: Actor, prepared: Sequence[Prepared | ArmillaryError]
) -> list[Committed | ArmillaryError]:
    """Commit many within one transaction: a refusal of one leaves the others."""
    sound = [Wanted(one) for one in prepared if isinstance(one, Prepared)]

    async def work(tx: Transaction) -> list[Committed | ArmillaryError]:
        results = await tx.together(lambda part: commit(tx, actor, part), sound)
        crash_point("ingest.before-commit")
        return results

    # Two batches that meet in granules lock them in one order, or one loses a deadlock and tries again.
    results = iter(await database.retry(work))
    crash_point("ingest.after-commit")
    return [one if isinstance(one, ArmillaryError) else next(results) for one in prepared]


def times(properties: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """From when to when: STAC's `datetime`, or `start_datetime` and `end_datetime`."""
    try:
        start, end = (properties.get(name) or properties.get("datetime") for name in ("start_datetime", "end_datetime"))
        starts_at, ends_at = (clock.parse(text).astimezone(UTC) if text else None for text in (start, end))
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"A time of the granule is not understood: {error}.",
            "Write RFC 3339 with a zone.",
            field="properties.datetime",
        ) from error
    if (starts_at is None) != (ends_at is None):
        raise UsageError(
            "The granule has a start or an end, not both.", "Give both, or `datetime`.", field="properties"
        )
    if starts_at and ends_at and starts_at > ends_at:
        raise UsageError(
            "The granule ends before it starts.",
            "Exchange start_datetime and end_datetime.",
            field="properties",
        )
    return starts_at, ends_at


async def _lock(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """The uploads and their granules, locked; a granule's row is made where there is none yet."""
    found = await store.uploads(tx, ids)
    for upload in ids:
        if upload not in found:
            raise NotFound(f"There is no upload {upload}.", "Ask for a new one.")
    granules = {(row["collection"], row["granule"]) for row in found.values()}
    if len(granules) < len(ids):
        raise Conflict("Two uploads of one granule are committed together.", "Commit one after the other.")
    try:
        async with tx.savepoint():
            await store.reserve(tx, sorted(granules))
    except psycopg.errors.UniqueViolation as error:
        which = next(iter(found.values()))["granule"]
        raise Conflict(
            f"A granule whose id differs from {which!r} only by case is catalogued.", "Choose another id."
        ) from error
    return await store.lock(tx, ids)


def _outcome(wanted: Wanted, actor: Actor, upload: Row, collection: Collection) -> Committed:
    """What the commit of a locked upload comes to; raises if it may not be."""
    granule, revision = upload["granule"], upload["revision"]
    if upload["own_revision"] is not None:  # this very commit came before and its answer was lost
        return Committed(collection.id, granule, upload["own_revision"], "created")
    _check_open(upload, actor, wanted)
    if upload["digest"] == wanted.prepared.commit.digest:
        return Committed(collection.id, granule, revision, "same")
    if revision and collection.on_change == "refuse":
        raise Conflict(
            f"Granule {granule!r} of {collection.id} is catalogued with other content.",
            "Give it another id, or let the collection take revisions (on_change: revise).",
        )
    return Committed(collection.id, granule, revision + 1, "revised" if revision else "created")


def _check_open(upload: Row, actor: Actor, wanted: Wanted) -> None:
    upload_id = wanted.prepared.commit.upload
    if upload["state"] != "open" or upload["is_expired"]:
        raise Conflict(
            f"Upload {upload_id} is {upload['state']}, or its time is over.",
            "Upload again under a new ticket.",
            field="upload",
        )
    if (upload["job_id"], upload["lease"]) != (wanted.job, wanted.lease):
        raise Conflict(
            f"Upload {upload_id} was not opened for this attempt.", "Commit it with the attempt that made it."
        )
    if wanted.job is None and upload["created_by"] != actor.account:
        raise NotFound(f"There is no upload {upload_id} of yours.", "Ask for a new one.")


def _revision(actor: Actor, prepared: Prepared, upload: Row, made: Committed) -> dict[str, Any]:
    """The row of a granule's new revision."""
    commit = prepared.commit
    return {
        "upload": str(commit.upload),
        "collection": made.collection,
        "granule": made.id,
        "revision": made.revision,
        "version": upload["version"] + 1,
        "digest": commit.digest,
        "frame": commit.draft.frame,
        "geometry": prepared.geometry,
        "bbox": prepared.bbox,
        "cells": prepared.cells,
        "starts_at": prepared.starts_at and prepared.starts_at.isoformat(),
        "ends_at": prepared.ends_at and prepared.ends_at.isoformat(),
        "properties": dict(commit.draft.properties),
        "assets": prepared.assets,
        "size_bytes": sum(asset.size for asset in commit.assets.values()),
        "group": upload["group"],
        "created_by": actor.account,
    }


def _stored(asset: Asset, prefix: str) -> dict[str, Any]:
    stored: dict[str, Any] = {
        "kind": asset.kind,
        "type": asset.media_type,
        "roles": list(asset.roles),
        "size": asset.size,
        "sha256": asset.sha256,
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in asset.files],
    }
    entry = asset.manifest or asset.files[0]
    stored["key"] = object_key(prefix, entry.path)
    if asset.manifest:
        stored["manifest"] = {"path": entry.path, "size": entry.size, "sha256": entry.sha256}
    return stored | {name: text for name, text in (("title", asset.title), ("description", asset.description)) if text}
