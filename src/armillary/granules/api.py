"""Granules over HTTP: the way in (ticket, bytes, commit), the way out (files with ranges and signed links)."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import Field

from armillary.accounts.api import SignedIn, signed_in
from armillary.accounts.permit import permit
from armillary.base.errors import ArmillaryError, NotFound, UsageError
from armillary.base.http import Web, Wire
from armillary.base.links import file_path
from armillary.base.storage import NONCE_NAME, object_key
from armillary.granules import find, ingest, stac, store, upload
from armillary.granules.granule import Asset, Commit, Committed, Draft, File, Frame, Granule, retired

router = APIRouter(prefix="/api", tags=["granules"])

MAX_BATCH = 1000


class WishWire(Wire):
    """One granule to upload."""

    collection: str
    granule: str
    size_bytes: int = Field(0, ge=0)
    job: UUID | None = None
    lease: int | None = None
    output: str | None = None


class UploadsWire(Wire):
    """Tickets wanted; `proof` is the nonce read in the store's root."""

    uploads: list[WishWire] = Field(max_length=MAX_BATCH)
    proof: str | None = None


class FileWire(Wire):
    """A file as it was sent."""

    path: str
    size: int = Field(ge=0)
    sha256: str


class AssetWire(Wire):
    """A file, or a tree with its manifest."""

    kind: str = Field("file", pattern="^(file|tree)$")
    media_type: str = "application/octet-stream"
    roles: tuple[str, ...] = ("data",)
    title: str = ""
    description: str = ""
    files: list[FileWire]
    manifest: FileWire | None = None


class ItemWire(Wire):
    """A partial STAC item."""

    geometry: dict[str, Any] | None = None
    bbox: list[float] | None = None
    frame: Frame = "none"
    properties: dict[str, Any] = Field(default_factory=dict)


class CommitWire(Wire):
    """What an upload became."""

    upload: UUID
    item: ItemWire = ItemWire()
    assets: dict[str, AssetWire]

    def commit(self) -> Commit:
        """The same as plain types."""
        return Commit(
            self.upload,
            Draft(self.item.frame, self.item.geometry, self.item.properties),
            {name: _asset(asset) for name, asset in self.assets.items()},
        )


class CommitsWire(Wire):
    """Commits; each succeeds or fails by itself."""

    commits: list[CommitWire] = Field(max_length=MAX_BATCH)


class IdsWire(Wire):
    """Uploads to give up."""

    uploads: list[UUID]


class PathsWire(Wire):
    """Files to sign URLs for."""

    paths: list[str] = Field(max_length=MAX_BATCH)


class KnownWire(Wire):
    """Granules to look for."""

    collection: str
    granules: list[str] = Field(max_length=10_000)


@router.get("/store")
async def about_store(web: Web, _actor: SignedIn) -> dict[str, Any]:
    """How bytes can come in; where the file transfer's nonce is."""
    root = web.store.root
    file = {"root": str(root), "nonce_file": NONCE_NAME} if root else None
    return {"transfers": ["file", "relay"] if root else ["signed", "relay"], "file": file}


@router.post("/uploads")
async def open_uploads(web: Web, actor: SignedIn, body: UploadsWire) -> dict[str, Any]:
    """Tickets, one per granule."""
    transfer = upload.transfer_for(web.store, body.proof)
    wishes = [upload.Wish(wish.collection, wish.granule, wish.job, wish.lease) for wish in body.uploads]
    async with web.database.transaction() as tx:
        tickets = await upload.open_uploads(tx, actor, wishes, transfer, web.settings.store.upload_expires)
    root = {"root": str(web.store.root)} if transfer == "file" else {}
    return {
        "uploads": [
            {
                "id": ticket.id,
                "prefix": ticket.prefix,
                "transfer": transfer,
                "expires_at": ticket.expires_at,
                **root,
            }
            for ticket in tickets
        ]
    }


@router.put("/uploads/{upload_id}/files/{path:path}")
async def receive(web: Web, actor: SignedIn, upload_id: UUID, path: str, request: Request) -> dict[str, Any]:
    """The bytes of one file, as the raw body."""
    async with web.database.transaction() as tx:
        row = await upload.open_upload(tx, actor, upload_id)
    written = await upload.receive(row, web.store, path, request.stream())
    return {"size": written.size_bytes, "sha256": written.sha256}


@router.post("/uploads/{upload_id}/sign")
async def sign(web: Web, actor: SignedIn, upload_id: UUID, body: PathsWire) -> dict[str, Any]:
    """URLs of the object store itself; none outlives the upload."""
    async with web.database.transaction() as tx:
        row = await upload.open_upload(tx, actor, upload_id)
    expires = web.settings.store.upload_expires / 2
    return {"urls": {path: web.store.sign("PUT", object_key(row["prefix"], path), expires) for path in body.paths}}


@router.post("/uploads/commit")
async def commit(web: Web, actor: SignedIn, body: CommitsWire) -> dict[str, Any]:
    """Make what was uploaded visible; each result stands beside its commit."""
    prepared = await ingest.prepare(web.database, web.store, [wire.commit() for wire in body.commits])
    results = await ingest.commit_all(web.database, actor, prepared)
    return {"results": [_result(result) for result in results]}


@router.post("/uploads/abandon", status_code=204)
async def abandon(web: Web, actor: SignedIn, body: IdsWire) -> None:
    """Give up uploads; the collector deletes their bytes."""
    async with web.database.transaction() as tx:
        await store.abandon(tx, body.uploads, actor.account)


