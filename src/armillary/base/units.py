"""Sizes and durations as people write them: 6GiB, 250 MB, 90s, 1h30m, P12D, PT3H."""

import re
from datetime import UTC, datetime, timedelta

from armillary.base.errors import UsageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGTP]?i?)B?\s*", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15,
            "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40, "pi": 2**50}  # fmt: skip
_SHORT = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")
_ISO = re.compile(
    r"P(?:(\d+)W)?(?:(\d+(?:\.\d+)?)D)?(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)


def size(text: str | int, field: str = "size") -> int:
    """Bytes: `6GiB` is 6 × 2^30, `250MB` is 250 × 10^6, a bare number is bytes."""
    match = _SIZE.fullmatch(str(text))
    if not match:
        raise UsageError(f"{field} {text!r} is not a size.", "Write it as 512MiB, 6GiB or 250MB.", field=field)
    return round(float(match[1]) * _FACTORS[match[2].lower()])


def duration(text: str, field: str = "duration") -> timedelta:
    """A length of time: `90s`, `1h30m`, `2d`, or ISO 8601 without months and years, whose length is not fixed."""
    text = text.strip()
    if match := _ISO.fullmatch(text):
        weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        written = any(match.groups())
    elif match := _SHORT.fullmatch(text):
        weeks = 0.0
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        written = any(match.groups())
    else:
        written = False
    if not written:
        remedy = "Write it as 90s, 1h30m, 12d, P12D or PT3H; months and years have no fixed length."
        raise UsageError(f"{field} {text!r} is not a duration.", remedy, field=field)
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def human_size(size_bytes: float) -> str:
    """`1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size_bytes) < 1024 or unit == "TiB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("unreachable")


def human_duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
