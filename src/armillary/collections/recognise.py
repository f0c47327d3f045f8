"""Recognise what a path is: the one collection whose patterns all match, or the reasons why there is none or several."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath

from armillary.base.errors import UsageError
from armillary.collections.collection import Collection

MOST_REASONS = 5
_SUFFIX = re.compile(r"(\.tar)?\.[A-Za-z][A-Za-z0-9]{0,7}$")


@dataclass(frozen=True)
class Candidate:
    """A path as patterns see it; its members are listed only if a pattern asks for them."""

    name: str
    is_directory: bool = False
    list_members: Callable[[], Iterable[str]] = field(default=tuple, compare=False)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """What a folder or an archive holds, as relative paths with slashes."""
        return tuple(self.list_members())


@dataclass(frozen=True)
class Recognition:
    """Which collection a path belongs to; where it is not exactly one, why."""

    candidate: Candidate
    matches: tuple[str, ...]
    reasons: Mapping[str, str]  # of those that do not match

    @property
    def collection(self) -> str | None:
        """The one that matches."""
        return self.matches[0] if len(self.matches) == 1 else None

    def problem(self) -> UsageError:
        """Why there is not exactly one."""
        name = self.candidate.name
        if len(self.matches) > 1:
            remedy = "Name one with --collection, or make their patterns narrower."
            return UsageError(f"Several collections recognise {name!r}: {', '.join(self.matches)}.", remedy)
        if not self.reasons:
            return UsageError(f"No collection recognises {name!r}: none has patterns.", "Apply one that has.")
        shown = [f"{collection} ({why})" for collection, why in list(self.reasons.items())[:MOST_REASONS]]
        more = len(self.reasons) - len(shown)
        shown += [f"and {more} more"] if more else []
        remedy = "Name a collection with --collection, or widen a pattern."
        return UsageError(f"No collection recognises {name!r}: {', '.join(shown)}.", remedy)


def recognise(collections: Iterable[Collection], candidate: Candidate) -> Recognition:
    """Try every collection that has patterns."""
    patterned = [collection for collection in collections if collection.recognise]
    reasons = {collection.id: mismatch(collection, candidate) for collection in patterned}
    matches = tuple(collection for collection, reason in reasons.items() if reason is None)
    return Recognition(candidate, matches, {name: reason for name, reason in reasons.items() if reason is not None})


def mismatch(collection: Collection, candidate: Candidate) -> str | None:
    """Why a path is not one of this collection; None if all its patterns match.

    `name` is sought in the last part of the path, `directory` in the same but only of a folder, `member` in the
    paths within a folder or an archive, of which one must match.
    """
    patterns = collection.recognise
    if "directory" in patterns and not candidate.is_directory:
        return "it is not a folder"
    for kind in ("name", "directory"):
        if kind in patterns and not re.search(patterns[kind], candidate.name):
            return f"its name does not match {patterns[kind]}"
    # Last, as listing a large archive takes longer than matching a name.
    if "member" in patterns and not any(re.search(patterns["member"], member) for member in candidate.members):
        return f"nothing in it matches {patterns['member']}" if candidate.members else "it holds no files"
    return None


def granule_id(collection: Collection, name: str) -> str:
    """The id that a path gives: the group `id` of the name's pattern if it has one, else the name without its suffix."""
    for kind in ("name", "directory"):
        pattern = collection.recognise.get(kind)
        found = re.search(pattern, name) if pattern else None
        if found and found.groupdict().get("id"):
            return str(found["id"])
    return _SUFFIX.sub("", name) or name


def is_complete(signal: str | None, name: str, beside: Sequence[str], inside: Sequence[str] = ()) -> bool:
    """Whether the file that announces a finished granule is there.

    In `signal` the `*` stands for the granule's name, with or without its suffix; it lies beside the granule, or in its
    folder. Without a `*` it is that very file, in a folder that is a granule or beside a file.
    """
    if signal is None:
        return True
    wanted = {signal.replace("*", name), signal.replace("*", _SUFFIX.sub("", name))}
    return any(other in wanted for other in (*beside, *inside))


def is_signal(collections: Iterable[Collection], name: str) -> bool:
    """Whether a file only announces others, and is not one to be taken itself."""
    signals = [collection.signal for collection in collections if collection.signal]
    return any(PurePath(name).match(signal) for signal in signals)
