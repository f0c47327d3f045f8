"""Whose word counts on a worker that is a process: that of the server on its own machine. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from armillary.pools.fleet import Look
from armillary.pools.pool import Start
from armillary.pools.provider import Found


def host_of(start: Start) -> str:
    """The machine that a worker of the local provider is a process of; nothing where that is not known, or of another."""
    if start.provider != "local":
        return ""
    if start.reference is None:
        return start.host  # as its runner said, if it has registered
    host, _, rest = start.reference.partition(":")
    return host if rest.count(":") == 1 else ""


def is_judged_on(here: str, start: Start) -> bool:
    """Whether a server of this machine can tell if it lives."""
    return host_of(start) in ("", here)


def with_others(look: Look, starts: Sequence[Start], here: str, served: Collection[str], patience: timedelta) -> Look:
    """What was found here, and what may be said of workers elsewhere.

    Nothing, as long as a server lives there or they are heard of; with neither, they are given up: their token is void
    from then on, so that none of them comes back unseen.
    """
    others = [start for start in starts if not is_judged_on(here, start)]
    lost = [start for start in others if host_of(start) not in served and _is_silent(start, patience)]
    ended = {
        start.id: Found(start.reference or "", "ended", f"It is not heard of, and no server runs on {host_of(start)}.")
        for start in lost
    }
    unknown = look.unknown | {start.id for start in others if start.id not in ended}
    return replace(look, found={**look.found, **ended}, unknown=unknown)


def _is_silent(start: Start, patience: timedelta) -> bool:
    return start.worker_state == "gone" or (start.worker_id is None and start.age > patience)
