"""Ids: random ones that sort by the time they were made, and the names that people choose."""

import os
import threading
import time
import unicodedata
import uuid
from urllib.parse import quote

from armillary.base.errors import UsageError

MAX_NAME_BYTES = 200

_lock = threading.Lock()
_last_tick = 0


def new_id() -> uuid.UUID:
    """A version 7 UUID (RFC 9562): 48 bits of milliseconds, 12 of their fraction, 62 random; strictly increasing here."""
    global _last_tick
    with _lock:
        # 4096 ticks a millisecond; never the same tick twice, so ids of one process sort as they were made.
        _last_tick = max(time.time_ns() * 4096 // 1_000_000, _last_tick + 1)
        tick = _last_tick
    random_bits = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | random_bits
    return uuid.UUID(int=value)


def check_name(name: str, field: str = "id") -> str:
    """A name that people chose, in NFC; refused if it could not be a key, a folder and a URL segment."""
    name = unicodedata.normalize("NFC", name)
    remedy = "Choose another name."
    if not name:
        raise UsageError(f"{field} is empty.", remedy, field=field)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise UsageError(f"{field} is longer than {MAX_NAME_BYTES} bytes of UTF-8.", remedy, field=field)
    if name.startswith(".") or "/" in name:
        raise UsageError(f"{field} {name!r} begins with a dot or holds a slash.", remedy, field=field)
    if any(unicodedata.category(letter)[0] == "C" for letter in name):
        raise UsageError(f"{field} {name!r} holds a control character.", remedy, field=field)
    return name


def key_segment(name: str) -> str:
    """A name as one segment of an object's key: everything but unreserved characters percent-encoded."""
    return quote(name, safe="")
