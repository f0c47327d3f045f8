"""The log: one JSON line (or, on a terminal, one readable line) per decision, with fields.

Python's own logging carries it: a library for it would be loaded at every start, and take longer than PostgreSQL does.
"""

import json as json_module
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_FIELDS = "armillary_fields"


class Log:
    """A logger whose lines carry the part of the system that speaks, and named fields."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._logger = logging.getLogger(f"armillary.{part}")

    def info(self, event: str, **fields: Any) -> None:
        """What goes as it should."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What somebody may want to look at."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, exc_info: BaseException | None = None, **fields: Any) -> None:
        """What should not have been."""
        self._say(logging.ERROR, event, fields, exc_info)

    def _say(self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None) -> None:
        self._logger.log(level, event, exc_info=error, extra={_FIELDS: {"part": self._part} | fields})


class _Lines(logging.Formatter):
    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, _FIELDS, {"part": record.name})
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level, event = record.levelname.lower(), record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self._json:
            line = {"timestamp": at, "level": level, "event": event} | fields
            return json_module.dumps(line | ({"exception": trace} if trace else {}), ensure_ascii=False, default=str)
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{at} {level:7} {event:24} {said}" + (f"\n{trace}" if trace else "")


def configure(*, json: bool, level: str = "info") -> None:
    """Set up logging of this process; called once, at its start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(json=json))
    logger = logging.getLogger("armillary")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def get(part: str) -> Log:
    """The logger of one part of the system."""
    return Log(part)
