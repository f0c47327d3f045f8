"""Follow what an algorithm writes to progress.jsonl."""

import json
import os
from pathlib import Path
from typing import Any

from armillary.runner.verdict import clean

READ_BYTES = 64 << 10


class Progress:
    """The last whole line that says something."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = 0

    def read(self) -> dict[str, Any] | None:
        """What is new since the last look; nothing if that is nothing."""
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            size = os.fstat(descriptor).st_size
            if size <= self._seen:
                return None
            stream.seek(max(self._seen, size - READ_BYTES))
            data = stream.read(READ_BYTES)
        whole, _, _ = data.rpartition(b"\n")
        if not whole:
            return None
        self._seen = size - len(data) + len(whole) + 1
        lines = reversed(whole.split(b"\n"))
        return next((said for line in lines if (said := _said(line)) is not None), None)


def _said(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    said: dict[str, Any] = {
        name: clean(value[name])[:500] for name in ("stage", "message") if isinstance(value.get(name), str)
    }
    fraction = value.get("fraction")
    if isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1:
        said["fraction"] = float(fraction)
    return said or None
