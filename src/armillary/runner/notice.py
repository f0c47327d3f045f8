"""Notices that this machine will be taken away, as clouds give them for spot instances: from a file or over HTTP.

Formats: AWS EC2 "Spot Instance interruption notices" (instance-action, IMDSv2), Google Compute Engine "Spot VMs"
(instance/preempted), Azure "Scheduled Events" (EventType Preempt). Anything else can write a file.
"""

import json
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from armillary.base.errors import UsageError

Source = Callable[[], str]
FILE_SECONDS, HTTP_SECONDS = 1.0, 5.0
PATIENCE_SECONDS = 2.0
GCP_SECONDS = 30.0  # Compute Engine says that it happens, not when: half a minute is what it documents
METADATA = "http://169.254.169.254"
TOKEN = (f"{METADATA}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})
CLOUDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "aws": (f"{METADATA}/latest/meta-data/spot/instance-action", {}),
    "gcp": ("http://metadata.google.internal/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}),
    "azure": (f"{METADATA}/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"}),
}


def source(name: str) -> tuple[Source, float]:
    """Where notices come from, and how often to look: `aws`, `gcp`, `azure`, an http address, or a file."""
    if name in CLOUDS:
        address, headers = CLOUDS[name]
        return (lambda: _get(address, {**headers, **(_token() if name == "aws" else {})})), HTTP_SECONDS
    if name.startswith(("http://", "https://")):
        return (lambda: _get(name, {})), HTTP_SECONDS
    if "://" in name or not name:
        raise UsageError(
            f"--notice {name!r} is not understood.", "Write aws, gcp, azure, a URL or a file.", field="--notice"
        )
    return (lambda: _read(Path(name))), FILE_SECONDS


def seconds_left(text: str, now: datetime) -> float | None:
    """How long this machine still has, as a notice says; None if it is none."""
    text = text.strip()
    if text.upper() in ("", "FALSE", "NONE", "NULL"):
        return None
    if text.upper() == "TRUE":
        return GCP_SECONDS
    with suppress(ValueError):
        return max(0.0, float(text))
    at = _time(_said(text))
    return None if at is None else max(0.0, (at - now).total_seconds())


def watch(look: Source, every_seconds: float, tell: Callable[[float], None], until: threading.Event) -> None:
    """Look again and again; tell once."""
    while not until.wait(every_seconds):
        with suppress(OSError, ValueError):
            left = seconds_left(look(), datetime.now(UTC))
            if left is not None:
                tell(left)
                return


def _said(text: str) -> str:
    """The time within a document: AWS's `time`, or that of Azure's first event that takes the machine."""
    try:
        document: Any = json.loads(text)
    except ValueError:
        return text
    if not isinstance(document, dict):
        return ""
    if "Events" in document:
        events = (event for event in document["Events"] if event.get("EventType") in ("Preempt", "Terminate"))
        return next((str(event.get("NotBefore") or datetime.now(UTC).isoformat()) for event in events), "")
    is_end = document.get("action", "terminate") in ("terminate", "stop", "hibernate")
    return str(document.get("time", "")) if is_end else ""


def _time(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError, TypeError):
            at = read(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None


def _read(path: Path) -> str:
    """A file that is there is a notice; an empty one means now."""
    return (path.read_text() or "0") if path.exists() else ""


def _token() -> dict[str, str]:
    address, headers = TOKEN
    return {"X-aws-ec2-metadata-token": _get(address, headers, method="PUT")}


def _get(address: str, headers: Mapping[str, str], method: str = "GET") -> str:
    """What the address says; nothing where it knows nothing. Never through a proxy: it is this machine's own."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(address, headers=dict(headers), method=method)  # noqa: S310 - `source` checked it
    try:
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            text: str = answer.read(65536).decode(errors="replace")
    except (HTTPError, URLError):
        return ""
    return text
