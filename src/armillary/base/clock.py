"""What time it is: in Python for ids and files; SQL asks `armillary_now()`, and intervals use the monotonic clock."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present, with its zone."""
    return datetime.now(UTC)


def iso(time: datetime) -> str:
    """RFC 3339 in UTC, as STAC and JSON want it: `2026-03-01T12:00:00.5Z`."""
    text = time.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """Read an RFC 3339 time; one without a zone is refused with `ValueError`."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it with a Z, as in 2026-03-01T12:00:00Z")
    return time.astimezone(UTC)
