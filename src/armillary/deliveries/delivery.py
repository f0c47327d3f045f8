"""Delivery and its destination: where products go, how, and who is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from armillary.base.errors import UsageError
from armillary.base.ids import check_name

FIELDS = {"kind", "id", "title", "to", "notify", "layout", "pool", "priority", "group"}
LAYOUT = "{collection}/{id}"
Credential = Mapping[str, str]


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    INTENDED = "intended"
    SENT = "sent"  # every byte was read back at the far side; the archive has not answered
    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True)
class Destination:
    """Where products go. Credentials are names of variables or files, never the secrets."""

    id: str
    kind: Literal["directory", "s3", "http"]
    to: Mapping[str, Any]
    notify: Mapping[str, Any] | None = None
    layout: str = LAYOUT
    pool: str = "default"
    priority: int = 0
    title: str = ""

    @property
    def expects_receipt(self) -> bool:
        return self.notify is not None


@dataclass(frozen=True)
class Delivery:
    """As it is stored."""

    id: UUID
    version: int
    destination: str
    collection: str
    granule: str
    revision: int
    state: str
    reason: str
    job_id: UUID | None
    sent: dict[str, Any]
    receipt: dict[str, Any] | None
    group: str
    created_by: str
    created_at: datetime
    sent_at: datetime | None
    acknowledged_at: datetime | None


def read(document: Mapping[str, Any]) -> Destination:
    """Check a document of kind `delivery`."""
    unknown = sorted(set(document) - FIELDS)
    if unknown:
        raise UsageError(
            f"Delivery field {unknown[0]!r} is unknown.", f"Known: {', '.join(sorted(FIELDS))}.", field=unknown[0]
        )
    to = document.get("to")
    kinds = [kind for kind in ("directory", "s3", "http") if isinstance(to, Mapping) and kind in to]
    if len(kinds) != 1 or not isinstance(to, Mapping):
        remedy = "Write to: {directory: PATH}, to: {s3: {bucket: …}} or to: {http: {url: …}}."
        raise UsageError("A delivery goes to exactly one place.", remedy, field="to")
    kind = kinds[0]
    details = {"path": to[kind]} if kind == "directory" else dict(to[kind])
    checks = {"directory": _check_directory, "s3": _check_s3, "http": _check_http}
    checks[kind](details)
    return Destination(
        id=check_name(str(document.get("id", ""))),
        kind=kind,  # type: ignore[arg-type]
        to=details,
        notify=_notify(document.get("notify")),
        layout=_layout(document.get("layout", LAYOUT)),
        pool=str(document.get("pool", "default")),
        priority=int(document.get("priority", 0)),
        title=str(document.get("title", "")),
    )


def _check_directory(details: Mapping[str, Any]) -> None:
    if not isinstance(details["path"], str) or not PurePath(details["path"]).is_absolute():
        raise UsageError(
            f"to.directory {details['path']!r} is not absolute.", "Begin it with a slash.", field="to.directory"
        )


def _check_s3(details: Mapping[str, Any]) -> None:
    unknown = sorted(set(details) - {"bucket", "prefix", "endpoint", "region", "access_key", "secret_key"})
    if unknown or not details.get("bucket"):
        remedy = "Give bucket, and where needed prefix, endpoint, region, access_key, secret_key."
        raise UsageError("to.s3 is not understood.", remedy, field=f"to.s3.{unknown[0] if unknown else 'bucket'}")
    for name in ("access_key", "secret_key"):
        check_credential(details.get(name), f"to.s3.{name}")


def _check_http(details: Mapping[str, Any]) -> None:
    unknown = sorted(set(details) - {"url", "token"})
    if unknown:
        raise UsageError(f"to.http.{unknown[0]} is unknown.", "Known: url, token.", field=f"to.http.{unknown[0]}")
    _check_url(details.get("url"), "to.http.url")
    check_credential(details.get("token"), "to.http.token")


def _notify(notify: Any) -> Mapping[str, Any] | None:
    if notify is None:
        return None
    cnm = notify.get("cnm") if isinstance(notify, Mapping) and set(notify) == {"cnm"} else None
    if not isinstance(cnm, Mapping) or set(cnm) - {
        "url",
        "provider",
        "collection",
        "trace",
        "data_version",
        "token",
        "types",
    }:
        remedy = "Write notify: {cnm: {url: …, provider: …}}; also collection, trace, data_version, token, types."
        raise UsageError("notify is not understood.", remedy, field="notify")
    _check_url(cnm.get("url"), "notify.cnm.url")
    if not isinstance(cnm.get("provider"), str) or not cnm["provider"]:
        raise UsageError(
            "notify.cnm.provider is missing.", "Name the provider that the archive knows.", field="notify.cnm.provider"
        )
    check_credential(cnm.get("token"), "notify.cnm.token")
    return dict(cnm)


def check_credential(value: Any, field: str) -> None:
    """A credential is named, not written: {env: NAME} or {file: PATH}."""
    if value is None:
        return
    if not isinstance(value, Mapping) or len(value) != 1 or set(value) - {"env", "file"}:
        raise UsageError(f"{field} is not a reference to a secret.", "Write {env: NAME} or {file: PATH}.", field=field)


def _check_url(url: Any, field: str) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UsageError(f"{field} is no http(s) URL.", "Give one without user and password; use token.", field=field)


def _layout(layout: Any) -> str:
    try:
        layout.format(collection="c", id="i", revision=1)
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        remedy = "Use {collection}, {id} and {revision}."
        raise UsageError(f"layout {layout!r} is not understood.", remedy, field="layout") from error
    return str(layout)
