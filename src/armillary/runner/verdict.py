"""How an attempt ended, and whose fault that is: decided from the exit, the limits and the algorithm's own words."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from armillary.algorithms.algorithm import EXIT_CODES, ErrorClass
from armillary.base.units import human_size
from armillary.runner.lease import Limits
from armillary.runner.watch import Ended

OutcomeName = Literal["succeeded", "failed", "cancelled", "preempted"]
MAX_WORDS = 2000
MAX_FILE_BYTES = 64 << 10

# What libraries print when they are refused memory or disk; looked for only when nothing better was said.
MEMORY_SIGNS = ("MemoryError", "std::bad_alloc", "Cannot allocate memory", "OutOfMemoryError")
DISK_SIGNS = ("No space left on device", "Disk quota exceeded", "File too large")


@dataclass(frozen=True)
class Verdict:
    """What will be recorded of an attempt."""

    outcome: OutcomeName
    error_class: ErrorClass | None = None
    reason: str = ""
    remedy: str = ""


def verdict(ended: Ended, limits: Limits, said: Mapping[str, str], last_words: str, printed: str) -> Verdict:
    """Judge an end. `said` is the algorithm's error.json, `printed` the last that it printed."""
    if ended.stopped is not None:
        return _stopped(ended, limits)
    if ended.code == 0:
        return Verdict("succeeded")
    if ended.code < 0:
        return _killed(-ended.code, said)
    return _failed(ended.code, said, last_words, printed)


def read_error(folder: Path) -> dict[str, str]:
    """What the algorithm says of its failure in error.json; nothing if that is no plain, small JSON object of texts."""
    said = read_small_json(folder / "error.json")
    if not isinstance(said, dict):
        return {}
    return {name: clean(value) for name in ("class", "message", "remedy") if isinstance(value := said.get(name), str)}


def read_small_json(path: Path) -> Any:
    """A small JSON file that an algorithm wrote; None where there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        try:
            data = stream.read(MAX_FILE_BYTES + 1)
            return json.loads(data) if data and len(data) <= MAX_FILE_BYTES else None
        except (OSError, ValueError, RecursionError):
            return None


def clean(text: str) -> str:
    """A text that can be shown on one page: no control characters, not too long."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)[:MAX_WORDS]


def _stopped(ended: Ended, limits: Limits) -> Verdict:
    usage = ended.usage
    match ended.stopped:
        case "cancel":
            return Verdict("cancelled", ErrorClass.CANCELLED, "It was cancelled while it ran.")
        case "preempt" | "gone":
            return Verdict("preempted", ErrorClass.PREEMPTED, "Its worker had to make room or stop.")
        case "memory":
            used, granted = human_size(usage.peak_memory_bytes), human_size(limits.memory_bytes)
            return Verdict(
                "failed", ErrorClass.OUT_OF_MEMORY, f"It held {used} of memory and was granted {granted}.",
                "Raise resources.memory, or let retry.grow_memory_on_oom do it.",
            )  # fmt: skip
        case "disk":
            used, granted = human_size(usage.disk_bytes), human_size(limits.disk_bytes)
            return Verdict(
                "failed", ErrorClass.OUT_OF_DISK, f"It wrote {used} and was granted {granted}.", "Raise resources.disk."
            )
        case _:
            soft = limits.soft_time_seconds
            granted = (
                f"{soft:g} s after which it was asked to stop" if soft else f"{limits.time_seconds:g} s it was granted"
            )
            return Verdict(
                "failed", ErrorClass.TIMED_OUT, f"It ran longer than the {granted}.",
                "Raise resources.time, or let it go on from its checkpoint: retry: {on: [timed out]}.",
            )  # fmt: skip


def _killed(number: int, said: Mapping[str, str]) -> Verdict:
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    if number == signal.SIGKILL:
        return Verdict(
            "failed", ErrorClass.OUT_OF_MEMORY, "It was killed from outside, as the kernel does when memory runs out.",
            "Raise resources.memory, or give the worker's host less to do.",
        )  # fmt: skip
    if number == signal.SIGXFSZ:
        return Verdict(
            "failed", ErrorClass.OUT_OF_DISK, "It wrote a file larger than its disk.", "Raise resources.disk."
        )
    message = said.get("message") or f"It was ended by the signal {name}."
    return Verdict("failed", ErrorClass.SCIENCE_ERROR, message, said.get("remedy", ""))


def _failed(code: int, said: Mapping[str, str], last_words: str, printed: str) -> Verdict:
    message = said.get("message") or f"It exited with code {code}" + (f": {last_words}" if last_words else ".")
    error_class = EXIT_CODES.get(code) or _class_said(said) or _class_of_signs(printed) or ErrorClass.SCIENCE_ERROR
    outcome: OutcomeName = "preempted" if error_class is ErrorClass.PREEMPTED else "failed"
    return Verdict(outcome, error_class, message, said.get("remedy", ""))


def _class_said(said: Mapping[str, str]) -> ErrorClass | None:
    # Only classes that have an exit code are an algorithm's to claim: it cannot know that it was lost or cancelled.
    return next((one for one in EXIT_CODES.values() if one == said.get("class")), None)


def _class_of_signs(printed: str) -> ErrorClass | None:
    if any(sign in printed for sign in MEMORY_SIGNS):
        return ErrorClass.OUT_OF_MEMORY
    return ErrorClass.OUT_OF_DISK if any(sign in printed for sign in DISK_SIGNS) else None
