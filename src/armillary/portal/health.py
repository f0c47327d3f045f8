"""What the health page shows, out of what `/api/health` says: ages instead of times, and the worst first. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from armillary.base.units import human_duration

Json = dict[str, Any]
TITLES = {"error": "Something stands still", "warning": "Somebody should look", "notice": "All is well"}


def view(said: Mapping[str, Any]) -> Json:
    """The values of the page."""
    now = datetime.fromisoformat(said["at"])
    counts = {
        level: sum(one["severity"] == level for one in said["findings"]) for level in ("error", "warning", "notice")
    }
    worst = next(
        (level for level in ("error", "warning") if counts[level]), "warning" if said["problems"] else "notice"
    )
    return {
        **said,
        "worst": worst,
        "title": TITLES[worst],
        "counts": counts,
        "findings": [one | {"for": ago(one["opened_at"], now)} for one in said["findings"]],
        "pools": [one | {"waited": ago(one["waiting_since"], now)} for one in said["pools"]],
        "servers": [_server(one, now) for one in said["servers"]],
        "sweeps": [
            one | {"ran": ago(one["ran_at"], now), "number": sum(one["open"].values())} for one in said["sweeps"]
        ],
    }


def ago(time: str | None, now: datetime) -> str:
    """How long ago that was; nothing for never."""
    return human_duration((now - datetime.fromisoformat(time)).total_seconds()) if time else ""


def marked(text: str) -> Any:
    """What stands between backticks is code; all is escaped."""
    from markupsafe import Markup, escape  # of the templates, which are loaded with the first page

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  the text is escaped


def _server(one: Mapping[str, Any], now: datetime) -> Json:
    return {
        **one,
        "since": ago(one["started_at"], now),
        "clock": _clock(one["clock_ahead_seconds"]),
        "disks": [disk | {"used_bytes": disk["size_bytes"] - disk["free_bytes"]} for disk in one["disks"]],
        "loops": _loops(one["loops"], now),
        "failing": sum(bool(loop["error"]) for loop in one["loops"]),
    }


def _loops(loops: Sequence[Mapping[str, Any]], now: datetime) -> list[Json]:
    shown = [{**loop, "ended": ago(loop["ended_at"], now)} for loop in loops]
    return sorted(shown, key=lambda loop: (not loop["error"], loop["name"]))


def _clock(seconds: float | None) -> str:
    """By how much a clock is off, where that is worth a word."""
    if seconds is None:
        return ""
    if abs(seconds) < 1:
        return "right"
    return f"{human_duration(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"
