"""Granule (a STAC item), its assets and its revisions; and what a commit says of them. Pure types."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from armillary.base.clock import iso
from armillary.base.errors import UsageError

Frame = Literal["earth", "sky", "none"]
Outcome = Literal["created", "same", "revised"]
MAX_PATH_BYTES = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """One file of an asset; its path is relative to the granule's folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Asset:
    """A file, or a tree of files whose manifest is stored beside them."""

    kind: Literal["file", "tree"]
    files: tuple[File, ...]
    media_type: str = "application/octet-stream"
    roles: tuple[str, ...] = ("data",)
    title: str = ""
    description: str = ""
    manifest: File | None = None

    @property
    def size(self) -> int:
        """Bytes, without the manifest."""
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """The identity of the content: the file's, or the manifest's."""
        return self.manifest.sha256 if self.manifest else self.files[0].sha256

    @property
    def stored(self) -> tuple[File, ...]:
        """Everything that must be in the store."""
        return (*self.files, self.manifest) if self.manifest else self.files


@dataclass(frozen=True)
class Draft:
    """What a commit says of a granule, apart from its files."""

    frame: Frame = "none"
    geometry: Mapping[str, Any] | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Commit:
    """Turn an upload into a revision of its granule."""

    upload: UUID
    draft: Draft
    assets: Mapping[str, Asset]

    @property
    def digest(self) -> str:
        return content_digest(self.assets)


@dataclass(frozen=True)
class Reference:
    """One revision of one granule."""

    collection: str
    id: str
    revision: int

    def __str__(self) -> str:
        return f"{self.collection}/{self.id}"


@dataclass(frozen=True)
class Committed:
    """What became of a commit."""

    collection: str
    id: str
    revision: int
    outcome: Outcome

    @property
    def reference(self) -> Reference:
        return Reference(self.collection, self.id, self.revision)


@dataclass(frozen=True)
class Granule:
    """One revision as it is catalogued. Assets are as stored: name → {key, size, sha256, kind, files …}."""

    collection: str
    granule: str
    revision: int
    is_current: bool
    digest: str
    frame: Frame
    geometry: dict[str, Any] | None
    bbox: list[float] | None
    starts_at: datetime | None
    ends_at: datetime | None
    properties: dict[str, Any]
    assets: dict[str, Any]
    size_bytes: int
    group: str
    created_by: str
    created_at: datetime
    prefix: str
    retired_at: datetime | None = None  # since when it is hidden, as its collection keeps newer ones only
    discarded_at: datetime | None = None  # since when its bytes are given up


def retired(granule: Granule) -> str:
    """Why a retired revision cannot be had."""
    assert granule.retired_at
    which = f"Revision {granule.revision} of {granule.collection}/{granule.granule}"
    return f"{which} was retired at {iso(granule.retired_at)}: its collection keeps the newest ones only."


def content_digest(assets: Mapping[str, Asset]) -> str:
    """What makes two contents the same granule: the names, kinds, sizes and SHA-256 of its assets."""
    lines = sorted(f"{name}\t{asset.kind}\t{asset.size}\t{asset.sha256}\n" for name, asset in assets.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_commit(commit: Commit) -> None:
    """Refuse what no reader of the catalogue should meet; the error names the asset."""
    if not commit.assets:
        raise UsageError("A granule has at least one asset.", "Commit the upload with its files.", field="assets")
    paths: set[str] = set()
    for name, asset in commit.assets.items():
        where = f"assets.{name}"
        if (
            not asset.files
            or (asset.kind == "file" and len(asset.files) != 1)
            or (asset.kind == "tree") != bool(asset.manifest)
        ):
            raise UsageError(
                f"Asset {name!r} is neither one file nor a tree with its manifest.",
                "Upload it again.",
                field=where,
            )
        for file in asset.stored:
            check_file(file, where)
            if file.path in paths:
                raise UsageError(f"Two assets hold the file {file.path!r}.", "Give each file once.", field=where)
            paths.add(file.path)


def check_file(file: File, where: str) -> None:
    """Refuse a path that is not a plain relative one in NFC, and a checksum that is none."""
    segments = file.path.split("/")
    bad = (
        any(segment in ("", ".", "..") for segment in segments)
        or any(unicodedata.category(letter) == "Cc" for letter in file.path)
        or "\\" in file.path
        or not unicodedata.is_normalized("NFC", file.path)
        or len(file.path.encode()) > MAX_PATH_BYTES
    )
    if bad:
        remedy = "Use a relative path in NFC, without '..', backslashes or control characters."
        raise UsageError(f"Path {file.path!r} is refused.", remedy, field=where)
    if file.size < 0 or not _SHA256.fullmatch(file.sha256):
        raise UsageError(f"File {file.path!r} has no size or SHA-256.", "Give 64 hexadecimal digits.", field=where)
