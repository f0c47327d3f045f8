"""What a sweep is: a name, how often it looks, and a function that finds what is wrong now."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from armillary.base.db import Database
from armillary.base.settings import Settings
from armillary.base.storage import Store
from armillary.watchdog.finding import Finding


@dataclass(frozen=True)
class View:
    """What sweeps look at. They open transactions of their own, and no network call is made inside one."""

    database: Database
    objects: Store
    settings: Settings


Find = Callable[[View], Awaitable[Sequence[Finding] | None]]
"""All that is wrong now; None if this look tells nothing new, and what is on record stands."""


@dataclass(frozen=True)
class Sweep:
    """One thing that the watchdog looks after."""

    name: str
    about: str
    every: timedelta
    find: Find