@router.post("/granules/known")
async def known(web: Web, actor: SignedIn, body: KnownWire) -> dict[str, Any]:
    """Which of these are catalogued already, and with what content."""
    async with web.database.transaction() as tx:
        rows = await store.known(tx, body.collection, body.granules, actor.scope)
    return {
        "known": {
            row["granule"]: {
                "revision": row["revision"],
                "digest": row["digest"],
                "size_bytes": row["size_bytes"],
            }
            for row in rows
        }
    }


@router.get("/granules/{collection}/{granule}")
async def granule(
    web: Web, actor: SignedIn, collection: str, granule: str, revision: int | None = None
) -> dict[str, Any]:
    """One granule with its files and signed links to them."""
    async with web.database.transaction() as tx:
        found = await find.get(tx, actor, collection, granule, revision)
    return _shown(web, found)


@router.get("/granules/{collection}/{granule}/revisions")
async def revisions(web: Web, actor: SignedIn, collection: str, granule: str) -> dict[str, Any]:
    """All revisions, newest first."""
    async with web.database.transaction() as tx:
        found = await store.revisions(tx, collection, granule, actor.scope)
    return {"revisions": [_shown(web, one) for one in found]}


@router.api_route("/files/{key:path}", methods=["GET", "HEAD"])
async def read(
    web: Web, request: Request, key: str, expires: str | None = None, signature: str | None = None
) -> Response:
    """Stored bytes, for a token or a signed link; ranges are honoured."""
    if any(segment in ("", ".", "..") or segment.startswith(".") for segment in key.split("/")):
        raise UsageError("This key is not a plain one.", "Take the link as it was given.", field="key")
    if not web.links.check(file_path(key), expires, signature):
        await _permit_key(web, request, key)
    size = await web.store.size(key)
    if size is None:
        raise await _gone(web, key)
    if web.store.root:
        return FileResponse(web.store.path(key), headers={"Cache-Control": "private, immutable, max-age=86400"})
    return await _remote(web, request, key, size)


async def _permit_key(web: Web, request: Request, key: str) -> None:
    actor = await signed_in(request, web)
    missing = NotFound(f"There is nothing under {key}.", "Take the link from the granule's page.")
    try:
        upload_id = UUID(key.split("/")[2])
    except (IndexError, ValueError) as error:
        raise missing from error
    async with web.database.transaction() as tx:
        group = await store.upload_group(tx, upload_id)
    if group is None:
        raise missing
    permit(actor, "see", group)


async def _gone(web: Web, key: str) -> NotFound:
    """Why there are no bytes under a key that once was given out."""
    async with web.database.transaction() as tx:
        granule = await store.of_prefix(tx, "/".join(key.split("/")[:3]))
    if granule and granule.retired_at:
        return NotFound(retired(granule), "Take a newer revision.")
    return NotFound(f"The store holds nothing under {key}.", "Run `armillary doctor`.")


async def _remote(web: Web, request: Request, key: str, size: int) -> Response:
    start, end = parse_range(request.headers.get("range"), size)
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    if request.headers.get("range"):
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    body: AsyncIterator[bytes] = web.store.read(key, start, end)
    return StreamingResponse(body, 206 if request.headers.get("range") else 200, headers)


def parse_range(header: str | None, size: int) -> tuple[int, int]:
    """The one range asked for, as start and end (excluded); RFC 9110 section 14."""
    if not header:
        return 0, size
    unit, _, ranges = header.partition("=")
    first, _, last = ranges.strip().partition("-")
    if unit.strip() != "bytes" or "," in ranges or not (first.isdecimal() or last.isdecimal()):
        raise UsageError("Only one range of bytes can be asked for.", "Write Range: bytes=0-1023.", field="Range")
    if not first:
        return max(size - int(last), 0), size
    if int(first) >= size:
        raise UsageError(f"The range begins after the end ({size} bytes).", "Ask for less.", field="Range")
    return int(first), min(int(last) + 1, size) if last else size


def _asset(wire: AssetWire) -> Asset:
    manifest = File(wire.manifest.path, wire.manifest.size, wire.manifest.sha256) if wire.manifest else None
    return Asset(
        "tree" if wire.kind == "tree" else "file",
        tuple(File(file.path, file.size, file.sha256) for file in wire.files),
        wire.media_type,
        wire.roles,
        wire.title,
        wire.description,
        manifest,
    )


def _result(result: Committed | ArmillaryError) -> dict[str, Any]:
    if isinstance(result, ArmillaryError):
        return {"problem": result.problem()}
    return {
        "collection": result.collection, "granule": result.id, "revision": result.revision, "outcome": result.outcome,
    }  # fmt: skip


def _shown(web: Web, granule: Granule) -> dict[str, Any]:
    return {
        "collection": granule.collection,
        "id": granule.granule,
        "revision": granule.revision,
        "is_current": granule.is_current,
        "digest": granule.digest,
        "size_bytes": granule.size_bytes,
        "group": granule.group,
        "created_by": granule.created_by,
        "created": granule.created_at,
        "retired_at": granule.retired_at,
        "item": stac.item(granule, web.url()),
        "files": [] if granule.retired_at else files(web, granule),
    }


def files(web: Web, granule: Granule) -> list[dict[str, Any]]:
    """Every file with a link that works without a token for a while."""
    return [
        file
        | {
            "asset": name,
            "href": web.links.sign(
                file_path(object_key(granule.prefix, file["path"])), web.settings.store.link_expires
            ),
        }
        for name, asset in granule.assets.items()
        for file in asset["files"]
    ]
